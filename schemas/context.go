package schemas

// Context is where, when and how an event happened: within an event, derived from it, or a stream of its own.
type Context struct {
	TZOffsetMin Int
	LocalHour   Int
	LocalDow    Int

	Country string
	Region  string
	City    string
	Geohash string

	DeviceClass string
	OS          string
	Browser     string
	AppVersion  string
	Network     string

	Surface        string
	ReferrerMedium string
	Campaign       string
	Locale         string
	IsBot          Bool
}

// ContextColumns are the columns of a context.
var ContextColumns = []Column[Context]{
	{Name: "tz_offset_min", Kind: Int64, Doc: "Local time minus UTC, in minutes, -840 to 840.", Int: func(c *Context) *Int { return &c.TZOffsetMin }},
	{Name: "local_hour", Kind: Int64, Doc: "Hour of the day where the user was, 0 to 23.", Int: func(c *Context) *Int { return &c.LocalHour }},
	{Name: "local_dow", Kind: Int64, Doc: "Day of the week where the user was, 1 (Monday) to 7 (ISO 8601).", Int: func(c *Context) *Int { return &c.LocalDow }},
	{Name: "country", Kind: String, Enum: true, Doc: "ISO 3166-1 alpha-2 code, upper case.", Str: func(c *Context) *string { return &c.Country }},
	{Name: "region", Kind: String, Enum: true, Doc: "ISO 3166-2 subdivision, without the country.", Str: func(c *Context) *string { return &c.Region }},
	{Name: "city", Kind: String, Enum: true, Doc: "City, in English.", Str: func(c *Context) *string { return &c.City }},
	{Name: "geohash", Kind: String, Enum: true, Doc: "Geohash of at most 5 characters (about 5 km); longer ones are cut.", Str: func(c *Context) *string { return &c.Geohash }},
	{Name: "device_class", Kind: String, Enum: true, Doc: "desktop, mobile, tablet, tv, bot or other.", Str: func(c *Context) *string { return &c.DeviceClass }},
	{Name: "os", Kind: String, Enum: true, Doc: "Operating system, lower case.", Str: func(c *Context) *string { return &c.OS }},
	{Name: "browser", Kind: String, Enum: true, Doc: "Browser, lower case.", Str: func(c *Context) *string { return &c.Browser }},
	{Name: "app_version", Kind: String, Enum: true, Doc: "Version of the app or site.", Str: func(c *Context) *string { return &c.AppVersion }},
	{Name: "network", Kind: String, Enum: true, Doc: "wifi, cellular, ethernet, offline or other.", Str: func(c *Context) *string { return &c.Network }},
	{Name: "surface", Kind: String, Enum: true, Doc: "Where in the product: home, search, detail, cart, email.", Str: func(c *Context) *string { return &c.Surface }},
	{Name: "referrer_medium", Kind: String, Enum: true, Doc: "How the visit came: search, social, email, paid, internal, direct.", Str: func(c *Context) *string { return &c.ReferrerMedium }},
	{Name: "campaign", Kind: String, Enum: true, Doc: "Marketing campaign.", Str: func(c *Context) *string { return &c.Campaign }},
	{Name: "locale", Kind: String, Enum: true, Doc: "BCP 47 language tag, such as de-AT.", Str: func(c *Context) *string { return &c.Locale }},
	{Name: "is_bot", Kind: Boolean, Doc: "Whether the user agent is a robot's.", Bool: func(c *Context) *Bool { return &c.IsBot }},
}

// within returns the columns of a struct P that rows R hold, their names prefixed.
func within[R, P any](prefix string, columns []Column[P], place func(*R) *P) []Column[R] {
	var out []Column[R]
	for _, c := range columns {
		o := Column[R]{Name: prefix + c.Name, Kind: c.Kind, Required: c.Required, Enum: c.Enum, System: c.System, Made: c.Made, Doc: c.Doc}
		switch {
		case c.Str != nil:
			o.Str = func(r *R) *string { return c.Str(place(r)) }
		case c.Int != nil:
			o.Int = func(r *R) *Int { return c.Int(place(r)) }
		case c.Float != nil:
			o.Float = func(r *R) *Float { return c.Float(place(r)) }
		case c.Bool != nil:
			o.Bool = func(r *R) *Bool { return c.Bool(place(r)) }
		case c.List != nil:
			o.List = func(r *R) *[]string { return c.List(place(r)) }
		case c.Map != nil:
			o.Map = func(r *R) *[]Pair { return c.Map(place(r)) }
		}
		out = append(out, o)
	}
	return out
}
