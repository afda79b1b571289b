package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/authsome/authsome"
)

// Bounds of what an oauth section may hold; the longest known ones have a fifth
// of it.
const (
	maxScopes = 256
	maxParams = 32
	maxBody   = 4 << 10 // of a user-info request, in bytes
)

// baseURL stands in addresses for oauth.base_url, or for the address of a
// service of the person's own.
const baseURL = "{base_url}"

// oauthAddress is one address of a definition for OAuth, with {base_url} filled in
// where that is known.
type oauthAddress struct {
	at, text string
	raw      string // as it is written
	// endpoint says that it belongs to the login, so that no request of a child
	// to it gets the credential.
	endpoint bool
	// filled is what else in braces the flow puts in, as part of the path.
	filled string
}

// addresses lists those that are known now. Secrets go to most of them. One that
// still needs a base_url gets it at login.
func addresses(f *file) []oauthAddress {
	return slices.DeleteFunc(allAddresses(f), func(a oauthAddress) bool { return strings.HasPrefix(a.text, baseURL) })
}

// allAddresses lists those that a definition gives.
func allAddresses(f *file) []oauthAddress {
	var out []oauthAddress
	base := ""
	if o := f.OAuth; o != nil {
		base = o.BaseURL
		out = []oauthAddress{
			{at: "/oauth/base_url", text: o.BaseURL},
			{at: "/oauth/issuer", text: o.Issuer},
			{at: "/oauth/resource", text: o.Resource},
			{at: "/oauth/authorization_url", text: o.AuthorizationURL, endpoint: true},
			{at: "/oauth/token_url", text: o.TokenURL, endpoint: true, filled: "{installation_id}"},
			{at: "/oauth/revocation_url", text: o.RevocationURL, endpoint: true, filled: "{client_id}"},
			{at: "/oauth/device_authorization_url", text: o.DeviceAuthorizationURL, endpoint: true},
		}
		if o.UserInfo != nil {
			out = append(out, oauthAddress{at: "/oauth/user_info/url", text: o.UserInfo.URL})
		}
	}
	if f.Registration != nil {
		out = append(out, oauthAddress{at: "/registration/registration_endpoint", text: f.Registration.RegistrationEndpoint, endpoint: true})
	}
	if f.SelfManaged != nil {
		out = append(out,
			oauthAddress{at: "/self_managed/revocation_url", text: f.SelfManaged.RevocationURL, endpoint: true, filled: "{client_id}"},
			oauthAddress{at: "/self_managed/user_info_url", text: f.SelfManaged.UserInfoURL})
	}
	for i := range out {
		out[i].raw, out[i].text = out[i].text, withBase(out[i].text, base)
	}
	return slices.DeleteFunc(out, func(a oauthAddress) bool { return a.text == "" })
}

// withBase fills {base_url} in, if there is one.
func withBase(text, base string) string {
	if rest, ok := strings.CutPrefix(text, baseURL); ok && base != "" {
		return strings.TrimRight(base, "/") + rest
	}
	return text
}

// movesHost reports whether what follows {base_url} would make another host of
// that of somebody's service: "{base_url}.evil.example".
func movesHost(text string) bool {
	rest, ok := strings.CutPrefix(text, baseURL)
	return ok && rest != "" && rest[0] != '/'
}

// parse checks an address that must be https.
func (a oauthAddress) parse(s *source) (*url.URL, error) {
	text := a.text
	// It is a part of the path, so there is a third slash in front of it.
	if front, rest, ok := strings.Cut(text, a.filled); ok && a.filled != "" && strings.Count(front, "/") > 2 {
		text = front + "0" + rest
	}
	u, err := url.Parse(text)
	switch {
	case strings.ContainsAny(text, "{}"):
		return nil, s.fail(a.at, "has braces that nothing fills in: %q", clip(a.text))
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || unreadable(a.text, maxLongText):
		return nil, s.fail(a.at, "is no address: %q", clip(a.text))
	case u.Scheme != "https":
		return nil, s.fail(a.at, "must be https")
	}
	if _, _, err := hostPort(u); err != nil {
		return nil, s.fail(a.at, "has no usable host: %v", err)
	}
	return u, nil
}

// oauth reads the oauth section. It is checked whatever the flows are, and taken
// over when one of them is OAuth's.
func oauth(f *file, s *source, p *authsome.Provider) error {
	for _, a := range allAddresses(f) {
		if movesHost(a.raw) {
			return s.fail(a.at, "must have a slash after {base_url}")
		}
	}
	for _, a := range addresses(f) {
		u, err := a.parse(s)
		if err != nil {
			return err
		}
		switch a.at {
		case "/oauth/base_url", "/oauth/issuer": // RFC 8414 section 2
			if u.RawQuery != "" || u.ForceQuery {
				return s.fail(a.at, "must not have a query")
			}
		}
	}
	if f.OAuth == nil {
		if f.SelfManaged != nil {
			return s.fail("/self_managed", "needs oauth.base_url, the address that it stands in for")
		}
		return nil
	}
	if p.AuthType == authBrowser {
		return nil
	}
	if err := needed(f, s, p); err != nil {
		return err
	}
	o, err := f.OAuth.read(s, p)
	if err != nil {
		return err
	}
	if f.Registration != nil {
		o.RegistrationURL = f.Registration.RegistrationEndpoint
	}
	if own := f.SelfManaged; own != nil {
		if o.BaseURL == "" {
			return s.fail("/self_managed", "needs oauth.base_url, the address that it stands in for")
		}
		for _, a := range []oauthAddress{{at: "/self_managed/revocation_url", text: own.RevocationURL}, {at: "/self_managed/user_info_url", text: own.UserInfoURL}} {
			if a.text != "" && !strings.HasPrefix(a.text, baseURL) {
				return s.fail(a.at, "must begin with {base_url}: what belongs to somebody's own service goes nowhere else")
			}
		}
		if own.UserInfoURL != "" && o.UserInfo == nil {
			return s.fail("/self_managed/user_info_url", "needs oauth.user_info, which says what is asked")
		}
		if own.RevocationURL != "" || own.UserInfoURL != "" {
			o.SelfManaged = &authsome.SelfManagedOAuth{RevocationURL: own.RevocationURL, UserInfoURL: own.UserInfoURL}
		}
	}
	if hasOAuth(p) {
		p.OAuth = o
	}
	return nil
}

// hasOAuth reports whether a provider has a flow that ends in tokens.
func hasOAuth(p *authsome.Provider) bool { return slices.ContainsFunc(p.Flows, authsome.Flow.OAuth) }

// needed says now, rather than at login, what a flow cannot do without.
func needed(f *file, s *source, p *authsome.Provider) error {
	for _, flow := range p.Flows {
		var fields []string
		switch flow {
		case authsome.FlowPKCE, authsome.FlowDCR:
			fields = []string{"authorization_url", "token_url"}
		case authsome.FlowDeviceCode:
			fields = []string{"device_authorization_url", "token_url"}
		case authsome.FlowClientCredentials, authsome.FlowServiceAccount, authsome.FlowGitHubApp:
			fields = []string{"token_url"}
		}
		for _, field := range fields {
			text := map[string]string{
				"authorization_url": f.OAuth.AuthorizationURL, "token_url": f.OAuth.TokenURL, "device_authorization_url": f.OAuth.DeviceAuthorizationURL,
			}[field]
			if text == "" {
				return s.fail("/oauth/"+field, "is missing, which the flow %s needs", flow)
			}
		}
	}
	return nil
}

// scopeToken is what a scope may be made of (RFC 6749 section 3.3). Backslashes
// and quotes are left out there, too.
var scopeToken = regexp.MustCompile(`^[!#-\[\]-~]+$`)

// paramName is what a parameter's name may be.
var paramName = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)

// clientID is what a client id may be made of (RFC 6749 appendix A.1), without
// the space that no vendor has in one.
var clientID = regexp.MustCompile(`^[!-~]+$`)

// valuePath is a path to a value: names, and numbers of elements, joined by dots.
var valuePath = regexp.MustCompile(`^[A-Za-z0-9_@$:/-]+(\.[A-Za-z0-9_@$:/-]+)*$`)

// callback is the port and path of every login's redirect URI: people have
// registered them with vendors.
const callback = ":7998/auth/callback/oauth"

// read checks the section and makes an OAuth of it.
func (o *oauthSection) read(s *source, p *authsome.Provider) (*authsome.OAuth, error) {
	out := &authsome.OAuth{
		BaseURL: strings.TrimRight(o.BaseURL, "/"), Issuer: o.Issuer, IssuerInCallback: o.IssuerInCallback, Resource: o.Resource,
		AuthorizationURL: o.AuthorizationURL, TokenURL: o.TokenURL, DeviceURL: o.DeviceAuthorizationURL, RevocationURL: o.RevocationURL,
		ScopeSeparator: o.ScopeSeparator, ScopeParam: o.ScopeParam, PKCE: o.PKCE == nil || *o.PKCE, ClientID: o.ClientID,
		Answer: authsome.TokenAnswer(o.TokenAnswer),
	}
	if err := o.readScopes(s, out); err != nil {
		return nil, err
	}
	if err := o.readStyles(s, out); err != nil {
		return nil, err
	}
	var err error
	if out.AuthorizeParams, err = params(s, p, "/oauth/authorization_params", o.AuthorizationParams, ownAuthorizeParams, out.ScopeParam); err != nil {
		return nil, err
	}
	if out.TokenParams, err = params(s, p, "/oauth/token_params", o.TokenParams, ownTokenParams, ""); err != nil {
		return nil, err
	}
	if out.TokenHeaders, err = headers(s, "/oauth/token_headers", o.TokenHeaders); err != nil {
		return nil, err
	}
	a := out.Answer
	for _, e := range []struct{ field, path string }{
		{"access_token", a.AccessToken},
		{"refresh_token", a.RefreshToken},
		{"expires_in", a.ExpiresIn},
		{"scope", a.Scope},
		{"account_id", a.AccountID},
		{"account_label", a.AccountLabel},
	} {
		if err := checkPath(s, "/oauth/token_answer/"+e.field, e.path); err != nil {
			return nil, err
		}
	}
	if o.UserInfo != nil {
		if out.UserInfo, err = o.UserInfo.read(s); err != nil {
			return nil, err
		}
	}
	if o.RedirectURI != "" {
		host, ok := strings.CutSuffix(o.RedirectURI, callback)
		if !ok || !slices.Contains([]string{"http://127.0.0.1", "http://localhost", "http://[::1]"}, host) {
			return nil, s.fail("/oauth/redirect_uri", "may be http://127.0.0.1%[1]s, http://localhost%[1]s or http://[::1]%[1]s: nothing else leads back to authsome", callback)
		}
		out.RedirectURI = o.RedirectURI
	}
	if o.ClientID != "" && (!clientID.MatchString(o.ClientID) || len(o.ClientID) > maxLongText) {
		return nil, s.fail("/oauth/client_id", "is no client id: printable ASCII without spaces, up to %d bytes", maxLongText)
	}
	if o.AppsURL != "" {
		if u, err := url.Parse(o.AppsURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || unreadable(o.AppsURL, maxLongText) {
			p.Warnings = append(p.Warnings, "oauth.apps_url is left out: it is no https address")
		} else {
			out.AppsURL = o.AppsURL
		}
	}
	return out, nil
}

func (o *oauthSection) readScopes(s *source, out *authsome.OAuth) error {
	switch o.ScopeSeparator {
	case "", " ", ",", "+", ";", "|":
	default:
		return s.fail("/oauth/scope_separator", "is %q: it may be a space, or one of , ; + |", clip(o.ScopeSeparator))
	}
	if out.ScopeSeparator == " " {
		out.ScopeSeparator = ""
	}
	for i, text := range o.Scopes {
		// Some files have several in one text.
		for scope := range strings.FieldsSeq(text) {
			at := fmt.Sprintf("/oauth/scopes/%d", i)
			switch {
			case !scopeToken.MatchString(scope) || len(scope) > maxText*3:
				return s.fail(at, "is %q, which is no scope", clip(scope))
			case out.ScopeSeparator != "" && strings.Contains(scope, out.ScopeSeparator):
				return s.fail(at, "is %q, which holds the separator of scopes", clip(scope))
			case len(out.Scopes) == maxScopes:
				return s.fail("/oauth/scopes", "are more than %d", maxScopes)
			}
			if !slices.Contains(out.Scopes, scope) {
				out.Scopes = append(out.Scopes, scope)
			}
		}
	}
	if o.ScopeParam != "" && (!paramName.MatchString(o.ScopeParam) || len(o.ScopeParam) > maxText || slices.Contains(ownAuthorizeParams, o.ScopeParam)) {
		return s.fail("/oauth/scope_param", "is %q: a parameter's name has letters, digits, dots and underscores, and none that the flow itself sends", clip(o.ScopeParam))
	}
	return nil
}

// readStyles reads the fields that take one of a few words.
func (o *oauthSection) readStyles(s *source, out *authsome.OAuth) error {
	method, field := o.TokenAuth, "token_auth"
	switch {
	case method == "":
		method, field = o.AuthorizationMethod, "authorization_method"
	case o.AuthorizationMethod != "" && o.AuthorizationMethod != method:
		return s.fail("/oauth/authorization_method", "is %q, and token_auth, which means the same, is %q", clip(o.AuthorizationMethod), clip(method))
	}
	out.TokenAuth = authsome.ClientAuth(method)
	switch out.TokenAuth {
	case "", authsome.ClientBody, authsome.ClientBasic, authsome.ClientNone, authsome.ClientJWT:
	default:
		return s.fail("/oauth/"+field, "is %q: it may be body, basic, none or private_key_jwt", clip(method))
	}
	switch out.TokenBody = authsome.Encoding(o.TokenBody); out.TokenBody {
	case "", authsome.EncodeForm, authsome.EncodeJSON:
	default:
		return s.fail("/oauth/token_body", "is %q: it may be form or json", clip(o.TokenBody))
	}
	switch o.DeviceTokenRequest {
	case "", "oauth2_form":
	case "json":
		out.DeviceBody = authsome.EncodeJSON
	default:
		return s.fail("/oauth/device_token_request", "is %q: it may be oauth2_form or json", clip(o.DeviceTokenRequest))
	}
	out.Revocation = authsome.RevokeStyle(o.Revocation)
	switch out.Revocation {
	case "", authsome.RevokeRFC7009, authsome.RevokeGitHub, authsome.RevokeBearer:
	default:
		return s.fail("/oauth/revocation", "is %q: it may be rfc7009, github or bearer", clip(o.Revocation))
	}
	if o.Revocation != "" && o.RevocationURL == "" {
		return s.fail("/oauth/revocation_url", "is missing, which revocation is about")
	}
	return nil
}

// The parameters that the flows send themselves. A definition that could set
// them would decide whose login this is.
var (
	ownAuthorizeParams = []string{
		"client_id", "client_secret", "code_challenge", "code_challenge_method", "redirect_uri", "request", "request_uri",
		"resource", "response_mode", "response_type", "scope", "state",
	}
	ownTokenParams = []string{
		"assertion", "client_assertion", "client_assertion_type", "client_id", "client_secret", "code", "code_verifier",
		"device_code", "grant_type", "redirect_uri", "refresh_token", "resource", "scope", "token", "token_type_hint",
	}
)

// params reads an object of names and values, in the file's order. Those that
// the flows send are left out with a warning: files of the Python authsome may
// have them, to no effect.
func params(s *source, p *authsome.Provider, at string, raw json.RawMessage, own []string, alsoOwn string) ([]authsome.Param, error) {
	all, err := pairs(s, at, raw)
	if err != nil {
		return nil, err
	}
	var out []authsome.Param
	for _, e := range all {
		switch here := at + "/" + escape(e.Name); {
		case !paramName.MatchString(e.Name) || len(e.Name) > maxText:
			return nil, s.fail(here, "is no parameter's name")
		case slices.Contains(own, strings.ToLower(e.Name)) || alsoOwn != "" && e.Name == alsoOwn:
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s is left out: the login itself sets it", strings.ReplaceAll(here[1:], "/", ".")))
		case unreadable(e.Value, maxLongText):
			return nil, s.fail(here, "is longer than %d bytes, or holds what cannot be printed", maxLongText)
		default:
			out = append(out, e)
		}
	}
	return out, nil
}

// headers reads an object of header names and values.
func headers(s *source, at string, raw json.RawMessage) ([]authsome.Param, error) {
	out, err := pairs(s, at, raw)
	if err != nil {
		return nil, err
	}
	for i, e := range out {
		here := at + "/" + escape(e.Name)
		if why := unfit(e.Name); why != "" {
			return nil, s.fail(here, "%s", why)
		}
		switch strings.ToLower(e.Name) {
		case "authorization", "cookie":
			return nil, s.fail(here, "names %s, which is the login's own", e.Name)
		}
		if !httpguts.ValidHeaderFieldValue(e.Value) || unreadable(e.Value, maxLongText) || strings.TrimSpace(e.Value) != e.Value {
			return nil, s.fail(here, "gives a value that no header may have")
		}
		if slices.ContainsFunc(out[:i], func(o authsome.Param) bool { return strings.EqualFold(o.Name, e.Name) }) {
			return nil, s.fail(here, "is there twice")
		}
	}
	return out, nil
}

// pairs reads an object of texts. A null stands for nothing.
func pairs(s *source, at string, raw json.RawMessage) ([]authsome.Param, error) {
	if len(raw) == 0 || raw[0] == 'n' {
		return nil, nil
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, s.fail(at, "must be an object")
	}
	if len(m) > maxParams {
		return nil, s.fail(at, "has more than %d elements", maxParams)
	}
	var out []authsome.Param
	for _, name := range s.members(at) {
		switch value := m[name].(type) {
		case nil:
		case string:
			out = append(out, authsome.Param{Name: name, Value: value})
		default:
			return nil, s.fail(at+"/"+escape(name), "must be a text")
		}
	}
	return out, nil
}

// read checks what asks who an account is.
func (u *userInfoSection) read(s *source) (*authsome.UserInfo, error) {
	const at = "/oauth/user_info"
	if u.URL == "" {
		return nil, s.fail(at+"/url", "is missing")
	}
	out := &authsome.UserInfo{URL: u.URL, Method: u.Method, ID: u.ID}
	switch out.Method {
	case "", "POST":
	case "GET":
		out.Method = ""
	default:
		return nil, s.fail(at+"/method", "is %q: it may be GET or POST", clip(u.Method))
	}
	if len(u.Body) > 0 && u.Body[0] != 'n' {
		body := string(u.Body)
		if u.Body[0] == '"' {
			if err := json.Unmarshal(u.Body, &body); err != nil || !json.Valid([]byte(body)) {
				return nil, s.fail(at+"/body", "is neither JSON nor a text that holds JSON")
			}
		}
		switch {
		case out.Method != "POST":
			return nil, s.fail(at+"/body", "needs the method POST")
		case len(body) > maxBody:
			return nil, s.fail(at+"/body", "is longer than %d bytes", maxBody)
		}
		out.Body = body
		if u.Body[0] != '"' {
			var packed bytes.Buffer
			if err := json.Compact(&packed, u.Body); err != nil {
				return nil, s.fail(at+"/body", "is not JSON")
			}
			out.Body = packed.String()
		}
	}
	var err error
	if out.Headers, err = headers(s, at+"/headers", u.Headers); err != nil {
		return nil, err
	}
	texts, pointers, err := s.stringOrList(at+"/label", u.Label)
	if err != nil {
		return nil, err
	}
	if len(texts) > maxFields {
		return nil, s.fail(at+"/label", "has more than %d elements", maxFields)
	}
	for i, path := range texts {
		if err := checkPath(s, pointers[i], path); err != nil {
			return nil, err
		}
		if path != "" {
			out.Label = append(out.Label, path)
		}
	}
	if out.ID == "" && len(out.Label) == 0 {
		return nil, s.fail(at+"/label", "is missing: without it and id, nothing is read from the answer")
	}
	return out, checkPath(s, at+"/id", out.ID)
}

func checkPath(s *source, at, path string) error {
	if path != "" && (!valuePath.MatchString(path) || len(path) > maxText) {
		return s.fail(at, "is %q: a place is given as names joined by dots, such as user.email or data.0.id", clip(path))
	}
	return nil
}
