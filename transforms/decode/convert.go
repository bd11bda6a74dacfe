package decode

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"backbone/schemas"
)

// unit is how a time is written.
type unit struct {
	perSecond int64  // of a number; 0: a text
	layout    string // of a text that is not RFC 3339
}

func parseUnit(s string, kind schemas.Kind) (unit, error) {
	if s != "" && kind != schemas.Micros {
		return unit{}, fmt.Errorf("unit %q: the column is not a time", s)
	}
	switch s {
	case "", "rfc3339":
		return unit{}, nil
	case "s":
		return unit{perSecond: 1}, nil
	case "ms":
		return unit{perSecond: 1e3}, nil
	case "us":
		return unit{perSecond: 1e6}, nil
	case "ns":
		return unit{perSecond: 1e9}, nil
	}
	if !strings.Contains(s, "2006") {
		return unit{}, fmt.Errorf("unit %q: want s, ms, us, ns, rfc3339, or a layout such as %q", s, time.DateTime)
	}
	return unit{layout: s}, nil
}

// setText puts a text into the row, or into item for a column of items. It returns a code and a message where
// the text is no value of the column.
func (t *target[R]) setText(row *R, item *schemas.LineItem, text string, offset func(*R) *schemas.Int) (schemas.Code, string) {
	if t.special {
		return t.setSpecial(row, item, text, offset)
	}
	if t.kind == schemas.Strings {
		t.clearDefault(row)
	}
	return t.put(row, item, text, offset)
}

// clearDefault makes a list column empty that holds the mapping's default. The list itself may be shared with other rows.
func (t *target[R]) clearDefault(row *R) {
	if t.field.Default != "" {
		*t.column.List(row) = nil
	}
}

// translate gives the value that the mapping has for what was found.
func (t *target[R]) translate(text string) (string, schemas.Code, string) {
	if t.field.Values == nil {
		return text, "", ""
	}
	if v, ok := t.field.Values[text]; ok {
		return v, "", ""
	}
	if t.field.Only {
		return "", schemas.CodeUnknownType, fmt.Sprintf("%s is not one of the values that the mapping lists", quote(text))
	}
	return text, "", ""
}

// put is setText of a text that is already a value of the column.
func (t *target[R]) put(row *R, item *schemas.LineItem, text string, offset func(*R) *schemas.Int) (schemas.Code, string) {
	switch t.kind {
	case schemas.String, schemas.Bytes:
		*t.str(row, item) = text
	case schemas.Float64:
		v, code, message := number(text)
		if code != "" {
			return code, message
		}
		*t.float(row, item) = schemas.Some(v)
	case schemas.Int64:
		v, code := parseInt(text)
		if code != "" {
			return code, fmt.Sprintf("%s is not a whole number of 64 bits", quote(text))
		}
		*t.int(row, item) = schemas.Some(v)
	case schemas.Micros:
		return t.setTime(row, item, text, offset)
	case schemas.Boolean:
		switch text {
		case "true", "1", "t", "T", "True", "TRUE":
			*t.column.Bool(row) = schemas.Some(true)
		case "false", "0", "f", "F", "False", "FALSE":
			*t.column.Bool(row) = schemas.Some(false)
		default:
			return schemas.CodeWrongType, fmt.Sprintf("%s is neither true nor false", quote(text))
		}
	case schemas.Strings:
		list := t.column.List(row)
		if t.field.Split == "" {
			*list = append(*list, text)
			break
		}
		for part := range strings.SplitSeq(text, t.field.Split) {
			if part != "" {
				*list = append(*list, part)
			}
		}
	case schemas.Map:
		pairs := t.column.Map(row)
		*pairs = append(*pairs, schemas.Pair{Key: t.group.entry, Value: text})
	case schemas.Numbers:
		v, code, message := number(text)
		if code != "" {
			return code, message
		}
		numbers := t.column.Numbers(row)
		*numbers = append(*numbers, schemas.Number{Key: t.group.entry, Value: v})
	case schemas.Floats:
		return t.splitVector(row, text)
	default:
		return schemas.CodeWrongType, "a text can't fill this column"
	}
	return "", ""
}

// number reads a finite number.
func number(text string) (float64, schemas.Code, string) {
	v, ok := parseFloat(text)
	if !ok {
		return 0, schemas.CodeWrongType, fmt.Sprintf("%s is not a number", quote(text))
	}
	if math.IsInf(v, 0) {
		return 0, schemas.CodeOutOfRange, fmt.Sprintf("%s is larger than a 64-bit float", quote(text))
	}
	return v, "", ""
}

func (t *target[R]) setTime(row *R, item *schemas.LineItem, text string, offset func(*R) *schemas.Int) (schemas.Code, string) {
	switch {
	case t.unit.perSecond != 0:
		micros, code := parseNumericTime(text, t.unit.perSecond)
		if code != "" {
			return code, fmt.Sprintf("%s is not a time in units of 1/%d s since 1970", quote(text), t.unit.perSecond)
		}
		*t.int(row, item) = schemas.Some(micros)
	case t.unit.layout != "":
		at, err := time.Parse(t.unit.layout, text)
		if err != nil {
			return schemas.CodeInvalid, fmt.Sprintf("%s is not a time written as %q", quote(text), t.unit.layout)
		}
		*t.int(row, item) = schemas.Some(at.UnixMicro())
	default:
		micros, minutes, known, ok := parseRFC3339(text)
		if !ok {
			return schemas.CodeInvalid, fmt.Sprintf("%s is not a time as in RFC 3339, such as 2026-03-01T10:00:00.000Z", quote(text))
		}
		*t.int(row, item) = schemas.Some(micros)
		if t.isEvent && known && offset != nil {
			if o := offset(row); !o.Set {
				*o = schemas.Some(int64(minutes))
			}
		}
	}
	return "", ""
}

func (t *target[R]) str(row *R, item *schemas.LineItem) *string {
	if t.item != nil {
		return t.item.Str(item)
	}
	return t.column.Str(row)
}

func (t *target[R]) int(row *R, item *schemas.LineItem) *schemas.Int {
	if t.item != nil {
		return t.item.Int(item)
	}
	return t.column.Int(row)
}

func (t *target[R]) float(row *R, item *schemas.LineItem) *schemas.Float {
	if t.item != nil {
		return t.item.Float(item)
	}
	return t.column.Float(row)
}

// quote shortens what an error shows of a value.
func quote(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "..."
	}
	return strconv.Quote(s)
}

var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// parseFloat parses a decimal number. Up to 15 digits without an exponent are exact in a float64, as is the power
// of ten, so their quotient is correctly rounded.
func parseFloat(s string) (float64, bool) {
	if 0 < len(s) && len(s) <= 16 {
		var mantissa uint64
		digits, decimals, plain := 0, -1, true
		for i := range len(s) {
			switch c := s[i]; {
			case c-'0' < 10:
				mantissa = mantissa*10 + uint64(c-'0')
				digits++
				if decimals >= 0 {
					decimals++
				}
			case c == '.' && decimals < 0:
				decimals = 0
			case c == '-' && i == 0:
			default:
				plain = false
			}
		}
		if plain && digits > 0 && digits <= 15 && s[len(s)-1] != '.' {
			v := float64(mantissa) / powers[max(decimals, 0)]
			if s[0] == '-' {
				v = -v
			}
			return v, true
		}
	}
	if strings.ContainsAny(s, "xXpP_nN") { // hexadecimal, NaN and Inf are no decimal numbers
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(v, 0) {
		return 0, false
	}
	return v, true
}

// parseInt parses a whole number, which may be written as 3.0 or 3e0.
func parseInt(s string) (int64, schemas.Code) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil && s[0] != '+' {
		return v, ""
	}
	f, ok := parseFloat(s)
	if !ok {
		return 0, schemas.CodeWrongType
	}
	if f != math.Trunc(f) {
		return 0, schemas.CodeWrongType
	}
	if math.Abs(f) >= 1<<53 { // which several texts are rounded to
		return 0, schemas.CodeOutOfRange
	}
	return int64(f), ""
}

// parseNumericTime returns microseconds of a number of units since 1970.
func parseNumericTime(s string, perSecond int64) (int64, schemas.Code) {
	v, code := parseInt(s)
	if code == schemas.CodeWrongType {
		f, ok := parseFloat(s)
		if !ok {
			return 0, code
		}
		micros := f / float64(perSecond) * 1e6
		if math.Abs(micros) > 1<<62 {
			return 0, schemas.CodeOutOfRange
		}
		return int64(math.Round(micros)), ""
	}
	if code != "" {
		return 0, code
	}
	if perSecond > 1e6 {
		return v / (perSecond / 1e6), ""
	}
	scale := 1_000_000 / perSecond
	if v > math.MaxInt64/scale || v < math.MinInt64/scale {
		return 0, schemas.CodeOutOfRange
	}
	return v * scale, ""
}

// parseRFC3339 returns microseconds since 1970 and the offset to UTC in minutes; known is false for "Z" and for
// "-00:00", which say nothing of where the user was (RFC 3339 section 4.3).
func parseRFC3339(s string) (micros int64, minutes int, known, ok bool) {
	if len(s) < 20 || s[4] != '-' || s[7] != '-' || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return 0, 0, false, false
	}
	var number [6]int
	for i, at := range [...][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		for _, c := range []byte(s[at[0]:at[1]]) {
			if c-'0' > 9 {
				return 0, 0, false, false
			}
			number[i] = number[i]*10 + int(c-'0')
		}
	}
	year, month, day, hour, minute, second := number[0], number[1], number[2], number[3], number[4], number[5]
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, 0, false, false
	}
	rest := s[19:]
	fraction := int64(0)
	if rest[0] == '.' {
		scale, i := int64(100_000), 1
		for ; i < len(rest) && rest[i]-'0' < 10; i++ {
			fraction += int64(rest[i]-'0') * scale
			scale /= 10
		}
		if i == 1 {
			return 0, 0, false, false
		}
		rest = rest[i:]
	}
	switch {
	case len(rest) == 1 && rest[0]|0x20 == 'z':
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, err1 := strconv.ParseUint(rest[1:3], 10, 8)
		m, err2 := strconv.ParseUint(rest[4:6], 10, 8)
		if err1 != nil || err2 != nil || h > 23 || m > 59 {
			return 0, 0, false, false
		}
		minutes = int(h*60 + m)
		known = rest != "-00:00"
		if rest[0] == '-' {
			minutes = -minutes
		}
	default:
		return 0, 0, false, false
	}
	seconds := civilDays(year, month, day)*86400 + int64(hour*3600+minute*60+second) - int64(minutes)*60
	return seconds*1e6 + fraction, minutes, known, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// civilDays returns the days since 1970-01-01 in the proleptic Gregorian calendar: eras of 400 years that begin in
// March, so that the leap day is the last of its year.
func civilDays(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	if year < 0 {
		era = (year - 399) / 400
	}
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	dayOfEra := yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear
	return int64(era)*146097 + int64(dayOfEra) - 719468
}
