package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// What logins by OAuth and refreshes need of a store.

func finishLoginWithDefinition(t *testing.T, s Store) {
	ctx := t.Context()
	login := authsome.SealedRow{ID: "sess_a", User: user, Version: 1, ExpiresAt: 100, Sealed: []byte("completed")}
	def := &authsome.DefinitionRow{Vault: vault, Name: "github", Definition: []byte(`{"name":"github"}`)}
	// All or nothing.
	if err := s.FinishLogin(ctx, NewRow("github", "work", 7), true, login, def, NewEvent(vault)); authsome.CodeOf(err) != authsome.StoreFailed {
		t.Fatalf("a conflict was accepted: %v", err)
	}
	rows, err := s.Definitions(ctx, vault)
	must(t, err)
	if len(rows) != 0 {
		t.Fatalf("a login that was refused left a definition: %v", rows)
	}
	must(t, s.FinishLogin(ctx, NewRow("github", "work", 1), true, login, def, NewEvent(vault), NewEvent(vault)))
	rows, err = s.Definitions(ctx, vault)
	must(t, err)
	equal(t, rows, []authsome.DefinitionRow{*def})
	equal(t, names(t, s), "github/work*")
	if n := len(eventIDs(t, s, vault)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func oneConnection(t *testing.T, s Store) {
	ctx := t.Context()
	want := NewRow("github", "work", 1)
	want.Connection.LastRefreshAt = time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC)
	want.Connection.Renewable = true
	want.Connection.LastRefreshError = "the service did not answer"
	must(t, s.SaveConnection(ctx, want, true, NewEvent(vault)))
	must(t, s.SaveConnection(ctx, NewRow("github", "personal", 1), false, NewEvent(vault)))
	want.Connection.IsDefault = true
	got, err := s.Connection(ctx, vault, user, "github", "work")
	must(t, err)
	equal(t, got, &want)
	for _, other := range [][4]string{
		{"team", user, "github", "work"},
		{vault, "somebody", "github", "work"},
		{vault, user, "gitlab", "work"},
		{vault, user, "github", "Work"},
	} {
		if got, err := s.Connection(ctx, other[0], other[1], other[2], other[3]); got != nil || err != nil {
			t.Errorf("%v: %v, %v", other, got, err)
		}
	}
}

func deleteItem(t *testing.T, s Store) {
	ctx := t.Context()
	must(t, s.SaveItem(ctx, vault, "client", "a", []byte("x"), 1))
	must(t, s.SaveItem(ctx, vault, "client", "b", []byte("y"), 1))
	must(t, s.DeleteItem(ctx, vault, "client", "a", NewEvent(vault)))
	must(t, s.DeleteItem(ctx, vault, "client", "a"))
	if sealed, _, err := s.Item(ctx, vault, "client", "a"); sealed != nil || err != nil {
		t.Errorf("it is still there: %q, %v", sealed, err)
	}
	if sealed, _, err := s.Item(ctx, vault, "client", "b"); string(sealed) != "y" || err != nil {
		t.Errorf("its neighbour: %q, %v", sealed, err)
	}
	if n := len(eventIDs(t, s, vault)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func lock(t *testing.T, s Store) {
	const each = 20
	var wg sync.WaitGroup
	inside, count := 0, 0
	for range each {
		wg.Go(func() {
			unlock, err := s.Lock(t.Context(), "refresh github")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if inside++; inside != 1 {
				t.Errorf("%d are inside", inside)
			}
			// The store can be used while the lock is held.
			if _, err := s.Connections(t.Context(), vault, user); err != nil {
				t.Error(err)
			}
			count++
			inside--
		})
	}
	wg.Wait()
	if count != each {
		t.Fatalf("%d had their turn, not %d", count, each)
	}

	unlock, err := s.Lock(t.Context(), "refresh github")
	must(t, err)
	// Another name is another lock, and who waits for this one may give up.
	other, err := s.Lock(t.Context(), "refresh gitlab")
	must(t, err)
	other()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "refresh github"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is held was given, or the reason is lost: %v", err)
	}
	unlock()
	again, err := s.Lock(t.Context(), "refresh github")
	must(t, err)
	again()
}
