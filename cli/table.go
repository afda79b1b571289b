package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// table is text in columns: a header underlined with dashes, columns two
// spaces apart, no space at the end of a line.
type table struct {
	header []string
	rows   [][]string
}

func newTable(header ...string) *table { return &table{header: header} }

// row adds one; its cells become harmless and stay on one line, and an empty
// one becomes a dash.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if cells[i] = cleanLine(c); c == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

func (t *table) String() string {
	widths := make([]int, len(t.header))
	for _, r := range append([][]string{t.header}, t.rows...) {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	rule := make([]string, len(widths))
	for i, w := range widths {
		rule[i] = strings.Repeat("-", w)
	}
	var b strings.Builder
	for _, r := range append([][]string{t.header, rule}, t.rows...) {
		var line strings.Builder
		for i, c := range r {
			line.WriteString(c)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// expiry says when a credential ends, seen from now.
func expiry(at *time.Time, now time.Time) string {
	switch {
	case at == nil || at.IsZero():
		return "-"
	case at.After(now):
		return "expires in " + span(at.Sub(now))
	default:
		return "expired " + span(now.Sub(*at)) + " ago"
	}
}

// span is a duration in its largest whole unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
