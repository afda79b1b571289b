package broker_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

func request(host, path string, header ...string) *authsome.Request {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return &authsome.Request{Host: host, Port: 443, Method: "GET", Path: path, Header: h, ID: "req"}
}

func (w *world) grant(spec broker.GrantSpec) *authsome.Grant {
	w.t.Helper()
	g, _, _, err := w.StartGrant(context.Background(), me, spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// set is the value that a resolution puts on a header.
func set(r *authsome.Resolution, name string) string {
	for _, s := range r.Set {
		if s.Name == name {
			return s.Value.Reveal()
		}
	}
	return ""
}

func basic(userinfo string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userinfo))
}

func TestResolveInjects(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("openai", "", openaiKey, false)
	w.login("anthropic", "", "sk-ant-canary0123456789abcdefghij", false)
	g := w.grant(broker.GrantSpec{})

	res, err := w.Resolve(ctx, g, request("api.openai.com", "/v1/responses"))
	if err != nil || res.Verdict != authsome.Inject || set(res, "Authorization") != "Bearer "+openaiKey {
		t.Fatalf("openai: %+v, %v", res, err)
	}
	if res.Private {
		t.Error("a private upstream is approved though nobody did")
	}
	// x-api-key goes on, and Authorization, Anthropic's other slot, comes off.
	res, err = w.Resolve(ctx, g, request("api.anthropic.com", "/v1/messages", "Authorization", "Bearer "+authsome.Placeholder))
	if err != nil || set(res, "X-Api-Key") == "" && set(res, "x-api-key") == "" || !slices.Contains(res.Strip, "Authorization") {
		t.Errorf("anthropic: %+v, %v", res, err)
	}
	// The API key never goes to a sibling domain.
	if v := w.Host(g, "chatgpt.com", 443); v != authsome.Tunnel {
		t.Errorf("chatgpt.com: %s", v)
	}
	if v := w.Host(g, "api.openai.com", 8443); v != authsome.Tunnel {
		t.Errorf("another port: %s", v)
	}
	if !w.recorded(authsome.EventInjected, "started") {
		t.Error("the intent is not in the audit")
	}
	w.Finish(g, request("api.openai.com", "/"), res, authsome.Outcome{Status: 200, Received: 10})
	if !w.recorded(authsome.EventInjected, "ok") {
		t.Error("the completion is not in the audit")
	}
}

func TestResolveModes(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("openai", "", openaiKey, false)
	tests := []struct {
		mode      authsome.Mode
		unknown   authsome.HostVerdict
		groqHost  authsome.HostVerdict // a provider without a connection
		groqError authsome.Code
	}{
		{"", authsome.Tunnel, authsome.Tunnel, ""},
		{authsome.ConnectedAllow, authsome.Tunnel, authsome.Tunnel, ""},
		{authsome.ConnectedDeny, authsome.Refuse, authsome.Refuse, authsome.Forbidden},
		{authsome.ConfiguredAllow, authsome.Tunnel, authsome.Intercept, ""},
		{authsome.ConfiguredDeny, authsome.Refuse, authsome.Intercept, authsome.CredentialMissing},
	}
	for _, tt := range tests {
		t.Run(string(tt.mode), func(t *testing.T) {
			g := w.grant(broker.GrantSpec{Mode: tt.mode})
			if v := w.Host(g, "www.example.org", 443); v != tt.unknown {
				t.Errorf("unknown host: %s", v)
			}
			if v := w.Host(g, "127.0.0.1", 443); v != tt.unknown {
				t.Errorf("loopback: %s", v)
			}
			if v := w.Host(g, "api.groq.com", 443); v != tt.groqHost {
				t.Errorf("unconnected provider: %s", v)
			}
			res, err := w.Resolve(ctx, g, request("api.groq.com", "/openai/v1/models"))
			if authsome.CodeOf(err) != tt.groqError {
				t.Errorf("request to an unconnected provider: %v", err)
			}
			if err == nil && res.Verdict != authsome.Forward {
				t.Errorf("request to an unconnected provider: %s", res.Verdict)
			}
			if res, err := w.Resolve(ctx, g, request("api.openai.com", "/v1/models")); err != nil || res.Verdict != authsome.Inject {
				t.Errorf("a connected provider: %+v, %v", res, err)
			}
		})
	}
	if _, _, _, err := w.StartGrant(ctx, me, broker.GrantSpec{Mode: "open"}); authsome.CodeOf(err) != authsome.Invalid {
		t.Errorf("an unknown mode: %v", err)
	}
	// Our own placeholder is never forwarded to a service that cannot know it.
	g := w.grant(broker.GrantSpec{Mode: authsome.ConfiguredAllow})
	_, err := w.Resolve(ctx, g, request("api.groq.com", "/openai/v1/models", "Authorization", "Bearer "+authsome.Placeholder))
	wantCode(t, err, authsome.CredentialMissing)
	var refused *authsome.Error
	if !errors.As(err, &refused) || refused.Provider != "groq" || refused.Hint != "authsome login groq" {
		t.Errorf("a refusal that an agent cannot act on: %+v", refused)
	}
	if !w.recorded(authsome.EventProxyNoCredentials, "denied") || !w.recorded(authsome.EventProxyDenied, "denied") {
		t.Error("refusals are not in the audit")
	}
}

func TestResolveChoosesTheAccount(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("github", "personal", githubKey, false)
	w.login("github", "work", workKey, false)
	get := func(g *authsome.Grant, header ...string) string {
		t.Helper()
		res, err := w.Resolve(ctx, g, request("api.github.com", "/user", header...))
		if err != nil {
			t.Fatal(err)
		}
		return set(res, "Authorization")
	}
	plain, chosen := w.grant(broker.GrantSpec{}), w.grant(broker.GrantSpec{Choices: map[string]string{"github": "work"}})
	if get(plain) != "Bearer "+githubKey {
		t.Error("not the default")
	}
	if get(chosen) != "Bearer "+workKey {
		t.Error("not the run's choice")
	}
	if get(plain, "Authorization", "token "+authsome.Placeholder+".work") != "Bearer "+workKey {
		t.Error("not the account that the placeholder names")
	}
	if get(chosen, "Authorization", basic("x:"+authsome.Placeholder+".personal")) != "Bearer "+githubKey {
		t.Error("not the account that the placeholder inside Basic names")
	}
	if get(plain, "Authorization", "Bearer the-childs-own") != "Bearer "+githubKey {
		t.Error("the child's own header won")
	}
	_, err := w.Resolve(ctx, plain, request("api.github.com", "/user", "Authorization", "token "+authsome.Placeholder+".nobody"))
	wantCode(t, err, authsome.CredentialMissing)
	_, _, _, err = w.StartGrant(ctx, me, broker.GrantSpec{Choices: map[string]string{"github": "nobody"}})
	wantCode(t, err, authsome.ConnectionNotFound)
}

// TestResolveAmbiguous registers a second claim on the same path: neither gets
// the credential, and under deny the agent is told why.
func TestResolveAmbiguous(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("openai", "", openaiKey, false)
	if _, err := w.Register(ctx, me, "acme.json", []byte(acme("api.openai.com")), false, false); err != nil {
		t.Fatal(err)
	}
	w.login("acme", "", "k-0123456789", false)
	res, err := w.Resolve(ctx, w.grant(broker.GrantSpec{}), request("api.openai.com", "/v1/models"))
	if err != nil || res.Verdict != authsome.Forward {
		t.Errorf("an ambiguous request under allow: %+v, %v", res, err)
	}
	_, err = w.Resolve(ctx, w.grant(broker.GrantSpec{Mode: authsome.ConnectedDeny}), request("api.openai.com", "/v1/models"))
	wantCode(t, err, authsome.Ambiguous)
}

func TestResolveChallenge(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("github", "", githubKey, false)
	g := w.grant(broker.GrantSpec{})
	ask := func(repo string, challenged bool, header ...string) *authsome.Resolution {
		t.Helper()
		r := request("github.com", repo+".git/info/refs", header...)
		r.Repository, r.Challenged = repo, challenged
		res, err := w.Resolve(ctx, g, r)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if r := ask("/acme/secret", false); r.Verdict != authsome.Challenge || len(r.Set) != 0 {
		t.Errorf("before a challenge: %+v", r)
	}
	want := basic("x-access-token:" + githubKey)
	if r := ask("/acme/secret", true); r.Verdict != authsome.Inject || set(r, "Authorization") != want {
		t.Errorf("on a challenge: %s", r.Verdict)
	}
	if r := ask("/acme/secret", false); r.Verdict != authsome.Inject {
		t.Errorf("after a challenge: %s", r.Verdict)
	}
	if r := ask("/acme/public", false); r.Verdict != authsome.Challenge {
		t.Errorf("another repository: %s", r.Verdict)
	}
	long := "/acme/" + strings.Repeat("r", 2000)
	if r := ask(long, true); r.Verdict != authsome.Inject {
		t.Errorf("on a challenge of a long path: %s", r.Verdict)
	}
	if r := ask(long, false); r.Verdict != authsome.Challenge {
		t.Errorf("a path of any length is remembered: %s", r.Verdict)
	}
	if r := ask("/acme/other", false, "Authorization", basic("x-access-token:"+authsome.Placeholder)); set(r, "Authorization") != want {
		t.Errorf("a placeholder is as good as a challenge: %s", r.Verdict)
	}
	g = w.grant(broker.GrantSpec{})
	if r := ask("/acme/secret", false); r.Verdict != authsome.Challenge {
		t.Errorf("another run remembers: %s", r.Verdict)
	}
}

func TestGrantLife(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("openai", "", openaiKey, false)
	g, token, secret, err := w.StartGrant(ctx, me, broker.GrantSpec{Program: "codex"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := w.Grant(token.Reveal()); !ok {
		t.Fatal("the token does not open its grant")
	}
	if _, ok := w.Grant(secret.Reveal()); ok {
		t.Error("the renewal secret opens the grant")
	}
	if _, ok := w.Grant(""); ok {
		t.Error("no token opens a grant")
	}

	w.restart()
	if _, ok := w.Grant(token.Reveal()); ok {
		t.Error("the grant lives before its run came back")
	}
	for name, try := range map[string]struct {
		id            authsome.Identity
		token, secret authsome.Secret
	}{
		"wrong token":   {me, authsome.NewSecret("x"), secret},
		"wrong secret":  {me, token, token},
		"inside a run":  {authsome.Identity{Vault: me.Vault, User: me.User, Run: g.ID}, token, secret},
		"another vault": {authsome.Identity{Vault: "other", User: me.User}, token, secret},
	} {
		_, err := w.ResumeGrant(ctx, try.id, g.ID, try.token, try.secret)
		if authsome.CodeOf(err) != authsome.Forbidden {
			t.Errorf("resume with %s: %v", name, err)
		}
	}
	if back, err := w.ResumeGrant(ctx, me, g.ID, token, secret); err != nil || back.Program != "codex" {
		t.Fatalf("resume: %v", err)
	}
	if _, ok := w.Grant(token.Reveal()); !ok {
		t.Error("the resumed grant is dead")
	}
	cur, _ := w.GrantByID(g.ID)
	res, err := w.Resolve(ctx, cur, request("api.openai.com", "/v1/models"))
	if err != nil || !w.Current(cur, res.Provider, res.Connection, res.Generation) {
		t.Fatalf("a stream of the resumed grant is not current: %v", err)
	}
	w.login("openai", "", openaiKey, true)
	if w.Current(cur, res.Provider, res.Connection, res.Generation) {
		t.Error("a stream outlives the credential that it was opened with")
	}
	before := w.changes
	if err := w.EndGrant(ctx, g.ID); err != nil {
		t.Fatal(err)
	}
	if w.changes == before {
		t.Error("nobody was told that the grant is over")
	}
	if _, ok := w.Grant(token.Reveal()); ok {
		t.Error("the token works after the end")
	}
	_, err = w.Resolve(ctx, cur, request("api.openai.com", "/v1/models"))
	wantCode(t, err, authsome.Forbidden)
	w.restart()
	_, err = w.ResumeGrant(ctx, me, g.ID, token, secret)
	wantCode(t, err, authsome.Forbidden)
	for _, typ := range []authsome.EventType{authsome.EventRunStarted, authsome.EventRunResumed, authsome.EventRunEnded} {
		if !w.recorded(typ, "ok") {
			t.Errorf("no %s in the audit", typ)
		}
	}
}

func TestGrantWhoseRunNeverComesBack(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	g, token, secret, err := w.StartGrant(ctx, me, broker.GrantSpec{})
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	loaded := w.now
	w.now = w.now.Add(time.Hour)
	w.Sweep(ctx, loaded)
	_, err = w.ResumeGrant(ctx, me, g.ID, token, secret)
	wantCode(t, err, authsome.Forbidden)
}

// TestSweepLeavesARunThatComesBack: of two runs that are late, one comes back while the
// other is being ended.
func TestSweepLeavesARunThatComesBack(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	type run struct {
		id            string
		token, secret authsome.Secret
	}
	var runs []run
	for range 2 {
		g, token, secret, err := w.StartGrant(ctx, me, broker.GrantSpec{Program: "codex"})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run{g.ID, token, secret})
	}
	w.restart()
	back := ""
	w.store.deleted = func() {
		for _, r := range runs {
			if g, err := w.ResumeGrant(ctx, me, r.id, r.token, r.secret); err == nil {
				back = g.ID
			}
		}
	}
	w.Sweep(ctx, w.now.Add(-time.Hour))
	if _, ok := w.GrantByID(back); !ok {
		t.Errorf("the run %q came back, and was ended", back)
	}
}

func TestPlaceholdersAndLeaks(t *testing.T) {
	w := newWorld(t)
	w.login("openai", "", openaiKey, false)
	w.login("github", "work", githubKey, false)
	g := w.grant(broker.GrantSpec{})
	env, hosts, providers := w.Placeholders(g)
	for _, name := range []string{"OPENAI_API_KEY", "CODEX_API_KEY", "GITHUB_TOKEN", "GH_TOKEN"} {
		if env[name] != authsome.Placeholder {
			t.Errorf("%s = %q", name, env[name])
		}
	}
	if _, ok := env["GROQ_API_KEY"]; ok {
		t.Error("a placeholder for a provider that is not connected")
	}
	if !slices.Contains(hosts, "api.openai.com") || !slices.Contains(hosts, "github.com") {
		t.Errorf("hosts %v", hosts)
	}
	if providers["github"] != "work" {
		t.Errorf("providers %v", providers)
	}
	hash := func(v string) string {
		s := sha256.Sum256([]byte("salt" + v))
		return hex.EncodeToString(s[:])
	}
	leaked := w.Leaked(g, "salt", map[string]string{"MY_KEY": hash(openaiKey), "PATH": hash("/usr/bin"), "B": hash(githubKey)})
	if !slices.Equal(leaked, []string{"B", "MY_KEY"}) {
		t.Errorf("leaked %v", leaked)
	}
}

// TestUnrecordedRequestsAreRefused closes the spool under the broker, as a full
// disk would: no credential may leave unrecorded.
func TestUnrecordedRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.login("openai", "", openaiKey, false)
	g := w.grant(broker.GrantSpec{})
	if err := w.spool.Close(); err != nil {
		t.Fatal(err)
	}
	res, err := w.Resolve(context.Background(), g, request("api.openai.com", "/v1/models"))
	wantCode(t, err, authsome.StoreFailed)
	if res != nil {
		t.Error("a credential was given out unrecorded")
	}
}

// TestSwappedRowsDoNotOpen moves one connection's ciphertext into another's
// row, as somebody who can write the database could.
func TestSwappedRowsDoNotOpen(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("github", "personal", githubKey, false)
	w.login("github", "work", workKey, false)
	rows, err := w.store.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	stolen := rows[0]
	stolen.Sealed = rows[1].Sealed
	stolen.Connection.Version++
	ev := authsome.Event{ID: "audit_test", Type: authsome.EventLogin, Status: "ok", Time: w.now, Vault: authsome.LocalVault}
	if err := w.store.SaveConnection(ctx, stolen, false, ev); err != nil {
		t.Fatal(err)
	}
	w.restart()
	_, _, err = w.Reveal(ctx, me, "github", stolen.Connection.Name)
	wantCode(t, err, authsome.VaultFailed)
	g := w.grant(broker.GrantSpec{Choices: map[string]string{"github": stolen.Connection.Name}})
	_, err = w.Resolve(ctx, g, request("api.github.com", "/user"))
	wantCode(t, err, authsome.VaultFailed)
}

func BenchmarkResolve(b *testing.B) {
	w := newWorld(b)
	w.login("openai", "", openaiKey, false)
	g := w.grant(broker.GrantSpec{})
	req := request("api.openai.com", "/v1/responses", "Authorization", "Bearer "+authsome.Placeholder)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Resolve(context.Background(), g, req); err != nil {
			b.Fatal(err)
		}
	}
}

// TestConnectedBeforeConfigured: where all providers are routed, one that nobody
// has logged in to does not take the requests of one that is connected.
func TestConnectedBeforeConfigured(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const whole, part = `{"schema_version":1,"name":"whole","auth_type":"api_key","api_url":"api.acme.example"}`,
		`{"schema_version":1,"name":"part","auth_type":"api_key","api_url":"https://api.acme.example/v1"}`
	for _, def := range []string{whole, part} {
		if _, err := w.Register(ctx, me, "x.json", []byte(def), false, false); err != nil {
			t.Fatal(err)
		}
	}
	g := w.grant(broker.GrantSpec{Mode: authsome.ConfiguredDeny})
	_, err := w.Resolve(ctx, g, request("api.acme.example", "/v1/me"))
	wantCode(t, err, authsome.CredentialMissing)
	w.login("whole", "", "canary-key-0123456789", false)
	if res, err := w.Resolve(ctx, g, request("api.acme.example", "/v1/me")); err != nil || res.Provider != "whole" {
		t.Errorf("%+v, %v", res, err)
	}
	w.login("part", "", "canary-key-part-0123456789", false)
	if res, err := w.Resolve(ctx, g, request("api.acme.example", "/v1/me")); err != nil || res.Provider != "part" {
		t.Errorf("the closer one is connected now: %+v, %v", res, err)
	}
}

// TestResolveUnclear: a request that services would take for another route's, by its path
// or by a header that names another method, is refused in every mode.
func TestResolveUnclear(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const def = `{"name":"acme","auth_type":"api_key","routes":[{"host":"api.acme.example","path":"/v1","methods":["GET"],"inject":[{"header":"X-Key","value":"{token}"}]}]}`
	if _, err := w.Register(ctx, me, "acme.json", []byte(def), false, false); err != nil {
		t.Fatal(err)
	}
	w.login("acme", "", "k-0123456789", false)
	for _, mode := range []authsome.Mode{authsome.ConnectedAllow, authsome.ConnectedDeny, authsome.ConfiguredAllow, authsome.ConfiguredDeny} {
		g := w.grant(broker.GrantSpec{Mode: mode})
		for _, path := range []string{"/v1/x//y", "/v1/a%2Fb"} {
			if res, err := w.Resolve(ctx, g, request("api.acme.example", path)); err != nil || res.Verdict != authsome.Inject {
				t.Errorf("%s, %s: %+v, %v", mode, path, res, err)
			}
		}
		for _, path := range []string{"//v1/x", "/v1%2Fx", "/v1;x"} {
			_, err := w.Resolve(ctx, g, request("api.acme.example", path))
			wantCode(t, err, authsome.Invalid)
		}
		other := request("api.acme.example", "/v1/x")
		other.Overrides = []string{"DELETE"}
		_, err := w.Resolve(ctx, g, other)
		wantCode(t, err, authsome.Invalid)
	}
}
