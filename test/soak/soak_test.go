package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
)

// built is the program under test.
var built string

func TestMain(m *testing.M) {
	if playChild() {
		return
	}
	os.Exit(harness.Main(&built, m.Run))
}

// TestSoak is a short soak: every act once, in the order of a seed that is always
// the same, and then some rounds in which nothing may grow.
func TestSoak(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("needs Linux: ", err)
	}
	// However it ends, it cleans up: also by a signal, or by the time of all tests.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if end, ok := t.Deadline(); ok {
		ctx, stop = context.WithDeadline(ctx, end.Add(-time.Minute))
		defer stop()
	}
	out := writer{t}
	err := run(ctx, options{
		binary: built, round: 2 * time.Second, streams: 60, runs: 4, seed: 20261130,
		pause: 400 * time.Millisecond, settle: time.Second, last: 2 * time.Second, verbose: testing.Verbose(),
	}, out)
	if err != nil {
		t.Fatal(err)
	}
}

// writer logs lines as they come.
type writer struct{ t *testing.T }

func (w writer) Write(b []byte) (int, error) { w.t.Logf("%s", b); return len(b), nil }
