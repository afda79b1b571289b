package main

import (
	"fmt"
	"time"
)

// nameIdle is what -only knows idle streams by.
const nameIdle = "idle streams"

// fullRuns are the runs that the many idle streams of -full are spread over.
const fullRuns = 1000

// idle measures what a stream costs that is open and silent, in each target,
// freshly started: resident memory with all of them open less what it was before,
// after a first request.
func (l *lab) idle(r *report, targets []*target, set settings, full int) error {
	for _, t := range targets {
		t.halt()
	}
	for _, t := range targets {
		if t.name == nameDirect {
			continue
		}
		if err := t.ensure(); err != nil {
			return err
		}
		grown, _, err := l.held(t.to, t.pid, set.idle, set.rest)
		if err != nil {
			return fmt.Errorf("idle streams, %s: %w", t.name, err)
		}
		r.idle = append(r.idle, measured{t.name, float64(grown) / float64(set.idle)})
		t.halt()
	}
	r.idleStreams = set.idle
	if full == 0 {
		return nil
	}
	if err := l.world.stop(); err != nil { // where no target has used it
		return err
	}
	if err := l.world.start(); err != nil {
		return err
	}
	runs, err := l.world.openMany(fullRuns)
	if err != nil {
		return err
	}
	defer closeAll(runs)
	r.fullStreams = full
	_, r.full, err = l.held(l.world.endpoint(routed, placeholder, runs...), l.world.pid(), full, set.rest)
	if err != nil {
		return fmt.Errorf("%d idle streams: %w", full, err)
	}
	return nil
}

// held opens n streams, and gives by how much a process has grown, and what it
// has come to.
func (l *lab) held(to endpoint, pid, n int, rest time.Duration) (grown, whole int64, err error) {
	// One first, for what is made once.
	if _, err := l.opened(to, 1, rest); err != nil {
		return 0, 0, err
	}
	before, err := rss(pid)
	if err != nil {
		return 0, 0, err
	}
	if _, err := l.opened(to, n, rest); err != nil {
		return 0, 0, err
	}
	after, err := rss(pid)
	if err != nil {
		return 0, 0, err
	}
	_, err = l.opened(to, 0, rest) // closes them
	return after - before, after, err
}

// opened has the load hold n streams, and leaves the processes time to come to
// rest.
func (l *lab) opened(to endpoint, n int, rest time.Duration) (result, error) {
	if err := l.order(job{Kind: hold, To: to, Clients: n}); err != nil {
		return result{}, err
	}
	r, err := l.begin()
	time.Sleep(8 * rest)
	return r, err
}
