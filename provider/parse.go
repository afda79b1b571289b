package provider

import (
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"github.com/authsome/authsome"
)

// known are the flows that a definition may name.
var known = []authsome.Flow{
	authsome.FlowAPIKey, authsome.FlowPKCE, authsome.FlowDeviceCode, authsome.FlowDCR,
	authsome.FlowClientCredentials, authsome.FlowServiceAccount, authsome.FlowGitHubApp,
}

// authBrowser is the auth type of newer authsome files for sites without an
// API. They load, so that `list` shows them, and cannot be logged in to.
const authBrowser authsome.AuthType = "browser"

var name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

var word = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Bounds are checked beside the expressions: counted repetitions would cost
// every command a part of a millisecond at its start.
const (
	maxName     = 64
	maxVariable = 128
	maxText     = 100  // a label, in bytes
	maxLongText = 1000 // a pattern, a hint or a header's value, in bytes
	maxFields   = 16
	maxRoutes   = 256
)

// isVariable reports whether a shell could set a variable of that name.
func isVariable(s string) bool { return len(s) <= maxVariable && word.MatchString(s) }

// Parse reads a definition. What cannot be taken over safely, such as a host
// pattern that would match strangers' hosts, is left out with a warning in the
// Provider; what makes no sense is an error of code Invalid that names file,
// line and field. No input makes it panic.
func Parse(filename string, data []byte) (*authsome.Provider, error) {
	f, s, plain, err := read(filename, data)
	if err != nil {
		return nil, err
	}
	p := &authsome.Provider{
		Name: f.Name, DisplayName: f.DisplayName, Source: authsome.Bundled,
		AuthType: authsome.AuthType(f.AuthType), DocsURL: f.DocsURL, Definition: plain,
	}
	switch {
	case f.SchemaVersion != nil && *f.SchemaVersion != 1:
		return nil, s.fail("/schema_version", "is %d; this version knows 1", *f.SchemaVersion)
	case f.Name == "":
		return nil, s.fail("/name", "is missing")
	case len(f.Name) > maxName || !name.MatchString(f.Name) || strings.Contains(f.Name, ".."):
		return nil, s.fail("/name", "is %q: a name has up to %d letters, digits, dashes, underscores and single dots, and begins with a letter or digit", clip(f.Name), maxName)
	case p.DisplayName == "":
		p.DisplayName = f.Name
	case unreadable(p.DisplayName, maxText):
		return nil, s.fail("/display_name", "is longer than %d bytes, or holds what cannot be printed", maxText)
	}
	if p.DocsURL != "" {
		if u, err := url.Parse(p.DocsURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || unreadable(p.DocsURL, maxLongText) {
			p.DocsURL = ""
			p.Warnings = append(p.Warnings, "docs_url is left out: it is no https address")
		}
	}
	for _, step := range []func(*file, *source, *authsome.Provider) error{flows, oauth, keyForm, routes, selfManagedRoutes, cookieClash, exceptions, exports} {
		if err := step(f, s, p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// flows checks that the auth type, the flows and the sections that they need
// belong together.
func flows(f *file, s *source, p *authsome.Provider) error {
	switch p.AuthType {
	case authsome.AuthAPIKey, authsome.AuthOAuth2:
	case authBrowser:
		p.Warnings = append(p.Warnings, "auth_type browser is not supported: there is no way to log in")
		return nil
	case "":
		return s.fail("/auth_type", "is missing: it may be api_key or oauth2")
	default:
		return s.fail("/auth_type", "is %q: it may be api_key or oauth2", clip(f.AuthType))
	}
	texts, at := f.Flows, "/flows"
	switch {
	case len(f.Flows) > len(known):
		return s.fail(at, "has more elements than there are flows")
	case len(f.Flows) > 0 && f.Flow != "" && f.Flow != f.Flows[0]:
		return s.fail("/flow", "is %q, but the first of flows, which is the default, is %q", clip(f.Flow), clip(f.Flows[0]))
	case len(f.Flows) == 0:
		at = "/flow"
		switch {
		case f.Flow != "":
			texts = []string{f.Flow}
		case p.AuthType == authsome.AuthAPIKey:
			texts = []string{string(authsome.FlowAPIKey)}
		default:
			return s.fail(at, "is missing, which auth_type oauth2 needs: it may be pkce, device_code or dcr_pkce")
		}
		// Files with one flow say in other fields that a code on another device,
		// or a personal token, will do.
		if o := f.OAuth; p.AuthType == authsome.AuthOAuth2 && o != nil && o.SupportsDeviceCode && o.DeviceAuthorizationURL != "" && f.Flow != string(authsome.FlowDeviceCode) {
			texts = append(texts, string(authsome.FlowDeviceCode))
		}
		if p.AuthType == authsome.AuthOAuth2 && f.APIKey != nil {
			texts = append(texts, string(authsome.FlowAPIKey))
		}
	}
	for i, text := range texts {
		flow := authsome.Flow(text)
		if len(f.Flows) > 0 {
			at = fmt.Sprintf("/flows/%d", i)
		}
		switch {
		case !slices.Contains(known, flow):
			return s.fail(at, "is %q, which is no flow: there are %s", clip(text), join(known))
		// The first flow is the default, which is what auth_type is about.
		case i == 0 && p.AuthType == authsome.AuthAPIKey && flow.OAuth():
			return s.fail(at, "is %q, which does not go with auth_type api_key", clip(text))
		case i == 0 && p.AuthType == authsome.AuthOAuth2 && !flow.OAuth():
			return s.fail(at, "is api_key, which does not go with auth_type oauth2")
		case slices.Contains(p.Flows, flow):
			return s.fail(at, "names %s a second time", flow)
		case flow != authsome.FlowAPIKey && f.OAuth == nil:
			return s.fail("/oauth", "is missing, which the flow %s needs", flow)
		}
		p.Flows = append(p.Flows, flow)
	}
	return nil
}

// keyForm reads what a person is asked for in the api_key flow.
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
		return checkPattern(s, "/api_key/key_pattern", "/api_key/key_pattern_hint", k.KeyPattern, k.KeyPatternHint)
	}
	if k.KeyPattern != "" {
		return s.fail("/api_key/key_pattern", "is for a single key; give each of fields its own pattern")
	}
	if len(k.Fields) > maxFields {
		return s.fail("/api_key/fields", "has more than %d elements", maxFields)
	}
	for i, e := range k.Fields {
		at := fmt.Sprintf("/api_key/fields/%d", i)
		switch {
		case !isVariable(e.Name):
			return s.fail(at+"/name", "is %q: it must be a word of letters, digits and underscores", clip(e.Name))
		case e.Name == authsome.FieldAccessToken || e.Name == authsome.FieldRefreshToken:
			return s.fail(at+"/name", "is %s, which is a field of OAuth credentials", e.Name)
		case slices.ContainsFunc(p.Key.Fields, func(f authsome.KeyField) bool { return f.Name == e.Name }):
			return s.fail(at+"/name", "is %s, as another field's is", e.Name)
		case e.Label == "":
			e.Label = e.Name
		case unreadable(e.Label, maxText):
			return s.fail(at+"/label", "is longer than %d bytes, or holds what cannot be printed", maxText)
		}
		if err := checkPattern(s, at+"/pattern", at+"/hint", e.Pattern, e.Hint); err != nil {
			return err
		}
		p.Key.Fields = append(p.Key.Fields, authsome.KeyField{
			Name: e.Name, Label: e.Label, Pattern: e.Pattern, Hint: e.Hint, Public: e.Public, Optional: e.Optional,
		})
	}
	return nil
}

// checkPattern holds a key's pattern to RE2. It is compiled where a key is
// checked against it, which no start of the program waits for.
func checkPattern(s *source, at, hintAt, pattern, hint string) error {
	if unreadable(hint, maxLongText) {
		return s.fail(hintAt, "is longer than %d bytes, or holds what cannot be printed", maxLongText)
	}
	if pattern == "" {
		return nil
	}
	if _, err := syntax.Parse(pattern, syntax.Perl); err != nil || len(pattern) > maxLongText {
		return s.fail(at, "is no regular expression that RE2 knows, or longer than %d bytes", maxLongText)
	}
	return nil
}

// unreadable reports whether text that people are shown is too long, or could
// mislead them by what it does to a terminal or to the order of its letters.
func unreadable(s string, longest int) bool {
	return len(s) > longest || strings.ContainsFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || !unicode.IsPrint(r) && r != '\u200d' // joins emoji
	})
}

// join lists flows for a message.
func join(flows []authsome.Flow) string {
	var out []string
	for _, f := range flows {
		out = append(out, string(f))
	}
	return strings.Join(out, ", ")
}
