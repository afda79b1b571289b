package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/authsome/authsome"
)

// applicationID marks a file as ours (PRAGMA application_id, set by the first
// migration): "athS".
const applicationID = 0x61746853

// own keeps other processes out of a database, and leaves word of who is in.
// The kernel gives the lock back when the process dies, however it does.
func own(path string) (*flock.Flock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, cannot("make the directory of "+path, err)
	}
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, cannot("lock "+path, err)
	}
	if !ok {
		holder := "another process"
		if pid, err := os.ReadFile(lock.Path()); err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil && n > 0 {
				holder = fmt.Sprintf("process %d", n)
			}
		}
		return nil, authsome.E(authsome.StoreFailed, "open %s: %s has it open, and the daemon alone may", path, holder).
			WithHint("authsome daemon status")
	}
	// For people only, so a failure does not matter: a full disk is told by
	// what needs room, and on Windows nobody can write what is locked.
	_ = os.WriteFile(lock.Path(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return lock, nil
}

// disown gives the lock back. The file stays: whoever removes a lock's file
// lets two others in. A second call does nothing.
func disown(lock *flock.Flock) error {
	if !lock.Locked() {
		return nil
	}
	_ = os.Truncate(lock.Path(), 0)
	return lock.Unlock()
}

// openFile opens the SQLite file that this process owns.
func openFile(ctx context.Context, path string) (*Store, error) {
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(ctx, path); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, cannot("open "+path, err)
	case !fi.Mode().IsRegular():
		return nil, refuse(path, "it is not a regular file")
	default:
		if err := inspect(ctx, path, fi); err != nil {
			return nil, err
		}
	}
	writer, err := connect(path, 1, url.Values{
		"mode":    {"rw"},
		"_txlock": {"immediate"},
		// FULL, so that what was said to be stored survives a power cut.
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)"},
	})
	if err != nil {
		return nil, err
	}
	reader, err := connect(path, readers, url.Values{
		"mode":    {"rw"}, // a reader of a write-ahead log writes to its index
		"_pragma": {"busy_timeout(5000)", "query_only(1)", "trusted_schema(0)"},
	})
	if err != nil {
		_ = writer.Close()
		return nil, err
	}
	s, err := newStore(ctx, path, writer, reader, sqliteEngine)
	if err != nil {
		_ = writer.Close()
		_ = reader.Close()
		return nil, err
	}
	return s, nil
}

// connect prepares a pool of up to n connections, which are kept. Nothing is
// opened yet.
func connect(path string, n int, query url.Values) (*sql.DB, error) {
	p := filepath.ToSlash(path)
	if runtime.GOOS == "windows" && !strings.HasPrefix(p, "/") {
		p = "/" + p // file:/C:/…, by sqlite.org/uri.html
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: p}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, cannot("open "+path, err)
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// create makes a database under another name and gives it its own when it is
// complete and on the disk. So there is none or a whole one at every moment,
// and an empty or half one under the name is damage and never a beginning.
func create(ctx context.Context, path string) (err error) {
	if fi, err := os.Lstat(path + "-wal"); err == nil && fi.Size() > 0 {
		return broken(path, "it is gone, but what was last written to it is still in "+path+"-wal")
	}
	draft := path + ".new"
	remove := func() {
		for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
			_ = os.Remove(draft + suffix)
		}
	}
	remove() // of a process that was killed here
	defer remove()
	what := "make " + path
	// The driver would make it with the umask's mode.
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return cannot(what, err)
	}
	defer func() { _ = f.Close() }()
	db, err := connect(draft, 1, url.Values{"mode": {"rw"}, "_pragma": {"journal_mode(MEMORY)", "synchronous(OFF)"}})
	if err != nil {
		return err
	}
	err = sqliteEngine.migrate(ctx, db)
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close() // Windows renames no open file
	}
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return cannot(what, err)
	}
	return nil
}

// syncDir makes a new name last. Windows has no such call, and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// inspect looks at an existing file before SQLite does, which may change it:
// it would take an empty file for a new database, and bring the pages of a
// write-ahead log into a file that has been cut short.
//
// The header of the file (sqlite.org/fileformat.html, section 1.3), big-endian:
//
//	0   16  "SQLite format 3\0"
//	16   2  page size; 1 stands for 65536
//	28   4  pages in the file
//	60   4  PRAGMA user_version
//	68   4  PRAGMA application_id
func inspect(ctx context.Context, path string, fi fs.FileInfo) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0) // finds a file that cannot be written to
	if err != nil {
		return cannot("open "+path, err)
	}
	defer func() { _ = f.Close() }()
	if fi.Size() == 0 {
		return broken(path, "it is empty: its content was lost")
	}
	var head [100]byte
	if _, err := io.ReadFull(f, head[:]); errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(path, "it is not a database")
	} else if err != nil {
		return cannot("open "+path, err)
	}
	number := func(at int) int64 { return int64(binary.BigEndian.Uint32(head[at:])) }
	if !bytes.HasPrefix(head[:], []byte("SQLite format 3\x00")) {
		return refuse(path, "it is not a database")
	}
	if number(68) != applicationID {
		return refuse(path, "it is a database of another program")
	}
	if v := number(60); v > schemaVersion {
		return newer(path, int(v))
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = 65536
	}
	if want := number(28) * page; fi.Size() < want {
		return short(ctx, path, fi.Size(), want)
	}
	return nil
}

// short judges a file that has fewer pages than its header says. A crash in
// the middle of a checkpoint leaves such a file, and then the write-ahead log
// has the rest. Whether it does, SQLite can say without changing either.
func short(ctx context.Context, path string, have, want int64) error {
	cut := broken(path, fmt.Sprintf("it was cut short: it has %d of %d bytes", have, want))
	if fi, err := os.Lstat(path + "-wal"); err != nil || fi.Size() == 0 {
		return cut
	}
	db, err := connect(path, 1, url.Values{"mode": {"ro"}, "_pragma": {"trusted_schema(0)"}})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil || verdict != "ok" {
		return cut
	}
	return nil
}
