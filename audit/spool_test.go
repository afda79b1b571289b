package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/store"
)

// childEnv makes this binary the process that is killed.
const childEnv = "AUTHSOME_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		fmt.Fprintln(os.Stderr, recordForever(os.Args[1]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func event(detail string) authsome.Event {
	return authsome.Event{
		ID: audit.NewID(), Time: time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC), Type: authsome.EventInjected, Status: "ok",
		Provider: "openai", Connection: "default", Identity: authsome.LocalUser, Vault: authsome.LocalVault, Run: "run_a",
		Method: "POST", Host: "api.openai.com", Path: "/v1/responses", Detail: detail,
	}
}

func open(t testing.TB, path string) *audit.Spool {
	t.Helper()
	s, err := audit.OpenSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func add(t *testing.T, s *audit.Spool, details ...string) {
	t.Helper()
	for _, d := range details {
		if err := s.Append(event(d)); err != nil {
			t.Fatal(err)
		}
	}
}

// drain is the details of everything that comes, in order.
func drain(t *testing.T, s *audit.Spool) []string {
	t.Helper()
	var out []string
	err := s.Drain(func(_ string, batch []authsome.Event) error {
		if len(batch) == 0 {
			t.Error("an empty batch")
		}
		for _, ev := range batch {
			out = append(out, ev.Detail)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantDrained(t *testing.T, s *audit.Spool, want ...string) {
	t.Helper()
	if got := drain(t, s); !slices.Equal(got, want) {
		t.Fatalf("drained %q, want %q", got, want)
	}
}

// files are the spool's, by name, without the beginning that they share.
func files(t *testing.T, path string) string {
	t.Helper()
	found, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], path)
	}
	return strings.Join(found, " ")
}

func spoolPath(t testing.TB) string { return filepath.Join(t.TempDir(), "audit.spool") }

func TestSpoolKeepsOrder(t *testing.T) {
	path := spoolPath(t)
	s := open(t, path)
	wantDrained(t, s)
	add(t, s, "a", "b")
	wantDrained(t, s, "a", "b")
	wantDrained(t, s)
	add(t, s, "c", "d\nü\x00\"")
	add(t, s, "e")
	wantDrained(t, s, "c", "d\nü\x00\"", "e")
	if got := files(t, path); got != "" { // that is the file itself
		t.Errorf("beside it are %s", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty spool leaves its file: %v", err)
	}
}

// TestSpoolKeepsEverything hands over each field as it came.
func TestSpoolKeepsEverything(t *testing.T) {
	s := open(t, spoolPath(t))
	want := authsome.Event{
		ID: "audit_1", Time: time.Date(2026, 11, 23, 1, 2, 3, 456789, time.UTC), Type: authsome.EventProxyDenied, Status: "denied",
		Provider: "p", Connection: "c", Identity: "i", Vault: "v", Run: "r", PID: 1, Program: "codex", Method: "GET", Host: "h",
		Path: "/<&>\u2028", Code: 403, Sent: 1 << 40, Received: 2, DurationMS: 3, Request: "q", Detail: "d",
	}
	if err := s.Append(want); err != nil {
		t.Fatal(err)
	}
	var got []authsome.Event
	if err := s.Drain(func(_ string, batch []authsome.Event) error { got = append(got, batch...); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestSpoolOutlivesItsProcess leaves spools as a killed process does, and drains
// what all of them left.
func TestSpoolOutlivesItsProcess(t *testing.T) {
	path := spoolPath(t)
	for _, detail := range []string{"a", "b", "c"} {
		add(t, open(t, path), detail) // never closed
	}
	open(t, path) // left without an event
	s := open(t, path)
	add(t, s, "d")
	wantDrained(t, s, "a", "b", "c", "d")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantDrained(t, open(t, path))
}

// TestSpoolAfterACutLine goes on in a file whose last line a crash cut short.
func TestSpoolAfterACutLine(t *testing.T) {
	path := spoolPath(t)
	add(t, open(t, path), "a", "b")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(data)-20)); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	add(t, s, "c", "d")
	wantDrained(t, s, "a", "c", "d")
	if aside, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Contains(data, bytes.TrimSpace(aside)) || len(aside) < 100 {
		t.Errorf("aside is %q, %v", aside, err)
	}
}

// TestSpoolWithoutItsDirectory takes the directory away and brings it back:
// what cannot be recorded is refused, and then it goes on.
func TestSpoolWithoutItsDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows moves no directory in which a file is open")
	}
	path := filepath.Join(t.TempDir(), "home", "audit.spool")
	away := filepath.Join(filepath.Dir(filepath.Dir(path)), "away")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	add(t, s, "a")
	if err := os.Rename(filepath.Dir(path), away); err != nil {
		t.Fatal(err)
	}
	if err := s.Drain(func(string, []authsome.Event) error { return errors.New("nothing can be drained") }); authsome.CodeOf(err) != authsome.StoreFailed {
		t.Fatalf("the error is %v", err)
	}
	if err := s.Append(event("refused")); authsome.CodeOf(err) != authsome.StoreFailed {
		t.Fatalf("the error is %v", err)
	}
	if err := os.Rename(away, filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	add(t, s, "b")
	wantDrained(t, s, "a", "b")
}

// TestSpoolKeepsWhatWasNotCommitted fails to commit: it comes again, in order.
func TestSpoolKeepsWhatWasNotCommitted(t *testing.T) {
	s := open(t, spoolPath(t))
	add(t, s, "a", "b")
	boom := errors.New("the database is away")
	for range 3 {
		if err := s.Drain(func(string, []authsome.Event) error { return boom }); !errors.Is(err, boom) {
			t.Fatalf("the error is %v", err)
		}
		add(t, s, "more")
	}
	wantDrained(t, s, "a", "b", "more", "more", "more")
	wantDrained(t, s)
}

// TestSpoolBatches bounds transactions, and starts a file again when a later
// batch of it fails.
func TestSpoolBatches(t *testing.T) {
	s := open(t, spoolPath(t))
	const n = 4500
	for i := range n {
		add(t, s, fmt.Sprint(i))
	}
	var sizes []int
	err := s.Drain(func(_ string, batch []authsome.Event) error {
		if sizes = append(sizes, len(batch)); len(sizes) == 2 {
			return errors.New("the database is away")
		}
		return nil
	})
	if err == nil {
		t.Fatal("the error of the second batch is lost")
	}
	next := 0
	if err := s.Drain(func(_ string, batch []authsome.Event) error {
		sizes = append(sizes, len(batch))
		for _, ev := range batch {
			if ev.Detail != fmt.Sprint(next) {
				t.Fatalf("%s comes at %d", ev.Detail, next)
			}
			next++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []int{2000, 2000, 2000, 2000, 500}; !slices.Equal(sizes, want) || next != n {
		t.Errorf("batches of %v, want %v", sizes, want)
	}
}

// TestSpoolDamage drains files that a crash cut short, or the disk changed:
// every whole event arrives, and the rest is put aside.
func TestSpoolDamage(t *testing.T) {
	whole := func(detail string) string {
		line, err := audit.Encode(event(detail))
		if err != nil {
			t.Fatal(err)
		}
		return string(line) + "\n"
	}
	half := whole("half")[:150]
	for _, test := range []struct {
		name, content string
		want          []string
		aside         string
	}{
		{"cut short", whole("a") + half, []string{"a"}, half + "\n"},
		{"without its last newline", whole("a") + strings.TrimSuffix(whole("b"), "\n"), []string{"a", "b"}, ""},
		{"cut short in the middle", whole("a") + half + "\n" + whole("b"), []string{"a", "b"}, half + "\n"},
		{"nothing", "", nil, ""},
		{"blank lines", "\n\n" + whole("a") + "\r\n \n", []string{"a"}, ""},
		{"zeros", whole("a") + "\x00\x00\x00\x00", []string{"a"}, "\x00\x00\x00\x00\n"},
		{
			"other JSON", "{}\n[]\nnull\n7\n{\"event_id\":\"x\"}\n{\"event_id\":7,\"vault\":\"v\"}\n" + whole("a"),
			[]string{"a"},
			"{}\n[]\nnull\n7\n{\"event_id\":\"x\"}\n{\"event_id\":7,\"vault\":\"v\"}\n",
		},
		{"no end of a line", strings.Repeat("x", 600_000) + "\n" + whole("a"), []string{"a"}, strings.Repeat("x", 600_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := spoolPath(t)
			if err := os.WriteFile(path+".000000000007-0123456789abcdef", []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, path)
			add(t, s, "after")
			wantDrained(t, s, append(test.want, "after")...)
			aside, err := os.ReadFile(path + ".damaged")
			if test.aside == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("aside is %q, %v", aside, err)
				}
				return
			}
			// A line longer than any event is put aside in pieces.
			if test.name == "no end of a line" {
				aside = bytes.ReplaceAll(aside, []byte("\n"), nil)
			}
			if err != nil || string(aside) != test.aside {
				t.Errorf("aside is %q, %v, want %q", aside, err, test.aside)
			}
			if fi, err := os.Stat(path + ".damaged"); err == nil && runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
				t.Errorf("it has the mode %v", fi.Mode())
			}
		})
	}
}

// TestSpoolNeighbours leaves files alone that only look like a spool's.
func TestSpoolNeighbours(t *testing.T) {
	path := spoolPath(t)
	neighbours := []string{".7", ".00000000000x", ".0000000000001", ".-00000000001", ".+00000000001", ".000000000001.bak", "x.000000000001-0123456789abcdef", ".000000000001", ".000000000001-0123456789abcdeg", ".000000000001-0123456789abcde"}
	for _, n := range neighbours {
		if err := os.WriteFile(path+n, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, path)
	add(t, s, "a")
	wantDrained(t, s, "a")
	for _, n := range neighbours {
		if data, err := os.ReadFile(path + n); err != nil || string(data) != "mine" {
			t.Errorf("%s is %q, %v", path+n, data, err)
		}
	}
}

func TestSpoolWithoutNumbers(t *testing.T) {
	path := spoolPath(t)
	if err := os.WriteFile(path+".999999999999-0123456789abcdef", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	add(t, s, "a")
	err := s.Drain(func(string, []authsome.Event) error { return nil })
	if authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), "come to their end") {
		t.Errorf("the error is %v", err)
	}
	if err := s.Append(event("b")); err != nil {
		t.Error(err)
	}
}

func TestSpoolRefuses(t *testing.T) {
	path := spoolPath(t)
	s := open(t, path)
	nameless, homeless, long := event(""), event(""), event("")
	nameless.ID, homeless.Vault, long.Path = "", "", strings.Repeat("/x", 200_000)
	for _, ev := range []authsome.Event{nameless, homeless, long} {
		if err := s.Append(ev); authsome.CodeOf(err) != authsome.Internal {
			t.Errorf("it was recorded: %v", err)
		}
	}
	add(t, s, "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(event("late")); !errors.Is(err, audit.ErrClosed) || authsome.CodeOf(err) != authsome.StoreFailed || authsome.HintOf(err) == "" {
		t.Errorf("after Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	wantDrained(t, s, "a") // what was left may still be drained

	if _, err := audit.OpenSpool(filepath.Join(path, "nowhere")); authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), path) {
		t.Errorf("a spool in no directory: %v", err)
	}
}

func TestSpoolModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	path := spoolPath(t)
	open(t, path)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

// TestSpoolAtOnce appends from many sides while it is drained: each event
// arrives once, those of one side in their order.
func TestSpoolAtOnce(t *testing.T) {
	s := open(t, spoolPath(t))
	const writers, each = 8, 500
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				ev := event(fmt.Sprint(i))
				ev.Run = fmt.Sprint(w)
				if err := s.Append(ev); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	next := map[string]int{}
	take := func() {
		if err := s.Drain(func(_ string, batch []authsome.Event) error {
			for _, ev := range batch {
				if ev.Detail != fmt.Sprint(next[ev.Run]) {
					return fmt.Errorf("%s of %s comes at %d", ev.Detail, ev.Run, next[ev.Run])
				}
				next[ev.Run]++
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		take()
	}
	take()
	for w := range writers {
		if got := next[fmt.Sprint(w)]; got != each {
			t.Errorf("%d of %d events of writer %d", got, each, w)
		}
	}
}

func TestMerge(t *testing.T) {
	ev := func(run, request, status string) authsome.Event {
		return authsome.Event{Run: run, Request: request, Status: status, Detail: run + request + status}
	}
	got := audit.Merge([]authsome.Event{
		ev("r", "1", "started"), ev("r", "2", "started"), ev("s", "1", "started"), ev("", "", "started"),
		ev("r", "1", "ok"), ev("", "", "ok"), ev("r", "3", "denied"),
	})
	var details []string
	for _, e := range got {
		details = append(details, e.Detail)
	}
	if want := "r2started s1started started r1ok ok r3denied"; strings.Join(details, " ") != want {
		t.Errorf("%s, want %s", strings.Join(details, " "), want)
	}
}

// recordForever appends events from several sides and says of each when it is
// recorded, while it drains them into a database.
func recordForever(home string) error {
	st, err := store.Open(context.Background(), store.Config{Path: filepath.Join(home, "authsome.db")})
	if err != nil {
		return err
	}
	s, err := audit.OpenSpool(filepath.Join(home, "audit.spool"))
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range 4 {
		go func() {
			for {
				ev := event(strings.Repeat("x", rand.IntN(8000))) // often longer than a page
				if err := s.Append(ev); err != nil {
					failed <- err
					return
				}
				fmt.Println(ev.ID)
			}
		}()
	}
	go func() {
		for {
			if err := s.Drain(func(source string, batch []authsome.Event) error {
				return st.AppendFrom(context.Background(), source, batch...)
			}); err != nil {
				failed <- err
				return
			}
		}
	}()
	return <-failed
}

// TestSpoolOfKilledProcess kills a process that records and drains, again and
// again: everything that it was told to be recorded gets into the database, and
// once.
func TestSpoolOfKilledProcess(t *testing.T) {
	home := t.TempDir()
	recorded := map[string]bool{}
	for range 15 {
		cmd := exec.Command(os.Args[0], home)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var timer *time.Timer // from the first event on: to start takes a while on a busy machine
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if timer == nil {
				timer = time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			if id := lines.Text(); len(id) == len(audit.NewID()) { // the last may be cut short
				recorded[id] = true
			}
		}
		_ = cmd.Wait()
		if timer != nil {
			timer.Stop()
		}
	}
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(home, "authsome.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	s := open(t, filepath.Join(home, "audit.spool"))
	if err := s.Drain(func(source string, batch []authsome.Event) error { return st.AppendFrom(t.Context(), source, batch...) }); err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	for after := int64(0); ; {
		page, err := st.Events(t.Context(), authsome.LocalVault, after, 5000)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range page {
			if stored[ev.ID] {
				t.Fatalf("%s is there twice", ev.ID)
			}
			stored[ev.ID] = true
			after = ev.Seq
		}
		if len(page) == 0 {
			break
		}
	}
	lost := 0
	for id := range recorded {
		if !stored[id] {
			lost++
		}
	}
	if lost > 0 || len(recorded) < 100 {
		t.Errorf("of %d recorded events %d are lost", len(recorded), lost)
	}
}

// FuzzDrain drains files of any content: no panic, and nothing but events.
func FuzzDrain(f *testing.F) {
	line, err := audit.Encode(event("seed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(line, '\n'))
	f.Add(append(slices.Clone(line[:40]), append([]byte("\n"), line...)...))
	f.Add([]byte("\x00\n{}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := spoolPath(t)
		if err := os.WriteFile(path+".000000000000-0123456789abcdef", content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path)
		if err := s.Drain(func(_ string, batch []authsome.Event) error {
			for _, ev := range batch {
				if ev.ID == "" || ev.Vault == "" {
					t.Errorf("an event without an id or a vault: %+v", ev)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if left := files(t, path); strings.Contains(left, ".000000000000") {
			t.Errorf("left %s", left)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, spoolPath(b))
	ev := event("")
	for b.Loop() {
		if err := s.Append(ev); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendAtOnce(b *testing.B) {
	s := open(b, spoolPath(b))
	b.RunParallel(func(pb *testing.PB) {
		ev := event("")
		for pb.Next() {
			if err := s.Append(ev); err != nil {
				b.Error(err)
			}
		}
	})
}
