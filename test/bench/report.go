package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// report is what was measured, and prints it.
type report struct {
	out io.Writer

	binary                   int64
	plain, under, over, list []time.Duration
	resident                 int64
	ready, first             []time.Duration
	rows                     []row
	idle                     []measured // bytes a stream
	idleStreams              int
	full                     int64
	fullStreams              int
	anyMarked                bool
}

// measured is one figure of one target.
type measured struct {
	name  string
	value float64
}

func (r *report) printf(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format, args...) }

// machine says what was measured where.
func (r *report) machine(l *lab) {
	version, err := exec.Command(l.binary, "version").Output()
	if err != nil {
		version = []byte("?")
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(version)), "\n")
	r.printf("%s/%s, %d processors%s, %s, %s, %s\n\n", runtime.GOOS, runtime.GOARCH, processors, model(),
		runtime.Version(), text, time.Now().UTC().Format("2006-01-02"))
}

// model is the processors' name, "" when it is not told.
func model() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	m := regexp.MustCompile(`(?m)^model name\s*: (.+)$`).FindSubmatch(data)
	if m == nil {
		return ""
	}
	return " (" + string(m[1]) + ")"
}

// print writes all tables. targets are the columns.
func (r *report) print(targets []*target, missing []string) {
	for _, line := range missing {
		r.printf("%s\n\n", line)
	}
	var names []string
	for _, t := range targets {
		names = append(names, t.name)
	}
	r.summary(names)
	r.rates(names)
	r.costs(names[1:])
	r.times(names)
	r.memory()
	if r.anyMarked {
		r.footnote()
	}
}

func (r *report) footnote() {
	r.printf("¹ Others used more than %.0f %% of the machine meanwhile.\n", 100*disturbed)
}

// table writes a row of a Markdown table.
func (r *report) table(cells ...string) { r.printf("| %s |\n", strings.Join(cells, " | ")) }

// heading writes the head of one; all columns but the first are numbers.
func (r *report) heading(cells ...string) {
	r.table(cells...)
	r.printf("|---%s|\n", strings.Repeat("|--:", len(cells)-1))
}

// verdict is one line of the summary. more says that a larger figure is a better
// one.
type verdict struct {
	what  string
	value float64
	aim   aim
	more  bool
	unit  string // of floor and goal: a format
}

func (v verdict) reached() string {
	met := func(want float64) bool { return v.more && v.value >= want || !v.more && v.value <= want }
	worst := v.aim.floor
	if worst == 0 {
		worst = v.aim.goal
	}
	switch {
	case v.aim.goal != 0 && met(v.aim.goal):
		return "goal"
	case v.aim.floor != 0 && met(v.aim.floor):
		return "floor"
	case v.more:
		return fmt.Sprintf("missed by %.0f %%", 100*(1-v.value/worst))
	default:
		return fmt.Sprintf("missed by %.0f %%", 100*(v.value/worst-1))
	}
}

// summary holds the figures to their targets.
func (r *report) summary(names []string) {
	all := r.verdicts(names)
	if len(all) == 0 {
		return
	}
	r.heading("target", "authsome", "floor", "goal", "reached")
	for _, v := range all {
		limit := func(x float64) string {
			if x == 0 {
				return ""
			}
			sign := "≤ "
			if v.more {
				sign = "≥ "
			}
			return sign + fmt.Sprintf(v.unit, x)
		}
		r.table(v.what, fmt.Sprintf(v.unit, v.value), limit(v.aim.floor), limit(v.aim.goal), v.reached())
	}
	r.printf("\n")
}

func (r *report) verdicts(names []string) []verdict {
	var all []verdict
	add := func(what string, value float64, a aim, more bool, unit string) {
		all = append(all, verdict{what: what, value: value, aim: a, more: more, unit: unit})
	}
	if r.has(names, nameAuthsome) {
		for _, row := range r.rows {
			w := row.workload
			if w.rate != (aim{}) {
				add(w.name+": rate, of direct", median(row.ratios(nameAuthsome, nameDirect)), w.rate, true, "%.2f")
			}
			if cost, ok := row.medianOf(nameAuthsome, func(s sample) float64 { return s.cost * 1e6 }); ok && w.cost != (aim{}) {
				add(w.name+": CPU per 1,000", cost, w.cost, false, "%.0f ms")
			}
			if r.has(names, nameYardstick) {
				of := func(a aim, yard float64) aim { return aim{a.floor / yard, a.goal / yard} }
				if w.yardRate > 0 {
					add(w.name+": rate, of net/http Go", median(row.ratios(nameAuthsome, nameYardstick)), of(w.rate, w.yardRate), true, "%.2f")
				}
				if w.yardCost > 0 {
					add(w.name+": CPU, of net/http Go", median(row.costs(nameAuthsome, nameYardstick)), of(w.cost, w.yardCost), false, "%.2f")
				}
			}
			if w.kind == requests && w.clients > 1 && r.has(names, nameHAProxy) {
				add(w.name+": rate, of HAProxy", median(row.ratios(nameAuthsome, nameHAProxy)), aim{0, .95}, true, "%.2f")
			}
			if w.kind == requests && w.clients > 1 && r.has(names, nameMitmproxy) {
				add(w.name+": rate, of mitmproxy", median(row.ratios(nameAuthsome, nameMitmproxy)), aim{15, 25}, true, "%.0f ×")
				theirs, _ := row.medianOf(nameMitmproxy, func(s sample) float64 { return s.cost })
				ours, _ := row.medianOf(nameAuthsome, func(s sample) float64 { return s.cost })
				add(w.name+": mitmproxy's CPU, of ours", theirs/ours, aim{15, 25}, true, "%.0f ×")
			}
			if w.kind == events {
				var over []float64
				for i, s := range row.samples[nameAuthsome] {
					over = append(over, s.p50-row.samples[nameDirect][i].p50)
				}
				add("streamed event: median, over direct", median(over), aim{150, 70}, false, "%.0f µs")
			}
		}
	}
	for _, m := range r.idle {
		if m.name == nameAuthsome {
			add("idle stream: memory", m.value/1e3, aim{85, 35}, false, "%.0f KB")
		}
	}
	if r.full > 0 {
		add(fmt.Sprintf("%s idle streams of %s runs: memory", thousands(r.fullStreams), thousands(fullRuns)), float64(r.full)/1e6, aim{1000, 400}, false, "%.0f MB")
	}
	if len(r.first) > 0 {
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		add("daemon start to first proxied 200", ms(median(r.first)), aim{60, 25}, false, "%.1f ms")
		add("daemon start to ready", ms(median(r.ready)), aim{150, 0}, false, "%.1f ms")
		add(fmt.Sprintf("`run -- true`, over `true` (%.1f ms)", ms(median(r.plain))), ms(median(r.over)), aim{15, 6}, false, "%.1f ms")
		add("`list`", ms(median(r.list)), aim{25, 0}, false, "%.1f ms")
		add("binary", float64(r.binary)/1e6, aim{25, 0}, false, "%.1f MB")
		add(fmt.Sprintf("daemon after %d commands: memory", 2*len(r.plain)), float64(r.resident)/1e6, aim{30, 0}, false, "%.1f MB")
	}
	return all
}

func (r *report) has(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// name is a row's, with a mark when it was disturbed.
func (r *report) name(row row) string {
	if row.others <= disturbed {
		return row.workload.name
	}
	r.anyMarked = true
	return row.workload.name + " ¹"
}

const none = "–"

// rates compares with direct.
func (r *report) rates(names []string) {
	if len(r.rows) == 0 {
		return
	}
	r.heading(append(append([]string{"rate as a ratio to direct"}, names[1:]...), nameDirect, "others")...)
	for _, row := range r.rows {
		w := row.workload
		if w.kind == events {
			continue
		}
		cells := []string{r.name(row)}
		for _, name := range names[1:] {
			cell := none
			if v := row.ratios(name, nameDirect); len(v) > 0 {
				cell = fmt.Sprintf("%.2f", median(v))
			}
			cells = append(cells, cell)
		}
		rate, _ := row.medianOf(nameDirect, func(s sample) float64 { return s.rate })
		absolute := fmt.Sprintf("%.0f/s", rate)
		if w.bulk() {
			absolute = fmt.Sprintf("%.0f MB/s", rate/1e6)
		}
		r.table(append(cells, absolute, fmt.Sprintf("%.0f %%", 100*row.others))...)
	}
	r.printf("\n")
}

// costs are the proxies' own.
func (r *report) costs(names []string) {
	if len(r.rows) == 0 {
		return
	}
	r.heading(append([]string{"the proxy's own CPU"}, names...)...)
	for _, row := range r.rows {
		w := row.workload
		if w.kind == events {
			continue
		}
		title, unit, format := r.name(row)+", ms per 1,000", 1e6, "%.0f"
		if w.bulk() {
			title, unit, format = r.name(row)+", s per GB", 1e9, "%.2f"
		}
		cells := []string{title}
		for _, name := range names {
			cell := none
			if v, ok := row.medianOf(name, func(s sample) float64 { return s.cost * unit }); ok {
				cell = fmt.Sprintf(format, v)
			}
			cells = append(cells, cell)
		}
		r.table(cells...)
	}
	r.printf("\n")
}

// timed are the rows whose times are printed.
func timed(w workload) bool {
	return w.kind == events || w.kind == requests || w.kind == messages
}

// times are those of single operations.
func (r *report) times(names []string) {
	head := false
	for _, row := range r.rows {
		if !timed(row.workload) {
			continue
		}
		if !head {
			r.heading(append([]string{"p50 / p99, µs"}, names...)...)
			head = true
		}
		cells := []string{r.name(row)}
		for _, name := range names {
			p50, ok := row.medianOf(name, func(s sample) float64 { return s.p50 })
			p99, _ := row.medianOf(name, func(s sample) float64 { return s.p99 })
			cell := none
			if ok {
				cell = fmt.Sprintf("%.0f / %.0f", p50, p99)
			}
			cells = append(cells, cell)
		}
		r.table(cells...)
	}
	if head {
		r.printf("\n")
	}
}

// memory is what idle streams take.
func (r *report) memory() {
	if len(r.idle) == 0 {
		return
	}
	head, cells := []string{"memory"}, []string{fmt.Sprintf("KB per idle stream, of %d", r.idleStreams)}
	for _, m := range r.idle {
		head, cells = append(head, m.name), append(cells, fmt.Sprintf("%.0f", m.value/1e3))
	}
	r.heading(head...)
	r.table(cells...)
	r.printf("\n")
}

// insert puts text between the marks of a section of a page.
func insert(path, section, text string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+section+" -->\n", "<!-- /"+section+" -->\n"
	head, rest, ok := strings.Cut(string(data), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no section between %q and %q", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(path, []byte(head+begin+"\n"+strings.TrimSpace(text)+"\n\n"+end+tail), 0o644)
}
