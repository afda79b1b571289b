// Package flow holds the ways in which a login obtains a credential. Each is
// one file. A flow keeps nothing between calls: what must survive is a row, and
// the broker owns it.
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

// Key checks what a person handed over in the API-key flow against the
// provider's form and returns it as a credential. White space around a value,
// which pasting brings along, is dropped. The errors are of code Invalid, name
// the field and its hint, and never quote the value.
func Key(p *authsome.Provider, given map[string]authsome.Secret) (*authsome.Credential, error) {
	fields := map[string]authsome.Secret{}
	for _, want := range p.Key.Fields {
		value, err := checkField(p, want, given[want.Name])
		if err != nil {
			return nil, err
		}
		fields[want.Name] = value
	}
	for name := range given {
		if !slices.ContainsFunc(p.Key.Fields, func(f authsome.KeyField) bool { return f.Name == name }) {
			return nil, authsome.E(authsome.Invalid, "log in to %s: there is no field %q in its form", p.Name, clip(name))
		}
	}
	if len(fields) == 0 {
		return nil, authsome.E(authsome.Invalid, "log in to %s: the definition asks for no key", p.Name)
	}
	return &authsome.Credential{Fields: fields}, nil
}

func checkField(p *authsome.Provider, f authsome.KeyField, given authsome.Secret) (authsome.Secret, error) {
	// The value is looked at here and nowhere else before it is sealed.
	value := strings.TrimSpace(given.Reveal())
	bad := func(why string) error {
		e := authsome.E(authsome.Invalid, "log in to %s: the %s %s", p.Name, clip(lowerFirst(f.Label)), why)
		e.Field = f.Name
		if f.Hint != "" {
			e = e.WithHint("%s", f.Hint)
		}
		return e
	}
	switch {
	case value == "":
		return authsome.Secret{}, bad("is empty")
	case len(value) > MaxFieldBytes:
		return authsome.Secret{}, bad("is longer than 64 KiB")
	case !utf8.ValidString(value):
		return authsome.Secret{}, bad("is not valid UTF-8")
	// It goes into an HTTP header, where a line break would start another one
	// (RFC 9110 section 5.5).
	case strings.ContainsFunc(value, unicode.IsControl):
		return authsome.Secret{}, bad("contains a line break or control character")
	}
	if f.Pattern != "" {
		// The whole value must match, as in Python's re.fullmatch, which
		// authsome's files are written for.
		re, err := regexp.Compile(`\A(?:` + f.Pattern + `)\z`)
		if err != nil {
			return authsome.Secret{}, authsome.E(authsome.Internal, "the pattern of %s's %s is broken: %w", p.Name, f.Name, err)
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
