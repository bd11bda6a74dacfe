package dataflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/api/iterator"
)

// bucket is Cloud Storage, as whoever submits a job sees it.
type bucket struct{ client *storage.Client }

func openStorage(ctx context.Context) (bucket, error) {
	client, err := storage.NewClient(context.WithoutCancel(ctx), storage.WithJSONReads())
	if err != nil {
		return bucket{}, fmt.Errorf("credentials of Google Cloud: %w; log in by gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS", err)
	}
	client.SetRetry(storage.WithPolicy(storage.RetryAlways), storage.WithMaxAttempts(6)) // what is written twice is the same
	return bucket{client}, nil
}

func (b bucket) object(url string) (*storage.ObjectHandle, error) {
	name, object, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return b.client.Bucket(name).Object(object), nil
}

// withStorage does something with Cloud Storage.
func withStorage(ctx context.Context, do func(bucket) error) (err error) {
	b, err := openStorage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.client.Close()) }()
	return do(b)
}

// probe sees that one may write wherever something is staged, and that the bucket of the lake is there, before what is large is made or sent.
func (o Options) probe(ctx context.Context) error {
	return withStorage(ctx, func(b bucket) error {
		for _, at := range []struct{ flag, url, object string }{
			{"staging_location", o.StagingLocation, strings.TrimRight(o.StagingLocation, "/") + "/jobs/" + o.RunID + "/probe"},
			{"temp_location", o.temp(), o.temp() + "/backbone-" + o.RunID},
			{"template_location", o.TemplateLocation, o.TemplateLocation + ".probe-" + o.RunID},
		} {
			if at.url == "" {
				continue
			}
			if err := b.probe(ctx, at.object); err != nil {
				return fmt.Errorf("%s %s cannot be written to: %w", at.flag, at.url, err)
			}
		}
		return b.readable(ctx, o.Lake)
	})
}

// readable sees that a folder can be read.
func (b bucket) readable(ctx context.Context, url string) error {
	name, folder, err := parseURL(url)
	if err != nil {
		return fmt.Errorf("lake %s: %w", url, err)
	}
	all := b.client.Bucket(name).Objects(ctx, &storage.Query{Prefix: folder + "/"})
	all.PageInfo().MaxSize = 1
	if _, err := all.Next(); err != nil && !errors.Is(err, iterator.Done) {
		return fmt.Errorf("lake %s cannot be read: %w", url, missing(err))
	}
	return nil
}

// stage puts what a job is made of into Cloud Storage.
func (o Options) stage(ctx context.Context, s staged) error {
	return withStorage(ctx, func(b bucket) error {
		if err := b.write(ctx, s.modelURL, bytes.NewReader(s.model)); err != nil {
			return fmt.Errorf("staging_location %s cannot be written to: %w", o.StagingLocation, err)
		}
		return b.sendWorker(ctx, s)
	})
}

// writeTemplate writes the request for a job to where templates are launched from, in the place of what was there.
func (o Options) writeTemplate(ctx context.Context, request *df.Job) error {
	body, err := json.MarshalIndent(request, "", "  ")
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	if err := WriteObject(ctx, o.TemplateLocation, body); err != nil {
		return fmt.Errorf("template_location %s cannot be written to: %w", o.TemplateLocation, err)
	}
	slog.Info("the template is written, and no job was made", "template", o.TemplateLocation)
	return nil
}

// WriteObject writes an object of Cloud Storage, in the place of one that was there. The url is gs://BUCKET/OBJECT.
func WriteObject(ctx context.Context, url string, body []byte) error {
	return withStorage(ctx, func(b bucket) error { return b.write(ctx, url, bytes.NewReader(body)) })
}

// probe writes an object, and removes it.
func (b bucket) probe(ctx context.Context, url string) error {
	if err := b.write(ctx, url, bytes.NewReader(nil)); err != nil {
		return err
	}
	object, err := b.object(url)
	if err != nil {
		return err
	}
	if err := object.Delete(ctx); err != nil && !errors.Is(err, storage.ErrObjectNotExist) {
		slog.Debug("an object that was written for a try is left", "url", url, "error", err) // it is empty, and among temporary files
	}
	return nil
}

// sendWorker sends the worker binary, unless it is there.
func (b bucket) sendWorker(ctx context.Context, s staged) error {
	object, err := b.object(s.workerURL)
	if err != nil {
		return err
	}
	there, err := object.Attrs(ctx)
	switch {
	case err == nil && there.Size == s.worker.size && there.CRC32C == s.worker.crc32c:
		slog.Info("the worker binary is there", "url", s.workerURL)
		return nil
	case err != nil && !errors.Is(err, storage.ErrObjectNotExist):
		return fmt.Errorf("worker binary %s: %w", s.workerURL, plain(err))
	}
	slog.Info("sending the worker binary", "url", s.workerURL, "bytes", s.worker.size)
	began := time.Now()
	f, err := os.Open(s.worker.path)
	if err != nil {
		return fmt.Errorf("worker binary: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	if err := b.write(ctx, s.workerURL, f); err != nil {
		return fmt.Errorf("send the worker binary to %s: %w", s.workerURL, err)
	}
	sent, err := object.Attrs(ctx)
	if err != nil {
		return fmt.Errorf("worker binary %s: %w", s.workerURL, plain(err))
	}
	if sent.Size != s.worker.size || sent.CRC32C != s.worker.crc32c {
		return fmt.Errorf("worker binary %s: what is there is not what was sent: has %s changed meanwhile?", s.workerURL, s.worker.path)
	}
	slog.Debug("the worker binary is sent", "seconds", time.Since(began).Seconds())
	return nil
}

// write writes an object.
func (b bucket) write(ctx context.Context, url string, body io.Reader) error {
	object, err := b.object(url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := object.NewWriter(ctx)
	w.ContentType = "application/octet-stream"
	if _, err := io.Copy(w, body); err != nil {
		cancel() // Close alone would write what came so far
		return missing(errors.Join(err, w.Close()))
	}
	return missing(w.Close())
}

// missing says that a bucket is, where it is.
func missing(err error) error {
	err = plain(err)
	if codeOf(err) == http.StatusNotFound || errors.Is(err, storage.ErrBucketNotExist) {
		return fmt.Errorf("the bucket is not there, make it first: %w", err)
	}
	return err
}
