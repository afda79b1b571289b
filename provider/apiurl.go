package provider

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
	"golang.org/x/net/publicsuffix"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// apiURL reads one `api_url`: a host, an address with an optional path, or
// "regex:" and an expression over the host. What cannot be routed safely gives
// a warning and no route.
func apiURL(s *source, p *authsome.Provider, at, text string) ([]authsome.Route, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	if expr, ok := strings.CutPrefix(text, "regex:"); ok {
		hosts, why := fromRegexp(expr)
		if why != "" {
			p.Warnings = append(p.Warnings, fmt.Sprintf("api_url %q %s", clip(text), why))
		}
		var out []authsome.Route
		for _, h := range hosts {
			out = append(out, authsome.Route{Host: h})
		}
		return out, nil
	}
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return nil, s.fail(at, "is no address: %q", clip(text))
		case u.Scheme != "https":
			return nil, s.fail(at, "begins with %s://: credentials go out by https only", clip(u.Scheme))
		}
		r := authsome.Route{}
		if r.Host, err = pattern(u.Hostname()); err != nil {
			return nil, s.fail(at, "cannot be routed: %v", err)
		}
		if u.Port() != "" {
			if r.Port, err = strconv.Atoi(u.Port()); err != nil || r.Port < 1 || r.Port > 65535 {
				return nil, s.fail(at, "has no TCP port behind its colon")
			}
		}
		if path := strings.TrimRight(u.EscapedPath(), "/"); path != "" {
			if r.Path, err = route.Path(path); err != nil {
				return nil, s.fail(at, "cannot be routed: %v", err)
			}
		}
		return []authsome.Route{r}, nil
	}
	host, path, _ := strings.Cut(text, "/")
	h, err := pattern(host)
	if err != nil {
		return nil, s.fail(at, "cannot be routed: %v", err)
	}
	r := authsome.Route{Host: h}
	if path = strings.Trim(strings.TrimSuffix(path, "*"), "/"); path != "" {
		if r.Path, err = route.Path("/" + path); err != nil {
			return nil, s.fail(at, "cannot be routed: %v", err)
		}
	}
	return []authsome.Route{r}, nil
}

// narrowed are expressions of known files that match strangers' hosts
// ("googleapis.evil.example"), with what their authors meant.
var narrowed = map[string][]string{
	`.*googleapis.*`:              {"*.googleapis.com"},
	`.*googleapis\.com`:           {"*.googleapis.com"},
	`.*githubusercontent\.com$`:   {"*.githubusercontent.com"},
	`.*\.?githubusercontent\.com`: {"*.githubusercontent.com"},
}

// fromRegexp turns an expression into patterns, if it can be proven to stay
// inside one registrable domain. why says what was changed or is missing.
func fromRegexp(expr string) (hosts []string, why string) {
	if known, ok := narrowed[strings.TrimSuffix(strings.TrimPrefix(expr, "^"), "$")]; ok {
		return known, "matches hosts of strangers, too; it is taken as " + strings.Join(known, ", ")
	}
	if known, ok := narrowed[expr]; ok {
		return known, "matches hosts of strangers, too; it is taken as " + strings.Join(known, ", ")
	}
	const advice = "is not routed: it cannot be proven to stay inside one domain; write a host, or a pattern such as *.example.com"
	if len(expr) > 1000 {
		return nil, advice
	}
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, "is not routed: it is no regular expression"
	}
	p, ok := provePattern(re.Simplify())
	if !ok {
		return nil, advice
	}
	normal, err := pattern(p)
	if err != nil {
		return nil, advice
	}
	domain := strings.TrimPrefix(normal, "*.")
	// Where tenants run code (a private suffix such as github.io), only an
	// exact host is somebody's own.
	if normal != domain {
		if _, err := publicsuffix.EffectiveTLDPlusOne(domain); err != nil {
			return nil, advice
		}
	}
	return []string{normal}, ""
}

// provePattern understands two shapes: a literal host, and anything followed
// by a literal that begins with a dot. Everything else is not proven.
func provePattern(re *syntax.Regexp) (string, bool) {
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	isAnchor := func(r *syntax.Regexp) bool {
		switch r.Op {
		case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpEmptyMatch:
			return true
		}
		return false
	}
	var kept []*syntax.Regexp
	for _, r := range parts {
		if !isAnchor(r) {
			kept = append(kept, r)
		}
	}
	if len(kept) == 0 || len(kept) > 2 {
		return "", false
	}
	last := kept[len(kept)-1]
	if last.Op != syntax.OpLiteral {
		return "", false
	}
	literal := strings.ToLower(string(last.Rune))
	if len(kept) == 1 {
		return literal, !strings.HasPrefix(literal, ".")
	}
	switch kept[0].Op {
	case syntax.OpStar, syntax.OpPlus:
	default:
		return "", false
	}
	switch kept[0].Sub[0].Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpCharClass:
	default:
		return "", false
	}
	if !strings.HasPrefix(literal, ".") {
		return "", false
	}
	return "*" + literal, true
}

// keys lists the members of an object in the file's order.
func keys(s *source, pointer string) []string {
	v := s.root.Find(pointer)
	if v == nil {
		return nil
	}
	obj, ok := v.Value.(*hujson.Object)
	if !ok {
		return nil
	}
	var out []string
	for _, m := range obj.Members {
		if lit, ok := m.Name.Value.(hujson.Literal); ok {
			out = append(out, lit.String())
		}
	}
	return out
}

// escape writes a name as a part of a JSON pointer (RFC 6901 section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// compact is the definition as plain JSON, unknown fields included.
func compact(data []byte) (json.RawMessage, error) {
	v, err := hujson.Parse(data)
	if err != nil {
		return nil, err
	}
	v.Minimize()
	return json.RawMessage(v.Pack()), nil
}
