// Package template makes Flex Templates of Google Cloud Dataflow: the specification that a launch reads, and the file that its image is built with.
//
// The parameters of a template are the flags of a pipeline, by the same definitions. What is not to be seen of a flag by its type in Go is noted at its
// definition: see [Form.Note] and [Leave].
package template

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	df "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/dataflow"
)

// Dockerfile builds the image of a template from the sources of this program.
//
//go:embed Dockerfile
var Dockerfile []byte

// PipelineParameter is the parameter that names the pipeline. The program takes it where it has no command.
const PipelineParameter = "pipeline"

// Types of parameters, in the words of the REST service.
const (
	Text        = "TEXT"
	Number      = "NUMBER"
	Boolean     = "BOOLEAN"
	Enum        = "ENUM"
	ReadFile    = "GCS_READ_FILE"
	WriteFolder = "GCS_WRITE_FOLDER"
	Topic       = "PUBSUB_TOPIC"
)

// Form is how a flag is shown as a parameter, where its type in Go does not say it.
type Form struct {
	// Type is one of the REST service. Default: by that of the flag.
	Type string
	// Regex is what a value has to match, as a regular expression of POSIX. Default: by the type of the flag.
	Regex string
	// Help says what it is, where the usage of the flag says more than there is on Dataflow. Default: the usage.
	Help string
	// Values are all that there are, of an Enum.
	Values []string
	// Required says that a launch must give it.
	Required bool
}

// Keys of annotations.
const (
	noteType     = "template_type"
	noteRegex    = "template_regex"
	noteHelp     = "template_help"
	noteValues   = "template_values"
	noteRequired = "template_required"
	noteLeft     = "template_left"
)

// Note notes the form of a flag.
func (f Form) Note(flags *pflag.FlagSet, name string) {
	flag := flags.Lookup(name)
	if f.Type != "" {
		note(flag, noteType, f.Type)
	}
	if f.Regex != "" {
		note(flag, noteRegex, f.Regex)
	}
	if f.Help != "" {
		note(flag, noteHelp, f.Help)
	}
	if len(f.Values) > 0 {
		note(flag, noteType, Enum)
		note(flag, noteValues, f.Values...)
	}
	if f.Required {
		note(flag, noteRequired, "")
	}
}

// Leave notes that a flag is no parameter, and why.
func Leave(flag *pflag.Flag, why string) { note(flag, noteLeft, why) }

// Left returns why a flag is no parameter; ok is false where it is one.
func Left(flag *pflag.Flag) (why string, ok bool) {
	all, ok := flag.Annotations[noteLeft]
	return strings.Join(all, ""), ok
}

func note(flag *pflag.Flag, key string, values ...string) {
	if flag.Annotations == nil {
		flag.Annotations = map[string][]string{}
	}
	flag.Annotations[key] = values
}

// Parameters returns those that the flags of a pipeline are, in their order, after the one that names it.
func Parameters(pipeline string, flags *pflag.FlagSet) []*df.ParameterMetadata {
	all := []*df.ParameterMetadata{{
		Name: PipelineParameter, Label: "Pipeline", HelpText: "The pipeline that this template is of.", ParamType: Enum,
		EnumOptions: []*df.ParameterMetadataEnumOption{{Label: pipeline, Value: pipeline}}, DefaultValue: pipeline, Regexes: []string{"^" + pipeline + "$"},
	}}
	flags.VisitAll(func(flag *pflag.Flag) {
		if _, left := Left(flag); !left {
			all = append(all, parameter(flag))
		}
	})
	return all
}

// forms are those of types in Go.
var forms = map[string]Form{
	"bool":     {Type: Boolean, Regex: "^(true|false)$"},
	"int":      {Type: Number, Regex: "^[0-9]+$"},
	"int64":    {Type: Number, Regex: "^[0-9]+$"},
	"float64":  {Type: Number, Regex: "^[0-9]*[.]?[0-9]+$"},
	"duration": {Type: Text, Regex: "^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$"},
}

func parameter(flag *pflag.Flag) *df.ParameterMetadata {
	form := forms[flag.Value.Type()]
	placeholder, usage := pflag.UnquoteUsage(flag)
	p := &df.ParameterMetadata{
		Name: flag.Name, Label: label(flag.Name), HelpText: sentence(first(flag.Annotations[noteHelp], help(placeholder, usage))) + ".",
		ParamType: first(flag.Annotations[noteType], form.Type, Text), IsOptional: true, DefaultValue: byDefault(flag),
	}
	if regex := first(flag.Annotations[noteRegex], form.Regex); regex != "" {
		p.Regexes = []string{regex}
	}
	for _, value := range flag.Annotations[noteValues] {
		p.EnumOptions = append(p.EnumOptions, &df.ParameterMetadataEnumOption{Label: value, Value: value})
	}
	if _, required := flag.Annotations[noteRequired]; required {
		p.IsOptional = false
	}
	return p
}

// first returns what was noted, or else the first that is not "".
func first(noted []string, others ...string) string {
	for _, text := range append(slices.Clone(noted), others...) {
		if text != "" {
			return text
		}
	}
	return ""
}

// byDefault is what a flag is where nobody sets it, as one would write it; "" where it is nothing, or as the program likes.
func byDefault(flag *pflag.Flag) string {
	switch flag.DefValue {
	case "0", "[]", "0s":
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(flag.DefValue, "["), "]")
}

// help is the usage of a flag, without what is clear. The name of its value says nothing without its flag.
func help(placeholder, usage string) string {
	text := strings.TrimPrefix(usage, "Dataflow: ")
	if strings.HasPrefix(text, placeholder+" ") && placeholder == strings.ToUpper(placeholder) && !acronyms[strings.ToLower(placeholder)] {
		text = strings.ToLower(placeholder) + strings.TrimPrefix(text, placeholder)
	}
	return strings.TrimSuffix(text, ".")
}

// acronyms are written in capital letters.
var acronyms = map[string]bool{"id": true, "ttl": true, "url": true}

// label is the name of a flag in words.
func label(name string) string {
	words := strings.Split(name, "_")
	for i, word := range words {
		if acronyms[word] {
			words[i] = strings.ToUpper(word)
		}
	}
	return sentence(strings.Join(words, " "))
}

// sentence begins with a capital letter.
func sentence(text string) string {
	for i, r := range text {
		return string(unicode.ToUpper(r)) + text[i+len(string(r)):]
	}
	return ""
}

// Template is what there is to say of a Flex Template.
type Template struct {
	// Name of the template, for people.
	Name string
	// Description of it, in some sentences.
	Description string
	// Image is the one that Dockerfile builds, as it is called where Dataflow finds it.
	Image string
	// Streaming says that it can have a source that never ends.
	Streaming bool
	// Parameters of a launch.
	Parameters []*df.ParameterMetadata
	// Environment is what holds where a launch says nothing else.
	Environment dataflow.Options
}

// Spec returns the specification that a launch reads, in JSON.
func (t Template) Spec() ([]byte, error) {
	spec := &df.ContainerSpec{
		Image: t.Image, SdkInfo: &df.SDKInfo{Language: "GO"}, DefaultEnvironment: environment(t.Environment),
		Metadata: &df.TemplateMetadata{Name: t.Name, Description: t.Description, Streaming: t.Streaming, Parameters: t.Parameters},
	}
	body, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("specification of the template: %w", err)
	}
	return append(body, '\n'), nil
}

// SetEnvironment sets what a launch has in its environment, by the name of the flag that says it. It tells whether there is such a field.
func SetEnvironment(e *df.FlexTemplateRuntimeEnvironment, name, value string) (ok bool, err error) {
	number := func(to *int64) { *to, err = strconv.ParseInt(value, 10, 64) }
	word := func(to *string, words map[string]string) {
		if *to = words[value]; *to == "" {
			err = fmt.Errorf("%q is none of %s", value, strings.Join(slices.Sorted(maps.Keys(words)), ", "))
		}
	}
	switch name {
	case "staging_location":
		e.StagingLocation = value
	case "temp_location":
		e.TempLocation = value
	case "service_account_email":
		e.ServiceAccountEmail = value
	case "machine_type":
		e.MachineType = value
	case "num_workers":
		number(&e.NumWorkers)
	case "max_num_workers":
		number(&e.MaxWorkers)
	case "disk_size_gb":
		number(&e.DiskSizeGb)
	case "autoscaling_algorithm":
		word(&e.AutoscalingAlgorithm, dataflow.Algorithms())
	case "flexrs_goal":
		word(&e.FlexrsGoal, dataflow.Goals())
	case "network":
		e.Network = value
	case "subnetwork":
		e.Subnetwork = value
	case "use_public_ips":
		word(&e.IpConfiguration, map[string]string{"true": "WORKER_IP_PUBLIC", "false": "WORKER_IP_PRIVATE"})
	case "worker_region":
		e.WorkerRegion = value
	case "worker_zone":
		e.WorkerZone = value
	case "dataflow_kms_key":
		e.KmsKeyName = value
	case "sdk_container_image":
		e.SdkContainerImage = value
	case "experiments":
		e.AdditionalExperiments = append(e.AdditionalExperiments, strings.Split(value, ",")...)
	case "labels":
		e.AdditionalUserLabels, err = dataflow.ParseLabels(value)
	default:
		return false, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return true, err
}

// environment returns options as a launch has them.
func environment(o dataflow.Options) *df.FlexTemplateRuntimeEnvironment {
	e := &df.FlexTemplateRuntimeEnvironment{
		StagingLocation: o.StagingLocation, TempLocation: o.TempLocation, ServiceAccountEmail: o.ServiceAccount, MachineType: o.MachineType,
		NumWorkers: o.Workers, MaxWorkers: o.MaxWorkers, AutoscalingAlgorithm: dataflow.Algorithms()[o.Autoscaling], DiskSizeGb: o.DiskSizeGB,
		Network: o.Network, Subnetwork: o.Subnetwork, WorkerRegion: o.WorkerRegion, WorkerZone: o.WorkerZone, KmsKeyName: o.KMSKey,
		AdditionalUserLabels: maps.Clone(o.Labels), FlexrsGoal: dataflow.Goals()[o.FlexRS], SdkContainerImage: o.ContainerImage, AdditionalExperiments: o.Experiments,
	}
	if o.NoPublicIPs {
		e.IpConfiguration = "WORKER_IP_PRIVATE"
	}
	return e
}
