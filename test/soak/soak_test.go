package main

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// built is the program under test: built once, or the one that
// AUTHSOME_TEST_BINARY names.
var built string

func TestMain(m *testing.M) {
	if playChild() {
		return
	}
	os.Exit(func() int {
		if built = os.Getenv("AUTHSOME_TEST_BINARY"); built != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "authsome-bin-")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		built = filepath.Join(dir, "authsome")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/authsome/authsome.Version=v0.0.0-test", "-o", built, "./cmd/authsome")
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
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
