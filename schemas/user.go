package schemas

// User is what is known of one user.
//
// Strings may alias the buffer that the row was read from: copy what has to live longer.
type User struct {
	UserID     string
	Stamp      Stamp
	VisitorIDs []string
	Segments   []string
	Country    string
	Region     string
	Language   string
	Timezone   string
	AgeBand    string
	Plan       string
	Consent    []string
	Attributes []Pair
	Numbers    []Number
	Extra      []Pair
}

// Reset makes r a fresh row. It keeps the capacity of the lists.
func (r *User) Reset() {
	*r = User{
		VisitorIDs: r.VisitorIDs[:0], Segments: r.Segments[:0], Consent: r.Consent[:0],
		Attributes: r.Attributes[:0], Numbers: r.Numbers[:0], Extra: r.Extra[:0],
	}
}

// Users is the table of users.
var Users = &Table[User]{
	Name:       "users",
	Version:    1,
	Slot:       func(r *User) (string, int64) { return r.UserID, r.Stamp.UpdatedTime.V },
	SortBy:     func(r *User) string { return r.UserID },
	Stamp:      func(r *User) *Stamp { return &r.Stamp },
	Reset:      (*User).Reset,
	Clean:      (*User).Clean,
	Check:      (*User).Check,
	Arrange:    (*User).Arrange,
	KeyColumns: 6,
	Extra:      func(r *User) *[]Pair { return &r.Extra },
	Columns: append(append([]Column[User]{
		{Name: "user_id", Kind: String, Required: true, Doc: "Identifies the user.", Str: func(r *User) *string { return &r.UserID }},
	}, within("", stampColumns, func(r *User) *Stamp { return &r.Stamp })...), []Column[User]{
		{Name: "visitor_ids", Kind: Strings, Doc: "Devices and cookies that were seen to be this user's, sorted. At most 1,000.", List: func(r *User) *[]string { return &r.VisitorIDs }},
		{Name: "segments", Kind: Strings, Doc: "Groups that the user is in, sorted. At most 1,000.", List: func(r *User) *[]string { return &r.Segments }},
		{Name: "country", Kind: String, Enum: true, Doc: "ISO 3166-1 alpha-2 code, upper case.", Str: func(r *User) *string { return &r.Country }},
		{Name: "region", Kind: String, Enum: true, Doc: "ISO 3166-2 subdivision, without the country.", Str: func(r *User) *string { return &r.Region }},
		{Name: "language", Kind: String, Enum: true, Doc: "BCP 47 language tag, such as de-AT.", Str: func(r *User) *string { return &r.Language }},
		{Name: "timezone", Kind: String, Enum: true, Doc: "IANA time zone, such as Europe/Vienna.", Str: func(r *User) *string { return &r.Timezone }},
		{Name: "age_band", Kind: String, Enum: true, Doc: "Band of ages, such as 25-34, never a date of birth.", Str: func(r *User) *string { return &r.AgeBand }},
		{Name: "plan", Kind: String, Enum: true, Doc: "What the user subscribes to.", Str: func(r *User) *string { return &r.Plan }},
		{Name: "consent", Kind: Strings, Doc: "Purposes that the user has agreed to, such as personalization, sorted. At most 100.", List: func(r *User) *[]string { return &r.Consent }},
		{Name: "attributes", Kind: Map, Doc: "What else is known, as text, sorted by name. At most 256.", Map: func(r *User) *[]Pair { return &r.Attributes }},
		{Name: "numbers", Kind: Numbers, Doc: "What else is known, as numbers, sorted by name. At most 256.", Numbers: func(r *User) *[]Number { return &r.Numbers }},
		{Name: "extra", Kind: Map, System: true, Doc: "What the source sent under names that the mapping does not know: path to JSON text. At most 64 entries and 16 KiB; the rest is counted.", Map: func(r *User) *[]Pair { return &r.Extra }},
	}...),
}
