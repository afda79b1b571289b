package web

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/authsome/authsome"
)

// The way of a login through the browser:
//
//	GET  …/input?ticket=T   exchanges the ticket for a cookie, 303 to
//	GET  …/input            the form; how the login ended, once it is over
//	POST …/input            the form's values, or action=cancel, 303 to GET
//
// The ticket comes from the URL that the CLI prints and opens. The cookie holds
// it from then on, so that a waiting form survives a restart of the daemon: no
// state is kept here.

// maxForm bounds a form, in bytes. The longest thing that people paste, a
// service account file, is under 16 KiB.
const maxForm = 64 << 10

// Names in the form. Those of a provider's fields get a prefix, so that a
// definition cannot name one of ours.
const (
	tokenInput   = "form_token"
	actionInput  = "action"
	actionCancel = "cancel"
	fieldPrefix  = "field."
)

// loginPath is the path of a login's form, as in the Python authsome. An id of
// other characters than ours is no login, and never gets into a cookie's path
// or a redirect.
var loginPath = regexp.MustCompile(`^/auth/sessions/([A-Za-z0-9_-]+)/input$`)

func loginOf(path string) (id string, ok bool) {
	m := loginPath.FindStringSubmatch(path)
	if m == nil || len(m[1]) > 64 {
		return "", false
	}
	return m[1], true
}

func pathOf(id string) string { return "/auth/sessions/" + id + "/input" }

// ticketForm is what a ticket may consist of. net/http would drop other bytes
// from a cookie.
var ticketForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// maxTicket bounds a ticket in bytes. Bounds are checked beside the
// expressions: as counted repetitions they would take a millisecond to compile
// at the start of every command.
const maxTicket = 256

// cookieName differs for every login. Cookies of 127.0.0.1 are shared by all
// its ports, so a name of our own also keeps out of the way of others.
func cookieName(id string) string { return "authsome_" + id }

// formToken ties a form to the cookie of the browser that it was made for: a
// form that was copied to another browser, or made for another login, does not
// have the right one.
func formToken(ticket, id string) string {
	mac := hmac.New(sha256.New, []byte(ticket))
	mac.Write([]byte("authsome login form\x00" + id))
	return hex.EncodeToString(mac.Sum(nil))
}

// login serves the form's path.
func (s *site) login(w http.ResponseWriter, r *http.Request, id string) {
	switch {
	case r.Method == http.MethodPost:
		s.submit(w, r, id)
	case r.URL.Query().Has("ticket"):
		s.exchange(w, r, id, r.URL.Query().Get("ticket"))
	default:
		s.show(w, r, id)
	}
}

// exchange puts the ticket into a cookie and leads to the form without it, so
// that it is in no history, bookmark or Referer. A login that is over gets none.
func (s *site) exchange(w http.ResponseWriter, r *http.Request, id, ticket string) {
	if len(ticket) > maxTicket || !ticketForm.MatchString(ticket) {
		s.unknownLogin(w)
		return
	}
	l, p, err := s.Logins.Login(r.Context(), id, authsome.NewSecret(ticket))
	if err != nil {
		s.failed(w, id, err)
		return
	}
	if l.Status.Final() {
		s.over(w, l, p)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(id), Value: ticket, Path: pathOf(id),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	if r.Header.Get("Sec-Fetch-Site") != "cross-site" {
		seeOther(w, id)
		return
	}
	// The link was clicked on another site, such as a chat in which an agent
	// showed it. A redirect would still count as that site's navigation and
	// leave a Strict cookie at home; a step from a page of ours does not.
	s.message(w, http.StatusOK, message{
		Title: "One moment", Text: "The form opens by itself.", Refresh: pathOf(id), Link: pathOf(id),
	})
}

// cookie returns the ticket of this browser for a login. With several cookies
// of one name the one with the longest path comes first (RFC 6265, section
// 5.4), which is ours: no other path may be longer and still match.
func (s *site) cookie(w http.ResponseWriter, r *http.Request, id string) (ticket string, ok bool) {
	c, err := r.Cookie(cookieName(id))
	if err != nil || len(c.Value) > maxTicket || !ticketForm.MatchString(c.Value) {
		s.message(w, http.StatusForbidden, message{
			Title: "This form is not open in this browser", Tone: bad,
			Text: "Open the whole link that the terminal shows, or start the login again. " +
				"If you opened that link, allow cookies for this address.",
			Command: "authsome login PROVIDER",
		})
		return "", false
	}
	return c.Value, true
}

// show answers with the form, or with how the login ended.
func (s *site) show(w http.ResponseWriter, r *http.Request, id string) {
	ticket, ok := s.cookie(w, r, id)
	if !ok {
		return
	}
	l, p, err := s.Logins.Login(r.Context(), id, authsome.NewSecret(ticket))
	switch {
	case err != nil:
		s.failed(w, id, err)
	case l.Status == authsome.LoginCompleted:
		s.connected(w, l, p)
	case l.Status.Final():
		s.over(w, l, p)
	default:
		s.form(w, http.StatusOK, l, p, formToken(ticket, id), nil, nil)
	}
}

// submit takes the form: a key, or the wish to cancel.
func (s *site) submit(w http.ResponseWriter, r *http.Request, id string) {
	// Other ports of 127.0.0.1 are the same site, whose forms come with our
	// cookie; this compares origins.
	if err := s.csrf.Check(r); err != nil {
		s.message(w, http.StatusForbidden, message{
			Title: "Refused", Tone: bad,
			Text:    "The form was sent by a page that is not authsome's. Nothing was stored. If you did not mean to send anything, close that page.",
			Command: "authsome login PROVIDER",
		})
		return
	}
	ticket, ok := s.cookie(w, r, id)
	if !ok {
		return
	}
	values, ok := s.read(w, r)
	if !ok {
		return
	}
	if !hmac.Equal([]byte(values.Get(tokenInput)), []byte(formToken(ticket, id))) {
		s.message(w, http.StatusForbidden, message{
			Title: "Refused", Tone: bad,
			Text: "The form does not belong to this login in this browser. Nothing was stored. Open the form again and type the key there.",
			Link: pathOf(id),
		})
		return
	}
	// The person has decided; a tab that is closed meanwhile changes nothing.
	ctx := context.WithoutCancel(r.Context())
	if values.Get(actionInput) == actionCancel {
		if err := s.Logins.CancelLogin(ctx, id, authsome.NewSecret(ticket)); err != nil {
			s.failed(w, id, err)
			return
		}
		seeOther(w, id)
		return
	}
	s.connect(ctx, w, id, ticket, values)
}

// seeOther leads to the form's path without a ticket, with a GET, so that the
// page may be reloaded.
func seeOther(w http.ResponseWriter, id string) {
	w.Header().Set("Location", pathOf(id))
	w.WriteHeader(http.StatusSeeOther)
}

// read returns a sent form's values, each with one value. What is wrong with it
// is not repeated: it may hold a key.
func (s *site) read(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		s.message(w, http.StatusUnsupportedMediaType, message{
			Title: "Not a form", Tone: bad, Text: "Only the form of this page can be sent here.",
		})
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		s.message(w, http.StatusRequestEntityTooLarge, message{
			Title: "Too long", Tone: bad, Text: "What was sent is longer than any key: the limit is 64 KiB. Nothing was stored. Go back and paste the key alone.",
		})
		return nil, false
	}
	values, parseErr := url.ParseQuery(string(body))
	clear(body)
	for _, v := range values {
		if len(v) != 1 {
			parseErr = errors.New("a name is there twice")
		}
	}
	if err != nil || parseErr != nil {
		s.message(w, http.StatusBadRequest, message{
			Title: "Not understood", Tone: bad, Text: "The form did not arrive whole. Nothing was stored. Go back and send it again.",
		})
		return nil, false
	}
	return values, true
}

// connect hands the values over to the login.
func (s *site) connect(ctx context.Context, w http.ResponseWriter, id, ticket string, values url.Values) {
	secret := authsome.NewSecret(ticket)
	l, p, err := s.Logins.Login(ctx, id, secret)
	if err != nil {
		s.failed(w, id, err)
		return
	}
	if l.Status.Final() {
		s.over(w, l, p)
		return
	}
	fields := map[string]authsome.Secret{}
	public := map[string]string{}
	for _, f := range p.Key.Fields {
		value := strings.TrimSpace(values.Get(fieldPrefix + f.Name))
		fields[f.Name] = authsome.NewSecret(value)
		if f.Public {
			public[f.Name] = value
		}
	}
	_, err = s.Logins.Submit(ctx, id, secret, fields)
	if err == nil {
		seeOther(w, id)
		return
	}
	// Was the value refused, or has the login ended meanwhile?
	l, p, again := s.Logins.Login(ctx, id, secret)
	var refused *authsome.Error
	switch {
	case again != nil:
		s.failed(w, id, again)
	case l.Status.Final():
		s.over(w, l, p)
	case errors.As(err, &refused) && refused.Code == authsome.Invalid:
		s.form(w, http.StatusUnprocessableEntity, l, p, formToken(ticket, id), public, refused)
	default:
		s.failed(w, id, err)
	}
}

// form answers with the form of a waiting login. After a refusal it has what
// was typed into public fields, and says what was wrong next to the field.
func (s *site) form(w http.ResponseWriter, status int, l *authsome.Login, p *authsome.Provider, token string, public map[string]string, refused *authsome.Error) {
	if l.Flow != authsome.FlowAPIKey || len(p.Key.Fields) == 0 {
		s.message(w, http.StatusConflict, message{
			Title: displayName(p) + " takes no key here", Tone: bad,
			Text: "This login is not finished by a form. The terminal says what it waits for.", Command: "authsome inspect " + p.Name,
		})
		return
	}
	f := form{
		Title: "Connect " + displayName(p), Provider: displayName(p), Name: p.Name, Custom: p.Source == authsome.Custom,
		Connection: clean(l.Connection, 64), Replaces: l.Replaced, Private: l.AllowPrivate,
		Hosts: hostsOf(p), Path: pathOf(l.ID), Token: token, Closes: l.ExpiresAt.Local().Format("15:04"),
	}
	if len(f.Hosts) > maxHosts {
		f.Hosts, f.More = f.Hosts[:maxHosts], len(f.Hosts)-maxHosts
	}
	f.DocsURL, f.DocsHost = docsOf(p)
	focus := 0
	for i, k := range p.Key.Fields {
		line := field{
			ID: fmt.Sprintf("field-%d", i), Input: fieldPrefix + k.Name, Label: clean(k.Label, 60),
			Hint: clean(k.Hint, 300), Public: k.Public,
		}
		if line.Label == "" {
			line.Label = clean(k.Name, 60)
		}
		if k.Public {
			line.Value = public[k.Name]
		}
		if refused != nil && (refused.Field == k.Name || len(p.Key.Fields) == 1) {
			line.Problem, focus = sentence(refused.Message, p.Name), i
			if line.Hint == "" {
				line.Hint = clean(refused.Hint, 300)
			}
		}
		f.Fields = append(f.Fields, line)
	}
	f.Fields[focus].Focus = true
	if refused != nil {
		f.Title = "Try again: " + f.Title
		if f.Fields[focus].Problem == "" {
			f.Problem, f.Hint = sentence(refused.Message, p.Name), clean(refused.Hint, 300)
		}
	}
	// Under no-referrer a browser sends "Origin: null" with the form, which one
	// without Sec-Fetch-Site could not be told by from a stranger's. The URL of
	// this page holds no ticket any more.
	w.Header().Set("Referrer-Policy", "same-origin")
	s.page(w, status, "form.html", f)
}

// account names what was connected: "GitHub (work)".
func account(l *authsome.Login, p *authsome.Provider) string {
	if l.Connection == authsome.DefaultConnection {
		return displayName(p)
	}
	return displayName(p) + " (" + clean(l.Connection, 64) + ")"
}

// connected says that the login of this browser succeeded, and what to do now.
func (s *site) connected(w http.ResponseWriter, l *authsome.Login, p *authsome.Provider) {
	m := message{
		Title: account(l, p) + " is connected", Tone: good,
		Text:    "You can close this tab. Programs that you start with authsome can use it now, and never see the key:",
		Command: "authsome run -- codex",
	}
	switch {
	case len(p.Routes) == 0:
		m.Text = "You can close this tab. No host is known for this service, so its key is not put on requests. To give it to a program:"
		m.Command = "authsome export " + l.Provider
	case !l.Default:
		m.Command = fmt.Sprintf("authsome run --connection %s=%s -- codex", l.Provider, l.Connection)
		m.Then = fmt.Sprintf("Without --connection, programs get the default connection of %s.", displayName(p))
	}
	s.message(w, http.StatusOK, m)
}

// over says how a login ended that cannot be finished any more.
func (s *site) over(w http.ResponseWriter, l *authsome.Login, p *authsome.Provider) {
	m := message{Tone: bad, Command: "authsome login " + l.Provider}
	if l.Connection != authsome.DefaultConnection {
		m.Command += " --connection " + l.Connection
	}
	if l.Force {
		m.Command += " --force"
	}
	switch l.Status {
	case authsome.LoginCompleted:
		m.Title, m.Tone, m.Command = "This login is already finished", "", "authsome list"
		m.Text = account(l, p) + " is connected. You can close this tab. To see all connections:"
	case authsome.LoginCancelled:
		m.Title, m.Tone = "This login was cancelled", ""
		m.Text = "Nothing was stored. You can close this tab. To start again:"
	case authsome.LoginExpired:
		m.Title = "This login took too long"
		m.Text = "Nobody finished it in time, so it is over and nothing was stored. To start again:"
	default:
		m.Title = "This login failed"
		m.Text = "Nothing was stored. To start again:"
		if l.Err != nil {
			m.Text = sentence(l.Err.Message, l.Provider) + " " + m.Text
		}
	}
	s.message(w, http.StatusGone, m)
}

func (s *site) unknownLogin(w http.ResponseWriter) {
	s.message(w, http.StatusNotFound, message{
		Title: "This login is not known", Tone: bad,
		Text:    "It ended long ago, or the link is incomplete. Nothing was stored. Start it again in a terminal:",
		Command: "authsome login PROVIDER",
	})
}

// failed answers for an error of the broker's. Its text is for the log: it may
// name files or the database.
func (s *site) failed(w http.ResponseWriter, id string, err error) {
	switch authsome.CodeOf(err) {
	case authsome.ConnectionNotFound:
		s.unknownLogin(w)
	case authsome.ProviderNotFound:
		s.message(w, http.StatusGone, message{
			Title: "This service was removed", Tone: bad,
			Text:    "Its definition was removed while the login was waiting. Nothing was stored. To see what there is:",
			Command: "authsome list",
		})
	default:
		s.Logger.Error("serve a login's form", "login", id, "code", authsome.CodeOf(err), "err", err)
		s.message(w, http.StatusInternalServerError, message{
			Title: "Something went wrong", Tone: bad,
			Text:    "The login was not finished, and nothing was stored. This says what is wrong on this machine:",
			Command: "authsome doctor",
		})
	}
}
