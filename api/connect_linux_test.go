package api_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/authsome/authsome/api"
)

func TestDaemonIsDetached(t *testing.T) {
	home := newHome(t)
	h := health(t, connect(t, options(home, "v1")))
	if cwd, err := os.Readlink(filepath.Join("/proc", itoa(h.PID), "cwd")); err != nil || cwd != "/" {
		t.Errorf("it works in %q, %v", cwd, err)
	}
	if sid := sessionOf(t, h.PID); sid != h.PID {
		t.Errorf("its session is %d, not its own", sid)
	}
	for fd, want := range map[string]string{"0": os.DevNull, "1": filepath.Join(home, api.LogFile), "2": filepath.Join(home, api.LogFile)} {
		if got, err := os.Readlink(filepath.Join("/proc", itoa(h.PID), "fd", fd)); err != nil || got != want {
			t.Errorf("descriptor %s is %q (%v), want %q", fd, got, err, want)
		}
	}
	if fi, err := os.Stat(filepath.Join(home, api.LogFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the log: %v, %v", fi, err)
	}
}
