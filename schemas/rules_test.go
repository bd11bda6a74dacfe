package schemas

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC).UnixMicro()

var rules = Rules{Now: now, Types: map[string]string{"wishlist": Explicit, "odd": "unheard of"}}

// purchase is an event that has every field and breaks no rule.
func purchase() Interaction {
	return Interaction{
		EventID: "018f3c1e-7d2a-7c4e-9b1a-0c5d2e8f6a7b", EventTime: Some(now), UserID: "ann", VisitorID: "cookie-1",
		EventType: "purchase", FeedbackKind: Implicit, Value: Some(2.5), ValueUnit: "baskets",
		ReceivedTime: Some(now), LoadedTime: Some(now), SessionID: "session-1", ItemID: "book-1",
		Items: []LineItem{
			{ItemID: "book-1", Position: Some[int64](0), Quantity: Some[int64](1), UnitPrice: Some(9.99), Score: Some(-0.5), Propensity: Some(1.0)},
			{ItemID: "book-2", Position: Some[int64](1), Quantity: Some[int64](2), UnitPrice: Some(5.0), Score: Some(0.1), Propensity: Some(0.25)},
			{ItemID: "book-3"},
		},
		RequestID: "request-1", Query: "go books", TransactionID: "order-1", Revenue: Some(19.99), Currency: "EUR",
		ExperimentIDs: []string{"ranking:b"}, PolicyID: "top", ModelVersion: "7",
		Context: Context{
			TZOffsetMin: Some[int64](60), LocalHour: Some[int64](15), LocalDow: Some[int64](7),
			Country: "AT", Region: "9", City: "Vienna", Geohash: "u2ed0",
			DeviceClass: "mobile", OS: "android", Browser: "chrome", AppVersion: "1.2", Network: "wifi",
			Surface: "cart", ReferrerMedium: "email", Campaign: "autumn", Locale: "de-AT", IsBot: Some(false),
		},
		Lineage: Lineage{Source: "/in.jsonl"},
	}
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", MaxID+1)
	day := int64(24 * time.Hour / time.Microsecond)
	for _, tc := range []struct {
		name   string
		change func(*Interaction)
		path   string // empty: no fault
		code   Code
	}{
		{"every field", func(r *Interaction) {}, "", ""},
		{"the least", func(r *Interaction) {
			*r = Interaction{EventID: "1", EventTime: Some[int64](0), VisitorID: "v", EventType: "home_view"}
		}, "", ""},
		{"no event id", func(r *Interaction) { r.EventID = "" }, "event_id", CodeMissing},
		{"no time", func(r *Interaction) { r.EventTime = Time{} }, "event_time", CodeMissing},
		{"no type", func(r *Interaction) { r.EventType = "" }, "event_type", CodeMissing},
		{"nobody", func(r *Interaction) { r.UserID, r.VisitorID = "", "" }, "user_id", CodeMissing},
		{"a user only", func(r *Interaction) { r.VisitorID = "" }, "", ""},
		{"before 1970", func(r *Interaction) { r.EventTime = Some[int64](-1) }, "event_time", CodeOutOfRange},
		{"a day ahead", func(r *Interaction) { r.EventTime = Some(now + day) }, "", ""},
		{"more than a day ahead", func(r *Interaction) { r.EventTime = Some(now + day + 1) }, "event_time", CodeOutOfRange},
		{"received before 1970", func(r *Interaction) { r.ReceivedTime = Some[int64](-1) }, "received_time", CodeOutOfRange},
		{"unknown type", func(r *Interaction) { r.EventType = "vieww" }, "event_type", CodeUnknownType},
		{"a site's own type", func(r *Interaction) { r.EventType, r.ItemID, r.Items = "wishlist", "", nil }, "", ""},
		{"a site's own type of no kind", func(r *Interaction) { r.EventType, r.FeedbackKind = "odd", "" }, "feedback_kind", CodeInvalid},
		{"unknown kind", func(r *Interaction) { r.FeedbackKind = "Implicit" }, "feedback_kind", CodeInvalid},
		{"about an item, without one", func(r *Interaction) { r.ItemID, r.Items = "", nil }, "item_id", CodeMissing},
		{"items are enough", func(r *Interaction) { r.ItemID = "" }, "", ""},
		{"an id of 128 bytes", func(r *Interaction) { r.UserID = long[1:] }, "", ""},
		{"a long id", func(r *Interaction) { r.UserID = long }, "user_id", CodeInvalidID},
		{"a slash", func(r *Interaction) { r.EventID = "a/b" }, "event_id", CodeInvalidID},
		{"a zero byte", func(r *Interaction) { r.VisitorID = "a\x00" }, "visitor_id", CodeInvalidID},
		{"a line break", func(r *Interaction) { r.SessionID = "a\n" }, "session_id", CodeInvalidID},
		{"DEL", func(r *Interaction) { r.ItemID = "\x7fa" }, "item_id", CodeInvalidID},
		{"the first C1", func(r *Interaction) { r.RequestID = "a\u0080" }, "request_id", CodeInvalidID},
		{"the last C1", func(r *Interaction) { r.TransactionID = "\u009fa" }, "transaction_id", CodeInvalidID},
		{"letters beside C1", func(r *Interaction) { r.UserID = "\u00a0é\u00bf\u0100ß" }, "", ""},
		{"other scripts", func(r *Interaction) { r.UserID = "日本語 \U0001f600" }, "", ""},
		{"an item without id", func(r *Interaction) { r.Items[2].ItemID = "" }, "items[2].item_id", CodeMissing},
		{"an item with a bad id", func(r *Interaction) { r.Items[1].ItemID = "/" }, "items[1].item_id", CodeInvalidID},
		{"1,000 items", func(r *Interaction) { r.Items = itemsOf(MaxItems) }, "", ""},
		{"1,001 items", func(r *Interaction) { r.Items = itemsOf(MaxItems + 1) }, "items", CodeTooLarge},
		{"negative position", func(r *Interaction) { r.Items[0].Position = Some[int64](-1) }, "items[0].position", CodeOutOfRange},
		{"negative quantity", func(r *Interaction) { r.Items[0].Quantity = Some[int64](-1) }, "items[0].quantity", CodeOutOfRange},
		{"infinite price", func(r *Interaction) { r.Items[0].UnitPrice = Some(math.Inf(1)) }, "items[0].unit_price", CodeOutOfRange},
		{"no score", func(r *Interaction) { r.Items[0].Score = Some(math.NaN()) }, "items[0].score", CodeOutOfRange},
		{"propensity 0", func(r *Interaction) { r.Items[0].Propensity = Some(0.0) }, "items[0].propensity", CodeOutOfRange},
		{"propensity above 1", func(r *Interaction) { r.Items[0].Propensity = Some(math.Nextafter(1, 2)) }, "items[0].propensity", CodeOutOfRange},
		{"propensity NaN", func(r *Interaction) { r.Items[0].Propensity = Some(math.NaN()) }, "items[0].propensity", CodeOutOfRange},
		{"value NaN", func(r *Interaction) { r.Value = Some(math.NaN()) }, "value", CodeOutOfRange},
		{"value of the greatest number", func(r *Interaction) { r.Value = Some(-math.MaxFloat64) }, "", ""},
		{"infinite revenue", func(r *Interaction) { r.Revenue = Some(math.Inf(-1)) }, "revenue", CodeOutOfRange},
		{"lower-case currency", func(r *Interaction) { r.Currency = "eur" }, "currency", CodeInvalid},
		{"two letters of currency", func(r *Interaction) { r.Currency = "EU" }, "currency", CodeInvalid},
		{"offset too low", func(r *Interaction) { r.Context.TZOffsetMin = Some[int64](-841) }, "context.tz_offset_min", CodeOutOfRange},
		{"offset too high", func(r *Interaction) { r.Context.TZOffsetMin = Some[int64](841) }, "context.tz_offset_min", CodeOutOfRange},
		{"hour 24", func(r *Interaction) { r.Context.LocalHour = Some[int64](24) }, "context.local_hour", CodeOutOfRange},
		{"day 0", func(r *Interaction) { r.Context.LocalDow = Some[int64](0) }, "context.local_dow", CodeOutOfRange},
		{"country by name", func(r *Interaction) { r.Context.Country = "Austria" }, "context.country", CodeInvalid},
		{"country É", func(r *Interaction) { r.Context.Country = "É" }, "context.country", CodeInvalid},
		{"a query of 4,096 bytes", func(r *Interaction) { r.Query = strings.Repeat("q", MaxQuery) }, "", ""},
		{"a long query", func(r *Interaction) { r.Query = strings.Repeat("q", MaxQuery+1) }, "query", CodeTooLarge},
		{"a unit of 1,024 bytes", func(r *Interaction) { r.ValueUnit = strings.Repeat("u", MaxText) }, "", ""},
		{"many experiments", func(r *Interaction) { r.ExperimentIDs = make([]string, MaxExperiments+1) }, "experiment_ids", CodeTooLarge},
		{"a long experiment", func(r *Interaction) { r.ExperimentIDs = []string{"", strings.Repeat("e", MaxText+1)} }, "experiment_ids[1]", CodeTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := purchase()
			tc.change(&r)
			got := r.Check(rules)
			if tc.path == "" {
				if got != nil {
					t.Fatalf("Check() = %v, want no fault", got)
				}
				return
			}
			if got == nil || got.Path != tc.path || got.Code != tc.code {
				t.Fatalf("Check() = %+v, want %s at %q", got, tc.code, tc.path)
			}
			if got.Message == "" || len(got.Message) > 512 {
				t.Errorf("Check() says %q: want something short", got.Message)
			}
		})
	}
}

// Whatever text a producer may write, it is bounded: a column that is added later must be, too.
func TestCheckBoundsEveryText(t *testing.T) {
	for _, c := range Interactions.Columns {
		if c.System || c.Str == nil && c.List == nil {
			continue
		}
		r := purchase()
		tooLong := strings.Repeat("X", MaxQuery+1)
		if c.Str != nil {
			*c.Str(&r) = tooLong
		} else {
			*c.List(&r) = []string{tooLong}
		}
		if got := r.Check(rules); got == nil || !strings.HasPrefix(got.Path, c.Name) {
			t.Errorf("%s of %d bytes: Check() = %v, want a fault there", c.Name, len(tooLong), got)
		}
	}
}

func TestCheckSetsFeedbackKind(t *testing.T) {
	for name, want := range EventTypes {
		r := purchase()
		r.EventType, r.FeedbackKind = name, ""
		if err := r.Check(rules); err != nil || r.FeedbackKind != want.Kind {
			t.Errorf("%s: Check() = %v, feedback_kind %q; want %q", name, err, r.FeedbackKind, want.Kind)
		}
	}
	r := purchase()
	r.EventType, r.FeedbackKind = "wishlist", ""
	if err := r.Check(rules); err != nil || r.FeedbackKind != Explicit {
		t.Errorf("wishlist: Check() = %v, feedback_kind %q; want %q, as declared", err, r.FeedbackKind, Explicit)
	}
	r = purchase()
	r.FeedbackKind = Exposure
	if err := r.Check(rules); err != nil || r.FeedbackKind != Exposure {
		t.Errorf("purchase: Check() = %v, feedback_kind %q; want %q, as the source says", err, r.FeedbackKind, Exposure)
	}
}

// Rows within the rules pass, and change in nothing but the feedback kind. With one field out of them, that field is named.
func TestCheckProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawValid(t)
		want := r
		if err := r.Check(rules); err != nil {
			t.Fatalf("Check(%+v) = %v, want no fault", r, err)
		}
		if want.FeedbackKind == "" {
			want.FeedbackKind = r.FeedbackKind
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Fatalf("Check changed the row (-before +after):\n%s", diff)
		}

		m := rapid.SampledFrom(mutations).Draw(t, "mutation")
		path := m.apply(t, &r)
		got := r.Check(rules)
		if got == nil || got.Path != path || got.Code != m.code {
			t.Fatalf("%s: Check() = %+v, want %s at %q", m.name, got, m.code, path)
		}
	})
}

// mutation breaks one rule, and returns the path of the field.
type mutation struct {
	name  string
	code  Code
	apply func(*rapid.T, *Interaction) string
}

var mutations = []mutation{
	{"id", CodeInvalidID, func(t *rapid.T, r *Interaction) string {
		paths := map[string]*string{
			"event_id": &r.EventID, "user_id": &r.UserID, "visitor_id": &r.VisitorID, "session_id": &r.SessionID,
			"item_id": &r.ItemID, "request_id": &r.RequestID, "transaction_id": &r.TransactionID,
		}
		path := rapid.SampledFrom([]string{"event_id", "user_id", "visitor_id", "session_id", "item_id", "request_id", "transaction_id"}).Draw(t, "path")
		*paths[path] = drawBadID(t)
		return path
	}},
	{"item id", CodeInvalidID, func(t *rapid.T, r *Interaction) string {
		r.Items = []LineItem{{ItemID: "a"}, {ItemID: drawBadID(t)}}
		return "items[1].item_id"
	}},
	{"event time", CodeOutOfRange, func(t *rapid.T, r *Interaction) string {
		r.EventTime = Some(rapid.OneOf(rapid.Int64Max(-1), rapid.Int64Min(now+MaxAheadMicros+1)).Draw(t, "time"))
		return "event_time"
	}},
	{"event type", CodeUnknownType, func(t *rapid.T, r *Interaction) string {
		r.EventType = rapid.StringMatching(`[A-Z]{1,200}`).Draw(t, "type")
		return "event_type"
	}},
	{"context number", CodeOutOfRange, func(t *rapid.T, r *Interaction) string {
		n := rapid.OneOf(rapid.Int64Max(-841), rapid.Int64Min(841)).Draw(t, "number")
		switch path := rapid.SampledFrom([]string{"context.tz_offset_min", "context.local_hour", "context.local_dow"}).Draw(t, "path"); path {
		case "context.tz_offset_min":
			r.Context.TZOffsetMin = Some(n)
			return path
		case "context.local_hour":
			r.Context.LocalHour = Some(n)
			return path
		default:
			r.Context.LocalDow = Some(n)
			return path
		}
	}},
	{"not finite", CodeOutOfRange, func(t *rapid.T, r *Interaction) string {
		f := Some(rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}).Draw(t, "number"))
		r.Items = []LineItem{{ItemID: "a"}}
		switch path := rapid.SampledFrom([]string{"value", "revenue", "items[0].unit_price", "items[0].score", "items[0].propensity"}).Draw(t, "path"); path {
		case "value":
			r.Value = f
			return path
		case "revenue":
			r.Revenue = f
			return path
		case "items[0].unit_price":
			r.Items[0].UnitPrice = f
			return path
		case "items[0].score":
			r.Items[0].Score = f
			return path
		default:
			r.Items[0].Propensity = f
			return path
		}
	}},
	{"currency", CodeInvalid, func(t *rapid.T, r *Interaction) string {
		r.Currency = rapid.StringMatching(`[A-Z]{1,2}|[A-Z]{4,8}|[a-z]{3}`).Draw(t, "currency")
		return "currency"
	}},
	{"country", CodeInvalid, func(t *rapid.T, r *Interaction) string {
		r.Context.Country = rapid.StringMatching(`[A-Z]|[A-Z]{3,8}|[a-z0-9]{2}`).Draw(t, "country")
		return "context.country"
	}},
}

func drawBadID(t *rapid.T) string {
	if rapid.Bool().Draw(t, "long") {
		return rapid.StringMatching(`[a-z]{129,300}`).Draw(t, "id")
	}
	bad := rapid.OneOf(rapid.RuneFrom([]rune{'/', 0x7f}), rapid.Int32Range(0, 0x1f), rapid.Int32Range(0x80, 0x9f)).Draw(t, "rune")
	return drawID(t, 0, 20) + string(bad) + drawID(t, 0, 20)
}

// drawID draws an id of least to most characters.
func drawID(t *rapid.T, least, most int) string {
	ok := rapid.Rune().Filter(func(c rune) bool { return c >= 0x20 && c != '/' && (c < 0x7f || c > 0x9f) })
	return rapid.StringOfN(ok, least, most, MaxID).Draw(t, "id")
}

func drawValid(t *rapid.T) Interaction {
	float := rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64)
	text := rapid.StringN(0, 20, MaxText)
	natural := rapid.Int64Min(0)
	r := Interaction{
		EventID:       drawID(t, 1, 32),
		EventTime:     Some(rapid.Int64Range(0, now+MaxAheadMicros).Draw(t, "time")),
		EventType:     rapid.SampledFrom([]string{"view", "search", "purchase", "rate", "wishlist"}).Draw(t, "type"),
		FeedbackKind:  rapid.SampledFrom([]string{"", Explicit, Implicit, Exposure, Correction}).Draw(t, "kind"),
		VisitorID:     drawID(t, 1, 32),
		UserID:        drawID(t, 0, 32),
		ItemID:        drawID(t, 1, 32),
		SessionID:     drawID(t, 0, 32),
		RequestID:     drawID(t, 0, 32),
		TransactionID: drawID(t, 0, 32),
		Query:         text.Draw(t, "query"),
		Currency:      rapid.StringMatching(`([A-Z]{3})?`).Draw(t, "currency"),
		Value:         drawOpt(t, float),
		Revenue:       drawOpt(t, float),
		ExperimentIDs: rapid.SliceOfN(text, 0, 5).Draw(t, "experiments"),
		Context: Context{
			TZOffsetMin: drawOpt(t, rapid.Int64Range(-840, 840)),
			LocalHour:   drawOpt(t, rapid.Int64Range(0, 23)),
			LocalDow:    drawOpt(t, rapid.Int64Range(1, 7)),
			Country:     rapid.StringMatching(`([A-Z]{2})?`).Draw(t, "country"),
			City:        text.Draw(t, "city"),
		},
	}
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		r.Items = append(r.Items, LineItem{
			ItemID:     drawID(t, 1, 32),
			Position:   drawOpt(t, natural),
			Quantity:   drawOpt(t, natural),
			UnitPrice:  drawOpt(t, float),
			Score:      drawOpt(t, float),
			Propensity: drawOpt(t, rapid.Float64Range(math.SmallestNonzeroFloat64, 1)),
		})
	}
	return r
}

func drawOpt[T any](t *rapid.T, g *rapid.Generator[T]) Opt[T] {
	if rapid.Bool().Draw(t, "absent") {
		return Opt[T]{}
	}
	return Some(g.Draw(t, "value"))
}

func itemsOf(n int) []LineItem {
	items := make([]LineItem, n)
	for i := range items {
		items[i].ItemID = "book"
	}
	return items
}

// A full row really is one: the tests above start from it.
func TestPurchaseHasEveryField(t *testing.T) {
	r := purchase()
	for _, c := range Interactions.Columns {
		if c.System || c.Name == "extra" {
			continue
		}
		var v reflect.Value
		switch {
		case c.Str != nil:
			v = reflect.ValueOf(*c.Str(&r))
		case c.Int != nil:
			v = reflect.ValueOf(*c.Int(&r))
		case c.Float != nil:
			v = reflect.ValueOf(*c.Float(&r))
		case c.Bool != nil:
			v = reflect.ValueOf(*c.Bool(&r))
		case c.List != nil:
			v = reflect.ValueOf(*c.List(&r))
		case c.Items != nil:
			v = reflect.ValueOf(*c.Items(&r))
		}
		if v.IsZero() {
			t.Errorf("%s is empty", c.Name)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	view := Interaction{
		EventID: "018f3c1e-7d2a-7c4e-9b1a-0c5d2e8f6a7b", EventTime: Some(now), UserID: "user-1234567", VisitorID: "v-1234567",
		EventType: "view", SessionID: "s-1234567-12", ItemID: "item-123456", RequestID: "r-123456789",
		Context: Context{TZOffsetMin: Some[int64](60), Surface: "home", Locale: "de-AT"},
	}
	full := purchase()
	for _, bc := range []struct {
		name string
		row  Interaction
	}{{"view", view}, {"purchase", full}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			r := bc.row
			for b.Loop() {
				if err := r.Check(rules); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
