package schemas_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
)

func TestText(t *testing.T) {
	row := &schemas.Interaction{
		EventID: "e", EventTime: schemas.Some(int64(1_000_001)), Value: schemas.Some(0.5), ExperimentIDs: []string{"a", "b"},
		Items: []schemas.LineItem{{ItemID: "i", Quantity: schemas.Some(int64(0))}, {ItemID: "j", UnitPrice: schemas.Some(1.5)}},
		Extra: []schemas.Pair{{Key: "x", Value: `"y"`}, {Key: "z", Value: "1"}},
	}
	row.Context.IsBot = schemas.Some(false)
	got := map[string]string{}
	for _, c := range schemas.Interactions.Columns {
		if text := c.Text(row); text != "" {
			got[c.Name] = text
		}
	}
	want := map[string]string{
		"event_id": "e", "event_time": "1970-01-01T00:00:01.000001Z", "value": "0.5", "experiment_ids": "a, b",
		"items": "{item_id: i, quantity: 0}, {item_id: j, unit_price: 1.5}", "extra": `x: "y", z: 1`, "context.is_bot": "false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
}
