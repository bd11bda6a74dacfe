// Package driver is what a backend of the lake's store implements.
//
// Users call package store; a backend (localstore, gcsstore, s3store, or one of your own) implements
// Driver and proves itself with storetest.RunConformance.
package driver

import (
	"context"
	"io"
	"iter"
	"time"
)

// Driver is one folder of a disk, or one prefix of a bucket.
//
// Its methods must be safe for many goroutines at once, and for many processes on the same place.
// Keys and prefixes have passed CheckKey and CheckPrefix before a method is called: package store does that.
//
// Errors: a method must mark what it knows about an error with one of the sentinels of this package
// (errors.Is). An error without a mark means "unknown": the operation may or may not have happened.
type Driver interface {
	// Create must make key with exactly body, in one atomic step, and only if no object of that name exists.
	//
	// When it returns nil the object is durable: it must outlive a loss of power or of a zone, as far as the
	// backend promises anything at all. When the name is taken the error must be ErrExists; that may also be said
	// about an object of the caller's own, after a reply was lost. After any other error the object may
	// or may not exist, but whole, never in part. When ctx ends before the step, nothing must be left.
	//
	// Create must not change or keep body. It should not try again by itself: package store does, and settles what came of it.
	Create(ctx context.Context, key string, body []byte) error

	// Open returns a reader of the object as it is now. A missing object is ErrNotFound. ctx bounds the reading too.
	// The caller must call Close exactly once.
	Open(ctx context.Context, key string) (Object, error)

	// List yields every object whose key starts with prefix (plain text, as object stores have it; "" is all), sorted by
	// the bytes of the key. An object whose Create has returned nil must be shown; temporary and partly written ones never.
	// A prefix with nothing under it is an empty list. After an error it must yield nothing more.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]

	// ListDir yields what stands directly in the folder dir ("" is the top): objects, and one entry with a key that ends
	// in "/" for each folder, sorted by the bytes of the key. It may show a folder that holds no object (yet).
	ListDir(ctx context.Context, dir string) iter.Seq2[Entry, error]

	// Sync makes durable every object of the folder dir that can already be seen. A writer that relies on an object which it did not
	// create itself must call it first: on a disk, the name that another process has just linked may not outlive a loss of power yet.
	// Where what can be seen is always durable (object stores) it does nothing. A missing folder is no error.
	Sync(ctx context.Context, dir string) error

	// Remove deletes the object. A missing one is no error. It need not be durable: the object may come back after a loss of power.
	Remove(ctx context.Context, key string) error

	// URL returns the place in the form that store.Open takes, absolute and never with credentials.
	URL() string

	// Close frees connections. It is called exactly once, after all else.
	Close() error
}

// Object is an open object. ReadAt must be safe for many goroutines, must return io.EOF itself only at the end (what wraps it is an error of a
// connection), and must never mix the bytes of two objects that had the same name one after the other.
type Object interface {
	io.ReaderAt
	io.Closer

	// Size returns the number of bytes.
	Size() int64
}

// Entry is one line of a list.
type Entry struct {
	// Key of the object; of a folder if it ends in "/" (ListDir only).
	Key string
	// Size in bytes; 0 for a folder.
	Size int64
	// Modified is the time of creation as the backend's clock has it; zero for a folder.
	Modified time.Time
}
