package vault

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// insideEnv is set in the process that runs on a session bus of its own.
const insideEnv = "AUTHSOME_VAULT_TEST_BUS"

// onBus runs the calling test again on a D-Bus session bus of its own, after a
// shell's line there, and reports whether the caller is that process.
func onBus(t *testing.T, line string) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	for program, pkg := range map[string]string{"dbus-run-session": "dbus", "gnome-keyring-daemon": "gnome-keyring"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if _, err := os.Stat("/etc/debian_version"); err != nil {
			t.Skipf("needs %s", program)
		}
		t.Fatalf("%s is not installed: apt-get install %s", program, pkg)
	}
	dir := t.TempDir()
	for _, name := range []string{"home", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("dbus-run-session", "--", "sh", "-c", line+`; exec "$0" -test.v -test.run "^$1\$"`, os.Args[0], t.Name())
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home"), "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"TMPDIR=" + dir, insideEnv + "=" + t.Name(),
	}
	// A keyring that the bus has started may stay behind, with our pipe. Its group is the
	// session's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("on a bus of its own: %v\n%s", err, out)
	}
	return false
}

// TestSystemKeyring keeps a master key in a real keyring: GNOME's, unlocked as
// a login does it.
func TestSystemKeyring(t *testing.T) {
	if !onBus(t, "printf password | gnome-keyring-daemon --unlock --components=secrets >/dev/null") {
		return
	}
	k := SystemKeyring{}
	if err := ProbeKeyring(t.Context(), k); err != nil {
		t.Fatalf("the keyring does not answer: %v", err)
	}
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: k}
	v := open(t, c)
	if v.Source() != sourceKeyring {
		t.Fatalf("source %s", v.Source())
	}
	if entries, err := os.ReadDir(c.Home); err != nil || len(entries) != 0 {
		t.Errorf("the home has %v, %v", entries, err)
	}
	sealed, err := v.Seal(place, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := open(t, c).Unseal(place, sealed); err != nil || string(plain) != "secret" {
		t.Errorf("opened again: %q, %v", plain, err)
	}
	other := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: k}
	if _, err := open(t, other).Unseal(place, sealed); err == nil {
		t.Error("another home opens it")
	}
	// The key that is there is the one of this home, and changing it is seen.
	if err := k.Set(keyringService, keyringUser(c.Home), strings.Repeat("00", keyBytes)); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "not the one")
}

// TestLockedKeyring meets a real keyring that nobody unlocked, with nobody to
// ask for the password.
func TestLockedKeyring(t *testing.T) {
	// The first makes the collection, the second knows no password.
	const line = `printf password | gnome-keyring-daemon --unlock --components=secrets >/dev/null; ` +
		`gnome-keyring-daemon --replace --components=secrets >/dev/null`
	if !onBus(t, line) {
		return
	}
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: SystemKeyring{}}
	if v := open(t, c); v.Source() != sourceFile {
		t.Errorf("source %s with a locked keyring", v.Source())
	}
	raw := []byte(`{"v":1,"source":"keyring","keyring_user":"` + keyringUser(c.Home) + `","check":"AAAAAAAAAAA="}`)
	refused(t, Config{Home: t.TempDir(), Getenv: env(), Headers: headers{authsome.LocalVault: raw}, Keyring: SystemKeyring{}}, "does not answer", "unlock")
}

// TestNoKeyring asks where there is no session bus: the answer comes at once,
// and no bus is started.
func TestNoKeyring(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("PATH", t.TempDir())
	if reachable() == nil {
		t.Skip("this user has a session bus in /run/user")
	}
	launched := filepath.Join(t.TempDir(), "launched")
	if err := os.WriteFile(filepath.Join(os.Getenv("PATH"), "dbus-launch"), []byte("#!/bin/sh\n: >"+launched+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := ProbeKeyring(t.Context(), SystemKeyring{}); err == nil {
		t.Error("a keyring answers")
	}
	c := Config{Home: t.TempDir(), Getenv: env(), Headers: headers{}, Keyring: SystemKeyring{}}
	if v := open(t, c); v.Source() != sourceFile {
		t.Errorf("source %s", v.Source())
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("a bus was started")
	}
}
