package catalog

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"backbone/schemas/mappings"
	"backbone/transforms/asof"
	"backbone/transforms/files"
)

// Options says what to read and where it goes.
type Options struct {
	// Users and Items are globs of their exports. One of them is required.
	Users, Items []string
	// UsersMapping and ItemsMapping say how records become rows. Default: the native formats.
	UsersMapping, ItemsMapping *mappings.Mapping
	// Mode says what an export tells of rows that it does not have. Default: full.
	Mode asof.Mode
	// AsOf is the time at which the exports show the world, in whole seconds. Required.
	AsOf time.Time
	// Lake is a folder, gs://bucket/prefix or s3://bucket/prefix. Required.
	Lake string
	// Shards is how many files a version has at least, a power of two. Default: those of the version before, or as the input is large.
	Shards int
	// MaxDeleteFraction is the share of the live rows that a full export may delete by not having them. Default: 0.2.
	MaxDeleteFraction float64
	// Retain is how many versions keep their files; 0: all. Default: 0.
	Retain int
	// SpillDir is a local folder where rows wait to be merged. Default: none, they travel inline.
	SpillDir string
	// RangeBytes is how much of a file is read at a time. Default: 8 MiB.
	RangeBytes int64
	// MaxRecordBytes is the size of the largest record. Default: 4 MiB.
	MaxRecordBytes int
	// RunID names the launch. Required.
	RunID string
	// DryRun has Prepare write nothing: what is built of it is for being looked at, not for being run.
	DryRun bool
}

// Defaults returns the options that hold where nothing else is said.
func Defaults() Options {
	return Options{Mode: asof.Full, MaxDeleteFraction: 0.2, RangeBytes: files.Defaults().RangeBytes, MaxRecordBytes: 4 << 20}
}

// Validate reports every mistake at once; each names the option, its value and what would do.
func (o Options) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Users) == 0 && len(o.Items) == 0 {
		fail("users and items are both missing: give a glob of the exports of one at least")
	}
	if len(o.Users) > 0 && o.UsersMapping == nil {
		fail("users_mapping is required")
	}
	if len(o.Items) > 0 && o.ItemsMapping == nil {
		fail("items_mapping is required")
	}
	if o.Mode != asof.Full && o.Mode != asof.Delta {
		fail("mode is %q; it must be full (what an export does not have is deleted) or delta (it stays as it is)", o.Mode)
	}
	switch {
	case o.AsOf.IsZero():
		fail("as_of is required: the time at which the exports show the world, such as 2026-03-01T00:00:00Z")
	case !o.AsOf.Equal(o.AsOf.Truncate(time.Second)):
		fail("as_of is %s; it must be whole seconds", o.AsOf.Format(time.RFC3339Nano))
	case o.AsOf.Year() < 1970 || o.AsOf.After(time.Now().Add(24*time.Hour)):
		fail("as_of is %s; it must be between 1970 and 24 hours from now", o.AsOf.Format(time.RFC3339))
	}
	if o.Lake == "" {
		fail("lake is required: a folder, gs://bucket/prefix or s3://bucket/prefix")
	}
	if o.Shards < 0 || o.Shards > 1024 || bits.OnesCount(uint(max(0, o.Shards))) > 1 {
		fail("shards is %d; it must be a power of two up to 1024, or 0 for as many as are of use", o.Shards)
	}
	if !(o.MaxDeleteFraction >= 0 && o.MaxDeleteFraction <= 1) {
		fail("max_delete_fraction is %v; it must be between 0 (none) and 1 (all)", o.MaxDeleteFraction)
	}
	if o.Retain < 0 {
		fail("retain is %d; it must be 1 or more, or 0 for all", o.Retain)
	}
	if o.RangeBytes < 1 || o.MaxRecordBytes < 1 {
		fail("range_bytes is %d and max_record_bytes is %d; both must be at least 1", o.RangeBytes, o.MaxRecordBytes)
	}
	if o.RunID == "" {
		fail("run_id is required")
	}
	return errors.Join(errs...)
}

// files returns how files are read, whatever part of a mapping they are for.
func (o Options) files() files.Options {
	f := files.Defaults()
	f.RangeBytes, f.MaxRecordBytes = o.RangeBytes, o.MaxRecordBytes
	return f
}
