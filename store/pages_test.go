package store

import (
	"context"
	"database/sql"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/store/storetest"
)

// oldLog makes a database as the first schema had it, with a row for each event.
func oldLog(t *testing.T, db *sql.DB, e engine) (want []authsome.Event) {
	t.Helper()
	ctx := t.Context()
	dir, err := fs.Sub(migrations, e.dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(e.dialect, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, 1); err != nil {
		t.Fatal(err)
	}
	for _, vault := range []string{authsome.LocalVault, "team"} {
		prev := audit.Start(vault)
		for seq := int64(1); seq <= 5; seq++ {
			ev := storetest.NewEvent(vault)
			ev.Seq = seq
			body, err := audit.Encode(ev)
			if err != nil {
				t.Fatal(err)
			}
			hash := audit.Hash(prev, body)
			if _, err := db.ExecContext(ctx, `INSERT INTO events (vault, seq, id, identity, at, body, prev, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
				vault, seq, ev.ID, ev.Identity, ev.Time.Unix(), body, prev, hash); err != nil {
				t.Fatal(err)
			}
			if prev = hash; vault == authsome.LocalVault {
				want = append(want, ev)
			}
		}
		if _, err := db.ExecContext(ctx, `INSERT INTO chains (vault, seq, hash) VALUES ($1, 5, $2)`, vault, prev); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

// wantLog says that the log goes on where the old one ended.
func wantLog(t *testing.T, s *Store, want []authsome.Event) {
	t.Helper()
	next := storetest.NewEvent(authsome.LocalVault)
	if err := s.Append(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	next.Seq = int64(len(want)) + 1
	got, err := s.Events(t.Context(), authsome.LocalVault, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(append(want, next), got); d != "" {
		t.Errorf("the log has changed (-want +got):\n%s", d)
	}
	checkChains(t, s)
}

// TestMigratesTheLog turns a log of rows into one of pages: no event is lost, and
// the chain goes on.
func TestMigratesTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authsome.db")
	db, err := connect(path, 1, url.Values{"mode": {"rwc"}, "_pragma": {"journal_mode(WAL)"}})
	if err != nil {
		t.Fatal(err)
	}
	want := oldLog(t, db, sqliteEngine)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	wantLog(t, s, want)
}

// TestPostgresMigratesTheLog does the same on PostgreSQL.
func TestPostgresMigratesTheLog(t *testing.T) {
	if _, err := os.Stat("/etc/debian_version"); err != nil && len(postgresPrograms()) == 0 {
		t.Skip("needs the server programs of PostgreSQL (initdb, postgres)")
	}
	db := postgresDatabase(t)
	defer func() { _ = db.Close() }()
	want := oldLog(t, db, postgresEngine)
	s, err := newStore(t.Context(), "the database", db, db, postgresEngine)
	if err != nil {
		t.Fatal(err)
	}
	wantLog(t, s, want)
}
