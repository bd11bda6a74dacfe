package interactions

import (
	"strings"
	"testing"
	"time"

	"backbone/transforms/lake"
)

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		want   []string // in the error; none: valid
	}{
		{"defaults", func(*Options) {}, nil},
		{"several globs", func(o *Options) { o.Input = []string{"a/*.jsonl", "gs://b/*.jsonl"} }, nil},
		{"a subscription", func(o *Options) { o.Input = []string{"pubsub://shop/events"} }, nil},
		{"no input", func(o *Options) { o.Input = nil }, []string{"input is required"}},
		{"no subscription", func(o *Options) { o.Input = []string{"pubsub://shop"} }, []string{`"pubsub://shop" is no subscription`}},
		{"a subscription and a file", func(o *Options) { o.Input = []string{"a.jsonl", "pubsub://shop/events"} }, []string{`input is "pubsub://shop/events" and 1 more`}},
		{"no lake", func(o *Options) { o.Lake = "" }, []string{"lake is required"}},
		{"no mapping", func(o *Options) { o.Mapping = nil }, []string{"mapping is required"}},
		{"no run", func(o *Options) { o.RunID = "" }, []string{"run_id is required"}},
		{"the most shards", func(o *Options) { o.Shards = 1000 }, nil},
		{"too many shards", func(o *Options) { o.Shards = 1001 }, []string{"shards is 1001"}},
		{"negative shards", func(o *Options) { o.Shards = -1 }, []string{"shards is -1"}},
		{"the shortest flush", func(o *Options) { o.FlushInterval = 100 * time.Millisecond }, nil},
		{"too short a flush", func(o *Options) { o.FlushInterval = 99 * time.Millisecond }, []string{"flush_interval is 99ms"}},
		{"the longest flush", func(o *Options) { o.FlushInterval = 5 * time.Minute }, nil},
		{"too long a flush", func(o *Options) { o.FlushInterval = 6 * time.Minute }, []string{"flush_interval is 6m0s"}},
		{"no grace", func(o *Options) { o.Grace = 0 }, nil},
		{"no range", func(o *Options) { o.RangeBytes = 0 }, []string{"range_bytes is 0"}},
		{"no record", func(o *Options) { o.MaxRecordBytes = 0 }, []string{"max_record_bytes is 0"}},
		{"less than no memory", func(o *Options) { o.ContextMemory = -1 }, []string{"context_memory is -1"}},
		{"all mistakes at once", func(o *Options) {
			*o = Options{Grace: -1, Disorder: -2, Idle: -3, Shards: -4}
		}, []string{"input", "lake", "mapping", "run_id", "shards is -4", "grace is -1ns", "disorder is -2ns", "idle is -3ns", "flush_interval is 0s", "range_bytes is 0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := Defaults()
			o.Input, o.Lake, o.RunID = []string{"events/*.jsonl"}, "lake", "run"
			tc.change(&o)
			err := o.Validate()
			if (err == nil) != (tc.want == nil) {
				t.Fatalf("Validate() = %v, want %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Validate() = %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestStreaming(t *testing.T) {
	for _, tc := range []struct {
		input        []string
		subscription string
	}{
		{[]string{"pubsub://shop/events"}, "projects/shop/subscriptions/events"},
		{[]string{"events.jsonl"}, ""},
		{[]string{"a.jsonl", "b.jsonl"}, ""},
		{nil, ""},
	} {
		o := Options{Input: tc.input, FlushInterval: 30 * time.Second, Window: lake.Hour}
		if o.Streaming() != (tc.subscription != "") || o.pubsub(o.interactions()).Subscription != tc.subscription {
			t.Errorf("%q: streaming is %v, subscription %q", tc.input, o.Streaming(), o.pubsub(o.interactions()).Subscription)
		}
		if o.pubsub(o.interactions()).Hold <= o.FlushInterval {
			t.Errorf("the watermark is held for %v, but rows may wait %v for their commit", o.pubsub(o.interactions()).Hold, o.FlushInterval)
		}
	}
}
