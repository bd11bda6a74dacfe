package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile is the size of the largest launch file, in bytes.
const maxFile = 1 << 20

// Windows is the pipeline that computes windows again; its options from and to are the arguments of its command.
const Windows = "windows"

// pipelines are the commands that a launch can run, with whether a tick has to be done before the next one begins.
var pipelines = map[string]struct{ ordered bool }{"interactions": {}, "catalog": {ordered: true}, Windows: {}}

// The runners that a launch file may name.
const (
	RunnerDirect   = "direct"
	RunnerFlink    = "flink"
	RunnerDataflow = "dataflow"
)

var runners = []string{RunnerDirect, RunnerFlink, RunnerDataflow}

// File is a launch file.
type File struct {
	// Path is where it was read.
	Path string
	// Name is that of the launch: what its runs are known by.
	Name string
	// Pipeline is the command that runs: interactions, catalog or windows.
	Pipeline string
	// Options are its flags, in the order of the file. Their values may have macros.
	Options []Option
	// Runner runs the pipeline. Default: "", which is the direct runner.
	Runner string
	// Schedule says when; nil: whenever somebody names a tick.
	Schedule *Schedule
	// Attempts is how often a tick is tried, at least 1. Default: 1.
	Attempts int
	// Backoff is the wait before the second attempt; it doubles each time. Default: 1 minute.
	Backoff time.Duration
	// MaxBackoff is the longest wait between two attempts. Default: 1 hour.
	MaxBackoff time.Duration
	// Timeout is how long one attempt may take until it is asked to end. Default: 0, as long as it wants.
	Timeout time.Duration
	// Grace is the time from the request to end to the kill. Default: 1 minute.
	Grace time.Duration
	// Lease is how long a launcher that has died keeps others from its tick, at least a second. Default: 2 minutes.
	Lease time.Duration
	// CatchUp is how many missed ticks are launched before the latest one, where that is asked for. Default: 0.
	CatchUp int
}

// Option is a flag of the pipeline.
type Option struct {
	Name   string
	Values []string // one, or those of a list
	List   bool     // it is a list: commas in a value are part of it
	Line   int      // of the file

	wrong bool // what is wrong with it is said
}

// Lake returns the URL of the lake, which has the record, too. Load has seen that there is one.
func (f *File) Lake() string {
	for _, o := range f.Options {
		if o.Name == "lake" {
			return o.Values[0]
		}
	}
	return ""
}

// Ordered tells whether a tick has to be done before the next one begins: each version of a catalog is as of a later time.
func (f *File) Ordered() bool { return pipelines[f.Pipeline].ordered }

// Clustered tells whether the pipeline runs as a job of a cluster, which may go on where its launcher dies.
func (f *File) Clustered() bool { return f.Runner == RunnerFlink || f.Runner == RunnerDataflow }

// streams tells whether the pipeline reads a subscription, and so does not end by itself.
func (f *File) streams() bool {
	for _, o := range f.Options {
		if o.Name == "input" && slices.ContainsFunc(o.Values, func(value string) bool { return strings.HasPrefix(value, "pubsub://") }) {
			return true
		}
	}
	return false
}

// jobArgs are the flags by which a job of files is one of its tick: a launcher that comes while the job of another runs, one that has died, finds it by
// its name and waits for its end. The name has the lake, too, since a cluster may have jobs of several. A stream is not one of its tick.
func (f *File) jobArgs(tick time.Time) []string {
	if !f.Clustered() || f.streams() {
		return nil
	}
	lake := sha256.Sum256([]byte(f.Lake()))
	args := []string{fmt.Sprintf("--job_name=backbone-%s-%s-%s", f.Name, strings.ToLower(tick.UTC().Format(tickLayout)), hex.EncodeToString(lake[:4]))}
	for _, o := range f.Options {
		if o.Name == "detach" && o.Values[0] == "true" {
			return args
		}
	}
	return append(args, "--follow")
}

// Location is the time zone of the launch.
func (f *File) Location() *time.Location {
	if f.Schedule == nil {
		return time.UTC
	}
	return f.Schedule.Location()
}

// Load reads a launch file. Check says what is wrong with an option of a pipeline, which package launch does not know: that there is no such
// flag, or that it does not take such values. The error has all mistakes, a line each, with file, line and field.
func Load(path string, check func(pipeline string, o Option) error) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, fmt.Errorf("launch file %q: %w", path, err)
	}
	defer func() { _ = file.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("launch file %q: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("launch file %q: it is larger than %d bytes", path, maxFile)
	}
	return Parse(path, text, check)
}

// Parse is Load of a text. Path is what errors call it.
func Parse(path string, text []byte, check func(pipeline string, o Option) error) (*File, error) {
	r := &reader{path: path, file: &File{Path: path, Attempts: 1, Backoff: time.Minute, MaxBackoff: time.Hour, Grace: time.Minute, Lease: 2 * time.Minute}}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) && y.GetToken() != nil && y.GetToken().Position != nil {
			return nil, fmt.Errorf("%s:%d: %s", path, y.GetToken().Position.Line, y.GetMessage())
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var body ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			return nil, fmt.Errorf("%s:%d: a launch file has one document", path, line(doc.Body))
		}
		body = doc.Body
	}
	if body == nil {
		return nil, fmt.Errorf("%s:1: the file is empty; it needs name, pipeline and options", path)
	}
	r.read(body)
	if r.file.Pipeline != "" {
		r.check(check)
	}
	if len(r.mistakes) > 0 {
		slices.SortStableFunc(r.mistakes, func(x, y mistake) int { return x.line - y.line })
		errs := make([]error, len(r.mistakes))
		for i, m := range r.mistakes {
			errs[i] = fmt.Errorf("%s:%d: %s: %w", path, m.line, m.field, m.err)
		}
		return nil, errors.Join(errs...)
	}
	return r.file, nil
}

// mistake is something wrong in a file.
type mistake struct {
	line  int
	field string
	err   error
}

// reader reads a file and gathers what is wrong with it.
type reader struct {
	path     string
	file     *File
	mistakes []mistake
}

func (r *reader) wrong(at int, field, format string, args ...any) {
	r.mistakes = append(r.mistakes, mistake{at, field, fmt.Errorf(format, args...)})
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

// fields calls the function of each key of a mapping. In is the name of the mapping, "" for the file.
func (r *reader) fields(in string, n ast.Node, known map[string]func(field string, key, value ast.Node)) {
	values, ok := mapping(n)
	if !ok {
		what := in
		if what == "" {
			what = "the file"
		}
		r.wrong(line(n), what, "it must be a mapping of %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		return
	}
	for _, pair := range values {
		key := pair.Key.String()
		field := strings.TrimPrefix(in+"."+key, ".")
		read := known[key]
		if read == nil {
			r.wrong(line(pair.Key), field, "unknown key; there is %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			continue
		}
		read(field, pair.Key, pair.Value)
	}
}

// mapping returns the pairs of a mapping.
func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	default:
		return nil, false
	}
}

// scalar returns a single value as it is written.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("it has no value")
	case *ast.MappingNode, *ast.MappingValueNode:
		return "", errors.New("it takes one value; a value that begins with a macro needs quotes: \"{{ .Date }}\"")
	default:
		return "", errors.New("it takes one value")
	}
}

// text is a field with one value.
func (r *reader) text(set func(string) error) func(string, ast.Node, ast.Node) {
	return func(field string, key, value ast.Node) {
		text, err := scalar(value)
		if err == nil {
			err = set(text)
		}
		if err != nil {
			r.wrong(line(key), field, "%w", err)
		}
	}
}

// duration is a field with a duration of at least least.
func (r *reader) duration(to *time.Duration, least time.Duration) func(string, ast.Node, ast.Node) {
	return r.text(func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < least {
			return fmt.Errorf("%q must be a duration of at least %v, such as 90s or 2h", text, least)
		}
		*to = d
		return nil
	})
}

// number is a field with a whole number in bounds.
func (r *reader) number(to *int, least, most int) func(string, ast.Node, ast.Node) {
	return r.text(func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q must be a whole number from %d to %d", text, least, most)
		}
		*to = n
		return nil
	})
}

// oneOf is a field with one of some words.
func (r *reader) oneOf(to *string, words []string) func(string, ast.Node, ast.Node) {
	return r.text(func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("%q must be one of %s", text, strings.Join(words, ", "))
		}
		*to = text
		return nil
	})
}

// names are what the names of launches look like: all schedulers take them, and no id of a run looks like one.
var names = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,50}[a-z0-9])?$`)

func (r *reader) read(body ast.Node) {
	f := r.file
	var expression, zone string
	scheduleAt := 0
	seen := map[string]int{}
	noted := func(field string, read func(string, ast.Node, ast.Node)) func(string, ast.Node, ast.Node) {
		return func(name string, key, value ast.Node) {
			seen[field] = line(key)
			read(name, key, value)
		}
	}
	r.fields("", body, map[string]func(string, ast.Node, ast.Node){
		"name": noted("name", r.text(func(text string) error {
			if !names.MatchString(text) {
				return fmt.Errorf("%q must be of at most 52 lower-case letters, digits and hyphens, with a letter first and no hyphen last", text)
			}
			f.Name = text
			return nil
		})),
		"pipeline": noted("pipeline", r.oneOf(&f.Pipeline, slices.Sorted(maps.Keys(pipelines)))),
		"runner":   noted("runner", r.oneOf(&f.Runner, runners)),
		"options":  noted("options", r.options),
		"schedule": func(field string, key, value ast.Node) {
			scheduleAt = line(key)
			r.fields(field, value, map[string]func(string, ast.Node, ast.Node){
				"cron":      noted("cron", r.text(func(text string) error { expression = text; return nil })),
				"time_zone": noted("time_zone", r.text(func(text string) error { zone = text; return nil })),
			})
		},
		"retries": func(field string, _, value ast.Node) {
			r.fields(field, value, map[string]func(string, ast.Node, ast.Node){
				"attempts":    r.number(&f.Attempts, 1, 100),
				"backoff":     noted("backoff", r.duration(&f.Backoff, 0)),
				"max_backoff": noted("max_backoff", r.duration(&f.MaxBackoff, 0)),
			})
		},
		"timeout":  r.duration(&f.Timeout, time.Second),
		"grace":    r.duration(&f.Grace, 0),
		"lease":    r.duration(&f.Lease, time.Second),
		"catch_up": noted("catch_up", r.number(&f.CatchUp, 0, 1000)),
	})
	for _, needed := range []string{"name", "pipeline", "options"} {
		if seen[needed] == 0 {
			r.wrong(line(body), needed, "it is missing")
		}
	}
	if f.MaxBackoff < f.Backoff {
		if seen["max_backoff"] > 0 {
			r.wrong(seen["max_backoff"], "retries.max_backoff", "it is %v, less than backoff, which is %v", f.MaxBackoff, f.Backoff)
		}
		f.MaxBackoff = f.Backoff
	}
	if scheduleAt > 0 {
		if seen["cron"] == 0 {
			r.wrong(scheduleAt, "schedule.cron", "it is missing")
		} else if _, _, err := parseCron(expression); err != nil {
			r.wrong(seen["cron"], "schedule.cron", "%w", err)
		}
		if _, err := parseZone(zone); err != nil {
			r.wrong(seen["time_zone"], "schedule.time_zone", "%w", err)
		}
		f.Schedule, _ = ParseSchedule(expression, zone) // what is wrong with it is said
	}
	if f.CatchUp > 0 && scheduleAt == 0 {
		r.wrong(seen["catch_up"], "catch_up", "without a schedule, no tick is missed")
	}
	if f.Pipeline == Windows && f.Runner != "" && f.Runner != RunnerDirect {
		r.wrong(seen["runner"], "runner", "%q does not run windows: it is no job, but a command", f.Runner)
	}
	if seen["options"] > 0 {
		r.needed(seen["options"])
	}
}

// options reads the flags of the pipeline.
func (r *reader) options(field string, key, value ast.Node) {
	pairs, ok := mapping(value)
	if !ok {
		r.wrong(line(key), field, "it must be a mapping of flags of the pipeline, such as lake: /data/lake")
		return
	}
	for _, pair := range pairs {
		o := Option{Name: pair.Key.String(), Line: line(pair.Key)}
		items := []ast.Node{pair.Value}
		if list, ok := pair.Value.(*ast.SequenceNode); ok {
			o.List, items = true, list.Values
			if len(items) == 0 {
				r.wrong(o.Line, field+"."+o.Name, "the list is empty: leave it out")
			}
		}
		for _, item := range items {
			text, err := scalar(item)
			if err == nil {
				err = noPassword(text)
			}
			if err != nil {
				r.wrong(line(item), field+"."+o.Name, "%w", err)
				o.wrong = true
			}
			o.Values = append(o.Values, text)
		}
		o.wrong = o.wrong || len(items) == 0
		r.file.Options = append(r.file.Options, o)
	}
}

var userinfo = regexp.MustCompile(`://[^/?#\s]*@`)

// noPassword refuses URLs with credentials: options are in the record, which is for all readers of the lake.
func noPassword(text string) error {
	for _, found := range userinfo.FindAllString(text, -1) {
		if u, err := url.Parse("x" + strings.TrimSuffix(found, "@") + "@h"); err != nil || u.User != nil {
			return errors.New("credentials do not belong into a launch file: set them in the environment")
		}
	}
	return nil
}

// reserved are options that the launch itself takes care of.
var reserved = map[string]string{
	"summary": "the record of a run has it",
	"runner":  "it has a field of its own: runner",
	"rebuild": "windows does nothing else",
	"follow":  "a launch waits for a job of its tick by itself",
	"dry_run": "give it to the command: backbone launch FILE --dry_run",
	"config":  "give it to the command: backbone --config FILE launch ...",
}

// needed looks for what options must have, and must not.
func (r *reader) needed(at int) {
	seen := map[string]bool{}
	for _, o := range r.file.Options {
		seen[o.Name] = true
		if why := reserved[o.Name]; why != "" {
			r.wrong(o.Line, "options."+o.Name, "leave it out: %s", why)
		}
		if o.Name == "job_name" && !r.file.streams() {
			r.wrong(o.Line, "options.job_name", "leave it out: a job of files is named after the launch and its tick, so that it is found by that")
		}
	}
	wanted := []string{"lake"}
	if r.file.Pipeline == Windows {
		wanted = append(wanted, "from", "to")
	}
	for _, name := range wanted {
		if !seen[name] {
			r.wrong(at, "options."+name, "it is missing")
		}
	}
	for _, o := range r.file.Options {
		switch {
		case o.wrong:
		case slices.Contains(wanted, o.Name) && (o.List || o.Values[0] == ""):
			r.wrong(o.Line, "options."+o.Name, "it takes one value")
		case o.Name == "lake" && hasMacro(o.Values[0]):
			r.wrong(o.Line, "options.lake", "it must be the same at each tick: the record is there")
		}
	}
}

// check fills macros in for some tick, and asks about the values.
func (r *reader) check(check func(string, Option) error) {
	f := r.file
	some := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	data := newTickData(f.Name, some, f.Location(), func() (time.Time, error) { return some.AddDate(0, 0, -1), nil })
	for _, o := range f.Options {
		if o.wrong || reserved[o.Name] != "" {
			continue
		}
		filled, err := o.fill(data)
		if err == nil && check != nil && !f.isArgument(o.Name) {
			err = check(f.Pipeline, filled)
		}
		if err != nil {
			r.wrong(o.Line, "options."+o.Name, "%w", err)
		}
	}
}

// isArgument tells whether an option is an argument of the command, and not a flag.
func (f *File) isArgument(name string) bool {
	return f.Pipeline == Windows && (name == "from" || name == "to")
}

// fill returns the option with its macros filled in.
func (o Option) fill(data *tickData) (Option, error) {
	filled := o
	filled.Values = make([]string, len(o.Values))
	for i, value := range o.Values {
		var err error
		if filled.Values[i], err = data.fill(value); err != nil {
			return o, err
		}
	}
	return filled, nil
}

// Args returns the command line of a tick, without the name of the program. Previous returns the tick of the success before, or the zero
// time; it is asked only where a macro wants to know.
func (f *File) Args(tick time.Time, previous func() (time.Time, error)) ([]string, error) {
	data := newTickData(f.Name, tick, f.Location(), previous)
	args := []string{f.Pipeline}
	if f.Pipeline == Windows {
		args = append(args, "--rebuild")
	}
	if f.Runner != "" && f.Pipeline != Windows {
		args = append(args, "--runner="+f.Runner)
	}
	args = append(args, f.jobArgs(tick)...)
	arguments := map[string]string{}
	for _, o := range f.Options {
		filled, err := o.fill(data)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: options.%s: %w", f.Path, o.Line, o.Name, err)
		}
		for _, value := range filled.Values {
			switch {
			case f.isArgument(o.Name):
				arguments[o.Name] = value
			case o.List && strings.ContainsAny(value, `,"`): // flags of lists split at commas, as CSV
				args = append(args, "--"+o.Name+`="`+strings.ReplaceAll(value, `"`, `""`)+`"`)
			default:
				args = append(args, "--"+o.Name+"="+value)
			}
		}
	}
	if f.Pipeline == Windows {
		args = append(args, "--", arguments["from"], arguments["to"])
	}
	return args, nil
}
