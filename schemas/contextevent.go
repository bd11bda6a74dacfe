package schemas

// ContextEvent says where, when and how somebody was from a time on: an event of a stream of its own, to which interactions are
// joined by session, or by visitor where there is no session.
//
// Strings may alias the buffer that the row was read from: copy what has to live longer.
type ContextEvent struct {
	EventID      string
	EventTime    Time
	SessionID    string
	VisitorID    string
	ReceivedTime Time
	LoadedTime   Time
	Context      Context
	Attributes   []Pair
	Lineage      Lineage
	Extra        []Pair

	// Raw is what context is derived from. It is never a column, so it is never stored.
	Raw Raw
}

// Reset makes r a fresh row. It keeps the capacity of the lists.
func (r *ContextEvent) Reset() {
	attributes, extra, lineage := r.Attributes[:0], r.Extra[:0], r.Lineage.Attributes[:0]
	*r = ContextEvent{Attributes: attributes, Extra: extra}
	r.Lineage.Attributes = lineage
}

// Contexts is the table of contexts.
var Contexts = &Table[ContextEvent]{
	Name:    "contexts",
	Version: 1,
	Slot:    func(r *ContextEvent) (string, int64) { return r.EventID, r.EventTime.V },
	SortBy: func(r *ContextEvent) string {
		if r.SessionID != "" {
			return r.SessionID
		}
		return r.VisitorID
	},
	KeyColumns: 4,
	Inputs: []Column[ContextEvent]{
		{Name: "raw.user_agent", Kind: String, Doc: "User agent, from which device, os, browser and is_bot are derived.", Str: func(r *ContextEvent) *string { return &r.Raw.UserAgent }},
		{Name: "raw.ip", Kind: String, Doc: "IP address, from which country, region, city and geohash are derived.", Str: func(r *ContextEvent) *string { return &r.Raw.IP }},
	},
	Extra: func(r *ContextEvent) *[]Pair { return &r.Extra },
	Columns: append(append([]Column[ContextEvent]{
		{Name: "event_id", Kind: String, Required: true, Made: true, Doc: "Identifies the event. Made from the fields that identify it where the source has none.", Str: func(r *ContextEvent) *string { return &r.EventID }},
		{Name: "event_time", Kind: Micros, Required: true, Doc: "From when on it holds.", Int: func(r *ContextEvent) *Int { return &r.EventTime }},
		{Name: "session_id", Kind: String, Doc: "The visit it is about. One of session_id and visitor_id is required.", Str: func(r *ContextEvent) *string { return &r.SessionID }},
		{Name: "visitor_id", Kind: String, Doc: "The device or cookie it is about, for interactions without a session.", Str: func(r *ContextEvent) *string { return &r.VisitorID }},
		{Name: "received_time", Kind: Micros, Doc: "When the message queue or the collector took it.", Int: func(r *ContextEvent) *Int { return &r.ReceivedTime }},
		{Name: "loaded_time", Kind: Micros, System: true, Doc: "When Backbone read it.", Int: func(r *ContextEvent) *Int { return &r.LoadedTime }},
	}, within("context.", ContextColumns, func(r *ContextEvent) *Context { return &r.Context })...), []Column[ContextEvent]{
		{Name: "attributes", Kind: Map, Doc: "What else is so, such as the weather: name to text. At most 64.", Map: func(r *ContextEvent) *[]Pair { return &r.Attributes }},
		{Name: "lineage.source", Kind: String, System: true, Enum: true, Doc: "URL of the file, or the subscription, that it was read from.", Str: func(r *ContextEvent) *string { return &r.Lineage.Source }},
		{Name: "lineage.message_id", Kind: String, System: true, Doc: "Id that the message queue gave it.", Str: func(r *ContextEvent) *string { return &r.Lineage.MessageID }},
		{Name: "lineage.offset", Kind: Int64, System: true, Doc: "First byte of the record in its file.", Int: func(r *ContextEvent) *Int { return &r.Lineage.Offset }},
		{Name: "lineage.schema_version", Kind: Int64, System: true, Doc: "Version of this table that the row was written as.", Int: func(r *ContextEvent) *Int { return &r.Lineage.SchemaVersion }},
		{Name: "lineage.synthetic_id", Kind: Boolean, System: true, Doc: "True where event_id was made by Backbone.", Bool: func(r *ContextEvent) *Bool { return &r.Lineage.SyntheticID }},
		{Name: "lineage.attributes", Kind: Map, System: true, Doc: "Attributes of the message.", Map: func(r *ContextEvent) *[]Pair { return &r.Lineage.Attributes }},
		{Name: "extra", Kind: Map, System: true, Doc: "What the producer sent under names that the mapping does not know: path to JSON text. At most 64 entries and 16 KiB; the rest is counted.", Map: func(r *ContextEvent) *[]Pair { return &r.Extra }},
	}...),
}

// Key returns what interactions are joined by: the session, or the visitor where there is none.
func (r *ContextEvent) Key() string { return ContextKey(r.SessionID, r.VisitorID) }

// ContextKey returns what contexts and interactions have in common where they belong together: a session, or without one a
// visitor. Ids have no control characters, so the two can't be mistaken for each other.
func ContextKey(session, visitor string) string {
	switch {
	case session != "":
		return session
	case visitor != "":
		return "\x01" + visitor
	}
	return ""
}

// MaxContextAttributes bounds the attributes of a context.
const MaxContextAttributes = 64

// Check returns the first rule that r breaks, or nil; see that of Interaction.
func (r *ContextEvent) Check(o Rules) *FieldError {
	switch {
	case r.EventID == "":
		return missing("event_id", "every event needs an id")
	case !r.EventTime.Set:
		return missing("event_time", "every event needs the time when it happened")
	case r.SessionID == "" && r.VisitorID == "":
		return missing("session_id", "one of session_id and visitor_id is needed")
	case !isID(r.EventID):
		return badID("event_id", r.EventID)
	case !isID(r.SessionID):
		return badID("session_id", r.SessionID)
	case !isID(r.VisitorID):
		return badID("visitor_id", r.VisitorID)
	}
	if err := checkTime("event_time", r.EventTime, o.Now); err != nil {
		return err
	}
	if err := checkTime("received_time", r.ReceivedTime, o.Now); err != nil {
		return err
	}
	if err := r.Context.check(); err != nil {
		return err
	}
	for i := range ContextColumns {
		if c := &ContextColumns[i]; c.Str != nil && len(*c.Str(&r.Context)) > MaxText {
			return tooLarge("context."+c.Name, len(*c.Str(&r.Context)), MaxText, "bytes")
		}
	}
	if len(r.Attributes) > MaxContextAttributes {
		return tooLarge("attributes", len(r.Attributes), MaxContextAttributes, "entries")
	}
	for _, p := range r.Attributes {
		if len(p.Key) > MaxText || len(p.Value) > MaxText {
			return tooLarge("attributes."+p.Key[:min(len(p.Key), MaxID)], max(len(p.Key), len(p.Value)), MaxText, "bytes")
		}
	}
	return nil
}

// FillIn adds to a context what another one says. What it says itself stays.
func (c *Context) FillIn(more *Context) {
	for i := range ContextColumns {
		column := &ContextColumns[i]
		switch {
		case column.Str != nil:
			if to := column.Str(c); *to == "" {
				*to = *column.Str(more)
			}
		case column.Int != nil:
			if to := column.Int(c); !to.Set {
				*to = *column.Int(more)
			}
		case column.Bool != nil:
			if to := column.Bool(c); !to.Set {
				*to = *column.Bool(more)
			}
		}
	}
}
