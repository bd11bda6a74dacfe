package graph

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	register.DoFn2x0[[]byte, func(int, int)](&countTo{})
	register.Function2x0(drop)
	register.Emitter2[int, int]()
}

type countTo struct{ N int }

func (fn *countTo) ProcessElement(_ []byte, emit func(int, int)) { emit(fn.N, fn.N) }

func drop(int, func(*int) bool) {}

func graphWith(t *testing.T, n int, w *window.Fn, tr trigger.Trigger, more bool) []string {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	counted := beam.ParDo(s, &countTo{n}, beam.Impulse(s))
	beam.ParDo0(s, drop, beam.GroupByKey(s, beam.WindowInto(s, w, counted, beam.Trigger(tr), beam.PanesDiscard(), beam.AllowedLateness(time.Hour))))
	if more {
		beam.ParDo(s, &countTo{n}, beam.Impulse(s))
	}
	pipeline, err := Marshal(p, &pipepb.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	return Of(pipeline)
}

// State can be taken over where the steps, their coders, windows and triggers are the same, whatever functions do and how long they wait.
func TestGraph(t *testing.T) {
	after := func(d time.Duration) trigger.Trigger {
		return trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(d))
	}
	global, fixed := window.NewGlobalWindows(), window.NewFixedWindows(time.Minute)
	before := graphWith(t, 1, global, after(time.Second), false)
	for _, test := range []struct {
		name  string
		after []string
		want  string // in the difference; "": there is none
	}{
		{"Same", graphWith(t, 1, global, after(time.Second), false), ""},
		{"Configured otherwise", graphWith(t, 2, global, after(time.Hour), false), ""},
		{"Other windows", graphWith(t, 1, fixed, after(time.Second), false), "fixed_windows"},
		{"Another trigger", graphWith(t, 1, global, trigger.Repeat(trigger.AfterCount(1)), false), "element_count"},
		{"One more step", graphWith(t, 1, global, after(time.Second), true), "+ "},
		{"One less", before[:len(before)-1], "- "},
		{"Another order", append(before[1:len(before):len(before)], before[0]), "order"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(Difference(before, test.after), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("difference %q, want %q in it", got, test.want)
			}
		})
	}
}
