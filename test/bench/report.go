package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fairway-lb/fairway/test/bench/measure"
)

// report is what was measured, in the order of the measurements.
type report struct {
	hardware string
	began    time.Time
	tables   []*table
	memory   *table // a later measurement adds to it
	load     string // load average when the current measurement began
}

// table has rows of text, and sentences below that say whether what was
// promised was kept.
type table struct {
	title    string
	rows     [][]string
	verdicts []string
}

func newReport() (*report, error) {
	hardware, err := measure.Hardware()
	return &report{hardware: hardware, began: time.Now()}, err
}

// progress tells on stderr what goes on; the tables are on stdout.
func (r *report) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// step is one of the measurements.
type step struct {
	what string
	do   func() error
}

// steps makes measurements one after the other.
func (r *report) steps(steps []step) error {
	for _, step := range steps {
		var err error
		if r.load, err = measure.LoadAverage(); err != nil {
			return err
		}
		r.progress("%s", step.what)
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (r *report) table(title string) *table {
	t := &table{title: fmt.Sprintf("%s (load average before it: %s)", title, r.load)}
	r.tables = append(r.tables, t)
	return t
}

// costs is a table of what changes cost.
func (r *report) costs(title string) *table {
	t := r.table(title)
	t.row("change", "reconciles", "services/status", "services", "eips/status", "events", "refused")
	return t
}

// limit adds a verdict on the controller's memory.
func (r *report) limit(resident, limit int64) {
	r.memory.verdict(resident < limit, fmt.Sprintf("%s are under %s", mebibytes(resident), mebibytes(limit)))
}

func (t *table) row(what string, cells ...string) {
	t.rows = append(t.rows, append([]string{what}, cells...))
}

func (t *table) verdict(kept bool, promise string) {
	if !kept {
		promise = "NOT KEPT: " + promise
	}
	t.verdicts = append(t.verdicts, promise)
}

func (r *report) write(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "\nFairway against a real API server and real routers (all on one machine)\n")
	fmt.Fprintf(&text, "%s; the whole took %.0f s\n", r.hardware, time.Since(r.began).Seconds())
	for _, t := range r.tables {
		fmt.Fprintf(&text, "\n%s\n", t.title)
		w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		for _, row := range t.rows {
			fmt.Fprintf(w, "  %s\n", strings.Join(row, "\t"))
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("aligning a table: %w", err)
		}
		for _, verdict := range t.verdicts {
			fmt.Fprintf(&text, "  = %s\n", verdict)
		}
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("printing the tables: %w", err)
	}
	return nil
}

func round(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func each(d time.Duration) string { return round(d) + " each" }

func seconds(s float64) string { return fmt.Sprintf("%.2f s", s) }

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// factor is how many times as much.
func factor(f float64) string { return fmt.Sprintf("%.3g times", f) }
