package store

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/store/storetest"
)

// child starts this binary in one of its parts, on a database.
func child(t *testing.T, part, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+part)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

// wait is for being killed.
func wait() { time.Sleep(time.Hour) }

// accounts is how many connections saveForever writes to.
const accounts = 5

// saveForever replaces connections, and says of each when it is stored.
func saveForever(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: path})
	if err != nil {
		return err
	}
	rows, err := s.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
	if err != nil {
		return err
	}
	versions := map[string]int64{}
	for _, r := range rows {
		versions[r.Connection.Name] = r.Connection.Version
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("n%d", i%accounts)
		versions[name]++
		ev := storetest.NewEvent(authsome.LocalVault)
		ev.Connection, ev.PID = name, int(versions[name])
		row := storetest.NewRow("github", name, versions[name])
		// Longer than a page, so that a change is many writes.
		row.Sealed = []byte(strings.Repeat(fmt.Sprintf("%s@%d ", name, versions[name]), 2000))
		if err := s.SaveConnection(ctx, row, i%3 == 0, ev); err != nil {
			return err
		}
		fmt.Printf("%s %d\n", name, versions[name])
	}
}

// TestKilledWriter kills a process that stores connections, at random moments.
// All that it was told to be stored is there with its event, and nothing half.
func TestKilledWriter(t *testing.T) {
	if testing.Short() {
		t.Skip("starts process after process")
	}
	path := filepath.Join(t.TempDir(), "authsome.db")
	acknowledged := map[string]int64{}
	for range 12 {
		cmd, out := child(t, "save", path)
		var timer *time.Timer // from the first line on: to start takes a while on a busy machine
		for out.Scan() {
			if timer == nil {
				timer = time.AfterFunc(time.Duration(rand.IntN(120))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			var name string
			var version int64
			if _, err := fmt.Sscanf(out.Text(), "%s %d", &name, &version); err != nil {
				continue // the last line was cut short
			}
			if version != acknowledged[name]+1 {
				t.Fatalf("%s went from %d to %d", name, acknowledged[name], version)
			}
			acknowledged[name] = version
		}
		_ = cmd.Wait()
		acknowledged = checkAcknowledged(t, path, acknowledged)
	}
	if len(acknowledged) != accounts {
		t.Errorf("only %d connections were written in all rounds", len(acknowledged))
	}
}

// checkAcknowledged compares what is stored with what the killed process was
// told, and returns what is stored: that is where the next one goes on.
func checkAcknowledged(t *testing.T, path string, acknowledged map[string]int64) map[string]int64 {
	t.Helper()
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	checkChains(t, s)
	rows, err := s.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
	if err != nil {
		t.Fatal(err)
	}
	evs, err := s.Events(ctx, authsome.LocalVault, 0, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]int64{}
	for _, ev := range evs {
		if recorded[ev.Connection]++; int64(ev.PID) != recorded[ev.Connection] {
			t.Fatalf("the event of %s's version %d comes at %d", ev.Connection, ev.PID, recorded[ev.Connection])
		}
	}
	stored := map[string]int64{}
	for _, r := range rows {
		c := r.Connection
		stored[c.Name] = c.Version
		// The one that was being stored may be there without the word of it.
		if c.Version != acknowledged[c.Name] && c.Version != acknowledged[c.Name]+1 {
			t.Fatalf("%s has version %d, %d was acknowledged", c.Name, c.Version, acknowledged[c.Name])
		}
		if recorded[c.Name] != c.Version {
			t.Fatalf("%s has version %d and %d events", c.Name, c.Version, recorded[c.Name])
		}
		if want := strings.Repeat(fmt.Sprintf("%s@%d ", c.Name, c.Version), 2000); string(r.Sealed) != want {
			t.Fatalf("%s version %d is mixed with another", c.Name, c.Version)
		}
	}
	for name := range acknowledged {
		if stored[name] == 0 {
			t.Fatalf("%s is gone", name)
		}
	}
	return stored
}

// holdTransaction changes things in a transaction that does not end.
func holdTransaction(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: path})
	if err != nil {
		return err
	}
	return s.write(ctx, "hold", []authsome.Event{storetest.NewEvent(authsome.LocalVault)}, func(ctx context.Context, tx *sql.Tx) error {
		for i := range 200 {
			row := storetest.NewRow("held", fmt.Sprintf("n%d", i), 1)
			row.Sealed = make([]byte, 50_000) // more than the page cache holds: it spills to the disk
			if err := saveConnection(ctx, tx, row, true); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM connections WHERE provider = 'github'`); err != nil {
			return err
		}
		if _, err := appendEvents(ctx, tx, "", []authsome.Event{storetest.NewEvent(authsome.LocalVault)}); err != nil {
			return err
		}
		fmt.Println("holding")
		wait()
		return nil
	})
}

// TestKilledInTransaction kills a process that holds the write lock of SQLite,
// in the middle of a change that is partly on the disk.
func TestKilledInTransaction(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "authsome.db")
	s := openAt(t, path)
	if err := s.SaveConnection(ctx, storetest.NewRow("github", "work", 1), true, storetest.NewEvent(authsome.LocalVault)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cmd, out := child(t, "hold", path)
	if !out.Scan() || out.Text() != "holding" {
		t.Fatalf("the child said %q", out.Text())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	s = openAt(t, path)
	rows, err := s.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
	if err != nil || len(rows) != 1 || rows[0].Connection.Provider != "github" || !rows[0].Connection.IsDefault {
		t.Fatalf("the connections are %v, %v", rows, err)
	}
	evs, err := s.Events(ctx, authsome.LocalVault, 0, 10)
	if err != nil || len(evs) != 1 {
		t.Fatalf("%d events, %v", len(evs), err)
	}
	if err := s.SaveConnection(ctx, storetest.NewRow("github", "work", 2), true, storetest.NewEvent(authsome.LocalVault)); err != nil {
		t.Fatal(err)
	}
}

func openOnce(path string) error {
	s, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		return err
	}
	if err := s.CreateVaultHeader(context.Background(), authsome.LocalVault, []byte("header")); err != nil {
		return err
	}
	fmt.Println("made")
	wait()
	return nil
}

// TestKilledMaker kills a process while it makes a database: the next one
// finds a whole one or none, and no leftovers.
func TestKilledMaker(t *testing.T) {
	for i := range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, "authsome.db")
		cmd, out := child(t, "create", path)
		time.AfterFunc(time.Duration(i)*2*time.Millisecond+time.Duration(rand.IntN(2000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		made := out.Scan()
		_ = cmd.Wait()
		s, err := Open(context.Background(), Config{Path: path})
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		header, err := s.VaultHeader(context.Background(), authsome.LocalVault)
		if err != nil || made && string(header) != "header" {
			t.Fatalf("round %d: header %q, %v", i, header, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 2 { // the database and its lock
			t.Errorf("round %d leaves %v", i, left)
		}
	}
}

// ownForever keeps a database open.
func ownForever(path string) error {
	if _, err := Open(context.Background(), Config{Path: path}); err != nil {
		return err
	}
	fmt.Println("open")
	wait()
	return nil
}

// TestOneOwner opens a database that another process has open.
func TestOneOwner(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "authsome.db")
	cmd, out := child(t, "own", path)
	if !out.Scan() {
		t.Fatal("the child did not open it")
	}
	for range 2 { // asking does not take the word of the owner away
		_, err := Open(ctx, Config{Path: path})
		if authsome.CodeOf(err) != authsome.StoreFailed || authsome.HintOf(err) == "" {
			t.Fatalf("two owners: %v", err)
		}
		if want := fmt.Sprintf("process %d has it open", cmd.Process.Pid); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	s := openAt(t, path)
	if _, err := Open(ctx, Config{Path: path}); authsome.CodeOf(err) != authsome.StoreFailed {
		t.Errorf("two owners in one process: %v", err)
	}
	if err := s.Append(ctx, storetest.NewEvent(authsome.LocalVault)); err != nil {
		t.Error(err)
	}
}
