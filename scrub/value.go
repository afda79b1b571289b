package scrub

import (
	"encoding/base64"
	"strings"
)

const (
	// minLength: shorter values turn up by chance. One of 7 random letters and
	// digits does so once in 3 TB of such text, but people's are not random.
	minLength = 8
	// minWord is from where on letters alone are taken for a passphrase, and
	// digits alone for more than a date or a number.
	minWord = 16
)

// target is a text to look for.
type target struct {
	text string
	// plainOnly leaves out the encodings: the target is an encoding already.
	plainOnly bool
}

// schemes are those of Authorization that are never part of the secret.
var schemes = map[string]bool{"basic": true, "bearer": true, "bot": true, "token": true, "apikey": true, "key": true}

// targetsOf says what to look for on behalf of an injected value, and whether its
// secret part is strong enough to be looked for alone.
func targetsOf(value string) (targets []target, strong bool) {
	add := func(t target) bool {
		if common(t.text) {
			return false
		}
		targets = append(targets, t)
		return true
	}
	scheme, rest, composite := strings.Cut(value, " ")
	if !composite || !isScheme(scheme) || rest == "" || strings.ContainsAny(rest, " \t\r\n") {
		return targets, add(target{text: value}) || strong
	}
	if strings.EqualFold(scheme, "basic") {
		if user, password, ok := decodeBasic(rest); ok {
			add(target{text: rest, plainOnly: true})
			add(target{text: strings.TrimRight(rest, "="), plainOnly: true})
			switch {
			case add(target{text: password}):
				return targets, true
			case (password == "" || common(password)) && add(target{text: user}):
				// The key is the user, as with Stripe, and the password nothing or a
				// fixed word. With a password, the user is an account's name, which
				// answers are full of.
				return targets, true
			}
			add(target{text: user + ":" + password})
			return targets, false
		}
	}
	inner := rest
	if i := strings.IndexByte(rest, '='); i > 0 && i < len(rest)-1 && isScheme(rest[:i]) && strings.Trim(rest[i:], "=") != "" {
		inner = strings.Trim(rest[i+1:], `"`) // Token token="…"
	}
	strong = add(target{text: inner})
	if !strong || !schemes[strings.ToLower(scheme)] && inner == rest {
		// What looks like a scheme may be the beginning of a passphrase.
		add(target{text: value})
	}
	return targets, strong
}

// isScheme reports whether s may be an authentication scheme or the name of a
// parameter (tokens of RFC 9110, section 5.6.2, as far as they are in use).
func isScheme(s string) bool {
	for i := range len(s) {
		if !plain(s[i]) || s[i] == '.' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

func decodeBasic(s string) (user, password string, ok bool) {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(raw), ":")
}

// common reports whether a text is too short, or too usual, to be looked for.
func common(s string) bool {
	if len(s) < minLength || strings.Trim(s, "*") == "" {
		return true
	}
	if len(s) >= minWord {
		return false
	}
	letters, digits := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			letters++
		case c != '-' && c != '_' && c != '.' && c != ' ' && c != '/':
			return false
		}
	}
	return letters == 0 || digits == 0
}
