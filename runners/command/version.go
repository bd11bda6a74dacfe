package command

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core"
	"github.com/spf13/cobra"
)

// versionInfo is what this binary was built of.
type versionInfo struct {
	Version  string `json:"version"`            // of the module; "(devel)" where it was built from a work tree
	Revision string `json:"revision,omitempty"` // of the version control system, if the build knew
	Time     string `json:"time,omitempty"`     // of the revision
	Modified bool   `json:"modified,omitempty"` // the work tree had changes on top of the revision
	Beam     string `json:"beam"`               // version of the Apache Beam SDK
	Go       string `json:"go"`                 // version of the Go toolchain
	Platform string `json:"platform"`
}

func newVersionCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "What this binary was built of",
		Long: `Version prints the version of Backbone, the revision of its source where the build knew it, and the versions of
Apache Beam and Go that it was built with.`,
		Example: `  backbone version
  backbone version --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			build, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("this binary carries no build information: build it with Go modules")
			}
			info := readVersion(build)
			if asJSON {
				encoder := json.NewEncoder(env.stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(info)
			}
			_, err := fmt.Fprintln(env.stdout, info)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as a JSON object")
	return cmd
}

func readVersion(build *debug.BuildInfo) versionInfo {
	info := versionInfo{
		Version:  build.Main.Version,
		Beam:     core.SdkVersion,
		Go:       build.GoVersion,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if info.Version == "" {
		info.Version = "(devel)"
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			info.Revision = setting.Value
		case "vcs.time":
			info.Time = setting.Value
		case "vcs.modified":
			info.Modified = setting.Value == "true"
		}
	}
	return info
}

// String is the form for people: one line.
func (v versionInfo) String() string {
	revision := ""
	if v.Revision != "" {
		revision = " revision " + v.Revision
		if v.Modified {
			revision += " (modified)"
		}
	}
	return fmt.Sprintf("backbone %s%s, Apache Beam %s, %s %s", v.Version, revision, v.Beam, v.Go, v.Platform)
}
