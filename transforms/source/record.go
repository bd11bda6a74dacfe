package source

import "backbone/schemas"

// Record is one input as it came: a line, an element of an array, a message.
//
// Its bytes and strings may alias a buffer that is used again: they are valid until the function that was
// given the record returns.
type Record struct {
	Data       []byte         // the bytes as they came, without the line end
	Size       int64          // how many bytes the record has, where Data is known to be only its beginning; else 0
	Columns    []string       // names of Fields; nil unless the format is CSV or TSV
	Fields     []string       // the fields of a CSV or TSV record
	Err        error          // why the record could not be cut out of its input, as a *schemas.FieldError; nil: none
	Source     string         // URL of the file, or the subscription
	Offset     int64          // first byte of the record in its file (in what the file unpacks to); -1 for a message
	MessageID  string         // of the message queue
	Attributes []schemas.Pair // of the message
	Received   int64          // when the queue took the message, or the file was last modified; microseconds since 1970
}
