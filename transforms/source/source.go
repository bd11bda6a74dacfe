// Package source holds what every kind of input has in common.
//
// Files (package files) and subscriptions (package pubsub) both give a PCollection<[]byte> of batches, each
// of which is read as a sequence of Records.
package source
