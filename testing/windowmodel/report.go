package windowmodel

import (
	"fmt"
	"slices"
	"strings"

	"backbone/schemas"
)

// Kind is a kind of difference.
type Kind int

// The kinds of differences.
const (
	WindowMissing Kind = iota // there is no row of a window that must have some
	WindowExtra               // there are rows of a window that must have none
	WindowTwice               // a window is in two files
	FileMixed                 // a file has more than one window
	FileMisnamed              // a file has the name of another window
	RowMissing                // a row of a window is not there
	RowExtra                  // a row must not be there
	RowTwice                  // a row is there again, be it in another window
	RowDifferent              // a row says something else
	RowMisranked              // a row has the rank of another
	RowUnsettled              // a row of a main table has another pane than settled
	kinds
)

var kindNames = [kinds]string{
	"windows missing", "windows extra", "windows twice", "files of several windows", "files with a wrong name", "rows missing",
	"rows extra", "rows twice", "rows that differ", "rows with a wrong rank", "rows that are not settled",
}

func (k Kind) String() string { return kindNames[k] }

// Table is what a main table has.
type Table struct {
	Files, Windows, Rows int
	// Want is how many rows it must have.
	Want int
	// Hash is over all rows but revision and pane, sorted. Floats count with twelve digits.
	Hash string
}

// Live is what the table of the results that are not settled has.
type Live struct {
	// Revisions are the highest of each window.
	Revisions map[Span]int64
	// Panes are their names, sorted, each once.
	Panes []string
	// Settled is how many of the windows are in the main table too.
	Settled int
}

// Report is what Check found.
type Report struct {
	Events int              // in the table of interactions
	Tables map[string]Table // by name
	Live   map[string]Live  // by the name of the main table
	// Hash is that of the hashes of all tables: two lakes with the same have the same rows.
	Hash     string
	Counts   map[Kind]int      // differences; empty if there are none
	Examples map[Kind][]string // the first of each kind
}

// OK tells whether the tables are as they must be.
func (r *Report) OK() bool { return len(r.Counts) == 0 }

// String tells what is there and all differences.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events, hash %s\n", r.Events, r.Hash)
	for _, name := range tables {
		t, live := r.Tables[name], r.Live[name]
		fmt.Fprintf(&b, "%s: %d rows of %d windows in %d files, want %d rows; %d windows live %v\n", name, t.Rows, t.Windows, t.Files, t.Want, len(live.Revisions), live.Panes)
	}
	for kind := range kinds {
		if r.Counts[kind] == 0 {
			continue
		}
		fmt.Fprintf(&b, "%d %v:\n", r.Counts[kind], kind)
		for _, example := range r.Examples[kind] {
			fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(strings.TrimSpace(example), "\n", "\n  "))
		}
		if rest := r.Counts[kind] - len(r.Examples[kind]); rest > 0 {
			fmt.Fprintf(&b, "  and %d more\n", rest)
		}
	}
	if r.OK() {
		b.WriteString("no differences\n")
	}
	return b.String()
}

// differ notes a difference.
func (r *Report) differ(most int, kind Kind, format string, args ...any) {
	r.Counts[kind]++
	if len(r.Examples[kind]) < most {
		r.Examples[kind] = append(r.Examples[kind], fmt.Sprintf(format, args...))
	}
}

var tables = slices.Sorted(slices.Values([]string{schemas.Sessions.Name, schemas.Trending.Name, schemas.Funnels.Name, schemas.CoOccurrences.Name}))
