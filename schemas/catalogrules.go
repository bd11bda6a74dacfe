package schemas

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
	_ "time/tzdata" // time zones are known on machines that have none

	"golang.org/x/text/language"
)

// The bounds of users and items.
const (
	MaxTitle      = 4096    // bytes of a title
	MaxContent    = 1 << 20 // bytes of the content of an item
	MaxSet        = 1000    // elements of visitor_ids, segments and tags
	MaxConsent    = 100     // elements of consent
	MaxCategories = 250     // elements of categories
	MaxImages     = 100     // elements of image_uris
	MaxURI        = 4096    // bytes of a URL
	MaxAttributes = 256     // entries of attributes, and of numbers
	MaxAttribute  = 16384   // bytes of one attribute
	MaxEmbedding  = 8192    // elements of embedding
)

// CatalogRules is what the rules of users and items depend on.
type CatalogRules struct {
	// AsOf is the time that the export is as of, in microseconds since 1970: nothing was updated more than 24 hours after it. Required.
	AsOf int64
	// Dimensions is the length that every embedding has to have. 0: any, as long as the mapping does not say.
	Dimensions int
}

// Availabilities are the values of availability.
var Availabilities = []string{"in_stock", "out_of_stock", "preorder", "backorder", "discontinued"}

// Check returns the first rule that r breaks, or nil. It is for rows that Clean has seen. The error's path is that of the
// column; it owns its strings.
func (r *Item) Check(o CatalogRules) *FieldError {
	if err := checkKey("item_id", r.ItemID, &r.Stamp, o); err != nil || r.Stamp.IsDeleted.V {
		return err
	}
	if err := r.checkOffer(); err != nil {
		return err
	}
	if err := r.checkEmbedding(o); err != nil {
		return err
	}
	if err := checkLanguage(r.Language); err != nil {
		return err
	}
	if err := checkURL("uri", r.URI); err != nil {
		return err
	}
	if len(r.ImageURIs) > MaxImages {
		return tooLarge("image_uris", len(r.ImageURIs), MaxImages, "elements")
	}
	for i, u := range r.ImageURIs {
		if err := checkURL("image_uris["+strconv.Itoa(i)+"]", u); err != nil {
			return err
		}
	}
	for _, t := range []struct {
		path  string
		text  string
		limit int
	}{{"item_type", r.ItemType, MaxText}, {"title", r.Title, MaxTitle}, {"brand", r.Brand, MaxText}, {"content", r.Content, MaxContent}} {
		if len(t.text) > t.limit {
			return tooLarge(t.path, len(t.text), t.limit, "bytes")
		}
	}
	if err := checkList("categories", r.Categories, MaxCategories); err != nil {
		return err
	}
	if err := checkList("tags", r.Tags, MaxSet); err != nil {
		return err
	}
	return checkAttributes(r.Attributes, r.Numbers)
}

// checkOffer holds what an item costs and when it can be had.
func (r *Item) checkOffer() *FieldError {
	switch {
	case r.Price.Set && !(r.Price.V >= 0 && r.Price.V <= math.MaxFloat64): // NaN is neither
		return outside("price", r.Price.V, "0 or more")
	case r.Price.Set && r.Currency == "":
		return missing("currency", "a price needs a currency")
	case r.Currency != "" && !isUpper(r.Currency, 3):
		return &FieldError{"currency", CodeInvalid, quote(r.Currency) + " is not a code of 3 upper-case letters, such as EUR"}
	case r.Availability != "" && !slices.Contains(Availabilities, r.Availability):
		return &FieldError{"availability", CodeInvalid, fmt.Sprintf("%s is none of %q", quote(r.Availability), Availabilities)}
	case r.Rating.Set && !(r.Rating.V >= 0 && r.Rating.V <= math.MaxFloat64):
		return outside("rating", r.Rating.V, "0 or more")
	case r.RatingCount.Set && r.RatingCount.V < 0:
		return outside("rating_count", r.RatingCount.V, "0 or more")
	case r.AvailableFrom.Set && r.Expires.Set && r.Expires.V < r.AvailableFrom.V:
		return outside("expires", time.UnixMicro(r.Expires.V).UTC().Format(time.RFC3339Nano), "not before available_from")
	}
	return nil
}

func (r *Item) checkEmbedding(o CatalogRules) *FieldError {
	n := len(r.Embedding)
	switch {
	case n > MaxEmbedding:
		return tooLarge("embedding", n, MaxEmbedding, "elements")
	case n > 0 && o.Dimensions > 0 && n != o.Dimensions:
		return &FieldError{"embedding", CodeInvalid, fmt.Sprintf("%d elements; all embeddings have to have %d", n, o.Dimensions)}
	}
	for i, v := range r.Embedding {
		if math.Abs(float64(v)) > math.MaxFloat32 || v != v {
			return outside("embedding["+strconv.Itoa(i)+"]", v, "a finite number of 32 bits")
		}
	}
	return nil
}

// Check returns the first rule that r breaks, or nil; see that of Item.
func (r *User) Check(o CatalogRules) *FieldError {
	if err := checkKey("user_id", r.UserID, &r.Stamp, o); err != nil || r.Stamp.IsDeleted.V {
		return err
	}
	if len(r.VisitorIDs) > MaxSet {
		return tooLarge("visitor_ids", len(r.VisitorIDs), MaxSet, "elements")
	}
	for i, id := range r.VisitorIDs {
		if !isID(id) {
			return badID("visitor_ids["+strconv.Itoa(i)+"]", id)
		}
	}
	if r.Country != "" && !isUpper(r.Country, 2) {
		return &FieldError{"country", CodeInvalid, quote(r.Country) + " is not a code of 2 upper-case letters, such as AT"}
	}
	if err := checkLanguage(r.Language); err != nil {
		return err
	}
	if !isTimezone(r.Timezone) {
		return &FieldError{"timezone", CodeInvalid, quote(r.Timezone) + " is no time zone, such as Europe/Vienna"}
	}
	for _, t := range []struct{ path, text string }{{"region", r.Region}, {"age_band", r.AgeBand}, {"plan", r.Plan}} {
		if len(t.text) > MaxText {
			return tooLarge(t.path, len(t.text), MaxText, "bytes")
		}
	}
	if err := checkList("segments", r.Segments, MaxSet); err != nil {
		return err
	}
	if err := checkList("consent", r.Consent, MaxConsent); err != nil {
		return err
	}
	return checkAttributes(r.Attributes, r.Numbers)
}

// checkKey holds what makes a version: of what, and when.
func checkKey(path, id string, s *Stamp, o CatalogRules) *FieldError {
	switch {
	case id == "":
		return missing(path, "every row needs an id")
	case !isID(id):
		return badID(path, id)
	case s.UpdatedTime.Set && (s.UpdatedTime.V < 0 || s.UpdatedTime.V > o.AsOf+MaxAheadMicros):
		return outside("updated_time", time.UnixMicro(s.UpdatedTime.V).UTC().Format(time.RFC3339Nano), "1970 to 24 hours after the time that the export is as of")
	}
	return nil
}

func checkList(path string, list []string, most int) *FieldError {
	if len(list) > most {
		return tooLarge(path, len(list), most, "elements")
	}
	for i, s := range list {
		if len(s) > MaxText {
			return tooLarge(path+"["+strconv.Itoa(i)+"]", len(s), MaxText, "bytes")
		}
	}
	return nil
}

func checkAttributes(pairs []Pair, numbers []Number) *FieldError {
	if len(pairs) > MaxAttributes {
		return tooLarge("attributes", len(pairs), MaxAttributes, "entries")
	}
	for _, p := range pairs {
		if len(p.Key) > MaxText {
			return tooLarge("attributes", len(p.Key), MaxText, "bytes in a name")
		}
		if len(p.Value) > MaxAttribute {
			return tooLarge("attributes."+p.Key, len(p.Value), MaxAttribute, "bytes")
		}
	}
	if len(numbers) > MaxAttributes {
		return tooLarge("numbers", len(numbers), MaxAttributes, "entries")
	}
	for _, n := range numbers {
		if len(n.Key) > MaxText {
			return tooLarge("numbers", len(n.Key), MaxText, "bytes in a name")
		}
		if !(math.Abs(n.Value) <= math.MaxFloat64) {
			return outside("numbers."+n.Key, n.Value, "a finite number")
		}
	}
	return nil
}

func checkURL(path, s string) *FieldError {
	if s == "" {
		return nil
	}
	if len(s) > MaxURI {
		return tooLarge(path, len(s), MaxURI, "bytes")
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return &FieldError{path, CodeInvalid, quote(s) + " is no absolute http or https URL"}
	}
	return nil
}

// checked remembers which of the few languages and time zones of a source are right: to look them up takes long.
type checked struct {
	mu    sync.RWMutex
	known map[string]bool
	is    func(string) bool
}

const maxChecked = 4096

func (c *checked) ok(s string) bool {
	c.mu.RLock()
	ok, seen := c.known[s]
	c.mu.RUnlock()
	if seen {
		return ok
	}
	ok = c.is(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) < maxChecked {
		c.known[string([]byte(s))] = ok // s may alias a buffer
	}
	return ok
}

var (
	languages = checked{known: map[string]bool{"": true}, is: func(s string) bool {
		_, err := language.Parse(s)
		return err == nil && len(s) <= MaxID
	}}
	timezones = checked{known: map[string]bool{"": true, "Local": false}, is: func(s string) bool {
		_, err := time.LoadLocation(s)
		return err == nil && len(s) <= MaxID
	}}
)

func checkLanguage(s string) *FieldError {
	if languages.ok(s) {
		return nil
	}
	return &FieldError{"language", CodeInvalid, quote(s) + " is no BCP 47 language tag, such as de-AT"}
}

func isTimezone(s string) bool { return timezones.ok(s) }
