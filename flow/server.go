package flow

import (
	"errors"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/authsome/authsome"
)

// Server is one authorization server as one login or connection uses it: its
// addresses with {base_url} filled in, the client, the redirect URI.
type Server struct {
	authsome.OAuth
	App         authsome.OAuthClient
	RedirectURI string
	Private     bool // the person approved private addresses for this login
}

// baseURL stands at the beginning of addresses for that of the service.
const baseURL = "{base_url}"

// At fills {base_url} into the addresses of a definition. base is the address of
// a service of the person's own, "" for the vendor's. At a service of their own
// only addresses that begin with {base_url} are kept, or those of
// OAuth.SelfManaged: the others are the vendor's, who must not be sent what is
// not theirs. BaseURL of the result is the address in force, in its usual form. The error is of code Invalid.
func At(o *authsome.OAuth, base string) (authsome.OAuth, error) {
	out := *o
	if o.UserInfo != nil {
		u := *o.UserInfo
		out.UserInfo = &u
	}
	base = strings.TrimRight(strings.TrimSpace(base), "/")
	own := base != "" && base != o.BaseURL
	switch {
	case own && o.BaseURL == "":
		return authsome.OAuth{}, authsome.E(authsome.Invalid, "use %s: nobody but the vendor hosts this service", hostOf(base)).
			WithHint("leave --base-url out")
	case own:
		u, err := endpoint(base)
		if err != nil || u.RawQuery != "" || u.ForceQuery {
			return authsome.OAuth{}, authsome.E(authsome.Invalid, "use the given base URL: %s", orText(err, "it has a query")).
				WithHint("write the address of the service's front page, such as %s", o.BaseURL)
		}
		u.Host = strings.ToLower(u.Host)
		base = u.String()
	default:
		base = o.BaseURL
	}
	out.BaseURL = base
	if s := o.SelfManaged; own && s != nil {
		if s.RevocationURL != "" {
			out.RevocationURL = s.RevocationURL
		}
		if s.UserInfoURL != "" && out.UserInfo != nil {
			out.UserInfo.URL = s.UserInfoURL
		}
	}
	addresses := []*string{
		&out.AuthorizationURL, &out.TokenURL, &out.Issuer, &out.DeviceURL, &out.RegistrationURL, &out.RevocationURL, &out.Resource, &out.AppsURL,
	}
	if out.UserInfo != nil {
		addresses = append(addresses, &out.UserInfo.URL)
	}
	for i, a := range addresses {
		rest, has := strings.CutPrefix(*a, baseURL)
		switch {
		case has && base == "":
			return authsome.OAuth{}, authsome.E(authsome.Invalid, "the definition says %s, but not what base_url is", clip(*a)).
				WithHint("add --base-url with the service's address")
		case has:
			*a = base + rest
		case own && i < 2 && *a != "": // the login itself cannot be at the vendor's
			return authsome.OAuth{}, authsome.E(authsome.Invalid, "use %s: the definition's login is at %s only", hostOf(base), hostOf(*a)).
				WithHint("leave --base-url out")
		case own:
			*a = ""
		}
	}
	if out.UserInfo != nil && out.UserInfo.URL == "" {
		out.UserInfo = nil
	}
	if own {
		out.ClientID = "" // known to the vendor's server only
	}
	return out, nil
}

func orText(err error, text string) string {
	if err != nil {
		return err.Error()
	}
	return text
}

// endpoint checks an address that is asked or shown: https, a host, and nothing
// in front of it. The error's text is for people and quotes nothing.
func endpoint(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case address == "":
		return nil, errors.New("it has no address")
	case err != nil || len(address) > 2048:
		return nil, errors.New("its address is not valid")
	case u.Scheme != "https":
		return nil, errors.New("its address is not https")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("its address has no host")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r >= 0x80 }):
		// HTTP clients make ASCII of it, and there are letters that become the
		// digits of an address.
		return nil, errors.New("its host is not in ASCII")
	case u.User != nil:
		return nil, errors.New("its address has a user in it")
	case u.Fragment != "" || strings.Contains(address, "#"):
		return nil, errors.New("its address has a fragment")
	case strings.ContainsAny(address, "{}<>\"\\") || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, errors.New("its address is not valid")
	}
	return u, nil
}

// nowhere stands for the host of what is no address.
const nowhere = "the server"

// hostOf is the host of an address, with its port when it has one, for messages.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nowhere
	}
	return clean(u.Host, 80)
}

// SameSite reports whether two addresses are of one owner, as far as the domain
// name system tells: the same host, or the same registrable domain by the Public
// Suffix List, where names that tenants of a platform choose are on different
// sites.
func SameSite(a, b string) bool {
	ua, err := url.Parse(a)
	ub, err2 := url.Parse(b)
	if err != nil || err2 != nil || ua.Hostname() == "" || ub.Hostname() == "" {
		return false
	}
	name := func(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") }
	ha, hb := name(ua), name(ub)
	if ha == hb {
		return true
	}
	sa, err := publicsuffix.EffectiveTLDPlusOne(ha)
	sb, err2 := publicsuffix.EffectiveTLDPlusOne(hb)
	// For an IP address the list gives its last numbers.
	return err == nil && err2 == nil && sa == sb && strings.Trim(ha+hb, "0123456789.") != "" && !strings.Contains(ha+hb, ":")
}
