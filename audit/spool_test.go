package audit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// TestMain is also the process that TestKill kills: with this variable set it
// appends events for ever, and says on standard output which are recorded.
func TestMain(m *testing.M) {
	if path := os.Getenv("SPOOL_WRITER"); path != "" {
		s, err := OpenSpool(path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for i := 0; ; i++ {
			id := fmt.Sprintf("%d-%d", os.Getpid(), i)
			if err := s.Append(authsome.Event{ID: id, Type: authsome.EventInjected}); err != nil {
				os.Exit(1)
			}
			fmt.Println(id)
			if i%50 == 49 {
				_ = s.Drain(func([]authsome.Event) error { return errors.New("the store is busy") })
			}
		}
	}
	os.Exit(m.Run())
}

func openSpool(t testing.TB, path string) *Spool {
	t.Helper()
	s, err := OpenSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func event(id string) authsome.Event {
	return authsome.Event{ID: id, Type: authsome.EventInjected, Status: "ok", Time: time.Now().UTC()}
}

func drain(t testing.TB, s *Spool) (ids []string) {
	t.Helper()
	if err := s.Drain(func(batch []authsome.Event) error {
		for _, ev := range batch {
			ids = append(ids, ev.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestSpoolKeepsOrderAndForgetsWhatIsCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, path)
	for i := range 5 {
		if err := s.Append(event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Drain(func([]authsome.Event) error { return errors.New("the store is busy") }); err == nil {
		t.Fatal("a failed commit is called drained")
	}
	_ = s.Append(event("5"))
	if got := strings.Join(drain(t, s), " "); got != "0 1 2 3 4 5" {
		t.Errorf("drained %s", got)
	}
	if got := drain(t, s); len(got) != 0 {
		t.Errorf("drained twice: %v", got)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 || fi.Size() != 0 {
		t.Errorf("the spool's file: %v, %v", fi, err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(event("6")); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

// TestKill kills a writing process again and again: what it said is recorded
// is drained by the next, and nothing else is made of half a line.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	recorded := map[string]bool{}
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SPOOL_WRITER="+path)
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+17*round) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		said := strings.Split(out.String(), "\n")
		for _, id := range said[:len(said)-1] {
			recorded[id] = true
		}
	}
	if len(recorded) < 100 {
		t.Fatalf("only %d events were written", len(recorded))
	}
	// A crash in the middle of a write.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"event_id":"half","ev`)
	_ = f.Close()

	s := openSpool(t, path)
	if err := s.Append(event("last")); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, id := range drain(t, s) {
		got[id]++
	}
	for id := range recorded {
		if got[id] != 1 {
			t.Fatalf("%s was recorded, and drained %d times", id, got[id])
		}
	}
	if got["last"] != 1 || got["half"] != 0 {
		t.Errorf("last: %d, half: %d", got["last"], got["half"])
	}
}

func TestAppendFromManySides(t *testing.T) {
	s := openSpool(t, filepath.Join(t.TempDir(), "spool"))
	got := map[string]int{}
	var mu sync.Mutex
	commit := func(batch []authsome.Event) error {
		mu.Lock()
		defer mu.Unlock()
		for _, ev := range batch {
			got[ev.ID]++
		}
		return nil
	}
	var writers, drainer sync.WaitGroup
	stop := make(chan struct{})
	drainer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := s.Drain(commit); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for w := range 8 {
		writers.Go(func() {
			for i := range 200 {
				if err := s.Append(event(fmt.Sprintf("%d-%d", w, i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	drainer.Wait()
	if err := s.Drain(commit); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1600 {
		t.Errorf("%d of 1600 events", len(got))
	}
	for id, n := range got {
		if n != 1 {
			t.Errorf("%s was drained %d times", id, n)
		}
	}
}

func TestMerge(t *testing.T) {
	started := func(run, req string) authsome.Event {
		return authsome.Event{ID: "s" + run + req, Run: run, Request: req, Status: "started"}
	}
	done := authsome.Event{ID: "done", Run: "a", Request: "1", Status: "ok"}
	var ids []string
	for _, ev := range Merge([]authsome.Event{started("a", "1"), started("b", "1"), started("a", "2"), done, {ID: "other", Status: "ok"}}) {
		ids = append(ids, ev.ID)
	}
	if got := strings.Join(ids, " "); got != "sb1 sa2 done other" {
		t.Errorf("merged to %s", got)
	}
}

// TestChain: changing, dropping, adding or reordering events changes every
// later hash.
func TestChain(t *testing.T) {
	if a, b := NewID(), NewID(); !strings.HasPrefix(a, "audit_") || a == b {
		t.Errorf("ids %s and %s", a, b)
	}
	sum := func(ids ...string) string {
		var h []byte
		for _, id := range ids {
			h = Hash(h, []byte(id))
		}
		return string(h)
	}
	base := sum("1", "2", "3")
	for _, other := range [][]string{{"1", "x", "3"}, {"1", "3"}, {"1", "3", "2"}, {"1", "2", "3", "4"}, {"12", "", "3"}} {
		if sum(other...) == base {
			t.Errorf("%v has the hash of 1 2 3", other)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	s := openSpool(b, filepath.Join(b.TempDir(), "spool"))
	ev := event("audit_0123456789abcdef")
	ev.Host, ev.Path, ev.Method = "api.openai.com", "/v1/responses", "POST"
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Append(ev); err != nil {
			b.Fatal(err)
		}
	}
}
