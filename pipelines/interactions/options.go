package interactions

import (
	"errors"
	"fmt"
	"time"

	"backbone/schemas/mappings"
	"backbone/transforms/files"
	"backbone/transforms/lake"
	"backbone/transforms/pubsub"
)

// Options says what to read and where it goes.
type Options struct {
	// Input is a glob, several of them, or one pubsub://PROJECT/SUBSCRIPTION. Required.
	Input []string
	// Mapping says how records become interactions. Default: the native format.
	Mapping *mappings.Mapping
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
	// RunID names the launch. Required.
	RunID string
}

// Defaults returns the options that hold where nothing else is said.
func Defaults() Options {
	read := files.Defaults()
	return Options{
		Mapping: mappings.Native(), FlushInterval: 30 * time.Second, Grace: 15 * time.Minute,
		Disorder: 10 * time.Second, Idle: 30 * time.Second,
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
	if o.IDMemory < 0 {
		fail("id_memory is %d; it must be 1 or more, or 0 for the default", o.IDMemory)
	}
	if o.RunID == "" {
		fail("run_id is required")
	}
	return errors.Join(errs...)
}

// Streaming reports whether the input never ends by itself.
func (o Options) Streaming() bool {
	_, ok := o.subscription()
	return ok
}

// subscription returns the subscription that is read; ok is false where files are.
func (o Options) subscription() (name string, ok bool) {
	if len(o.Input) != 1 {
		return "", false
	}
	name, ok, _ = pubsub.ParseURL(o.Input[0]) // Validate has reported the error
	return name, ok
}

// pubsub returns how the subscription is read.
func (o Options) pubsub() pubsub.Options {
	name, _ := o.subscription()
	return pubsub.Options{
		Subscription: name, RunID: o.RunID, Disorder: o.Disorder, Idle: o.Idle, MaxOutstanding: o.MaxOutstanding,
		// The watermark waits until what made it move is committed.
		Hold: o.FlushInterval + 2*time.Second,
	}.WithDefaults()
}

// files returns how files are read.
func (o Options) files() files.Options {
	f := files.For(o.Mapping)
	f.RangeBytes, f.MaxRecordBytes = o.RangeBytes, o.MaxRecordBytes
	return f
}
