package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is all that was measured.
type Report struct {
	Machine  string     `json:"machine"`
	Revision string     `json:"revision"`
	Options  string     `json:"options"`
	Started  time.Time  `json:"started"`
	Sections []*Section `json:"sections"`
}

// Section is one comparison.
type Section struct {
	Title string   `json:"title"`
	Unit  string   `json:"unit"` // what is counted: events, rows, messages
	Rows  []*Row   `json:"rows"` // the first is what the others are compared with
	Aims  []Aim    `json:"aims,omitempty"`
	Notes []string `json:"notes,omitempty"`
}

// Row is one program, or one size of its input.
type Row struct {
	Name    string   `json:"name"`
	Count   int64    `json:"count"` // of the section's units
	Samples []Sample `json:"samples"`
	// Ratios to the first row, medians over rounds. They are filled in by Compare.
	WallRatio float64 `json:"wall_ratio,omitempty"`
	CPURatio  float64 `json:"cpu_ratio,omitempty"`
	RSSRatio  float64 `json:"rss_ratio,omitempty"`
}

// Aim is what a figure should be, and what it is.
type Aim struct {
	What string  `json:"what"`
	Got  float64 `json:"got"`
	Most float64 `json:"at_most,omitempty"`
	// Least is the bound where more is better; then Most is 0.
	Least float64 `json:"at_least,omitempty"`
}

// Met reports whether the aim is met.
func (a Aim) Met() bool {
	if a.Least > 0 {
		return a.Got >= a.Least
	}
	return a.Got <= a.Most
}

func (a Aim) String() string {
	verdict := "met"
	if !a.Met() {
		verdict = "NOT met"
	}
	if a.Least > 0 {
		return fmt.Sprintf("%s: %.2f, want at least %.2f: %s", a.What, a.Got, a.Least, verdict)
	}
	return fmt.Sprintf("%s: %.2f, want at most %.2f: %s", a.What, a.Got, a.Most, verdict)
}

// The figures of a sample.
func wall(s Sample) float64 { return s.Wall }
func cpu(s Sample) float64  { return s.CPU }
func rss(s Sample) float64  { return float64(s.RSS) }

// Median returns the median of a figure over the rounds.
func (r *Row) Median(of func(Sample) float64) float64 {
	values := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		values[i] = of(s)
	}
	return median(values)
}

// ratio returns the median over the rounds of a figure of r to that of base in the same round.
func (r *Row) ratio(base *Row, of func(Sample) float64) float64 {
	var values []float64
	for i := range min(len(r.Samples), len(base.Samples)) {
		values = append(values, of(r.Samples[i])/of(base.Samples[i]))
	}
	return median(values)
}

// median returns the middle of values, or the mean of the two in the middle; NaN if there are none.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Compare fills in the ratios.
func (s *Section) Compare() {
	for _, r := range s.Rows {
		r.WallRatio, r.CPURatio, r.RSSRatio = r.ratio(s.Rows[0], wall), r.ratio(s.Rows[0], cpu), r.ratio(s.Rows[0], rss)
	}
}

// Write prints the section as a table.
func (s *Section) Write(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "\n%s\n\n", s.Title); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\twall\tCPU\tRSS\twall s\t(range)\tCPU s\tRSS MB\t%s/s\tµs/%s\t\n", s.Unit, strings.TrimSuffix(s.Unit, "s"))
	for _, r := range s.Rows {
		seconds := r.Median(wall)
		low := slices.MinFunc(r.Samples, func(a, b Sample) int { return cmp.Compare(a.Wall, b.Wall) }).Wall
		high := slices.MaxFunc(r.Samples, func(a, b Sample) int { return cmp.Compare(a.Wall, b.Wall) }).Wall
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f-%.2f\t%.2f\t%.0f\t%.0f\t%.2f\t\n", r.Name, r.WallRatio, r.CPURatio, r.RSSRatio,
			seconds, low, high, r.Median(cpu), r.Median(rss)/1e6, float64(r.Count)/seconds, seconds*1e6/float64(r.Count))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var text strings.Builder
	for _, a := range s.Aims {
		fmt.Fprintf(&text, "aim: %v\n", a)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&text, "note: %s\n", n)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
