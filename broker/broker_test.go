package broker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/internal/oauthtest"
	"github.com/authsome/authsome/provider"
	"github.com/authsome/authsome/store"
	"github.com/authsome/authsome/vault"
)

const (
	openaiKey = "sk-proj-canary0123456789abcdefghij"
	githubKey = "ghp_canary0123456789abcdefghijABCDEFGH"
	workKey   = "ghp_canarywork6789abcdefghijABCDEFGHIJ"
)

// me is the person at the machine, outside any run.
var me = authsome.Identity{Vault: authsome.LocalVault, User: authsome.LocalUser, PID: 42, Program: "authsome"}

// faultyStore is the real store on a disk that can become full.
type faultyStore struct {
	*store.Store
	refuse atomic.Bool
	// beforeLock is called before a lock is taken; nil does nothing.
	beforeLock func()
	// deleted is called when a grant was deleted; nil does nothing.
	deleted func()
}

func (s *faultyStore) DeleteGrants(ctx context.Context, vault string, ids []string, ev ...authsome.Event) error {
	err := s.Store.DeleteGrants(ctx, vault, ids, ev...)
	if f := s.deleted; f != nil {
		f()
	}
	return err
}

func (s *faultyStore) Lock(ctx context.Context, name string) (func(), error) {
	if f := s.beforeLock; f != nil {
		f()
	}
	return s.Store.Lock(ctx, name)
}

func (s *faultyStore) SaveConnection(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, ev authsome.Event) error {
	if s.refuse.Load() {
		return authsome.E(authsome.StoreFailed, "store a connection: the disk is full")
	}
	return s.Store.SaveConnection(ctx, row, makeDefault, ev)
}

// world is a broker on a real store, vault, catalog and spool.
type world struct {
	*broker.Broker
	t     testing.TB
	home  string
	store *faultyStore
	spool *audit.Spool
	now   time.Time
	// auth is the authorization server of the provider acme; nil when a test
	// needs none.
	auth *oauthtest.Server
	// noBrowser says why the daemon has no port for browsers.
	noBrowser error
	// changes counts calls of the subscriber.
	changes int
}

func newWorld(t testing.TB) *world {
	return newWorldWith(t, nil)
}

func newWorldWith(t testing.TB, auth *oauthtest.Server) *world {
	w := &world{t: t, home: t.TempDir(), now: time.Now().UTC().Truncate(time.Second), auth: auth}
	w.open()
	t.Cleanup(w.close)
	return w
}

// open starts a broker as the daemon does.
func (w *world) open() {
	w.t.Helper()
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{Path: filepath.Join(w.home, "vault.db")})
	if err != nil {
		w.t.Fatal(err)
	}
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	v, err := vault.Open(ctx, vault.Config{Home: w.home, Headers: st, Getenv: func(name string) string {
		if name == "AUTHSOME_MASTER_KEY" {
			return key
		}
		return ""
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	spool, err := audit.OpenSpool(filepath.Join(w.home, "requests.spool"))
	if err != nil {
		w.t.Fatal(err)
	}
	catalog := provider.NewCatalog()
	w.store, w.spool = &faultyStore{Store: st}, spool
	w.Broker = broker.New(broker.Config{
		Records: w.store, Sealer: v, Recorder: spool, Catalog: catalog,
		Parse: provider.Parse, Check: provider.CheckRegistrable,
		Now:         func() time.Time { return w.now },
		Flow:        flow.New(flow.Config{Proxy: w.auth.Proxy(), Roots: w.auth.Pool(), Now: func() time.Time { return w.now }}),
		RedirectURI: func() (string, error) { return redirectURI, w.noBrowser },
	})
	w.Subscribe(func() { w.changes++ })
	if err := w.Load(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// redirectURI is where servers send browsers back to.
const redirectURI = "http://127.0.0.1:7998/auth/callback/oauth"

func (w *world) close() {
	// What runs in the background ends with Run, as in the daemon.
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	w.Run(ended)
	_ = w.spool.Close()
	_ = w.store.Close()
}

// restart is a new daemon on the same home.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open()
}

func (w *world) begin(req authsome.LoginRequest) *authsome.Login {
	w.t.Helper()
	l, _, err := w.Begin(context.Background(), me, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// login connects a provider by key.
func (w *world) login(provider, connection, key string, force bool) *authsome.Login {
	w.t.Helper()
	l := w.begin(authsome.LoginRequest{Provider: provider, Connection: connection, Flow: authsome.FlowAPIKey, Force: force})
	done, err := w.SubmitFields(context.Background(), me, l.ID, fields("api_key", key))
	if err != nil {
		w.t.Fatal(err)
	}
	if done.Status != authsome.LoginCompleted {
		w.t.Fatalf("login to %s: status %s", provider, done.Status)
	}
	return done
}

func fields(kv ...string) map[string]authsome.Secret {
	m := map[string]authsome.Secret{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = authsome.NewSecret(kv[i+1])
	}
	return m
}

// events drains the spool and returns all of the audit.
func (w *world) events() []authsome.Event {
	w.t.Helper()
	err := w.spool.Drain(func(source string, batch []authsome.Event) error {
		return w.store.AppendFrom(context.Background(), source, batch...)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	evs, err := w.store.Events(context.Background(), authsome.LocalVault, 0, 10_000)
	if err != nil {
		w.t.Fatal(err)
	}
	return evs
}

// recorded reports whether an event of that type and status is in the audit.
func (w *world) recorded(t authsome.EventType, status string) bool {
	w.t.Helper()
	return slices.ContainsFunc(w.events(), func(e authsome.Event) bool { return e.Type == t && e.Status == status })
}

func (w *world) names(provider string) (names []string, deflt string) {
	w.t.Helper()
	v, err := w.Provider(me, provider)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range v.Connections {
		names = append(names, c.Name)
		if c.IsDefault {
			deflt = c.Name
		}
	}
	return names, deflt
}

func wantCode(t *testing.T, err error, code authsome.Code) {
	t.Helper()
	if authsome.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, authsome.CodeOf(err), code)
	}
	for _, key := range []string{openaiKey, githubKey, workKey} {
		if err != nil && strings.Contains(err.Error()+authsome.HintOf(err), key) {
			t.Fatal("an error quotes a key")
		}
	}
}

func TestFirstLoginIsDefaultAndForceMovesIt(t *testing.T) {
	w := newWorld(t)
	if l := w.login("github", "personal", githubKey, false); !l.Default || l.Replaced {
		t.Errorf("first login: default %v, replaced %v", l.Default, l.Replaced)
	}
	if l := w.login("github", "work", workKey, false); l.Default {
		t.Error("the second login took the default")
	}
	l := w.begin(authsome.LoginRequest{Provider: "github", Connection: "work"})
	if !l.Already || l.Status != authsome.LoginCompleted {
		t.Errorf("a login that works already: %+v", l)
	}
	if l := w.login("github", "work", workKey, true); !l.Default || !l.Replaced {
		t.Errorf("login --force: default %v, replaced %v", l.Default, l.Replaced)
	}
	if names, d := w.names("github"); d != "work" || len(names) != 2 {
		t.Errorf("connections %v, default %s", names, d)
	}
	if w.changes != 3 {
		t.Errorf("subscribers were told %d times of 3 logins", w.changes)
	}
	w.restart()
	if names, d := w.names("github"); d != "work" || len(names) != 2 {
		t.Errorf("after a restart: connections %v, default %s", names, d)
	}
	_, cred, err := w.Reveal(context.Background(), me, "github", "personal")
	if err != nil || cred.Get(authsome.FieldToken).Reveal() != githubKey {
		t.Errorf("the key did not come back after a restart: %v", err)
	}
	if !w.recorded(authsome.EventLogin, "ok") || !w.recorded(authsome.EventRevealed, "ok") {
		t.Error("login or reveal is not in the audit")
	}
}

func TestLoginRefusals(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	begin := func(r authsome.LoginRequest) error { _, _, err := w.Begin(ctx, me, r); return err }

	err := begin(authsome.LoginRequest{Provider: "opnai"})
	wantCode(t, err, authsome.ProviderNotFound)
	if !strings.Contains(authsome.HintOf(err), "openai") {
		t.Errorf("hint %q does not name the nearest provider", authsome.HintOf(err))
	}
	for _, name := range []string{"../x", "a b", "-x", strings.Repeat("x", 65), "a\n"} {
		wantCode(t, begin(authsome.LoginRequest{Provider: "openai", Connection: name}), authsome.Invalid)
	}
	// A key that was pasted where a name belongs is not repeated.
	wantCode(t, begin(authsome.LoginRequest{Provider: openaiKey}), authsome.ProviderNotFound)
	_, _, err = w.Connection(me, githubKey, workKey)
	wantCode(t, err, authsome.ProviderNotFound)
	w.login("github", "", githubKey, false)
	_, _, err = w.Connection(me, "github", workKey)
	wantCode(t, err, authsome.ConnectionNotFound)
	wantCode(t, begin(authsome.LoginRequest{Provider: "openai", Flow: "device_code"}), authsome.Invalid)
	wantCode(t, begin(authsome.LoginRequest{Provider: "openai", Timeout: -time.Second}), authsome.Invalid)
	wantCode(t, begin(authsome.LoginRequest{Provider: "openai", Timeout: 25 * time.Hour}), authsome.Invalid)
}

func TestWrongKeyKeepsTheLoginWaiting(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	l := w.begin(authsome.LoginRequest{Provider: "openai"})
	_, err := w.SubmitFields(ctx, me, l.ID, fields("api_key", "not-a-key"))
	wantCode(t, err, authsome.Invalid)
	if got, _, _ := w.LoginByID(ctx, me, l.ID); got.Status != authsome.LoginWaiting {
		t.Errorf("status %s after a wrong key", got.Status)
	}
	if _, err := w.SubmitFields(ctx, me, l.ID, fields("api_key", openaiKey)); err != nil {
		t.Fatal(err)
	}
	_, err = w.SubmitFields(ctx, me, l.ID, fields("api_key", openaiKey))
	wantCode(t, err, authsome.AuthFailed)
}

func TestLoginSurvivesRestartAndOpensByTicketOnly(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	l := w.begin(authsome.LoginRequest{Provider: "openai"})
	ticket := l.Ticket
	w.restart()
	_, err := w.Submit(ctx, l.ID, authsome.NewSecret("wrong"), fields("api_key", openaiKey))
	wantCode(t, err, authsome.ConnectionNotFound)
	_, err = w.Submit(ctx, l.ID, authsome.Secret{}, fields("api_key", openaiKey))
	wantCode(t, err, authsome.ConnectionNotFound)
	_, err = w.Submit(ctx, "sess_other", ticket, fields("api_key", openaiKey))
	wantCode(t, err, authsome.ConnectionNotFound)
	if got, p, err := w.Login(ctx, l.ID, ticket); err != nil || p.Name != "openai" || got.Status != authsome.LoginWaiting {
		t.Fatalf("login by ticket after a restart: %v, %v", got, err)
	}
	if done, err := w.Submit(ctx, l.ID, ticket, fields("api_key", openaiKey)); err != nil || done.Status != authsome.LoginCompleted {
		t.Fatalf("submit after a restart: %v", err)
	}
	w.restart()
	if got, _, err := w.Login(ctx, l.ID, ticket); err != nil || got.Status != authsome.LoginCompleted {
		t.Errorf("an old tab after another restart: %v, %v", got, err)
	}
}

func TestLoginEnds(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	cancelled := w.begin(authsome.LoginRequest{Provider: "openai"})
	late := w.begin(authsome.LoginRequest{Provider: "groq", Timeout: time.Minute})

	told := make(chan *authsome.Login)
	go func() {
		l, _, _ := w.WaitLogin(ctx, me, cancelled.ID)
		told <- l
	}()
	if err := w.CancelLogin(ctx, cancelled.ID, cancelled.Ticket); err != nil {
		t.Fatal(err)
	}
	if l := <-told; l.Status != authsome.LoginCancelled || l.Err == nil || l.Err.Code != authsome.Cancelled {
		t.Errorf("the waiting command was told %+v", l)
	}

	w.now = w.now.Add(2 * time.Minute)
	l, _, err := w.WaitLogin(ctx, me, late.ID)
	if err != nil || l.Status != authsome.LoginExpired || l.Err.Code != authsome.TimedOut {
		t.Errorf("a login past its time: %+v, %v", l, err)
	}
	_, err = w.SubmitFields(ctx, me, late.ID, fields("api_key", openaiKey))
	wantCode(t, err, authsome.AuthFailed)
	if !w.recorded(authsome.EventLoginFailed, "cancelled") || !w.recorded(authsome.EventLoginFailed, "expired") {
		t.Error("the ends are not in the audit")
	}

	short, stop := context.WithCancel(ctx)
	stop()
	waiting := w.begin(authsome.LoginRequest{Provider: "openai"})
	if l, _, err := w.WaitLogin(short, me, waiting.ID); err != nil || l.Status != authsome.LoginWaiting {
		t.Errorf("a wait that ended first: %v, %v", l, err)
	}
}

func TestLogoutMovesTheDefaultToTheOldest(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("github", "b-old", githubKey, false)
	w.now = w.now.Add(time.Minute)
	w.login("github", "a-new", workKey, false)
	w.now = w.now.Add(time.Minute)
	w.login("github", "main", workKey, true)
	out, err := w.Logout(ctx, me, "github", "")
	if err != nil || !slices.Equal(out.Connections, []string{"main"}) || len(out.Notes) != 1 {
		t.Fatalf("logout: %+v, %v", out, err)
	}
	if _, d := w.names("github"); d != "b-old" {
		t.Errorf("the default is %q, want the oldest", d)
	}
	w.restart()
	if _, d := w.names("github"); d != "b-old" {
		t.Errorf("after a restart the default is %q", d)
	}
	if out, err := w.Logout(ctx, me, "github", "gone"); err != nil || len(out.Connections) != 0 {
		t.Errorf("logout of what is not there: %+v, %v", out, err)
	}
	_, err = w.Logout(ctx, me, "githbu", "")
	wantCode(t, err, authsome.ProviderNotFound)
	wantCode(t, w.SetDefault(ctx, me, "github", "gone"), authsome.ConnectionNotFound)
	if err := w.SetDefault(ctx, me, "github", "a-new"); err != nil {
		t.Fatal(err)
	}
	if out, err = w.Revoke(ctx, me, "github"); err != nil || len(out.Connections) != 2 {
		t.Errorf("revoke: %+v, %v", out, err)
	}
	if names, _ := w.names("github"); len(names) != 0 {
		t.Errorf("left after revoke: %v", names)
	}
}

func TestSecretsAreRefusedInsideARun(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("openai", "", openaiKey, false)
	inside := me
	inside.Run = "run_x"
	_, _, err := w.Reveal(ctx, inside, "openai", "")
	wantCode(t, err, authsome.Forbidden)
	_, err = w.Export(ctx, inside, "", "")
	wantCode(t, err, authsome.Forbidden)
	_, err = w.Register(ctx, inside, "x.json", []byte(acme("api.acme.example")), true, false)
	wantCode(t, err, authsome.Forbidden)
	_, err = w.Remove(ctx, inside, "openai")
	wantCode(t, err, authsome.Forbidden)
	denied := 0
	for _, e := range w.events() {
		if e.Type == authsome.EventDenied && e.Run == "run_x" {
			denied++
		}
	}
	if denied != 4 {
		t.Errorf("%d of 4 refusals are in the audit", denied)
	}
}

func TestExport(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("github", "personal", githubKey, false)
	w.login("github", "work-2", workKey, false)
	w.login("openai", "", openaiKey, false)
	vars, err := w.Export(ctx, me, "", "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range vars {
		if _, twice := got[v.Name]; twice {
			t.Errorf("%s is exported twice", v.Name)
		}
		got[v.Name] = v.Value.Reveal()
	}
	for name, want := range map[string]string{
		"GH_TOKEN": githubKey, "GH_TOKEN_GITHUB_WORK_2": workKey,
		"OPENAI_API_KEY": openaiKey, "CODEX_API_KEY": openaiKey,
	} {
		if got[name] != want {
			t.Errorf("%s is wrong or missing", name)
		}
	}
	if one, err := w.Export(ctx, me, "github", "work-2"); err != nil || len(one) == 0 || one[0].Value.Reveal() != workKey {
		t.Errorf("export of one connection: %v", err)
	}
	if !w.recorded(authsome.EventExported, "ok") {
		t.Error("export is not in the audit")
	}
}

// acme is a provider file of a person's own.
func acme(host string) string {
	return `{"schema_version":1,"name":"acme","display_name":"Acme","auth_type":"api_key","flow":"api_key",
		"api_url":"` + host + `","api_key":{"header_name":"X-Acme-Key","header_prefix":""},"export":{"ACME_KEY":"API_TOKEN"}}`
}

func TestRegister(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	reg := func(text string, force, dry bool) (broker.Registration, error) {
		return w.Register(ctx, me, "acme.json", []byte(text), force, dry)
	}
	if r, err := reg(acme("api.acme.example"), false, true); err != nil || r.Provider.Name != "acme" {
		t.Fatalf("dry run: %v", err)
	}
	if _, err := w.Provider(me, "acme"); err == nil {
		t.Fatal("a dry run registered the provider")
	}
	if _, err := reg(acme("api.acme.example"), false, false); err != nil {
		t.Fatal(err)
	}
	_, err := reg(acme("api.acme.example"), false, false)
	wantCode(t, err, authsome.ProviderExists)
	_, err = reg(strings.Replace(acme("api.acme.example"), `"name":"acme"`, `"name":"openai"`, 1), false, false)
	wantCode(t, err, authsome.ProviderExists)
	for _, bad := range []string{"", "{", "[]", `{"name":"acme"}`, acme("http://api.acme.example"), acme("127.0.0.1"), acme("localhost")} {
		if _, err := reg(bad, true, false); err == nil {
			t.Errorf("registered %q", bad)
		} else {
			wantCode(t, err, authsome.Invalid)
		}
	}
	w.login("acme", "", "k-0123456789", false)
	r, err := reg(acme("api.evil.example"), true, false)
	if err != nil || !r.Replaced || len(r.Notes) != 1 {
		t.Fatalf("replace: %+v, %v", r, err)
	}
	w.restart()
	if v, err := w.Provider(me, "acme"); err != nil || v.Provider.Routes[0].Host != "api.evil.example" {
		t.Errorf("the registered definition after a restart: %v", err)
	}
	// The key stays where it was made for.
	g, _, _, err := w.StartGrant(ctx, me, broker.GrantSpec{Program: "x"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(ctx, g, request("api.evil.example", "/"))
	wantCode(t, err, authsome.Forbidden)
	if l := w.begin(authsome.LoginRequest{Provider: "acme"}); l.Already {
		t.Error("login calls a connection that cannot serve the definition's hosts good")
	}
	out, err := w.Remove(ctx, me, "acme")
	if err != nil || !out.Definition || len(out.Connections) != 1 {
		t.Errorf("remove: %+v, %v", out, err)
	}
	if out, err = w.Remove(ctx, me, "openai"); err != nil || out.Definition {
		t.Errorf("remove of a bundled provider: %+v, %v", out, err)
	}
	if _, err := w.Provider(me, "openai"); err != nil {
		t.Error("a bundled definition was removed")
	}
	for _, typ := range []authsome.EventType{authsome.EventRegistered, authsome.EventUpdated, authsome.EventDeleted} {
		if !w.recorded(typ, "ok") {
			t.Errorf("no %s in the audit", typ)
		}
	}
}
