package flow

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// Token is what a token endpoint gave.
type Token struct {
	Access, Refresh authsome.Secret // Refresh empty: none came
	Type            string          // "Bearer" when not said
	ExpiresAt       time.Time       // zero: not said, or no end
	Scopes          []string        // granted; nil when the answer does not say
	Account         authsome.Account
}

const (
	// maxToken bounds an access token, in bytes: servers refuse headers beyond
	// 8 to 16 KiB.
	maxToken = 32 << 10
	// longest is the longest lifetime that is believed. Beyond it nothing is
	// known: the numbers are dates, milliseconds, or "never".
	longest = 366 * 24 * time.Hour
)

// needProof are the token types that are worth nothing without a proof by the
// client, so that the token could not be used (RFC 6749, section 7.1). Others
// than "bearer" are taken as such: vendors write there what they like (Slack
// "bot", Apigee "BearerToken").
var needProof = []string{"dpop", "mac", "pop", "hok", "signed_jwt"}

// readToken reads a token endpoint's answer: RFC 6749, section 5, and its
// relatives. Any of them may come with any status and content type: GitHub sends
// errors under 200, and as a form; Slack under 200 with "ok": false. The values
// are where the first of places says that has an access token.
func (r request) readToken(a *answer, places ...authsome.TokenAnswer) (*Token, error) {
	v, ok := decode(a)
	if !ok {
		return nil, r.unreadable(a)
	}
	if no, is := refusalOf(v, a.status); is {
		return nil, r.refused(a, no)
	}
	at := places[0]
	for _, p := range places[1:] {
		if find(v, at.AccessToken, "access_token") == nil {
			at = p
		}
	}
	t := &Token{Type: "Bearer", Scopes: scopesOf(find(v, at.Scope, "scope"))}
	var bad string
	if t.Access, bad = tokenText(find(v, at.AccessToken, "access_token")); bad != "" {
		return nil, r.fail(authsome.AuthFailed, "the access token in its answer "+bad, nil)
	}
	if refresh := find(v, at.RefreshToken, "refresh_token"); refresh != nil && refresh != "" {
		if t.Refresh, bad = tokenText(refresh); bad != "" {
			return nil, r.fail(authsome.AuthFailed, "the refresh token in its answer "+bad, nil)
		}
	}
	if kind, _ := find(v, "", "token_type").(string); kind != "" {
		if slices.Contains(needProof, strings.ToLower(kind)) {
			return nil, r.fail(authsome.AuthFailed, "it gives tokens of the type "+strings.ToLower(kind)+", which authsome cannot use", nil)
		}
		if !strings.EqualFold(kind, "bearer") && madeOf(kind, 20, letters+capitals+digits+"_-") {
			t.Type = kind
		}
	}
	if life := lifetime(find(v, at.ExpiresIn, "expires_in")); life > 0 {
		t.ExpiresAt = a.asked.Add(life)
	}
	t.Account = authsome.Account{ID: label(find(v, at.AccountID, "")), Label: label(find(v, at.AccountLabel, ""))}
	return t, nil
}

// decode reads an answer's body as JSON, else as a form.
func decode(a *answer) (v any, ok bool) {
	body := bytes.TrimSpace(bytes.TrimPrefix(a.body, []byte("\xef\xbb\xbf")))
	if len(body) == 0 || a.status >= 300 && a.status < 400 {
		return nil, false
	}
	if body[0] == '{' || body[0] == '[' {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		if dec.Decode(&v) != nil || dec.More() {
			return nil, false
		}
		_, isObject := v.(map[string]any)
		return v, isObject
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || !form.Has("access_token") && !form.Has("error") {
		return nil, false
	}
	m := make(map[string]any, len(form))
	for name, values := range form {
		m[name] = values[0]
	}
	return m, true
}

// refusalOf finds out whether an answer is an error, and which.
func refusalOf(v any, status int) (refusal, bool) {
	m, _ := v.(map[string]any)
	var no refusal
	failed := status < 200 || status > 299
	switch e := m["error"].(type) {
	case string:
		no.code, failed = e, failed || e != ""
	case map[string]any: // Google's APIs and their imitators
		failed = true
		for _, name := range []string{"code", "type", "status", "error"} {
			if text, ok := e[name].(string); ok && no.code == "" {
				no.code = text
			}
		}
		no.description, _ = e["message"].(string)
	case nil, bool:
	default:
		failed = true
	}
	if ok, is := m["ok"].(bool); is && !ok { // Slack
		failed = true
	}
	for _, name := range []string{"error_description", "message", "error_message"} {
		if text, ok := m[name].(string); ok && no.description == "" {
			no.description = text
		}
	}
	if code, ok := m["code"].(string); ok && no.code == "" { // Notion
		no.code = code
	}
	return no, failed
}

// find looks a value up by its path: names joined by dots, and numbers for the
// elements of lists. An empty path is the name otherwise.
func find(v any, path, otherwise string) any {
	if path == "" {
		path = otherwise
	}
	if path == "" {
		return nil
	}
	for step := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// tokenText checks that a value is a token that fits into a header: RFC 6749,
// appendix A.12, without the space.
func tokenText(v any) (token authsome.Secret, bad string) {
	text, ok := v.(string)
	switch {
	case v == nil:
		return token, "is missing"
	case !ok:
		return token, "is no text"
	case text == "":
		return token, "is empty"
	case len(text) > maxToken:
		return token, "is longer than 32 KiB"
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return token, "holds what no header may hold"
	}
	return authsome.NewSecret(text), ""
}

// lifetime reads expires_in: a number, or one in a text (PayPal, Microsoft's v1
// endpoints). Zero is "not known". That is also what zero and negative numbers
// are taken for: the token has been given this moment, and an end in the past
// would make every request ask for another one.
func lifetime(v any) time.Duration {
	var text string
	switch n := v.(type) {
	case json.Number:
		text = n.String()
	case string:
		text = strings.TrimSpace(n)
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= 1) || seconds > longest.Seconds() {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// scopesOf reads granted scopes: a text, separated by spaces (RFC 6749, section
// 3.3) or commas (GitHub, Slack, Linear), or a list. Neither is possible within
// a scope of theirs. An empty text says nothing: it is what GitHub sends for the
// tokens of its Apps, which have no scopes.
func scopesOf(v any) []string {
	var texts []string
	switch s := v.(type) {
	case string:
		texts = []string{s}
	case []any:
		for _, e := range s {
			if text, ok := e.(string); ok {
				texts = append(texts, text)
			}
		}
	}
	var out []string
	for _, text := range texts {
		for _, scope := range strings.FieldsFunc(text, func(c rune) bool { return c == ' ' || c == ',' }) {
			if scope = clean(scope, 300); scope != "" && !slices.Contains(out, scope) && len(out) < 1000 {
				out = append(out, scope)
			}
		}
	}
	return out
}

// label reads a text or number that people are shown.
func label(v any) string {
	switch s := v.(type) {
	case string:
		return clean(s, 128)
	case json.Number:
		return clean(s.String(), 128)
	}
	return ""
}
