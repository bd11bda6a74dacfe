package pubsubserver_test

import (
	"testing"

	"go.uber.org/goleak"

	"backbone/testing/pubsubserver"
	"backbone/testing/pubsubserver/pubsubtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Not ours: the first starts with the process, the second is what Google's client leaves behind after Receive.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreTopFunction("cloud.google.com/go/pubsub/v2.(*messageIterator).streamKeepAliveHandler"),
	)
}

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		pubsubtest.RunConformance(t, func(t *testing.T) pubsubtest.Harness {
			return pubsubtest.Harness{Addr: pubsubtest.Start(t, pubsubserver.Options{}).Addr()}
		})
	})
	t.Run("disk", func(t *testing.T) {
		pubsubtest.RunConformance(t, func(t *testing.T) pubsubtest.Harness {
			return pubsubtest.Harness{Addr: pubsubtest.Start(t, pubsubserver.Options{DataDir: t.TempDir()}).Addr()}
		})
	})
}
