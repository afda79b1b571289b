package proxy

import (
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"golang.org/x/net/http/httpguts"
)

// hopByHop are the headers that concern one connection only (RFC 9110, section
// 7.6.1), and those that an old client may send without naming them in
// Connection.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	authsome.ConnectionHeader, // concerns the proxy
}

// removeHopByHop deletes them and those that Connection names. It comes before
// anything of ours is put on, so that `Connection: authorization` removes the
// child's own credential and never the one that is injected.
func removeHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name != "" {
				delete(h, http.CanonicalHeaderKey(name))
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// hasToken reports whether a comma-separated header holds token.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(textproto.TrimString(t), token) {
				return true
			}
		}
	}
	return false
}

// upgradeOf returns the protocol that the child asks to switch to, "" for none.
// A switch to cleartext HTTP/2 is no business of a client that already speaks
// through TLS (RFC 9113 has dropped it): behind it, requests that nobody looked
// at would travel on a connection of ours.
func upgradeOf(r *http.Request) string {
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || !hasToken(r.Header["Connection"], "upgrade") {
		return ""
	}
	up := r.Header.Get("Upgrade")
	if up == "" || len(r.Header["Upgrade"]) > 1 || strings.HasPrefix(strings.ToLower(up), "h2c") || strings.Contains(up, ",") {
		return ""
	}
	return up
}

// overrides are the methods that a service may take from a header or from the query, in
// the place of that of the request line (Google's APIs and many frameworks do), and that
// of the line in capitals: it knows case, and not every service cares (Jetty 9.3 did not).
func overrides(method string, header http.Header, query string) (methods []string) {
	add := func(v string) {
		if v = strings.ToUpper(textproto.TrimString(v)); v != "" && v != method {
			methods = append(methods, v)
		}
	}
	add(method)
	for name, values := range header {
		// What is handed on as in CGI cannot tell the two apart (RFC 3875, section 4.1.18).
		switch http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")) {
		case "X-Http-Method-Override", "X-Http-Method", "X-Method-Override":
			for _, v := range values {
				add(v)
			}
		}
	}
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		if name, value, _ := strings.Cut(pair, "="); readName(name) == "_method" {
			add(decodeField(value))
		}
	}
	return methods
}

// onward makes the header that goes upstream: the child's, cleaned by
// removeHopByHop, with the resolution applied. The child's own map stays as it
// is, so that no credential of ours is ever in it.
func onward(child http.Header, res *authsome.Resolution, trailers bool, upgrade string) http.Header {
	out := make(http.Header, len(child)+4)
	for k, v := range child {
		out[k] = v
	}
	// Present but empty: net/http adds no User-Agent of its own.
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil
	}
	delete(out, "Host")
	if trailers {
		out["Te"] = []string{"trailers"}
	}
	if upgrade != "" {
		out["Connection"] = []string{"Upgrade"}
		out["Upgrade"] = []string{upgrade}
	}
	if res == nil || res.Verdict != authsome.Inject {
		return out
	}
	for _, name := range res.Strip {
		delete(out, http.CanonicalHeaderKey(name))
	}
	withoutDisguises(out, res)
	for _, s := range res.Set {
		out[http.CanonicalHeaderKey(s.Name)] = []string{s.Value.Reveal()}
	}
	return out
}

// places are the headers of a service that are for credentials.
func places(res *authsome.Resolution) []string {
	if res == nil || res.Verdict != authsome.Inject {
		return nil
	}
	names := slices.Clone(res.Strip)
	for _, s := range res.Set {
		names = append(names, s.Name)
	}
	return names
}

// likeName compares names as programs behind CGI, WSGI and the like do, to which
// X_Api_Key and X-Api-Key are one variable (RFC 3875, section 4.1.18).
func likeName(name string) func(string) bool {
	fold := func(s string) string { return strings.ReplaceAll(s, "_", "-") }
	name = fold(name)
	return func(other string) bool { return strings.EqualFold(name, fold(other)) }
}

// framing are headers that decide where a request ends and whose it is.
var framing = []string{"Content-Length", "Transfer-Encoding", "Host"}

// rewriting are headers whose path goes before that of the request line, with ISAPI's
// rewriting and the frameworks that took it over.
var rewriting = []string{"X-Original-Url", "X-Rewrite-Url"}

// withoutDisguises removes what some services would read as a second credential, a
// second length, or another path than the one that was routed on.
func withoutDisguises(h http.Header, res *authsome.Resolution) {
	odd := slices.ContainsFunc(res.Strip, underscored) ||
		slices.ContainsFunc(res.Set, func(s authsome.SetHeader) bool { return underscored(s.Name) })
	var slots []string // of the service; seldom needed
	for name := range h {
		switch {
		case slices.Contains(rewriting, name):
			delete(h, name)
		case odd || underscored(name):
			if slots == nil {
				slots = places(res)
			}
			if like := likeName(name); slices.ContainsFunc(slots, like) || slices.ContainsFunc(rewriting, like) || slices.ContainsFunc(framing, like) && !slices.Contains(framing, name) {
				delete(h, name)
			}
		}
	}
}

func underscored(name string) bool { return strings.IndexByte(name, '_') >= 0 }

// hasPlaceholder reports whether a value holds our placeholder, also inside the
// Base64 of Basic, where git puts it.
func hasPlaceholder(value string) bool {
	if strings.Contains(value, authsome.Placeholder) {
		return true
	}
	text, ok := decodeBasic(value)
	return ok && strings.Contains(text, authsome.Placeholder)
}

// misplaced returns the name of a header that still holds a placeholder, in the
// order of their names; "" when none does.
func misplaced(h http.Header) string {
	found := ""
	for name, values := range h {
		for _, v := range values {
			if hasPlaceholder(v) && (found == "" || name < found) {
				found = name
			}
		}
	}
	return found
}

// withoutPlaceholders removes those of the named headers that hold one: a
// challenge is provoked anonymously.
func withoutPlaceholders(h http.Header, names []string) {
	for _, name := range names {
		name = http.CanonicalHeaderKey(name)
		if slices.ContainsFunc(h[name], hasPlaceholder) {
			delete(h, name)
		}
	}
}

// answerHeader makes an upstream's header that of our answer, and returns it.
// Nobody needs the former any more.
func answerHeader(w http.ResponseWriter, src http.Header) (dst http.Header) {
	removeHopByHop(src)
	if len(src["Content-Length"]) > 1 {
		// Over HTTP/2 they do no harm and come through; over HTTP/1.1 the answer would
		// end in two places. The body is there to be counted.
		delete(src, "Content-Length")
	}
	if f, ok := w.(*frontWriter); ok && len(f.header) == 0 {
		f.header = src
		dst = src
	} else {
		dst = w.Header()
		maps.Copy(dst, src)
	}
	delete(dst, errorHeader)
	// Present but empty: net/http neither guesses a type nor dates the answer,
	// which a proxy has no business to do.
	for _, k := range [...]string{"Content-Type", "Date"} {
		if _, ok := dst[k]; !ok {
			dst[k] = nil
		}
	}
	return dst
}

// trailerAllowed refuses trailers that would be framing, routing or
// credentials, were a server to merge them into the header (RFC 9110, section
// 6.5.1).
func trailerAllowed(name string) bool {
	if !httpguts.ValidHeaderFieldName(name) {
		return false // "Trailer: a b", which http.Transport does not send
	}
	switch name = http.CanonicalHeaderKey(name); name {
	case "Content-Length", "Host", "Authorization", "Cookie", "Content-Encoding", "Content-Type", "Content-Range", errorHeader:
		return false
	default:
		for _, hop := range hopByHop {
			if name == hop {
				return false
			}
		}
		return true
	}
}
