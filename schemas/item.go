package schemas

// Item is what is known of one item that can be shown or recommended.
//
// Strings may alias the buffer that the row was read from: copy what has to live longer.
type Item struct {
	ItemID        string
	Stamp         Stamp
	ItemType      string
	Title         string
	Categories    []string
	Brand         string
	Tags          []string
	Price         Float
	Currency      string
	Availability  string
	Rating        Float
	RatingCount   Int
	PublishedTime Time
	AvailableFrom Time
	Expires       Time
	Content       string
	Language      string
	URI           string
	ImageURIs     []string
	Embedding     []float32
	Attributes    []Pair
	Numbers       []Number
	Extra         []Pair
}

// Reset makes r a fresh row. It keeps the capacity of the lists.
func (r *Item) Reset() {
	*r = Item{
		Categories: r.Categories[:0], Tags: r.Tags[:0], ImageURIs: r.ImageURIs[:0], Embedding: r.Embedding[:0],
		Attributes: r.Attributes[:0], Numbers: r.Numbers[:0], Extra: r.Extra[:0],
	}
}

// Items is the table of items.
var Items = &Table[Item]{
	Name:       "items",
	Version:    1,
	Slot:       func(r *Item) (string, int64) { return r.ItemID, r.Stamp.UpdatedTime.V },
	SortBy:     func(r *Item) string { return r.ItemID },
	Stamp:      func(r *Item) *Stamp { return &r.Stamp },
	Reset:      (*Item).Reset,
	Clean:      (*Item).Clean,
	Check:      (*Item).Check,
	Arrange:    (*Item).Arrange,
	KeyColumns: 6,
	Extra:      func(r *Item) *[]Pair { return &r.Extra },
	Columns: append(append([]Column[Item]{
		{Name: "item_id", Kind: String, Required: true, Doc: "Identifies the item.", Str: func(r *Item) *string { return &r.ItemID }},
	}, within("", stampColumns, func(r *Item) *Stamp { return &r.Stamp })...), []Column[Item]{
		{Name: "item_type", Kind: String, Enum: true, Doc: "What kind of item it is, such as product, movie or article.", Str: func(r *Item) *string { return &r.ItemType }},
		{Name: "title", Kind: String, Doc: "What it is called. At most 4,096 bytes.", Str: func(r *Item) *string { return &r.Title }},
		{Name: "categories", Kind: Strings, Doc: "Paths from general to special, such as Clothing > Shoes; the first is the main one. At most 250.", List: func(r *Item) *[]string { return &r.Categories }},
		{Name: "brand", Kind: String, Enum: true, Doc: "Who makes it.", Str: func(r *Item) *string { return &r.Brand }},
		{Name: "tags", Kind: Strings, Doc: "Words that were given to it, sorted. At most 1,000.", List: func(r *Item) *[]string { return &r.Tags }},
		{Name: "price", Kind: Float64, Doc: "What one costs, in currency; 0 or more.", Float: func(r *Item) *Float { return &r.Price }},
		{Name: "currency", Kind: String, Enum: true, Doc: "ISO 4217 code, upper case. Required with price.", Str: func(r *Item) *string { return &r.Currency }},
		{Name: "availability", Kind: String, Enum: true, Doc: "in_stock, out_of_stock, preorder, backorder or discontinued.", Str: func(r *Item) *string { return &r.Availability }},
		{Name: "rating", Kind: Float64, Doc: "Mean of its ratings; 0 or more.", Float: func(r *Item) *Float { return &r.Rating }},
		{Name: "rating_count", Kind: Int64, Doc: "How many ratings there are; 0 or more.", Int: func(r *Item) *Int { return &r.RatingCount }},
		{Name: "published_time", Kind: Micros, Doc: "When it came out. May be before 1970 and in the future.", Int: func(r *Item) *Int { return &r.PublishedTime }},
		{Name: "available_from", Kind: Micros, Doc: "When it can be had.", Int: func(r *Item) *Int { return &r.AvailableFrom }},
		{Name: "expires", Kind: Micros, Doc: "When it can be had no more; not before available_from.", Int: func(r *Item) *Int { return &r.Expires }},
		{Name: "content", Kind: String, Doc: "Its text, plain: HTML is stripped. At most 1 MiB.", Str: func(r *Item) *string { return &r.Content }},
		{Name: "language", Kind: String, Enum: true, Doc: "BCP 47 language tag of title and content, such as de-AT.", Str: func(r *Item) *string { return &r.Language }},
		{Name: "uri", Kind: String, Doc: "Its page: an absolute http or https URL.", Str: func(r *Item) *string { return &r.URI }},
		{Name: "image_uris", Kind: Strings, Doc: "Its pictures, the main one first: absolute http or https URLs. At most 100.", List: func(r *Item) *[]string { return &r.ImageURIs }},
		{Name: "embedding", Kind: Floats, Doc: "Its vector. All items of a table have one of the same length, or none. At most 8,192.", Vector: func(r *Item) *[]float32 { return &r.Embedding }},
		{Name: "attributes", Kind: Map, Doc: "What else is known, as text, sorted by name. At most 256.", Map: func(r *Item) *[]Pair { return &r.Attributes }},
		{Name: "numbers", Kind: Numbers, Doc: "What else is known, as numbers, sorted by name. At most 256.", Numbers: func(r *Item) *[]Number { return &r.Numbers }},
		{Name: "extra", Kind: Map, System: true, Doc: "What the source sent under names that the mapping does not know: path to JSON text. At most 64 entries and 16 KiB; the rest is counted.", Map: func(r *Item) *[]Pair { return &r.Extra }},
	}...),
}
