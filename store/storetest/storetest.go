// Package storetest says what a store has to do, whatever database is under
// it: a suite that a store's tests run with a function that makes an empty one.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	"github.com/google/go-cmp/cmp"
)

// Store is what is tested: everything that the daemon, the broker and the vault
// ask of a store.
type Store interface {
	Connections(ctx context.Context, vault, user string) ([]authsome.ConnectionRow, error)
	Connection(ctx context.Context, vault, user, provider, name string) (*authsome.ConnectionRow, error)
	SaveConnection(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, ev authsome.Event) error
	DeleteConnections(ctx context.Context, vault, user, provider string, names []string, newDefault string, ev ...authsome.Event) error
	SetDefault(ctx context.Context, vault, user, provider, name string, ev authsome.Event) error
	Definitions(ctx context.Context, vault string) ([]authsome.DefinitionRow, error)
	SaveDefinition(ctx context.Context, row authsome.DefinitionRow, ev authsome.Event) error
	DeleteDefinition(ctx context.Context, vault, name string, ev authsome.Event) error
	Logins(ctx context.Context, vault string) ([]authsome.SealedRow, error)
	SaveLogin(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error
	FinishLogin(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, login authsome.SealedRow, def *authsome.DefinitionRow, ev ...authsome.Event) error
	DeleteLogins(ctx context.Context, vault string, ids ...string) error
	Grants(ctx context.Context, vault string) ([]authsome.SealedRow, error)
	SaveGrant(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error
	DeleteGrants(ctx context.Context, vault string, ids []string, ev ...authsome.Event) error
	Item(ctx context.Context, vault, kind, name string) (sealed []byte, version int64, err error)
	SaveItem(ctx context.Context, vault, kind, name string, sealed []byte, version int64, ev ...authsome.Event) error
	DeleteItem(ctx context.Context, vault, kind, name string, ev ...authsome.Event) error
	Lock(ctx context.Context, name string) (unlock func(), err error)
	VaultHeader(ctx context.Context, id string) ([]byte, error)
	CreateVaultHeader(ctx context.Context, id string, header []byte) error
	Append(ctx context.Context, ev ...authsome.Event) error
	AppendFrom(ctx context.Context, source string, ev ...authsome.Event) error
	Events(ctx context.Context, vault string, after int64, limit int) ([]authsome.Event, error)
	LastEvents(ctx context.Context, vault string, limit int) ([]authsome.Event, error)
	Appended() <-chan struct{}
}

// Run runs the suite. open makes an empty store and closes it when the test is
// over.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Store)
	}{
		{"ConnectionRoundTrip", connectionRoundTrip},
		{"ConnectionVersions", connectionVersions},
		{"ConnectionRace", connectionRace},
		{"Owners", owners},
		{"Order", order},
		{"Defaults", defaults},
		{"Deletion", deletion},
		{"FinishLogin", finishLogin},
		{"FinishLoginWithDefinition", finishLoginWithDefinition},
		{"OneConnection", oneConnection},
		{"DeleteItem", deleteItem},
		{"Lock", lock},
		{"Definitions", definitions},
		{"Logins", func(t *testing.T, s Store) {
			sealedRows(t, s.Logins, s.SaveLogin, func(ctx context.Context, vault string, ids []string) error {
				return s.DeleteLogins(ctx, vault, ids...)
			})
		}},
		{"Grants", func(t *testing.T, s Store) {
			sealedRows(t, s.Grants, s.SaveGrant, func(ctx context.Context, vault string, ids []string) error {
				return s.DeleteGrants(ctx, vault, ids)
			})
		}},
		{"Items", items},
		{"Header", header},
		{"Events", events},
		{"EventsWithChanges", eventsWithChanges},
		{"EventsTwice", eventsTwice},
		{"EventsAtOnce", eventsAtOnce},
		{"EventsWithoutID", eventsWithoutID},
		{"Appended", appended},
		{"GoneCaller", goneCaller},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

const (
	vault = authsome.LocalVault
	user  = authsome.LocalUser
)

// at is a time that every column and encoding can hold.
var at = time.Date(2026, 11, 23, 12, 30, 45, 123456000, time.UTC)

// NewEvent is an event of the kind that the suite commits with its changes.
func NewEvent(vault string) authsome.Event {
	return authsome.Event{ID: audit.NewID(), Time: at, Type: authsome.EventLogin, Status: "ok", Vault: vault, Identity: user, Detail: "ünï \x00 code"}
}

// NewRow is a connection at a version.
func NewRow(provider, name string, version int64) authsome.ConnectionRow {
	return authsome.ConnectionRow{
		Connection: authsome.Connection{
			Provider: provider, Name: name, AuthType: authsome.AuthOAuth2, Flow: authsome.FlowPKCE, Status: authsome.Connected,
			Scopes: []string{"repo", "user"}, BaseURL: "https://example.com", Account: authsome.Account{ID: "7", Label: "ann"},
			Hosts: []string{"api.example.com", "*.example.com:8443"}, ObtainedAt: at, ExpiresAt: at.Add(time.Hour),
			CreatedAt: at.Add(-time.Hour), UpdatedAt: at, Version: version,
		},
		Vault: vault, User: user, Sealed: fmt.Appendf(nil, "\x00\xff%s/%s@%d", provider, name, version),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("differs (-want +got):\n%s", d)
	}
}

func connections(t *testing.T, s Store) []authsome.ConnectionRow {
	t.Helper()
	rows, err := s.Connections(t.Context(), vault, user)
	must(t, err)
	return rows
}

// names lists the connections as "provider/name", with a * at the default.
func names(t *testing.T, s Store) string {
	t.Helper()
	var out []string
	for _, r := range connections(t, s) {
		star := ""
		if r.Connection.IsDefault {
			star = "*"
		}
		out = append(out, r.Connection.Provider+"/"+r.Connection.Name+star)
	}
	return strings.Join(out, " ")
}

// eventIDs are the ids of all of a vault's events, whose numbers must have no
// gap.
func eventIDs(t *testing.T, s Store, vault string) []string {
	t.Helper()
	evs, err := s.Events(t.Context(), vault, 0, 1_000_000)
	must(t, err)
	var out []string
	for i, ev := range evs {
		if ev.Seq != int64(i)+1 {
			t.Fatalf("event %d has the number %d", i+1, ev.Seq)
		}
		out = append(out, ev.ID)
	}
	return out
}

func connectionRoundTrip(t *testing.T, s Store) {
	want := NewRow("github", "work", 1)
	must(t, s.SaveConnection(t.Context(), want, true, NewEvent(vault)))
	want.Connection.IsDefault = true
	equal(t, connections(t, s), []authsome.ConnectionRow{want})

	// The zero times and empty lists come back as they are, too.
	bare := authsome.ConnectionRow{
		Connection: authsome.Connection{Provider: "openai", Name: "default", Version: 1},
		Vault:      vault, User: user, Sealed: []byte{1},
	}
	must(t, s.SaveConnection(t.Context(), bare, false, NewEvent(vault)))
	equal(t, connections(t, s), []authsome.ConnectionRow{want, bare})

	// A replacement replaces everything.
	next := NewRow("github", "work", 2)
	next.Connection.Scopes, next.Connection.Hosts, next.Connection.Status = nil, []string{"ghe.example.org"}, authsome.Expired
	must(t, s.SaveConnection(t.Context(), next, false, NewEvent(vault)))
	next.Connection.IsDefault = true
	equal(t, connections(t, s), []authsome.ConnectionRow{next, bare})
}

func connectionVersions(t *testing.T, s Store) {
	refused := func(version int64) {
		t.Helper()
		before, events := connections(t, s), eventIDs(t, s, vault)
		err := s.SaveConnection(t.Context(), NewRow("github", "work", version), true, NewEvent(vault))
		if authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), "github (work)") || authsome.HintOf(err) == "" {
			t.Fatalf("version %d: %v", version, err)
		}
		equal(t, connections(t, s), before)
		equal(t, eventIDs(t, s, vault), events)
	}
	refused(0)
	refused(2)
	refused(-1)
	must(t, s.SaveConnection(t.Context(), NewRow("github", "work", 1), false, NewEvent(vault)))
	refused(0)
	refused(1)
	refused(3)
	must(t, s.SaveConnection(t.Context(), NewRow("github", "work", 2), false, NewEvent(vault)))
	refused(2)
}

// connectionRace lets several writers make the same step: one wins.
func connectionRace(t *testing.T, s Store) {
	const writers = 8
	for version := int64(1); version <= 5; version++ {
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				row := NewRow("github", "work", version)
				row.Sealed = fmt.Appendf(nil, "writer %d", i)
				errs[i] = s.SaveConnection(t.Context(), row, false, NewEvent(vault))
			})
		}
		wg.Wait()
		winner := slices.Index(errs, nil)
		for i, err := range errs {
			if (err == nil) != (i == winner) {
				t.Fatalf("version %d: writer %d: %v", version, i, err)
			}
		}
		row := connections(t, s)[0]
		if want := fmt.Sprintf("writer %d", winner); row.Connection.Version != version || string(row.Sealed) != want {
			t.Fatalf("version %d: the row is %d, %q, want %q", version, row.Connection.Version, row.Sealed, want)
		}
		if got := len(eventIDs(t, s, vault)); int64(got) != version {
			t.Fatalf("%d events after %d changes", got, version)
		}
	}
}

// owners keeps vaults and identities apart.
func owners(t *testing.T, s Store) {
	ctx := t.Context()
	for _, o := range [][2]string{{vault, user}, {vault, "bob"}, {"team", user}} {
		row := NewRow("github", "work", 1)
		row.Vault, row.User, row.Sealed = o[0], o[1], []byte(o[0]+"/"+o[1])
		must(t, s.SaveConnection(ctx, row, true, NewEvent(o[0])))
	}
	must(t, s.DeleteConnections(ctx, vault, "bob", "github", []string{"work"}, "", NewEvent(vault)))
	for _, o := range [][2]string{{vault, user}, {"team", user}} {
		rows, err := s.Connections(ctx, o[0], o[1])
		must(t, err)
		if len(rows) != 1 || string(rows[0].Sealed) != o[0]+"/"+o[1] || !rows[0].Connection.IsDefault {
			t.Errorf("%v: %v", o, rows)
		}
	}
	rows, err := s.Connections(ctx, vault, "bob")
	must(t, err)
	if len(rows) != 0 {
		t.Errorf("bob still has %v", rows)
	}
	if n := len(eventIDs(t, s, "team")); n != 1 {
		t.Errorf("the team has %d events", n)
	}
}

// order is by bytes on every database, whatever its language settings.
func order(t *testing.T, s Store) {
	for _, name := range []string{"b", "_x", "B", "a-b", "a.b", "ä", "A"} {
		must(t, s.SaveConnection(t.Context(), NewRow("p", name, 1), false, NewEvent(vault)))
	}
	if got, want := names(t, s), "p/A p/B p/_x p/a-b p/a.b p/b p/ä"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func defaults(t *testing.T, s Store) {
	ctx := t.Context()
	must(t, s.SaveConnection(ctx, NewRow("github", "home", 1), true, NewEvent(vault)))
	must(t, s.SaveConnection(ctx, NewRow("github", "work", 1), false, NewEvent(vault)))
	must(t, s.SaveConnection(ctx, NewRow("openai", "default", 1), true, NewEvent(vault)))
	equal(t, names(t, s), "github/home* github/work openai/default*")
	must(t, s.SetDefault(ctx, vault, user, "github", "work", NewEvent(vault)))
	equal(t, names(t, s), "github/home github/work* openai/default*")
	must(t, s.SaveConnection(ctx, NewRow("github", "home", 2), true, NewEvent(vault)))
	equal(t, names(t, s), "github/home* github/work openai/default*")

	before := eventIDs(t, s, vault)
	for _, err := range []error{
		s.SetDefault(ctx, vault, user, "github", "nobody", NewEvent(vault)),
		s.SetDefault(ctx, vault, user, "nothing", "work", NewEvent(vault)),
		s.SetDefault(ctx, vault, "bob", "github", "work", NewEvent(vault)),
		s.DeleteConnections(ctx, vault, user, "github", []string{"home"}, "nobody", NewEvent(vault)),
		s.DeleteConnections(ctx, vault, user, "github", []string{"home"}, "home", NewEvent(vault)),
	} {
		if authsome.CodeOf(err) != authsome.ConnectionNotFound {
			t.Errorf("a default that does not exist: %v", err)
		}
	}
	equal(t, names(t, s), "github/home* github/work openai/default*")
	equal(t, eventIDs(t, s, vault), before)
}

func deletion(t *testing.T, s Store) {
	ctx := t.Context()
	for _, name := range []string{"a", "b", "c", "d"} {
		must(t, s.SaveConnection(ctx, NewRow("github", name, 1), name == "a", NewEvent(vault)))
	}
	must(t, s.SaveConnection(ctx, NewRow("gitlab", "a", 1), true, NewEvent(vault)))
	must(t, s.DeleteConnections(ctx, vault, user, "github", []string{"a", "missing"}, "b", NewEvent(vault)))
	equal(t, names(t, s), "github/b* github/c github/d gitlab/a*")
	must(t, s.DeleteConnections(ctx, vault, user, "github", []string{"c"}, "b", NewEvent(vault)))
	equal(t, names(t, s), "github/b* github/d gitlab/a*")
	must(t, s.DeleteConnections(ctx, vault, user, "github", []string{"b", "d"}, "", NewEvent(vault), NewEvent(vault)))
	equal(t, names(t, s), "gitlab/a*")
	if n := len(eventIDs(t, s, vault)); n != 9 {
		t.Errorf("%d events, want 9", n)
	}
	// A name may be used again, from the first version.
	must(t, s.SaveConnection(ctx, NewRow("github", "a", 1), false, NewEvent(vault)))
	equal(t, names(t, s), "github/a gitlab/a*")
}

func finishLogin(t *testing.T, s Store) {
	ctx := t.Context()
	login := authsome.SealedRow{ID: "sess_a", User: user, Version: 1, ExpiresAt: 100, Sealed: []byte("waiting")}
	must(t, s.SaveLogin(ctx, vault, login))
	login.Version, login.Sealed = 2, []byte("completed")
	must(t, s.FinishLogin(ctx, NewRow("github", "work", 1), true, login, nil, NewEvent(vault)))
	equal(t, names(t, s), "github/work*")
	rows, err := s.Logins(ctx, vault)
	must(t, err)
	equal(t, rows, []authsome.SealedRow{login})

	// A connection that cannot be stored leaves the login as it was.
	failed := login
	failed.Version, failed.Sealed = 3, []byte("completed again")
	if err := s.FinishLogin(ctx, NewRow("github", "work", 7), true, failed, nil, NewEvent(vault)); authsome.CodeOf(err) != authsome.StoreFailed {
		t.Fatalf("a conflict was accepted: %v", err)
	}
	rows, err = s.Logins(ctx, vault)
	must(t, err)
	equal(t, rows, []authsome.SealedRow{login})
	if n := len(eventIDs(t, s, vault)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func definitions(t *testing.T, s Store) {
	ctx := t.Context()
	read := func(vault string) []authsome.DefinitionRow {
		t.Helper()
		rows, err := s.Definitions(ctx, vault)
		must(t, err)
		return rows
	}
	b := authsome.DefinitionRow{Vault: vault, Name: "b", Definition: []byte(`{"name":"b"} // kept as it is`)}
	a := authsome.DefinitionRow{Vault: vault, Name: "a", Definition: []byte{0, 255}}
	foreign := authsome.DefinitionRow{Vault: "team", Name: "a", Definition: []byte("{}")}
	for _, r := range []authsome.DefinitionRow{b, a, foreign} {
		must(t, s.SaveDefinition(ctx, r, NewEvent(r.Vault)))
	}
	equal(t, read(vault), []authsome.DefinitionRow{a, b})
	a.Definition = []byte("{ }")
	must(t, s.SaveDefinition(ctx, a, NewEvent(vault)))
	equal(t, read(vault), []authsome.DefinitionRow{a, b})
	must(t, s.DeleteDefinition(ctx, vault, "a", NewEvent(vault)))
	must(t, s.DeleteDefinition(ctx, vault, "missing", NewEvent(vault)))
	equal(t, read(vault), []authsome.DefinitionRow{b})
	equal(t, read("team"), []authsome.DefinitionRow{foreign})
}

func sealedRows(t *testing.T,
	list func(context.Context, string) ([]authsome.SealedRow, error),
	save func(context.Context, string, authsome.SealedRow, ...authsome.Event) error,
	remove func(context.Context, string, []string) error,
) {
	ctx := t.Context()
	read := func(vault string) []authsome.SealedRow {
		t.Helper()
		rows, err := list(ctx, vault)
		must(t, err)
		return rows
	}
	equal(t, len(read(vault)), 0)
	b := authsome.SealedRow{ID: "b", User: user, Version: 1, ExpiresAt: 1 << 40, Sealed: []byte{0, 1, 255}}
	a := authsome.SealedRow{ID: "a", Version: 3, Sealed: []byte("a")}
	foreign := authsome.SealedRow{ID: "a", User: "bob", Version: 1, Sealed: []byte("other")}
	must(t, save(ctx, vault, b))
	must(t, save(ctx, vault, a, NewEvent(vault)))
	must(t, save(ctx, "team", foreign))
	equal(t, read(vault), []authsome.SealedRow{a, b})
	b.Version, b.ExpiresAt, b.Sealed = 2, 0, []byte("again")
	must(t, save(ctx, vault, b))
	equal(t, read(vault), []authsome.SealedRow{a, b})
	must(t, remove(ctx, vault, nil))
	must(t, remove(ctx, vault, []string{"a", "missing"}))
	equal(t, read(vault), []authsome.SealedRow{b})
	equal(t, read("team"), []authsome.SealedRow{foreign})
}

func items(t *testing.T, s Store) {
	ctx := t.Context()
	check := func(vault, kind, name string, want []byte, version int64) {
		t.Helper()
		sealed, v, err := s.Item(ctx, vault, kind, name)
		must(t, err)
		equal(t, sealed, want)
		equal(t, v, version)
	}
	check(vault, "ca", "root", nil, 0)
	must(t, s.SaveItem(ctx, vault, "ca", "root", []byte{0, 255}, 1))
	must(t, s.SaveItem(ctx, vault, "ca", "root", []byte("second"), 2, NewEvent(vault)))
	must(t, s.SaveItem(ctx, vault, "other", "root", []byte("kind"), 1))
	must(t, s.SaveItem(ctx, "team", "ca", "root", []byte("vault"), 5))
	check(vault, "ca", "root", []byte("second"), 2)
	check(vault, "other", "root", []byte("kind"), 1)
	check("team", "ca", "root", []byte("vault"), 5)
	equal(t, len(eventIDs(t, s, vault)), 1)
}

func header(t *testing.T, s Store) {
	ctx := t.Context()
	got, err := s.VaultHeader(ctx, vault)
	must(t, err)
	if got != nil {
		t.Fatalf("a vault that was never made has the header %q", got)
	}
	must(t, s.CreateVaultHeader(ctx, vault, []byte("first")))
	if err := s.CreateVaultHeader(ctx, vault, []byte("second")); authsome.CodeOf(err) != authsome.VaultFailed {
		t.Fatalf("a second vault over the first: %v", err)
	}
	must(t, s.CreateVaultHeader(ctx, "team", []byte("theirs")))
	got, err = s.VaultHeader(ctx, vault)
	must(t, err)
	equal(t, string(got), "first")

	// Records without a header are those of a vault that was lost: a new one
	// could not open them.
	row := NewRow("github", "work", 1)
	for id, save := range map[string]func(id string) error{
		"connection": func(id string) error { row.Vault = id; return s.SaveConnection(ctx, row, true, NewEvent(id)) },
		"item":       func(id string) error { return s.SaveItem(ctx, id, "ca", "root", []byte("x"), 1) },
		"login":      func(id string) error { return s.SaveLogin(ctx, id, authsome.SealedRow{ID: "a", Sealed: []byte("x")}) },
		"grant":      func(id string) error { return s.SaveGrant(ctx, id, authsome.SealedRow{ID: "a", Sealed: []byte("x")}) },
	} {
		must(t, save(id))
		if err := s.CreateVaultHeader(ctx, id, []byte("new")); authsome.CodeOf(err) != authsome.VaultFailed || authsome.HintOf(err) == "" {
			t.Errorf("a new vault over an old %s: %v", id, err)
		}
		got, err := s.VaultHeader(ctx, id)
		must(t, err)
		if got != nil {
			t.Errorf("the refused vault of an old %s has the header %q", id, got)
		}
	}
}

// goneCaller cancels before the change begins: nothing happens, and the store
// goes on working.
func goneCaller(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.SaveConnection(ctx, NewRow("github", "work", 1), true, NewEvent(vault))
	if authsome.CodeOf(err) != authsome.StoreFailed {
		t.Fatalf("a caller that is gone: %v", err)
	}
	if _, err := s.Connections(ctx, vault, user); authsome.CodeOf(err) != authsome.StoreFailed {
		t.Fatalf("a caller that is gone reads: %v", err)
	}
	equal(t, names(t, s), "")
	must(t, s.SaveConnection(t.Context(), NewRow("github", "work", 1), true, NewEvent(vault)))
	equal(t, names(t, s), "github/work*")
}
