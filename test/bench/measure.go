package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// settings are how long and how often.
type settings struct {
	rounds int
	each   time.Duration // one measurement
	hosts  int           // never-seen ones of one measurement
	idle   int           // idle streams
	// rest is how long a process may seem idle and still have something left to
	// do: authsome gathers the audit for 200 ms before it writes it down.
	rest    time.Duration
	verbose bool
	// patience is what is left for taking rounds again that others disturbed.
	patience *time.Duration
}

// workload is one row: what the load does, and what PERFORMANCE says about it.
type workload struct {
	name    string
	kind    kind
	clients int
	streams int
	unseen  bool // each request to a host that nobody has seen
	// rate is authsome's, as a ratio to direct; cost is its processor time, in
	// ms per 1,000 operations. 0 means none.
	rate, cost aim
	// yardRate and yardCost are what the net/http yardstick had on the machine where
	// those were set, 0 for unknown. Other machines are slower in one thing and faster
	// in another: what authsome has there of the yardstick can be asked for anywhere.
	yardRate, yardCost float64
}

// aim is what is demanded at least, and what is hoped for.
type aim struct{ floor, goal float64 }

func (w workload) bulk() bool { return w.kind == download || w.kind == upload }

var workloads = []workload{
	{name: "keep-alive, 1 client", kind: requests, clients: 1, rate: aim{.32, .40}, yardRate: .35},
	{name: "keep-alive, 16 clients", kind: requests, clients: 16, rate: aim{.36, .52}, cost: aim{42, 25}, yardRate: .39, yardCost: 38},
	{name: "keep-alive, 64 clients", kind: requests, clients: 64, rate: aim{.36, .52}, cost: aim{42, 25}, yardRate: .38, yardCost: 38},
	{name: "new connection each, 1 client", kind: fresh, clients: 1, rate: aim{.68, .75}, cost: aim{0, 330}, yardRate: .70},
	{name: "new connection each, 8 clients", kind: fresh, clients: 8, rate: aim{.75, .82}, cost: aim{0, 330}, yardRate: .83, yardCost: 318},
	{name: "never-seen hosts, 4 clients", kind: fresh, clients: 4, unseen: true, rate: aim{.33, .38}, yardRate: .40},
	{name: "download, 1 client", kind: download, clients: 1, rate: aim{.44, .52}, yardRate: .47},
	{name: "upload, 1 client", kind: upload, clients: 1, rate: aim{.48, .58}, yardRate: .56},
	{name: "HTTP/2, 1 connection × 16", kind: streams, clients: 1, streams: 16, rate: aim{.48, .68}, cost: aim{62, 32}, yardRate: .53, yardCost: 56},
	{name: "HTTP/2, 8 connections × 8", kind: streams, clients: 8, streams: 8},
	{name: "WebSocket echo, 1 client", kind: messages, clients: 1, rate: aim{.47, .52}, yardRate: .54},
	{name: "streamed events", kind: events, clients: 1},
}

// sample is one measurement.
type sample struct {
	rate     float64 // operations or bytes a second
	cost     float64 // seconds of the target's processor time for one
	p50, p99 float64 // microseconds
}

// row is a workload's samples: by target, then by round.
type row struct {
	workload workload
	samples  map[string][]sample
	// others is the share of the machine that went to processes that are not
	// ours, from 0 to 1.
	others float64
}

// ratios are a target's rates to another's, taken inside each round.
func (r row) ratios(name, to string) []float64 {
	a, b := r.samples[name], r.samples[to]
	var out []float64
	for i := range a {
		out = append(out, a[i].rate/b[i].rate)
	}
	return out
}

// costs are a target's processor time to another's, taken inside each round.
func (r row) costs(name, to string) []float64 {
	a, b := r.samples[name], r.samples[to]
	var out []float64
	for i := range a {
		out = append(out, a[i].cost/b[i].cost)
	}
	return out
}

// medianOf is the median of something of a target's samples; ok is false when it
// was not measured.
func (r row) medianOf(name string, f func(sample) float64) (_ float64, ok bool) {
	var v []float64
	for _, s := range r.samples[name] {
		v = append(v, f(s))
	}
	if len(v) == 0 {
		return 0, false
	}
	return median(v), true
}

func median[T interface{ ~int64 | ~float64 }](v []T) T {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// unseen counts the hosts that were ever asked for.
var unseen int

// measure takes a row.
func (l *lab) measure(w workload, targets []*target, set settings) (row, error) {
	r := row{workload: w, samples: map[string][]sample{}}
	var able []*target
	for _, t := range targets {
		if w.unseen && t.fixed {
			continue
		}
		if err := t.ensure(); err != nil {
			return r, err
		}
		able = append(able, t)
	}
	q := l.quiet(set)
	for round := range set.rounds {
		share, err := q.round(func() error {
			for i := range able {
				t := able[(i+round)%len(able)]
				j := job{Kind: w.kind, To: t.to, Clients: w.clients, Streams: w.streams, For: set.each}
				if w.unseen {
					for range set.hosts {
						unseen++
						j.Hosts = append(j.Hosts, fmt.Sprintf(t.hosts, unseen))
					}
				}
				s, err := l.sample(t, j, set.rest)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, t.name, err)
				}
				r.samples[t.name] = append(r.samples[t.name], s)
				if set.verbose {
					fmt.Fprintf(os.Stderr, "%-32s %d %-13s %10.0f/s %8.2f µs CPU, p50 %6.0f µs, p99 %6.0f µs\n",
						w.name, round, t.name, s.rate, s.cost*1e6, s.p50, s.p99)
				}
			}
			return nil
		}, func() {
			for name, samples := range r.samples {
				r.samples[name] = samples[:round]
			}
		})
		if err != nil {
			return r, err
		}
		r.others += share / float64(set.rounds)
	}
	return r, nil
}

// sample takes one measurement.
func (l *lab) sample(t *target, j job, rest time.Duration) (sample, error) {
	var s sample
	if err := l.order(j); err != nil {
		return s, err
	}
	before, err := settled(t.pid, rest)
	if err != nil {
		return s, err
	}
	r, err := l.begin()
	if err != nil {
		return s, err
	}
	// What a proxy does behind the requests' back is a part of their cost.
	after, err := settled(t.pid, rest)
	if err != nil {
		return s, err
	}
	if r.N == 0 {
		return s, errors.New("nothing was done")
	}
	return sample{float64(r.N) / r.Seconds, (after - before).Seconds() / float64(r.N), r.P50, r.P99}, nil
}

// order gives the load a job. When it returns, all connections are open.
func (l *lab) order(j job) error {
	_, err := l.askLoad(j)
	return err
}

// begin has the load do it.
func (l *lab) begin() (result, error) { return l.askLoad(struct{}{}) }

func (l *lab) askLoad(question any) (result, error) {
	var r result
	if err := l.load.ask(question, &r); err != nil {
		return r, fmt.Errorf("the load: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// settled waits until a process has nothing left to do, and gives its processor
// time; 0 for process 0.
func settled(pid int, rest time.Duration) (time.Duration, error) {
	if pid == 0 {
		time.Sleep(rest / 5)
		return 0, nil
	}
	time.Sleep(rest)
	last, err := cpu(pid)
	for limit := time.Now().Add(12 * rest); err == nil && time.Now().Before(limit); {
		time.Sleep(rest / 5)
		var now time.Duration
		if now, err = cpu(pid); now == last {
			return now, err
		}
		last = now
	}
	return last, err
}
