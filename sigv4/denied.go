package sigv4

import (
	"bytes"
	"mime"
	"net/url"
	"slices"
	"strings"

	"github.com/authsome/authsome"
)

// NeedsBody reports whether Denied has to see the body of a request: that is so at
// services some of whose actions are denied, since older protocols name the action
// there. Such a body is up to MaxBody long.
func NeedsBody(denials []authsome.Denial, r *Request) bool {
	e, ok := Lookup(r.Host)
	return ok && r.Length != 0 && slices.ContainsFunc(denials, func(d authsome.Denial) bool {
		return d.ByAction() && slices.Contains(e.Services, d.Service)
	})
}

// Denied looks for a denial of AWS's that covers a request, and gives the name of
// what was asked for, such as "sts:AssumeRole"; "" when none does. A request that
// does not name its action in exactly one of the ways that AWS's protocols know is
// covered by every denial of its service: what one reader overlooks, another finds.
func Denied(denials []authsome.Denial, r *Request, body []byte) string {
	e, ok := Lookup(r.Host)
	if !ok {
		return ""
	}
	var action string
	var known, read bool
	for _, d := range denials {
		if !slices.Contains(e.Services, d.Service) || !d.Covers(r.Method, r.Path) {
			continue
		}
		if d.Query != "" && !hasParameter(r.Query, d.Query) {
			continue
		}
		if !d.ByAction() {
			return d.Service + ":" + d.Name
		}
		if !read {
			action, known = actionOf(r, body)
			read = true
		}
		same := func(name string) bool { return strings.EqualFold(name, action) }
		switch {
		case !known:
			return d.Service + ": an action that cannot be told"
		case len(d.Actions) > 0 && slices.ContainsFunc(d.Actions, same),
			len(d.Except) > 0 && !slices.ContainsFunc(d.Except, same):
			return d.Service + ":" + action
		}
	}
	return ""
}

// hasParameter reports whether a query has a parameter, in whatever spelling. One
// that cannot be decoded may be it.
func hasParameter(query, name string) bool {
	for pair := range strings.SplitSeq(strings.ReplaceAll(query, ";", "&"), "&") {
		text, _, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(text); err != nil || strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// actionOf finds the action that a request names: in the query or the form of the
// Query protocol, in X-Amz-Target of the JSON protocols, or in the path of Smithy
// RPC v2. known is false unless there is exactly one, and a body that belongs to
// it.
func actionOf(r *Request, body []byte) (action string, known bool) {
	if len(r.Header["Content-Encoding"]) > 0 || len(r.Header["Content-Type"]) > 1 {
		return "", false
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Header.Get("Content-Type") != "" && err != nil {
		return "", false
	}
	if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
		return "", false
	}
	var names []string
	inQuery, ok := actionsIn(r.Query)
	if !ok {
		return "", false
	}
	names = append(names, inQuery...)
	form := kind == "application/x-www-form-urlencoded" || kind == ""
	if form {
		inBody, ok := actionsIn(string(body))
		if !ok {
			return "", false
		}
		names = append(names, inBody...)
	}
	other := false // a protocol that has bodies of its own
	for _, target := range r.Header["X-Amz-Target"] {
		other = true
		names = append(names, target[strings.LastIndexByte(target, '.')+1:])
	}
	if _, call, ok := strings.Cut(strings.ToLower(r.Path), "/operation/"); ok {
		other = true
		names = append(names, r.Path[len(r.Path)-len(call):])
	}
	text := bytes.TrimSpace(body)
	switch {
	case len(names) != 1 || names[0] == "":
		return "", false
	case other && form && len(text) > 0,
		!other && !form && len(text) > 0,
		strings.Contains(kind, "json") && len(text) > 0 && text[0] != '{':
		return "", false
	}
	return names[0], true
}

// actionsIn lists the values of Action in a query or a form; false when it cannot
// be read in one way alone.
func actionsIn(text string) ([]string, bool) {
	var out []string
	for pair := range strings.SplitSeq(text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := unescape(name)
		value, err2 := unescape(value)
		if err1 != nil || err2 != nil {
			return nil, false
		}
		if strings.EqualFold(strings.TrimSpace(name), "Action") {
			out = append(out, strings.TrimSpace(value))
		}
	}
	return out, true
}
