package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
)

func events(t *testing.T, s Store) {
	ctx := t.Context()
	var want []authsome.Event
	for i := range 10 {
		ev := authsome.Event{
			ID: audit.NewID(), Time: at.Add(time.Duration(i) * time.Second), Type: authsome.EventInjected, Status: "ok",
			Provider: "github", Connection: "work", Identity: user, Vault: vault, Run: "run_a", PID: 12, Program: "codex",
			Method: "GET", Host: "api.github.com", Path: "/user", Code: 200, Sent: 1, Received: 2, DurationMS: 3,
			Request: "7", Detail: "ünï \x00 code",
		}
		must(t, s.Append(ctx, ev))
		ev.Seq = int64(i) + 1
		want = append(want, ev)
	}
	must(t, s.Append(ctx, NewEvent("team")))
	must(t, s.Append(ctx))

	read := func(after int64, limit int) []authsome.Event {
		t.Helper()
		evs, err := s.Events(ctx, vault, after, limit)
		must(t, err)
		return evs
	}
	for i := range 3 {
		batch := make([]authsome.Event, 4)
		for j := range batch {
			batch[j] = want[4*i%10]
			batch[j].ID, batch[j].Seq = audit.NewID(), 0
		}
		must(t, s.AppendFrom(ctx, fmt.Sprint("batch ", i), batch...))
		for _, ev := range batch {
			ev.Seq = int64(len(want)) + 1
			want = append(want, ev)
		}
	}
	equal(t, read(0, 100), want)
	for after := range want {
		equal(t, read(int64(after), 3), want[after:min(after+3, len(want))])
	}
	equal(t, read(3, 4), want[3:7])
	equal(t, len(read(int64(len(want)), 5)), 0)
	for n := 1; n < 2*len(want); n++ {
		last, err := s.LastEvents(ctx, vault, n)
		must(t, err)
		equal(t, last, want[max(len(want)-n, 0):])
	}
}

// eventsWithChanges checks that each change commits its events, all of them.
func eventsWithChanges(t *testing.T, s Store) {
	ctx := t.Context()
	var want []string
	next := func() authsome.Event {
		ev := NewEvent(vault)
		want = append(want, ev.ID)
		return ev
	}
	row := NewRow("github", "work", 1)
	login := authsome.SealedRow{ID: "sess_a", Sealed: []byte("x")}
	for i, change := range []func() error{
		func() error { return s.SaveConnection(ctx, row, true, next()) },
		func() error { return s.FinishLogin(ctx, NewRow("github", "work", 2), true, login, nil, next()) },
		func() error { return s.SetDefault(ctx, vault, user, "github", "work", next()) },
		func() error { return s.SaveLogin(ctx, vault, login, next(), next()) },
		func() error { return s.SaveGrant(ctx, vault, login, next()) },
		func() error { return s.DeleteGrants(ctx, vault, []string{"sess_a"}, next(), next()) },
		func() error { return s.SaveItem(ctx, vault, "ca", "root", []byte("x"), 1, next()) },
		func() error {
			return s.SaveDefinition(ctx, authsome.DefinitionRow{Vault: vault, Name: "a", Definition: []byte("x")}, next())
		},
		func() error { return s.DeleteDefinition(ctx, vault, "a", next()) },
		func() error {
			return s.DeleteConnections(ctx, vault, user, "github", []string{"work"}, "", next(), next())
		},
		func() error { return s.Append(ctx, next(), next()) },
	} {
		must(t, change())
		if got := eventIDs(t, s, vault); !slices.Equal(got, want) {
			t.Fatalf("change %d: events %v, want %v", i, got, want)
		}
	}
}

// eventsTwice appends what is there already, as the drain of a spool does after
// a crash.
func eventsTwice(t *testing.T, s Store) {
	ctx := t.Context()
	a, b, c := NewEvent(vault), NewEvent(vault), NewEvent(vault)
	theirs := NewEvent("team")
	must(t, s.AppendFrom(ctx, "7-x/0", a, theirs, b))
	must(t, s.AppendFrom(ctx, "7-x/0", a, theirs, b))
	must(t, s.AppendFrom(ctx, "7-x/1", c))
	must(t, s.AppendFrom(ctx, "7-x/0", a, theirs, b))
	equal(t, eventIDs(t, s, vault), []string{a.ID, b.ID, c.ID})
	equal(t, eventIDs(t, s, "team"), []string{theirs.ID})
}

// eventsAtOnce appends from many sides to several vaults: no event is lost, no
// number is given twice, and the order within one call is kept.
func eventsAtOnce(t *testing.T, s Store) {
	const writers, rounds = 8, 10
	vaults := []string{"v1", "v2", "v3"}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for r := range rounds {
				var batch []authsome.Event
				for i := range vaults {
					ev := NewEvent(vaults[(i+w)%len(vaults)])
					ev.Run, ev.PID = fmt.Sprintf("w%d", w), r
					second := ev
					second.ID, second.Detail = audit.NewID(), "second"
					batch = append(batch, ev, second)
				}
				if errs[w] = s.Append(t.Context(), batch...); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for w, err := range errs {
		if err != nil {
			t.Fatalf("writer %d: %v", w, err)
		}
	}
	for _, v := range vaults {
		evs, err := s.Events(t.Context(), v, 0, 10_000)
		must(t, err)
		equal(t, len(evs), writers*rounds*2)
		next := map[string]int{}
		for i, ev := range evs {
			if ev.Seq != int64(i)+1 {
				t.Fatalf("%s: event %d has the number %d", v, i+1, ev.Seq)
			}
			at := ev.PID * 2
			if ev.Detail == "second" {
				at++
			}
			if at != next[ev.Run] {
				t.Fatalf("%s: %s's event %d comes at %d", v, ev.Run, at, next[ev.Run])
			}
			next[ev.Run]++
		}
	}
}

// eventsWithoutID would be taken for one another.
func eventsWithoutID(t *testing.T, s Store) {
	ctx := t.Context()
	nameless, homeless := NewEvent(vault), NewEvent(vault)
	nameless.ID, homeless.Vault = "", ""
	for _, bad := range []authsome.Event{nameless, homeless} {
		if err := s.SaveConnection(ctx, NewRow("github", "work", 1), true, bad); authsome.CodeOf(err) != authsome.Internal {
			t.Errorf("accepted: %v", err)
		}
		if err := s.Append(ctx, NewEvent(vault), bad); authsome.CodeOf(err) != authsome.Internal {
			t.Errorf("accepted: %v", err)
		}
	}
	equal(t, names(t, s), "")
	equal(t, len(eventIDs(t, s, vault)), 0)
}

func appended(t *testing.T, s Store) {
	ctx := t.Context()
	closed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	ev := NewEvent(vault)
	ch := s.Appended()
	must(t, s.SaveLogin(ctx, vault, authsome.SealedRow{ID: "sess_a", Sealed: []byte("x")}))
	if closed(ch) {
		t.Error("a change without an event says that there is one")
	}
	must(t, s.Append(ctx, ev))
	if !closed(ch) {
		t.Error("an event was committed unsaid")
	}
	must(t, s.AppendFrom(ctx, "7-x/0", ev))
	ch = s.Appended()
	must(t, s.AppendFrom(ctx, "7-x/0", ev))
	if closed(ch) {
		t.Error("an event that was there already is called new")
	}
	if err := s.SetDefault(ctx, vault, user, "github", "nobody", NewEvent(vault)); err == nil {
		t.Fatal("a default that does not exist was accepted")
	}
	if closed(ch) {
		t.Error("an undone change says that there is an event")
	}
	must(t, s.SaveConnection(ctx, NewRow("github", "work", 1), true, NewEvent(vault)))
	if !closed(ch) {
		t.Error("a change's event was committed unsaid")
	}
}

// Link is a page of events as a database holds it.
type Link struct {
	First, Last      int64
	Body, Prev, Hash []byte
}

// CheckChain says whether a vault's events hang together, given in order, and
// end where the database says that they do.
func CheckChain(vault string, links []Link, end []byte) error {
	prev := audit.Start(vault)
	seq := int64(0)
	for _, l := range links {
		if l.First != seq+1 {
			return fmt.Errorf("event %d is followed by event %d", seq, l.First)
		}
		if !slices.Equal(l.Prev, prev) {
			return fmt.Errorf("event %d does not follow the one before it", l.First)
		}
		for line := range bytes.SplitSeq(l.Body, []byte{'\n'}) {
			seq++
			var ev authsome.Event
			if err := json.Unmarshal(line, &ev); err != nil {
				return fmt.Errorf("event %d: %w", seq, err)
			}
			if ev.Seq != seq || ev.Vault != vault {
				return fmt.Errorf("event %d has the number %d and the vault %q", seq, ev.Seq, ev.Vault)
			}
			prev = audit.Hash(prev, line)
		}
		if l.Last != seq || !slices.Equal(l.Hash, prev) {
			return fmt.Errorf("events %d to %d were changed", l.First, l.Last)
		}
	}
	if !slices.Equal(prev, end) {
		return fmt.Errorf("the chain of %d events does not end where it should", seq)
	}
	return nil
}
