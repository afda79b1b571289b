package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/authsome/authsome"
)

// maxBody bounds a form, in bytes: fields of 64 KiB at most, percent-encoded.
const maxBody = 256 << 10

// ticketParameter carries the ticket in the URL that the CLI prints.
const ticketParameter = "ticket"

// formPage is what the login form shows.
type formPage struct {
	Provider   string
	Connection string
	Hosts      []string
	DocsURL    string
	Fields     []formField
	Action     string
	Cancel     string
	Token      string
	Error      string
	Hint       string
}

type formField struct {
	Name, Label, Hint, Value string
	Public, Focus            bool
}

// cookieName is different for every login: two tabs with two logins do not
// disturb each other.
func cookieName(id string) string { return "authsome_" + id }

// token binds a form to the cookie of the browser that it was made for, on top
// of the checks by Origin and Sec-Fetch-Site, which old browsers do not send.
func token(ticket string) string {
	sum := sha256.Sum256([]byte("form:" + ticket))
	return hex.EncodeToString(sum[:16])
}

// form shows the login's form. A URL with a ticket is exchanged for a cookie
// first, so that the ticket stays out of the history and of every Referer.
func (s *site) form(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if t := r.URL.Query().Get(ticketParameter); t != "" {
		if _, _, err := s.Logins.Login(r.Context(), id, authsome.NewSecret(t)); err != nil {
			s.gone(w, r, err)
			return
		}
		http.SetCookie(w, &http.Cookie{
			Name: cookieName(id), Value: t, Path: "/auth/sessions/" + id,
			HttpOnly: true, SameSite: http.SameSiteStrictMode,
		})
		http.Redirect(w, r, "/auth/sessions/"+url.PathEscape(id)+"/input", http.StatusSeeOther)
		return
	}
	ticket, ok := s.ticket(w, r)
	if !ok {
		return
	}
	l, p, err := s.Logins.Login(r.Context(), id, ticket)
	if err != nil {
		s.gone(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, l, p, nil, nil)
}

// ticket reads the cookie of the login that the path names. The cookie is
// Strict: a link on another site does not send it, but one click more does.
func (s *site) ticket(w http.ResponseWriter, r *http.Request) (authsome.Secret, bool) {
	c, err := r.Cookie(cookieName(r.PathValue("id")))
	if err != nil || c.Value == "" {
		s.fail(w, r, http.StatusForbidden, "Not this browser",
			"This login was opened in another browser, or the link was incomplete. Open the whole address that the terminal shows.", "authsome login PROVIDER")
		return authsome.Secret{}, false
	}
	return authsome.NewSecret(c.Value), true
}

// parse reads a posted form, and checks that it is one of ours for this login.
func (s *site) parse(w http.ResponseWriter, r *http.Request) (authsome.Secret, bool) {
	ticket, ok := s.ticket(w, r)
	if !ok {
		return ticket, false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			s.fail(w, r, http.StatusRequestEntityTooLarge, "Too long", "What was sent is longer than any key.", "")
		} else {
			s.fail(w, r, http.StatusBadRequest, "Not understood", "The form could not be read.", "")
		}
		return ticket, false
	}
	c, _ := r.Cookie(cookieName(r.PathValue("id")))
	if subtle.ConstantTimeCompare([]byte(r.PostForm.Get("form_token")), []byte(token(c.Value))) != 1 {
		s.fail(w, r, http.StatusForbidden, "Refused", "The form does not belong to this login. Reload it and try again.", "")
		return ticket, false
	}
	return ticket, true
}

// submit takes the key.
func (s *site) submit(w http.ResponseWriter, r *http.Request) {
	ticket, ok := s.parse(w, r)
	if !ok {
		return
	}
	id := r.PathValue("id")
	l, p, err := s.Logins.Login(r.Context(), id, ticket)
	if err != nil {
		s.gone(w, r, err)
		return
	}
	if l.Status.Final() {
		s.ended(w, r, l, p)
		return
	}
	fields := map[string]authsome.Secret{}
	shown := map[string]string{}
	for _, f := range p.Key.Fields {
		v := strings.TrimSpace(r.PostForm.Get("field_" + f.Name))
		fields[f.Name] = authsome.NewSecret(v)
		if f.Public {
			shown[f.Name] = v
		}
	}
	done, err := s.Logins.Submit(r.Context(), id, ticket, fields)
	switch {
	case err == nil:
		s.ended(w, r, done, p)
	case authsome.CodeOf(err) == authsome.Invalid:
		s.show(w, r, http.StatusUnprocessableEntity, l, p, shown, err)
	case authsome.CodeOf(err) == authsome.AuthFailed || authsome.CodeOf(err) == authsome.ConnectionNotFound:
		s.gone(w, r, err)
	default:
		s.Logger.Error("finish a login", "login", id, "err", err)
		s.fail(w, r, http.StatusInternalServerError, "Not stored", "The key could not be stored: "+err.Error()+".", authsome.HintOf(err))
	}
}

func (s *site) cancel(w http.ResponseWriter, r *http.Request) {
	ticket, ok := s.parse(w, r)
	if !ok {
		return
	}
	if err := s.Logins.CancelLogin(r.Context(), r.PathValue("id"), ticket); err != nil {
		s.gone(w, r, err)
		return
	}
	s.page(w, r, http.StatusOK, "message.html", message{Title: "Cancelled", Text: "Nothing was stored. You can close this tab."})
}

// show renders the form, or how the login ended.
func (s *site) show(w http.ResponseWriter, r *http.Request, status int, l *authsome.Login, p *authsome.Provider, shown map[string]string, problem error) {
	if l.Status.Final() {
		s.ended(w, r, l, p)
		return
	}
	base := "/auth/sessions/" + url.PathEscape(l.ID)
	c, err := r.Cookie(cookieName(l.ID))
	if err != nil {
		s.gone(w, r, err)
		return
	}
	page := formPage{
		Provider: p.DisplayName, Connection: l.Connection, DocsURL: p.DocsURL,
		Action: base + "/input", Cancel: base + "/cancel", Token: token(c.Value),
	}
	for _, rt := range p.Routes {
		if len(page.Hosts) == 0 || page.Hosts[len(page.Hosts)-1] != rt.Host {
			page.Hosts = append(page.Hosts, rt.Host)
		}
	}
	for _, f := range p.Key.Fields {
		page.Fields = append(page.Fields, formField{Name: f.Name, Label: f.Label, Hint: f.Hint, Public: f.Public, Value: shown[f.Name]})
	}
	if len(page.Fields) > 0 {
		page.Fields[0].Focus = true
	}
	if problem != nil {
		page.Error, page.Hint = sentence(problem.Error()), authsome.HintOf(problem)
	}
	s.page(w, r, status, "form.html", page)
}

// sentence makes one of an error's message: "log in to x: the key is empty"
// becomes "The key is empty."
func sentence(message string) string {
	if _, after, ok := strings.Cut(message, ": "); ok {
		message = after
	}
	if message == "" {
		return ""
	}
	return strings.ToUpper(message[:1]) + message[1:] + "."
}

// ended says how a login ended.
func (s *site) ended(w http.ResponseWriter, r *http.Request, l *authsome.Login, p *authsome.Provider) {
	again := "authsome login " + l.Provider
	if l.Connection != authsome.DefaultConnection {
		again += " --connection " + l.Connection
	}
	who := p.DisplayName
	if l.Connection != authsome.DefaultConnection {
		who += " (" + l.Connection + ")"
	}
	switch l.Status {
	case authsome.LoginCompleted:
		s.page(w, r, http.StatusOK, "message.html", message{
			Good: true, Title: who + " is connected",
			Text: "You can close this tab. An agent can use it without ever seeing the key:", Next: "authsome run -- codex",
		})
	case authsome.LoginCancelled:
		s.fail(w, r, http.StatusGone, "Cancelled", "This login was cancelled. Nothing was stored.", again)
	default:
		s.fail(w, r, http.StatusGone, "Too late", "This login's time is over. Nothing was stored.", again)
	}
}

// gone answers for a login that the ticket does not open.
func (s *site) gone(w http.ResponseWriter, r *http.Request, err error) {
	if authsome.CodeOf(err) == authsome.AuthFailed {
		s.fail(w, r, http.StatusGone, "Already over", "This login is over. Nothing was changed.", "authsome list")
		return
	}
	s.fail(w, r, http.StatusNotFound, "Unknown login", "This login is not known, or is over.", "authsome login PROVIDER")
}
