package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"
)

// commands measures whole processes, with the daemon up and no run open, and the
// start of the daemon.
func (l *lab) commands(r *report, set settings) error {
	fi, err := os.Stat(l.binary)
	if err != nil {
		return err
	}
	r.binary = fi.Size()
	w := l.world
	once := func(args ...string) (time.Duration, error) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env, cmd.Dir = w.environ(), w.work()
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%v: %w\n%s", args, err, out)
		}
		return time.Since(began), nil
	}
	for range set.rounds * 10 {
		a, err := once("true")
		if err != nil {
			return err
		}
		b, err := once(l.binary, "run", "--", "true")
		if err != nil {
			return err
		}
		c, err := once(l.binary, "list")
		if err != nil {
			return err
		}
		r.plain, r.under = append(r.plain, a), append(r.under, b)
		r.over, r.list = append(r.over, b-a), append(r.list, c)
	}
	if r.resident, err = rss(w.pid()); err != nil {
		return err
	}
	for range set.rounds {
		if err := w.stop(); err != nil {
			return err
		}
		ready, answered, err := w.begin()
		if err != nil {
			return err
		}
		r.ready, r.first = append(r.ready, ready), append(r.first, answered)
	}
	return nil
}

// begin starts the daemon, and gives the time until it answers, and until the
// first request of a new run has been answered through the proxy.
func (w *world) begin() (ready, answered time.Duration, err error) {
	began := time.Now()
	if err := w.start(); err != nil {
		return 0, 0, err
	}
	ready = time.Since(began)
	run, err := w.open()
	if err != nil {
		return 0, 0, err
	}
	defer run.close()
	d, err := newDialer(w.endpoint(routed, placeholder, run), "http/1.1")
	if err != nil {
		return 0, 0, err
	}
	err = d.get(0, "")
	return ready, time.Since(began), err
}
