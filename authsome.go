// Package authsome is the vocabulary of the project: the nouns that every
// other package speaks, and nothing that does work.
//
// A person logs in to a [Provider] once, which makes a [Connection] holding a
// [Credential]. `authsome run` gives a child process a [Grant]. Each request
// of that child reaches the proxy as a [Request]; the broker answers with a
// [Resolution], which says what to put on it. Every act is one [Event].
//
// The package imports the standard library only, and every other package may
// import it; the import table is held by arch_test.go.
package authsome

import "strings"

// Version is the version of the program, "dev" when built without
// -ldflags "-X github.com/authsome/authsome.Version=v1.2.3". The CLI and the
// daemon refuse to work together when theirs differ.
var Version = "dev"

// Placeholder is the value that stands in a child's environment where a secret
// would be. It is the value that the Python authsome uses, so that scripts that
// look for it go on working. A placeholder may name a connection after a dot:
// "authsome-proxy-managed.work".
const Placeholder = "authsome-proxy-managed"

// FindPlaceholder looks for our placeholder in a text. connection is the one
// that it names after its dot, or "".
func FindPlaceholder(s string) (connection string, found bool) {
	_, after, ok := strings.Cut(s, Placeholder)
	if !ok {
		return "", false
	}
	rest, ok := strings.CutPrefix(after, ".")
	if !ok {
		return "", true
	}
	for i := range len(rest) {
		if !connectionByte(rest[i]) {
			return rest[:i], true
		}
	}
	return rest, true
}

// IsConnectionName reports whether a connection can have that name: up to 64
// letters, digits, dots, dashes, underscores and at signs, the first of them a
// letter or digit.
func IsConnectionName(s string) bool {
	for i := range len(s) {
		if !connectionByte(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= 64 && strings.IndexByte("._-@", s[0]) < 0
}

func connectionByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-@", c) >= 0
}

// BrowserPort is the TCP port on 127.0.0.1 for browsers. People have registered
// http://127.0.0.1:7998/auth/callback/oauth as a redirect URI with GitHub,
// Google and others, so it never changes.
const BrowserPort = 7998

// CallbackPath is the path of the OAuth redirect URI on BrowserPort.
const CallbackPath = "/auth/callback/oauth"

// SelfCheckHost is the host that the proxy answers itself, through a grant and
// with a certificate of its own, so that `run` can see before it starts the
// child that the whole way works. It is never looked up or dialled: .invalid
// resolves nowhere (RFC 6761, section 6.4).
const SelfCheckHost = "self-check.authsome.invalid"
