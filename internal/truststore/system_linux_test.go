package truststore_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome/internal/mountns"
	"github.com/authsome/authsome/internal/truststore"
)

// TestSystem runs the distribution's own tools on directories of the test's, in
// a mount namespace of the test's.
func TestSystem(t *testing.T) {
	const anchors, bundle = "/usr/local/share/ca-certificates", "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat("/etc/debian_version"); err != nil {
		t.Skip("written for Debian's store")
	}
	if !mountns.Alone(t) {
		return
	}
	// update-ca-certificates starts some ten programs for each authority that the
	// distribution knows: it is given three.
	list, err := os.ReadFile("/etc/ca-certificates.conf")
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(list), "\n"), func(l string) bool { return !strings.HasPrefix(l, "mozilla/") })
	if len(lines) < 3 {
		t.Fatalf("/etc/ca-certificates.conf names %d authorities", len(lines))
	}
	few := filepath.Join(t.TempDir(), "ca-certificates.conf")
	if err := os.WriteFile(few, []byte(strings.Join(lines[:3], "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, "mount", "--bind", few, "/etc/ca-certificates.conf")
	for _, dir := range []string{anchors, "/etc/ssl/certs"} {
		mountns.Tmpfs(t, dir, "32m")
	}
	// The hooks that enter all roots into Java's store anew take most of the time.
	mountns.Tmpfs(t, "/etc/ca-certificates/update.d", "1m")
	// A neighbour's, of another home on this machine.
	if err := os.WriteFile(filepath.Join(anchors, "authsome-0123456789abcdef.crt"), []byte(certPEM(newRoot(t, "neighbour", false))), 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, "/usr/sbin/update-ca-certificates")
	s := at(t, host(t, t.TempDir()), truststore.System, anchors)
	if s.Root {
		t.Error("root needs root")
	}
	exercise(t, s, func() string {
		data, err := os.ReadFile(bundle)
		if err != nil {
			t.Fatal(err)
		}
		return output(t, "ls", "-A", anchors, "/etc/ssl/certs") + string(data)
	})

	// A file that was changed is not ours any more: it stays.
	c := newRoot(t, "one", false)
	if _, err := s.Install(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(anchors, c.Name()+".crt")
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o644 {
		t.Fatalf("%v, %v", fi, err)
	}
	if err := os.WriteFile(file, []byte(certPEM(newRoot(t, "other", false))), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Uninstall(t.Context(), []truststore.Certificate{c}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("somebody else's file is gone: %v", err)
	}
	if data, err := os.ReadFile(bundle); err != nil || strings.Contains(string(data), certPEM(c)) {
		t.Errorf("ours is still in the bundle: %v", err)
	}
}
