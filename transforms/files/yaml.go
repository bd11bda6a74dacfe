package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"backbone/schemas"
	"backbone/transforms/source"
)

// maxYAMLDepth is how deep an element of a YAML file may nest. It is more than a record may.
const maxYAMLDepth = 128

// yaml reads a file of one sequence, or of one a document: each element is a record, as JSON. An element begins at a line that begins with
// "- ", as far to the right as the first one of the document, and ends where the next one begins. So one that is broken does not break the
// others, and no more than one lies in memory.
func (r *Reader) yaml(ctx context.Context, t Task, w *window, fn func(*source.Record) error) error {
	if err := skipBOM(ctx, w); err != nil {
		return failed(t, w, err)
	}
	if bytes.HasPrefix(w.pending(), []byte("[")) { // JSON is YAML, and so do programs write it
		return r.json(ctx, t, w, fn)
	}
	y := yamlCutter{w: w, line: 1, indent: -1, limit: r.options.MaxRecordBytes}
	rec := &r.record
	for {
		chunk, size, err := y.next(ctx)
		if err != nil {
			return failed(t, w, err)
		}
		if chunk == nil {
			return nil
		}
		line, offset := y.line, y.offset
		y.line += y.breaks
		if y.isBetween(chunk) {
			continue
		}
		rec.Data, rec.Size, rec.Offset, rec.Err = chunk, 0, offset, nil
		switch data, err := r.yamlElement(chunk, size, line); {
		case err != nil:
			rec.Err = err
			if size > int64(len(chunk)) {
				rec.Size = size
			}
		default:
			rec.Data = data
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
}

// yamlCutter cuts a window into elements of a sequence and what is between them.
type yamlCutter struct {
	w      *window
	limit  int
	indent int // of the elements of the document; -1: none was met yet, notSequence: there are none

	offset int64 // of the chunk
	line   int   // of the chunk's first line
	breaks int   // lines of the chunk
	inLine bool  // what comes next is the rest of a line
}

// notSequence is the indent of a document that is something else, which is one chunk.
const notSequence = -2

// next returns the next element, or what is before the first one or between documents. Of one that is longer than the limit it returns so
// much. A nil chunk is the end.
func (y *yamlCutter) next(ctx context.Context) (chunk []byte, size int64, err error) {
	y.offset, y.breaks, y.inLine = y.w.at(), 0, false
	var begin []byte // of a chunk that is too long
	for {
		b := y.w.pending()
		n := y.end(b, begin != nil)
		switch {
		case n > 0 && begin == nil:
			y.breaks = bytes.Count(b[:n], []byte("\n"))
			y.w.r += n
			return b[:min(n, y.limit)], int64(n), nil
		case n >= 0 && begin != nil:
			y.breaks += bytes.Count(b[:n], []byte("\n"))
			y.w.r += n
			return begin, size + int64(n), nil
		case len(b) == 0 && y.w.eof:
			return begin, size, nil
		case len(b) > y.limit || y.w.eof || begin != nil && len(b) > 0:
			// Whole lines are dropped, so that the beginning of the next element is seen.
			if begin == nil {
				begin = bytes.Clone(b[:min(len(b), y.limit)])
			}
			drop := bytes.LastIndexByte(b, '\n') + 1
			if drop == 0 && (len(b) > y.limit || y.w.eof) {
				drop = len(b)
			}
			size += int64(drop)
			y.breaks += bytes.Count(b[:drop], []byte("\n"))
			y.w.r += drop
			if drop > 0 {
				y.inLine = b[drop-1] != '\n'
			}
		}
		if err := y.w.fill(ctx); err != nil {
			return nil, 0, err
		}
	}
}

// end returns the length of the chunk that b begins with, -1 if it is not all in b. within says that b is in the middle of a chunk.
func (y *yamlCutter) end(b []byte, within bool) int {
	i := 0
	if !within {
		if i = lineEnd(b, y.w.eof); i < 0 {
			return -1
		}
		if y.indent == -1 {
			y.meet(b[:i])
		}
		if y.indent == -1 || isMarker(b[:i]) {
			return i
		}
	}
	if within && y.inLine {
		if i = lineEnd(b, y.w.eof); i < 0 {
			return -1
		}
	}
	for i < len(b) {
		n := lineEnd(b[i:], y.w.eof)
		if n < 0 && len(b)-i < max(y.indent, 0)+len("--- ") { // too little to tell
			return -1
		}
		if y.begins(b[i:]) {
			return i
		}
		if n < 0 {
			return -1
		}
		i += n
	}
	if y.w.eof && len(b) > 0 {
		return len(b)
	}
	return -1
}

// meet looks at a line before the first element.
func (y *yamlCutter) meet(line []byte) {
	text := bytes.TrimLeft(line, " ")
	switch {
	case isElement(text) && !isMarker(line):
		y.indent = len(line) - len(text)
	case !y.isBetween(line):
		y.indent = notSequence
	}
}

// begins tells if a line, or more than one, begins a chunk.
func (y *yamlCutter) begins(line []byte) bool {
	if isMarker(line) {
		return true
	}
	at := len(line) - len(bytes.TrimLeft(line, " "))
	return at == y.indent && isElement(line[at:])
}

// isElement tells if a line without its indentation begins an element of a sequence.
func isElement(line []byte) bool {
	return len(line) > 0 && line[0] == '-' && (len(line) == 1 || line[1] == ' ' || line[1] == '\t' || line[1] == '\r' || line[1] == '\n')
}

// isMarker tells if a line begins or ends a document.
func isMarker(line []byte) bool {
	rest, begins := bytes.CutPrefix(line, []byte("---"))
	if !begins {
		if rest, begins = bytes.CutPrefix(line, []byte("...")); !begins {
			return false
		}
	}
	return len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r' || rest[0] == '\n'
}

// isBetween tells if a chunk holds nothing: a blank line, a comment, a directive, or the mark between documents, which also begins a new
// indentation.
func (y *yamlCutter) isBetween(chunk []byte) bool {
	line := bytes.TrimSpace(chunk)
	if isMarker(chunk) {
		y.indent = -1
		line = bytes.TrimSpace(line[len("---"):])
	}
	return len(line) == 0 || line[0] == '#' || y.indent == -1 && chunk[0] == '%'
}

// yamlElement makes JSON of an element. An error is a *schemas.FieldError.
func (r *Reader) yamlElement(chunk []byte, size int64, line int) (data []byte, err error) {
	fail := func(code schemas.Code, line int, message string) error {
		return &schemas.FieldError{Code: code, Message: fmt.Sprintf("line %d: %s", line, message)}
	}
	if size > int64(r.options.MaxRecordBytes) {
		return nil, fail(schemas.CodeTooLarge, line, fmt.Sprintf("the element is longer than %d bytes", r.options.MaxRecordBytes))
	}
	if !utf8.Valid(chunk) {
		return nil, fail(schemas.CodeUTF8, line, "the element holds bytes that are not UTF-8")
	}
	if nestsDeep(chunk) { // on which the parser's memory depends
		return nil, fail(schemas.CodeTooDeep, line, fmt.Sprintf("nested deeper than %d", maxYAMLDepth))
	}
	defer func() { // The parser is not ours, and the bytes are anybody's.
		if p := recover(); p != nil {
			data, err = nil, fail(schemas.CodeSyntax, line, "the element is not well-formed YAML")
		}
	}()
	file, err := parser.ParseBytes(chunk, 0)
	if err != nil {
		code, at, message := schemas.CodeSyntax, line, err.Error()
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			message = syntax.GetMessage()
			if token := syntax.GetToken(); token != nil && token.Position != nil {
				at += token.Position.Line - 1
			}
		}
		var duplicate *yaml.DuplicateKeyError
		if errors.As(err, &duplicate) || strings.Contains(message, "already defined") {
			code, message, _ = schemas.CodeDuplicateKey, "a key comes twice", ""
		}
		return nil, fail(code, at, message)
	}
	var sequence *ast.SequenceNode
	if len(file.Docs) == 1 {
		sequence, _ = file.Docs[0].Body.(*ast.SequenceNode)
	}
	if sequence == nil || len(sequence.Values) != 1 {
		return nil, fail(schemas.CodeSyntax, line, `no element of a sequence, which begins with "- "`)
	}
	c := yamlConverter{limit: r.options.MaxRecordBytes, anchors: map[string]ast.Node{}}
	if !c.node(sequence.Values[0], 0) {
		return nil, fail(c.code, line+max(c.line, 1)-1, c.message)
	}
	return c.out, nil
}

// nestsDeep tells if there may be more than maxYAMLDepth collections within each other: brackets that are open, also those in texts, or
// marks of sequences and keys in one line.
func nestsDeep(chunk []byte) bool {
	open := 0
	for _, c := range chunk {
		switch c {
		case '[', '{':
			if open++; open > maxYAMLDepth {
				return true
			}
		case ']', '}':
			open = max(open-1, 0)
		}
	}
	for line := range bytes.Lines(chunk) {
		if len(line) < 2*maxYAMLDepth {
			continue
		}
		marks := 0
		for _, word := range bytes.Fields(line) {
			if len(word) != 1 || word[0] != '-' && word[0] != '?' && word[0] != ':' {
				break
			}
			if marks++; marks > maxYAMLDepth {
				return true
			}
		}
	}
	return false
}

// yamlConverter makes JSON of YAML.
type yamlConverter struct {
	out     []byte
	limit   int
	nodes   int // how many were converted: aliases repeat them
	anchors map[string]ast.Node
	code    schemas.Code
	message string
	line    int
}

func (c *yamlConverter) fail(n ast.Node, code schemas.Code, message string) bool {
	c.code, c.message = code, message
	if token := n.GetToken(); token != nil && token.Position != nil {
		c.line = token.Position.Line
	}
	return false
}

func (c *yamlConverter) node(n ast.Node, depth int) bool {
	c.nodes++
	switch {
	case depth > maxYAMLDepth:
		return c.fail(n, schemas.CodeTooDeep, fmt.Sprintf("nested deeper than %d", maxYAMLDepth))
	case len(c.out) > c.limit || c.nodes > c.limit:
		return c.fail(n, schemas.CodeTooLarge, fmt.Sprintf("the element is longer than %d bytes as JSON", c.limit))
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return c.mapping(n.Values, depth)
	case *ast.MappingValueNode:
		return c.mapping([]*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		c.out = append(c.out, '[')
		for i, v := range n.Values {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			if !c.node(v, depth+1) {
				return false
			}
		}
		c.out = append(c.out, ']')
		return true
	case *ast.AnchorNode:
		if !c.node(n.Value, depth) {
			return false
		}
		c.anchors[n.Name.GetToken().Value] = n.Value
		return true
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		target, ok := c.anchors[name]
		if !ok {
			return c.fail(n, schemas.CodeSyntax, fmt.Sprintf("alias %q: its anchor is not before it in the same element", name))
		}
		return c.node(target, depth+1)
	case *ast.TagNode:
		return c.tagged(n, depth)
	default:
		return c.scalar(n)
	}
}

func (c *yamlConverter) mapping(values []*ast.MappingValueNode, depth int) bool {
	c.out = append(c.out, '{')
	for i, v := range values {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		var name string
		switch key := v.Key.(type) {
		case *ast.StringNode:
			name = key.Value
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
			name = key.GetToken().Value
		case *ast.MergeKeyNode:
			return c.fail(v.Key, schemas.CodeSyntax, "merge keys (<<) are not taken: write the keys out")
		default:
			return c.fail(v.Key, schemas.CodeSyntax, "a key has to be a text")
		}
		if !c.text(v.Key, name) {
			return false
		}
		c.out = append(c.out, ':')
		if !c.node(v.Value, depth+1) {
			return false
		}
	}
	c.out = append(c.out, '}')
	return true
}

// tagged takes the tags of YAML's core schema. "!!str" makes a text of what would be something else.
func (c *yamlConverter) tagged(n *ast.TagNode, depth int) bool {
	switch n.Start.Value {
	case "!!str":
		if n.Value == nil {
			return c.text(n, "")
		}
		switch v := n.Value.(type) {
		case *ast.StringNode, *ast.LiteralNode:
			return c.scalar(v)
		case ast.ScalarNode:
			return c.text(n, v.GetToken().Value)
		}
		return c.fail(n, schemas.CodeSyntax, "!!str stands before what is no text")
	case "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		return c.node(n.Value, depth+1)
	default:
		return c.fail(n, schemas.CodeSyntax, fmt.Sprintf("tag %q is not known", n.Start.Value))
	}
}

// scalar writes numbers that JSON has as they are, and others, such as 0x1F and .inf, as a text: what it means is for the mapping to say.
func (c *yamlConverter) scalar(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.StringNode:
		return c.text(n, n.Value)
	case *ast.LiteralNode:
		return c.text(n, n.Value.Value)
	case *ast.NullNode:
		c.out = append(c.out, "null"...)
		return true
	case *ast.BoolNode:
		c.out = fmt.Appendf(c.out, "%t", n.Value)
		return true
	case *ast.IntegerNode, *ast.FloatNode:
		number := jsontext.Value(n.GetToken().Value)
		if number.Kind() == '0' && number.IsValid() {
			c.out = append(c.out, bytes.TrimSpace(number)...)
			return true
		}
		return c.text(n, n.GetToken().Value)
	case *ast.InfinityNode, *ast.NanNode:
		return c.text(n, n.GetToken().Value)
	default:
		return c.fail(n, schemas.CodeSyntax, "this is not taken in a record")
	}
}

func (c *yamlConverter) text(n ast.Node, s string) bool {
	out, err := jsontext.AppendQuote(c.out, s)
	if err != nil {
		return c.fail(n, schemas.CodeUTF8, "a text holds what is not UTF-8")
	}
	c.out = out
	return true
}
