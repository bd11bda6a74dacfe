package schemas

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// The bounds of an interaction.
const (
	MaxID            = 128  // bytes of an id
	MaxText          = 1024 // bytes of any other text
	MaxQuery         = 4096 // bytes of query
	MaxItems         = 1000 // elements of items
	MaxExperiments   = 100  // elements of experiment_ids
	MaxAheadMicros   = int64(24 * time.Hour / time.Microsecond)
	maxOffsetMinutes = 14 * 60
)

// Rules is what the rules of an interaction depend on.
type Rules struct {
	// Now is the time of the check in microseconds since 1970: an event may be at most 24 hours ahead of it. Required.
	Now int64
	// Types are a site's own event types: name to feedback kind. They add to EventTypes.
	Types map[string]string
}

// Check returns the first rule that r breaks, or nil. The error's path is that of the native format,
// such as "items[2].item_id"; it owns its strings.
//
// Where feedback_kind is absent, Check sets it to what follows from event_type. Text must be valid UTF-8:
// whoever decodes an event sees to that.
func (r *Interaction) Check(o Rules) *FieldError {
	if err := r.checkEvent(o); err != nil {
		return err
	}
	if err := r.checkIDs(); err != nil {
		return err
	}
	if err := r.checkItems(); err != nil {
		return err
	}
	if err := r.checkMoney(); err != nil {
		return err
	}
	if err := r.Context.check(); err != nil {
		return err
	}
	return r.checkTexts()
}

// checkEvent holds what makes an interaction: which event, when, who, what.
func (r *Interaction) checkEvent(o Rules) *FieldError {
	switch {
	case r.EventID == "":
		return missing("event_id", "every event needs an id")
	case !r.EventTime.Set:
		return missing("event_time", "every event needs the time when it happened")
	case r.UserID == "" && r.VisitorID == "":
		return missing("user_id", "one of user_id and visitor_id is needed")
	case r.EventType == "":
		return missing("event_type", "every event needs a type")
	}
	if err := checkTime("event_time", r.EventTime, o.Now); err != nil {
		return err
	}
	if err := checkTime("received_time", r.ReceivedTime, o.Now); err != nil {
		return err
	}

	known, ok := EventTypes[r.EventType]
	if !ok {
		if known.Kind, ok = o.Types[r.EventType]; !ok {
			return &FieldError{"event_type", CodeUnknownType, fmt.Sprintf("%s is neither a standard type nor one that the mapping declares", quote(r.EventType))}
		}
	}
	if known.Item && r.ItemID == "" && len(r.Items) == 0 {
		return missing("item_id", fmt.Sprintf("an event of type %q needs item_id or items", r.EventType))
	}
	if r.FeedbackKind == "" {
		r.FeedbackKind = known.Kind
	}
	switch r.FeedbackKind {
	case Implicit, Explicit, Exposure, Correction:
		return nil
	}
	return &FieldError{"feedback_kind", CodeInvalid, fmt.Sprintf("%s is none of explicit, implicit, exposure, correction", quote(r.FeedbackKind))}
}

func (r *Interaction) checkIDs() *FieldError {
	switch {
	case !isID(r.EventID):
		return badID("event_id", r.EventID)
	case !isID(r.UserID):
		return badID("user_id", r.UserID)
	case !isID(r.VisitorID):
		return badID("visitor_id", r.VisitorID)
	case !isID(r.SessionID):
		return badID("session_id", r.SessionID)
	case !isID(r.ItemID):
		return badID("item_id", r.ItemID)
	case !isID(r.RequestID):
		return badID("request_id", r.RequestID)
	case !isID(r.TransactionID):
		return badID("transaction_id", r.TransactionID)
	}
	return nil
}

func (r *Interaction) checkItems() *FieldError {
	if len(r.Items) > MaxItems {
		return tooLarge("items", len(r.Items), MaxItems, "elements")
	}
	for i := range r.Items {
		if err := r.Items[i].check(); err != nil {
			err.Path = "items[" + strconv.Itoa(i) + "]." + err.Path
			return err
		}
	}
	return nil
}

func (it *LineItem) check() *FieldError {
	switch {
	case it.ItemID == "":
		return missing("item_id", "every element of items needs an id")
	case !isID(it.ItemID):
		return badID("item_id", it.ItemID)
	case it.Position.Set && it.Position.V < 0:
		return outside("position", it.Position.V, "0 or more")
	case it.Quantity.Set && it.Quantity.V < 0:
		return outside("quantity", it.Quantity.V, "0 or more")
	case !finite(it.UnitPrice):
		return outside("unit_price", it.UnitPrice.V, "a finite number")
	case !finite(it.Score):
		return outside("score", it.Score.V, "a finite number")
	case it.Propensity.Set && !(it.Propensity.V > 0 && it.Propensity.V <= 1): // NaN is neither
		return outside("propensity", it.Propensity.V, "above 0 and at most 1")
	}
	return nil
}

func (r *Interaction) checkMoney() *FieldError {
	switch {
	case !finite(r.Value):
		return outside("value", r.Value.V, "a finite number")
	case !finite(r.Revenue):
		return outside("revenue", r.Revenue.V, "a finite number")
	case r.Currency != "" && !isUpper(r.Currency, 3):
		return &FieldError{"currency", CodeInvalid, quote(r.Currency) + " is not a code of 3 upper-case letters, such as EUR"}
	}
	return nil
}

func (c *Context) check() *FieldError {
	switch {
	case !inRange(c.TZOffsetMin, -maxOffsetMinutes, maxOffsetMinutes):
		return outside("context.tz_offset_min", c.TZOffsetMin.V, "-840 to 840")
	case !inRange(c.LocalHour, 0, 23):
		return outside("context.local_hour", c.LocalHour.V, "0 to 23")
	case !inRange(c.LocalDow, 1, 7):
		return outside("context.local_dow", c.LocalDow.V, "1 (Monday) to 7")
	case c.Country != "" && !isUpper(c.Country, 2):
		return &FieldError{"context.country", CodeInvalid, quote(c.Country) + " is not a code of 2 upper-case letters, such as AT"}
	}
	return nil
}

// checkTexts bounds everything else that a producer wrote.
func (r *Interaction) checkTexts() *FieldError {
	if len(r.ExperimentIDs) > MaxExperiments {
		return tooLarge("experiment_ids", len(r.ExperimentIDs), MaxExperiments, "elements")
	}
	// Nearly every row passes this sum, and so does without the walk over all columns below.
	c := &r.Context
	sum := len(r.ValueUnit) + len(r.Query) + len(r.PolicyID) + len(r.ModelVersion) +
		len(c.Region) + len(c.City) + len(c.Geohash) + len(c.DeviceClass) + len(c.OS) + len(c.Browser) + len(c.AppVersion) +
		len(c.Network) + len(c.Surface) + len(c.ReferrerMedium) + len(c.Campaign) + len(c.Locale)
	for _, e := range r.ExperimentIDs {
		sum += len(e)
	}
	if sum <= MaxText {
		return nil
	}
	for i := range Interactions.Columns {
		column := &Interactions.Columns[i]
		switch {
		case column.System:
		case column.Str != nil:
			limit := MaxText
			if column.Name == "query" {
				limit = MaxQuery
			}
			if s := *column.Str(r); len(s) > limit {
				return tooLarge(column.Name, len(s), limit, "bytes")
			}
		case column.List != nil:
			for i, s := range *column.List(r) {
				if len(s) > MaxText {
					return tooLarge(column.Name+"["+strconv.Itoa(i)+"]", len(s), MaxText, "bytes")
				}
			}
		}
	}
	return nil
}

func checkTime(path string, t Time, now int64) *FieldError {
	if !t.Set || t.V >= 0 && t.V <= now+MaxAheadMicros {
		return nil
	}
	return outside(path, time.UnixMicro(t.V).UTC().Format(time.RFC3339Nano), "1970 to 24 hours from now")
}

func finite(f Float) bool {
	return !f.Set || math.Abs(f.V) <= math.MaxFloat64
}

func inRange(i Int, low, high int64) bool {
	return !i.Set || i.V >= low && i.V <= high
}

// isUpper tells if s is n letters A to Z.
func isUpper(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}

// What a byte means in an id.
const (
	idForbidden = 1 << iota // "/", a C0 control character or DEL
	idLead                  // 0xC2, which begins U+0080 to U+00BF: the C1 control characters are the lower half
)

var idBytes = func() (t [256]uint8) {
	for b := range 0x20 {
		t[b] = idForbidden
	}
	t[0x7f], t['/'], t[0xc2] = idForbidden, idForbidden, idLead
	return t
}()

// isID tells if s obeys the rules of ids. An absent id does.
func isID(s string) bool {
	if len(s) > MaxID {
		return false
	}
	var seen uint8
	for i := range len(s) {
		seen |= idBytes[s[i]]
	}
	if seen == 0 {
		return true
	}
	return seen&idForbidden == 0 && !hasC1(s)
}

func hasC1(s string) bool {
	for _, c := range s {
		if c >= 0x80 && c < 0xa0 {
			return true
		}
	}
	return false
}

func badID(path, id string) *FieldError {
	if len(id) > MaxID {
		return &FieldError{path, CodeInvalidID, fmt.Sprintf("%s has %d bytes; an id has at most %d", quote(id), len(id), MaxID)}
	}
	return &FieldError{path, CodeInvalidID, quote(id) + ` has a "/" or a control character`}
}

func missing(path, why string) *FieldError {
	return &FieldError{path, CodeMissing, why}
}

func outside(path string, value any, want string) *FieldError {
	return &FieldError{path, CodeOutOfRange, fmt.Sprintf("%v must be %s", value, want)}
}

func tooLarge(path string, size, limit int, unit string) *FieldError {
	return &FieldError{path, CodeTooLarge, fmt.Sprintf("%d %s are more than the limit of %d", size, unit, limit)}
}

// quote shows the beginning of a value that a producer sent.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
