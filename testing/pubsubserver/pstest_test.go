package pubsubserver_test

import (
	"testing"

	"cloud.google.com/go/pubsub/v2/pstest"

	"backbone/testing/pubsubserver/pubsubtest"
)

// TestConformanceOfGooglesFake holds the suite against Google's own fake, so that the suite does not drift away from
// what others take Pub/Sub to be.
func TestConformanceOfGooglesFake(t *testing.T) {
	pubsubtest.RunConformance(t, func(t *testing.T) pubsubtest.Harness {
		t.Helper()
		s := pstest.NewServer()
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return pubsubtest.Harness{Addr: s.Addr, Skip: knownOfGooglesFake}
	})
}

// knownOfGooglesFake is where the fake, as of version 2.8.1, is known to differ from the service.
var knownOfGooglesFake = map[string]string{
	"WrongMessagesAreRefused":               "it takes any message, and its server no more than 4 MB",
	"OrderingKeysKeepTheirOrderWhenRefused": "it delivers one message of a key at a time",
	"StreamsHoldTheirByteAllowance":         "streams have no flow control",
	"DeletedSubscriptionsEndTheirStreams":   "streams stay open",
	"StreamsHoldTheirMessageAllowance":      "streams have no flow control",
	"SeekToSnapshotRestoresTheBacklog":      "it has no snapshots",
	"LargeMessagesPass":                     "its server takes no more than 4 MB",
	"SeekBackRedeliversRetainedMessages":    "it panics: messages that were acknowledged are not preserved",
}
