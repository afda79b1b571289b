package api_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// serve runs handler on the socket of a home and returns the home.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	runtimeDir(t)
	home := t.TempDir()
	serveHome(t, home, handler)
	return home
}

func serveHome(t *testing.T, home string, handler http.Handler) {
	t.Helper()
	ln, err := api.Listen(home)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

func TestEveryCodeHasAStatus(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Code" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes++
		code := authsome.Code(text)
		e := authsome.E(code, "message").WithHint("hint")
		back := api.FailureOf(fmt.Errorf("wrapped: %w", e)).Err()
		if back.Code != code || back.Message != "message" || back.Hint != "hint" {
			t.Errorf("%s comes back as %+v: not in the table", code, back)
		}
		if s := api.Status(code); s < 400 || s > 599 {
			t.Errorf("%s has status %d", code, s)
		}
		return true
	})
	if codes < 20 {
		t.Errorf("only %d codes were found", codes)
	}
}

func TestFailureHidesWhatIsNotForPeople(t *testing.T) {
	f := api.FailureOf(errors.New("row 3: sk-secret"))
	if f.Error != string(authsome.Internal) || strings.Contains(f.Message, "sk-secret") {
		t.Errorf("got %+v", f)
	}
	if e := (&api.Failure{Error: "FromTheFuture", Message: "m"}).Err(); e.Code != authsome.Internal || e.Message != "m" {
		t.Errorf("unknown code: %+v", e)
	}
}

func TestClientRequests(t *testing.T) {
	ctx := context.Background()
	key := map[string]authsome.Secret{"api_key": authsome.NewSecret("sk-1")}
	tests := []struct {
		call func(c *api.Client) error
		want string // method, path, body
	}{
		{func(c *api.Client) error { _, err := c.Health(ctx); return err }, "GET /v1/health "},
		{func(c *api.Client) error { _, err := c.Whoami(ctx); return err }, "GET /v1/whoami "},
		{func(c *api.Client) error { _, err := c.Doctor(ctx); return err }, "GET /v1/doctor "},
		{func(c *api.Client) error { return c.Stop(ctx) }, "POST /v1/stop {}"},
		{func(c *api.Client) error { _, err := c.Provider(ctx, "github"); return err }, "GET /v1/providers/github "},
		{func(c *api.Client) error { _, err := c.Provider(ctx, "a/../b?{c}"); return err }, "GET /v1/providers/a%2F..%2Fb%3F%7Bc%7D "},
		{func(c *api.Client) error { _, err := c.Provider(ctx, ".."); return err }, "GET /v1/providers/%2E%2E "},
		{func(c *api.Client) error { _, err := c.Remove(ctx, "x"); return err }, "DELETE /v1/providers/x "},
		{func(c *api.Client) error { _, err := c.Revoke(ctx, "x"); return err }, "POST /v1/providers/x/revoke {}"},
		{func(c *api.Client) error { _, err := c.Connection(ctx, "x", "", false); return err }, "GET /v1/connections/x/- "},
		{func(c *api.Client) error { _, err := c.Connection(ctx, "x", "work", true); return err }, "GET /v1/connections/x/work?secret=1 "},
		{func(c *api.Client) error { _, err := c.Logout(ctx, "x", ""); return err }, "POST /v1/connections/x/-/logout {}"},
		{func(c *api.Client) error { return c.SetDefault(ctx, "x", "work") }, "POST /v1/connections/x/work/default {}"},
		{func(c *api.Client) error { _, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "x"}); return err }, `POST /v1/logins {"provider":"x","connection":"","force":false}`},
		{func(c *api.Client) error { _, err := c.Login(ctx, "sess_1", 0); return err }, "GET /v1/logins/sess_1 "},
		{func(c *api.Client) error { _, err := c.Login(ctx, "sess_1", time.Minute); return err }, "GET /v1/logins/sess_1?wait=1m0s "},
		{func(c *api.Client) error { _, err := c.SubmitLogin(ctx, "sess_1", key); return err }, `POST /v1/logins/sess_1/fields {"api_key":"sk-1"}`},
		{func(c *api.Client) error { _, err := c.ConfirmLogin(ctx, "sess_1"); return err }, "POST /v1/logins/sess_1/confirm {}"},
		{func(c *api.Client) error { return c.CancelLogin(ctx, "sess_1") }, "DELETE /v1/logins/sess_1 "},
		{func(c *api.Client) error {
			return c.SetClient(ctx, "x", "https://git.example", authsome.OAuthClient{ID: "i", Secret: key["api_key"]})
		}, `PUT /v1/providers/x/client {"client_id":"i","client_secret":"sk-1","base_url":"https://git.example"}`},
		{func(c *api.Client) error {
			return c.SetClient(ctx, "x", "", authsome.OAuthClient{ID: "i", Key: key["api_key"]})
		}, `PUT /v1/providers/x/client {"client_id":"i","private_key":"sk-1"}`},
		{func(c *api.Client) error { return c.ForgetClient(ctx, "x", "") }, "DELETE /v1/providers/x/client "},
		{func(c *api.Client) error { return c.ForgetClient(ctx, "x", "https://a b/&c") }, "DELETE /v1/providers/x/client?base_url=https%3A%2F%2Fa+b%2F%26c "},
		{func(c *api.Client) error { _, err := c.Export(ctx, api.ExportRequest{Provider: "x"}); return err }, `POST /v1/export {"provider":"x"}`},
		{func(c *api.Client) error { _, err := c.Events(ctx, api.EventsQuery{}); return err }, "GET /v1/events "},
		{func(c *api.Client) error { _, err := c.Events(ctx, api.EventsQuery{FromStart: true}); return err }, "GET /v1/events?after=0 "},
		{func(c *api.Client) error {
			_, err := c.Events(ctx, api.EventsQuery{After: 7, Limit: 3, Wait: time.Second})
			return err
		}, "GET /v1/events?after=7&limit=3&wait=1s "},
		{func(c *api.Client) error { _, err := c.GrantSelf(ctx); return err }, "GET /v1/grants/self "},
	}
	var got string
	home := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := api.CheckRequest(r); err != nil {
			t.Errorf("%s %s is refused: %v", r.Method, r.URL, err)
		}
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.RequestURI() + " " + string(body)
		_, _ = io.WriteString(w, "{}")
	}))
	c := &api.Client{Home: home}
	defer c.Close()
	for _, tt := range tests {
		got = ""
		if err := tt.call(c); err != nil {
			t.Errorf("%s: %v", tt.want, err)
		}
		if got != tt.want {
			t.Errorf("sent %q\nwant %q", got, tt.want)
		}
	}
	for name, call := range map[string]func() error{
		"provider":       func() error { _, err := c.Provider(ctx, ""); return err },
		"connection":     func() error { return c.SetDefault(ctx, "x", "") },
		"id":             func() error { _, err := c.Login(ctx, "", 0); return err },
		"app's provider": func() error { return c.ForgetClient(ctx, "", "") },
	} {
		got = ""
		if err := call(); authsome.CodeOf(err) != authsome.Invalid || got != "" {
			t.Errorf("no %s: %v, sent %q", name, err, got)
		}
	}
}

func TestClientErrors(t *testing.T) {
	ctx := context.Background()
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	tests := []struct {
		name    string
		handler http.Handler
		code    authsome.Code
		hint    string
	}{
		{"typed", answer(404, `{"error":"ProviderNotFound","message":"m","hint":"h"}`), authsome.ProviderNotFound, "h"},
		{"no JSON", answer(500, "sk-secret"), authsome.DaemonUnavailable, "authsome daemon restart"},
		{"not this JSON", answer(400, `{"detail":1}`), authsome.DaemonUnavailable, "authsome daemon restart"},
		{"redirect", http.RedirectHandler("http://example.com/", http.StatusFound), authsome.DaemonUnavailable, "authsome daemon restart"},
		{"success that is no JSON", answer(200, "sk-secret"), authsome.DaemonUnavailable, "authsome daemon restart"},
		{"connection cut", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), authsome.DaemonUnavailable, "authsome doctor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &api.Client{Home: serve(t, tt.handler)}
			defer c.Close()
			_, err := c.Whoami(ctx)
			var e *authsome.Error
			if !errors.As(err, &e) || e.Code != tt.code || e.Hint != tt.hint {
				t.Errorf("got %#v", err)
			}
			if err != nil && strings.Contains(err.Error(), "sk-secret") {
				t.Errorf("the answer is quoted: %v", err)
			}
		})
	}
	t.Run("no daemon", func(t *testing.T) {
		runtimeDir(t)
		c := &api.Client{Home: t.TempDir()}
		_, err := c.Health(ctx)
		if authsome.CodeOf(err) != authsome.DaemonUnavailable || authsome.HintOf(err) != "authsome daemon start" {
			t.Errorf("got %v, hint %q", err, authsome.HintOf(err))
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		block := make(chan struct{})
		defer close(block)
		home := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		c := &api.Client{Home: home}
		defer c.Close()
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(10*time.Millisecond, cancel)
		if _, err := c.Health(ctx); authsome.CodeOf(err) != authsome.Cancelled || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestClientWaitsForTheDaemon(t *testing.T) {
	runtimeDir(t)
	home := t.TempDir()
	c := &api.Client{Home: home, Wait: 20 * time.Second}
	defer c.Close()
	result := make(chan error, 1)
	go func() { _, err := c.Health(context.Background()); result <- err }()
	select {
	case err := <-result:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	serveHome(t, home, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// Inside a run the environment names a proxy; the API must not go through it.
func TestClientUsesNoProxy(t *testing.T) {
	home := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	c := &api.Client{Home: home}
	defer c.Close()
	if _, err := c.Health(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestBrowserRequestsAreRefused(t *testing.T) {
	request := func(method, host, contentType, body string, headers ...string) *http.Request {
		r, err := http.NewRequest(method, "http://"+host+"/v1/export", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return r
	}
	const js = "application/json"
	for name, r := range map[string]*http.Request{
		"get":          request("GET", api.Host, "", ""),
		"delete":       request("DELETE", api.Host, "", ""),
		"post":         request("POST", api.Host, js, "{}"),
		"with charset": request("POST", api.Host, "application/json; charset=utf-8", "{}"),
	} {
		if err := api.CheckRequest(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]*http.Request{
		"another host":        request("GET", "localhost", "", ""),
		"rebound host":        request("GET", "evil.example", "", ""),
		"host with port":      request("GET", api.Host+":7998", "", ""),
		"origin":              request("POST", api.Host, js, "{}", "Origin", "http://evil.example"),
		"null origin":         request("POST", api.Host, js, "{}", "Origin", "null"),
		"empty origin":        request("GET", api.Host, "", "", "Origin", ""),
		"referer":             request("GET", api.Host, "", "", "Referer", "http://evil.example/"),
		"fetch metadata":      request("GET", api.Host, "", "", "Sec-Fetch-Site", "none"),
		"cookie":              request("GET", api.Host, "", "", "Cookie", "a=b"),
		"form":                request("POST", api.Host, "application/x-www-form-urlencoded", "a=b"),
		"multipart":           request("POST", api.Host, "multipart/form-data; boundary=x", "--x--"),
		"plain text":          request("POST", api.Host, "text/plain", "{}"),
		"json in disguise":    request("POST", api.Host, "text/plain; application/json", "{}"),
		"no type":             request("POST", api.Host, "", "{}"),
		"post without a body": request("POST", api.Host, "", ""),
		"get with a body":     request("GET", api.Host, "text/plain", "x"),
	} {
		if err := api.CheckRequest(r); authsome.CodeOf(err) != authsome.Forbidden {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
