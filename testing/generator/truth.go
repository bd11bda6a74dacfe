package generator

import (
	"bufio"
	"crypto/sha256"
	stdhex "encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/parquet-go/parquet-go"
)

// The files in which the truth lies, beside the events.
const (
	TruthFile   = "truth.parquet"
	SummaryFile = "truth.json"
)

// PayloadLimit is how many bytes of an event a dead letter keeps, and Truth.PayloadSHA256 covers.
const PayloadLimit = 1 << 20

// Truth is one row of truth.parquet: what must become of one event. Rows are in the order of arrival.
type Truth struct {
	EventID     string `parquet:"event_id"`
	EventTime   int64  `parquet:"event_time,delta,timestamp(microsecond)"`
	ArrivalTime int64  `parquet:"arrival_time,delta,timestamp(microsecond)"`
	Verdict     string `parquet:"verdict,dict"`
	// The rest is set for broken events only.
	Code          string `parquet:"code,optional,dict"`
	FieldPath     string `parquet:"field_path,optional,dict"` // absent where no certain field is at fault
	PayloadSize   int64  `parquet:"payload_size,optional"`
	PayloadSHA256 string `parquet:"payload_sha256,optional"` // of the first PayloadLimit bytes, in hexadecimal digits
}

// Summary is truth.json: the totals.
type Summary struct {
	Events      int            `json:"events"`       // all of what follows
	Good        int            `json:"good"`         // rows
	Late        int            `json:"late"`         // rows that arrive late
	Repeated    int            `json:"repeated"`     // no rows
	Broken      int            `json:"broken"`       // dead letters
	Rows        int            `json:"rows"`         // good + late: what the table of interactions must hold
	BrokenCodes map[string]int `json:"broken_codes"` // dead letters by code
	Bytes       int64          `json:"bytes"`        // of all events, without line ends

	FirstEvent   time.Time `json:"first_event"` // of rows
	LastEvent    time.Time `json:"last_event"`
	FirstArrival time.Time `json:"first_arrival"`
	LastArrival  time.Time `json:"last_arrival"`

	Users    int       `json:"users"`
	Items    int       `json:"items"`
	Seed     uint64    `json:"seed"`
	Start    time.Time `json:"start"`
	Duration string    `json:"duration"`
}

// tally sums up events as they go out.
type tally struct {
	summary                  Summary
	firstEvent, lastEvent    int64
	firstArrival, lastArrive int64
}

func newTally(o Options) *tally {
	return &tally{summary: Summary{
		BrokenCodes: map[string]int{},
		Users:       o.Users, Items: o.Items, Seed: o.Seed, Start: o.Start.UTC(), Duration: o.Duration.String(),
	}}
}

func (t *tally) add(e *Event) {
	s := &t.summary
	if s.Events == 0 {
		t.firstArrival = e.ArrivalMicros
	}
	t.lastArrive = max(t.lastArrive, e.ArrivalMicros)
	s.Events++
	s.Bytes += int64(len(e.Data))
	switch e.Verdict {
	case Good:
		s.Good++
	case Late:
		s.Late++
	case Repeated:
		s.Repeated++
		return
	case Broken:
		s.Broken++
		s.BrokenCodes[string(e.Code)]++
		return
	}
	if s.Rows == 0 {
		t.firstEvent = e.EventMicros
	}
	s.Rows++
	t.firstEvent, t.lastEvent = min(t.firstEvent, e.EventMicros), max(t.lastEvent, e.EventMicros)
}

// result returns the totals of what was added.
func (t *tally) result() Summary {
	s := t.summary
	s.FirstEvent, s.LastEvent = time.UnixMicro(t.firstEvent).UTC(), time.UnixMicro(t.lastEvent).UTC()
	s.FirstArrival, s.LastArrival = time.UnixMicro(t.firstArrival).UTC(), time.UnixMicro(t.lastArrive).UTC()
	return s
}

// truthWriter writes truth.parquet and truth.json.
type truthWriter struct {
	dir    string
	tally  *tally
	file   *os.File
	buffer *bufio.Writer
	writer *parquet.GenericWriter[Truth]
	rows   []Truth
}

// truthRows is how many rows a row group of truth.parquet holds, and so how much of the truth is in memory.
const truthRows = 500_000

func newTruthWriter(dir string, o Options) (*truthWriter, error) {
	file, err := os.Create(filepath.Join(dir, TruthFile))
	if err != nil {
		return nil, fmt.Errorf("create the truth file: %w", err)
	}
	buffer := bufio.NewWriterSize(file, 1<<18)
	return &truthWriter{
		dir: dir, tally: newTally(o), file: file, buffer: buffer,
		writer: parquet.NewGenericWriter[Truth](buffer, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(truthRows)),
		rows:   make([]Truth, 0, 1024),
	}, nil
}

func (w *truthWriter) add(e *Event) error {
	w.tally.add(e)
	row := Truth{EventID: e.ID, EventTime: e.EventMicros, ArrivalTime: e.ArrivalMicros, Verdict: e.Verdict.String()}
	if e.Verdict == Broken {
		row.Code, row.FieldPath = string(e.Code), e.FieldPath
		row.PayloadSize, row.PayloadSHA256 = int64(len(e.Data)), PayloadHash(e.Data)
	}
	w.rows = append(w.rows, row)
	if len(w.rows) == cap(w.rows) {
		return w.flush()
	}
	return nil
}

func (w *truthWriter) flush() error {
	_, err := w.writer.Write(w.rows)
	w.rows = w.rows[:0]
	if err != nil {
		return fmt.Errorf("write %s: %w", w.file.Name(), err)
	}
	return nil
}

// close completes both files and returns the totals. It must be called, also after an error.
func (w *truthWriter) close() (Summary, error) {
	s := w.tally.result()
	err := errors.Join(w.flush(), w.writer.Close(), w.buffer.Flush(), w.file.Close())
	if err != nil {
		return s, fmt.Errorf("close %s: %w", w.file.Name(), err)
	}
	return s, writeSummary(w.dir, s)
}

// PayloadHash is the hash by which a dead letter is known: SHA-256 of the first PayloadLimit bytes in hexadecimal digits.
func PayloadHash(payload []byte) string {
	sum := sha256.Sum256(payload[:min(len(payload), PayloadLimit)])
	return stdhex.EncodeToString(sum[:])
}

// ReadSummary reads the truth.json in dir.
func ReadSummary(dir string) (Summary, error) {
	var s Summary
	return s, readSummary(dir, &s)
}

// ReadTruth calls f with each row of the truth.parquet in dir, in their order, until f fails.
func ReadTruth(dir string, f func(*Truth) error) error {
	return readParquet(filepath.Join(dir, TruthFile), f)
}
