package schemas

// DeadLetter is an input that could not become a row: why, where, and the bytes as they came.
type DeadLetter struct {
	DeadLetterID  string
	ReceivedTime  Time
	FailureType   string
	Stage         string
	Severity      string
	ErrorCode     string
	ErrorMessage  string
	FieldPath     string
	Payload       string
	PayloadSize   Int
	Attributes    []Pair
	MessageID     string
	Source        string
	Offset        Int
	Attempt       Int
	SchemaVersion Int
}

// The severities of a dead letter.
const (
	SeveritySevere = "severe" // will fail again: the input or the mapping has to change
	SeverityRetry  = "retry"  // may pass when tried again
)

// DeadLetters is the table of dead letters. It is partitioned by received_time.
var DeadLetters = &Table[DeadLetter]{
	Name:       "dead_letters",
	Version:    1,
	Slot:       func(r *DeadLetter) (string, int64) { return r.DeadLetterID, r.ReceivedTime.V },
	SortBy:     func(r *DeadLetter) string { return r.Source },
	KeyColumns: 13,
	Columns: []Column[DeadLetter]{
		{Name: "dead_letter_id", Kind: String, Required: true, Doc: "Made from source, place in it (offset or message id) and payload: the same input is the same dead letter.", Str: func(r *DeadLetter) *string { return &r.DeadLetterID }},
		{Name: "received_time", Kind: Micros, Required: true, Doc: "When the queue took the message, or the modification time of the file.", Int: func(r *DeadLetter) *Int { return &r.ReceivedTime }},
		{Name: "failure_type", Kind: String, Required: true, Enum: true, Doc: "decode, map or validate.", Str: func(r *DeadLetter) *string { return &r.FailureType }},
		{Name: "stage", Kind: String, Enum: true, Doc: "The transform that rejected it.", Str: func(r *DeadLetter) *string { return &r.Stage }},
		{Name: "severity", Kind: String, Enum: true, Doc: "retry or severe.", Str: func(r *DeadLetter) *string { return &r.Severity }},
		{Name: "error_code", Kind: String, Required: true, Enum: true, Doc: "A stable code, such as duplicate_key.", Str: func(r *DeadLetter) *string { return &r.ErrorCode }},
		{Name: "error_message", Kind: String, Doc: "What was wrong, in words.", Str: func(r *DeadLetter) *string { return &r.ErrorMessage }},
		{Name: "field_path", Kind: String, Enum: true, Doc: "The field at fault, as the producer names it.", Str: func(r *DeadLetter) *string { return &r.FieldPath }},
		{Name: "payload", Kind: Bytes, Doc: "The bytes as they came, up to 1 MiB.", Str: func(r *DeadLetter) *string { return &r.Payload }},
		{Name: "payload_size", Kind: Int64, Doc: "Size of the input in bytes, also where payload was cut.", Int: func(r *DeadLetter) *Int { return &r.PayloadSize }},
		{Name: "attributes", Kind: Map, Doc: "Attributes of the message.", Map: func(r *DeadLetter) *[]Pair { return &r.Attributes }},
		{Name: "message_id", Kind: String, Doc: "Id that the message queue gave it.", Str: func(r *DeadLetter) *string { return &r.MessageID }},
		{Name: "source", Kind: String, Enum: true, Doc: "URL of the file, or the subscription.", Str: func(r *DeadLetter) *string { return &r.Source }},
		{Name: "offset", Kind: Int64, Doc: "First byte of the record in its file.", Int: func(r *DeadLetter) *Int { return &r.Offset }},
		{Name: "attempt", Kind: Int64, Doc: "How often it was tried, from 1.", Int: func(r *DeadLetter) *Int { return &r.Attempt }},
		{Name: "schema_version", Kind: Int64, Doc: "Version of the table that the row was meant for.", Int: func(r *DeadLetter) *Int { return &r.SchemaVersion }},
	},
}

// Reset makes r a fresh row. It keeps the capacity of the list.
func (r *DeadLetter) Reset() {
	*r = DeadLetter{Attributes: r.Attributes[:0]}
}
