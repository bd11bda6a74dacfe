package main

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/decode"
	"backbone/transforms/lake"
	"backbone/transforms/rows"
	"backbone/transforms/source"
)

// maker makes rows and dead letters of records, and keeps them by slot. It is used by one goroutine at a time.
type maker struct {
	job     *job
	decoder decode.Decoder[schemas.Interaction]
	rules   schemas.Rules
	rows    piles[schemas.Interaction]
	dead    piles[schemas.DeadLetter]
	letter  schemas.DeadLetter
	id      []byte
	read    int64

	rec *source.Record // the one being read
	nth int            // event of the record
}

func newMaker(j *job) (*maker, error) {
	d, err := decode.New(j.mapping, schemas.Interactions, (*schemas.Interaction).Reset)
	if err != nil {
		return nil, err
	}
	return &maker{
		job: j, decoder: d, rules: schemas.Rules{Types: j.mapping.EventTypes},
		rows: newPiles(schemas.Interactions, j.layouts[schemas.Interactions.Name]),
		dead: newPiles(schemas.DeadLetters, j.layouts[schemas.DeadLetters.Name]),
	}, nil
}

func (m *maker) record(rec *source.Record) {
	m.rec, m.nth = rec, 0
	m.decoder.Decode(rec, m.event)
}

func (m *maker) event(row *schemas.Interaction, fault *schemas.FieldError) {
	m.read++
	m.nth++
	stage := "decode"
	if fault == nil {
		m.complete(row)
		stage = "validate"
		fault = row.Check(m.rules)
	}
	if fault != nil {
		m.reject(stage, fault)
		return
	}
	m.rows.add(row)
}

// complete fills what the event itself does not say.
func (m *maker) complete(row *schemas.Interaction) {
	rec, l := m.rec, &row.Lineage
	l.Source, l.MessageID, l.SchemaVersion = rec.Source, rec.MessageID, schemas.Some(int64(schemas.Interactions.Version))
	row.LoadedTime = schemas.Some(m.rules.Now)
	if rec.Offset >= 0 {
		l.Offset = schemas.Some(rec.Offset)
	} else if !row.ReceivedTime.Set {
		row.ReceivedTime = schemas.Some(rec.Received)
	}
	for _, a := range rec.Attributes {
		a.Value = schemas.RemoveAddress(a.Value)
		l.Attributes = append(l.Attributes, a)
	}
	m.job.deriver.Interaction(row)
}

// reject makes a dead letter of what can't become a row.
func (m *maker) reject(stage string, fault *schemas.FieldError) {
	rec, d := m.rec, &m.letter
	d.Reset()
	place := rec.MessageID
	if rec.Offset >= 0 {
		d.Offset = schemas.Some(rec.Offset)
		place = strconv.FormatInt(rec.Offset, 10)
	}
	m.id = fmt.Appendf(m.id[:0], "%s\x00%s\x00%d\x00", rec.Source, place, m.nth)
	m.id = append(m.id, rec.Data...)
	h := xxh3.Hash128(m.id).Bytes()
	d.DeadLetterID = hex.EncodeToString(h[:])
	d.ReceivedTime = schemas.Some(rec.Received)
	d.FailureType, d.Stage, d.Severity = failureType(stage, fault.Code), "interactions."+stage, schemas.SeveritySevere
	d.ErrorCode, d.ErrorMessage, d.FieldPath = string(fault.Code), fault.Message, fault.Path
	d.Payload = rows.Alias(rec.Data[:min(len(rec.Data), maxPayload)]) // it is copied at once, by add
	d.PayloadSize = schemas.Some(max(rec.Size, int64(len(rec.Data))))
	d.Attributes = append(d.Attributes, rec.Attributes...)
	d.MessageID, d.Source, d.Attempt = rec.MessageID, rec.Source, schemas.Some(int64(1))
	d.SchemaVersion = schemas.Some(int64(schemas.Interactions.Version))
	m.dead.add(d)
}

// failureType classes a dead letter as the pipeline does.
func failureType(stage string, code schemas.Code) string {
	switch code {
	case schemas.CodeSyntax, schemas.CodeUTF8, schemas.CodeDuplicateKey, schemas.CodeTooDeep, schemas.CodeTooLarge:
		return "decode"
	}
	if stage == "decode" {
		return "map"
	}
	return stage
}

// maxPayload is how much of a record a dead letter keeps, and the size of the largest record.
const maxPayload = 1 << 20

// take returns the chunks of all slots, and keeps none.
func (m *maker) take(into map[lake.Slot][][]byte) {
	m.rows.take(into)
	m.dead.take(into)
}

// piles are the rows of one table, by slot.
type piles[R any] struct {
	table  *schemas.Table[R]
	layout lake.Layout
	codec  *rows.Codec[R]
	bySlot map[lake.Slot]*pile
	last   *pile
}

// pile is the rows of one slot as chunks.
type pile struct {
	slot lake.Slot
	full [][]byte
	buf  []byte
}

// The sizes of a pile's chunks: the first one grows, since a sparse history has many slots with few rows.
const (
	chunkBytes = 1 << 20
	firstBytes = 2 << 10
	roomForRow = 8 << 10
)

func newPiles[R any](table *schemas.Table[R], layout lake.Layout) piles[R] {
	return piles[R]{table: table, layout: layout, codec: rows.NewCodec(table.Columns), bySlot: map[lake.Slot]*pile{}}
}

func (p *piles[R]) add(row *R) {
	id, micros := p.table.Slot(row)
	slot := p.layout.Slot(p.table.Name, id, micros)
	at := p.last
	if at == nil || at.slot != slot {
		if at = p.bySlot[slot]; at == nil {
			at = &pile{slot: slot, buf: p.codec.AppendHeader(make([]byte, 0, firstBytes))}
			p.bySlot[slot] = at
		}
		p.last = at
	}
	at.buf = p.codec.Append(at.buf, row)
	if len(at.buf) > chunkBytes-roomForRow {
		at.full = append(at.full, at.buf)
		at.buf = p.codec.AppendHeader(make([]byte, 0, chunkBytes))
	}
}

func (p *piles[R]) take(into map[lake.Slot][][]byte) {
	for slot, at := range p.bySlot {
		into[slot] = append(append(into[slot], at.full...), at.buf)
	}
	p.bySlot, p.last = map[lake.Slot]*pile{}, nil
}
