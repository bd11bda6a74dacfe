package generator

import (
	"strings"
	"unicode/utf8"

	"backbone/schemas"
)

// brokenKind is one way in which an event can be broken.
type brokenKind struct {
	Code    schemas.Code
	Path    string  // of the field at fault; empty: not certain, as within what no column is for
	without members // what the event lacks
	// suffix appends members to the object; nil: none.
	suffix func(b []byte, id string) []byte
	// damage spoils the encoded object; nil: nothing. It must keep the event_id, which makes the bytes unique.
	damage func(b []byte, random uint32) []byte
}

// text appends members as they are written.
func text(s string) func([]byte, string) []byte {
	return func(b []byte, _ string) []byte { return append(b, s...) }
}

// long appends a text member of so many bytes.
func long(name string, size int) func([]byte, string) []byte {
	return text(`,"` + name + `":"` + strings.Repeat("x", size) + `"`)
}

// aView is a type that needs an item, anID the size of an event_id.
const (
	aView = `,"event_type":"view"`
	anID  = 36
)

// tooDeep is deeper than Backbone's limit of nesting, and farTooDeep than that of any decoder known to us.
const (
	tooDeep    = 100
	farTooDeep = 10_002
)

// giantEvery is how many events pass between those that are larger than 1 MiB.
const giantEvery = 200_000

// giant is larger than a record may be.
const giant = 0

// brokenKinds are the ways, of which the generator takes one after the other. The first, the giant, has a rhythm of
// its own. Those after it have each a code that none before them has.
var brokenKinds = []brokenKind{
	giant: {Code: schemas.CodeTooLarge, without: theExtra, suffix: func(b []byte, _ string) []byte {
		b = append(b, `,"blob":"`...)
		for range 1 << 20 {
			b = append(b, 'x')
		}
		return append(b, '"')
	}},

	{Code: schemas.CodeSyntax, damage: truncate},
	{Code: schemas.CodeUTF8, without: theExtra, suffix: text(",\"note\":\"caf\xe9\"")},
	{Code: schemas.CodeDuplicateKey, Path: "event_id", suffix: func(b []byte, id string) []byte {
		return append(append(append(b, `,"event_id":"`...), id...), '"')
	}},
	{Code: schemas.CodeTooDeep, without: theExtra, suffix: func(b []byte, _ string) []byte {
		b = append(b, `,"tree":`...)
		b = append(b, strings.Repeat("[", farTooDeep)...)
		return append(b, strings.Repeat("]", farTooDeep)...)
	}},
	{Code: schemas.CodeTooLarge, without: theItems, suffix: func(b []byte, _ string) []byte {
		b = append(b, `,"items":[{"item_id":"p1"}`...)
		b = append(b, strings.Repeat(`,{"item_id":"p2"}`, schemas.MaxItems)...)
		return append(b, ']')
	}},
	{Code: schemas.CodeWrongType, Path: "item_id", without: theItems, suffix: text(`,"item_id":12345`)},
	{Code: schemas.CodeOutOfRange, Path: "event_time", without: theTime, suffix: text(`,"event_time":"2101-05-01T00:00:00Z"`)},
	{Code: schemas.CodeMissing, Path: "event_time", without: theTime},
	{Code: schemas.CodeInvalidID, Path: "item_id", without: theItems, suffix: text(`,"item_id":"shoes/42"`)},
	{Code: schemas.CodeUnknownType, Path: "event_type", without: theType, suffix: text(`,"event_type":"teleport"`)},
	{Code: schemas.CodeInvalid, Path: "currency", without: theRevenue, suffix: text(`,"revenue":12.5,"currency":"Euro"`)},

	// Each code has occurred. What follows are other ways to earn it.
	{Code: schemas.CodeSyntax, damage: func(b []byte, _ uint32) []byte {
		id := string(b[len(`{"event_id":"`):][:anID])
		return append(append(append(b[:0], `GET /collect?e=view&id=`...), id...), ` HTTP/1.1`...)
	}},
	{Code: schemas.CodeSyntax, damage: func(b []byte, _ uint32) []byte { return append(b, '}') }},
	{Code: schemas.CodeSyntax, without: theValue, suffix: text(`,"value":NaN`)},
	{Code: schemas.CodeSyntax, without: theValue, suffix: text(`,"value":012`)},
	{Code: schemas.CodeSyntax, without: theExtra, suffix: text(`,"note":'single'`)},
	{Code: schemas.CodeSyntax, without: theExtra, suffix: text(`,`)},
	{Code: schemas.CodeUTF8, without: theExtra, suffix: text(",\"note\":\"\xc0\xaf\"")},
	{Code: schemas.CodeUTF8, without: theExtra, suffix: text(",\"note\":\"\xed\xa0\x80\"")},
	{Code: schemas.CodeUTF8, without: theQuery, suffix: text(",\"query\":\"gr\xf6\xdfe 42\"")},
	{Code: schemas.CodeDuplicateKey, Path: "event_id", suffix: text(`,"event\u005fid":"other"`)},
	{Code: schemas.CodeDuplicateKey, Path: "context.country", without: theContext, suffix: text(`,"context":{"country":"DE","surface":"home","country":"FR"}`)},
	{Code: schemas.CodeDuplicateKey, Path: "items[1].item_id", without: theItems, suffix: text(`,"items":[{"item_id":"p1"},{"item_id":"p2","item_id":"p3"}]`)},
	{Code: schemas.CodeDuplicateKey, without: theExtra, suffix: text(`,"page":{"path":"/","path":"/"}`)},
	{Code: schemas.CodeTooDeep, without: theContext, suffix: func(b []byte, _ string) []byte {
		b = append(b, `,"context":{"more":`...)
		b = append(b, strings.Repeat(`{"a":`, tooDeep)...)
		b = append(b, '1')
		b = append(b, strings.Repeat("}", tooDeep)...)
		return append(b, '}')
	}},
	{Code: schemas.CodeTooLarge, Path: "experiment_ids", without: theExperiments, suffix: func(b []byte, _ string) []byte {
		b = append(b, `,"experiment_ids":["a"`...)
		b = append(b, strings.Repeat(`,"b"`, schemas.MaxExperiments)...)
		return append(b, ']')
	}},
	{Code: schemas.CodeTooLarge, Path: "query", without: theQuery, suffix: long("query", schemas.MaxQuery+1)},
	{Code: schemas.CodeTooLarge, Path: "policy_id", without: theRequest, suffix: long("policy_id", schemas.MaxText+1)},
	{Code: schemas.CodeWrongType, Path: "event_time", without: theTime, suffix: text(`,"event_time":true`)},
	{Code: schemas.CodeWrongType, Path: "items", without: theItems, suffix: text(`,"items":{"item_id":"p1"}`)},
	{Code: schemas.CodeWrongType, Path: "items[0].quantity", without: theItems, suffix: text(`,"items":[{"item_id":"p1","quantity":"two"}]`)},
	{Code: schemas.CodeWrongType, Path: "revenue", without: theRevenue, suffix: text(`,"revenue":"12.50","currency":"EUR"`)},
	{Code: schemas.CodeWrongType, Path: "context", without: theContext, suffix: text(`,"context":"web"`)},
	{Code: schemas.CodeWrongType, Path: "context.is_bot", without: theContext, suffix: text(`,"context":{"country":"DE","is_bot":"no"}`)},
	{Code: schemas.CodeWrongType, Path: "experiment_ids", without: theExperiments, suffix: text(`,"experiment_ids":"ranker-12:control"`)},
	{Code: schemas.CodeOutOfRange, Path: "event_time", without: theTime, suffix: text(`,"event_time":"1969-12-31T23:59:59.999999Z"`)},
	{Code: schemas.CodeOutOfRange, Path: "value", without: theValue, suffix: text(`,"value":1e999`)},
	{Code: schemas.CodeOutOfRange, Path: "items[0].quantity", without: theItems, suffix: text(`,"items":[{"item_id":"p1","quantity":-1}]`)},
	{Code: schemas.CodeOutOfRange, Path: "items[0].propensity", without: theItems, suffix: text(`,"items":[{"item_id":"p1","propensity":1.5}]`)},
	{Code: schemas.CodeOutOfRange, Path: "items[0].position", without: theItems, suffix: text(`,"items":[{"item_id":"p1","position":9223372036854775808}]`)},
	{Code: schemas.CodeOutOfRange, Path: "context.local_hour", without: theContext, suffix: text(`,"context":{"local_hour":24}`)},
	{Code: schemas.CodeMissing, Path: "event_type", without: theType},
	{Code: schemas.CodeMissing, Path: "user_id", without: theUser},
	{Code: schemas.CodeMissing, Path: "item_id", without: theItems | theType, suffix: text(aView)},
	{Code: schemas.CodeMissing, Path: "items[1].item_id", without: theItems, suffix: text(`,"items":[{"item_id":"p1"},{"position":1}]`)},
	{Code: schemas.CodeInvalidID, Path: "user_id", without: theUser, suffix: text(`,"user_id":"u1\u0000","session_id":"s1"`)},
	{Code: schemas.CodeInvalidID, Path: "visitor_id", without: theUser, suffix: text(`,"user_id":"u1","visitor_id":"a\tb"`)},
	{Code: schemas.CodeInvalidID, Path: "item_id", without: theItems, suffix: long("item_id", schemas.MaxID+1)},
	{Code: schemas.CodeInvalidID, Path: "items[0].item_id", without: theItems, suffix: text(`,"items":[{"item_id":"../p1"}]`)},
	{Code: schemas.CodeUnknownType, Path: "event_type", without: theType, suffix: text(`,"event_type":"add-to-basket"`)},
	{Code: schemas.CodeInvalid, Path: "event_time", without: theTime, suffix: text(`,"event_time":"yesterday"`)},
	{Code: schemas.CodeInvalid, Path: "event_time", without: theTime, suffix: text(`,"event_time":"2026-13-01T00:00:00Z"`)},
	{Code: schemas.CodeInvalid, Path: "feedback_kind", suffix: text(`,"feedback_kind":"strong"`)},
	{Code: schemas.CodeInvalid, Path: "context.country", without: theContext, suffix: text(`,"context":{"country":"Germany"}`)},
}

// nextBroken returns the index of the kind whose turn it is.
func (g *Generator) nextBroken() int16 {
	if g.planned/giantEvery > g.giants {
		g.giants++
		return giant
	}
	kind := 1 + g.broken%(len(brokenKinds)-1)
	g.broken++
	return int16(kind)
}

// truncate cuts an object anywhere after its id, but not within a character.
func truncate(b []byte, random uint32) []byte {
	least := len(`{"event_id":"`) + anID
	cut := least + int(random)%(len(b)-least)
	for !utf8.RuneStart(b[cut]) {
		cut--
	}
	return b[:cut]
}
