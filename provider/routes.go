package provider

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/publicsuffix"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// routes reads `routes`, or makes them of `api_url` and the header that the
// api_key section names.
func routes(f *file, s *source, p *authsome.Provider) error {
	if len(f.Routes) > maxRoutes {
		return s.fail("/routes", "has more than %d elements", maxRoutes)
	}
	for i, e := range f.Routes {
		made, err := explicitRoutes(s, p, fmt.Sprintf("/routes/%d", i), e)
		if err != nil {
			return err
		}
		p.Routes = append(p.Routes, made...)
	}
	if len(f.Routes) == 0 {
		texts, pointers, err := s.stringOrList("/api_url", f.APIURL)
		if err != nil {
			return err
		}
		var in []authsome.Injection
		if len(texts) > 0 {
			if in, err = defaultInjections(f, s, p); err != nil {
				return err
			}
		}
		for i, text := range texts {
			text = strings.TrimSpace(text)
			own := strings.HasPrefix(text, baseURL)
			if movesHost(text) {
				return s.fail(pointers[i], "must have a slash after {base_url}")
			}
			if f.OAuth != nil {
				text = withBase(text, f.OAuth.BaseURL)
			}
			made, err := apiURL(s, p, pointers[i], text)
			if err != nil {
				return err
			}
			for _, r := range made {
				r.Inject = in
				p.Routes = append(p.Routes, r)
				if own && f.SelfManaged == nil && p.OAuth != nil {
					r.Host, r.Port = ownHost, 0
					p.SelfManaged = append(p.SelfManaged, r)
				}
			}
		}
	}
	if len(p.Routes) > maxRoutes {
		return s.fail("/routes", "come to more than %d hosts", maxRoutes)
	}
	if len(p.Routes) == 0 && len(p.Warnings) == 0 {
		p.Warnings = append(p.Warnings, "there is no api_url, so no request gets the credential: only `authsome export` gives it out")
	}
	return nil
}

// ownHost stands in self_managed for the host of a connection's own service.
const ownHost = "{host}"

// selfManagedRoutes reads the routes of a service that people host themselves.
// They are on that host alone.
func selfManagedRoutes(f *file, s *source, p *authsome.Provider) error {
	if f.SelfManaged == nil || p.OAuth == nil {
		return nil
	}
	if len(f.SelfManaged.Routes) > maxRoutes {
		return s.fail("/self_managed/routes", "has more than %d elements", maxRoutes)
	}
	for i, e := range f.SelfManaged.Routes {
		at := fmt.Sprintf("/self_managed/routes/%d", i)
		var host string
		if len(e.Host) > 0 && json.Unmarshal(e.Host, &host) != nil || host != ownHost {
			return s.fail(at+"/host", "must be %s, which stands for the host of the person's own service", ownHost)
		}
		if e.Port != 0 {
			return s.fail(at+"/port", "is the one of the person's own service")
		}
		r, err := routeWithoutHost(s, p, at, e)
		if err != nil {
			return err
		}
		r.Host = ownHost
		p.SelfManaged = append(p.SelfManaged, r)
	}
	return nil
}

// defaultInjections are the headers of schema version 1. Access tokens are
// bearers; the api_key section says where keys go.
func defaultInjections(f *file, s *source, p *authsome.Provider) ([]authsome.Injection, error) {
	bearer := authsome.Injection{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}", When: authsome.Always}
	if !p.Accepts(authsome.FlowAPIKey) || f.APIKey == nil {
		return []authsome.Injection{bearer}, checkInjection(s, p, "/api_key/fields", bearer)
	}
	at, in := "/api_key", bearer
	if f.APIKey.HeaderName != "" {
		at, in.Name = "/api_key/header_name", f.APIKey.HeaderName
	}
	switch prefix := f.APIKey.HeaderPrefix; {
	case prefix != nil && strings.ContainsAny(*prefix, "{}"):
		return nil, s.fail("/api_key/header_prefix", "holds braces: routes can say more exactly where the key goes")
	case prefix != nil && *prefix != "":
		in.Value = *prefix + " {token}"
	case prefix != nil || s.root.Find("/api_key/header_prefix") != nil:
		in.Value = "{token}"
	}
	if !keyHas(p, authsome.FieldToken) {
		return nil, s.fail(at, "gives one header to several keys: routes can say which goes where")
	}
	if !hasOAuth(p) || in == bearer {
		return []authsome.Injection{in}, checkInjection(s, p, at, in)
	}
	key := authsome.FieldAPIKey
	if len(p.Key.Fields) == 1 {
		key = p.Key.Fields[0].Name
	}
	in.Value = strings.Replace(in.Value, "{token}", "{"+key+"}", 1)
	bearer.Value = "Bearer {access_token}"
	return []authsome.Injection{bearer, in}, checkInjection(s, p, at, in)
}

// explicitRoutes reads one element of `routes`: one route for each of its hosts.
func explicitRoutes(s *source, p *authsome.Provider, at string, e routeEntry) ([]authsome.Route, error) {
	r, err := routeWithoutHost(s, p, at, e)
	if err != nil {
		return nil, err
	}
	hosts, pointers, err := s.stringOrList(at+"/host", e.Host)
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		return nil, s.fail(at+"/host", "is missing")
	}
	var out []authsome.Route
	for i, h := range hosts {
		if r.Host, err = pattern(h); err != nil {
			return nil, s.fail(pointers[i], "cannot be routed: %v", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// routeWithoutHost reads what the routes of one element have in common.
func routeWithoutHost(s *source, p *authsome.Provider, at string, e routeEntry) (authsome.Route, error) {
	none := authsome.Route{}
	r := authsome.Route{Port: e.Port, Methods: e.Methods, Strip: e.Strip, StripQuery: e.StripQuery, StripCookies: e.StripCookies}
	if r.Port < 0 || r.Port > 65535 {
		return none, s.fail(at+"/port", "is no TCP port")
	}
	if r.Port == 443 {
		r.Port = 0
	}
	if e.Path != "" {
		path, err := route.Path(e.Path)
		if err != nil {
			return none, s.fail(at+"/path", "cannot be routed: %v", err)
		}
		if path != "/" {
			r.Path = strings.TrimSuffix(path, "/")
		}
	}
	if err := methods(s, at, r.Methods); err != nil {
		return none, err
	}
	for i, h := range r.Strip {
		if why := unfit(h); why != "" {
			return none, s.fail(fmt.Sprintf("%s/strip/%d", at, i), "%s", why)
		}
	}
	for i, q := range r.StripQuery {
		if why := unfitField(authsome.SlotQuery, q); why != "" {
			return none, s.fail(fmt.Sprintf("%s/strip_query/%d", at, i), "%s", why)
		}
	}
	for i, c := range r.StripCookies {
		if why := unfitField(authsome.SlotCookie, c); why != "" {
			return none, s.fail(fmt.Sprintf("%s/strip_cookies/%d", at, i), "%s", why)
		}
	}
	if len(e.Inject) == 0 {
		return none, s.fail(at+"/inject", "is missing: nothing says where the credential goes")
	}
	for i, ie := range e.Inject {
		in, err := injection(s, p, fmt.Sprintf("%s/inject/%d", at, i), ie)
		if err != nil {
			return none, err
		}
		if in.Slot == authsome.SlotPath {
			if t, err := route.ParseTemplate(in.Name); err != nil || !t.Under(r.Path) {
				return none, s.fail(fmt.Sprintf("%s/inject/%d/path", at, i), "is outside the path of its route, %s", clip(r.Path))
			}
		}
		for _, other := range r.Inject {
			if samePlace(other, in) && other.When == in.When && together(p, other, in) {
				return none, s.fail(fmt.Sprintf("%s/inject/%d", at, i), "fills %s, which another element fills in the same case", clip(in.Name))
			}
			if why := connectionClash(other, in); why != "" {
				return none, s.fail(fmt.Sprintf("%s/inject/%d", at, i), "%s", why)
			}
			// One is an object that the other replaces.
			if in.Slot == authsome.SlotJSON && other.Slot == in.Slot &&
				(strings.HasPrefix(in.Name, other.Name+".") || strings.HasPrefix(other.Name, in.Name+".")) {
				return none, s.fail(fmt.Sprintf("%s/inject/%d/json", at, i), "is %s, and another element's %s: one lies inside the other", clip(in.Name), clip(other.Name))
			}
		}
		r.Inject = append(r.Inject, in)
	}
	if err := denials(s, at+"/deny", e.Deny, &r); err != nil {
		return none, err
	}
	return r, nil
}

func methods(s *source, at string, list []string) error {
	for i, m := range list {
		if m != strings.ToUpper(m) || !httpguts.ValidHeaderFieldName(m) || slices.Contains(list[:i], m) {
			return s.fail(fmt.Sprintf("%s/methods/%d", at, i), "is %q: methods are words in capitals, each once", clip(m))
		}
	}
	return nil
}

// samePlace reports whether two injections write to the same place. Basic is a
// way to fill the header Authorization.
func samePlace(a, b authsome.Injection) bool {
	header := func(s authsome.Slot) bool { return s == authsome.SlotHeader || s == authsome.SlotBasic }
	if header(a.Slot) && header(b.Slot) {
		return strings.EqualFold(a.Name, b.Name)
	}
	return a.Slot == b.Slot && a.Name == b.Name
}

// cookieClash refuses a definition that fills both the whole header Cookie and
// one cookie in it: which of the two a request would have is anybody's guess.
func cookieClash(_ *file, s *source, p *authsome.Provider) error {
	whole, one := false, false
	for _, r := range slices.Concat(p.Routes, p.SelfManaged) {
		one = one || len(r.StripCookies) > 0
		for _, in := range r.Inject {
			one = one || in.Slot == authsome.SlotCookie
			whole = whole || in.Slot == authsome.SlotHeader && strings.EqualFold(in.Name, "Cookie")
		}
	}
	if whole && one {
		return s.fail("/routes", "fill the whole header Cookie and single cookies as well: write {\"cookie\": NAME, \"value\": …} for each")
	}
	return nil
}

// injection reads one element of `inject`.
func injection(s *source, p *authsome.Provider, at string, e injectEntry) (authsome.Injection, error) {
	if e.SigV4 != nil {
		return signature(s, p, at, e)
	}
	in := authsome.Injection{When: authsome.When(e.When), Value: e.Value}
	named := 0
	for _, slot := range []struct {
		kind authsome.Slot
		text string
	}{
		{authsome.SlotHeader, e.Header},
		{authsome.SlotBasic, e.Basic},
		{authsome.SlotQuery, e.Query},
		{authsome.SlotPath, e.Path},
		{authsome.SlotCookie, e.Cookie},
		{authsome.SlotJSON, e.JSON},
		{authsome.SlotForm, e.Form},
	} {
		if slot.text != "" {
			named++
			in.Slot, in.Name = slot.kind, slot.text
		}
	}
	if e.Message != "" || e.At != "" || e.Certificate != nil {
		return connectionSlot(s, p, at, e, named)
	}
	// Two kinds hold their value themselves.
	own := in.Slot == authsome.SlotBasic || in.Slot == authsome.SlotPath
	if named != 1 || own != (e.Value == "") {
		return in, s.fail(at, "needs either basic, or path, or a value and one of header, query, cookie, json, form")
	}
	field := at + "/value"
	switch in.Slot {
	case authsome.SlotBasic:
		field = at + "/basic"
		in.Name, in.Value = "Authorization", e.Basic
		if !strings.Contains(in.Value, ":") {
			return in, s.fail(field, "has no colon between user and password")
		}
	case authsome.SlotPath:
		field = at + "/path"
		first, last := strings.IndexByte(e.Path, '{'), strings.LastIndexByte(e.Path, '}')
		if first < 0 || last < first {
			return in, s.fail(field, "does not say where in %q the credential goes: write /bot{token}, say", clip(e.Path))
		}
		in.Name, in.Value = e.Path[:first]+"{}"+e.Path[last+1:], e.Path[first:last+1]
		if _, err := route.ParseTemplate(in.Name); err != nil || strings.Contains(in.Value, "/") {
			return in, s.fail(field, "is %q: it must be a normal path whose last segment has the fields in it", clip(e.Path))
		}
	}
	switch in.When {
	case "":
		in.When = authsome.Always
	case authsome.Always, authsome.OnPlaceholder:
	case authsome.OnChallenge:
		// Without its part, a path is another; and most bodies cannot be sent twice.
		if in.Slot == authsome.SlotPath || in.Slot.InBody() {
			return in, s.fail(at+"/when", "is challenge, which a %s slot cannot be: it may be always or placeholder", in.Slot)
		}
	default:
		return in, s.fail(at+"/when", "is %q: it may be always, placeholder or challenge", clip(e.When))
	}
	if in.Slot.Beyond() {
		if why := unfitField(in.Slot, in.Name); why != "" {
			return in, s.fail(at+"/"+string(in.Slot), "%s", why)
		}
	} else if why := unfit(in.Name); why != "" {
		return in, s.fail(at+"/header", "%s", why)
	}
	return in, checkInjection(s, p, field, in)
}

var (
	// Names of parameters and form fields need no escape, and none of the
	// characters by which services make lists and objects of parameters.
	queryName = regexp.MustCompile(`^[A-Za-z0-9_.~$-]+$`)
	jsonPlace = regexp.MustCompile(`^[A-Za-z0-9_@$:/-]+(\.[A-Za-z0-9_@$:/-]+)*$`)
)

// unfitField says why a place beyond the header cannot be one, or "".
func unfitField(slot authsome.Slot, text string) string {
	ok := len(text) <= maxText
	switch slot {
	case authsome.SlotQuery, authsome.SlotForm:
		ok = ok && queryName.MatchString(text)
	case authsome.SlotCookie:
		ok = ok && httpguts.ValidHeaderFieldName(text) // a token: RFC 6265, section 4.1.1
	case authsome.SlotJSON:
		ok = ok && jsonPlace.MatchString(text)
	}
	if !ok {
		return fmt.Sprintf("is %q, which names no %s slot", clip(text), slot)
	}
	return ""
}

// reserved headers belong to the message's framing, to the connection, or to
// the proxy itself: a value of ours there would change what the request is
// (RFC 9110 sections 7.6.1 and 14.2, RFC 9113 section 8.2.2), and one of them
// taken away would, too.
var reserved = map[string]bool{
	"accept-encoding": true, "alt-used": true, "connection": true, "content-encoding": true, "content-length": true,
	"content-range": true, "content-type": true, "date": true, "expect": true, "forwarded": true, "host": true,
	"http2-settings": true, "keep-alive": true, "range": true, "set-cookie": true, "te": true, "trailer": true,
	"transfer-encoding": true, "upgrade": true, "via": true, "www-authenticate": true,
}

// unfit says why a header cannot carry a credential, or "".
func unfit(header string) string {
	low := strings.ToLower(header)
	switch {
	case !httpguts.ValidHeaderFieldName(header) || len(header) > maxText:
		return fmt.Sprintf("names %q, which is no header", clip(header))
	case reserved[low], strings.HasPrefix(low, "proxy-"), strings.HasPrefix(low, "sec-"), strings.HasPrefix(low, "authsome-"), strings.HasPrefix(low, "x-forwarded-"):
		return fmt.Sprintf("names %s, which is part of the message's framing and cannot carry a credential", header)
	}
	return ""
}

var template = regexp.MustCompile(`\{([^{}]*)\}`)

// checkInjection holds an injection to what may be put on a request.
func checkInjection(s *source, p *authsome.Provider, at string, in authsome.Injection) error {
	if in.Slot.Beyond() {
		if why := unfitField(in.Slot, in.Name); why != "" {
			return s.fail(at, "%s", why)
		}
	} else if why := unfit(in.Name); why != "" && in.Slot != authsome.SlotMessage {
		return s.fail(at, "%s", why)
	}
	if !httpguts.ValidHeaderFieldValue(in.Value) || len(in.Value) > maxLongText || strings.TrimSpace(in.Value) != in.Value {
		return s.fail(at, "gives a value that no header may have")
	}
	if in.Slot == authsome.SlotCookie && strings.ContainsAny(template.ReplaceAllString(in.Value, ""), " \",;\\") {
		return s.fail(at, "gives a value that no cookie may have")
	}
	used := template.FindAllStringSubmatch(in.Value, -1)
	if len(used) == 0 {
		return s.fail(at, "does not say where in %q the credential goes: write {token}", clip(in.Value))
	}
	for _, m := range used {
		if !hasField(p, m[1]) {
			return s.fail(at, "uses {%s}, which is no field of the credential", clip(m[1]))
		}
	}
	if key, tokens := fits(p, in); !key && !tokens {
		return s.fail(at, "uses fields of keys and of access tokens together, which no credential has")
	}
	if strings.ContainsAny(template.ReplaceAllString(in.Value, ""), "{}") {
		return s.fail(at, "has braces that do not pair in %q", clip(in.Value))
	}
	return nil
}

// hasField reports whether some credential of the provider has a field.
func hasField(p *authsome.Provider, field string) bool {
	return keyHas(p, field) || tokensHave(p, field)
}

// keyHas reports whether a key that the provider's form asks for has a field.
func keyHas(p *authsome.Provider, field string) bool {
	if !p.Accepts(authsome.FlowAPIKey) {
		return false
	}
	own := func(name string) bool {
		return slices.ContainsFunc(p.Key.Fields, func(f authsome.KeyField) bool { return f.Name == name })
	}
	return own(field) || field == authsome.FieldToken && (len(p.Key.Fields) == 1 || own(authsome.FieldAPIKey))
}

// tokensHave reports the same of a credential by OAuth.
func tokensHave(p *authsome.Provider, field string) bool {
	if !hasOAuth(p) && p.Accepts(authsome.FlowAPIKey) {
		return false
	}
	return field == authsome.FieldToken || field == authsome.FieldAccessToken
}

// fits reports for which credentials an injection is, as Injection.Fits will
// find.
func fits(p *authsome.Provider, in authsome.Injection) (key, tokens bool) {
	key, tokens = true, true
	for _, m := range template.FindAllStringSubmatch(in.Value, -1) {
		key = key && keyHas(p, m[1])
		tokens = tokens && tokensHave(p, m[1])
	}
	return key, tokens
}

// together reports whether two injections go onto the same request for some
// credential.
func together(p *authsome.Provider, a, b authsome.Injection) bool {
	key, tokens := fits(p, a)
	otherKey, otherTokens := fits(p, b)
	return key && otherKey || tokens && otherTokens
}

// exceptions keeps the provider's own OAuth endpoints free of its credential:
// host, port and path must all be theirs.
func exceptions(f *file, s *source, p *authsome.Provider) error {
	for _, e := range addresses(f) {
		u, err := url.Parse(e.text)
		// One with a part that is filled in is a method of the API, which wants
		// the app's own credentials.
		if err != nil || !e.endpoint || strings.Contains(e.text, "{") {
			continue
		}
		host, port, err := hostPort(u)
		if err != nil {
			continue
		}
		path, err := route.Path(u.EscapedPath())
		if err != nil {
			return s.fail(e.at, "has a path that cannot be normalised: %v", err)
		}
		for i := range p.Routes {
			r := &p.Routes[i]
			if pt, err := route.ParsePattern(r.Host); err == nil && pt.Match(host) && r.Port == port && !slices.Contains(r.Except, path) {
				r.Except = append(r.Except, path)
			}
		}
	}
	return nil
}

// hostPort gives the normalised host of an address, and its port, 0 for 443.
func hostPort(u *url.URL) (string, int, error) {
	host, err := route.Host(u.Hostname())
	if err != nil {
		return "", 0, err
	}
	port, err := portOf(u)
	return host, port, err
}

func portOf(u *url.URL) (int, error) {
	text := u.Port()
	if text == "" && !strings.HasSuffix(u.Host, ":") {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 1 || n > 65535:
		return 0, fmt.Errorf("%q is no TCP port", clip(text))
	case n == 443:
		return 0, nil
	}
	return n, nil
}

// origin is the address of a route without its path, "" for a pattern.
func origin(r authsome.Route) string {
	switch {
	case strings.HasPrefix(r.Host, "*"):
		return ""
	case r.Port != 0:
		return "https://" + net.JoinHostPort(r.Host, strconv.Itoa(r.Port))
	case strings.Contains(r.Host, ":"):
		return "https://[" + r.Host + "]"
	}
	return "https://" + r.Host
}

// answeredByOwner are domains of the Public Suffix List's private part whose
// names are all answered by the owner's machines, which is not true of the rest:
// tenants have data there, and no program that would see a request.
var answeredByOwner = []string{"googleapis.com", "githubusercontent.com"}

// pattern normalises a host pattern and refuses wildcards over a public
// suffix, private ones included, under which strangers have names.
func pattern(text string) (string, error) {
	p, err := route.ParsePattern(text)
	if err != nil {
		return "", err
	}
	if domain, wild := strings.CutPrefix(p.String(), "*."); wild && !slices.Contains(answeredByOwner, domain) {
		if suffix, _ := publicsuffix.PublicSuffix(domain); suffix == domain {
			return "", fmt.Errorf("anybody can have a name under %s: write the exact host", domain)
		}
	}
	return p.String(), nil
}
