package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/authsome/authsome"
)

// Files of a home that the CLI and the daemon both know.
const (
	// StartLockFile is locked by the one command that starts the daemon.
	StartLockFile = "daemon.start.lock"
	// LockFile is locked by the daemon for as long as it lives, and holds its
	// process id.
	LockFile = "daemon.lock"
	// RecordFile holds a Record.
	RecordFile = "daemon.json"
	// LogFile is the daemon's log.
	LogFile = "daemon.log"
)

// Record is what the last daemon left in its home, so that a command whose
// environment differs (cron has no XDG_RUNTIME_DIR) finds its socket, and the
// next daemon can serve the address that is open in a browser.
type Record struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Socket  string `json:"socket"`
	Browser int    `json:"browser"` // port on 127.0.0.1
}

// Home is the directory that getenv (os.Getenv) means: AUTHSOME_HOME, else
// .authsome in the person's home. It is absolute and free of symbolic links,
// and need not exist.
func Home(getenv func(string) string) (string, error) {
	home := getenv("AUTHSOME_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", authsome.E(authsome.Invalid, "find the home directory: %w", err).
				WithHint("set AUTHSOME_HOME to an absolute path")
		}
		home = filepath.Join(user, ".authsome")
	}
	return ResolveHome(home)
}

// ResolveHome makes a home absolute and free of symbolic links, so that one
// home has one daemon however it is spelt. The last elements may be missing.
func ResolveHome(home string) (string, error) {
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", authsome.E(authsome.Invalid, "resolve the home directory %s: %w", home, err)
	}
	rest := ""
	for dir := abs; ; {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		_, lerr := os.Lstat(dir)
		parent := filepath.Dir(dir)
		// What cannot be resolved though it exists is a dangling link, a loop
		// or unreadable; only what is missing may be added back by name.
		if !errors.Is(err, fs.ErrNotExist) || lerr == nil || parent == dir {
			return "", authsome.E(authsome.Invalid, "resolve the home directory %s: %w", home, err).
				WithHint("set AUTHSOME_HOME to a directory of your own")
		}
		dir, rest = parent, filepath.Join(filepath.Base(dir), rest)
	}
}

// socketName is the name of a home's socket: sockets of all homes lie in one
// directory, since the path of a socket may have no more than 103 bytes.
func socketName(home string) string {
	sum := sha256.Sum256([]byte(home))
	return hex.EncodeToString(sum[:8]) + ".sock"
}
