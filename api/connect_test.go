//go:build unix

package api_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/gofrs/flock"
)

func init() {
	lockedFile = func(path string) (*os.File, error) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		}
		return f, err
	}
}

func TestFiftyCommandsStartOneDaemon(t *testing.T) {
	home := newHome(t)
	commands := 50
	if testing.Short() {
		commands = 15 // with the race detector a process takes a second to start
	}
	pids := make([]string, commands)
	var wg sync.WaitGroup
	for i := range pids {
		wg.Add(1)
		go func() {
			defer wg.Done()
			cmd := program(t, "connect", home, "v1", "slow")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("command %d: %v: %s", i, err, out)
			}
			pids[i] = strings.TrimSpace(string(out))
		}()
	}
	wg.Wait()
	if n := len(starts(t, home)); n != 1 {
		t.Errorf("%d daemons were started, want 1", n)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(pids)))) != 1 {
		t.Errorf("commands met different daemons: %v", pids)
	}
}

func TestConnectReplacesAnotherVersion(t *testing.T) {
	home := newHome(t)
	ctx := context.Background()
	old := connect(t, options(home, "v1"))
	before := health(t, old)

	// A run that renews its grant takes what is there.
	o := options(home, "v2")
	o.AnyVersion = true
	if got := health(t, connect(t, o)); got.PID != before.PID {
		t.Errorf("AnyVersion replaced daemon %d by %d", before.PID, got.PID)
	}

	// Inside a run nothing is replaced.
	o = options(home, "v2")
	o.Environ = append(o.Environ, "AUTHSOME_PROXY_MODE=true")
	if _, err := api.Connect(ctx, o); authsome.CodeOf(err) != authsome.DaemonUnavailable || authsome.HintOf(err) == "" {
		t.Errorf("inside a run: %v", err)
	}

	// Nor by one who only looks.
	o = options(home, "v2")
	o.NoStart = true
	if _, err := api.Connect(ctx, o); authsome.CodeOf(err) != authsome.DaemonUnavailable {
		t.Errorf("NoStart: %v", err)
	}

	after := health(t, connect(t, options(home, "v2")))
	if after.Version != "v2" || after.PID == before.PID {
		t.Errorf("health is %+v, want version v2 of another process than %d", after, before.PID)
	}
	if err := syscall.Kill(before.PID, 0); err == nil {
		// It may be a zombie of this process for a moment.
		deadline := time.Now().Add(5 * time.Second)
		for syscall.Kill(before.PID, 0) == nil {
			if time.Now().After(deadline) {
				t.Fatalf("the old daemon %d is still there", before.PID)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestConnectInsideRunStartsNothing(t *testing.T) {
	home := newHome(t)
	o := options(home, "v1")
	o.Environ = append(o.Environ, "AUTHSOME_PROXY_MODE=true")
	o.Timeout = 100 * time.Millisecond
	_, err := api.Connect(context.Background(), o)
	if authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(err.Error(), "inside a run") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("a home was made: %v", err)
	}
}

// A process that has outlived its run, or has been left its mark only, is told
// so; one whose run lives waits for that run.
func TestConnectWithTheMarkOfARun(t *testing.T) {
	home := newHome(t)
	over := loopback(t)
	_ = over.Close()
	alive := loopback(t) // whose run is about to start the daemon
	inside := func(variables ...string) api.Options {
		o := options(home, "v1")
		o.Environ = slices.DeleteFunc(o.Environ, func(kv string) bool { return strings.HasPrefix(strings.ToUpper(kv), "HTTPS_PROXY=") })
		o.Environ = append(append(o.Environ, "AUTHSOME_PROXY_MODE=true"), variables...)
		return o
	}
	way := func(ln net.Listener) string { return "HTTPS_PROXY=http://authsome:token@" + ln.Addr().String() }
	_, err := api.Connect(context.Background(), inside(way(over)))
	if authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(err.Error(), "the run that this process belongs to is over") || authsome.HintOf(err) == "" {
		t.Errorf("a run that is over: got %v", err)
	}
	_, err = api.Connect(context.Background(), inside())
	if authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(authsome.HintOf(err), "unset AUTHSOME_PROXY_MODE") {
		t.Errorf("the mark alone: got %v, hint %q", err, authsome.HintOf(err))
	}
	if n := len(starts(t, home)); n != 0 {
		t.Errorf("%d daemons were started", n)
	}

	found := make(chan error, 1)
	go func() {
		c, err := api.Connect(context.Background(), inside(way(alive)))
		if err == nil {
			_, err = c.Health(context.Background())
			c.Close()
		}
		found <- err
	}()
	if _, err := alive.Accept(); err != nil { // it has looked whether the run lives
		t.Fatal(err)
	}
	connect(t, options(home, "v1"))
	if err := <-found; err != nil {
		t.Errorf("in a run that lives: %v", err)
	}
}

// What keeps a daemon from starting is told inside a run as well, whose run
// tries to start it.
func TestFailureIsToldInsideARun(t *testing.T) {
	home := newHome(t)
	ln := loopback(t)
	o := options(home, "v1")
	o.Environ = append(o.Environ, "AUTHSOME_PROXY_MODE=true", "HTTPS_PROXY=http://authsome:token@"+ln.Addr().String())
	told := make(chan error, 1)
	go func() {
		_, err := api.Connect(context.Background(), o)
		told <- err
	}()
	if _, err := ln.Accept(); err != nil {
		t.Fatal(err)
	}
	_, _ = api.Connect(context.Background(), options(home, "v1", "fails"))
	if err := <-told; authsome.CodeOf(err) != authsome.Internal {
		t.Errorf("got %v, want what the daemon reported", err)
	}
}

// A daemon may take as long as a keyring that nobody unlocks, and is heard.
func TestConnectHearsASlowFailure(t *testing.T) {
	home := newHome(t)
	_, err := api.Connect(context.Background(), options(home, "v1", "keyring"))
	if authsome.CodeOf(err) != authsome.VaultFailed || !strings.Contains(err.Error(), "does not answer") || authsome.HintOf(err) != "unlock the keyring" {
		t.Errorf("got %v, hint %q", err, authsome.HintOf(err))
	}
}

// When a person's `daemon serve` is first, the process that was started for
// nothing is gone when Connect returns.
func TestConnectEndsTheDaemonThatCameSecond(t *testing.T) {
	for _, how := range []string{"overtaken", "overtaken deaf"} {
		t.Run(how, func(t *testing.T) {
			home := newHome(t)
			h := health(t, connect(t, options(home, "v1", how)))
			data, err := os.ReadFile(filepath.Join(home, "second"))
			if err != nil {
				t.Fatal(err)
			}
			second, err := strconv.Atoi(string(data))
			if err != nil || second == h.PID {
				t.Fatalf("the test needs another daemon: %q, met %d", data, h.PID)
			}
			if err := syscall.Kill(second, 0); err == nil {
				_ = syscall.Kill(second, syscall.SIGKILL)
				t.Errorf("process %d is still there", second)
			}
		})
	}
}

func TestConnectAfterKill(t *testing.T) {
	home := newHome(t)
	first := health(t, connect(t, options(home, "v1")))
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Its socket and its lock file are still there.
	path, err := api.SocketPath(home)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the test needs a stale socket: %v", err)
	}
	second := health(t, connect(t, options(home, "v1")))
	if second.PID == first.PID {
		t.Errorf("daemon %d lives on", first.PID)
	}
}

func TestConnectTellsWhyADaemonDidNotStart(t *testing.T) {
	home := newHome(t)
	_, err := api.Connect(context.Background(), options(home, "v1", "fails"))
	if err == nil || strings.Contains(err.Error(), "secret inner text") || authsome.CodeOf(err) != authsome.Internal {
		t.Errorf("reported failure: got %v", err)
	}
	_, err = api.Connect(context.Background(), options(home, "v1", "dies"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(authsome.HintOf(err), api.LogFile) {
		t.Errorf("a daemon that dies: got %v, hint %q", err, authsome.HintOf(err))
	}
	// Yesterday's failure is not today's.
	if h := health(t, connect(t, options(home, "v1"))); h.Version != "v1" {
		t.Errorf("health is %+v", h)
	}
}

func TestFailureIsToldToAllWhoWait(t *testing.T) {
	home := newHome(t)
	var wg sync.WaitGroup
	for range 10 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if out, err := program(t, "connect", home, "v1", "fails").CombinedOutput(); err == nil {
				t.Errorf("connected: %s", out)
			}
		}()
	}
	wg.Wait()
	if n := len(starts(t, home)); n > 5 {
		t.Errorf("10 commands tried %d times to start a daemon that cannot", n)
	}
}

func TestConnectWaitsForAPersonsDaemon(t *testing.T) {
	home := newHome(t)
	if err := api.EnsureHome(home); err != nil {
		t.Fatal(err)
	}
	// Another process is about to become the daemon: it has the lock only.
	cmd := program(t, "small-daemon", "v1", "slow")
	cmd.Env = append(os.Environ(), "AUTHSOME_HOME="+home)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_, _ = api.StopDaemon(context.Background(), home)
		<-exited
	})
	for {
		lock := flock.New(filepath.Join(home, api.LockFile))
		ok, err := lock.TryLock()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		_ = lock.Unlock()
		time.Sleep(time.Millisecond)
	}
	if h := health(t, connect(t, options(home, "v1"))); h.PID != cmd.Process.Pid {
		t.Errorf("met daemon %d, want the person's %d", h.PID, cmd.Process.Pid)
	}
}

func TestStopDaemon(t *testing.T) {
	ctx := context.Background()
	t.Run("none", func(t *testing.T) {
		if stopped, err := api.StopDaemon(ctx, newHome(t)); stopped || err != nil {
			t.Errorf("got %v, %v", stopped, err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		home := newHome(t)
		h := health(t, connect(t, options(home, "v1", "refuses")))
		if _, err := api.StopDaemon(ctx, home); authsome.CodeOf(err) != authsome.Forbidden {
			t.Errorf("got %v, want a refusal", err)
		}
		if err := syscall.Kill(h.PID, 0); err != nil {
			t.Errorf("the daemon was ended all the same: %v", err)
		}
		_ = syscall.Kill(h.PID, syscall.SIGKILL)
	})
	t.Run("followed at once", func(t *testing.T) {
		home := newHome(t)
		old := health(t, connect(t, options(home, "v1", "hands over")))
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		// Between the two the lock is never free, as a run's next daemon may have it.
		if stopped, err := api.StopDaemon(ctx, home); !stopped || err != nil {
			t.Errorf("got %v, %v", stopped, err)
		}
		if h := health(t, connect(t, options(home, "v1"))); h.PID == old.PID || len(starts(t, home)) != 2 {
			t.Errorf("%d was stopped, and now there is %d of %d", old.PID, h.PID, len(starts(t, home)))
		}
	})
	t.Run("deaf", func(t *testing.T) {
		home := newHome(t)
		connect(t, options(home, "v1", "deaf"))
		if stopped, err := api.StopDaemon(ctx, home); !stopped || err != nil {
			t.Errorf("got %v, %v", stopped, err)
		}
	})
}

func TestDaemonEnvironment(t *testing.T) {
	home := newHome(t)
	o := options(home, "v1")
	o.Environ = []string{
		"PATH=/bin", "HOME=/h", "LC_ALL=C", "XDG_RUNTIME_DIR=" + os.Getenv("XDG_RUNTIME_DIR"),
		"AUTHSOME_MASTER_KEY=k", "AUTHSOME_MASTER_KEY_FILE=f", "AUTHSOME_HOME=/elsewhere",
		"AUTHSOME_KEYRING=off", "AUTHSOME_PORT=1", "AUTHSOME_LOG=debug", "AUTHSOME_LIMITS=memory=1MB",
		"HTTPS_PROXY=http://evil", "https_proxy=http://evil", "ALL_PROXY=x", "SSL_CERT_FILE=evil.pem", "SSL_CERT_DIR=evil",
		"OPENAI_API_KEY=sk", "LD_PRELOAD=evil.so", "GODEBUG=x", "AUTHSOME_MASTER_KEYS=x",
	}
	connect(t, o)
	got := starts(t, home)[0]
	slices.Sort(got)
	want := []string{
		"AUTHSOME_HOME=" + home, "AUTHSOME_KEYRING=off", "AUTHSOME_LIMITS=memory=1MB", "AUTHSOME_LOG=debug", "AUTHSOME_MASTER_KEY=k", "AUTHSOME_MASTER_KEY_FILE=f",
		"AUTHSOME_PORT=1", "HOME=/h", "LC_ALL=C", "PATH=/bin",
		"XDG_RUNTIME_DIR=" + os.Getenv("XDG_RUNTIME_DIR"),
	}
	if !slices.Equal(got, want) {
		t.Errorf("the daemon got\n%q\nwant\n%q", got, want)
	}
}

func TestHomesThatCannotBeUsed(t *testing.T) {
	runtimeDir(t)
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shared := filepath.Join(base, "shared")
	if err := os.MkdirAll(filepath.Join(shared, "somebody's"), 0o755); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(base, "dangling")
	if err := os.Symlink(filepath.Join(base, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for home, want := range map[string]string{
		file:                       "is not a directory",
		shared:                     "is open to other users",
		dangling:                   "resolve the home",
		filepath.Join(file, "sub"): "not a directory",
	} {
		_, err := api.Connect(context.Background(), options(home, "v1"))
		if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), want) || authsome.HintOf(err) == "" {
			t.Errorf("%s: got %v, hint %q; want %q", home, err, authsome.HintOf(err), want)
		}
	}
	if fi, err := os.Stat(shared); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("the shared directory was changed: %v %v", fi, err)
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(base, "foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		if err := api.EnsureHome(foreign); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("another user's home: got %v", err)
		}
	}
}

func TestEnsureHomeClosesItsOwn(t *testing.T) {
	for _, content := range []string{"", api.LockFile, "server"} {
		home := filepath.Join(t.TempDir(), "home")
		if err := os.Mkdir(home, 0o755); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(filepath.Join(home, content), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := api.EnsureHome(home); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(home); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("with %q in it: %v, %v", content, fi, err)
		}
	}
}

func TestHomeIsOneHoweverItIsSpelt(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(base, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(base)
	want := filepath.Join(base, "a", "b")
	for _, spelt := range []string{want, "a/b", "./a/../a/b/", filepath.Join(base, "link", "a", "b")} {
		if got, err := api.ResolveHome(spelt); err != nil || got != want {
			t.Errorf("ResolveHome(%q) = %q, %v; want %q", spelt, got, err, want)
		}
	}
}

// loopback is a listener such as a run has.
func loopback(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// connect is api.Connect that must succeed.
func connect(t *testing.T, o api.Options) *api.Client {
	t.Helper()
	c, err := api.Connect(context.Background(), o)
	if err != nil {
		if log, lerr := os.Open(filepath.Join(o.Home, api.LogFile)); lerr == nil {
			var b bytes.Buffer
			_, _ = io.Copy(&b, log)
			t.Logf("log: %s", b.String())
		}
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func health(t *testing.T, c *api.Client) api.Health {
	t.Helper()
	h, err := c.Health(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}
