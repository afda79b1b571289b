package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/store/storetest"
)

// written makes a database with something in it, and returns its path. It is
// closed.
func written(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authsome.db")
	s, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	fillRows(t, s, "n", 20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func fillRows(t *testing.T, s *Store, name string, n int) {
	t.Helper()
	for i := range n {
		row := storetest.NewRow("github", fmt.Sprint(name, i), 1)
		row.Sealed = bytes.Repeat([]byte{byte(i)}, 10_000)
		if err := s.SaveConnection(context.Background(), row, true, storetest.NewEvent(authsome.LocalVault)); err != nil {
			t.Fatal(err)
		}
	}
}

// crashed copies an open database as a crash would leave it: the main file and
// the write-ahead log, which holds the last changes.
func crashed(t *testing.T, change func(t *testing.T, s *Store)) string {
	t.Helper()
	s := openAt(t, written(t))
	if change != nil {
		change(t, s)
	}
	path := filepath.Join(t.TempDir(), "authsome.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(s.name + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// content is every file of a directory and what is in it, leaving out what says
// nothing: the lock and the index of the write-ahead log.
func content(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || strings.HasSuffix(path, ".lock") || strings.HasSuffix(path, "-shm") {
			return err
		}
		line := d.Name() + " " + d.Type().String()
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

func truncate(t *testing.T, path string, change func(size int64) int64) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, change(fi.Size())); err != nil {
		t.Fatal(err)
	}
}

func patch(t *testing.T, path string, at int64, value uint32) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(binary.BigEndian.AppendUint32(nil, value), at); err != nil {
		t.Fatal(err)
	}
}

func fileOf(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authsome.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRefusedFiles opens what is no database of ours, or not all of it: a clear
// error, and nothing is changed.
func TestRefusedFiles(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T) string
		said string
	}{
		{"garbage", func(t *testing.T) string {
			return fileOf(t, bytes.Repeat([]byte("garbage "), 10_000))
		}, "it is not a database"},
		{"a few bytes", func(t *testing.T) string { return fileOf(t, []byte("SQLite format 3\x00")) }, "it is not a database"},
		{"empty", func(t *testing.T) string { return fileOf(t, nil) }, "its content was lost"},
		{"zeros", func(t *testing.T) string { return fileOf(t, make([]byte, 8192)) }, "it is not a database"},
		{"foreign", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "authsome.db")
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			if _, err := db.Exec(`PRAGMA application_id = 7; CREATE TABLE vaults (id TEXT); INSERT INTO vaults VALUES ('precious')`); err != nil {
				t.Fatal(err)
			}
			return path
		}, "a database of another program"},
		{"newer", func(t *testing.T) string {
			path := written(t)
			patch(t, path, 60, schemaVersion+1)
			return path
		}, "a newer version of authsome wrote it"},
		{"newer in the write-ahead log", func(t *testing.T) string {
			return crashed(t, func(t *testing.T, s *Store) {
				if _, err := s.writer.Exec(`PRAGMA user_version = 99`); err != nil {
					t.Fatal(err)
				}
			})
		}, "a newer version of authsome wrote it"},
		{"cut in half", func(t *testing.T) string {
			path := written(t)
			truncate(t, path, func(size int64) int64 { return size / 2 })
			return path
		}, "it was cut short"},
		{"a byte short", func(t *testing.T) string {
			path := written(t)
			truncate(t, path, func(size int64) int64 { return size - 1 })
			return path
		}, "it was cut short"},
		{"cut short beside a write-ahead log", func(t *testing.T) string {
			path := crashed(t, func(t *testing.T, s *Store) { fillRows(t, s, "late", 1) })
			truncate(t, path, func(size int64) int64 { return size / 2 })
			return path
		}, "it was cut short"},
		{"gone beside a write-ahead log", func(t *testing.T) string {
			path := crashed(t, func(t *testing.T, s *Store) { fillRows(t, s, "late", 1) })
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return path
		}, "it is gone"},
		{"directory", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "authsome.db")
			if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		}, "it is not a regular file"},
		{"link", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "authsome.db")
			if err := os.Symlink(written(t), path); err != nil {
				t.Skip("this system lets nobody make links: ", err)
			}
			return path
		}, "it is not a regular file"},
		{"file as directory", func(t *testing.T) string {
			return filepath.Join(fileOf(t, []byte("x")), "authsome.db")
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := test.make(t)
			before := content(t, filepath.Dir(path))
			for range 2 { // the first refusal does not change the second
				s, err := Open(t.Context(), Config{Path: path})
				if err == nil {
					_ = s.Close()
					t.Fatal("it was opened")
				}
				if authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.said) {
					t.Fatalf("the error is %v, want one that names %s and says %q", err, path, test.said)
				}
				if authsome.HintOf(err) == "" {
					t.Fatalf("%v says nothing to do", err)
				}
			}
			if strings.Contains(test.name, "newer in") {
				return // SQLite has moved the log into the file, which loses nothing
			}
			if after := content(t, filepath.Dir(path)); after != before {
				t.Errorf("was\n%s\nis\n%s", before, after)
			}
		})
	}
}

// TestCrashInCheckpoint opens what a crash leaves that comes after the first
// page of a checkpoint: the header counts pages that are in the log alone.
func TestCrashInCheckpoint(t *testing.T) {
	path := crashed(t, func(t *testing.T, s *Store) { fillRows(t, s, "late", 20) })
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	patch(t, path, 28, uint32(fi.Size()/4096)+40)
	s := openAt(t, path)
	rows, err := s.Connections(t.Context(), authsome.LocalVault, authsome.LocalUser)
	if err != nil || len(rows) != 40 {
		t.Errorf("%d connections of 40, %v", len(rows), err)
	}
}

// TestDamagedPages overwrites pages in the middle: what needs them fails with a
// clear error, and nothing panics.
func TestDamagedPages(t *testing.T) {
	path := written(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(data); i++ {
		data[i] ^= 0x5a
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{Path: path})
	if err == nil {
		_, err = s.Connections(t.Context(), authsome.LocalVault, authsome.LocalUser)
		_ = s.Close()
	}
	if authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("the error is %v", err)
	}
}

// TestHostileRows puts what this program never writes into rows.
func TestHostileRows(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct{ change, said string }{
		{`UPDATE connections SET info = x'00'`, "the connection github (n0)"},
		{`UPDATE connections SET info = CAST('{"v":2}' AS BLOB)`, "the connection github (n0)"},
		{`UPDATE connections SET info = CAST('{"v":1,"created_at":"yesterday"}' AS BLOB)`, "the connection github (n0)"},
		{`UPDATE connections SET info = CAST('[]' AS BLOB)`, "the connection github (n0)"},
		{`UPDATE pages SET body = CAST('{"seq":' AS BLOB)`, "event 1 of the audit"},
		{`UPDATE pages SET body = CAST(CAST(body AS TEXT) || CHAR(10) || CAST(body AS TEXT) AS BLOB)`, "event 1 of the audit"},
		{`UPDATE pages SET first = -9223372036854775807`, "of the audit"},
		{`DROP TABLE defaults; CREATE TABLE defaults (x)`, "read the connections"},
		{`ALTER TABLE connections RENAME COLUMN version TO v2; ALTER TABLE connections ADD COLUMN version TEXT DEFAULT 'x'`, "read the connections"},
	} {
		s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "authsome.db")})
		if err != nil {
			t.Fatal(err)
		}
		fillRows(t, s, "n", 1)
		if _, err := s.writer.ExecContext(ctx, test.change); err != nil {
			t.Fatalf("%s: %v", test.change, err)
		}
		_, err = s.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
		if err == nil {
			_, err = s.Events(ctx, authsome.LocalVault, 0, 10)
		}
		if authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), test.said) || authsome.HintOf(err) == "" {
			t.Errorf("%s: %v", test.change, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestModes looks at the modes of everything that a store makes.
func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	dir := filepath.Join(t.TempDir(), "a", "home")
	s := openAt(t, filepath.Join(dir, "authsome.db"))
	fillRows(t, s, "n", 1)
	if _, err := s.Connections(t.Context(), authsome.LocalVault, authsome.LocalUser); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory has the mode %v, %v", fi.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if fi, err := e.Info(); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, %v", e.Name(), fi.Mode(), err)
		}
	}
	if got, want := strings.Join(names, " "), "authsome.db authsome.db-shm authsome.db-wal authsome.db.lock"; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
}

// TestNames opens databases in directories whose names mean something in a URI.
func TestNames(t *testing.T) {
	for _, name := range []string{"a b", "a?b=c&mode=memory", "a#b", "a%41b", "ä;ö", "a'\"b"} {
		if runtime.GOOS == "windows" && strings.ContainsAny(name, `?"`) {
			continue
		}
		path := filepath.Join(t.TempDir(), name, "authsome.db")
		s := openAt(t, path)
		fillRows(t, s, "n", 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Size() == 0 {
			t.Errorf("%s: %v", path, err)
		}
		s = openAt(t, path)
		if rows, err := s.Connections(t.Context(), authsome.LocalVault, authsome.LocalUser); err != nil || len(rows) != 1 {
			t.Errorf("%s: %d connections, %v", path, len(rows), err)
		}
	}
}

// TestSettings reads back what the database was told.
func TestSettings(t *testing.T) {
	s := openNew(t)
	for _, test := range []struct {
		db           *sql.DB
		pragma, want string
	}{
		{s.writer, "application_id", fmt.Sprint(applicationID)},
		{s.writer, "user_version", fmt.Sprint(schemaVersion)},
		{s.writer, "journal_mode", "wal"},
		{s.writer, "synchronous", "2"}, // FULL
		{s.writer, "foreign_keys", "1"},
		{s.writer, "busy_timeout", "5000"},
		{s.reader, "journal_mode", "wal"},
		{s.reader, "query_only", "1"},
		{s.reader, "busy_timeout", "5000"},
	} {
		var got string
		if err := test.db.QueryRow(`PRAGMA ` + test.pragma).Scan(&got); err != nil || got != test.want {
			t.Errorf("%s is %s, %v, want %s", test.pragma, got, err, test.want)
		}
	}
	if _, err := s.reader.Exec(`DELETE FROM vaults`); err == nil {
		t.Error("a reader may write")
	}
}

// TestMigrations holds the numbers together: that which Open looks for, that
// which the newest file sets, and that which goose records.
func TestMigrations(t *testing.T) {
	for _, e := range []engine{sqliteEngine, postgresEngine} {
		files, err := fs.Glob(migrations, e.dir+"/*.sql")
		if err != nil || len(files) != schemaVersion {
			t.Errorf("%s has %d migrations, the newest is %d: %v", e.dir, len(files), schemaVersion, err)
		}
	}
	s := openNew(t)
	var recorded int
	if err := s.reader.QueryRow(`SELECT MAX(version_id) FROM goose_db_version`).Scan(&recorded); err != nil || recorded != schemaVersion {
		t.Errorf("the database records migration %d, %v", recorded, err)
	}
}

// TestMigratesOlder opens a database of ours in which migrations are missing.
func TestMigratesOlder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authsome.db")
	db, err := connect(path, 1, url.Values{"mode": {"rwc"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	fillRows(t, s, "n", 1)
}

// TestBegunIsDone cancels a change after it began: it is made all the same.
func TestBegunIsDone(t *testing.T) {
	s := openNew(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.write(ctx, "change", []authsome.Event{storetest.NewEvent(authsome.LocalVault)}, func(inner context.Context, tx *sql.Tx) error {
		cancel()
		return saveConnection(inner, tx, storetest.NewRow("github", "work", 1), true)
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.Connections(t.Context(), authsome.LocalVault, authsome.LocalUser)
	if err != nil || len(rows) != 1 {
		t.Errorf("%d connections, %v", len(rows), err)
	}
}

// TestReadsBesideAChange reads while a transaction is open, and sees what was
// before it.
func TestReadsBesideAChange(t *testing.T) {
	s := openNew(t)
	err := s.write(t.Context(), "change", nil, func(ctx context.Context, tx *sql.Tx) error {
		if err := saveConnection(ctx, tx, storetest.NewRow("github", "work", 1), true); err != nil {
			return err
		}
		rows, err := s.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
		if err == nil && len(rows) != 0 {
			err = fmt.Errorf("a reader sees %d connections that are not committed", len(rows))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := s.Connections(t.Context(), authsome.LocalVault, authsome.LocalUser); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.reader.Stats(); n.OpenConnections != 1 || n.MaxIdleClosed != 0 {
		t.Errorf("reads one after the other used %d connections and closed %d", n.OpenConnections, n.MaxIdleClosed)
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "authsome.db")
	openAt(b, path).Close()
	for b.Loop() {
		s, err := Open(context.Background(), Config{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}

func BenchmarkCreate(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		s, err := Open(context.Background(), Config{Path: filepath.Join(dir, fmt.Sprint(i), "authsome.db")})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}

func BenchmarkSaveConnection(b *testing.B) {
	s := openNew(b)
	version := int64(0)
	for b.Loop() {
		version++
		if err := s.SaveConnection(context.Background(), storetest.NewRow("github", "work", version), true, storetest.NewEvent(authsome.LocalVault)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendBatch(b *testing.B) {
	s := openNew(b)
	batch := make([]authsome.Event, 1000)
	for b.Loop() {
		for i := range batch {
			batch[i] = storetest.NewEvent(authsome.LocalVault)
		}
		if err := s.Append(context.Background(), batch...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkItem(b *testing.B) {
	s := openNew(b)
	if err := s.SaveItem(context.Background(), authsome.LocalVault, "ca", "root", make([]byte, 500), 1); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := s.Item(context.Background(), authsome.LocalVault, "ca", "root"); err != nil {
			b.Fatal(err)
		}
	}
}
