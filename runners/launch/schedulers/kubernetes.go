package schedulers

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"backbone/runners/launch"
)

//go:embed kubernetes.yaml.tmpl
var kubernetesText string

// KubernetesOptions say what runs in a cluster of Kubernetes.
type KubernetesOptions struct {
	// Image is that of the command, made of runners/flink/docker.
	Image string
	// Namespace is where the objects are. Default: that of kubectl.
	Namespace string
}

var namespaces = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// maxConfigMap is how much a launch file in a cluster may have, in bytes: an object there has at most a megabyte.
const maxConfigMap = 900 << 10

// Kubernetes returns a ConfigMap with the text of the launch file, and a CronJob that launches it.
func Kubernetes(f *launch.File, text []byte, o KubernetesOptions) (string, error) {
	errs := []error{scheduled(f)}
	if o.Image == "" {
		errs = append(errs, errors.New("image is missing: that of runners/flink/docker/Dockerfile"))
	}
	if o.Namespace != "" && !namespaces.MatchString(o.Namespace) {
		errs = append(errs, fmt.Errorf("namespace is %q; it must be of lower-case letters, digits and hyphens", o.Namespace))
	}
	if len(text) > maxConfigMap || !utf8.Valid(text) {
		errs = append(errs, fmt.Errorf("%s: it must be UTF-8 text of at most %d bytes", f.Path, maxConfigMap))
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	t, err := template.New("kubernetes").Funcs(template.FuncMap{"text": yamlText, "lines": yamlLines}).Parse(kubernetesText)
	if err != nil {
		return "", fmt.Errorf("template of the CronJob: %w", err)
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Name": f.Name, "Namespace": o.Namespace, "File": string(text), "Cron": f.Schedule.Expression(), "Zone": f.Schedule.Zone(), "Image": o.Image,
		"Args": append(args(f, "/etc/backbone/launch.yaml"), "--log_format=json"), "Seconds": int((f.Grace + 30*time.Second).Seconds()),
	})
	return b.String(), err
}

// yamlText returns a scalar of YAML for exactly this text, which must be valid UTF-8.
func yamlText(text string) string {
	return strconv.QuoteToASCII(text) // of what it writes for such a text, YAML reads all as Go does
}

// yamlLines is yamlText that is easier to read, where the text is made of lines that a block of YAML leaves as they are.
func yamlLines(indent int, text string) string {
	lines, whole := strings.CutSuffix(text, "\n")
	tame := whole && !strings.HasPrefix(lines, " ") && !strings.HasPrefix(lines, "\n") && !strings.HasSuffix(lines, "\n") && lines != ""
	margin := strings.Repeat(" ", indent)
	var b strings.Builder
	b.WriteString("|")
	for line := range strings.SplitSeq(lines, "\n") {
		b.WriteString("\n")
		if line != "" {
			b.WriteString(margin + line)
		}
		tame = tame && !strings.HasSuffix(line, " ") && !strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) })
	}
	if !tame {
		return yamlText(text)
	}
	return b.String()
}
