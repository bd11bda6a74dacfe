package generator

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"backbone/schemas"
)

// population is one of the tables: who or what is in it, and what is known of them.
type population[R any] struct {
	table *schemas.Table[R]
	kind  uint64 // of dice
	count int
	// fill says what an edition of number n is, in normal form and without its stamp. The row is a fresh one.
	fill  func(row *R, n, edition int)
	reset func(*R)
	id    func(b []byte, n int) []byte
}

// people are the users of a shop.
func (c *catalog) people() *population[schemas.User] {
	return &population[schemas.User]{table: schemas.Users, kind: 1, count: c.options.Users, fill: c.user, reset: (*schemas.User).Reset, id: appendUser}
}

// goods are its items.
func (c *catalog) goods() *population[schemas.Item] {
	return &population[schemas.Item]{table: schemas.Items, kind: 2, count: c.options.Items, fill: c.item, reset: (*schemas.Item).Reset, id: func(b []byte, n int) []byte { return appendItem(b, int32(n)) }}
}

// appendUser appends the id of a user.
func appendUser(b []byte, n int) []byte { return strconv.AppendInt(append(b, 'u'), int64(n), 10) }

// aspects are what changes together in a row; each change is of one or two.
const aspects = 6

// editions returns, for each aspect of an edition, the dice for what it says: those of the edition in which it changed
// last.
func (c *catalog) editions(kind uint64, n, edition int) (d [aspects]dice) {
	var last [aspects]int
	for e := 1; e <= edition; e++ {
		change := newDice(c.seed, kind, uint64(n), forChange, uint64(e))
		last[change.below(aspects)] = e
		if change.one(2) {
			last[change.below(aspects)] = e
		}
	}
	for i := range d {
		d[i] = newDice(c.seed, kind, uint64(n), forRow, uint64(i), uint64(last[i]))
	}
	return d
}

func pick(d *dice, list []string) string { return list[d.below(len(list))] }

// some returns a few elements of a list, sorted.
func some(d *dice, list []string, most int) (chosen []string) {
	for range d.below(most + 1) {
		chosen = append(chosen, pick(d, list))
	}
	slices.Sort(chosen)
	return slices.Compact(chosen)
}

var (
	segments  = []string{"bargain-hunters", "café-lovers", "früh", "gamers", "loyal", "mobile-first", "new", "night", "parents", "students", "vip", "クーポン"}
	ageBands  = []string{"18-24", "25-34", "35-44", "45-54", "55-64", "65+"}
	plans     = []string{"free", "free", "free", "plus", "premium"}
	purposes  = []string{"analytics", "email", "marketing", "personalization", "push"}
	channels  = []string{"affiliate", "direct", "e-mail", "organic", "social", "télé"}
	timezones = map[string]string{"DE": "Europe/Berlin", "GB": "Europe/London", "US": "America/Los_Angeles", "SE": "Europe/Stockholm", "FR": "Europe/Paris", "FI": "Europe/Helsinki", "IN": "Asia/Kolkata", "CN": "Asia/Shanghai", "JP": "Asia/Tokyo", "BR": "America/Sao_Paulo"}
	regions   = map[string][]string{"DE": {"BE", "BY", "HH"}, "GB": {"ENG", "SCT", "WLS"}, "US": {"CA", "NY", "TX", "WA"}, "SE": {"AB", "M"}, "FR": {"IDF", "BRE"}, "FI": {"18", "11"}, "IN": {"KA", "MH"}, "CN": {"BJ", "SH"}, "JP": {"13", "27"}, "BR": {"SP", "RJ"}}
)

// user says what an edition of a user is.
func (c *catalog) user(r *schemas.User, n, edition int) {
	d := c.editions(1, n, edition)
	country := c.shop.country(int32(n))
	r.UserID = string(appendUser(nil, n))
	fixed := newDice(c.seed, 1, uint64(n), forRow)
	// It grows with each edition, so that no two say the same.
	r.Numbers = append(r.Numbers, schemas.Number{Key: "visits", Value: float64(1 + fixed.below(50) + 3*edition)})
	if fixed.one(20) {
		return // next to nothing is known of some
	}
	r.VisitorIDs = append(r.VisitorIDs, "v"+string(appendHex(nil, c.shop.trait(uint64(n), 5))))
	if d[0].one(4) {
		r.VisitorIDs = append(r.VisitorIDs, "v"+string(appendHex(nil, c.shop.trait(uint64(n)|1<<40, 5))))
		slices.Sort(r.VisitorIDs)
	}
	r.Segments = some(&d[1], segments, 5)
	r.Country, r.Language = country.code, country.locale
	if d[2].below(3) > 0 {
		r.Region, r.Timezone = pick(&d[2], regions[country.code]), timezones[country.code]
	}
	if fixed.below(3) > 0 {
		r.AgeBand = pick(&fixed, ageBands)
	}
	r.Plan = pick(&d[3], plans)
	r.Consent = some(&d[4], purposes, 4)
	r.Attributes = append(r.Attributes, schemas.Pair{Key: "channel", Value: pick(&fixed, channels)})
	if d[5].one(2) {
		v := vocabularyOf(country.locale)
		r.Attributes = append(r.Attributes, schemas.Pair{Key: "über mich", Value: capital(string(v.words(nil, &d[5], 2+d[5].below(6))))})
	}
	if d[3].one(2) {
		r.Numbers = append(r.Numbers, schemas.Number{Key: "lifetime_value", Value: float64(d[3].below(100_000)) / 100})
		slices.SortFunc(r.Numbers, func(a, b schemas.Number) int { return strings.Compare(a.Key, b.Key) })
	}
	if fixed.one(10) {
		r.Extra = append(r.Extra, schemas.Pair{Key: "crm_id", Value: strconv.Itoa(1000 + n)})
	}
}

var (
	departments = []string{"Bücher", "Clothing", "Électroménager", "Garden & Patio", "Home", "Jeux", "Sport", "食品"}
	shelves     = []string{"Accessories", "Basics", "Für Kinder", "New", "Outlet", "Prêt-à-porter", "Shoes", "Travel"}
	brands      = []string{"Ångström", "Bauhof", "Café Noir", "Dorn", "Élan", "Fjäll", "Gumbo", "Hütte", "Iris", "Jörð", "Kōyō", "Lumen"}
	colours     = []string{"bleu", "black", "grün", "red", "violet", "白"}
	materials   = []string{"cotton", "glass", "Holz", "laine", "steel"}
	tags        = []string{"bestseller", "crème", "eco", "Frühling", "gift", "handmade", "neu", "sale", "summer", "vegan", "winter", "été", "限定"}
)

// item says what an edition of an item is.
func (c *catalog) item(r *schemas.Item, n, edition int) {
	d := c.editions(2, n, edition)
	fixed := newDice(c.seed, 2, uint64(n), forRow)
	r.ItemID = string(appendItem(nil, int32(n)))
	locale := countries[c.shop.countries[fixed.below(len(c.shop.countries))]].locale
	v := vocabularyOf(locale)
	brand := pick(&fixed, brands)
	r.Title = c.title(v, &d[0], brand)
	// It grows with each edition, so that no two say the same.
	r.RatingCount = schemas.Some(int64(math.Exp(fixed.unit()*8)) + int64(2*edition))
	if fixed.one(20) {
		return // next to nothing is known of some
	}
	r.ItemType = "product"
	if c.shop.video(int32(n)) {
		r.ItemType = "movie"
	}
	r.Brand, r.Language = brand, locale
	r.Rating = schemas.Some(float64(10+d[1].below(41)) / 10)
	for range 1 + d[2].below(3) {
		path := pick(&d[2], departments)
		for range d[2].below(3) {
			path += " > " + pick(&d[2], shelves)
		}
		if !slices.Contains(r.Categories, path) {
			r.Categories = append(r.Categories, path)
		}
	}
	r.Tags = some(&d[2], tags, 6)
	cents := c.shop.price(int32(n))
	if cut := d[3].below(8); cut < 4 {
		cents -= cents * int64(cut) / 10
	}
	r.Price, r.Currency = schemas.Some(float64(cents)/100), "EUR"
	r.Availability = schemas.Availabilities[min(d[3].below(12), 11)*len(schemas.Availabilities)/12]
	if d[4].below(10) > 0 {
		r.Content = v.prose(&d[4], contentSize(&d[4]))
	}
	r.URI = "https://shop.example/p/" + r.ItemID
	for i := range d[5].below(4) {
		r.ImageURIs = append(r.ImageURIs, "https://img.shop.example/"+r.ItemID+"/"+strconv.Itoa(d[5].below(100))+"-"+strconv.Itoa(i)+".webp")
	}
	c.dates(r, &fixed)
	if c.options.Dimensions > 0 && d[4].below(3) > 0 {
		for range c.options.Dimensions {
			r.Embedding = append(r.Embedding, float32(d[4].below(2001)-1000)/1000)
		}
	}
	r.Attributes = append(r.Attributes, schemas.Pair{Key: "colour", Value: pick(&d[5], colours)}, schemas.Pair{Key: "matière", Value: pick(&fixed, materials)})
	if fixed.one(2) {
		r.Numbers = append(r.Numbers, schemas.Number{Key: "height_cm", Value: float64(fixed.below(4000)) / 10}, schemas.Number{Key: "stock", Value: float64(d[3].below(500))})
	}
	if fixed.one(10) {
		r.Extra = append(r.Extra, schemas.Pair{Key: "shelf", Value: `{"aisle":` + strconv.Itoa(fixed.below(40)) + `,"row":"b"}`}, schemas.Pair{Key: "supplier", Value: `"S` + strconv.Itoa(fixed.below(100)) + `"`})
	}
}

// title returns a few words, rarely many.
func (c *catalog) title(v vocabulary, d *dice, brand string) string {
	n := 2 + d.below(4)
	if d.one(20) {
		n += d.below(40)
	}
	b := append([]byte(brand), ' ')
	b = append(b, capital(string(v.words(nil, d, n)))...)
	if d.one(15) {
		b = append(b, " 🎁"...)
	}
	return string(b)
}

// contentSize returns how many bytes a text has: 50 to 2,000, short ones being more frequent.
func contentSize(d *dice) int {
	u := d.unit()
	return int(50 * math.Exp(u*u*math.Log(40)))
}

// dates says when an item came out, and when it can be had.
func (c *catalog) dates(r *schemas.Item, d *dice) {
	start := c.options.Start.UnixMicro()
	const year = int64(365 * 24 * time.Hour / time.Microsecond)
	switch d.below(4) {
	case 0: // a classic, perhaps older than Unix
		r.PublishedTime = schemas.Some(-20*year + int64(d.below(50*365))*dayMicros)
	case 1, 2:
		r.PublishedTime = schemas.Some(start - int64(d.roll()>>1%uint64(3*year)))
	}
	if d.one(3) {
		r.AvailableFrom = schemas.Some(start - int64(d.below(365))*dayMicros)
		if d.one(2) {
			r.Expires = schemas.Some(r.AvailableFrom.V + int64(1+d.below(900))*dayMicros)
		}
	}
}
