package generator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/parquet-go/parquet-go"
)

// The files in which the truth about the catalogue lies, in CatalogDir, beside truth.json.
const BrokenFile = "truth_broken.parquet"

// Version is one row of truth.parquet of the catalogue: one version of a user or an item. Rows are in the order of tables,
// ids by their number, and valid_from.
type Version struct {
	Table     string `parquet:"table,dict"`
	ID        string `parquet:"id,delta"`
	ValidFrom int64  `parquet:"valid_from,timestamp(microsecond)"`
	ValidTo   int64  `parquet:"valid_to,optional,timestamp(microsecond)"` // absent, 0: current
	IsDeleted bool   `parquet:"is_deleted"`
	Content   string `parquet:"content,optional"` // what Content makes of the row; absent where deleted
}

// BrokenRow is one row of truth_broken.parquet: a line of an export that must become a dead letter. Rows are in the order of
// exports, and of lines but for the files that they are in.
type BrokenRow struct {
	Table         string `parquet:"table,dict"`
	Mode          string `parquet:"mode,dict"`
	AsOf          int64  `parquet:"as_of,timestamp(microsecond)"`
	Code          string `parquet:"code,dict"`
	FieldPath     string `parquet:"field_path,optional,dict"` // absent where no certain field is at fault
	PayloadSize   int64  `parquet:"payload_size"`
	PayloadSHA256 string `parquet:"payload_sha256"` // as PayloadHash has it
}

// CatalogSummary is truth.json of the catalogue: the totals.
type CatalogSummary struct {
	Tables  map[string]TableSummary `json:"tables"` // at the end
	Exports []ExportSummary         `json:"exports"`
	Seed    uint64                  `json:"seed"`
	Start   time.Time               `json:"start"`
	Days    int                     `json:"days"`
}

// TableSummary is what a table must hold in the end.
type TableSummary struct {
	IDs      int `json:"ids"`      // rows of the current state, deleted ones included
	Live     int `json:"live"`     // of them, not deleted
	Versions int `json:"versions"` // current ones included
}

// ExportSummary is what one export holds, and what it has to change.
type ExportSummary struct {
	Table string    `json:"table"`
	Mode  string    `json:"mode"`
	AsOf  time.Time `json:"as_of"`

	Lines    int   `json:"lines"`    // all of what follows
	Rows     int   `json:"rows"`     // one for each id that is there
	Older    int   `json:"older"`    // older versions beside the newer ones
	Repeated int   `json:"repeated"` // byte for byte
	Broken   int   `json:"broken"`   // dead letters
	Bytes    int64 `json:"bytes"`    // of all lines, without line ends

	New         int            `json:"new"`       // ids that were never there
	Changed     int            `json:"changed"`   // ids of which something else is said than the day before
	Deleted     int            `json:"deleted"`   // ids that were there the day before
	Recreated   int            `json:"recreated"` // ids that were deleted before
	BrokenCodes map[string]int `json:"broken_codes"`
}

// newParquet returns a writer of rows to a new file, and what closes it.
func newParquet[R any](name string, rowsOfGroup int64) (w *parquet.GenericWriter[R], closeAll func() error, err error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, nil, fmt.Errorf("create a file of the truth: %w", err)
	}
	buffer := bufio.NewWriterSize(file, 1<<18)
	w = parquet.NewGenericWriter[R](buffer, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(rowsOfGroup))
	return w, func() error {
		if err := errors.Join(w.Close(), buffer.Flush(), file.Close()); err != nil {
			return fmt.Errorf("close %q: %w", name, err)
		}
		return nil
	}, nil
}

// ReadVersions calls f with each version of the truth about the catalogue in dir, in their order, until f fails.
func ReadVersions(dir string, f func(*Version) error) error {
	return readParquet(filepath.Join(dir, CatalogDir, TruthFile), f)
}

// ReadBroken calls f with each broken row of the catalogue in dir, in their order, until f fails.
func ReadBroken(dir string, f func(*BrokenRow) error) error {
	return readParquet(filepath.Join(dir, CatalogDir, BrokenFile), f)
}

// ReadCatalogSummary reads the totals of the catalogue in dir.
func ReadCatalogSummary(dir string) (CatalogSummary, error) {
	var s CatalogSummary
	return s, readSummary(filepath.Join(dir, CatalogDir), &s)
}

func readSummary(dir string, s any) error {
	document, err := os.ReadFile(filepath.Join(dir, SummaryFile))
	if err != nil {
		return fmt.Errorf("read the summary of the truth: %w", err)
	}
	if err := json.Unmarshal(document, s); err != nil {
		return fmt.Errorf("read %q: %w", filepath.Join(dir, SummaryFile), err)
	}
	return nil
}

func writeSummary(dir string, s any) error {
	document, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the summary: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, SummaryFile), append(document, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

// readParquet calls f with each row of a file until f fails.
func readParquet[R any](name string, f func(*R) error) (err error) {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read the truth: %w", err)
	}
	reader := parquet.NewGenericReader[R](file)
	defer func() { err = errors.Join(err, reader.Close(), file.Close()) }()
	rows := make([]R, 256)
	for {
		n, err := reader.Read(rows)
		for i := range rows[:n] {
			if err := f(&rows[i]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read %q: %w", name, err)
		}
	}
}
