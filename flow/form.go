package flow

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/authsome/authsome"
)

// MaxFieldBytes bounds one typed value. Real keys are under 4 KiB; service
// account files, the longest thing that people paste, are under 16 KiB.
const MaxFieldBytes = 64 << 10

// The fields of the flows without a browser, and of a person's OAuth app.
var (
	clientIDField     = authsome.KeyField{Name: authsome.FieldClientID, Label: "Client ID", Public: true}
	clientSecretField = authsome.KeyField{Name: authsome.FieldClientSecret, Label: "Client secret"}
	privateKeyField   = authsome.KeyField{
		Name: authsome.FieldPrivateKey, Label: "Private key (PEM)", Multiline: true,
		Pattern: `-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]+`, Hint: "Paste the whole file, from -----BEGIN to -----END.",
	}
	serviceAccountField = authsome.KeyField{
		Name: authsome.FieldServiceAccount, Label: "Key file of the service account (JSON)", Multiline: true,
		Pattern: `\{[\s\S]*\}`, Hint: "Paste the whole JSON file that was downloaded for the service account.",
	}
	appIDField = authsome.KeyField{
		Name: authsome.FieldAppID, Label: "App ID", Public: true,
		Pattern: `[A-Za-z0-9._-]{1,64}`, Hint: "It stands on the page of the GitHub App's settings.",
	}
	installationField = authsome.KeyField{
		Name: authsome.FieldInstallationID, Label: "Installation ID", Public: true,
		Pattern: `[0-9]{1,20}`, Hint: "It is the number at the end of the address of the installation's page.",
	}
)

// Form says what a person is asked for in a flow that needs no consent in a
// browser; nothing for the others.
func Form(p *authsome.Provider, f authsome.Flow) []authsome.KeyField {
	switch f {
	case authsome.FlowAPIKey:
		return p.Key.Fields
	case authsome.FlowClientCredentials:
		if p.OAuth != nil && p.OAuth.TokenAuth == authsome.ClientJWT {
			return []authsome.KeyField{clientIDField, privateKeyField}
		}
		return []authsome.KeyField{clientIDField, clientSecretField}
	case authsome.FlowServiceAccount:
		return []authsome.KeyField{serviceAccountField}
	case authsome.FlowGitHubApp:
		return []authsome.KeyField{appIDField, installationField, privateKeyField}
	}
	return nil
}

// ClientForm says what a person is asked for about an OAuth app of their own.
// The secret may be left out where an app without one, a public client, is
// possible.
func ClientForm(o *authsome.OAuth) []authsome.KeyField {
	switch o.TokenAuth {
	case authsome.ClientNone:
		return []authsome.KeyField{clientIDField}
	case authsome.ClientJWT:
		return []authsome.KeyField{clientIDField, privateKeyField}
	}
	secret := clientSecretField
	if o.TokenAuth != authsome.ClientBasic {
		secret.Optional = true
		secret.Hint = "Leave it empty if the app has none."
	}
	return []authsome.KeyField{clientIDField, secret}
}

// Fields checks what a person handed over against a form. White space around a
// value, which pasting brings along, is dropped; an optional field that is left
// empty is absent. The errors are of code Invalid, name the field and its hint,
// and never quote the value.
func Fields(provider string, form []authsome.KeyField, given map[string]authsome.Secret) (map[string]authsome.Secret, error) {
	fields := map[string]authsome.Secret{}
	for _, want := range form {
		value, err := checkField(provider, want, given[want.Name])
		if err != nil {
			return nil, err
		}
		if !value.IsZero() {
			fields[want.Name] = value
		}
	}
	for name := range given {
		if !slices.ContainsFunc(form, func(f authsome.KeyField) bool { return f.Name == name }) {
			return nil, authsome.E(authsome.Invalid, "log in to %s: there is no field %q in its form", provider, clip(name))
		}
	}
	return fields, nil
}

func checkField(provider string, f authsome.KeyField, given authsome.Secret) (authsome.Secret, error) {
	// The value is looked at here and nowhere else before it is sealed.
	value := strings.TrimSpace(given.Reveal())
	bad := func(why string) error {
		e := authsome.E(authsome.Invalid, "log in to %s: the %s %s", provider, clip(lowerFirst(f.Label)), why)
		e.Field = f.Name
		if f.Hint != "" {
			e = e.WithHint("%s", f.Hint)
		}
		return e
	}
	switch {
	case value == "" && f.Optional:
		return authsome.Secret{}, nil
	case value == "":
		return authsome.Secret{}, bad("is empty")
	case len(value) > MaxFieldBytes:
		return authsome.Secret{}, bad("is longer than 64 KiB")
	case !utf8.ValidString(value):
		return authsome.Secret{}, bad("is not valid UTF-8")
	// It goes into an HTTP header, where a line break would start another one
	// (RFC 9110 section 5.5). What has several lines never does.
	case strings.ContainsFunc(value, func(c rune) bool {
		return unicode.IsControl(c) && !(f.Multiline && (c == '\n' || c == '\r' || c == '\t'))
	}):
		if f.Multiline {
			return authsome.Secret{}, bad("contains a control character")
		}
		return authsome.Secret{}, bad("contains a line break or control character")
	}
	if f.Pattern != "" {
		// The whole value must match, as in Python's re.fullmatch, which
		// authsome's files are written for.
		re, err := regexp.Compile(`\A(?:` + f.Pattern + `)\z`)
		if err != nil {
			return authsome.Secret{}, authsome.E(authsome.Internal, "the pattern of %s's %s is broken: %w", provider, f.Name, err)
		}
		if !re.MatchString(value) {
			return authsome.Secret{}, bad("does not look right")
		}
	}
	return authsome.NewSecret(value), nil
}

// lowerFirst fits a label into a sentence: "Auth token" becomes "auth token",
// and "API key" stays.
func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// clip keeps text from a definition or a request short in an error.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
