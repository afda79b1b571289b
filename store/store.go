// Package store owns all SQL. One file holds everything that the daemon knows;
// what is secret in it is sealed by package vault before it comes here.
//
// Every method that changes something takes the audit events that it commits
// with: a change and its event are one transaction. Times are UTC.
//
// The statements use $1 placeholders and nothing that only SQLite has, so that
// they run on PostgreSQL, too; storetest is the suite that says so.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/authsome/authsome"
)

// applicationID marks a database file as ours (PRAGMA application_id): "athS".
const applicationID = 0x61746853

// schemaVersion is the number of the newest migration.
const schemaVersion = 1

//go:embed migrations
var migrations embed.FS

// Config says where the database is.
type Config struct {
	// Path of the SQLite file. It is made, 0600, when missing; its directory
	// must exist.
	Path string
}

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	db   *sql.DB
	path string
	lock *flock.Flock

	mu       sync.Mutex
	appended chan struct{}
}

// Open opens the database, and makes or migrates it when needed. A file that
// is not ours, is damaged, or was written by a newer version is left untouched
// and named in the error. Only one process can have it open.
func Open(ctx context.Context, c Config) (*Store, error) {
	fi, err := os.Lstat(c.Path)
	switch {
	case err == nil && !fi.Mode().IsRegular():
		return nil, broken(c.Path, "is not a regular file", nil)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, broken(c.Path, "cannot be looked at", err)
	}
	lock := flock.New(c.Path+".lock", flock.SetPermissions(0o600))
	if ok, err := lock.TryLock(); err != nil {
		return nil, broken(c.Path, "cannot be locked", err)
	} else if !ok {
		return nil, authsome.E(authsome.StoreFailed, "open %s: another authsome daemon has it open", c.Path).
			WithHint("authsome daemon status")
	}
	s := &Store{path: c.Path, lock: lock, appended: make(chan struct{})}
	if err := s.open(ctx, fi != nil && fi.Size() > 0); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, exists bool) error {
	if exists {
		if err := s.inspect(); err != nil {
			return err
		}
	} else {
		// The driver would make it with the umask's mode.
		f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return broken(s.path, "cannot be made", err)
		}
		if err := f.Close(); err != nil {
			return broken(s.path, "cannot be made", err)
		}
	}
	dsn := (&url.URL{Scheme: "file", Opaque: filepath.ToSlash(s.path), RawQuery: url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}.Encode()}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return s.fail("open the database", err)
	}
	// Writers take turns anyway (SQLite has one), and one connection spares the
	// waiting; reads are rare, since the broker keeps what it needs in memory.
	db.SetMaxOpenConns(1)
	db.SetConnMaxLifetime(0)
	s.db = db
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return s.fail("read the database", err)
	}
	switch {
	case version > schemaVersion:
		return broken(s.path, fmt.Sprintf("was written by a newer version of authsome (schema %d, this one knows %d)", version, schemaVersion), nil)
	case version == schemaVersion:
		return nil
	}
	return s.migrate(ctx)
}

// inspect reads the header of an existing file without opening it as a
// database, which could change it. The layout is SQLite's file format, section
// 1.3: a magic string, and the application id at offset 68.
func (s *Store) inspect() error {
	f, err := os.Open(s.path)
	if err != nil {
		return broken(s.path, "cannot be read", err)
	}
	defer func() { _ = f.Close() }()
	var head [100]byte
	n, err := f.Read(head[:])
	if err != nil || n < len(head) || string(head[:16]) != "SQLite format 3\x00" {
		return broken(s.path, "is not a database of authsome, or is damaged", err)
	}
	id := uint32(head[68])<<24 | uint32(head[69])<<16 | uint32(head[70])<<8 | uint32(head[71])
	pageSize := int64(head[16])<<8 | int64(head[17])
	if pageSize == 1 {
		pageSize = 65536
	}
	pages := int64(head[28])<<24 | int64(head[29])<<16 | int64(head[30])<<8 | int64(head[31])
	fi, err := f.Stat()
	if err != nil {
		return broken(s.path, "cannot be looked at", err)
	}
	_, walErr := os.Stat(s.path + "-wal")
	switch {
	// An unmigrated file of ours has no id yet when making it was cut short
	// before the first checkpoint; then the write-ahead log holds the rest.
	case id != applicationID && walErr != nil:
		return broken(s.path, "is a database of another program", nil)
	case fi.Size() < pages*pageSize && walErr != nil:
		return broken(s.path, "is truncated", nil)
	}
	return nil
}

func (s *Store) migrate(ctx context.Context) error {
	sub, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return s.fail("migrate the database", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.db, sub, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return s.fail("migrate the database", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return s.fail("migrate the database", err)
	}
	for _, q := range []string{
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", schemaVersion),
		"PRAGMA wal_checkpoint(TRUNCATE)",
	} {
		if _, err := s.db.ExecContext(ctx, q); err != nil {
			return s.fail("migrate the database", err)
		}
	}
	return nil
}

// Close lets go of the database and its lock.
func (s *Store) Close() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	if uerr := s.lock.Unlock(); err == nil {
		err = uerr
	}
	return err
}

// write runs f in a transaction that also appends the events.
func (s *Store) write(ctx context.Context, what string, events []authsome.Event, f func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.fail(what, err)
	}
	defer func() { _ = tx.Rollback() }()
	if f != nil {
		if err := f(tx); err != nil {
			return s.fail(what, err)
		}
	}
	if err := appendEvents(ctx, tx, events); err != nil {
		return s.fail(what, err)
	}
	if err := tx.Commit(); err != nil {
		return s.fail(what, err)
	}
	if len(events) > 0 {
		s.mu.Lock()
		close(s.appended)
		s.appended = make(chan struct{})
		s.mu.Unlock()
	}
	return nil
}

// Appended returns a channel that closes when the next events are committed.
func (s *Store) Appended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.appended
}

// fail makes the error that a person sees of one of the database's.
func (s *Store) fail(what string, err error) error {
	var known *authsome.Error
	if errors.As(err, &known) {
		return known
	}
	e := &authsome.Error{Code: authsome.StoreFailed, Err: err, Hint: "authsome doctor"}
	text := strings.ToLower(err.Error())
	switch {
	case strings.Contains(text, "full"):
		e.Message = fmt.Sprintf("%s: the disk of %s is full", what, s.path)
		e.Hint = "make room on it; nothing that was stored is lost"
	case strings.Contains(text, "readonly"), strings.Contains(text, "read-only"):
		e.Message = fmt.Sprintf("%s: %s cannot be written to", what, s.path)
		e.Hint = "make the home writable, or set AUTHSOME_HOME to one that is"
	case strings.Contains(text, "malformed"), strings.Contains(text, "not a database"):
		e.Message = fmt.Sprintf("%s: %s is damaged", what, s.path)
		e.Hint = "move it aside and restore a copy; authsome does not overwrite it"
	default:
		e.Message = fmt.Sprintf("%s: %v", what, err)
	}
	return e
}

func broken(path, why string, err error) error {
	e := authsome.E(authsome.StoreFailed, "open %s: it %s", path, why)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		e.Message += ": " + pe.Err.Error()
	}
	e.Err = err
	return e.WithHint("move it aside if you do not need it, or set AUTHSOME_HOME elsewhere; authsome does not overwrite it")
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
