package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/authsome/authsome"
)

// trouble is what an error of the database or its disk means to a person.
type trouble int

const (
	other trouble = iota
	diskFull
	readOnly
	damaged
	busy
	interrupted
)

// hints say what to do, and that nothing was lost.
var hints = map[trouble]string{
	other:       "authsome doctor",
	diskFull:    "make room on that disk and try again; nothing that was stored is lost",
	readOnly:    "make its directory writable, or set AUTHSOME_HOME to one that is",
	damaged:     "stop the daemon, move the file aside and put a copy in its place; authsome does not overwrite it",
	busy:        "close the other program that has the file open, then try again",
	interrupted: "run the command again",
}

var words = map[trouble]string{
	diskFull: "its disk is full",
	readOnly: "it cannot be written to",
	damaged:  "it is damaged",
	busy:     "another program is using it",
}

// troubleOf sorts an error. SQLite's numbers are its result codes, PostgreSQL's
// the SQLSTATE classes of its manual's appendix A.
func troubleOf(err error) trouble {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() {
		case sqlite3.SQLITE_IOERR_SHMSIZE: // no room for the -shm file
			return diskFull
		}
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return diskFull
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
			return readOnly
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return damaged
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return busy
		case sqlite3.SQLITE_INTERRUPT:
			return interrupted
		}
		return other
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		switch s := state.SQLState(); {
		case s == "53100":
			return diskFull
		case s == "25006":
			return readOnly
		case len(s) == 5 && s[:2] == "XX":
			return damaged
		}
		return other
	}
	for _, full := range noRoom {
		if errors.Is(err, full) {
			return diskFull
		}
	}
	switch {
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return readOnly
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return interrupted
	}
	return other
}

// fail makes the error that a person sees of one of the database's. An
// *authsome.Error stays as it is.
func (s *Store) fail(what string, err error) error {
	var known *authsome.Error
	if errors.As(err, &known) {
		return known
	}
	return cannot(what+" in "+s.name, err)
}

// cannot says what could not be done, in words where the reason is a common
// one.
func cannot(what string, err error) error {
	t := troubleOf(err)
	why, ok := words[t]
	if !ok {
		why = err.Error()
		var pe *fs.PathError
		if errors.As(err, &pe) {
			why = pe.Err.Error() // what names the path already
		}
	}
	return &authsome.Error{Code: authsome.StoreFailed, Message: what + ": " + why, Hint: hints[t], Err: err}
}

// refuse says why a file is not opened.
func refuse(path, why string) error {
	return authsome.E(authsome.StoreFailed, "open %s: %s", path, why).
		WithHint("if you do not need it, move it aside; else set AUTHSOME_HOME to another directory. authsome does not overwrite it")
}

// broken says that a file of ours cannot be used as it is.
func broken(path, why string) error {
	return authsome.E(authsome.StoreFailed, "open %s: %s", path, why).WithHint("%s", hints[damaged])
}

func newer(name string, version int) error {
	return authsome.E(authsome.StoreFailed, "open %s: a newer version of authsome wrote it (its schema is %d, the newest known here %d)", name, version, schemaVersion).
		WithHint("update authsome, or set AUTHSOME_HOME to another directory")
}

// damagedRow says that a row does not hold what this program wrote there.
func damagedRow(what string, err error) error {
	return &authsome.Error{
		Code:    authsome.StoreFailed,
		Message: fmt.Sprintf("read %s: its row in the database is damaged", what),
		Hint:    hints[damaged], Err: err,
	}
}
