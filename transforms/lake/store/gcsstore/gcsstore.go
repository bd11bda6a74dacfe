// Package gcsstore keeps the lake under a prefix of a Google Cloud Storage bucket.
//
// A create is one request with ifGenerationMatch=0 and a CRC-32C that the service checks. The client's own retries are off for it: after a lost
// reply they would report the refusal of the caller's own object, and package store settles that by reading back.
//
// Credentials are the application default ones; STORAGE_EMULATOR_HOST is honoured.
//
// # Limits
//
//   - A create is not resumable: a connection that breaks sends the whole object again.
//   - A missing bucket is an error of a list or a create; to Open it is a missing object, as the service does not say more.
package gcsstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	"backbone/transforms/lake/store/driver"
)

// Driver is a prefix of a bucket.
type Driver struct {
	client *storage.Client
	bucket *storage.BucketHandle
	url    string
	prefix string // "" or with "/" at its end
}

var _ driver.Driver = (*Driver)(nil)

// New returns a driver for the prefix ("" is the whole bucket) of a bucket. It asks for credentials, but not for the bucket.
func New(ctx context.Context, bucket, prefix string) (*Driver, error) {
	if err := driver.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	if bucket == "" {
		return nil, errors.New("the bucket is missing: write gs://bucket/prefix")
	}
	d := &Driver{url: "gs://" + bucket}
	if prefix = strings.TrimSuffix(prefix, "/"); prefix != "" {
		d.url += "/" + prefix
		d.prefix = prefix + "/"
	}
	var err error
	// The client outlives the caller's ctx. JSON, as then everything is one API: that of the emulators too.
	d.client, err = storage.NewClient(context.WithoutCancel(ctx), storage.WithJSONReads())
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	// For what can be asked twice. Package store is who decides how long to go on.
	d.client.SetRetry(storage.WithMaxAttempts(3), storage.WithBackoff(gax.Backoff{Initial: 100 * time.Millisecond, Max: 2 * time.Second, Multiplier: 2}))
	d.bucket = d.client.Bucket(bucket)
	return d, nil
}

// URL returns gs://bucket/prefix.
func (d *Driver) URL() string { return d.url }

// Close closes the client.
func (d *Driver) Close() error { return d.client.Close() }

func (d *Driver) object(key string) *storage.ObjectHandle { return d.bucket.Object(d.prefix + key) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Create implements driver.Driver.
func (d *Driver) Create(ctx context.Context, key string, body []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := d.object(key).If(storage.Conditions{DoesNotExist: true}).Retryer(storage.WithPolicy(storage.RetryNever)).NewWriter(ctx)
	w.ChunkSize = 0 // One request: the condition of a resumable upload is that of its start.
	w.ContentType = "application/octet-stream"
	w.CRC32C, w.SendCRC32C = crc32.Checksum(body, castagnoli), true
	if _, err := w.Write(body); err != nil {
		cancel() // Close alone would commit what was written so far.
		return classify(errors.Join(err, w.Close()))
	}
	return classify(w.Close())
}

// Open implements driver.Driver.
func (d *Driver) Open(ctx context.Context, key string) (driver.Object, error) {
	attrs, err := d.object(key).Attrs(ctx)
	if err != nil {
		return nil, classify(err)
	}
	return &object{ctx: ctx, handle: d.object(key).Generation(attrs.Generation), size: attrs.Size}, nil
}

// object is one generation of an object: its bytes never change.
type object struct {
	ctx    context.Context
	handle *storage.ObjectHandle
	size   int64
}

func (o *object) Size() int64  { return o.size }
func (o *object) Close() error { return nil }

func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, driver.Markf(driver.ErrPermanent, "read at %d", off)
	}
	want := min(int64(len(p)), o.size-off)
	if want > 0 {
		r, err := o.handle.NewRangeReader(o.ctx, off, want)
		if err != nil {
			return 0, classify(err)
		}
		n, err = io.ReadFull(r, p[:want])
		if err = errors.Join(err, r.Close()); err != nil {
			return n, classify(fmt.Errorf("after %d of %d bytes: %w", n, want, err))
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[driver.Entry, error] {
	return d.list(ctx, prefix, "")
}

// ListDir implements driver.Driver.
func (d *Driver) ListDir(ctx context.Context, dir string) iter.Seq2[driver.Entry, error] {
	return func(yield func(driver.Entry, error) bool) {
		if dir != "" {
			dir += "/"
		}
		// A page has its objects first, and then its folders: sort what there is.
		var entries []driver.Entry
		for e, err := range d.list(ctx, dir, "/") {
			if err != nil {
				yield(e, err)
				return
			}
			entries = append(entries, e)
		}
		slices.SortFunc(entries, func(a, b driver.Entry) int { return cmp.Compare(a.Key, b.Key) })
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (d *Driver) list(ctx context.Context, prefix, delimiter string) iter.Seq2[driver.Entry, error] {
	return func(yield func(driver.Entry, error) bool) {
		query := &storage.Query{Prefix: d.prefix + prefix, Delimiter: delimiter, Projection: storage.ProjectionNoACL}
		if err := query.SetAttrSelection([]string{"Name", "Size", "Created"}); err != nil {
			yield(driver.Entry{}, err)
			return
		}
		objects := d.bucket.Objects(ctx, query)
		for {
			o, err := objects.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(driver.Entry{}, classify(err))
				return
			}
			e := driver.Entry{Key: strings.TrimPrefix(o.Name, d.prefix), Size: o.Size, Modified: o.Created}
			if o.Prefix != "" {
				e = driver.Entry{Key: strings.TrimPrefix(o.Prefix, d.prefix)}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Sync does nothing: what can be seen in a bucket is durable.
func (d *Driver) Sync(context.Context, string) error { return nil }

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, key string) error {
	err := classify(d.object(key).Delete(ctx))
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	return err
}

// classify marks an error with what a caller can do about it. One without an answer of the service stays unknown.
func classify(err error) error {
	if errors.Is(err, storage.ErrObjectNotExist) {
		return driver.Mark(driver.ErrNotFound, err)
	}
	if errors.Is(err, storage.ErrBucketNotExist) {
		return driver.Mark(driver.ErrPermanent, err)
	}
	var answer *googleapi.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch code := answer.Code; {
	case code == http.StatusPreconditionFailed:
		return driver.Mark(driver.ErrExists, err)
	case code == http.StatusConflict, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return driver.Mark(driver.ErrTransient, err)
	default:
		return driver.Mark(driver.ErrPermanent, err)
	}
}
