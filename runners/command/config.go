package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const envPrefix = "BACKBONE_"

// notSettings are flags that can be given on the command line only.
var notSettings = map[string]bool{"help": true, pipelineFlag: true}

// configure gives each flag of cmd that is not on the command line its value from the environment, or else from the
// configuration file. A key of the file that is no flag of any command is refused.
func (e *environment) configure(cmd *cobra.Command) error {
	environ, err := e.environment()
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("config") {
		e.config = environ.String("config")
	}
	settings := koanf.New(".")
	if e.config != "" {
		if err := settings.Load(file.Provider(e.config), yaml.Parser()); err != nil {
			return usageErrorf("config %q: %w", e.config, err)
		}
		if err := knownKeys(cmd.Root(), settings.Raw()); err != nil {
			return usageErrorf("config %q: %w", e.config, err)
		}
	}
	if err := settings.Merge(environ); err != nil {
		return fmt.Errorf("settings from the environment: %w", err)
	}

	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Changed || notSettings[f.Name] || !settings.Exists(f.Name) {
			return
		}
		if err := setFlag(cmd.Flags(), f, settings.Get(f.Name)); err != nil {
			from := fmt.Sprintf("config %q: %s", e.config, f.Name)
			if environ.Exists(f.Name) {
				from = "environment: " + envPrefix + strings.ToUpper(f.Name)
			}
			failed = usageErrorf("%s: %w", from, err)
		}
	})
	return failed
}

// environment reads BACKBONE_<FLAG> under the name of the flag. An empty variable counts as absent.
func (e *environment) environment() (*koanf.Koanf, error) {
	k := koanf.New(".")
	err := k.Load(env.Provider(".", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: e.environ,
		TransformFunc: func(name, value string) (string, any) {
			if value == "" {
				return "", nil
			}
			return strings.ToLower(strings.TrimPrefix(name, envPrefix)), value
		},
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("settings from the environment: %w", err)
	}
	return k, nil
}

// knownKeys refuses a key that is no flag of any command.
func knownKeys(root *cobra.Command, settings map[string]any) error {
	known := map[string]bool{}
	for _, cmd := range commands(root) {
		for _, flags := range []*pflag.FlagSet{cmd.PersistentFlags(), cmd.Flags()} {
			flags.VisitAll(func(f *pflag.Flag) { known[f.Name] = !notSettings[f.Name] })
		}
	}
	names := make([]string, 0, len(known))
	for name, isSetting := range known {
		if isSetting {
			names = append(names, name)
		}
	}
	keys := make([]string, 0, len(settings))
	for key := range settings {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !known[key] {
			return fmt.Errorf("unknown key %q%s", key, didYouMean("", key, names))
		}
	}
	return nil
}

// setFlag sets f to a value of the environment or of a YAML file: a scalar, or a list for a flag that takes several.
func setFlag(flags *pflag.FlagSet, f *pflag.Flag, value any) error {
	list, isList := value.([]any)
	if !isList {
		text, err := scalar(value)
		if err != nil {
			return err
		}
		return flags.Set(f.Name, text)
	}
	several, ok := f.Value.(pflag.SliceValue)
	if !ok {
		return fmt.Errorf("takes one value, not a list of %d", len(list))
	}
	texts := make([]string, 0, len(list))
	for _, item := range list {
		text, err := scalar(item)
		if err != nil {
			return err
		}
		texts = append(texts, text)
	}
	if err := several.Replace(texts); err != nil {
		return err
	}
	f.Changed = true
	return nil
}

// scalar writes a YAML scalar as a flag would be written.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool, int, int64, uint64:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case nil:
		return "", fmt.Errorf("has no value")
	default:
		return "", fmt.Errorf("takes one value, not a %T", value)
	}
}
