package decode_test

import (
	"testing"

	"github.com/go-json-experiment/json"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/generator"
	"backbone/transforms/source"
)

// generated gives events of the generator, all of them good.
func generated(b *testing.B) (records [][]byte, size int64) {
	b.Helper()
	g, err := generator.New(generator.Options{Events: 20_000, Seed: 1, BrokenShare: -1, DuplicateShare: -1})
	if err != nil {
		b.Fatal(err)
	}
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		records = append(records, append([]byte(nil), e.Data...))
		size += int64(len(e.Data))
	}
	return records, size
}

// native is the native format as go-json-experiment decodes it into a struct: the baseline, without conversions, rules
// and synthetic ids.
type native struct {
	EventID       string   `json:"event_id"`
	EventTime     string   `json:"event_time"`
	UserID        string   `json:"user_id"`
	VisitorID     string   `json:"visitor_id"`
	EventType     string   `json:"event_type"`
	Value         *float64 `json:"value"`
	ValueUnit     string   `json:"value_unit"`
	SessionID     string   `json:"session_id"`
	ItemID        string   `json:"item_id"`
	RequestID     string   `json:"request_id"`
	Query         string   `json:"query"`
	TransactionID string   `json:"transaction_id"`
	Revenue       *float64 `json:"revenue"`
	Currency      string   `json:"currency"`
	ExperimentIDs []string `json:"experiment_ids"`
	PolicyID      string   `json:"policy_id"`
	ModelVersion  string   `json:"model_version"`
	Items         []struct {
		ItemID     string   `json:"item_id"`
		Position   *int64   `json:"position"`
		Quantity   *int64   `json:"quantity"`
		UnitPrice  *float64 `json:"unit_price"`
		Score      *float64 `json:"score"`
		Propensity *float64 `json:"propensity"`
	} `json:"items"`
	Context struct {
		TZOffsetMin    *int64 `json:"tz_offset_min"`
		Country        string `json:"country"`
		Region         string `json:"region"`
		City           string `json:"city"`
		DeviceClass    string `json:"device_class"`
		OS             string `json:"os"`
		Browser        string `json:"browser"`
		AppVersion     string `json:"app_version"`
		Network        string `json:"network"`
		Surface        string `json:"surface"`
		ReferrerMedium string `json:"referrer_medium"`
		Campaign       string `json:"campaign"`
		Locale         string `json:"locale"`
		IsBot          *bool  `json:"is_bot"`
		UserAgent      string `json:"user_agent"`
		IP             string `json:"ip"`
	} `json:"context"`
	Extra map[string]any `json:",inline"`
}

// BenchmarkDecode compares Backbone's decoder with go-json-experiment on the same events, 20,000 an operation.
func BenchmarkDecode(b *testing.B) {
	records, size := generated(b)
	b.Run("backbone", func(b *testing.B) {
		d := newDecoder(b, mappings.Native())
		b.SetBytes(size)
		b.ReportAllocs()
		rows := 0
		rec := &source.Record{}
		out := func(_ *schemas.Interaction, fault *schemas.FieldError) {
			if fault != nil {
				b.Fatal(fault)
			}
			rows++
		}
		for b.Loop() {
			for _, rec.Data = range records {
				d.Decode(rec, out)
			}
		}
		b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("go-json-experiment", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		rows := 0
		for b.Loop() {
			for _, r := range records {
				var row native
				if err := json.Unmarshal(r, &row); err != nil {
					b.Fatal(err)
				}
				rows++
			}
		}
		b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	})
}
