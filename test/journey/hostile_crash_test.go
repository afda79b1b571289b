package journey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/oauthserver"
)

// appSecret is that of the app that the certified server knows.
const appSecret = "canaryCertifiedClientSecret0123456789"

// certified is the certified authorization server with the API that judges its
// tokens, in a world where "acme" is defined to log in there.
type certified struct {
	*oauthserver.Server
	w *harness.World
}

// newCertified makes one whose refresh tokens rotate: one that comes a second time
// ends its family. To be seen to expire, tokens are said to live for `seconds`;
// the server itself takes them for an hour. delay is how long each token answer is
// on its way.
func newCertified(t *testing.T, seconds int, delay func() time.Duration) *certified {
	t.Helper()
	w := newWorld(t)
	const host = "auth.acme.example"
	s, err := oauthserver.Start(oauthserver.Config{
		Host: host, Rotate: true, Device: true, DeviceInterval: 1,
		Clients: []oauthserver.Client{oauthserver.NewClient("acme-app", appSecret, "", w.Redirect()).
			Grants(oauthserver.GrantCode, oauthserver.GrantRefresh, oauthserver.GrantDevice)},
	})
	if errors.Is(err, oauthserver.ErrNotInstalled) {
		if _, derr := os.Stat("/etc/debian_version"); derr != nil {
			t.Skip(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w.Internet.Handle(host, s)
	w.Internet.Handle("api.acme.example", s.API())
	w.Internet.Replace(host, "/token", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The server acts on the request even if whoever sent it is dead by now.
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r.WithContext(t.Context()))
		body := rec.Body.Bytes()
		var m map[string]any
		if json.Unmarshal(body, &m) == nil && m["expires_in"] != nil {
			m["expires_in"] = seconds
			body, _ = json.Marshal(m)
			time.Sleep(delay())
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(body)
	}))
	definition := filepath.Join(w.Work(), "acme.json")
	if err := os.WriteFile(definition, fmt.Appendf(nil, `{
		"schema_version": 1, "name": "acme", "auth_type": "oauth2", "flow": "pkce", "flows": ["pkce", "device_code"], "api_url": "https://api.acme.example",
		"oauth": {
			"authorization_url": "%[1]s", "token_url": "%[2]s", "device_authorization_url": "%[3]s", "revocation_url": "%[4]s", "scopes": ["read"]
		}
	}`, s.Endpoint("/auth"), s.Endpoint("/token"), s.Endpoint("/device/auth"), s.Endpoint("/token/revocation")), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, w.Command("register", definition, "--yes"))
	must(t, w.Command("provider", "set-client", "acme", "--client-id", "acme-app", "--secret-stdin").Input(appSecret))
	return &certified{s, w}
}

// logsIn connects acme, or connects it again.
func (c *certified) logsIn(t *testing.T) {
	t.Helper()
	a := attempts(t, c.w, "acme", "--flow", "pkce", "--force")
	consents(t, c.w, a.visit())
	a.succeeds()
}

func (c *certified) stats(t *testing.T) oauthserver.Stats {
	t.Helper()
	st, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// secrets are all that the server ever gave out.
func (c *certified) secrets(t *testing.T) []string {
	t.Helper()
	tokens, err := c.Tokens()
	if err != nil || len(tokens) == 0 {
		t.Fatalf("%d tokens: %v", len(tokens), err)
	}
	out := []string{appSecret}
	for _, tok := range tokens {
		if tok.Value != "" {
			out = append(out, tok.Value)
		}
	}
	return out
}

func noDelay() time.Duration { return 0 }

// TestDaemonDiesDuringLogins kills the daemon while logins wait for their person.
// Each is a row, and goes on with the next daemon: as the command that waits sees
// it, and as a program that polls does.
func TestDaemonDiesDuringLogins(t *testing.T) {
	c := newCertified(t, 3600, noDelay)
	w := c.w
	pkce := attempts(t, w, "acme", "--flow", "pkce", "--connection", "pkce")
	consentAt := pkce.visit()
	device := attempts(t, w, "acme", "--flow", "device_code", "--connection", "device")
	deviceAt, code := device.visit(), device.says("Code:")
	polled := verdictOf(t, 0, must(t, w.Command("login", "acme", "--flow", "pkce", "--connection", "polled", "--no-wait", "--json")))

	// Those that wait are held meanwhile: they would be quicker to start a daemon,
	// which would not be one in front of the fake internet.
	waiting := []*attempt{pkce, device}
	hold := func(s syscall.Signal) {
		for _, a := range waiting {
			if err := a.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	hold(syscall.SIGSTOP)
	w.KillDaemon()
	// Any command starts the next daemon, and it knows the login.
	v := verdictOf(t, 0, must(t, w.Command("login", "--status", polled.Session)))
	if v.Status != "waiting_for_user" || v.Step != "authorize" || v.AuthURL != polled.AuthURL || v.AuthURL == "" {
		t.Errorf("after the daemon's death the login is %+v, and was %+v", v, polled)
	}
	must(t, w.Command("daemon", "stop"))
	if err := w.Serve(); err != nil {
		t.Fatal(err)
	}
	hold(syscall.SIGCONT)

	if page := consents(t, w, consentAt); page.Status != http.StatusOK {
		t.Errorf("the callback's page is %d: %s", page.Status, page.Text)
	}
	pkce.succeeds()
	if _, err := person(t, w, "hubot").Device(within(t), deviceAt, code); err != nil {
		t.Fatal(err)
	}
	device.succeeds()
	consents(t, w, polled.AuthURL)
	if v = verdictOf(t, 0, must(t, w.Command("login", "--status", polled.Session))); v.Status != "completed" {
		t.Errorf("the login that was polled is %+v", v)
	}
	holds(t, w, "acme", "acme/pkce connected", "acme/device connected", "acme/polled connected")
	if st := c.stats(t); st.Reused != 0 {
		t.Errorf("%d codes were sent twice", st.Reused)
	}
	keepsQuiet(t, w, pkce.printed()+device.printed(), c.secrets(t)...)
}

// kills is how often TestDaemonDiesDuringRefreshes kills the daemon.
const kills = 20

// TestDaemonDiesDuringRefreshes kills the daemon at random moments while a child
// asks and asks and its tokens are renewed all the time, each answer taking its
// time on the way. Every request waits through the restart and succeeds, but for
// the one that was under way. Only a kill between the server's answer and its
// arrival can cost the login, since the server takes an old token no more; then
// the child is told what to do, and that is all that it takes.
func TestDaemonDiesDuringRefreshes(t *testing.T) {
	c := newCertified(t, 1, func() time.Duration { return time.Duration(rand.IntN(200)) * time.Millisecond })
	w := c.w
	c.logsIn(t)
	answers := filepath.Join(w.Work(), "body")
	run := w.Command("run", "--", "sh", "-c", `while :; do
  curl -sS -m 60 -o "$0" -w '%{http_code} ' https://api.acme.example/v1/me 2>/dev/null; tr -d '\n' < "$0"; : > "$0"; echo
done`, answers).Cmd()
	out := lines(t, run)

	// answer is the next one that tells how the child is doing: nothing, as from a
	// request that was cut off, is not.
	broken := 0
	answer := func() string {
		t.Helper()
		for {
			select {
			case l, ok := <-out:
				if !ok {
					t.Fatal("the child has ended")
				}
				if l = strings.TrimSpace(l); !strings.HasPrefix(l, "000") {
					return l
				}
				broken++
			case <-time.After(patience):
				t.Fatal("the child's request waits for ever")
			}
		}
	}
	answer() // the run has begun
	lost := 0
	for kill := range kills {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond) // any moment
		replaceDaemon(t, w, run)
		for len(out) > 0 {
			switch l := <-out; {
			case strings.HasPrefix(l, "000"):
				broken++
			case !strings.HasPrefix(l, "200 "):
				t.Fatalf("before kill %d the child gets %q", kill, l)
			}
		}
		// The first answer may be to a request that had left before.
		answer()
		l := answer()
		if strings.HasPrefix(l, "200 ") {
			continue
		}
		// The family is gone: the server must have ended it, and the child know.
		lost++
		var body struct{ Error, Provider, Fix string }
		text, ok := strings.CutPrefix(l, "401 ")
		if err := json.Unmarshal([]byte(text), &body); !ok || err != nil ||
			body.Error != "reauthentication_required" || body.Provider != "acme" || !strings.Contains(body.Fix, "authsome login acme") {
			t.Fatalf("after kill %d the child gets %q (%v)", kill, l, err)
		}
		if st := c.stats(t); st.Reused != lost {
			t.Fatalf("%d logins were lost, but the server has seen %d reuses", lost, st.Reused)
		}
		c.logsIn(t)
		for end := time.Now().Add(patience); !strings.HasPrefix(answer(), "200 "); {
			if time.Now().After(end) {
				t.Fatal("after another login the child gets no answer")
			}
		}
	}
	st := c.stats(t)
	refreshes, _ := st.Count(oauthserver.GrantRefresh)
	t.Logf("%d kills, %d refreshes: %d logins lost, %d requests cut off", kills, refreshes, lost, broken)
	if st.Reused != lost {
		t.Errorf("%d logins were lost, and %d refresh tokens came twice", lost, st.Reused)
	}
	if refreshes == 0 {
		t.Error("no token was ever renewed")
	}
	if broken > kills {
		t.Errorf("%d requests were cut off by %d kills", broken, kills)
	}
	log := must(t, w.Command("log", "--json", "-n", "100000"))
	if n := bytes.Count([]byte(log), []byte("run.resumed")); n == 0 {
		t.Error("the run was never resumed")
	}
	holds(t, w, "acme", "acme/default connected")
	keepsQuiet(t, w, "", c.secrets(t)...)
}
