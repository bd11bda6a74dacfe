//go:build unix

package localstore_test

import (
	"testing"

	"backbone/transforms/lake/store/driver"
	"backbone/transforms/lake/store/localstore"
	"backbone/transforms/lake/store/storetest"
)

func TestConformance(t *testing.T) {
	for name, options := range map[string]localstore.Options{
		"Nameless": {},
		"Hidden":   {HiddenFiles: true},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.RunConformance(t, func(t *testing.T) storetest.Harness {
				root := t.TempDir() + "/lake"
				return storetest.Harness{
					Open:           func() (driver.Driver, error) { return localstore.New(root, options) },
					Full:           func(t *testing.T) driver.Driver { return onSmallDisk(t, options) },
					KillBeforeLink: func(t *testing.T, key string, body []byte) { killBeforeLink(t, root, options, key, body) },
				}
			})
		})
	}
}
