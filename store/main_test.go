package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/store/storetest"
	"go.uber.org/goleak"
)

// childEnv names the part that this binary plays when a test starts it again.
const childEnv = "AUTHSOME_STORE_TEST_CHILD"

// children are those parts, with the path of a database.
var children = map[string]func(path string) error{
	"save":    saveForever,
	"hold":    holdTransaction,
	"create":  openOnce,
	"own":     ownForever,
	"refresh": refreshReplica,
}

func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		if err := children[part](os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	stopPostgres()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// openAt opens the database of a test and closes it with the test, after
// checking that all of its chains of events are whole.
func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.lock.Locked() {
			checkChains(t, s)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func openNew(t testing.TB) *Store { return openAt(t, filepath.Join(t.TempDir(), "authsome.db")) }

// checkChains checks every vault's chain of events by the hashes in the
// database.
func checkChains(t testing.TB, s *Store) {
	t.Helper()
	ctx := context.Background()
	ends := map[string][]byte{}
	err := s.each(ctx, "read the chains", `SELECT vault, hash FROM chains`, nil, func(rows *sql.Rows) error {
		var vault string
		var end []byte
		err := rows.Scan(&vault, &end)
		ends[vault] = end
		return err
	})
	if err != nil {
		t.Error(err)
	}
	var count, checked int
	if err := s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM pages`).Scan(&count); err != nil {
		t.Error(err)
	}
	for vault, end := range ends {
		var links []storetest.Link
		err := s.each(ctx, "read the events", `SELECT first, last, body, prev, hash FROM pages WHERE vault = $1 ORDER BY last`, []any{vault}, func(rows *sql.Rows) error {
			var l storetest.Link
			err := rows.Scan(&l.First, &l.Last, &l.Body, &l.Prev, &l.Hash)
			links = append(links, l)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if err := storetest.CheckChain(vault, links, end); err != nil {
			t.Errorf("the audit of %s: %v", vault, err)
		}
		checked += len(links)
	}
	if checked != count {
		t.Errorf("%d of %d pages are in a chain", checked, count)
	}
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return openNew(t) })
}

// TestChainShowsTampering changes the log as somebody who can write the
// database could: the check sees each of it.
func TestChainShowsTampering(t *testing.T) {
	ctx := context.Background()
	for _, how := range []string{
		`UPDATE pages SET body = CAST(REPLACE(CAST(body AS TEXT), 'provider.login', 'provider.logout') AS BLOB) WHERE first = 2`,
		`UPDATE pages SET body = CAST(REPLACE(CAST(body AS TEXT), '"seq":7', '"seq":8') AS BLOB) WHERE first = 6`,
		`UPDATE pages SET body = CAST(SUBSTR(CAST(body AS TEXT), 1, INSTR(CAST(body AS TEXT), CHAR(10)) - 1) AS BLOB) WHERE first = 6`,
		`UPDATE pages SET last = 9 WHERE first = 6`,
		`DELETE FROM pages WHERE first = 3`,
		`DELETE FROM pages WHERE first = 6`,
		`DELETE FROM pages WHERE first = 1`,
		`UPDATE pages SET first = 50 - first, last = 50 - last WHERE first IN (2, 3); UPDATE pages SET first = first - 45, last = last - 45 WHERE first > 40`,
		`UPDATE pages SET vault = 'other', first = 1, last = 3 WHERE first = 6; INSERT INTO chains SELECT 'other', 3, hash FROM chains`,
	} {
		s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "authsome.db")})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := s.Append(ctx, storetest.NewEvent(authsome.LocalVault)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.AppendFrom(ctx, "7-x/0", storetest.NewEvent(authsome.LocalVault), storetest.NewEvent(authsome.LocalVault), storetest.NewEvent(authsome.LocalVault)); err != nil {
			t.Fatal(err)
		}
		var seen recorder
		if checkChains(&seen, s); seen.failed {
			t.Fatalf("an untouched log fails: %s", seen.said)
		}
		if _, err := s.writer.ExecContext(ctx, how); err != nil {
			t.Fatal(err)
		}
		if checkChains(&seen, s); !seen.failed {
			t.Errorf("unseen: %s", how)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// recorder notes that a check failed.
type recorder struct {
	testing.TB
	failed bool
	said   string
}

func (r *recorder) Helper() {}
func (r *recorder) Error(args ...any) {
	r.failed, r.said = true, fmt.Sprint(args...)
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failed, r.said = true, fmt.Sprintf(format, args...)
}
