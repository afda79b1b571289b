package provider

import (
	"fmt"
	"net/url"
	"strings"

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
	if strings.Contains(text, "{base_url}") {
		p.Warnings = append(p.Warnings, fmt.Sprintf("api_url %q is not routed: oauth.base_url is missing", clip(text)))
		return nil, nil
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, s.fail(at, "is no address: %q", clip(text))
	case u.Scheme != "https":
		return nil, s.fail(at, "begins with %s://: credentials go out by https only", clip(u.Scheme))
	}
	r := authsome.Route{}
	if r.Host, err = pattern(u.Hostname()); err != nil {
		return nil, s.fail(at, "cannot be routed: %v", err)
	}
	if r.Port, err = portOf(u); err != nil {
		return nil, s.fail(at, "cannot be routed: %v", err)
	}
	// Some files end a prefix in a star.
	if path := strings.TrimRight(strings.TrimSuffix(u.EscapedPath(), "/*"), "/"); path != "" {
		if r.Path, err = route.Path(path); err != nil {
			return nil, s.fail(at, "cannot be routed: %v", err)
		}
		r.Path = strings.TrimSuffix(r.Path, "/")
	}
	return []authsome.Route{r}, nil
}
