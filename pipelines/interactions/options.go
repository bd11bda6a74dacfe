package interactions

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/contextjoin"
	"backbone/transforms/files"
	"backbone/transforms/lake"
	"backbone/transforms/pubsub"
	"backbone/transforms/windows"
)

// Options says what to read and where it goes.
type Options struct {
	// Input is a glob, several of them, or one pubsub://PROJECT/SUBSCRIPTION. Required.
	Input []string
	// Mapping says how records become interactions. Default: the native format.
	Mapping *mappings.Mapping
	// Context is the input of contexts, to which interactions are joined by session: of the same kind as Input. Default: none.
	Context []string
	// ContextMapping says how its records become contexts. Default: the native format.
	ContextMapping *mappings.Mapping
	// ContextTTL is how long a context holds, if no other follows. Default: 24 h.
	ContextTTL time.Duration
	// ContextWait is how much later than an interaction its context may come in a stream. Default: 10 s.
	ContextWait time.Duration
	// ContextFlush is how long a context of a stream waits for its commit, at most. Default: 2 s.
	ContextFlush time.Duration
	// ContextMemory is what the contexts that interactions are joined to may take, in bytes: about 150 for a session, and what it says
	// once for all that say the same. Others are read from the lake again when they are needed. Default: that of package contextjoin.
	ContextMemory int64
	// Lake is a folder, gs://bucket/prefix or s3://bucket/prefix. Required.
	Lake string
	// Window is the event time that one partition holds. Default: that of the table, or 1 h for a new one.
	Window lake.Window
	// Shards is the number of files that a partition is written to side by side. Default: that of the table, or 1.
	Shards int
	// FlushInterval is how long a row of a stream waits for its commit, at most. Default: 30 s.
	FlushInterval time.Duration
	// Grace is how long after its end a partition is still awaiting rows, until it is marked complete. Default: 15 min.
	Grace time.Duration
	// GeoDB is a MaxMind database file, from which places are derived. Default: none.
	GeoDB string
	// SpillDir is a local folder where chunks wait for the sink. Default: none, they travel inline.
	SpillDir string
	// RangeBytes is how much of a file is read at a time. Default: 8 MiB.
	RangeBytes int64
	// MaxRecordBytes is the size of the largest record. Default: 1 MiB.
	MaxRecordBytes int
	// Limits of a file in the lake. Default: those of package lake.
	Limits lake.Limits
	// IDMemory is what remembered event ids may take, in bytes: 16 for each. Those of a partition that is written to again are
	// read from the lake where they were forgotten, so it should hold the open partitions. Default: that of package lake.
	IDMemory int64
	// TimestampAttribute is the message attribute that holds the event time where the event does not: RFC 3339, or
	// milliseconds since 1970.
	TimestampAttribute string
	// IDAttribute is the message attribute that holds the event id where the event does not.
	IDAttribute string
	// Disorder is how much earlier than the latest another event of a stream may be that is not late. Default: 10 s.
	Disorder time.Duration
	// Idle is how long a stream has to be silent until its watermark follows the clock. Default: 30 s.
	Idle time.Duration
	// MaxOutstanding bounds the messages that were received and not acknowledged. Default: that of package pubsub.
	MaxOutstanding int64
	// Windows says which results of windows are computed of the interactions. Default: none. Its URL, RunID, Layout, Grace and
	// Bounded are those of the pipeline.
	Windows windows.Options
	// RunID names the launch. Required.
	RunID string
	// DryRun has Prepare write nothing: what is built of it is for being looked at, not for being run.
	DryRun bool
	// Remote says that what is built runs in other processes than the launcher's: on a cluster. A stream is drained by
	// lake.RequestDrain then.
	Remote bool
	// Native says that messages are read, and acknowledged, by a source that the runner has of its own, as Dataflow does. A stream is drained by the
	// runner then.
	Native bool
	// Lanes are how many readers of a subscription there are, on different workers where there are some. Default: 1.
	Lanes int
}

// Defaults returns the options that hold where nothing else is said.
func Defaults() Options {
	read := files.Defaults()
	return Options{
		Mapping: mappings.Native(), FlushInterval: 30 * time.Second, Grace: 15 * time.Minute,
		Disorder: 10 * time.Second, Idle: 30 * time.Second,
		Windows:    windows.Defaults(),
		ContextTTL: 24 * time.Hour, ContextWait: 10 * time.Second, ContextFlush: 2 * time.Second,
		RangeBytes: read.RangeBytes, MaxRecordBytes: read.MaxRecordBytes,
	}
}

// Validate reports every mistake at once; each names the option, its value and what would do.
func (o Options) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Input) == 0 {
		fail("input is required: a glob, or pubsub://PROJECT/SUBSCRIPTION")
	}
	for _, in := range o.Input {
		_, isPubSub, err := pubsub.ParseURL(in)
		if err != nil {
			errs = append(errs, fmt.Errorf("input: %w", err))
		}
		if isPubSub && len(o.Input) > 1 {
			fail("input is %q and %d more; a subscription is read by itself", in, len(o.Input)-1)
		}
	}
	for _, in := range o.Context {
		_, isPubSub, err := pubsub.ParseURL(in)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("context: %w", err))
		case isPubSub && len(o.Context) > 1:
			fail("context is %q and %d more; a subscription is read by itself", in, len(o.Context)-1)
		case isPubSub != o.Streaming():
			fail("context is %q and input is %q; both must be files, or both a subscription", in, o.Input)
		case slices.Contains(o.Input, in):
			fail("context is %q, and so is input; contexts come by themselves", in)
		}
	}
	if len(o.Context) > 0 && o.ContextMapping == nil {
		fail("context_mapping is required")
	}
	if o.ContextTTL <= 0 {
		fail("context_ttl is %v; it must be more than 0", o.ContextTTL)
	}
	if o.ContextWait < 0 || o.ContextWait > 3*time.Minute {
		fail("context_wait is %v; it must be between 0 and 3m, since messages have to be acknowledged within 10m", o.ContextWait)
	}
	if o.ContextFlush < 100*time.Millisecond || o.ContextFlush > time.Minute {
		fail("context_flush is %v; it must be between 100ms and 1m", o.ContextFlush)
	}
	if o.Lake == "" {
		fail("lake is required: a folder, gs://bucket/prefix or s3://bucket/prefix")
	}
	if o.Mapping == nil {
		fail("mapping is required")
	}
	if o.Shards < 0 || o.Shards > 1000 {
		fail("shards is %d; it must be between 1 and 1000, or 0 for those of the table", o.Shards)
	}
	if o.FlushInterval < 100*time.Millisecond || o.FlushInterval > 5*time.Minute {
		fail("flush_interval is %v; it must be between 100ms and 5m, since messages have to be acknowledged within 10m", o.FlushInterval)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"grace", o.Grace}, {"disorder", o.Disorder}, {"idle", o.Idle}} {
		if d.value < 0 {
			fail("%s is %v; it must not be negative", d.name, d.value)
		}
	}
	if o.RangeBytes < 1 || o.MaxRecordBytes < 1 {
		fail("range_bytes is %d and max_record_bytes is %d; both must be at least 1", o.RangeBytes, o.MaxRecordBytes)
	}
	if o.ContextMemory < 0 {
		fail("context_memory is %d; it must be 1 or more, or 0 for the default", o.ContextMemory)
	}
	if o.IDMemory < 0 {
		fail("id_memory is %d; it must be 1 or more, or 0 for the default", o.IDMemory)
	}
	if o.hasWindows() {
		errs = append(errs, o.Windows.Validate())
	}
	if o.RunID == "" {
		fail("run_id is required")
	}
	return errors.Join(errs...)
}

// Streaming reports whether the input never ends by itself.
func (o Options) Streaming() bool {
	_, ok := subscription(o.Input)
	return ok
}

// subscription returns the subscription that an input is; ok is false where it is files.
func subscription(urls []string) (name string, ok bool) {
	if len(urls) != 1 {
		return "", false
	}
	name, ok, _ = pubsub.ParseURL(urls[0]) // Validate has reported the error
	return name, ok
}

// hasContexts reports whether interactions are joined.
func (o Options) hasContexts() bool { return len(o.Context) > 0 }

// Remembered returns what contexts and windows may take of the memory, in bytes: what rows and their ids need is not in it.
func (o Options) Remembered() (bytes int64) {
	if o.hasContexts() {
		if bytes = o.ContextMemory; bytes == 0 {
			bytes = contextjoin.Memory
		}
	}
	if o.hasWindows() {
		bytes += windows.Memory
	}
	return bytes
}

// hasWindows reports whether results of windows are computed.
func (o Options) hasWindows() bool { return len(o.Windows.Tables) > 0 }

// input is one of the two that the pipeline may have.
type input struct {
	table   string // of its rows
	urls    []string
	mapping *mappings.Mapping
	flush   time.Duration // how long a row waits for its commit
	delay   time.Duration // how long a message waits before it is looked at
}

// interactions returns the input of interactions. Where there are contexts, they get ahead: besides what they may be late,
// they have to be read, committed and seen in the lake.
func (o Options) interactions() input {
	in := input{table: schemas.Interactions.Name, urls: o.Input, mapping: o.Mapping, flush: o.FlushInterval}
	if o.hasContexts() {
		in.delay = o.ContextWait + o.ContextFlush + contextRefresh + 2*time.Second
	}
	return in
}

// contexts returns the input of contexts.
func (o Options) contexts() input {
	return input{table: schemas.Contexts.Name, urls: o.Context, mapping: o.ContextMapping, flush: o.ContextFlush}
}

// contextRefresh is how old the list of the files with contexts may be, in a stream.
const contextRefresh = time.Second

// pubsub returns how the subscription of an input is read.
func (o Options) pubsub(in input) pubsub.Options {
	name, _ := subscription(in.urls)
	drain := ""
	if o.Remote {
		drain = o.Lake
	}
	return pubsub.Options{
		Subscription: name, RunID: o.RunID, Disorder: o.Disorder, Idle: o.Idle, MaxOutstanding: o.MaxOutstanding, Delay: in.delay,
		Lake: drain, Lanes: o.Lanes,
		// The watermark waits until what made it move is committed.
		Hold: in.flush + 2*time.Second,
	}.WithDefaults()
}

// files returns how the files of a mapping are read.
func (o Options) files(m *mappings.Mapping) files.Options {
	f := files.For(m)
	f.RangeBytes, f.MaxRecordBytes = o.RangeBytes, o.MaxRecordBytes
	return f
}
