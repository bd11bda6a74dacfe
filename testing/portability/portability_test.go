package portability

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/pipelines/catalog"
	"backbone/pipelines/interactions"
	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/run"
	"backbone/transforms/windows"
)

// pipelines are all that the command can launch, in each of their forms.
func pipelines(t *testing.T) map[string]*beam.Pipeline {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	events, contexts, items, users := file("events.jsonl"), file("contexts.jsonl"), file("items.jsonl"), file("users.jsonl")
	native := func(table string) *mappings.Mapping {
		m, err := mappings.NativeFor(table)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	all := map[string]*beam.Pipeline{}
	for _, input := range []string{"files", "subscription", "native"} {
		for _, contextual := range []bool{false, true} {
			for _, windowed := range []bool{false, true} {
				o := interactions.Defaults()
				o.Lake, o.Mapping = t.TempDir(), native(schemas.Interactions.Name)
				o.Input = []string{events}
				o.Native = input == "native"
				if input != "files" {
					o.Input = []string{"pubsub://shop/events"}
				}
				if contextual {
					o.Context, o.ContextMapping = []string{contexts}, native(schemas.Contexts.Name)
					if input != "files" {
						o.Context = []string{"pubsub://shop/contexts"}
					}
				}
				if windowed {
					o.Windows.Tables, o.Windows.Topic = windows.Tables, "projects/shop/topics/trending"
				}
				name := fmt.Sprintf("interactions/%s/context=%v/windows=%v", input, contextual, windowed)
				o.RunID = name
				if err := o.Validate(); err != nil {
					t.Fatal(err)
				}
				plan, err := interactions.Prepare(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = run.Of(o.RunID).Close() })
				p, s := beam.NewPipelineWithRoot()
				interactions.Build(s, plan)
				all[name] = p
			}
		}
	}
	o := catalog.Defaults()
	o.Users, o.Items, o.UsersMapping, o.ItemsMapping = []string{users}, []string{items}, native(schemas.Users.Name), native(schemas.Items.Name)
	o.AsOf, o.Lake, o.RunID = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), t.TempDir(), "catalog"
	plan, err := catalog.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Of(o.RunID).Close() })
	p, s := beam.NewPipelineWithRoot()
	catalog.Build(s, plan)
	all["catalog"] = p
	return all
}

// row is a row of a table of docs/runners.md.
type row struct {
	feature string
	keys    []string
	seenBy  []string
}

var (
	code     = regexp.MustCompile("`([^`]+)`")
	testName = regexp.MustCompile("`(Test\\w+(?:/\\w+)?)`")
)

// table reads the table under a heading of docs/runners.md. Keys are in its second column, tests in its last.
func table(t *testing.T, heading string) (rows []row) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "runners.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## "+heading+"\n")
	if !found {
		t.Fatalf("docs/runners.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.TrimSpace(cells[0]) == "Feature" {
			continue
		}
		r := row{feature: strings.TrimSpace(cells[0])}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			r.keys = append(r.keys, m[1])
		}
		for _, m := range testName.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			r.seenBy = append(r.seenBy, m[1])
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		t.Fatalf("docs/runners.md has no table under %q", heading)
	}
	return rows
}

// No pipeline asks a runner for a feature that docs/runners.md does not have, and what it has is asked for.
func TestFeaturesAreKnown(t *testing.T) {
	listed, refused := map[string]bool{}, map[string]string{}
	for _, r := range table(t, "What is used") {
		for _, key := range r.keys {
			listed[key] = true
		}
	}
	for _, r := range table(t, "What is not used") {
		for _, key := range r.keys {
			refused[key] = r.feature
		}
	}
	used := map[string]bool{}
	for name, p := range pipelines(t) {
		features, err := Features(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range features {
			used[f] = true
			switch {
			case refused[f] != "":
				t.Errorf("%s uses %s (%s), which does not work on all runners; see docs/runners.md", name, refused[f], f)
			case !listed[f]:
				t.Errorf("%s uses %s: see that it works on each runner, and add it to docs/runners.md", name, f)
			}
		}
	}
	for key := range listed {
		if !used[key] {
			t.Errorf("docs/runners.md has %s among what is used, and no pipeline uses it", key)
		}
	}
}

// The tests that docs/runners.md names are there.
func TestNamedTestsExist(t *testing.T) {
	declared := map[string]string{} // name -> text of the files that declare it
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declaration.FindAllSubmatch(text, -1) {
			declared[string(m[1])] += string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table(t, "What is used") {
		if len(r.seenBy) == 0 {
			t.Errorf("docs/runners.md names no test for %q", r.feature)
		}
		for _, name := range r.seenBy {
			name, part, _ := strings.Cut(name, "/")
			if text := declared[name]; text == "" || part != "" && !strings.Contains(text, `"`+part+`"`) {
				t.Errorf("docs/runners.md names %s/%s for %q, which is not there", name, part, r.feature)
			}
		}
	}
}

var declaration = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// Each feature that a pipeline may have is found.
func TestFeatures(t *testing.T) {
	tests := []struct {
		name  string
		build func(s beam.Scope)
		want  []string // among others
	}{
		{"SideInput", func(s beam.Scope) {
			beam.ParDo0(s, withSide, beam.Impulse(s), beam.SideInput{Input: beam.Impulse(s)})
		}, []string{"beam:side_input:iterable:v1"}},
		{"StateAndTimer", func(s beam.Scope) {
			beam.ParDo0(s, &statefulFn{Count: state.MakeValueState[int]("count"), Due: timers.InEventTime("due")}, beam.AddFixedKey(s, beam.Impulse(s)))
		}, []string{"beam:requirement:pardo:stateful:v1", "pardo:timer_event_time", "state:read_modify_write_spec"}},
		{"Finalizer", func(s beam.Scope) { beam.ParDo0(s, &finalizedFn{}, beam.Impulse(s)) }, []string{"pardo:finalizer"}},
		{"Sessions", func(s beam.Scope) { beam.WindowInto(s, window.NewSessions(time.Minute), beam.Impulse(s)) }, []string{"beam:window_fn:session_windows:v1"}},
		{"LateWithoutEarly", func(s beam.Scope) {
			late := trigger.AfterEndOfWindow().LateFiring(trigger.AfterCount(1))
			beam.WindowInto(s, window.NewFixedWindows(time.Minute), beam.Impulse(s), beam.Trigger(late), beam.PanesAccumulate())
		}, []string{"trigger:late_without_early", "windowing:accumulating"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, s := beam.NewPipelineWithRoot()
			test.build(s)
			got, err := Features(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !slices.Contains(got, want) {
					t.Errorf("features are %v, want %s among them", got, want)
				}
			}
		})
	}
}

func init() {
	register.Function2x0(withSide)
	register.Iter1[[]byte]()
	register.DoFn4x0[state.Provider, timers.Provider, int, []byte](&statefulFn{})
	register.DoFn2x0[beam.BundleFinalization, []byte](&finalizedFn{})
}

func withSide([]byte, func(*[]byte) bool) {}

// statefulFn has a state and a timer.
type statefulFn struct {
	Count state.Value[int]
	Due   timers.EventTime
}

func (fn *statefulFn) ProcessElement(state.Provider, timers.Provider, int, []byte) {}

func (fn *statefulFn) OnTimer(state.Provider, timers.Provider, int, timers.Context) {}

// finalizedFn wants to be told when a bundle is durable.
type finalizedFn struct{}

func (fn *finalizedFn) ProcessElement(beam.BundleFinalization, []byte) {}
