package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/internal/oauthtest"
)

// serveWith is serveIn for a daemon whose logins are made at a test's
// authorization server, with the provider "acme" and its OAuth app set up.
func serveWith(t *testing.T, auth *oauthtest.Server, c Config) (*Daemon, *api.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.Version = "v1"
	d, err := open(ctx, c)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	d.broker.Flow = flow.New(flow.Config{Proxy: auth.Proxy(), Roots: auth.Pool()})
	done := make(chan error, 1)
	go func() {
		err := d.serve(ctx)
		d.close()
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	client := &api.Client{Home: d.home, Wait: 10 * time.Second}
	t.Cleanup(client.Close)
	if _, err := client.Register(ctx, api.Registration{Filename: "acme.json", Definition: string(auth.Definition(""))}); err != nil {
		t.Fatal(err)
	}
	app := authsome.OAuthClient{ID: "app", Secret: authsome.NewSecret(oauthtest.Secret)}
	if err := client.SetClient(ctx, "acme", "", app); err != nil {
		t.Fatal(err)
	}
	return d, client
}

// begin starts a login to acme.
func begin(t *testing.T, c *api.Client, connection string) api.Login {
	t.Helper()
	l, err := c.BeginLogin(context.Background(), api.LoginRequest{Provider: "acme", Connection: connection, Flow: string(authsome.FlowPKCE)})
	if err != nil {
		t.Fatal(err)
	}
	if l.Step != authsome.StepAuthorize || l.URL == "" {
		t.Fatalf("the login is %+v", l)
	}
	return l
}

// state is how a login stands.
func state(t *testing.T, c *api.Client, l api.Login) api.Login {
	t.Helper()
	now, err := c.Login(context.Background(), l.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// of gives a parameter of an address.
func of(t *testing.T, address, name string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get(name)
}

// connections are the names of what is connected to acme.
func connections(t *testing.T, c *api.Client) []string {
	t.Helper()
	p, err := c.Provider(context.Background(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, conn := range p.Connections {
		names = append(names, conn.ConnectionName)
	}
	return names
}

// acts are the types of what a home has recorded.
func acts(t *testing.T, c *api.Client) []authsome.EventType {
	t.Helper()
	page, err := c.Events(context.Background(), api.EventsQuery{FromStart: true, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var types []authsome.EventType
	for _, ev := range page.Entries {
		types = append(types, ev.Type)
	}
	return types
}

// twoHomes are two homes of one person, which want the same port for browsers.
// The first gets it.
func twoHomes(t *testing.T) (auth *oauthtest.Server, callback string, first, second *api.Client) {
	t.Helper()
	auth = oauthtest.New(t)
	home, port := newHome(t)
	_, first = serveWith(t, auth, Config{Home: home, Port: port})
	d, second := serveWith(t, auth, Config{Home: filepath.Join(filepath.Dir(home), "second"), Port: port})
	if d.browser.port() == port {
		t.Fatal("both homes have the port")
	}
	return auth, fmt.Sprintf("http://127.0.0.1:%d%s", port, authsome.CallbackPath), first, second
}

// TestCallbackForAnotherHome: the home that has the port hands on what belongs to
// the other, and keeps nothing of it.
func TestCallbackForAnotherHome(t *testing.T) {
	auth, callback, first, second := twoHomes(t)
	before := acts(t, first)
	l := begin(t, second, "")
	if got := of(t, l.URL, "redirect_uri"); got != callback {
		t.Errorf("the browser is led back to %s, want %s", got, callback)
	}
	consent := auth.Consent(t, l.URL)

	// What nobody waits for is refused by both, and ends nothing.
	for _, query := range []string{"state=of-nobody&code=x", "code=" + consent.Get("code"), "state=&code=x", "state=of-nobody&error=access_denied"} {
		if status, _ := get(t, callback+"?"+query); status != http.StatusBadRequest {
			t.Errorf("%s: HTTP %d", query, status)
		}
	}
	if now := state(t, second, l); now.Status != authsome.LoginWaiting || now.Step != authsome.StepAuthorize {
		t.Fatalf("the login is %+v", now)
	}

	status, page := get(t, callback+"?"+consent.Encode())
	if status != http.StatusOK || !strings.Contains(page, "acme") || !strings.Contains(page, "octocat") {
		t.Errorf("HTTP %d: %s", status, page)
	}
	if strings.Contains(page, consent.Get("code")) || strings.Contains(page, consent.Get("state")) {
		t.Error("the page shows what came")
	}
	if now := state(t, second, l); now.Status != authsome.LoginCompleted {
		t.Errorf("the login is %+v", now)
	}
	if a, b := connections(t, first), connections(t, second); len(a) != 0 || len(b) != 1 {
		t.Errorf("connected are %q here and %q there", a, b)
	}
	if status, _ := get(t, callback+"?"+consent.Encode()); status != http.StatusBadRequest {
		t.Errorf("a replay: HTTP %d", status)
	}
	if n := auth.Count("authorization_code"); n != 1 {
		t.Errorf("the code was sent %d times", n)
	}

	// A no is told there at once, and said here without a word of the server's.
	l = begin(t, second, "other")
	no := url.Values{"state": {of(t, l.URL, "state")}, "error": {"access_denied"}, "error_description": {"<script>alert(1)</script>"}}
	status, page = get(t, callback+"?"+no.Encode())
	if status != http.StatusBadRequest || !strings.Contains(page, "cancelled") || strings.Contains(page, "<script>alert") {
		t.Errorf("HTTP %d: %s", status, page)
	}
	if now := state(t, second, l); now.Status != authsome.LoginFailed || now.Code != string(authsome.Cancelled) {
		t.Errorf("the login is %+v", now)
	}
	if after := acts(t, first); !slices.Equal(before, after) {
		t.Errorf("the first home has recorded %v, and %v before", after, before)
	}
}

// TestCallbackIsNotHandedOnTwice: each home hands on what is not its own, but not
// what was handed to it.
func TestCallbackIsNotHandedOnTwice(t *testing.T) {
	_, _, first, second := twoHomes(t)
	l := begin(t, second, "")
	query := url.Values{"state": {of(t, l.URL, "state")}, "error": {"access_denied"}}.Encode()
	if _, err := first.Callback(context.Background(), query); authsome.CodeOf(err) != authsome.ConnectionNotFound {
		t.Errorf("handed to the wrong home: %v", err)
	}
	if now := state(t, second, l); now.Status != authsome.LoginWaiting {
		t.Errorf("the login is %+v", now)
	}
	if _, err := second.Callback(context.Background(), query); authsome.CodeOf(err) != authsome.Cancelled {
		t.Errorf("handed to the right home: %v", err)
	}
	if now := state(t, second, l); now.Code != string(authsome.Cancelled) {
		t.Errorf("the login is %+v", now)
	}
	if _, err := second.Callback(context.Background(), "%zz"); authsome.CodeOf(err) != authsome.Invalid {
		t.Errorf("a query that cannot be read: %v", err)
	}
}

// TestCallbackPastAHomeThatHangs: the daemon of a third home takes connections and
// never answers. Neither the login nor the callback waits for it.
func TestCallbackPastAHomeThatHangs(t *testing.T) {
	auth, callback, _, second := twoHomes(t)
	for _, name := range []string{"a", "b", "c"} { // wherever they stand among the sockets
		path, err := api.SocketPath(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
	}
	l := begin(t, second, "")
	if status, page := get(t, callback+"?"+auth.Consent(t, l.URL).Encode()); status != http.StatusOK {
		t.Errorf("HTTP %d: %s", status, page)
	}
	if now := state(t, second, l); now.Status != authsome.LoginCompleted {
		t.Errorf("the login is %+v", now)
	}
}

// TestNoWayBack: a login by consent needs the port. It says who has it instead, or
// that nobody has any more, and asks the server for nothing.
func TestNoWayBack(t *testing.T) {
	auth := oauthtest.New(t)
	home, port := newHome(t)
	ln, err := listenLoopback(port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, c := serveWith(t, auth, Config{Home: home, Port: port})
	refused := func(says, hint string) {
		t.Helper()
		_, err := c.BeginLogin(context.Background(), api.LoginRequest{Provider: "acme", Flow: string(authsome.FlowPKCE)})
		if authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(err.Error(), says) ||
			!strings.Contains(err.Error(), fmt.Sprint(port)) || !strings.Contains(authsome.HintOf(err), hint) {
			t.Errorf("%v (hint: %s); want %q and %q", err, authsome.HintOf(err), says, hint)
		}
	}
	refused("process ", "--flow device_code")
	l, err := c.BeginLogin(context.Background(), api.LoginRequest{Provider: "acme", Flow: string(authsome.FlowDeviceCode)})
	if err != nil || l.UserCode == "" {
		t.Errorf("a login by code needs no port: %+v, %v", l, err)
	}
	_ = ln.Close()
	refused("is free now", "authsome daemon restart")
	if n := auth.Count("authorization_code"); n != 0 {
		t.Errorf("%d codes were exchanged", n)
	}
}
