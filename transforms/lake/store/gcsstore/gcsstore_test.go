package gcsstore_test

import (
	"fmt"
	"testing"

	"backbone/testing/faults"
	"backbone/testing/objectservers"
	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/driver"
	"backbone/transforms/lake/store/storetest"
)

func TestConformance(t *testing.T) {
	lake, proxy := faults.InFront(t, objectservers.StartGCS(t))
	places := 0
	storetest.RunConformance(t, func(t *testing.T) storetest.Harness {
		places++
		place := fmt.Sprintf("%s/place %d/in it", lake, places)
		return storetest.Harness{
			Open: func() (driver.Driver, error) {
				return store.OpenDriver(t.Context(), place)
			},
			Network: proxy,
		}
	})
}
