package web

import (
	"cmp"
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
//	GET  …/input            what it waits for; how it ended, once it is over
//	POST …/input            the form's values, action=confirm or action=cancel,
//	                        303 to GET
//
// A step that leads to another site is a page with a link that refreshes itself
// there, and not a redirect: the answer to a form may lead to our own pages only
// (Content Security Policy 3, form-action, as Chromium does it).
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
	tokenInput    = "form_token"
	actionInput   = "action"
	actionCancel  = "cancel"
	actionConfirm = "confirm"
	fieldPrefix   = "field."
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
		Title: "One moment", Text: "The page opens by itself.", GoTo: pathOf(id), Link: pathOf(id), LinkText: "Open the page",
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

// show answers with what the login waits for, or with how it ended.
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
		s.step(w, l, p, formToken(ticket, id))
	}
}

// submit takes what a form sends: values, a yes, or the wish to cancel.
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
			Text: "The form does not belong to this login in this browser. Nothing was stored. Open the form again and fill it in there.",
			Link: pathOf(id), LinkText: "Open the form",
		})
		return
	}
	// The person has decided; a tab that is closed meanwhile changes nothing.
	ctx := context.WithoutCancel(r.Context())
	secret := authsome.NewSecret(ticket)
	switch values.Get(actionInput) {
	case actionCancel:
		if err := s.Logins.CancelLogin(ctx, id, secret); err != nil {
			s.failed(w, id, err)
			return
		}
	case actionConfirm:
		// What it refuses is said by the login itself: it has failed, or waits for
		// something else by now.
		if _, err := s.Logins.Confirm(ctx, id, secret); err != nil && inside(err) {
			s.failed(w, id, err)
			return
		}
	default:
		s.connect(ctx, w, id, ticket, values)
		return
	}
	seeOther(w, id)
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
	if !takesForm(l.Step) {
		seeOther(w, id) // another tab was quicker
		return
	}
	fields := map[string]authsome.Secret{}
	public := map[string]string{}
	for _, f := range l.Form {
		value := strings.TrimSpace(values.Get(fieldPrefix + f.Name))
		if f.Multiline {
			// As a form sends line ends (HTML, "constructing the entry list").
			value = strings.ReplaceAll(value, "\r\n", "\n")
		}
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
	case !takesForm(l.Step):
		seeOther(w, id)
	case errors.As(err, &refused) && refused.Code == authsome.Invalid:
		s.form(w, http.StatusUnprocessableEntity, l, p, formToken(ticket, id), public, refused)
	default:
		s.failed(w, id, err)
	}
}

// account names what was connected: "GitHub (work)".
func account(l *authsome.Login, p *authsome.Provider) string {
	if l.Connection == authsome.DefaultConnection {
		return displayName(p)
	}
	return displayName(p) + " (" + clean(l.Connection, 64) + ")"
}

// success says that a login succeeded, and what to do now.
func success(l *authsome.Login, p *authsome.Provider) message {
	m := message{
		Title: account(l, p) + " is connected", Tone: good, Notes: notesOf(l),
		Text:    "You can close this tab. Programs that you start with authsome can use it now, and never see the key:",
		Command: "authsome run -- codex",
	}
	if l.Flow.OAuth() {
		m.Text = strings.Replace(m.Text, "the key", "a token", 1)
	}
	if who := clean(cmp.Or(l.Account.Label, l.Account.ID), 80); who != "" {
		m.Title += " as " + who
	}
	if !l.Default {
		m.Command = fmt.Sprintf("authsome run --connection %s=%s -- codex", l.Provider, l.Connection)
		m.Then = fmt.Sprintf("Without --connection, programs get the default connection of %s.", displayName(p))
	}
	return m
}

// connected is success in the browser in which the login was finished.
func (s *site) connected(w http.ResponseWriter, l *authsome.Login, p *authsome.Provider) {
	m := success(l, p)
	if len(p.Routes) == 0 {
		m.Text = "You can close this tab. No host is known for this service, so its key is not put on requests. To give it to a program:"
		m.Command, m.Then = "authsome export "+l.Provider, ""
	}
	s.message(w, http.StatusOK, m)
}

// maxNotes bounds what a page repeats of a login's notes.
const maxNotes = 8

// notesOf are a login's notes as sentences.
func notesOf(l *authsome.Login) []string {
	var out []string
	for _, n := range l.Notes[:min(len(l.Notes), maxNotes)] {
		out = append(out, sentence(n, l.Provider))
	}
	return out
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
		m.Notes = notesOf(l)
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
			m.next(l.Err.Hint)
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

// inside reports whether an error is about this machine, so that its text is for
// the log alone: it may name files or the database.
func inside(err error) bool {
	switch authsome.CodeOf(err) {
	case authsome.Internal, authsome.StoreFailed, authsome.VaultFailed, authsome.ConnectionNotFound, authsome.ProviderNotFound:
		return true
	}
	return false
}

// failed answers for an error of the broker's. Its text is for the log.
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
