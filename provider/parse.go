package provider

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/publicsuffix"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// runnable are the flows that this version can run. A definition may name
// others; its provider then cannot be logged in to yet, or only by key.
var runnable = []authsome.Flow{authsome.FlowAPIKey}

var name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

var word = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Bounds are checked beside the expressions: counted repetitions would cost
// every command a part of a millisecond at its start.
const (
	maxName     = 64
	maxVariable = 128
)

// isVariable reports whether a shell could set a variable of that name.
func isVariable(s string) bool { return len(s) <= maxVariable && word.MatchString(s) }

// Parse reads a definition. What cannot be taken over safely, such as a host
// pattern that would match strangers' hosts, is left out with a warning in the
// Provider; what makes no sense is an error of code Invalid that names file,
// line and field. No input makes it panic.
func Parse(filename string, data []byte) (*authsome.Provider, error) {
	f, s, err := read(filename, data)
	if err != nil {
		return nil, err
	}
	p := &authsome.Provider{
		Name: f.Name, DisplayName: f.DisplayName, Source: authsome.Bundled,
		AuthType: authsome.AuthType(f.AuthType), DocsURL: f.DocsURL,
	}
	switch {
	case f.SchemaVersion != nil && *f.SchemaVersion != 1:
		return nil, s.fail("/schema_version", "is %d; this version knows 1", *f.SchemaVersion)
	case len(f.Name) > maxName || !name.MatchString(f.Name) || strings.Contains(f.Name, ".."):
		return nil, s.fail("/name", "is %q: a name has letters, digits, dots, dashes and underscores, and begins with a letter or digit", clip(f.Name))
	case p.DisplayName == "":
		p.DisplayName = f.Name
	case len(p.DisplayName) > 100 || strings.ContainsFunc(p.DisplayName, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return nil, s.fail("/display_name", "is longer than 100 bytes, or holds a control character")
	}
	if p.DocsURL != "" {
		if u, err := url.Parse(p.DocsURL); err != nil || u.Scheme != "https" || u.Host == "" {
			p.DocsURL = ""
			p.Warnings = append(p.Warnings, "docs_url is left out: it is no https address")
		}
	}
	if err := flows(f, s, p); err != nil {
		return nil, err
	}
	if err := keyForm(f, s, p); err != nil {
		return nil, err
	}
	if err := routes(f, s, p); err != nil {
		return nil, err
	}
	if err := exports(f, s, p); err != nil {
		return nil, err
	}
	if p.Definition, err = compact(data); err != nil {
		return nil, s.failLine(0, "", "it is not valid JSON or JSONC")
	}
	return p, nil
}

// flows checks that the auth type, the flow and the section that it needs
// belong together.
func flows(f *file, s *source, p *authsome.Provider) error {
	switch p.AuthType {
	case authsome.AuthAPIKey:
		if f.Flow != "" && f.Flow != string(authsome.FlowAPIKey) {
			return s.fail("/flow", "is %q, which does not go with auth_type api_key", clip(f.Flow))
		}
		p.Flows = []authsome.Flow{authsome.FlowAPIKey}
	case authsome.AuthOAuth2:
		switch authsome.Flow(f.Flow) {
		case authsome.FlowPKCE, authsome.FlowDeviceCode, authsome.FlowDCR:
			p.Flows = []authsome.Flow{authsome.Flow(f.Flow)}
		default:
			return s.fail("/flow", "is %q, which does not go with auth_type oauth2", clip(f.Flow))
		}
		if f.OAuth == nil {
			return s.fail("/oauth", "is missing, which auth_type oauth2 needs")
		}
		// An api_key section beside it means that a personal token will do.
		if f.APIKey != nil {
			p.Flows = append(p.Flows, authsome.FlowAPIKey)
		}
	case "browser":
		p.Warnings = append(p.Warnings, "auth_type browser is not supported: there is no way to log in")
	default:
		return s.fail("/auth_type", "is %q: it may be api_key or oauth2", clip(f.AuthType))
	}
	p.Flows = slices.DeleteFunc(p.Flows, func(f authsome.Flow) bool { return !slices.Contains(runnable, f) })
	return nil
}

func keyForm(f *file, s *source, p *authsome.Provider) error {
	if !p.Accepts(authsome.FlowAPIKey) {
		return nil
	}
	k := f.APIKey
	if k == nil {
		k = &keySection{}
	}
	if len(k.Fields) == 0 {
		p.Key.Fields = []authsome.KeyField{{
			Name: authsome.FieldAPIKey, Label: "API key", Pattern: k.KeyPattern, Hint: k.KeyPatternHint,
		}}
	}
	for i, e := range k.Fields {
		at := fmt.Sprintf("/api_key/fields/%d", i)
		if !isVariable(e.Name) || slices.ContainsFunc(p.Key.Fields, func(f authsome.KeyField) bool { return f.Name == e.Name }) {
			return s.fail(at+"/name", "is %q: it must be a word, and no other field's", clip(e.Name))
		}
		if e.Label == "" {
			e.Label = e.Name
		}
		p.Key.Fields = append(p.Key.Fields, authsome.KeyField(e))
	}
	for _, kf := range p.Key.Fields {
		if kf.Pattern == "" {
			continue
		}
		if _, err := regexp.Compile(`\A(?:` + kf.Pattern + `)\z`); err != nil || len(kf.Pattern) > 1000 {
			return s.fail("/api_key", "has a pattern for %s that is no regular expression (RE2)", kf.Name)
		}
	}
	return nil
}

// routes reads `routes`, or makes them of `api_url` and the header that the
// api_key section names.
func routes(f *file, s *source, p *authsome.Provider) error {
	if len(f.Routes) > 0 {
		for i, e := range f.Routes {
			r, err := explicitRoute(s, p, fmt.Sprintf("/routes/%d", i), e)
			if err != nil {
				return err
			}
			p.Routes = append(p.Routes, r)
		}
		return exceptions(f, s, p)
	}
	inject, err := defaultInjection(f, s, p)
	if err != nil {
		return err
	}
	for i, text := range f.APIURL {
		at := "/api_url"
		if len(f.APIURL) > 1 {
			at = fmt.Sprintf("/api_url/%d", i)
		}
		if f.OAuth != nil {
			text = strings.ReplaceAll(text, "{base_url}", strings.TrimRight(f.OAuth.BaseURL, "/"))
		}
		hosts, err := apiURL(s, p, at, text)
		if err != nil {
			return err
		}
		for _, r := range hosts {
			r.Inject = []authsome.Injection{inject}
			p.Routes = append(p.Routes, r)
		}
	}
	return exceptions(f, s, p)
}

// defaultInjection is the header of schema version 1.
func defaultInjection(f *file, s *source, p *authsome.Provider) (authsome.Injection, error) {
	in := authsome.Injection{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}", When: authsome.Always}
	if p.AuthType != authsome.AuthAPIKey || f.APIKey == nil {
		return in, nil
	}
	if f.APIKey.HeaderName != "" {
		in.Name = f.APIKey.HeaderName
	}
	if f.APIKey.prefixSet {
		in.Value = "{token}"
		if f.APIKey.HeaderPrefix != nil && *f.APIKey.HeaderPrefix != "" {
			in.Value = *f.APIKey.HeaderPrefix + " {token}"
		}
	}
	return in, checkInjection(s, p, "/api_key/header_name", in)
}

// explicitRoute reads one element of `routes`.
func explicitRoute(s *source, p *authsome.Provider, at string, e routeEntry) (authsome.Route, error) {
	r := authsome.Route{Port: e.Port, Path: e.Path, Methods: e.Methods, Strip: e.Strip}
	var err error
	if r.Host, err = pattern(e.Host); err != nil {
		return r, s.fail(at+"/host", "cannot be routed: %v", err)
	}
	if r.Port < 0 || r.Port > 65535 {
		return r, s.fail(at+"/port", "is no TCP port")
	}
	if r.Path != "" {
		if r.Path, err = route.Path(e.Path); err != nil {
			return r, s.fail(at+"/path", "cannot be routed: %v", err)
		}
	}
	for _, m := range r.Methods {
		if m != strings.ToUpper(m) || !httpguts.ValidHeaderFieldName(m) {
			return r, s.fail(at+"/methods", "holds %q: methods are words in capitals", clip(m))
		}
	}
	for _, h := range r.Strip {
		if !httpguts.ValidHeaderFieldName(h) {
			return r, s.fail(at+"/strip", "holds %q, which is no header", clip(h))
		}
	}
	if len(e.Inject) == 0 {
		return r, s.fail(at+"/inject", "is missing: nothing says where the credential goes")
	}
	for i, ie := range e.Inject {
		iat := fmt.Sprintf("%s/inject/%d", at, i)
		in := authsome.Injection{When: authsome.When(ie.When)}
		switch {
		case ie.Basic != "" && ie.Header == "" && ie.Value == "":
			in.Slot, in.Name, in.Value = authsome.SlotBasic, "Authorization", ie.Basic
		case ie.Header != "" && ie.Value != "" && ie.Basic == "":
			in.Slot, in.Name, in.Value = authsome.SlotHeader, ie.Header, ie.Value
		default:
			return r, s.fail(iat, "needs either header and value, or basic")
		}
		switch in.When {
		case "":
			in.When = authsome.Always
		case authsome.Always, authsome.OnPlaceholder, authsome.OnChallenge:
		default:
			return r, s.fail(iat+"/when", "is %q: it may be always, placeholder or challenge", clip(ie.When))
		}
		if in.Slot == authsome.SlotBasic && !strings.Contains(in.Value, ":") {
			return r, s.fail(iat+"/basic", "has no colon between user and password")
		}
		if err := checkInjection(s, p, iat, in); err != nil {
			return r, err
		}
		r.Inject = append(r.Inject, in)
	}
	return r, nil
}

// reserved headers belong to the message's framing or to the connection: a
// value of ours there would change what the request is (RFC 9110 section 7.6.1).
var reserved = []string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade",
	"Proxy-Authorization", "Proxy-Connection", "Proxy-Authenticate", "Expect", "Content-Encoding", "Content-Type",
}

var template = regexp.MustCompile(`\{([^{}]*)\}`)

// checkInjection holds an injection to what may be put on a request.
func checkInjection(s *source, p *authsome.Provider, at string, in authsome.Injection) error {
	if !httpguts.ValidHeaderFieldName(in.Name) {
		return s.fail(at, "names %q, which is no header", clip(in.Name))
	}
	if slices.ContainsFunc(reserved, func(h string) bool { return strings.EqualFold(h, in.Name) }) {
		return s.fail(at, "names %s, which is part of the message's framing and cannot carry a credential", in.Name)
	}
	if !httpguts.ValidHeaderFieldValue(in.Value) || len(in.Value) > 1000 {
		return s.fail(at, "has a value that no header may have")
	}
	used := template.FindAllStringSubmatch(in.Value, -1)
	if len(used) == 0 {
		return s.fail(at, "does not say where in %q the credential goes: write {token}", clip(in.Value))
	}
	for _, m := range used {
		if !knownField(p, m[1]) {
			return s.fail(at, "uses {%s}, which is no field of the credential", clip(m[1]))
		}
	}
	if strings.ContainsAny(template.ReplaceAllString(in.Value, ""), "{}") {
		return s.fail(at, "has braces that do not pair in %q", clip(in.Value))
	}
	return nil
}

func knownField(p *authsome.Provider, field string) bool {
	switch field {
	case authsome.FieldToken, authsome.FieldAPIKey, authsome.FieldAccessToken:
		return true
	}
	return slices.ContainsFunc(p.Key.Fields, func(f authsome.KeyField) bool { return f.Name == field })
}

// exceptions keeps the provider's own OAuth endpoints free of its credential:
// host and path must both be theirs.
func exceptions(f *file, s *source, p *authsome.Provider) error {
	var endpoints []string
	if f.OAuth != nil {
		o := f.OAuth
		endpoints = append(endpoints, o.AuthorizationURL, o.TokenURL, o.RevocationURL, o.DeviceAuthorizationURL)
		for i, e := range endpoints {
			endpoints[i] = strings.ReplaceAll(e, "{base_url}", strings.TrimRight(o.BaseURL, "/"))
		}
	}
	if f.Registration != nil {
		endpoints = append(endpoints, f.Registration.RegistrationEndpoint)
	}
	for _, e := range endpoints {
		u, err := url.Parse(e)
		if e == "" || err != nil || u.Host == "" {
			continue
		}
		host, err := route.Host(u.Hostname())
		if err != nil {
			continue
		}
		path, err := route.Path(u.EscapedPath())
		if err != nil {
			return s.fail("/oauth", "has an endpoint whose path cannot be normalised: %v", err)
		}
		for i := range p.Routes {
			if pt, err := route.ParsePattern(p.Routes[i].Host); err == nil && pt.Match(host) && !slices.Contains(p.Routes[i].Except, path) {
				p.Routes[i].Except = append(p.Routes[i].Except, path)
			}
		}
	}
	return nil
}

// exports reads either form: variable → source, or, older, field → variable
// under "env".
func exports(f *file, s *source, p *authsome.Provider) error {
	add := func(at, varName, field string) error {
		if !isVariable(varName) {
			return s.fail(at, "names the variable %q, which no shell could set", clip(varName))
		}
		switch strings.ToUpper(varName) {
		// These decide what programs run and whom they trust; a definition has
		// no business there.
		case "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "HOME", "SHELL", "IFS", "ENV", "BASH_ENV",
			"NODE_OPTIONS", "PYTHONPATH", "PYTHONSTARTUP", "GIT_SSH_COMMAND", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY",
			"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS":
			return s.fail(at, "names the variable %s, which is not a credential's", varName)
		}
		e := authsome.EnvVar{Name: varName}
		switch field {
		case "ACCESS_TOKEN", "API_TOKEN", "API_KEY", authsome.FieldAccessToken, authsome.FieldAPIKey, authsome.FieldToken:
			e.Field = authsome.FieldToken
		case "REFRESH_TOKEN", authsome.FieldRefreshToken:
			return nil // never exported
		case "API_URL", "BASE_URL":
			if e.URL = address(f, p); e.URL == "" {
				return nil
			}
		default:
			if !knownField(p, field) {
				p.Warnings = append(p.Warnings, fmt.Sprintf("export of %s is left out: %q is no field of the credential", varName, clip(field)))
				return nil
			}
			e.Field = field
		}
		if !slices.ContainsFunc(p.Env, func(o authsome.EnvVar) bool { return o.Name == varName }) {
			p.Env = append(p.Env, e)
		}
		return nil
	}
	v := s.root.Find("/export")
	if v == nil || v.Value.Kind() != '{' {
		if v != nil && v.Value.Kind() != 'n' {
			return s.fail("/export", "is not an object")
		}
	} else {
		var m map[string]any
		if err := json.Unmarshal(f.Export, &m); err != nil {
			return s.fail("/export", "is not an object")
		}
		if env, ok := m["env"].(map[string]any); ok {
			for _, field := range keys(s, "/export/env") {
				varName, ok := env[field].(string)
				if !ok {
					continue
				}
				if err := add("/export/env/"+escape(field), varName, field); err != nil {
					return err
				}
			}
		} else {
			for _, varName := range keys(s, "/export") {
				field, ok := m[varName].(string)
				if !ok {
					return s.fail("/export/"+escape(varName), "is not the name of a field")
				}
				if err := add("/export/"+escape(varName), varName, field); err != nil {
					return err
				}
			}
		}
	}
	if f.APIKey != nil && f.APIKey.EnvVar != "" {
		return add("/api_key/env_var", f.APIKey.EnvVar, authsome.FieldToken)
	}
	return nil
}

// address is what API_URL stands for: the first route's.
func address(f *file, p *authsome.Provider) string {
	if f.OAuth != nil && f.OAuth.BaseURL != "" && strings.HasPrefix(f.OAuth.BaseURL, "https://") {
		return strings.TrimRight(f.OAuth.BaseURL, "/")
	}
	if len(p.Routes) == 0 || strings.HasPrefix(p.Routes[0].Host, "*") {
		return ""
	}
	return "https://" + p.Routes[0].Host + p.Routes[0].Path
}

// pattern normalises a host pattern and refuses wildcards over a public
// suffix, under which strangers have names.
func pattern(text string) (string, error) {
	p, err := route.ParsePattern(text)
	if err != nil {
		return "", err
	}
	if domain, wild := strings.CutPrefix(p.String(), "*."); wild {
		if suffix, _ := publicsuffix.PublicSuffix(domain); suffix == domain {
			return "", fmt.Errorf("anybody can have a name under %s: write the exact host", domain)
		}
	}
	return p.String(), nil
}

// clip keeps text from a file short in an error.
func clip(s string) string {
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
