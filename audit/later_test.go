package audit_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
)

func later(t *testing.T, s *audit.Spool, details ...string) {
	t.Helper()
	for _, d := range details {
		if err := s.AppendLater(event(d)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAppendLater: what can wait goes with what cannot, in order, and waits no
// longer than for the next drain or for the end.
func TestAppendLater(t *testing.T) {
	t.Parallel()
	path := spoolPath(t)
	s := open(t, path)
	written := func() int {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), "\n")
	}
	later(t, s, "a", "b")
	if n := written(); n != 0 {
		t.Errorf("%d lines were written", n)
	}
	add(t, s, "c")
	if n := written(); n != 3 {
		t.Errorf("%d lines with the next event, want 3", n)
	}
	later(t, s, "d")
	wantDrained(t, s, "a", "b", "c", "d")
	later(t, s, "e")
	wantDrained(t, s, "e")
	later(t, s, "f")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendLater(event("g")); err == nil {
		t.Error("taken after the end")
	}
	wantDrained(t, open(t, path), "f")

	// Nothing is kept in memory without bound.
	s = open(t, spoolPath(t))
	for range 1000 {
		later(t, s, strings.Repeat("x", 200))
	}
	if n := len(drain(t, s)); n != 1000 {
		t.Errorf("%d of 1000 events came", n)
	}
}

// TestRecentEventsAreBounded: when nothing is drained for a while, what is held in memory
// has a bound, however long the events are.
func TestRecentEventsAreBounded(t *testing.T) {
	s := open(t, spoolPath(t))
	held := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := held()
	const n, size = 600, 200_000
	for i := range n {
		ev := event(fmt.Sprint(i))
		ev.Path = "/" + strings.Repeat("x", size)
		if err := s.Append(ev); err != nil {
			t.Fatal(err)
		}
	}
	if more := held() - before; more > n*size/2 {
		t.Errorf("%d MB are held", more>>20)
	}
	if got := len(drain(t, s)); got != n {
		t.Errorf("%d of %d events came", got, n)
	}
}

// TestBatchesStayTheSame drains the same events from memory and, as after a
// crash, from the file: in the same batches, or some would come twice.
func TestBatchesStayTheSame(t *testing.T) {
	t.Parallel()
	path := spoolPath(t)
	s := open(t, path)
	for i := range 5000 {
		ev := event(fmt.Sprint(i))
		if i%20 == 7 {
			ev.Path = "/" + strings.Repeat("x", 150_000)
		}
		if i%20 == 11 {
			ev.Path = "/" + strings.Repeat("\xff", 40_000) // comes back as U+FFFD
		}
		if err := s.Append(ev); err != nil {
			t.Fatal(err)
		}
	}
	type batch struct {
		source, first, last string
		n                   int
	}
	collect := func(to *[]batch, fail int) error {
		return s.Drain(func(source string, evs []authsome.Event) error {
			*to = append(*to, batch{source, evs[0].Detail, evs[len(evs)-1].Detail, len(evs)})
			if len(*to) == fail {
				return errors.New("the database is away")
			}
			return nil
		})
	}
	var fromMemory, again []batch
	if err := collect(&fromMemory, 4); err == nil {
		t.Fatal("the error is lost")
	}
	if err := collect(&again, 0); err != nil {
		t.Fatal(err)
	}
	if len(again) < 4 || !slices.Equal(fromMemory, again[:4]) {
		t.Errorf("from memory %v, again %v", fromMemory, again)
	}
	if fromMemory[0].n >= 5000/4 {
		t.Errorf("a batch of %d long events", fromMemory[0].n)
	}
}
