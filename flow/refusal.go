package flow

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/authsome/authsome"
)

// Causes that callers react to with errors.Is. The errors themselves are
// *authsome.Error.
var (
	// ErrInvalidGrant: the refresh token, code or assertion is not accepted any
	// more. Only a new login helps.
	ErrInvalidGrant = errors.New("the grant is not accepted any more")
	// ErrInvalidClient: the server does not know the client, or its secret is
	// wrong.
	ErrInvalidClient = errors.New("the client is not accepted")
	// ErrDenied: the person, or their administrator, said no.
	ErrDenied = errors.New("consent was denied")
	// ErrExpired: nobody gave consent in time.
	ErrExpired = errors.New("the time for consent is over")

	errPending  = errors.New("the person has not answered yet")
	errSlowDown = errors.New("the polls come too fast")
)

// meanings are the error codes of RFC 6749 (sections 4.1.2.1 and 5.2) and RFC
// 8628 (section 3.5), and those that vendors document for the same.
var meanings = map[string]error{
	"invalid_grant":                ErrInvalidGrant,
	"bad_verification_code":        ErrInvalidGrant, // GitHub
	"bad_refresh_token":            ErrInvalidGrant, // GitHub
	"incorrect_device_code":        ErrInvalidGrant, // GitHub
	"invalid_code":                 ErrInvalidGrant, // Slack, Zoho
	"invalid_refresh_token":        ErrInvalidGrant, // Slack
	"invalid_client":               ErrInvalidClient,
	"unauthorized_client":          ErrInvalidClient,
	"incorrect_client_credentials": ErrInvalidClient, // GitHub
	"invalid_client_id":            ErrInvalidClient, // Slack
	"bad_client_secret":            ErrInvalidClient, // Slack
	"invalid_client_secret":        ErrInvalidClient, // Zoho
	"deleted_client":               ErrInvalidClient, // Google
	"disabled_client":              ErrInvalidClient, // Google
	"access_denied":                ErrDenied,
	"authorization_declined":       ErrDenied, // Microsoft
	"expired_token":                ErrExpired,
	"token_expired":                ErrExpired, // GitHub, device flow
	"authorization_pending":        errPending,
	"slow_down":                    errSlowDown,
}

// troubles are error codes that say nothing about the grant: the same request
// may work later.
var troubles = map[string]bool{"server_error": true, "temporarily_unavailable": true, "rate_limit_exceeded": true}

// hints say what helps against an error code, where the caller knows no better.
var hints = map[string]string{
	"redirect_uri_mismatch":  "enter the redirect URI at the OAuth app exactly as authsome shows it",
	"bad_redirect_uri":       "enter the redirect URI at the OAuth app exactly as authsome shows it",
	"invalid_redirect_uri":   "enter the redirect URI at the OAuth app exactly as authsome shows it",
	"invalid_scope":          "name scopes that the service has with --scopes",
	"device_flow_disabled":   "allow the device flow in the settings of the OAuth app",
	"unsupported_grant_type": "the service does not offer this way to log in: choose another with --flow",
}

const (
	letters  = "abcdefghijklmnopqrstuvwxyz"
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
)

// madeOf reports whether text is not empty, not longer than most bytes, and made
// of the given characters. An expression would cost every start of the program
// what it takes to compile it.
func madeOf(text string, most int, chars string) bool {
	return text != "" && len(text) <= most && strings.Trim(text, chars) == ""
}

// refusal is what a server said instead of what was asked for.
type refusal struct {
	code        string // its `error`; "" when it gave none
	description string // its own words, not yet cleaned
}

// refused makes the error of an answer that is a refusal.
func (r request) refused(a *answer, no refusal) *authsome.Error {
	code := no.code
	if !madeOf(code, 40, letters+"_") || r.holdsSecret(code) {
		code = ""
	}
	said := r.quote(no.description)
	what := fmt.Sprintf("the service answered %d", a.status)
	if code != "" {
		what = "the service refused: " + code
	}
	if said != "" {
		what += " (" + said + ")"
	}
	switch cause := meanings[code]; {
	case a.status == http.StatusTooManyRequests && cause == nil:
		return r.fail(authsome.Unreachable, "the service wants fewer requests: it answered 429", errSlowDown)
	case a.status >= 500, troubles[code]:
		return r.fail(authsome.Unreachable, fmt.Sprintf("the service is in trouble: it answered %d%s", a.status, inBrackets(code)), nil)
	case cause == ErrDenied:
		return r.fail(authsome.Cancelled, "consent was denied"+inBrackets(said), cause)
	case cause == ErrExpired:
		return r.fail(authsome.TimedOut, "nobody gave consent in time", cause)
	case cause == ErrInvalidClient:
		return r.fail(authsome.AuthFailed, "the service does not accept the OAuth app's client id or secret: "+strings.TrimPrefix(what, "the service refused: "), cause).
			WithHint("check the client id and secret of the OAuth app")
	default:
		e := r.fail(authsome.AuthFailed, what, cause)
		e.Hint = hints[code]
		return e
	}
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// unreadable makes the error of an answer that is none: a web page, nothing, or
// something cut short. That is a gateway's doing, or a wrong address, so that
// nothing is known about the grant.
func (r request) unreadable(a *answer) *authsome.Error {
	why := "its answer is not what a token server says"
	switch kind := strings.ToLower(a.header.Get("Content-Type")); {
	case a.status >= 300 && a.status < 400:
		why = "it redirects, which is not followed"
		if to := hostOf(a.header.Get("Location")); to != nowhere && !r.holdsSecret(to) {
			why = "it redirects to " + to + ", which is not followed"
		}
	case len(strings.TrimSpace(string(a.body))) == 0:
		why = "its answer is empty"
	case strings.Contains(kind, "html") || strings.HasPrefix(strings.TrimSpace(string(a.body[:min(len(a.body), 64)])), "<"):
		why = "it sent a web page where JSON belongs"
	}
	if a.status != http.StatusOK {
		why += fmt.Sprintf(" (status %d)", a.status)
	}
	return r.fail(authsome.Unreachable, why, nil)
}

// quote makes a server's words fit to be shown: printable, short, without markup,
// and nothing at all when they hold a part of what was sent.
func (r request) quote(text string) string {
	text = text[:min(len(text), 400)]
	if r.holdsSecret(text) {
		return ""
	}
	words := strings.Fields(clean(text, 400))
	for i, w := range words {
		if looksSecret(w) {
			words[i] = "…"
		}
	}
	return clean(strings.Join(words, " "), 100)
}

// secretWindow is how many bytes of a secret in a row are too many in a message.
const secretWindow = 8

// holdsSecret reports whether text has a part of a secret of the request in it.
// Text is to be short.
func (r request) holdsSecret(text string) bool {
	for _, s := range r.secrets {
		secret := s.Reveal()
		if secret == "" {
			continue
		}
		if len(secret) < secretWindow {
			if strings.Contains(text, secret) {
				return true
			}
			continue
		}
		for i := 0; i+secretWindow <= len(text); i++ {
			if strings.Contains(secret, text[i:i+secretWindow]) {
				return true
			}
		}
	}
	return false
}

// looksSecret reports whether a word could be a token that a server quotes: long
// and random, by its digits and capitals. Names of scopes and errors have none.
func looksSecret(word string) bool {
	if len(word) < 16 {
		return false
	}
	digits, capitals := 0, 0
	for i, c := range word {
		switch {
		case unicode.IsDigit(c):
			digits++
		case unicode.IsUpper(c) && i > 0:
			capitals++
		}
	}
	return digits > 0 || capitals > 0
}

// clean keeps what can be printed of foreign text, on one line, without markup,
// and clips it.
func clean(text string, most int) string {
	var b strings.Builder
	space := true
	n := 0
	for _, c := range text {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) || c == '<' || c == '>' {
			c = ' '
		}
		if c == ' ' && space {
			continue
		}
		if n++; n > most {
			return strings.TrimSpace(b.String()) + "…"
		}
		space = c == ' '
		b.WriteRune(c)
	}
	return strings.TrimSpace(b.String())
}
