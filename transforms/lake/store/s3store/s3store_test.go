package s3store_test

import (
	"fmt"
	"strings"
	"testing"

	"backbone/testing/faults"
	"backbone/testing/objectservers"
	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/driver"
	"backbone/transforms/lake/store/storetest"
)

func TestConformance(t *testing.T) {
	lake, proxy := faults.InFront(t, objectservers.StartS3(t))
	places := 0
	storetest.RunConformance(t, func(t *testing.T) storetest.Harness {
		places++
		place := strings.Replace(lake, "?", fmt.Sprintf("/place %d/in it?", places), 1)
		return storetest.Harness{
			Open: func() (driver.Driver, error) {
				return store.OpenDriver(t.Context(), place)
			},
			Network: proxy,
		}
	})
}
