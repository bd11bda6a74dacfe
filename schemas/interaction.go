package schemas

// Interaction is one thing that one user did, or was shown, at one time.
//
// Strings may alias the buffer that the row was read from: copy what has to live longer.
type Interaction struct {
	EventID      string
	EventTime    Time
	UserID       string
	VisitorID    string
	EventType    string
	FeedbackKind string
	Value        Float
	ValueUnit    string
	ReceivedTime Time
	LoadedTime   Time
	SessionID    string
	ItemID       string
	Items        []LineItem
	RequestID    string
	Query        string

	TransactionID string
	Revenue       Float
	Currency      string
	ExperimentIDs []string
	PolicyID      string
	ModelVersion  string

	Context Context
	Lineage Lineage
	Extra   []Pair

	// What the context stream says; absent where there is none.
	ContextJoined     Bool
	ContextAttributes []Pair

	// Raw is what context is derived from. It is never a column, so it is never stored.
	Raw Raw
}

// LineItem is one of several items of an event: of a list shown, a cart, an order.
type LineItem struct {
	ItemID     string
	Position   Int
	Quantity   Int
	UnitPrice  Float
	Score      Float
	Propensity Float
}

// Raw is what a producer sends and the lake must not hold.
type Raw struct {
	UserAgent string
	IP        string
}

// Lineage says where a row came from.
type Lineage struct {
	Source        string // URL of the file, or the subscription
	MessageID     string // of the message queue
	Offset        Int    // first byte of the record in its file
	SchemaVersion Int
	SyntheticID   Bool // event_id was made by Backbone from the fields that identify the event
	Attributes    []Pair
}

// Reset makes r a fresh row. It keeps the capacity of the lists.
func (r *Interaction) Reset() {
	items, experiments, extra, attributes := r.Items[:0], r.ExperimentIDs[:0], r.Extra[:0], r.Lineage.Attributes[:0]
	*r = Interaction{Items: items, ExperimentIDs: experiments, Extra: extra, ContextAttributes: r.ContextAttributes[:0]}
	r.Lineage.Attributes = attributes
}

// FeedbackKinds are the values of feedback_kind.
const (
	Explicit   = "explicit"
	Implicit   = "implicit"
	Exposure   = "exposure"
	Correction = "correction"
)

// EventType says what Backbone knows of one type of event.
type EventType struct {
	Kind string // feedback_kind
	Item bool   // needs item_id or items
}

// EventTypes are the standard types. A mapping may add a site's own.
var EventTypes = map[string]EventType{
	"impression":       {Exposure, true},
	"view":             {Implicit, true},
	"click":            {Implicit, true},
	"add_to_cart":      {Implicit, true},
	"remove_from_cart": {Implicit, true},
	"checkout":         {Implicit, false},
	"purchase":         {Implicit, true},
	"play_start":       {Implicit, true},
	"play_progress":    {Implicit, true},
	"play_complete":    {Implicit, true},
	"skip":             {Implicit, true},
	"dwell":            {Implicit, true},
	"search":           {Implicit, false},
	"home_view":        {Implicit, false},
	"category_view":    {Implicit, false},
	"rate":             {Explicit, true},
	"like":             {Explicit, true},
	"dislike":          {Explicit, true},
	"hide":             {Explicit, true},
	"report":           {Explicit, true},
	"save":             {Explicit, true},
	"share":            {Explicit, true},
	"follow":           {Explicit, false},
	"comment":          {Explicit, true},
	"refund":           {Correction, false},
	"retract":          {Correction, false},
}

// Interactions is the table of interactions.
var Interactions = &Table[Interaction]{
	Name:       "interactions",
	Version:    1,
	Slot:       func(r *Interaction) (string, int64) { return r.EventID, r.EventTime.V },
	KeyColumns: 4,
	SortBy: func(r *Interaction) string {
		if r.UserID != "" {
			return r.UserID
		}
		return r.VisitorID
	},
	Inputs: []Column[Interaction]{
		{Name: "raw.user_agent", Kind: String, Doc: "User agent, from which device, os, browser and is_bot are derived.", Str: func(r *Interaction) *string { return &r.Raw.UserAgent }},
		{Name: "raw.ip", Kind: String, Doc: "IP address, from which country, region, city and geohash are derived.", Str: func(r *Interaction) *string { return &r.Raw.IP }},
	},
	Extra: func(r *Interaction) *[]Pair { return &r.Extra },
	Columns: append([]Column[Interaction]{
		{Name: "event_id", Kind: String, Required: true, Made: true, Doc: "Identifies the event; rows with the same event_id are the same event. Made from the fields that identify it where the source has none (then lineage.synthetic_id is true).", Str: func(r *Interaction) *string { return &r.EventID }},
		{Name: "event_time", Kind: Micros, Required: true, Doc: "When it happened.", Int: func(r *Interaction) *Int { return &r.EventTime }},
		{Name: "user_id", Kind: String, Doc: "Who did it, where known. One of user_id and visitor_id is required.", Str: func(r *Interaction) *string { return &r.UserID }},
		{Name: "visitor_id", Kind: String, Doc: "The device or cookie that did it.", Str: func(r *Interaction) *string { return &r.VisitorID }},
		{Name: "event_type", Kind: String, Required: true, Enum: true, Doc: "What was done: one of the standard types, or a site's own that the mapping declares.", Str: func(r *Interaction) *string { return &r.EventType }},
		{Name: "feedback_kind", Kind: String, Enum: true, Doc: "explicit, implicit, exposure or correction; follows from event_type where the source does not say.", Str: func(r *Interaction) *string { return &r.FeedbackKind }},
		{Name: "value", Kind: Float64, Doc: "How much: a rating, seconds watched, a share of the item seen.", Float: func(r *Interaction) *Float { return &r.Value }},
		{Name: "value_unit", Kind: String, Enum: true, Doc: "Unit of value, such as stars, seconds, ratio, tag.", Str: func(r *Interaction) *string { return &r.ValueUnit }},
		{Name: "received_time", Kind: Micros, Doc: "When the message queue or the collector took it.", Int: func(r *Interaction) *Int { return &r.ReceivedTime }},
		{Name: "loaded_time", Kind: Micros, System: true, Doc: "When Backbone read it.", Int: func(r *Interaction) *Int { return &r.LoadedTime }},
		{Name: "session_id", Kind: String, Doc: "The visit it belongs to.", Str: func(r *Interaction) *string { return &r.SessionID }},
		{Name: "item_id", Kind: String, Doc: "The item it was done to. Events about an item need item_id or items.", Str: func(r *Interaction) *string { return &r.ItemID }},
		{Name: "items", Kind: LineItems, Doc: "The items of an event that is about several: a list shown, a cart, an order. At most 1,000.", Items: func(r *Interaction) *[]LineItem { return &r.Items }},
		{Name: "request_id", Kind: String, Doc: "The recommendation request whose answer the item was part of.", Str: func(r *Interaction) *string { return &r.RequestID }},
		{Name: "query", Kind: String, Doc: "What was searched for.", Str: func(r *Interaction) *string { return &r.Query }},
		{Name: "transaction_id", Kind: String, Doc: "The order that a purchase or refund belongs to.", Str: func(r *Interaction) *string { return &r.TransactionID }},
		{Name: "revenue", Kind: Float64, Doc: "Revenue of the event, in currency.", Float: func(r *Interaction) *Float { return &r.Revenue }},
		{Name: "currency", Kind: String, Enum: true, Doc: "ISO 4217 code, upper case.", Str: func(r *Interaction) *string { return &r.Currency }},
		{Name: "experiment_ids", Kind: Strings, Doc: "Experiments and variants that the user was in. At most 100.", List: func(r *Interaction) *[]string { return &r.ExperimentIDs }},
		{Name: "policy_id", Kind: String, Enum: true, Doc: "The policy that chose what was shown.", Str: func(r *Interaction) *string { return &r.PolicyID }},
		{Name: "model_version", Kind: String, Enum: true, Doc: "The model that chose what was shown.", Str: func(r *Interaction) *string { return &r.ModelVersion }},
	}, append(
		within("context.", ContextColumns, func(r *Interaction) *Context { return &r.Context }),
		Column[Interaction]{Name: "lineage.source", Kind: String, System: true, Enum: true, Doc: "URL of the file, or the subscription, that it was read from.", Str: func(r *Interaction) *string { return &r.Lineage.Source }},
		Column[Interaction]{Name: "lineage.message_id", Kind: String, System: true, Doc: "Id that the message queue gave it.", Str: func(r *Interaction) *string { return &r.Lineage.MessageID }},
		Column[Interaction]{Name: "lineage.offset", Kind: Int64, System: true, Doc: "First byte of the record in its file.", Int: func(r *Interaction) *Int { return &r.Lineage.Offset }},
		Column[Interaction]{Name: "lineage.schema_version", Kind: Int64, System: true, Doc: "Version of this table that the row was written as.", Int: func(r *Interaction) *Int { return &r.Lineage.SchemaVersion }},
		Column[Interaction]{Name: "lineage.synthetic_id", Kind: Boolean, System: true, Doc: "True where event_id was made by Backbone.", Bool: func(r *Interaction) *Bool { return &r.Lineage.SyntheticID }},
		Column[Interaction]{Name: "lineage.attributes", Kind: Map, System: true, Doc: "Attributes of the message.", Map: func(r *Interaction) *[]Pair { return &r.Lineage.Attributes }},
		Column[Interaction]{Name: "extra", Kind: Map, System: true, Doc: "What the producer sent under names that the mapping does not know: path to JSON text. At most 64 entries and 16 KiB an event; the rest is counted.", Map: func(r *Interaction) *[]Pair { return &r.Extra }},
		Column[Interaction]{Name: "context_joined", Kind: Boolean, System: true, Doc: "Whether the context stream had a context of the session, or else the visitor, at the time of the event. Absent where there was no context stream.", Bool: func(r *Interaction) *Bool { return &r.ContextJoined }},
		Column[Interaction]{Name: "context_attributes", Kind: Map, System: true, Doc: "Attributes of that context.", Map: func(r *Interaction) *[]Pair { return &r.ContextAttributes }},
	)...),
}

// LineItemColumns are the columns of one element of items.
var LineItemColumns = []Column[LineItem]{
	{Name: "item_id", Kind: String, Required: true, Doc: "The item.", Str: func(r *LineItem) *string { return &r.ItemID }},
	{Name: "position", Kind: Int64, Doc: "Place in the list, from 0.", Int: func(r *LineItem) *Int { return &r.Position }},
	{Name: "quantity", Kind: Int64, Doc: "How many.", Int: func(r *LineItem) *Int { return &r.Quantity }},
	{Name: "unit_price", Kind: Float64, Doc: "Price of one, in the event's currency.", Float: func(r *LineItem) *Float { return &r.UnitPrice }},
	{Name: "score", Kind: Float64, Doc: "Score that the model gave it.", Float: func(r *LineItem) *Float { return &r.Score }},
	{Name: "propensity", Kind: Float64, Doc: "Probability with which the policy showed it, in (0, 1].", Float: func(r *LineItem) *Float { return &r.Propensity }},
}
