package provider

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/authsome/authsome"
)

// CheckRegistrable holds a person's own definition to what may be registered:
// secrets go to named hosts by https, never to this machine or a bare address,
// where whoever is there could be anybody. It looks at the routes and at the
// addresses of OAuth. The error is of code Invalid and says what to write.
func CheckRegistrable(p *authsome.Provider) error {
	refuse := func(what, host, why, instead string) error {
		if what != "" {
			what += ": "
		}
		return authsome.E(authsome.Invalid, "register %s: %s%s %s", p.Name, what, clip(host), why).WithHint("%s", instead)
	}
	for _, r := range p.Routes {
		if why, instead := unfitHost(strings.TrimPrefix(r.Host, "*.")); why != "" {
			return refuse("", r.Host, why, instead)
		}
		if _, err := pattern(r.Host); err != nil {
			return refuse("", r.Host, fmt.Sprintf("cannot be routed: %v", err), "write the host itself")
		}
	}
	if len(p.Definition) == 0 {
		return nil
	}
	f, _, _, err := read(p.Name, p.Definition)
	if err != nil {
		return err
	}
	for _, e := range addresses(f) {
		field := strings.ReplaceAll(e.at[1:], "/", ".")
		u, err := url.Parse(e.text)
		if err != nil || u.Scheme != "https" {
			return refuse(field, e.text, "is no https address", "write an address that begins with https://")
		}
		host, _, err := hostPort(u)
		if err != nil {
			return refuse(field, e.text, "has no usable host", "write an address that begins with https:// and a host name")
		}
		if why, instead := unfitHost(host); why != "" {
			return refuse(field, host, why, instead)
		}
	}
	return nil
}

// unfitHost says why a normalised host may not receive secrets, and what to
// write instead, or "".
func unfitHost(host string) (why, instead string) {
	if _, err := netip.ParseAddr(host); err == nil {
		return "is a bare IP address, which names nobody", "give the service a host name"
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case last == "localhost" || last == "localdomain":
		return "is this machine itself", "a service on this machine needs no credential from outside; use a host name of its own"
	case last == "invalid": // RFC 6761 section 6.4
		return "is a name that never exists", "write the service's host name"
	case last == host:
		return "is a short name, which every network completes in its own way", "write the whole host name, with its domain"
	}
	return "", ""
}
