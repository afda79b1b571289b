// Package daemon is the one process that holds the vault: it wires the parts
// together, serves the local API on a unix socket, the browser's pages on
// 127.0.0.1:7998 and the proxies of runs, and answers for the life of all of
// them. Serve does everything; the rest of the package is its steps:
//
//	home.go      the home, its lock, what is left for commands to find
//	open.go      the parts, in the order in which they need each other
//	serve.go     start, signals, drain, end
//	handle*.go   one handler for each path of the API
//	authority.go the certificate authorities, and when they change
//	identity.go  who is at the other end of the socket
//	grants.go    the runs, and the proxy's listeners
//	browser.go   the port for browsers, and who has it if we do not
//	doctor.go    the checks
package daemon

import (
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/vault"
)

// Config is what a daemon is made of. The zero value is what `authsome daemon
// serve` runs with: everything from the environment.
type Config struct {
	// Home is the directory of everything that lasts; "" is AUTHSOME_HOME, else
	// ~/.authsome.
	Home string
	// Port is the TCP port on 127.0.0.1 for browsers; 0 is AUTHSOME_PORT, else
	// authsome.BrowserPort. When it is taken, another one serves this home.
	Port int
	// Version is told to commands, which refuse another than theirs; "" is
	// authsome.Version.
	Version string
	// Level is the least that is logged; nil is AUTHSOME_LOG (debug, info,
	// warn, error), else info.
	Level slog.Leveler
	// Stderr takes the log as well, for a daemon in the foreground; nil is
	// nobody. It may be daemon.log itself.
	Stderr io.Writer
	// Getenv reads the environment; nil is os.Getenv. Master keys, HTTPS_PROXY,
	// HTTP_PROXY, ALL_PROXY, NO_PROXY and AUTHSOME_LIMITS come from it. SSL_CERT_FILE and SSL_CERT_DIR are
	// read by crypto/x509 from the real environment.
	Getenv func(string) string
	// Keyring keeps the master key where the vault is set up so; nil is the
	// operating system's. AUTHSOME_KEYRING=off leaves it out of a new vault.
	Keyring vault.Keyring
	// Drain is how long requests in progress may take once the daemon is
	// asked to end; 0 is 3 s.
	Drain time.Duration
}

const defaultDrain = 3 * time.Second

// home resolves Home.
func (c Config) home() (string, error) {
	switch {
	case c.Home != "":
		return api.ResolveHome(c.Home)
	case c.Getenv != nil:
		return api.Home(c.Getenv)
	default:
		return api.Home(os.Getenv)
	}
}

// withDefaults fills what is not set.
func (c Config) withDefaults() (Config, error) {
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Version == "" {
		c.Version = authsome.Version
	}
	if c.Keyring == nil {
		c.Keyring = vault.SystemKeyring{}
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.Port == 0 {
		c.Port = authsome.BrowserPort
		if s := c.Getenv("AUTHSOME_PORT"); s != "" {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil || n == 0 {
				return c, authsome.E(authsome.Invalid, "start the daemon: AUTHSOME_PORT is %q, which is no port", s).
					WithHint("give a number from 1 to 65535, or unset it")
			}
			c.Port = int(n)
		}
	}
	if c.Port < 0 || c.Port > 65535 {
		return c, authsome.E(authsome.Invalid, "start the daemon: %d is no port", c.Port).
			WithHint("give a number from 1 to 65535")
	}
	if c.Level == nil {
		level := slog.LevelInfo
		if s := c.Getenv("AUTHSOME_LOG"); s != "" {
			if err := level.UnmarshalText([]byte(s)); err != nil {
				return c, authsome.E(authsome.Invalid, "start the daemon: AUTHSOME_LOG is %q, which is no level", s).
					WithHint("give debug, info, warn or error, or unset it")
			}
		}
		c.Level = level
	}
	return c, nil
}
