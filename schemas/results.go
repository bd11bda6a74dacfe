package schemas

// Pane is what all rows of the result of a window have: of which window, which of its results, and why there is one.
type Pane struct {
	WindowStart Time
	WindowEnd   Time
	Revision    Int
	Timing      string
}

// The timings of a pane.
const (
	PaneEarly   = "early"   // the window is not over
	PaneOnTime  = "on_time" // the watermark has passed its end
	PaneLate    = "late"    // events came after that
	PaneSettled = "settled" // the grace period is over too; the only pane in the main tables
)

// paneColumns are the columns of a pane.
var paneColumns = []Column[Pane]{
	{Name: "window_start", Kind: Micros, Required: true, Doc: "First instant of the window.", Int: func(r *Pane) *Int { return &r.WindowStart }},
	{Name: "window_end", Kind: Micros, Required: true, Doc: "First instant after the window.", Int: func(r *Pane) *Int { return &r.WindowEnd }},
	{Name: "revision", Kind: Int64, Required: true, Doc: "Grows with each result of the window that was made of more events.", Int: func(r *Pane) *Int { return &r.Revision }},
	{Name: "pane", Kind: String, Required: true, Enum: true, Doc: "early, on_time, late, or settled.", Str: func(r *Pane) *string { return &r.Timing }},
}

// Session is what one user, or visitor, did without a pause. It belongs to the window in which it ended.
type Session struct {
	SessionKey   string
	StartTime    Time
	EndTime      Time
	UserID       string
	VisitorID    string
	Duration     Float
	Events       Int
	EventsByType []Number
	Items        []string
	EntrySurface string
	Converted    Bool

	Pane Pane
}

// Reset makes r a fresh row. Its lists are given up: they may be the caller's.
func (r *Session) Reset() { *r = Session{} }

// Sessions is the table of sessions.
var Sessions = &Table[Session]{
	Name:       "sessions",
	Version:    1,
	Slot:       func(r *Session) (string, int64) { return r.SessionKey, r.EndTime.V },
	KeyColumns: 5,
	SortBy: func(r *Session) string {
		if r.UserID != "" {
			return r.UserID
		}
		return r.VisitorID
	},
	Columns: append([]Column[Session]{
		{Name: "session_key", Kind: String, Required: true, Doc: "Identifies the session: made from who it was and when it began.", Str: func(r *Session) *string { return &r.SessionKey }},
		{Name: "start_time", Kind: Micros, Required: true, Doc: "Time of the first event.", Int: func(r *Session) *Int { return &r.StartTime }},
		{Name: "end_time", Kind: Micros, Required: true, Doc: "Time of the last event.", Int: func(r *Session) *Int { return &r.EndTime }},
		{Name: "user_id", Kind: String, Doc: "Whose it is. One of user_id and visitor_id is there.", Str: func(r *Session) *string { return &r.UserID }},
		{Name: "visitor_id", Kind: String, Doc: "The device or cookie whose it is.", Str: func(r *Session) *string { return &r.VisitorID }},
		{Name: "duration", Kind: Float64, Required: true, Doc: "From the first to the last event, in seconds.", Float: func(r *Session) *Float { return &r.Duration }},
		{Name: "events", Kind: Int64, Required: true, Doc: "How many events it has.", Int: func(r *Session) *Int { return &r.Events }},
		{Name: "events_by_type", Kind: Numbers, Doc: "How many of each event type.", Numbers: func(r *Session) *[]Number { return &r.EventsByType }},
		{Name: "items", Kind: Strings, Doc: "Items of its events in their order, but for those only shown (exposure); an item that follows itself is there once. At most 1,000.", List: func(r *Session) *[]string { return &r.Items }},
		{Name: "entry_surface", Kind: String, Enum: true, Doc: "context.surface of the first event.", Str: func(r *Session) *string { return &r.EntrySurface }},
		{Name: "converted", Kind: Boolean, Required: true, Doc: "Whether there is a purchase in it.", Bool: func(r *Session) *Bool { return &r.Converted }},
	}, within("", paneColumns, func(r *Session) *Pane { return &r.Pane })...),
}

// Trend is how much was done with an item in a window: by all, or by a country, or among the items of a category.
type Trend struct {
	Scope        string
	ScopeValue   string
	Rank         Int
	ItemID       string
	Popularity   Float
	Score        Float
	Events       Int
	EventsByType []Number

	Pane Pane
}

// Reset makes r a fresh row. Its list is given up: it may be the caller's.
func (r *Trend) Reset() { *r = Trend{} }

// The scopes of a trend.
const (
	ScopeAll      = "all"
	ScopeCategory = "category"
	ScopeCountry  = "country"
)

// Trending is the table of the items that are done most with.
var Trending = &Table[Trend]{
	Name:       "trending",
	Version:    1,
	Slot:       func(r *Trend) (string, int64) { return r.ItemID, r.Pane.WindowStart.V },
	SortBy:     func(r *Trend) string { return r.Scope },
	KeyColumns: 4,
	Columns: append([]Column[Trend]{
		{Name: "scope", Kind: String, Required: true, Enum: true, Doc: "all, category or country: among which items, or by whom.", Str: func(r *Trend) *string { return &r.Scope }},
		{Name: "scope_value", Kind: String, Enum: true, Doc: "The category, as a path of the item or the beginning of one (\"A > B\"), or the country.", Str: func(r *Trend) *string { return &r.ScopeValue }},
		{Name: "rank", Kind: Int64, Required: true, Doc: "Place in the scope by popularity, from 1.", Int: func(r *Trend) *Int { return &r.Rank }},
		{Name: "item_id", Kind: String, Required: true, Doc: "The item.", Str: func(r *Trend) *string { return &r.ItemID }},
		{Name: "popularity", Kind: Float64, Required: true, Doc: "Sum of the weights of its events, each halved for every half-life between its minute and the end of the window.", Float: func(r *Trend) *Float { return &r.Popularity }},
		{Name: "score", Kind: Float64, Required: true, Doc: "Sum of the weights of its events.", Float: func(r *Trend) *Float { return &r.Score }},
		{Name: "events", Kind: Int64, Required: true, Doc: "How many events there were with it.", Int: func(r *Trend) *Int { return &r.Events }},
		{Name: "events_by_type", Kind: Numbers, Doc: "How many of each event type.", Numbers: func(r *Trend) *[]Number { return &r.EventsByType }},
	}, within("", paneColumns, func(r *Trend) *Pane { return &r.Pane })...),
}

// Funnel is how far an item came in a window: shown, clicked, put into carts, bought.
type Funnel struct {
	ItemID      string
	Impressions Int
	Views       Int
	Clicks      Int
	Carts       Int
	Purchases   Int
	CTR         Float
	CTRLow      Float
	CTRHigh     Float

	Pane Pane
}

// Reset makes r a fresh row.
func (r *Funnel) Reset() { *r = Funnel{} }

// Funnels is the table of funnels.
var Funnels = &Table[Funnel]{
	Name:       "funnel",
	Version:    1,
	Slot:       func(r *Funnel) (string, int64) { return r.ItemID, r.Pane.WindowStart.V },
	SortBy:     func(r *Funnel) string { return r.ItemID },
	KeyColumns: 1,
	Columns: append([]Column[Funnel]{
		{Name: "item_id", Kind: String, Required: true, Doc: "The item.", Str: func(r *Funnel) *string { return &r.ItemID }},
		{Name: "impressions", Kind: Int64, Required: true, Doc: "How often it was shown.", Int: func(r *Funnel) *Int { return &r.Impressions }},
		{Name: "views", Kind: Int64, Required: true, Doc: "How often its own page was seen.", Int: func(r *Funnel) *Int { return &r.Views }},
		{Name: "clicks", Kind: Int64, Required: true, Doc: "How often it was clicked.", Int: func(r *Funnel) *Int { return &r.Clicks }},
		{Name: "carts", Kind: Int64, Required: true, Doc: "How often it was put into a cart.", Int: func(r *Funnel) *Int { return &r.Carts }},
		{Name: "purchases", Kind: Int64, Required: true, Doc: "How often it was bought.", Int: func(r *Funnel) *Int { return &r.Purchases }},
		{Name: "ctr", Kind: Float64, Doc: "Clicks by impressions; absent without impressions. More than 1 where clicks came without what was shown.", Float: func(r *Funnel) *Float { return &r.CTR }},
		{Name: "ctr_low", Kind: Float64, Doc: "Lower end of its 95 % interval (E. B. Wilson, 1927).", Float: func(r *Funnel) *Float { return &r.CTRLow }},
		{Name: "ctr_high", Kind: Float64, Doc: "Upper end of it.", Float: func(r *Funnel) *Float { return &r.CTRHigh }},
	}, within("", paneColumns, func(r *Funnel) *Pane { return &r.Pane })...),
}

// CoOccurrence is an item that sessions had together with another.
type CoOccurrence struct {
	ItemID        string
	OtherItemID   string
	Rank          Int
	Sessions      Int
	ItemSessions  Int
	OtherSessions Int
	Similarity    Float

	Pane Pane
}

// Reset makes r a fresh row.
func (r *CoOccurrence) Reset() { *r = CoOccurrence{} }

// CoOccurrences is the table of items that go together.
var CoOccurrences = &Table[CoOccurrence]{
	Name:       "co_occurrence",
	Version:    1,
	Slot:       func(r *CoOccurrence) (string, int64) { return r.ItemID, r.Pane.WindowStart.V },
	SortBy:     func(r *CoOccurrence) string { return r.ItemID },
	KeyColumns: 2,
	Columns: append([]Column[CoOccurrence]{
		{Name: "item_id", Kind: String, Required: true, Doc: "The item.", Str: func(r *CoOccurrence) *string { return &r.ItemID }},
		{Name: "other_item_id", Kind: String, Required: true, Doc: "The item that goes with it.", Str: func(r *CoOccurrence) *string { return &r.OtherItemID }},
		{Name: "rank", Kind: Int64, Required: true, Doc: "Place among those that go with the item, from 1, by sessions and then by similarity.", Int: func(r *CoOccurrence) *Int { return &r.Rank }},
		{Name: "sessions", Kind: Int64, Required: true, Doc: "How many sessions that ended in the window had both.", Int: func(r *CoOccurrence) *Int { return &r.Sessions }},
		{Name: "item_sessions", Kind: Int64, Required: true, Doc: "How many of them had the item.", Int: func(r *CoOccurrence) *Int { return &r.ItemSessions }},
		{Name: "other_sessions", Kind: Int64, Required: true, Doc: "How many of them had the other.", Int: func(r *CoOccurrence) *Int { return &r.OtherSessions }},
		{Name: "similarity", Kind: Float64, Required: true, Doc: "Cosine: sessions by the root of item_sessions times other_sessions.", Float: func(r *CoOccurrence) *Float { return &r.Similarity }},
	}, within("", paneColumns, func(r *CoOccurrence) *Pane { return &r.Pane })...),
}

// LiveOf returns the name of the table with all results of windows that are not settled; see package windows.
func LiveOf(table string) string { return table + "_live" }
