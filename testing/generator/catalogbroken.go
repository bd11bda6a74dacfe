package generator

import (
	"strconv"
	"strings"

	"backbone/schemas"
)

// brokenRow is one way in which a row can be broken. Rows of both tables can be broken in it, unless table says otherwise.
type brokenRow struct {
	Code    schemas.Code
	Path    string // of the field at fault, where "ID" stands for the name of the id; empty: not certain
	table   string
	without string // the member that the row lacks: "ID" or "updated_time"
	suffix  string // members, in which ID stands for the name of the id
	long    int    // bytes of a text that stands for LONG in suffix
	damage  func(b []byte, least int, random uint64) []byte
}

const (
	inUsers = "users"
	inItems = "items"
)

// brokenRows are the ways, of which an export takes one after the other.
var brokenRows = []brokenRow{
	{Code: schemas.CodeSyntax, suffix: `,"language":"de-DE"`, damage: truncateAfter},
	{Code: schemas.CodeUTF8, suffix: ",\"note\":\"caf\xe9\""},
	{Code: schemas.CodeDuplicateKey, Path: "ID", suffix: `,"ID":"twice"`},
	{Code: schemas.CodeWrongType, Path: "title", table: inItems, suffix: `,"title":12`},
	{Code: schemas.CodeWrongType, Path: "plan", table: inUsers, suffix: `,"plan":true`},
	{Code: schemas.CodeMissing, Path: "ID", without: "ID"},
	{Code: schemas.CodeInvalidID, Path: "ID", without: "ID", suffix: `,"ID":"shoes/42"`},
	{Code: schemas.CodeOutOfRange, Path: "updated_time", without: "updated_time", suffix: `,"updated_time":"2101-05-01T00:00:00Z"`},
	{Code: schemas.CodeOutOfRange, Path: "price", table: inItems, suffix: `,"price":-0.01,"currency":"EUR"`},
	{Code: schemas.CodeInvalid, Path: "currency", table: inItems, suffix: `,"price":12.5,"currency":"Euro"`},
	{Code: schemas.CodeInvalid, Path: "availability", table: inItems, suffix: `,"availability":"maybe"`},
	{Code: schemas.CodeInvalid, Path: "uri", table: inItems, suffix: `,"uri":"shop.example/p/1"`},
	{Code: schemas.CodeInvalid, Path: "country", table: inUsers, suffix: `,"country":"Germany"`},
	{Code: schemas.CodeInvalid, Path: "timezone", table: inUsers, suffix: `,"timezone":"Mars/Olympus_Mons"`},
	{Code: schemas.CodeTooLarge, Path: "title", table: inItems, suffix: `,"title":"LONG"`, long: schemas.MaxTitle + 1},
	{Code: schemas.CodeTooLarge, Path: "plan", table: inUsers, suffix: `,"plan":"LONG"`, long: schemas.MaxText + 1},
	{Code: schemas.CodeTooDeep, suffix: `,"tree":` + strings.Repeat("[", farTooDeep) + strings.Repeat("]", farTooDeep)},

	// Each code that applies has occurred. What follows are other ways to earn it.
	{Code: schemas.CodeSyntax, suffix: `,"plan":'single'`},
	{Code: schemas.CodeSyntax, suffix: `,`},
	{Code: schemas.CodeSyntax, damage: func(b []byte, _ int, _ uint64) []byte { return append(b, '}') }},
	{Code: schemas.CodeSyntax, table: inItems, suffix: `,"rating":NaN`},
	{Code: schemas.CodeUTF8, table: inItems, suffix: ",\"content\":\"gr\xf6\xdfe 42\""},
	{Code: schemas.CodeUTF8, table: inUsers, suffix: ",\"segments\":[\"\xc0\xaf\"]"},
	{Code: schemas.CodeDuplicateKey, Path: "language", suffix: `,"language":"de","langu\u0061ge":"fr"`},
	{Code: schemas.CodeDuplicateKey, suffix: `,"page":{"path":"/","path":"/"}`},
	{Code: schemas.CodeWrongType, Path: "is_deleted", suffix: `,"is_deleted":"no"`},
	{Code: schemas.CodeWrongType, Path: "ID", without: "ID", suffix: `,"ID":4711`},
	{Code: schemas.CodeWrongType, Path: "attributes", suffix: `,"attributes":"red"`},
	{Code: schemas.CodeWrongType, Path: "price", table: inItems, suffix: `,"price":"12.50","currency":"EUR"`},
	{Code: schemas.CodeWrongType, Path: "tags", table: inItems, suffix: `,"tags":"red, green"`},
	{Code: schemas.CodeWrongType, Path: "rating_count", table: inItems, suffix: `,"rating_count":2.5`},
	{Code: schemas.CodeMissing, Path: "ID", without: "ID", suffix: `,"ID":null`},
	{Code: schemas.CodeMissing, Path: "currency", table: inItems, suffix: `,"price":12.5`},
	{Code: schemas.CodeInvalidID, Path: "ID", without: "ID", suffix: `,"ID":"LONG"`, long: schemas.MaxID + 1},
	{Code: schemas.CodeInvalidID, Path: "ID", without: "ID", suffix: `,"ID":"p\u00001"`},
	{Code: schemas.CodeInvalidID, Path: "visitor_ids[1]", table: inUsers, suffix: `,"visitor_ids":["v1","w\t2"]`},
	{Code: schemas.CodeOutOfRange, Path: "updated_time", without: "updated_time", suffix: `,"updated_time":"1969-12-31T23:59:59Z"`},
	{Code: schemas.CodeOutOfRange, Path: "rating", table: inItems, suffix: `,"rating":-1`},
	{Code: schemas.CodeOutOfRange, Path: "rating_count", table: inItems, suffix: `,"rating_count":-7`},
	{Code: schemas.CodeOutOfRange, Path: "price", table: inItems, suffix: `,"price":1e999,"currency":"EUR"`},
	{Code: schemas.CodeOutOfRange, Path: "expires", table: inItems, suffix: `,"available_from":"2026-03-02T00:00:00Z","expires":"2026-03-01T00:00:00Z"`},
	{Code: schemas.CodeInvalid, Path: "updated_time", without: "updated_time", suffix: `,"updated_time":"yesterday"`},
	{Code: schemas.CodeInvalid, Path: "language", suffix: `,"language":"a language"`},
	{Code: schemas.CodeInvalid, Path: "image_uris[1]", table: inItems, suffix: `,"image_uris":["https://img.shop.example/1.webp","ftp://img.shop.example/2.webp"]`},
	{Code: schemas.CodeTooLarge, Path: "tags[1]", table: inItems, suffix: `,"tags":["a","b LONG"]`, long: schemas.MaxText},
	{Code: schemas.CodeTooLarge, Path: "uri", table: inItems, suffix: `,"uri":"https://shop.example/LONG"`, long: schemas.MaxURI},
	{Code: schemas.CodeTooLarge, Path: "region", table: inUsers, suffix: `,"region":"LONG"`, long: schemas.MaxText + 1},
}

// brokenOf are the ways in which rows of a table can be broken.
func brokenOf(table string) (kinds []brokenRow) {
	for _, k := range brokenRows {
		if k.table == "" || k.table == table {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// appendBroken appends a row that is broken in a way. Its reference is one that no other row has, and so are its bytes. It
// has the id of no row, or none.
func appendBroken(b []byte, kind brokenRow, idName, reference string, at int64, random uint64) []byte {
	start := len(b)
	w := jsonWriter{b: append(b, '{')}
	w.member("export_ref", reference)
	least := len(w.b) - start
	if kind.without != "ID" {
		w.member(idName, "broken-"+reference)
	}
	if kind.without != "updated_time" {
		w.time("updated_time", at)
	}
	suffix := strings.ReplaceAll(kind.suffix, `"ID"`, strconv.Quote(idName))
	w.b = append(w.b, strings.ReplaceAll(suffix, "LONG", strings.Repeat("x", kind.long))...)
	b = append(w.b, '}')
	if kind.damage != nil {
		b = append(b[:start], kind.damage(b[start:], least, random)...)
	}
	return b
}

// path returns the path of the field at fault.
func (k *brokenRow) path(idName string) string {
	if k.Path == "ID" {
		return idName
	}
	return k.Path
}
