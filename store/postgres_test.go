package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"

	"github.com/authsome/authsome/store/storetest"
)

// postgres is a PostgreSQL server of the tests' own, on a socket in its data
// directory.
var postgres struct {
	once sync.Once
	err  error
	dir  string
	cmd  *exec.Cmd
	next atomic.Int64
}

// TestPostgres runs the statements on a real PostgreSQL.
func TestPostgres(t *testing.T) {
	if _, err := os.Stat("/etc/debian_version"); err != nil && len(postgresPrograms()) == 0 {
		t.Skip("needs the server programs of PostgreSQL (initdb, postgres)")
	}
	storetest.Run(t, func(t *testing.T) storetest.Store {
		db := postgresDatabase(t)
		s, err := newStore(t.Context(), "the database", db, db, postgresEngine)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			checkChains(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return s
	})
}

// TestPostgresMigratesOnce opens a database again: nothing is to be done, and
// what is there stays.
func TestPostgresMigratesOnce(t *testing.T) {
	if _, err := os.Stat("/etc/debian_version"); err != nil && len(postgresPrograms()) == 0 {
		t.Skip("needs the server programs of PostgreSQL (initdb, postgres)")
	}
	db := postgresDatabase(t)
	defer func() { _ = db.Close() }()
	for i := range 3 {
		s, err := newStore(t.Context(), "the database", db, db, postgresEngine)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SaveConnection(t.Context(), storetest.NewRow("github", "work", int64(i)+1), true, storetest.NewEvent("local")); err != nil {
			t.Fatal(err)
		}
	}
	version, err := postgresEngine.version(t.Context(), db)
	if err != nil || version != schemaVersion {
		t.Errorf("version %d, %v", version, err)
	}
}

// postgresDatabase is a fresh database, whose language sorts otherwise than
// bytes do where the system has one.
func postgresDatabase(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", postgresName(t))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// postgresName makes a database and says how to connect to it.
func postgresName(t *testing.T) string {
	t.Helper()
	postgres.once.Do(func() { postgres.err = startPostgres() })
	if postgres.err != nil {
		t.Fatal(postgres.err)
	}
	source := func(name string) string {
		return fmt.Sprintf("host=%s port=5432 user=authsome dbname=%s sslmode=disable", postgres.dir, name)
	}
	admin, err := sql.Open("pgx", source("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	name := fmt.Sprintf("test_%d", postgres.next.Add(1))
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return source(name)
}

func postgresPrograms() []string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	return found
}

func startPostgres() error {
	found := postgresPrograms()
	if len(found) == 0 {
		return errors.New("no PostgreSQL server is installed: apt-get install postgresql")
	}
	bin := filepath.Dir(found[len(found)-1])
	// Not a test's directory: those are closed to the user that the server
	// runs as, and the socket's path would be too long.
	dir, err := os.MkdirTemp("/tmp", "authsome-pg-")
	if err != nil {
		return err
	}
	postgres.dir = dir
	if os.Geteuid() == 0 { // the server refuses to be root
		uid, err := unprivileged()
		if err != nil {
			return err
		}
		if err := os.Chown(dir, uid, uid); err != nil {
			return err
		}
	}
	data := filepath.Join(dir, "data")
	// C.UTF-8 sorts by bytes; a language's order is asked of ICU.
	init := command(filepath.Join(bin, "initdb"), "-D", data, "-U", "authsome", "-A", "trust", "-E", "UTF8",
		"--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	postgres.cmd = cmd
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		db, err := sql.Open("pgx", fmt.Sprintf("host=%s port=5432 user=authsome dbname=postgres sslmode=disable", dir))
		if err != nil {
			return err
		}
		err = db.PingContext(context.Background())
		_ = db.Close()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("start PostgreSQL: %w\n%s", err, said)
		}
	}
}

// command runs a program of the server's, which refuses to be root.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = postgres.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=" + postgres.dir}
	if os.Geteuid() == 0 {
		if uid, err := unprivileged(); err == nil {
			asUser(cmd, uid)
		}
	}
	return cmd
}

// unprivileged is a user without rights; the package makes one.
func unprivileged() (int, error) {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return strconv.Atoi(u.Uid)
		}
	}
	return 0, errors.New("there is no user to run PostgreSQL as")
}

func stopPostgres() {
	if postgres.cmd != nil {
		_ = postgres.cmd.Process.Signal(os.Interrupt) // fast shutdown
		if runtime.GOOS == "windows" {
			_ = postgres.cmd.Process.Kill()
		}
		_ = postgres.cmd.Wait()
	}
	if postgres.dir != "" {
		if err := os.RemoveAll(postgres.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
