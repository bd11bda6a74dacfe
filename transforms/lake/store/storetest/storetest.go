// Package storetest proves that a backend keeps the promises of the lake's store.
//
// A backend calls RunConformance from its own test. The names of the subtests are the list of guarantees.
package storetest

import (
	"testing"

	"backbone/transforms/lake/store/driver"
)

// Harness is one empty place, and what can be done to it. The suite skips what a backend does not have.
type Harness struct {
	// Open returns a driver for the place: at each call a new one, as of another process. The suite closes it. Required.
	Open func() (driver.Driver, error)

	// Network is what stands between the drivers and the server. Nil where there is none.
	Network Network

	// Full returns a driver for a place on which 1 MiB can be written, but not 4 MiB. Nil where space has no end.
	Full func(t *testing.T) driver.Driver

	// KillBeforeLink starts another process that creates key, and kills it with SIGKILL when the whole body
	// is written but does not have its name yet. Nil where an object is written by somebody else's process.
	KillBeforeLink func(t *testing.T, key string, body []byte)
}

// Network breaks writes on their way (faults.Proxy does). A negative n means for ever.
type Network interface {
	// Answer answers n writes with an HTTP status; the server does not see them.
	Answer(n, status int)
	// DropReplies lets n writes happen, but not their replies.
	DropReplies(n int)
	// CutBodies breaks n writes off in the middle of their body.
	CutBodies(n int)
	// Hold keeps the next write from the server until the client gives up; arrived is closed once it has come.
	Hold() (arrived <-chan struct{})
	// Heal ends all that.
	Heal()
	// Writes returns how many writes have come.
	Writes() int
}

// RunConformance runs the suite. newHarness is called once for each subtest; it registers with t what has to be cleaned up.
func RunConformance(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"CreateThenRead", testCreateThenRead},
		{"MissingIsNotFound", testMissingIsNotFound},
		{"SecondCreateIsRefused", testSecondCreateIsRefused},
		{"TwoWritersOneWins", testTwoWritersOneWins},
		{"TwoWritersOneWinsAbove16MiB", testTwoWritersOneWinsAbove16MiB},
		{"ReplyLostAfterCommit", testReplyLostAfterCommit},
		{"AlwaysLostReplies", testAlwaysLostReplies},
		{"Conflict409", testAnswer(409)},
		{"Refused412", testAnswer(412)},
		{"Throttled429", testAnswer(429)},
		{"Unavailable503", testAnswer(503)},
		{"Forbidden403IsNotTriedAgain", testForbidden},
		{"BrokenUpload", testBrokenUpload},
		{"ServerThatNeverAnswers", testServerThatNeverAnswers},
		{"CancelledCreateLeavesNothing", testCancelledCreateLeavesNothing},
		{"FailingClose", testFailingClose},
		{"ListIsSortedByKey", testListIsSortedByKey},
		{"ListDirShowsOneFolder", testListDirShowsOneFolder},
		{"ListShowsOnlyWholeObjects", testListShowsOnlyWholeObjects},
		{"RemoveThenCreate", testRemoveThenCreate},
		{"KeysFromDataAreRefused", testKeysFromDataAreRefused},
		{"OddKeysAreKept", testOddKeysAreKept},
		{"FullDisk", testFullDisk},
		{"KillBetweenWriteAndLink", testKillBetweenWriteAndLink},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHarness(t)
			if h.Network != nil {
				t.Cleanup(h.Network.Heal)
			}
			test.run(t, h)
		})
	}
}
