package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/store"
)

// curve is something that there may be more and more of.
type curve struct {
	name  string // of the picture's file
	what  string // what there is n of
	sizes []int
	// fill makes it n of them, in a home with a provider and one connection.
	fill func(w *world, n int) error
	// runs is how many runs the clients are spread over, of n.
	runs func(n int) int
}

func oneRun(int) int { return 1 }

var curves = []curve{
	{"providers", "connected providers", []int{1, 10, 100, 1000}, (*world).fillProviders, oneRun},
	{"connections", "connections of one provider", []int{1, 10, 100, 1000, 10_000}, (*world).fillConnections, oneRun},
	{"grants", "runs at a time", []int{1, 10, 100, 1000}, func(*world, int) error { return nil }, func(n int) int { return n }},
	{"audit", "rows of the audit", []int{1, 100, 10_000, 1_000_000}, (*world).fillAudit, oneRun},
}

// curveClients and the requests are those of the row "keep-alive, 16 clients".
const curveClients = 16

// point is a curve's samples at one size.
type point struct {
	size     int
	home     *world
	samples  []sample
	start    []time.Duration // to the first proxied 200
	resident []int64         // after the requests
}

// curves prints how authsome's rate, times and cost grow with what is stored.
func (l *lab) curves(out io.Writer, o options) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	r := &report{out: out}
	r.machine(l)
	if err := l.world.stop(); err != nil {
		return err
	}
	for _, c := range curves {
		if !only.MatchString(c.name) {
			continue
		}
		c.sizes = slices.DeleteFunc(slices.Clone(c.sizes), func(n int) bool { return n > o.largest })
		points, others, err := l.grow(c, o.set)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		r.growth(c, points, others)
		if o.pictures == "" {
			continue
		}
		path := filepath.Join(o.pictures, "performance-"+c.name+".svg")
		if err := os.WriteFile(path, draw(c, points), 0o644); err != nil {
			return err
		}
	}
	if r.anyMarked {
		r.footnote()
	}
	return nil
}

// grow measures a curve. Every size has a home of its own, which is put back
// before every measurement to what it was filled with, since measuring adds to
// it; and the sizes take turns inside every round.
func (l *lab) grow(c curve, set settings) (points []*point, others float64, err error) {
	defer func() {
		for _, p := range points {
			p.home.close()
			_ = os.RemoveAll(p.home.dir)
		}
	}()
	for _, n := range c.sizes {
		p := &point{size: n}
		if p.home, err = l.newWorld(c.name+strconv.Itoa(n), l.binary); err != nil {
			return points, 0, err
		}
		points = append(points, p)
		if err := p.home.login(provider, anyRouted, ""); err != nil {
			return points, 0, err
		}
		if err := c.fill(p.home, n); err != nil {
			return points, 0, err
		}
		if err := p.home.stop(); err != nil {
			return points, 0, err
		}
		if err := os.Rename(p.home.home(), p.home.kept()); err != nil {
			return points, 0, err
		}
	}
	q := l.quiet(set)
	for round := range set.rounds {
		var part float64
		part, err = q.round(func() error {
			for i := range points {
				p := points[(i+round)%len(points)]
				if err := p.measure(c, set); err != nil {
					return fmt.Errorf("%d: %w", p.size, err)
				}
			}
			return nil
		}, func() {
			for _, p := range points {
				p.samples, p.start, p.resident = p.samples[:round], p.start[:round], p.resident[:round]
			}
		})
		if err != nil {
			return points, 0, err
		}
		others += part / float64(set.rounds)
	}
	return points, others, nil
}

// kept is a home as it was filled.
func (w *world) kept() string { return filepath.Join(w.dir, "kept") }

// measure takes one measurement in the home as it was filled.
func (p *point) measure(c curve, set settings) error {
	w := p.home
	if err := os.RemoveAll(w.home()); err != nil {
		return err
	}
	// Modes included: a vault that others may read is refused.
	if out, err := exec.Command("cp", "-a", w.kept(), w.home()).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the home: %w\n%s", err, out)
	}
	_, answered, err := w.begin()
	if err != nil {
		return err
	}
	defer func() { _ = w.stop() }()
	runs, err := w.openMany(c.runs(p.size))
	if err != nil {
		return err
	}
	defer closeAll(runs)
	to := w.endpoint(routed, placeholder, runs...)
	// There may be more runs than clients: those take the first, and the last ones.
	slices.Reverse(to.Doors[1:])
	t := &target{name: nameAuthsome, to: to, pid: w.pid()}
	s, err := w.lab.sample(t, job{Kind: requests, To: to, Clients: curveClients, For: set.each}, set.rest)
	if err != nil {
		return err
	}
	resident, err := rss(w.pid())
	if err != nil {
		return err
	}
	p.samples, p.start, p.resident = append(p.samples, s), append(p.start, answered), append(p.resident, resident)
	if set.verbose {
		fmt.Fprintf(os.Stderr, "%-12s %8d %8.0f/s %8.2f µs CPU, p99 %6.0f µs, start %v\n", c.name, p.size, s.rate, s.cost*1e6, s.p99, answered)
	}
	return nil
}

// fillProviders adds providers, each with a connection.
func (w *world) fillProviders(n int) error {
	return parallel(n-1, 4, func(i int) error {
		name := fmt.Sprintf("p%d", i)
		return w.login(name, "api."+name+".example", "")
	})
}

// fillConnections adds connections to the one provider.
func (w *world) fillConnections(n int) error {
	return parallel(n-1, 4, func(i int) error { return w.connect(provider, fmt.Sprintf("c%d", i)) })
}

// fillAudit makes the log n rows long, with what requests leave there. The
// daemon is down meanwhile.
func (w *world) fillAudit(n int) (err error) {
	if err := w.stop(); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: filepath.Join(w.home(), "authsome.db")})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
	}()
	last, err := s.LastEvents(ctx, authsome.LocalVault, 1)
	if err != nil || len(last) == 0 {
		return err
	}
	at := time.Now().UTC().Add(-time.Duration(n) * time.Millisecond)
	const batch = 5000
	for have := int(last[0].Seq); have < n; {
		events := make([]authsome.Event, 0, batch)
		for ; have < n && len(events) < batch; have++ {
			id := audit.NewID()
			ev := authsome.Event{
				ID: id, Time: at.Add(time.Duration(have) * time.Millisecond), Type: authsome.EventInjected, Status: "started",
				Provider: provider, Connection: "default", Vault: authsome.LocalVault, Identity: authsome.LocalUser, Run: "run_0123456789", PID: 1,
				Program: "bench", Method: "GET", Host: routed, Path: "/small", Request: id,
			}
			if have%2 == 1 {
				ev.Status, ev.Code, ev.Received, ev.DurationMS = "ok", 200, 1011, 1
			}
			events = append(events, ev)
		}
		if err := s.Append(ctx, events...); err != nil {
			return err
		}
	}
	return nil
}

// growth is a curve as a table.
func (r *report) growth(c curve, points []*point, others float64) {
	title := c.what
	if others > disturbed {
		r.anyMarked = true
		title += " ¹"
	}
	r.heading(title, "requests/s", "of the first", "p50, µs", "p99, µs", "CPU ms per 1,000", "start to first 200, ms", "memory, MB")
	first := points[0]
	for _, p := range points {
		var ratios []float64
		for i, s := range p.samples {
			ratios = append(ratios, s.rate/first.samples[i].rate)
		}
		of := func(f func(sample) float64) float64 { return p.median(f) }
		r.table(thousands(p.size), fmt.Sprintf("%.0f", of(rateOf)), fmt.Sprintf("%.2f", median(ratios)),
			fmt.Sprintf("%.0f", of(func(s sample) float64 { return s.p50 })), fmt.Sprintf("%.0f", of(p99Of)), fmt.Sprintf("%.0f", of(costOf)*1e6),
			fmt.Sprintf("%.0f", float64(median(p.start))/float64(time.Millisecond)), fmt.Sprintf("%.0f", float64(median(p.resident))/1e6))
	}
	r.printf("\n")
}

func rateOf(s sample) float64 { return s.rate }
func p99Of(s sample) float64  { return s.p99 }
func costOf(s sample) float64 { return s.cost }

func (p *point) median(f func(sample) float64) float64 {
	var v []float64
	for _, s := range p.samples {
		v = append(v, f(s))
	}
	return median(v)
}

// thousands writes a number with separators.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
