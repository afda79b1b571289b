// Package store owns all SQL. One database holds everything that the daemon
// knows; what is secret in it is sealed by package vault before it comes here.
//
// Every method that changes something takes the audit events that it commits
// with: a change and its events are one transaction. Times are UTC.
//
// The statements use $1 placeholders and nothing that only SQLite has, so that
// they run on PostgreSQL, too; storetest is the suite that says so. Where types
// differ there is a migration for each.
package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/authsome/authsome"
)

// Config says where the database is.
type Config struct {
	// Path of the SQLite file. It is made, 0600, when missing, as is its
	// directory, 0700. It has a neighbour of the same name and ".lock", which
	// keeps other processes out and names the one that is in.
	Path string
}

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	// name is the database in errors: its path.
	name   string
	engine engine
	// writer has one connection on SQLite, which has one writer at a time in
	// any case: waiting for one's turn here ends with the context, waiting
	// inside SQLite does not. reader has a few, kept open. On PostgreSQL both
	// are the same pool.
	writer, reader *sql.DB
	lock           *flock.Flock // nil on PostgreSQL

	mu       sync.Mutex
	appended chan struct{}
	held     map[string]chan struct{} // the locks of this process; see Lock
}

// readers is how many reads of SQLite go on at once. The broker keeps what
// requests need in memory; these are for commands and for `log`.
const readers = 4

// Open opens the database, and makes or migrates it when needed. A file that
// is not ours, is damaged or cut short, or was written by a newer version is
// left as it is and named in the error. One process at a time has it open; the
// error for another names the one that does.
func Open(ctx context.Context, c Config) (*Store, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, cannot("open "+c.Path, err)
	}
	lock, err := own(path)
	if err != nil {
		return nil, err
	}
	s, err := openFile(ctx, path)
	if err != nil {
		_ = disown(lock)
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// newStore serves what is in a database of an engine, after bringing it to
// the newest schema.
func newStore(ctx context.Context, name string, writer, reader *sql.DB, e engine) (*Store, error) {
	s := &Store{name: name, engine: e, writer: writer, reader: reader, appended: make(chan struct{}), held: map[string]chan struct{}{}}
	version, err := e.version(ctx, writer)
	if err != nil {
		return nil, s.fail("read the database", err)
	}
	// goose reads and compares its own table, which is not free; the daemon is
	// started by commands that somebody waits for.
	if version == schemaVersion {
		return s, nil
	}
	if version > schemaVersion {
		return nil, newer(name, version)
	}
	if err := e.migrate(ctx, writer); err != nil {
		return nil, s.fail("migrate the database", err)
	}
	return s, nil
}

// Close lets go of the database and then of its lock.
func (s *Store) Close() error {
	err := s.writer.Close()
	if s.reader != s.writer {
		if rerr := s.reader.Close(); err == nil {
			err = rerr
		}
	}
	if s.lock != nil {
		if lerr := disown(s.lock); err == nil {
			err = lerr
		}
	}
	if err != nil {
		return s.fail("close the database", err)
	}
	return nil
}

// write runs f in a transaction that also appends the events. f may be nil. Its
// error is what write returns, after undoing everything.
//
// ctx counts until the transaction begins. After that the change is made or
// refused, but not abandoned: a caller that went away must not cost a rotated
// refresh token, which exists nowhere else.
func (s *Store) write(ctx context.Context, what string, events []authsome.Event, f func(ctx context.Context, tx *sql.Tx) error) error {
	return s.writeFrom(ctx, what, "", events, f)
}

// writeFrom is write for events that come from a source; see AppendFrom.
func (s *Store) writeFrom(ctx context.Context, what, source string, events []authsome.Event, f func(ctx context.Context, tx *sql.Tx) error) error {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return s.fail(what, err)
	}
	defer func() { _ = conn.Close() }()
	ctx = context.WithoutCancel(ctx)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return s.fail(what, err)
	}
	defer func() { _ = tx.Rollback() }()
	if f != nil {
		if err := f(ctx, tx); err != nil {
			return s.fail(what, err)
		}
	}
	added, err := appendEvents(ctx, tx, source, events)
	if err != nil {
		return s.fail(what, err)
	}
	if err := tx.Commit(); err != nil {
		return s.fail(what, err)
	}
	if added {
		s.mu.Lock()
		close(s.appended)
		s.appended = make(chan struct{})
		s.mu.Unlock()
	}
	return nil
}

// Appended returns a channel that closes when the next events are committed.
// Take it before reading, so that none slips in between.
func (s *Store) Appended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.appended
}

// each runs a query and calls scan for every row, until it returns errEnough.
func (s *Store) each(ctx context.Context, what, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return s.fail(what, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		switch err := scan(rows); {
		case err == errEnough:
			return nil
		case err != nil:
			return s.fail(what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return s.fail(what, err)
	}
	return nil
}
