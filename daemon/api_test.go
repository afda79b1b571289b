package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// throughProxy makes a request as a child would, to the host that the proxy
// answers itself.
func throughProxy(proxy string, info api.GrantInfo) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(info.CA)) {
		return fmt.Errorf("no CA in %q", info.CA)
	}
	client := &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("run", info.Token)}),
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true,
		},
	}
	resp, err := client.Get("https://" + authsome.SelfCheckHost + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return nil
}

func login(t *testing.T, c *api.Client, provider, connection, key string) api.Login {
	t.Helper()
	l, err := c.BeginLogin(context.Background(), api.LoginRequest{Provider: provider, Connection: connection})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Fields) == 0 || l.URL == "" || l.Status != authsome.LoginWaiting {
		t.Fatalf("the login is %+v", l)
	}
	done, err := c.SubmitLogin(context.Background(), l.ID, map[string]authsome.Secret{l.Fields[0].Name: authsome.NewSecret(key)})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

const openaiKey = "sk-proj-canaryAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestAPI(t *testing.T) {
	d, c := inProcess(t)
	ctx := context.Background()

	h := health(t, c)
	if h.Status != "ok" || h.Version != "v1" || h.Mode != "local" || h.Home != d.home || h.Browser != "http://"+d.browser.host() {
		t.Errorf("health is %+v", h)
	}

	l := login(t, c, "openai", "", openaiKey)
	if l.Status != authsome.LoginCompleted || l.Connection != "default" || !l.Default || l.URL != "" {
		t.Errorf("the login ended as %+v", l)
	}
	again, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "openai"})
	if err != nil || !again.Already {
		t.Errorf("a second login: %+v, %v", again, err)
	}
	login(t, c, "openai", "work", openaiKey+"B")

	all, err := c.Providers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range all {
		found = found || p.Name == "openai" && len(p.Connections) == 2 && p.Connections[0].IsDefault && p.Definition == nil
	}
	if !found {
		t.Errorf("list lacks the connections: %+v", all)
	}
	p, err := c.Provider(ctx, "openai")
	if err != nil || len(p.Definition) == 0 || len(p.Hosts) == 0 || len(p.Flows) == 0 {
		t.Errorf("inspect: %+v, %v", p, err)
	}

	conn, err := c.Connection(ctx, "openai", "", false)
	if err != nil || conn.ConnectionName != "default" || conn.Fields["api_key"] != api.Redacted || conn.ObtainedAt == nil || conn.ExpiresAt != nil {
		t.Errorf("get: %+v, %v", conn, err)
	}
	conn, err = c.Connection(ctx, "openai", "work", true)
	if err != nil || conn.Fields["api_key"] != openaiKey+"B" {
		t.Errorf("get --show-secret: %v", err)
	}
	if err := c.SetDefault(ctx, "openai", "work"); err != nil {
		t.Error(err)
	}
	if conn, err = c.Connection(ctx, "openai", "", false); err != nil || conn.ConnectionName != "work" || !conn.IsDefault {
		t.Errorf("after set-default: %+v, %v", conn, err)
	}
	exported, err := c.Export(ctx, api.ExportRequest{Provider: "openai"})
	if err != nil || len(exported.Credentials) == 0 || exported.Credentials[0].Value != openaiKey+"B" {
		t.Errorf("export: %d, %v", len(exported.Credentials), err)
	}

	who, err := c.Whoami(ctx)
	if err != nil || who.Version != "v1" || who.Home != d.home || who.ConnectedCount != 1 || who.Connected[0].Count != 2 ||
		who.EncryptionBackend == "" || who.RegistrationStatus != "local" || who.DaemonURL != h.Browser {
		t.Errorf("whoami: %+v, %v", who, err)
	}

	removed, err := c.Logout(ctx, "openai", "work")
	if err != nil || len(removed.Connections) != 1 || removed.Connections[0] != "work" {
		t.Errorf("logout: %+v, %v", removed, err)
	}
	removed, err = c.Revoke(ctx, "openai")
	if err != nil || len(removed.Connections) != 1 {
		t.Errorf("revoke: %+v, %v", removed, err)
	}

	const definition = `{
		// with a comment
		"schema_version": 1, "name": "acme", "display_name": "Acme", "auth_type": "api_key", "flow": "api_key",
		"api_url": "api.acme.example", "api_key": {"header_name": "Authorization", "header_prefix": "Bearer"}
	}`
	dry, err := c.Register(ctx, api.Registration{Filename: "acme.jsonc", Definition: definition, DryRun: true})
	if err != nil || dry.Provider.Name != "acme" {
		t.Errorf("register --dry-run: %+v, %v", dry, err)
	}
	if _, err := c.Provider(ctx, "acme"); authsome.CodeOf(err) != authsome.ProviderNotFound {
		t.Errorf("the dry run registered it: %v", err)
	}
	reg, err := c.Register(ctx, api.Registration{Filename: "acme.jsonc", Definition: definition})
	if err != nil || reg.Replaced || reg.Shadows || reg.Provider.Source != "custom" {
		t.Errorf("register: %+v, %v", reg, err)
	}
	if _, err := c.Register(ctx, api.Registration{Filename: "acme.jsonc", Definition: definition}); authsome.CodeOf(err) != authsome.ProviderExists {
		t.Errorf("register again: %v", err)
	}
	removed, err = c.Remove(ctx, "acme")
	if err != nil || !removed.Definition {
		t.Errorf("remove: %+v, %v", removed, err)
	}

	cancelled, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "openai"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CancelLogin(ctx, cancelled.ID); err != nil {
		t.Error(err)
	}
	if l, err := c.Login(ctx, cancelled.ID, time.Minute); err != nil || l.Status != authsome.LoginCancelled || l.Error == "" {
		t.Errorf("the cancelled login: %+v, %v", l, err)
	}

	for name, call := range map[string]func() error{
		"unknown provider":   func() error { _, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "opnai"}); return err },
		"unknown login":      func() error { _, err := c.Login(ctx, "sess_x", 0); return err },
		"unknown connection": func() error { _, err := c.Connection(ctx, "openai", "x", false); return err },
		"timeout": func() error {
			_, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "openai", Timeout: 1 << 40})
			return err
		},
		"limit":            func() error { _, err := c.Events(ctx, api.EventsQuery{Limit: maxEvents + 1}); return err },
		"not inside a run": func() error { _, err := c.GrantSelf(ctx); return err },
	} {
		switch err := call(); authsome.CodeOf(err) {
		case authsome.Invalid, authsome.ProviderNotFound, authsome.ConnectionNotFound:
		default:
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Nothing that a browser can be made to send is answered, on any path.
func TestEveryPathRefusesBrowsers(t *testing.T) {
	d, _ := inProcess(t)
	paths := []string{api.PathGrants, "/v1/grants/x/stream", "/v1/nothing", "/"}
	for p := range handlers {
		paths = append(paths, strings.NewReplacer("{p}", "openai", "{c}", "default", "{id}", "x").Replace(p))
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"} {
			for name, header := range map[string]string{
				"another host": "Host: 127.0.0.1\r\n",
				"an origin":    "Host: " + api.Host + "\r\nOrigin: http://evil.example\r\n",
				"a referer":    "Host: " + api.Host + "\r\nReferer: http://evil.example/\r\n",
				"a form":       "Host: " + api.Host + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n",
			} {
				status := rawRequest(t, d, fmt.Sprintf("%s %s HTTP/1.1\r\n%sConnection: close\r\n\r\na=b", method, path, header))
				if status != http.StatusForbidden {
					t.Errorf("%s %s with %s: HTTP %d", method, path, name, status)
				}
			}
		}
	}
}

func TestMethodsAndBodies(t *testing.T) {
	d, _ := inProcess(t)
	head := "Host: " + api.Host + "\r\nConnection: close\r\nContent-Type: application/json\r\n"
	for request, want := range map[string]int{
		"GET /v1/health HTTP/1.1\r\n" + head + "\r\n":                                                       200,
		"POST /v1/health HTTP/1.1\r\n" + head + "Content-Length: 2\r\n\r\n{}":                               400,
		"GET /v1/nothing HTTP/1.1\r\n" + head + "\r\n":                                                      400,
		"POST /v1/logins HTTP/1.1\r\n" + head + "Content-Length: 1\r\n\r\n{":                                400,
		"POST /v1/logins HTTP/1.1\r\n" + head + "Content-Length: 4\r\n\r\n{}{}":                             400,
		"POST /v1/logins HTTP/1.1\r\n" + head + "Content-Length: 7\r\n\r\n{\"x\":1}":                        400,
		"POST /v1/logins/sess_x/fields HTTP/1.1\r\n" + head + "Content-Length: 9\r\n\r\n{\"a\": 1 }":        400,
		"GET /v1/logins/x?wait=soon HTTP/1.1\r\n" + head + "\r\n":                                           400,
		"GET /v1/events?after=-1 HTTP/1.1\r\n" + head + "\r\n":                                              400,
		"GET /v1/grants HTTP/1.1\r\n" + head + "\r\n":                                                       400,
		"GET /v1/providers/%2E%2E HTTP/1.1\r\n" + head + "\r\n":                                             404,
		"POST /v1/logins HTTP/1.1\r\n" + head + fmt.Sprintf("Content-Length: %d\r\n\r\n", maxBody+1) + "{}": 400,
	} {
		if got := rawRequest(t, d, request); got != want {
			t.Errorf("%q: HTTP %d, want %d", strings.SplitN(request, "\r\n", 2)[0], got, want)
		}
	}
}

// rawRequest sends bytes to the socket and gives the status of the answer.
func rawRequest(t *testing.T, d *Daemon, text string) int {
	t.Helper()
	conn, err := net.Dial("unix", d.socket.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.UnixConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestEventsAreFollowed(t *testing.T) {
	_, c := inProcess(t)
	ctx := context.Background()
	start, err := c.Events(ctx, api.EventsQuery{})
	if err != nil || len(start.Entries) == 0 || start.Entries[len(start.Entries)-1].Type != authsome.EventDaemonStarted {
		t.Fatalf("the log begins with %+v, %v", start, err)
	}
	type page struct {
		api.Events
		err error
	}
	got := make(chan page, 1)
	go func() {
		ev, err := c.Events(ctx, api.EventsQuery{After: start.Next, Wait: time.Minute})
		got <- page{ev, err}
	}()
	select {
	case p := <-got:
		t.Fatalf("it did not wait: %+v", p)
	case <-time.After(50 * time.Millisecond):
	}
	login(t, c, "openai", "", openaiKey)
	p := <-got
	if p.err != nil || len(p.Entries) == 0 || p.Entries[0].Type != authsome.EventLogin || p.Next <= start.Next {
		t.Errorf("it was told %+v", p)
	}
	if ev, err := c.Events(ctx, api.EventsQuery{After: p.Next, Wait: time.Millisecond}); err != nil || len(ev.Entries) != 0 || ev.Next != p.Next {
		t.Errorf("when nothing comes: %+v, %v", ev, err)
	}
	if ev, err := c.Events(ctx, api.EventsQuery{FromStart: true, Limit: 1}); err != nil || len(ev.Entries) != 1 || ev.Entries[0].Seq != 1 {
		t.Errorf("from the start: %+v, %v", ev, err)
	}
}

func TestBrowserPort(t *testing.T) {
	d, _ := inProcess(t)
	status, body := get(t, "http://"+d.browser.host()+"/health")
	var h map[string]any
	decode(t, body, &h)
	if status != 200 || len(h) != 3 || h["status"] != "ok" || h["version"] != "v1" || h["mode"] != "local" {
		t.Errorf("/health: HTTP %d %s", status, body)
	}
	status, body = get(t, "http://"+d.browser.host()+"/ready")
	var r api.Ready
	decode(t, body, &r)
	if status != 200 || r.Status != "ready" || len(r.Checks) != len(checks) || len(r.Issues) != 0 {
		t.Errorf("/ready: HTTP %d %s", status, body)
	}
	// The API is not there.
	for path := range handlers {
		if status, body := get(t, "http://"+d.browser.host()+strings.NewReplacer("{p}", "openai", "{c}", "x", "{id}", "x").Replace(path)); status/100 == 2 {
			t.Errorf("%s on the browser's port: HTTP %d %s", path, status, body)
		}
	}
}

// No answer and no log line holds a key that was not asked for.
func TestKeysStayInside(t *testing.T) {
	d, c := inProcess(t)
	ctx := context.Background()
	l, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "openai"})
	if err != nil {
		t.Fatal(err)
	}
	ticket := l.URL[strings.LastIndex(l.URL, "=")+1:]
	if _, err := c.SubmitLogin(ctx, l.ID, map[string]authsome.Secret{"api_key": authsome.NewSecret(openaiKey + "\nX-Evil: 1")}); err == nil || strings.Contains(err.Error(), openaiKey) {
		t.Errorf("a key with a newline: %v", err)
	}
	if _, err := c.SubmitLogin(ctx, l.ID, map[string]authsome.Secret{"api_key": authsome.NewSecret(openaiKey)}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g, info, err := c.OpenGrant(ctx, ln, api.GrantRequest{Program: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := throughProxy(ln.Addr().String(), info); err != nil {
		t.Error(err)
	}
	for name, v := range info.Placeholders {
		if strings.Contains(v, "canary") {
			t.Errorf("placeholder %s is the key", name)
		}
	}
	if len(info.Placeholders) == 0 || info.Providers["openai"] != "default" || len(info.Hosts) == 0 {
		t.Errorf("the grant: %+v", info.Placeholders)
	}
	_ = g.Close()
	if _, err := c.Export(ctx, api.ExportRequest{}); err != nil {
		t.Error(err)
	}
	canaries := []string{"canary", ticket, info.Token, info.Secret}
	searchFiles(t, d.home, canaries)
}
