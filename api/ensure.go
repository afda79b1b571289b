package api

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/authsome/authsome"
)

// EnsureHome makes a resolved home where there is none, 0700, and holds an
// existing one to what is needed: a directory, the caller's own, closed to
// others. One that is open to others is closed, if it is empty or authsome's; a
// directory that serves something else as well is refused.
func EnsureHome(home string) error {
	fi, err := os.Lstat(home)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(home, 0o700); err != nil {
			return homeError(home, "cannot be made", err)
		}
		fi, err = os.Lstat(home)
	}
	switch {
	case err != nil:
		return homeError(home, "cannot be looked at", err)
	case !fi.IsDir():
		return homeError(home, "is not a directory", nil)
	case !ownedByUser(fi):
		return homeError(home, "belongs to another user", nil)
	case !openToOthers(fi):
		return nil
	}
	entries, err := os.ReadDir(home)
	if err != nil {
		return homeError(home, "cannot be read", err)
	}
	ours := len(entries) == 0
	for _, e := range entries {
		switch e.Name() {
		case LockFile, StartLockFile, "client", "server": // the last two are the Python authsome's
			ours = true
		}
	}
	if !ours || fi.Mode()&fs.ModeSticky != 0 {
		return authsome.E(authsome.Invalid, "use the home %s: it is open to other users, and holds other things than authsome's", home).
			WithHint("give AUTHSOME_HOME a directory of its own, or close this one: chmod 700 %s", home)
	}
	if err := os.Chmod(home, 0o700); err != nil {
		return homeError(home, "cannot be closed to other users", err)
	}
	return nil
}

// homeError says why a home cannot be used.
func homeError(home, why string, err error) error {
	e := authsome.E(authsome.Invalid, "use the home %s: it %s", home, why)
	var cause *fs.PathError
	if errors.As(err, &cause) {
		e.Message += ": " + cause.Err.Error()
	}
	e.Err = err
	return e.WithHint("set AUTHSOME_HOME to a directory that you can write to")
}

// openInHome opens a file of the home for writing, 0600.
func openInHome(home, name string, flag int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(home, name), flag|os.O_CREATE, 0o600)
	if err != nil {
		return nil, homeError(home, "is not writable", err)
	}
	return f, nil
}
