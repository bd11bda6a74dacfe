package schemas

import (
	"math"
	"strings"
	"testing"
	"time"
)

const asOf = int64(1_700_000_000_000_000)

func TestCheckItem(t *testing.T) {
	day := (24 * time.Hour).Microseconds()
	tests := []struct {
		name string
		set  func(r *Item)
		path string
		code Code // empty: nothing is wrong
	}{
		{"plain", func(*Item) {}, "", ""},
		{"no id", func(r *Item) { r.ItemID = "" }, "item_id", CodeMissing},
		{"id with a slash", func(r *Item) { r.ItemID = "a/b" }, "item_id", CodeInvalidID},
		{"updated in a day", func(r *Item) { r.Stamp.UpdatedTime = Some(asOf + day) }, "", ""},
		{"updated later", func(r *Item) { r.Stamp.UpdatedTime = Some(asOf + day + 1) }, "updated_time", CodeOutOfRange},
		{"updated before 1970", func(r *Item) { r.Stamp.UpdatedTime = Some[int64](-1) }, "updated_time", CodeOutOfRange},
		{"price", func(r *Item) { r.Price, r.Currency = Some(0.0), "EUR" }, "", ""},
		{"negative price", func(r *Item) { r.Price, r.Currency = Some(-0.01), "EUR" }, "price", CodeOutOfRange},
		{"price that is no number", func(r *Item) { r.Price, r.Currency = Some(math.NaN()), "EUR" }, "price", CodeOutOfRange},
		{"price without currency", func(r *Item) { r.Price = Some(1.0) }, "currency", CodeMissing},
		{"currency", func(r *Item) { r.Currency = "eur" }, "currency", CodeInvalid},
		{"availability", func(r *Item) { r.Availability = "in_stock" }, "", ""},
		{"unknown availability", func(r *Item) { r.Availability = "IN_STOCK" }, "availability", CodeInvalid},
		{"rating", func(r *Item) { r.Rating = Some(-1.0) }, "rating", CodeOutOfRange},
		{"rating count", func(r *Item) { r.RatingCount = Some[int64](-1) }, "rating_count", CodeOutOfRange},
		{"expires before it is available", func(r *Item) { r.AvailableFrom, r.Expires = Some(asOf), Some(asOf-1) }, "expires", CodeOutOfRange},
		{"published long ago", func(r *Item) { r.PublishedTime = Some(-90 * 365 * day) }, "", ""},
		{"language", func(r *Item) { r.Language = "de-AT" }, "", ""},
		{"no language", func(r *Item) { r.Language = "?" }, "language", CodeInvalid},
		{"uri", func(r *Item) { r.URI = "https://shop.example/a?b=c" }, "", ""},
		{"relative uri", func(r *Item) { r.URI = "/a" }, "uri", CodeInvalid},
		{"uri of a script", func(r *Item) { r.URI = "javascript:alert(1)" }, "uri", CodeInvalid},
		{"uri with a control character", func(r *Item) { r.URI = "https://x/\x01" }, "uri", CodeInvalid},
		{"image", func(r *Item) { r.ImageURIs = []string{"https://x/1", "ftp://x/2"} }, "image_uris[1]", CodeInvalid},
		{"too many images", func(r *Item) { r.ImageURIs = make([]string, MaxImages+1) }, "image_uris", CodeTooLarge},
		{"title", func(r *Item) { r.Title = strings.Repeat("x", MaxTitle+1) }, "title", CodeTooLarge},
		{"content", func(r *Item) { r.Content = strings.Repeat("x", MaxContent+1) }, "content", CodeTooLarge},
		{"category", func(r *Item) { r.Categories = []string{"a", strings.Repeat("x", MaxText+1)} }, "categories[1]", CodeTooLarge},
		{"tags", func(r *Item) { r.Tags = make([]string, MaxSet+1) }, "tags", CodeTooLarge},
		{"embedding", func(r *Item) { r.Embedding = []float32{1, 2, 3} }, "", ""},
		{"embedding of another length", func(r *Item) { r.Embedding = []float32{1, 2} }, "embedding", CodeInvalid},
		{"embedding that is not finite", func(r *Item) { r.Embedding = []float32{1, float32(math.Inf(1)), 3} }, "embedding[1]", CodeOutOfRange},
		{"attribute", func(r *Item) { r.Attributes = []Pair{{"a", strings.Repeat("x", MaxAttribute+1)}} }, "attributes.a", CodeTooLarge},
		{"number", func(r *Item) { r.Numbers = []Number{{"a", math.NaN()}} }, "numbers.a", CodeOutOfRange},
		{"deleted, whatever else", func(r *Item) { r.Stamp.IsDeleted, r.Currency = Some(true), "?" }, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := Item{ItemID: "i"}
			test.set(&r)
			wantFault(t, r.Check(CatalogRules{AsOf: asOf, Dimensions: 3}), test.path, test.code)
		})
	}
}

func TestCheckUser(t *testing.T) {
	tests := []struct {
		name string
		set  func(r *User)
		path string
		code Code
	}{
		{"plain", func(*User) {}, "", ""},
		{"no id", func(r *User) { r.UserID = "" }, "user_id", CodeMissing},
		{"visitor", func(r *User) { r.VisitorIDs = []string{"ok", "a/b"} }, "visitor_ids[1]", CodeInvalidID},
		{"country", func(r *User) { r.Country = "Austria" }, "country", CodeInvalid},
		{"timezone", func(r *User) { r.Timezone = "Europe/Vienna" }, "", ""},
		{"no timezone", func(r *User) { r.Timezone = "Mars/Olympus" }, "timezone", CodeInvalid},
		{"timezone of this machine", func(r *User) { r.Timezone = "Local" }, "timezone", CodeInvalid},
		{"timezone that leads elsewhere", func(r *User) { r.Timezone = "../../etc/passwd" }, "timezone", CodeInvalid},
		{"language", func(r *User) { r.Language = "english please" }, "language", CodeInvalid},
		{"segments", func(r *User) { r.Segments = make([]string, MaxSet+1) }, "segments", CodeTooLarge},
		{"consent", func(r *User) { r.Consent = make([]string, MaxConsent+1) }, "consent", CodeTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := User{UserID: "u"}
			test.set(&r)
			wantFault(t, r.Check(CatalogRules{AsOf: asOf}), test.path, test.code)
		})
	}
}

func wantFault(t *testing.T, got *FieldError, path string, code Code) {
	t.Helper()
	switch {
	case code == "" && got != nil:
		t.Errorf("%v, want nothing wrong", got)
	case code != "" && (got == nil || got.Path != path || got.Code != code):
		t.Errorf("%v, want %s at %s", got, code, path)
	}
}
