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

// Version is the version of the program, "dev" when built without
// -ldflags "-X github.com/authsome/authsome.Version=v1.2.3". The CLI and the
// daemon refuse to work together when theirs differ.
var Version = "dev"

// Placeholder is the value that stands in a child's environment where a secret
// would be. It is the value that the Python authsome uses, so that scripts that
// look for it go on working. A placeholder may name a connection after a dot:
// "authsome-proxy-managed.work".
const Placeholder = "authsome-proxy-managed"

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
