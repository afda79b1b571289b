package clients

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	pageFile  = "../../docs/clients.md"
	pageBegin = "<!-- The tables are written by `make test-clients`. -->\n"
	pageEnd   = "<!-- Up to here. -->\n"
)

// result is what was seen of a client.
type result struct {
	client
	version string
	how     how
}

// outcome is what the page says of it, but for its version: in a table as the
// others two cells, in that for Node one.
func (r result) outcome() string {
	if r.node != "" {
		return map[how]string{byVariables: "works", byShim: "shim", notReached: "no"}[r.how]
	}
	works, by := "works", ""
	switch r.how {
	case byVariables:
		by = "variables"
	case byProfile:
		by = "variables and profile"
	case byShim:
		by = "shim `" + r.shim + "`"
	case bySetting:
		works, by = "set", r.set
	case notReached:
		works = "no"
	}
	if r.note != "" {
		by = strings.TrimPrefix(by+"; "+r.note, "; ")
	}
	return works + " | " + by
}

// page is docs/clients.md as it is.
type page struct {
	before, tables, after string
}

func readPage(t *testing.T) page {
	t.Helper()
	data, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), pageBegin)
	tables, after, ended := strings.Cut(rest, pageEnd)
	if !ok || !ended {
		t.Fatalf("%s lacks the marks of its tables", pageFile)
	}
	return page{before, tables, after}
}

// outcome is what the page says of a client; "" for nothing.
func (p page) outcome(c client) string {
	group, header := "", []string(nil)
	for line := range strings.Lines(p.tables) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			group, header = title, nil
			continue
		}
		if group != c.group || !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case header == nil:
			header = cells
		case cells[0] != c.name:
		case c.node == "":
			return strings.Join(cells[2:], " | ")
		default:
			if i := slices.Index(header, c.node); i > 0 {
				return cells[i]
			}
		}
	}
	return ""
}

// render makes the tables. Without versions it is what must not change
// unnoticed.
func render(results []result, versions bool) string {
	var b strings.Builder
	counts := map[how]int{}
	rows := 0
	for _, r := range results {
		if r.group != "" {
			counts[r.how]++
			rows++
		}
	}
	fmt.Fprintf(&b, "\nOf %d, %d work with nothing set: %d by the variables of a run, %d by a profile as well, %d by a shim.\n"+
		"%d need something set. %d are not reached.\n",
		rows, rows-counts[bySetting]-counts[notReached], counts[byVariables], counts[byProfile], counts[byShim], counts[bySetting], counts[notReached])
	for _, group := range groups {
		fmt.Fprintf(&b, "\n## %s\n\n", group)
		if group == nodejs {
			renderNode(&b, results)
			continue
		}
		b.WriteString("| client | version | nothing set | by, or what to set |\n|---|---|---|---|\n")
		for _, r := range results {
			if r.group != group {
				continue
			}
			v := r.version
			if !versions {
				v = ""
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.name, v, r.outcome())
		}
	}
	b.WriteString("\n")
	return b.String()
}

// renderNode makes the table with a column for each Node.
func renderNode(b *strings.Builder, results []result) {
	b.WriteString("| client |")
	line := "\n|---|"
	for _, n := range nodes {
		fmt.Fprintf(b, " %s |", n.version)
		line += "---|"
	}
	b.WriteString(line + "\n")
	var names []string
	for _, r := range results {
		if r.group == nodejs && !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
	}
	for _, name := range names {
		fmt.Fprintf(b, "| %s |", name)
		for _, n := range nodes {
			cell := "–" // the library does not run there
			for _, r := range results {
				if r.group == nodejs && r.name == name && r.node == n.version {
					cell = r.outcome()
				}
			}
			fmt.Fprintf(b, " %s |", cell)
		}
		b.WriteString("\n")
	}
}

// withoutVersions blanks the second cell of the tables that have one.
func withoutVersions(tables string) string {
	var b strings.Builder
	group := ""
	for line := range strings.Lines(tables) {
		if title, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			group = title
		}
		cells := strings.Split(line, "|")
		if group != nodejs && len(cells) > 4 && cells[2] != " version " && cells[2] != "---" {
			cells[2] = "  "
		}
		b.WriteString(strings.Join(cells, "|"))
	}
	return b.String()
}

// check holds the page to what was seen, and writes it with -update.
func (p page) check(t *testing.T, results []result) {
	t.Helper()
	if is, was := render(results, false), withoutVersions(p.tables); is != was {
		t.Errorf("docs/clients.md said:\n%s\nand it is:\n%s", was, is)
	}
	if !*update {
		return
	}
	text := p.before + pageBegin + render(results, true) + pageEnd + p.after
	if err := os.WriteFile(pageFile, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

// TestTable holds the page to the table, whatever was run: every client that is
// expected has its row with that outcome, and there is no other row.
func TestTable(t *testing.T) {
	var results []result
	for _, c := range table() {
		results = append(results, result{client: c, how: c.expect})
	}
	if want, is := render(results, false), withoutVersions(readPage(t).tables); is != want {
		t.Errorf("docs/clients.md says:\n%s\nand the table expects:\n%s", is, want)
	}
}
