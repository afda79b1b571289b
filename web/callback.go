package web

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/authsome/authsome"
)

const (
	// maxQuery bounds what a redirect may bring, in bytes: codes of several KiB
	// are known, and the daemon takes no more than four times this as a header.
	maxQuery = 16 << 10
	// callbackTime bounds how long a person looks at a loading tab while the code
	// is exchanged, perhaps by another home's daemon.
	callbackTime = time.Minute
)

// callback is the OAuth redirect URI. The browser comes from another site, so it
// has no cookie: the state alone says whose login it is, and is compared behind
// Logins. What came is shown nowhere, and the answer keeps it out of Referers.
//
// HEAD is refused, since it would be taken for the one request that there is.
func (s *site) callback(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		s.notAllowed(w, http.MethodGet)
		return
	}
	query, ok := callbackQuery(r.URL.RawQuery)
	if !ok {
		s.message(w, http.StatusBadRequest, message{
			Title: "Not understood", Tone: bad,
			Text:    "This address did not arrive whole, or was changed on the way. Nothing was stored. Start the login again in a terminal:",
			Command: "authsome login PROVIDER",
		})
		return
	}
	// The code works once. A tab that is closed meanwhile changes nothing.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callbackTime)
	defer cancel()
	l, p, err := s.Logins.Callback(ctx, query)
	switch {
	case err != nil:
		s.callbackFailed(w, p, err)
	case l.Status == authsome.LoginCompleted:
		s.message(w, http.StatusOK, success(l, p))
	default:
		s.over(w, l, p)
	}
}

// callbackQuery parses a redirect's query. One that has a parameter twice which
// decides something is refused (RFC 6749, section 3.1): two readers of it could
// take two different ones.
func callbackQuery(raw string) (url.Values, bool) {
	if len(raw) > maxQuery {
		return nil, false
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, false
	}
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(query[name]) > 1 {
			return nil, false
		}
	}
	return query, true
}

// callbackFailed says why a redirect led to no connection. The provider is nil
// when the login is not known.
func (s *site) callbackFailed(w http.ResponseWriter, p *authsome.Provider, err error) {
	code, name := authsome.CodeOf(err), ""
	if p != nil {
		name = p.Name
	}
	m := message{Title: "This login did not succeed", Tone: bad, Command: "authsome login PROVIDER"}
	switch {
	case code == authsome.ConnectionNotFound:
		m.Title = "This login is not known"
		m.Text = "It is over, or was started elsewhere. Nothing was stored now; if this page said before that the service is connected, it still is. To see what is connected:"
		m.Command = "authsome list"
	case inside(err):
		s.failed(w, "", err)
		return
	case code == authsome.Cancelled:
		m.Title = "This login was cancelled"
		fallthrough
	default:
		m.Text = sentence(err.Error(), name) + " Nothing was stored. You can close this tab. What helps:"
		m.next(authsome.HintOf(err))
	}
	s.Logger.Info("a redirect was refused", "code", code)
	s.message(w, http.StatusBadRequest, m)
}
