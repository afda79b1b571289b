package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/mountns"
	"github.com/authsome/authsome/store/storetest"
)

// wantTrouble checks what a person sees: the file, what is wrong, what to do.
func wantTrouble(t *testing.T, err error, path, said string) {
	t.Helper()
	if authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), said) {
		t.Fatalf("the error is %v, want one that names %s and says %q", err, path, said)
	}
	if authsome.HintOf(err) == "" {
		t.Fatalf("%v says nothing to do", err)
	}
}

// TestFullDisk fills the disk under an open database: changes fail and say so,
// reads go on, nothing stored is lost, and it goes on when there is room.
func TestFullDisk(t *testing.T) {
	if !mountns.Alone(t) {
		return
	}
	ctx := context.Background()
	dir := t.TempDir()
	mountns.Tmpfs(t, dir, "1m")
	path := filepath.Join(dir, "authsome.db")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 300<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	save := func(i int) error {
		row := storetest.NewRow("github", fmt.Sprintf("n%03d", i), 1)
		row.Sealed = []byte(strings.Repeat(fmt.Sprintf("%03d ", i), 3000))
		ev := storetest.NewEvent(authsome.LocalVault)
		ev.Connection = row.Connection.Name
		return s.SaveConnection(ctx, row, true, ev)
	}
	stored := 0
	var err error
	for ; err == nil; stored++ {
		if stored == 200 {
			t.Fatal("the disk does not get full")
		}
		err = save(stored)
	}
	stored--
	check := func() {
		t.Helper()
		rows, err := s.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
		if err != nil || len(rows) != stored {
			t.Fatalf("%d connections of %d, %v", len(rows), stored, err)
		}
		for i, r := range rows {
			if string(r.Sealed) != strings.Repeat(fmt.Sprintf("%03d ", i), 3000) || r.Connection.IsDefault != (i == stored-1) {
				t.Fatalf("connection %d is %s, default %v", i, r.Connection.Name, r.Connection.IsDefault)
			}
		}
		evs, err := s.Events(ctx, authsome.LocalVault, 0, 10_000)
		if err != nil || len(evs) != stored {
			t.Fatalf("%d events of %d, %v", len(evs), stored, err)
		}
	}
	if stored < 10 {
		t.Fatalf("full after %d connections", stored)
	}
	for range 5 {
		wantTrouble(t, err, path, "disk is full")
		check()
		err = save(stored)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := save(stored); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	stored++
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// Opened without any room at all it is an error as clear, or it works.
	fill := mountns.Fill(t, dir)
	if full, err := Open(ctx, Config{Path: path}); err != nil {
		wantTrouble(t, err, path, "disk is full")
	} else {
		s = full
		check()
		wantTrouble(t, save(stored), path, "disk is full")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	check()
}

// TestFullDiskFromTheStart makes a database where there is no room for one.
func TestFullDiskFromTheStart(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a disk again and again")
	}
	if !mountns.Alone(t) {
		return
	}
	dir := t.TempDir()
	mountns.Tmpfs(t, dir, "1m")
	fill := mountns.Fill(t, dir)
	for _, room := range []int64{0, 4 << 10, 20 << 10, 60 << 10} {
		fi, err := os.Stat(fill)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(fill, fi.Size()-room); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "authsome.db")
		_, err = Open(context.Background(), Config{Path: path})
		wantTrouble(t, err, path, "disk is full")
		if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 1 {
			t.Fatalf("leaves %v, %v", left, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("a part of a database is there: %v", err)
		}
		// No more than was given this time.
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		fill = mountns.Fill(t, dir)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	openAt(t, filepath.Join(dir, "authsome.db"))
}

// TestReadOnlyHome opens a database on a file system that cannot be written to.
func TestReadOnlyHome(t *testing.T) {
	if !mountns.Alone(t) {
		return
	}
	ctx := context.Background()
	for name, made := range map[string]bool{"with a database": true, "empty": false} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		mountns.Tmpfs(t, dir, "1m")
		path := filepath.Join(dir, "authsome.db")
		if made {
			s, err := Open(ctx, Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		mountns.ReadOnly(t, dir)
		_, err := Open(ctx, Config{Path: path})
		wantTrouble(t, err, path, "cannot be written to")
		if !strings.Contains(authsome.HintOf(err), "AUTHSOME_HOME") {
			t.Errorf("the hint is %q", authsome.HintOf(err))
		}
	}
}
