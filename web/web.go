// Package web serves what a person's browser sees on 127.0.0.1:7998: the pages
// on which a login is finished, the OAuth redirect URI, and the daemon's health.
// The pages are made here, need no JavaScript, and load nothing from elsewhere:
//
//	web.go       which requests are answered at all, and by what
//	login.go     a login's address: ticket, cookie, and what its forms send
//	steps.go     a page for each step that a login may wait in
//	callback.go  where authorization servers send the browser back to
//	page.go      templates, and text from elsewhere made harmless
//
// Any page that the person visits can make the browser send requests here. So
// a request must name this machine as its host (DNS rebinding), a form must
// come from a page of ours (CSRF), and it works only with the cookie that its
// own login's ticket was exchanged for. Provider definitions are hostile input,
// as far as these pages are concerned.
package web

import (
	"context"
	"embed"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/authsome/authsome"
)

// Logins is what the pages need of the broker. A ticket opens one login; a
// wrong one and an unknown login give the same error of code
// ConnectionNotFound.
type Logins interface {
	// Login returns the login as it is now, and the provider that it is for.
	Login(ctx context.Context, loginID string, ticket authsome.Secret) (*authsome.Login, *authsome.Provider, error)
	// Submit hands over what was typed, by KeyField.Name. After an error of
	// code Invalid the login goes on waiting, and the form is shown again.
	Submit(ctx context.Context, loginID string, ticket authsome.Secret, fields map[string]authsome.Secret) (*authsome.Login, error)
	// CancelLogin ends a login that is waiting. One that is over stays as it is.
	CancelLogin(ctx context.Context, loginID string, ticket authsome.Secret) error
	// Confirm agrees that the login's Server, on another site than its Resource,
	// may be asked.
	Confirm(ctx context.Context, loginID string, ticket authsome.Secret) (*authsome.Login, error)
	// Callback takes what the authorization server's redirect brought. The error
	// says what the page tells the person; nothing was stored then.
	Callback(ctx context.Context, query url.Values) (*authsome.Login, *authsome.Provider, error)
}

// Config is what the pages are made of. All but Logger must be given.
type Config struct {
	Logins Logins
	// Health is the body of /health, as JSON.
	Health func() any
	// Ready is the body of /ready, as JSON, and whether its status is 200 or 503.
	Ready func(ctx context.Context) (ok bool, body any)
	// Host is the address that is served, "127.0.0.1:7998". It is asked at each
	// request, since the port is known only once it is bound. While it is "",
	// every request is refused.
	Host func() string
	// Logger takes what goes wrong inside; nil discards.
	Logger *slog.Logger
}

//go:embed pages static
var files embed.FS

// site is the handler with its templates.
type site struct {
	Config
	pages map[string]*view
	csrf  *http.CrossOriginProtection
}

// New makes the handler of the browser's port. It does no work of its own.
func New(c Config) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &site{Config: c, pages: parsePages(), csrf: http.NewCrossOriginProtection()}
}

// policy lets a page show our style sheet and our icon, send forms to us, and
// nothing else: no script, no frame, no request to another host.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP refuses what no browser of the person's would send, and sets on
// every answer the headers that keep it to itself.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	switch {
	// A client that takes us for its proxy sends CONNECT, or a whole URL as the
	// request's target (RFC 9112, section 3.2.2), and may send credentials.
	case r.Method == http.MethodConnect, r.URL.Scheme != "", r.URL.Host != "", len(r.Header.Values("Proxy-Authorization")) > 0:
		s.message(w, http.StatusMisdirectedRequest, message{
			Title:   "This is not a proxy",
			Text:    "This address is authsome's page for browsers. `authsome run` gives each program a proxy of its own.",
			Command: "authsome run -- curl https://api.github.com/user",
		})
	case !ownHost(r.Host, s.Host()):
		s.message(w, http.StatusMisdirectedRequest, message{
			Title: "Wrong address",
			Text: "This page answers only when it is opened as 127.0.0.1, localhost or [::1] with its own port. " +
				"Under any other name, another web site could be behind the request. Open the address that the terminal shows.",
			Command: "authsome daemon status",
		})
	default:
		s.route(w, r)
	}
}

// ownHost reports whether a Host header names this machine and our port. A
// name that a stranger's DNS points to 127.0.0.1 is another one.
func ownHost(host, served string) bool {
	_, port, err := net.SplitHostPort(served)
	if err != nil || port == "" {
		return false
	}
	return slices.Contains([]string{"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port}, host)
}

// route finds the page by its exact path. http.ServeMux would redirect unclean
// paths and word its refusals itself.
func (s *site) route(w http.ResponseWriter, r *http.Request) {
	const get, post = http.MethodGet, http.MethodPost
	switch path := r.URL.EscapedPath(); path {
	case "/":
		s.only(s.home, get)(w, r)
	case "/health":
		s.only(s.health, get)(w, r)
	case "/ready":
		s.only(s.ready, get)(w, r)
	case authsome.CallbackPath:
		s.callback(w, r)
	case "/static/style.css", "/static/icon.svg":
		s.only(func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, files, strings.TrimPrefix(path, "/"))
		}, get)(w, r)
	default:
		if id, ok := loginOf(path); ok {
			s.only(func(w http.ResponseWriter, r *http.Request) { s.login(w, r, id) }, get, post)(w, r)
			return
		}
		s.message(w, http.StatusNotFound, message{
			Title: "No such page", Text: "There is nothing at this address.", Command: "authsome --help",
		})
	}
}

// only refuses other methods. HEAD is a GET whose body net/http drops.
func (s *site) only(next http.HandlerFunc, methods ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if slices.Contains(methods, method) {
			next(w, r)
			return
		}
		s.notAllowed(w, slices.Insert(slices.Clone(methods), 1, http.MethodHead)...)
	}
}

// notAllowed refuses a method and names those that there are.
func (s *site) notAllowed(w http.ResponseWriter, allowed ...string) {
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	s.message(w, http.StatusMethodNotAllowed, message{
		Title: "Not possible here", Text: "This page cannot be asked in that way.",
	})
}

func (s *site) health(w http.ResponseWriter, _ *http.Request) {
	s.json(w, http.StatusOK, s.Health())
}

func (s *site) ready(w http.ResponseWriter, r *http.Request) {
	ok, body := s.Ready(r.Context())
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	s.json(w, status, body)
}

func (s *site) json(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		s.Logger.Error("encode an answer", "err", err)
		status, data = http.StatusInternalServerError, []byte(`{"status":"error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}

func (s *site) home(w http.ResponseWriter, _ *http.Request) {
	s.message(w, http.StatusOK, message{
		Title: "authsome is running",
		Text: "It keeps your keys and logins encrypted on this machine, and puts them on the requests of the programs that you start with it. " +
			"The programs themselves never see them. To connect a service, run in a terminal:",
		Command: "authsome login github",
	})
}
