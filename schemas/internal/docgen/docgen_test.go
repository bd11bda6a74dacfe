package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/generator"
	"backbone/transforms/decode"
	"backbone/transforms/source"
)

var (
	sources = filepath.Join("..", "..")
	docs    = filepath.Join("..", "..", "..", "docs")
)

func TestDocumentsAreUpToDate(t *testing.T) {
	for _, d := range documents {
		want, err := d.make(sources)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(docs, d.name))
		if err != nil {
			t.Fatalf("%v: run \"go generate ./schemas\"", err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("docs/%s is not what the tables say: run \"go generate ./schemas\" (-want +got):\n%s", d.name, diff)
		}
	}
}

func TestReferenceIsComplete(t *testing.T) {
	text, err := reference(sources)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range schemas.Interactions.Columns {
		want = append(want, "| "+c.Name+" | ")
	}
	for _, c := range schemas.DeadLetters.Columns {
		want = append(want, "| "+c.Name+" | ")
	}
	for name := range schemas.EventTypes {
		want = append(want, "\n| "+name+" | ")
	}
	for _, code := range []schemas.Code{
		schemas.CodeSyntax, schemas.CodeUTF8, schemas.CodeDuplicateKey, schemas.CodeTooDeep, schemas.CodeTooLarge, schemas.CodeWrongType,
		schemas.CodeOutOfRange, schemas.CodeMissing, schemas.CodeInvalidID, schemas.CodeUnknownType, schemas.CodeInvalid,
	} {
		want = append(want, "\n| "+string(code)+" | ")
	}
	for _, line := range want {
		if !strings.Contains(string(text), line) {
			t.Errorf("there is no %q", line)
		}
	}
	if strings.Contains(string(text), "| ? |") {
		t.Error("a column has no type")
	}
	codes, err := codeDocs(sources)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range codes {
		if c.doc == "" {
			t.Errorf("nobody says what the code %s means", c.code)
		}
	}
}

// validator compiles the schema as it is now.
func validator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := interactionSchema(sources)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("interaction.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("interaction.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func check(t *testing.T, schema *jsonschema.Schema, event []byte) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(event))
	if err != nil {
		t.Fatalf("%v: %.300s", err, event)
	}
	return schema.Validate(value)
}

// TestGeneratedEvents holds generated events against the schema: the good ones pass, and those that break
// what a schema can say fail.
func TestGeneratedEvents(t *testing.T) {
	schema := validator(t)
	g, err := generator.New(generator.Options{Events: 5_000, BrokenShare: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	count := map[schemas.Code]int{}
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		switch e.Code {
		case schemas.CodeSyntax, schemas.CodeUTF8, schemas.CodeDuplicateKey, schemas.CodeTooDeep:
			continue // the parser's, not the schema's
		}
		count[e.Code]++
		err := check(t, schema, e.Data)
		switch {
		case e.Verdict == generator.Broken && err == nil:
			t.Errorf("%s at %q passes: %.300s", e.Code, e.FieldPath, e.Data)
		case e.Verdict != generator.Broken && err != nil:
			t.Errorf("a good event fails: %v: %s", err, e.Data)
		}
	}
	for _, code := range []schemas.Code{
		"", schemas.CodeTooLarge, schemas.CodeWrongType, schemas.CodeOutOfRange, schemas.CodeMissing, schemas.CodeInvalidID,
		schemas.CodeUnknownType, schemas.CodeInvalid,
	} {
		if count[code] == 0 {
			t.Errorf("no event with the code %q was tried", code)
		}
	}
}

// TestSchemaAgreesWithDecoder holds schema and decoder against each other where producers differ.
func TestSchemaAgreesWithDecoder(t *testing.T) {
	// rest makes a whole event of the member that is tried.
	const rest = `,"event_id":"e1","event_time":"2026-03-01T10:00:00Z","event_type":"home_view","user_id":"u1"}`
	tests := []struct {
		name, event string
		want        bool
	}{
		{"unknown member", `{"x":{"y":[1,null]}` + rest, true},
		{"null", `{"item_id":null,"items":null,"value":null,"context":null,"experiment_ids":null` + rest, true},
		{"null in context", `{"context":{"country":null,"local_hour":null,"is_bot":null,"ip":null}` + rest, true},
		{"null in items", `{"items":[{"item_id":"p","quantity":null}]` + rest, true},
		{"empty text", `{"item_id":"","currency":"","feedback_kind":"","context":{"country":""}` + rest, true},
		{"empty list", `{"items":[],"experiment_ids":[]` + rest, true},
		{"received time", `{"received_time":"2026-03-01T10:00:00.000001+02:00"` + rest, true},
		{"received time wrong", `{"received_time":12` + rest, false},
		{"a member of the system", `{"loaded_time":"soon","lineage":{"source":4}` + rest, true},
		{"whole number as 3.0", `{"items":[{"item_id":"p","quantity":3.0}]` + rest, true},
		{"fraction for a whole number", `{"items":[{"item_id":"p","quantity":3.5}]` + rest, false},
		{"number in a list of text", `{"experiment_ids":[1]` + rest, false},
		{"null element of items", `{"items":[null]` + rest, false},
		{"text element of items", `{"items":["p"]` + rest, false},
		{"element without id", `{"items":[{}]` + rest, false},
		{"lower-case country", `{"context":{"country":"de"}` + rest, false},
		{"user agent of another type", `{"context":{"user_agent":7}` + rest, false},
		{"no event_id is no mistake of the schema", `{"event_time":"2026-03-01T10:00:00Z","event_type":"home_view","visitor_id":"v"}`, true},
		{"empty users", `{"event_id":"e","event_time":"2026-03-01T10:00:00Z","event_type":"home_view","user_id":"","visitor_id":null}`, false},
		{"null time", `{"event_id":"e","event_time":null,"event_type":"home_view","user_id":"u"}`, false},
		{"null type", `{"event_id":"e","event_time":"2026-03-01T10:00:00Z","event_type":null,"user_id":"u"}`, false},
		{"empty type", `{"event_id":"e","event_time":"2026-03-01T10:00:00Z","event_type":"","user_id":"u"}`, false},
		{"view of null", `{"event_id":"e","event_time":"2026-03-01T10:00:00Z","event_type":"view","user_id":"u","item_id":null,"items":[]}`, false},
		{"view of items", `{"event_id":"e","event_time":"2026-03-01T10:00:00Z","event_type":"view","user_id":"u","items":[{"item_id":"p"}]}`, true},
		{"an array", `[1]`, false},
	}
	schema := validator(t)
	decoder, err := decode.New(mappings.Native(), schemas.Interactions, (*schemas.Interaction).Reset)
	if err != nil {
		t.Fatal(err)
	}
	rules := schemas.Rules{Now: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).UnixMicro()}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := check(t, schema, []byte(test.event))
			if (err == nil) != test.want {
				t.Errorf("schema: error is %v, want valid: %v", err, test.want)
			}
			decoder.Decode(&source.Record{Data: []byte(test.event)}, func(row *schemas.Interaction, problem *schemas.FieldError) {
				if problem == nil && row.EventID == "" {
					row.EventID = "made" // as the pipeline would
				}
				if problem == nil {
					problem = row.Check(rules)
				}
				if (problem == nil) != test.want {
					t.Errorf("decoder: error is %v, want valid: %v", problem, test.want)
				}
			})
		})
	}
}
