package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"backbone/transforms/lake/store"
)

// stores are the open buckets, by the URL that package store opens.
type stores map[string]*store.Store

// Close closes all of them.
func (s stores) Close() error {
	var errs []error
	for url, bucket := range s {
		errs = append(errs, bucket.Close())
		delete(s, url)
	}
	return errors.Join(errs...)
}

// bucket returns the store of a whole bucket, such as "gs://shop".
func (s stores) bucket(ctx context.Context, url, parameters string) (*store.Store, error) {
	if parameters != "" {
		url += "?" + parameters
	}
	if b, ok := s[url]; ok {
		return b, nil
	}
	b, err := store.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	s[url] = b
	return b, nil
}

// open opens the file of a task.
func (s stores) open(ctx context.Context, url, parameters string) (store.Object, error) {
	if !isRemote(url) {
		return openLocal(url)
	}
	root, key := splitRemote(url)
	b, err := s.bucket(ctx, root, parameters)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", url, err)
	}
	return b.Open(ctx, key)
}

// isRemote tells if a file is on an object store.
func isRemote(url string) bool {
	return strings.HasPrefix(url, "gs://") || strings.HasPrefix(url, "s3://")
}

// splitRemote cuts "gs://bucket/a/b" into "gs://bucket" and "a/b".
func splitRemote(url string) (root, key string) {
	scheme, rest, _ := strings.Cut(url, "://")
	bucket, key, _ := strings.Cut(rest, "/")
	return scheme + "://" + bucket, key
}

type localFile struct {
	*os.File
	size int64
}

func (f localFile) Size() int64 { return f.size }

func openLocal(name string) (store.Object, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", name, withoutPath(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is a folder or a device, not a file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("file %q: %w", name, withoutPath(err)), f.Close())
	}
	return localFile{f, info.Size()}, nil
}

// withoutPath is what is wrong, for an error that names the file itself.
func withoutPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// readHead returns the first bytes of a file.
func readHead(file store.Object) ([]byte, error) {
	head := make([]byte, min(headBytes, file.Size()))
	_, err := io.ReadFull(&exactly{file: file, size: file.Size()}, head)
	return head, err
}
