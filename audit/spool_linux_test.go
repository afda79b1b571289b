package audit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/internal/mountns"
)

// TestSpoolOnFullDisk fills the disk: an event is recorded or refused, never
// half of it, and the spool goes on when there is room.
func TestSpoolOnFullDisk(t *testing.T) {
	if !mountns.Alone(t) {
		return
	}
	dir := t.TempDir()
	mountns.Tmpfs(t, dir, "256k")
	path := filepath.Join(dir, "audit.spool")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	var want []string
	fill := func() error {
		for i := 0; ; i++ {
			detail := fmt.Sprint(len(want), strings.Repeat("x", i%1500)) // ends anywhere in a page
			record := s.Append
			if i%3 == 0 {
				record = s.AppendLater // what it takes comes, too
			}
			if err := record(event(detail)); err != nil {
				return err
			}
			if want = append(want, detail); len(want) > 10_000 {
				t.Fatal("the disk does not get full")
			}
		}
	}
	err := fill()
	for range 20 {
		if authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "no space") || authsome.HintOf(err) == "" {
			t.Fatalf("the error is %v", err)
		}
		err = fill() // short events may still fit
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	before := len(want)
	if err := fill(); err == nil || len(want) == before {
		t.Fatal("with room again nothing is recorded")
	}
	if got := drain(t, s); !slices.Equal(got, want) {
		t.Fatalf("%d of %d events arrive", len(got), len(want))
	}
	if _, err := os.Stat(path + ".damaged"); err == nil {
		t.Error("half an event was left in the file")
	}
	if err := s.Append(event("last")); err != nil {
		t.Error(err)
	}
	if got := drain(t, s); !slices.Equal(got, []string{"last"}) {
		t.Errorf("at last %q", got)
	}
}

// TestSpoolOnReadOnlyDisk opens a spool where nothing can be written.
func TestSpoolOnReadOnlyDisk(t *testing.T) {
	if !mountns.Alone(t) {
		return
	}
	dir := t.TempDir()
	mountns.Tmpfs(t, dir, "256k")
	mountns.ReadOnly(t, dir)
	path := filepath.Join(dir, "audit.spool")
	if _, err := audit.OpenSpool(path); authsome.CodeOf(err) != authsome.StoreFailed || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("the error is %v", err)
	}
}
