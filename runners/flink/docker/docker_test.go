// Package docker tests the files of this folder, as far as that goes without Docker.
package docker

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// instruction is a line of a Dockerfile.
type instruction struct{ name, text string }

// stages are the instructions of the Dockerfile, by stage.
func stages(t *testing.T) (all [][]instruction) {
	t.Helper()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		if name == "FROM" {
			all = append(all, nil)
		}
		if len(all) == 0 {
			t.Fatalf("%q comes before the first FROM", line)
		}
		all[len(all)-1] = append(all[len(all)-1], instruction{name, strings.TrimSpace(rest)})
	}
	if len(all) != 2 {
		t.Fatalf("%d stages, want one that builds and one that runs", len(all))
	}
	return all
}

// find returns the text of the only instruction of a name in a stage.
func find(t *testing.T, stage []instruction, name string) string {
	t.Helper()
	var found []string
	for _, i := range stage {
		if i.name == name {
			found = append(found, i.text)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s is there %d times: %q", name, len(found), found)
	}
	return found[0]
}

// The image builds with a Go that is new enough, and starts the command as a user who is not root.
func TestDockerfile(t *testing.T) {
	all := stages(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	module := regexp.MustCompile(`(?m)^go ([0-9]+\.[0-9]+)`).FindStringSubmatch(string(text))
	match := regexp.MustCompile(`^golang:([0-9.]+)-\S+ AS build$`).FindStringSubmatch(find(t, all[0], "FROM"))
	if match == nil || module == nil || match[1] != module[1] {
		t.Errorf("the image is built by %q, want the Go of go.mod, %v", find(t, all[0], "FROM"), module)
	}
	from, to, _ := strings.Cut(strings.TrimPrefix(find(t, all[1], "COPY"), "--from=build "), " ")
	if want := fmt.Sprintf("[%q]", to); find(t, all[1], "ENTRYPOINT") != want {
		t.Errorf("the entry point is %s, want %s", find(t, all[1], "ENTRYPOINT"), want)
	}
	if build := all[0][len(all[0])-1]; build.name != "RUN" || !strings.Contains(build.text, "CGO_ENABLED=0 go build -o "+from+" ") {
		t.Errorf("the build ends with %v; it must make %s, without cgo, since there is no C library in the image", build, from)
	}
	if user := find(t, all[1], "USER"); strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("the user is %s", user)
	}
}

// service is what the test looks at of a service of compose.yaml.
type service struct {
	Image       string
	Command     any
	Ports       []string
	MemLimit    string `yaml:"mem_limit"`
	NetworkMode string `yaml:"network_mode"`
}

// What a file says of others is true: names of services, versions, and that nobody else reaches the cluster.
func TestCompose(t *testing.T) {
	text, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct{ Services map[string]service }
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`(?:^|=)([a-z][a-z-]*):\d+$`)
	for name, s := range compose.Services {
		if s.MemLimit == "" {
			t.Errorf("service %s has no limit of memory", name)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("service %s has port %s open to others than this machine", name, port)
			}
		}
		args, _ := s.Command.([]any)
		for _, arg := range args {
			if match := address.FindStringSubmatch(fmt.Sprint(arg)); match != nil && compose.Services[match[1]].Image == "" {
				t.Errorf("service %s has %v, and there is no service %s", name, arg, match[1])
			}
		}
	}
	pool := compose.Services["worker-pool"]
	if pool.NetworkMode != "service:taskmanager" {
		t.Errorf("the pool is in network %q, want that of the task manager", pool.NetworkMode)
	}
	args := fmt.Sprint(pool.Command, compose.Services["interactions"].Command)
	match := regexp.MustCompile(`--addr=(\S+)\].*--environment_config=(\S+)\]`).FindStringSubmatch(args)
	if match == nil || match[1] != match[2] {
		t.Fatalf("jobs look for the pool where it is not: %s", args)
	}
	if host, _, err := net.SplitHostPort(match[1]); err != nil || host != "127.0.0.1" {
		t.Errorf("the pool listens at %s, error %v; want 127.0.0.1", match[1], err)
	}
}

// All files name the same software, which is that of the cluster that is tested.
func TestVersions(t *testing.T) {
	read := func(path ...string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	flink := regexp.MustCompile(`flinkVersion = +"(([0-9]+\.[0-9]+)[0-9.]*)"`).FindStringSubmatch(read("..", "..", "..", "testing", "flinkcluster", "software.go"))
	beam := regexp.MustCompile(`beam-runners-flink-[0-9.]+</artifactId>\s*<version>([0-9.]+)<`).FindStringSubmatch(read("..", "..", "..", "testing", "flinkcluster", "pom.xml"))
	if flink == nil || beam == nil {
		t.Fatal("testing/flinkcluster says no versions")
	}
	minor := flink[2]
	jobServer := "apache/beam_flink" + minor + "_job_server:" + beam[1]
	for path, want := range map[string]map[string]int{
		"compose.yaml": {"image: flink:" + flink[1] + "-java17\n": 2, "image: " + jobServer + "\n": 1},
		filepath.Join("..", "kubernetes", "cluster.yaml"): {
			"image: flink:" + flink[1] + "-java17\n": 1, "flinkVersion: v" + strings.ReplaceAll(minor, ".", "_") + "\n": 1, "-" + flink[1] + ".jar\n": 1,
		},
		filepath.Join("..", "kubernetes", "job-server.yaml"): {"image: " + jobServer + "\n": 1},
	} {
		text := read(path)
		for line, n := range want {
			if got := strings.Count(text, line); got != n {
				t.Errorf("%s has %q %d times, want %d", path, line, got, n)
			}
		}
	}
}
