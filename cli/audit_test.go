package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/store"
)

// record makes the audit of a person who has no daemon yet.
func (p *person) record(events ...authsome.Event) {
	p.t.Helper()
	s, err := store.Open(context.Background(), store.Config{Path: filepath.Join(p.home, "authsome.db")})
	if err != nil {
		p.t.Fatal(err)
	}
	for i := range events {
		events[i].ID, events[i].Vault = fmt.Sprintf("audit_%d", i), authsome.LocalVault
		if err := s.Append(context.Background(), events[i]); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// requests are the audit of two runs: one request that is over, one that the
// end of a daemon cut short, and one that was stored behind the end of its run.
func requests() []authsome.Event {
	at := func(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC) }
	request := func(second int, run, id, status, path string) authsome.Event {
		return authsome.Event{
			Time: at(second), Type: authsome.EventInjected, Status: status, Run: run, Request: id,
			Method: "GET", Host: "api.example.com", Path: path,
		}
	}
	run := func(second int, run string, t authsome.EventType) authsome.Event {
		return authsome.Event{Time: at(second), Type: t, Status: "ok", Run: run}
	}
	return []authsome.Event{
		run(1, "run_1", authsome.EventRunStarted),
		request(2, "run_1", "1", "started", "/over"),
		request(3, "run_1", "2", "started", "/cut-short"),
		run(4, "run_2", authsome.EventRunStarted),
		request(5, "run_1", "1", "ok", "/over"),
		run(8, "run_2", authsome.EventRunEnded),
		request(6, "run_2", "1", "started", "/late"), // as another run's first is called
		request(7, "run_2", "1", "failed", "/late"),
	}
}

// What people read has one line for a request, in the order of time; JSON has
// what was recorded.
func TestLogShowsARequestOnce(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.record(requests()...)
	// lines are the acts of a listing, without those of the daemon that shows it.
	lines := func(listing string) (out []string) {
		for line := range strings.Lines(listing) {
			if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[0], "2026-01-0") {
				out = append(out, strings.TrimSpace(f[2]+" "+f[4]+" "+strings.TrimPrefix(strings.Join(f[5:], " "), "-")))
			}
		}
		return out
	}
	want := []string{
		"run.started ok",
		"proxy.injected started GET api.example.com/cut-short",
		"run.started ok",
		"proxy.injected ok GET api.example.com/over",
		"proxy.injected failed GET api.example.com/late",
		"run.ended ok",
	}
	out := p.must("", "log")
	if got := lines(out); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s\nof\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), out)
	}
	// -n counts what is shown. The last act is the start of the daemon.
	out = p.must("", "log", "-n", "4")
	if got := lines(out); !slices.Equal(got, want[3:]) || !strings.Contains(out, "daemon.started") {
		t.Errorf("the last four:\n%s", out)
	}

	var doc struct{ Entries []authsome.Event }
	if err := json.Unmarshal([]byte(p.must("", "log", "--json")), &doc); err != nil {
		t.Fatal(err)
	}
	for i, want := range requests() {
		if got := doc.Entries[i]; got.Seq != int64(i+1) || got.Path != want.Path || got.Status != want.Status || got.Type != want.Type {
			t.Errorf("entry %d of the JSON is %+v, want %+v", i, got, want)
		}
	}

	// Who follows sees requests as they end.
	w := p.begins("log", "-f")
	w.says("daemon.started")
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, out, _ = w.ends()
	want = slices.Delete(want, 1, 2)
	if got := lines(out); !slices.Equal(got, want) {
		t.Errorf("followed: got\n%s\nwant\n%s\nof\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), out)
	}
	w = p.begins("log", "-f", "--json")
	w.says("daemon.started")
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, out, _ = w.ends(); strings.Count(out, `"status":"started"`) != 3 {
		t.Errorf("followed as JSON: %s", out)
	}
}
