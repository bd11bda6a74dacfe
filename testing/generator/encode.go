package generator

import (
	"math/bits"
	"strconv"
)

// members are the parts of an event that a broken one leaves out, or writes its own way.
type members uint16

const (
	theID members = 1 << iota
	theTime
	theType
	theUser // user_id, visitor_id, session_id
	theItems
	theRequest
	theQuery
	theValue
	theRevenue
	theExperiments
	theContext
	theExtra
)

// encode appends e as a JSON object.
func (g *Generator) encode(b []byte, s *session, e *event, id string) []byte {
	var bad *brokenKind
	var without members
	if e.verdict == Broken {
		bad = &brokenKinds[e.broken]
		without = bad.without
	}
	has := func(m members) bool { return without&m == 0 }

	b = append(b, '{')
	start := len(b)
	if has(theID) {
		b = append(b, `,"event_id":"`...)
		b = append(b, id...)
		b = append(b, '"')
	}
	if has(theTime) {
		b = append(b, `,"event_time":"`...)
		b = appendTime(b, e.time, s.offset, s.millis)
		b = append(b, '"')
	}
	if has(theType) {
		b = append(b, `,"event_type":"`...)
		b = append(b, kindNames[e.kind]...)
		b = append(b, '"')
	}
	if has(theUser) {
		b = append(b, s.who...)
	}
	if has(theItems) {
		b = g.appendItems(b, s, e)
	}
	if e.request != 0 && has(theRequest) {
		b = append(b, `,"request_id":"r`...)
		b = appendHex(b, e.request)
		b = append(b, `","policy_id":"`...)
		b = append(b, policies[e.request>>8%uint64(len(policies))]...)
		b = append(b, `","model_version":"`...)
		b = append(b, models[e.request>>16%uint64(len(models))]...)
		b = append(b, '"')
	}
	if e.query >= 0 && has(theQuery) {
		b = append(b, `,"query":"`...)
		b = append(b, queries[e.query]...)
		b = append(b, '"')
	}
	if e.unit != noUnit && has(theValue) {
		b = append(b, `,"value":`...)
		b = appendThousandths(b, e.value)
		b = append(b, `,"value_unit":"`...)
		b = append(b, unitNames[e.unit]...)
		b = append(b, '"')
	}
	if e.order != 0 && has(theRevenue) {
		b = append(b, `,"transaction_id":"t`...)
		b = append(appendHex(b, e.order), '"')
		if e.kind == purchase {
			b = append(b, `,"revenue":`...)
			b = appendPrice(b, s.country, e.revenue)
			b = append(b, `,"currency":"`...)
			b = append(b, s.country.currency...)
			b = append(b, '"')
		}
	}
	if has(theExperiments) {
		b = append(b, s.experiments...)
	}
	if has(theContext) {
		b = append(b, `,"context":`...)
		b = append(b, s.context...)
	}
	if lot := mix(g.made) % 100; lot < 6 && has(theExtra) {
		b = append(b, extras[lot/2]...)
	}
	if bad != nil && bad.suffix != nil {
		b = bad.suffix(b, id)
	}
	b = append(b, '}')

	// Each member was written with a comma ahead: the first one's is not wanted.
	copy(b[start:], b[start+1:])
	b = b[:len(b)-1]
	if bad != nil && bad.damage != nil {
		b = bad.damage(b, g.rand.Uint32())
	}
	return b
}

var (
	policies = []string{"home-bandit", "popular-v2", "two-tower"}
	models   = []string{"2026-02-27T04:00", "2026-02-28T04:00"}
	// extras are members that no column is for.
	extras = []string{
		`,"build":4711`,
		`,"page":{"path":"/p/12","depth":3},"ab_bucket":"b"`,
		`,"debug":true,"tags":["spring","sale"],"referrer_url":null`,
	}
)

func (g *Generator) appendItems(b []byte, s *session, e *event) []byte {
	if e.item >= 0 {
		b = append(b, `,"item_id":"`...)
		b = appendItem(b, e.item)
		b = append(b, '"')
	}
	if e.list == nil {
		return b
	}
	b = append(b, `,"items":[`...)
	for i, l := range e.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"item_id":"`...)
		b = appendItem(b, l.item)
		if e.kind == impression {
			noise := mix(e.request + uint64(i))
			b = append(b, `","position":`...)
			b = strconv.AppendInt(b, int64(i), 10)
			b = append(b, `,"score":`...)
			b = appendThousandths(b, 980-int64(i)*60-int64(noise%60))
			b = append(b, `,"propensity":`...)
			b = appendThousandths(b, 1+int64(noise>>8%400))
		} else {
			b = append(b, `","quantity":`...)
			b = strconv.AppendInt(b, int64(l.quantity), 10)
			b = append(b, `,"unit_price":`...)
			b = appendPrice(b, s.country, g.shop.price(l.item))
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendItem appends the id of an item.
func appendItem(b []byte, item int32) []byte {
	b = append(b, 'p')
	for limit := int32(100_000); limit > item && limit > 1; limit /= 10 {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, int64(item), 10)
}

// appendThousandths appends v/1000 as a JSON number.
func appendThousandths(b []byte, v int64) []byte {
	b = strconv.AppendInt(b, v/1000, 10)
	rest := v % 1000
	if rest == 0 {
		return b
	}
	b = append(b, '.', byte('0'+rest/100))
	if rest%100 != 0 {
		b = append(b, byte('0'+rest/10%10))
	}
	if rest%10 != 0 {
		b = append(b, byte('0'+rest%10))
	}
	return b
}

// appendPrice appends an amount of hundredths of euros in the currency of a country, at a rate that keeps the digits.
func appendPrice(b []byte, c *country, hundredths int64) []byte {
	if c.centsPerUnit == 1 {
		return strconv.AppendInt(b, hundredths, 10)
	}
	b = strconv.AppendInt(b, hundredths/100, 10)
	return append(b, '.', byte('0'+hundredths/10%10), byte('0'+hundredths%10))
}

// appendTime appends a time as RFC 3339 with the given offset in minutes, in milliseconds or microseconds.
func appendTime(b []byte, micros int64, offset int, millis bool) []byte {
	shift := offset
	if offset == noOffset {
		shift = 0
	}
	second, fraction := micros/1_000_000+int64(shift)*60, micros%1_000_000
	b = appendDate(b, second/86400)
	second %= 86400
	b = append(b, 'T')
	b = append2(b, second/3600)
	b = append(b, ':')
	b = append2(b, second/60%60)
	b = append(b, ':')
	b = append2(b, second%60)
	b = append(b, '.')
	b = append2(b, fraction/10_000)
	if millis {
		b = append(b, byte('0'+fraction/1000%10))
	} else {
		b = append2(b, fraction/100%100)
		b = append2(b, fraction%100)
	}
	if offset == noOffset {
		return append(b, 'Z')
	}
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	b = append(b, sign)
	b = append2(b, int64(offset/60))
	b = append(b, ':')
	return append2(b, int64(offset%60))
}

// appendDate appends the date that is a number of days, at least 0, after 1970-01-01.
func appendDate(b []byte, days int64) []byte {
	// Years begin in March here, so that the leap day is the last (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
	days += 719_468
	era := days / 146_097
	ofEra := days % 146_097
	year := (ofEra - ofEra/1460 + ofEra/36_524 - ofEra/146_096) / 365
	ofYear := ofEra - (365*year + year/4 - year/100)
	month := (5*ofYear + 2) / 153
	day := ofYear - (153*month+2)/5 + 1
	year += era * 400
	if month < 10 {
		month += 3
	} else {
		month -= 9
		year++
	}
	b = append2(b, year/100)
	b = append2(b, year%100)
	b = append(b, '-')
	b = append2(b, month)
	b = append(b, '-')
	return append2(b, day)
}

func append2(b []byte, v int64) []byte { return append(b, byte('0'+v/10), byte('0'+v%10)) }

const hexDigits = "0123456789abcdef"

// hex fills b with the last len(b) hexadecimal digits of v.
func hex(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = hexDigits[v&15]
		v >>= 4
	}
}

// appendHex appends the 16 hexadecimal digits of v.
func appendHex(b []byte, v uint64) []byte {
	v = bits.ReverseBytes64(v)
	for range 8 {
		b = append(b, hexDigits[v>>4&15], hexDigits[v&15])
		v >>= 8
	}
	return b
}
