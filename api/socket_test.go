//go:build unix

package api_test

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"golang.org/x/sys/unix"
)

// nobody is a user that owns nothing here.
const nobody = 65534

func itoa(n int) string { return strconv.Itoa(n) }

func sessionOf(t *testing.T, pid int) int {
	t.Helper()
	sid, err := unix.Getsid(pid)
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to act as another user")
	}
}

func TestSocketIsPrivate(t *testing.T) {
	dir := runtimeDir(t)
	ln, err := api.Listen("/some/home")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if filepath.Dir(ln.Path()) != filepath.Join(dir, "authsome") {
		t.Errorf("it lies at %s", ln.Path())
	}
	if fi, err := os.Stat(ln.Path()); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", fi.Mode(), err)
	}
	if fi, err := os.Stat(filepath.Dir(ln.Path())); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", fi.Mode(), err)
	}
	other, err := api.SocketPath("/other/home")
	if err != nil || other == ln.Path() {
		t.Errorf("another home has the socket %s, %v", other, err)
	}
}

func TestSocketPathFallsBack(t *testing.T) {
	short := runtimeDir(t)
	private := "authsome-" + itoa(os.Geteuid())
	long := filepath.Join(short, strings.Repeat("x", 90))
	open := filepath.Join(short, "open")
	for _, dir := range []string{long, open} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, run, tmp, want string }{
		{"runtime directory", short, "/tmp", filepath.Join(short, "authsome")},
		{"unset", "", short, filepath.Join(short, private)},
		{"relative", "run", short, filepath.Join(short, private)},
		{"missing", filepath.Join(short, "none"), short, filepath.Join(short, private)},
		{"writable for all", open, short, filepath.Join(short, private)},
		{"too long", long, short, filepath.Join(short, private)},
		{"both too long", long, long, filepath.Join("/tmp", private)},
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(short, "foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		tests = append(tests, struct{ name, run, tmp, want string }{"another user's", foreign, short, filepath.Join(short, private)})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("XDG_RUNTIME_DIR", tt.run)
			t.Setenv("TMPDIR", tt.tmp)
			got, err := api.SocketPath("/home/x/.authsome")
			if err != nil || filepath.Dir(got) != tt.want {
				t.Errorf("got %s, %v; want it in %s", got, err, tt.want)
			}
			if len(got) > 103 {
				t.Errorf("%s has %d bytes", got, len(got))
			}
		})
	}
}

// Whoever makes the directory first, in a place that others can write to, must
// gain nothing by it.
func TestSocketDirectoryAttacks(t *testing.T) {
	attacks := map[string]func(t *testing.T, dir string){
		"symbolic link": func(t *testing.T, dir string) {
			if err := os.Symlink(t.TempDir(), dir); err != nil {
				t.Fatal(err)
			}
		},
		"can be used by other users": func(t *testing.T, dir string) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		},
		"no directory": func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
	if os.Geteuid() == 0 {
		attacks["belongs to user 65534"] = func(t *testing.T, dir string) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	for want, attack := range attacks {
		t.Run(want, func(t *testing.T) {
			tmp := runtimeDir(t)
			t.Setenv("XDG_RUNTIME_DIR", "")
			t.Setenv("TMPDIR", tmp)
			attack(t, filepath.Join(tmp, "authsome-"+itoa(os.Geteuid())))
			if ln, err := api.Listen("/h"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the daemon: %v, %v", ln, err)
			}
			c := &api.Client{Home: "/h"}
			if _, err := c.Health(context.Background()); authsome.CodeOf(err) != authsome.Forbidden || !strings.Contains(err.Error(), want) {
				t.Errorf("the client: %v", err)
			}
		})
	}
}

func TestListenReplacesOnlyASocket(t *testing.T) {
	runtimeDir(t)
	first, err := api.Listen("/h")
	if err != nil {
		t.Fatal(err)
	}
	first.SetUnlinkOnClose(false)
	_ = first.Close()
	second, err := api.Listen("/h")
	if err != nil {
		t.Fatalf("over a dead daemon's socket: %v", err)
	}
	_ = second.Close()
	if err := os.WriteFile(second.Path(), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen("/h"); err == nil {
		t.Error("listened over a file")
	}
	if data, err := os.ReadFile(second.Path()); err != nil || string(data) != "precious" {
		t.Errorf("the file is now %q, %v", data, err)
	}
}

func TestForeignUserIsNotAnswered(t *testing.T) {
	needRoot(t)
	dir := runtimeDir(t)
	ln, err := api.Listen("/h")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("{}")) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close(); <-done }()
	// Take the directory's protection away, so that the peer's uid alone is
	// left.
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Dir(ln.Path()): 0o755, ln.Path(): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := program(t, "dial", ln.Path())
	cmd.Path = copyProgram(t, dir)
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Fatalf("our own process: %s, %v", out, err)
	}
	cmd = program(t, "dial", ln.Path())
	cmd.Path = copyProgram(t, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err == nil || strings.HasPrefix(string(out), "1") {
		t.Errorf("another user's process was answered: %q, %v", out, err)
	}
}

func TestForeignDaemonIsNotSpokenTo(t *testing.T) {
	needRoot(t)
	dir := runtimeDir(t)
	home := "/h"
	path, err := api.SocketPath(home)
	if err != nil {
		t.Fatal(err)
	}
	sockets := filepath.Dir(path)
	if err := os.Mkdir(sockets, 0o700); err != nil {
		t.Fatal(err)
	}
	// For the time of the attack anybody may write there.
	for _, d := range []string{dir, sockets} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := program(t, "listen", path)
	cmd.Path = copyProgram(t, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%q %v", line, err)
	}
	for _, d := range []string{sockets, dir} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := &api.Client{Home: home}
	_, err = c.SubmitLogin(context.Background(), "sess_1", map[string]authsome.Secret{"api_key": authsome.NewSecret("k")})
	if authsome.CodeOf(err) != authsome.Forbidden || !strings.Contains(err.Error(), "another user") {
		t.Errorf("got %v", err)
	}
}

// copyProgram puts the test binary where another user can run it.
func copyProgram(t *testing.T, dir string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A command whose environment puts the socket elsewhere (cron's) finds the
// daemon by what it wrote into its home.
func TestSocketIsFoundByTheRecord(t *testing.T) {
	home := newHome(t)
	h := health(t, connect(t, options(home, "v1")))
	path, err := api.SocketPath(home)
	if err != nil {
		t.Fatal(err)
	}
	record := `{"pid":` + itoa(h.PID) + `,"version":"v1","socket":"` + path + `"}`
	if err := os.WriteFile(filepath.Join(home, api.RecordFile), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	runtimeDir(t)
	if got := health(t, connect(t, options(home, "v1"))); got.PID != h.PID {
		t.Errorf("met daemon %d, want %d", got.PID, h.PID)
	}
	t.Setenv("XDG_RUNTIME_DIR", run)
}
