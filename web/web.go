// Package web serves what a person's browser sees on 127.0.0.1:7998: the form
// in which a key is handed over, the OAuth redirect URI, and the daemon's
// health. The pages are made on the server, need no JavaScript, and load
// nothing from elsewhere.
//
// A web page of a stranger can make a browser send requests here. So every
// request must name this host (DNS rebinding), a form must come from a page of
// ours (CSRF), and it works only with the cookie that its own ticket gave.
package web

import (
	"context"
	"embed"
	"encoding/json"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/authsome/authsome"
)

// Logins is what the pages need of the broker. A ticket opens one login.
type Logins interface {
	Login(ctx context.Context, loginID string, ticket authsome.Secret) (*authsome.Login, *authsome.Provider, error)
	// Submit hands over what was typed. An error of code Invalid leaves the
	// login waiting, and the form is shown again.
	Submit(ctx context.Context, loginID string, ticket authsome.Secret, fields map[string]authsome.Secret) (*authsome.Login, error)
	CancelLogin(ctx context.Context, loginID string, ticket authsome.Secret) error
}

// Config is what the pages are made of.
type Config struct {
	Logins Logins
	// Health is the body of /health.
	Health func() any
	// Ready is the body of /ready, and whether its status is 200 or 503.
	Ready func(ctx context.Context) (ok bool, body any)
	// Host is the address that is served, "127.0.0.1:7998"; requests that name
	// another port, or another host than this machine, are refused.
	Host func() string
	// Logger takes what goes wrong; nil discards.
	Logger *slog.Logger
}

//go:embed pages static
var files embed.FS

type site struct {
	Config
	pages *template.Template
	csrf  *http.CrossOriginProtection
}

// New makes the handler.
func New(c Config) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &site{
		Config: c,
		pages:  template.Must(template.ParseFS(files, "pages/*.html")),
		csrf:   http.NewCrossOriginProtection(),
	}
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // the directory is embedded
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ready", s.ready)
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /auth/sessions/{id}/input", s.form)
	mux.HandleFunc("POST /auth/sessions/{id}/input", s.submit)
	mux.HandleFunc("POST /auth/sessions/{id}/cancel", s.cancel)
	mux.HandleFunc("GET "+authsome.CallbackPath, s.callback)
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	mux.HandleFunc("/", s.unknown)
	return s.guard(mux)
}

// guard refuses what no browser of the person's would send, and sets the
// headers that keep a page to itself.
func (s *site) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		switch {
		case r.Method == http.MethodConnect, r.URL.Host != "", r.Header.Get("Proxy-Authorization") != "":
			s.fail(w, r, http.StatusMisdirectedRequest, "This is no proxy", "The address is authsome's page for browsers. A run's proxy has a port of its own.", "")
			return
		case !s.ownHost(r.Host):
			s.fail(w, r, http.StatusMisdirectedRequest, "Wrong address", "This page answers under its own address only.", "open http://"+s.Host()+"/")
			return
		}
		if err := s.csrf.Check(r); err != nil {
			s.fail(w, r, http.StatusForbidden, "Refused", "The form was sent by a page that is not authsome's.", "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost reports whether a Host header names this machine and our port. A
// name that an attacker's DNS points here is another one.
func (s *site) ownHost(host string) bool {
	_, port, err := net.SplitHostPort(s.Host())
	if err != nil {
		return false
	}
	name, p, err := net.SplitHostPort(host)
	return err == nil && p == port && (name == "127.0.0.1" || strings.EqualFold(name, "localhost") || name == "::1")
}

func (s *site) health(w http.ResponseWriter, _ *http.Request) { s.json(w, http.StatusOK, s.Health()) }

func (s *site) ready(w http.ResponseWriter, r *http.Request) {
	ok, body := s.Ready(r.Context())
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	s.json(w, status, body)
}

func (s *site) json(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.Logger.Debug("write an answer", "err", err)
	}
}

func (s *site) home(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, http.StatusOK, "message.html", message{
		Title: "authsome is running",
		Text:  "This page is for logins. Start one in a terminal:",
		Next:  "authsome login PROVIDER",
	})
}

// callback is the OAuth redirect URI. No login of this version ends here, so
// every state is an unknown one.
func (s *site) callback(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, http.StatusBadRequest, "Unknown login", "This login is not known, or is over. Nothing was stored.", "authsome login PROVIDER")
}

func (s *site) unknown(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, http.StatusNotFound, "No such page", "There is nothing at this address.", "authsome login PROVIDER")
}

// message is a page with something to say.
type message struct {
	Title string
	Text  string
	Next  string // a command
	Good  bool
	Bad   bool
}

func (s *site) fail(w http.ResponseWriter, r *http.Request, status int, title, text, next string) {
	s.page(w, r, status, "message.html", message{Title: title, Text: text, Next: next, Bad: true})
}

// page renders into memory first, so that a failing template is not a half
// page with status 200.
func (s *site) page(w http.ResponseWriter, _ *http.Request, status int, name string, data any) {
	var sb strings.Builder
	if err := s.pages.ExecuteTemplate(&sb, name, data); err != nil {
		s.Logger.Error("render a page", "page", name, "err", err)
		http.Error(w, "the page could not be made; see `authsome daemon logs`", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write([]byte(sb.String())); err != nil {
		s.Logger.Debug("write a page", "err", err)
	}
}
