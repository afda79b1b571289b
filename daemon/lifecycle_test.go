//go:build unix

package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

func TestFiftyCommandsOneDaemon(t *testing.T) {
	home, port := newHome(t)
	commands := 50
	if testing.Short() {
		commands = 15 // with the race detector a process takes ten times as long to start
	}
	pids := make([]string, commands)
	var wg sync.WaitGroup
	for i := range pids {
		wg.Add(1)
		go func() {
			defer wg.Done()
			out, err := program(t, "connect", home, "v1", fmt.Sprint(port)).CombinedOutput()
			if err != nil {
				t.Errorf("command %d: %v: %s", i, err, out)
			}
			pids[i] = strings.TrimSpace(string(out))
		}()
	}
	wg.Wait()
	if all := slices.Compact(slices.Sorted(slices.Values(pids))); len(all) != 1 {
		t.Errorf("commands met the daemons %v", all)
	}
	log, err := os.ReadFile(filepath.Join(home, api.LogFile))
	if err != nil || strings.Count(string(log), "msg=ready") != 1 {
		t.Errorf("%d daemons became ready, %v", strings.Count(string(log), "msg=ready"), err)
	}
}

func TestHomeIsPrivate(t *testing.T) {
	home, port := newHome(t)
	connect(t, options(home, "v1", port))
	err := filepath.WalkDir(home, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSecondDaemonNamesTheFirst(t *testing.T) {
	home, port := newHome(t)
	h := health(t, connect(t, options(home, "v1", port)))
	err := Serve(context.Background(), Config{Home: home, Port: port})
	if authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(err.Error(), fmt.Sprint(h.PID)) {
		t.Errorf("got %v, want process %d to be named", err, h.PID)
	}
	if got := health(t, connect(t, options(home, "v1", port))); got.PID != h.PID {
		t.Errorf("the first daemon was replaced by %d", got.PID)
	}
}

func TestAnotherVersionReplacesTheDaemon(t *testing.T) {
	home, port := newHome(t)
	before := health(t, connect(t, options(home, "v1", port)))
	after := health(t, connect(t, options(home, "v2", port)))
	if after.Version != "v2" || after.PID == before.PID {
		t.Errorf("health is %+v", after)
	}
	if after.Browser != before.Browser || after.BrowserNote != "" {
		t.Errorf("the browser's address went from %s to %s (%s)", before.Browser, after.Browser, after.BrowserNote)
	}
}

func TestGracefulStop(t *testing.T) {
	for name, stop := range map[string]func(c *api.Client, pid int) error{
		"api":     func(c *api.Client, _ int) error { return c.Stop(context.Background()) },
		"SIGTERM": func(_ *api.Client, pid int) error { return syscall.Kill(pid, syscall.SIGTERM) },
		"SIGINT":  func(_ *api.Client, pid int) error { return syscall.Kill(pid, syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			home, port := newHome(t)
			if err := api.EnsureHome(home); err != nil {
				t.Fatal(err)
			}
			cmd := program(t, "serve", "v1", fmt.Sprint(port))
			cmd.Env = append(os.Environ(), "AUTHSOME_HOME="+home)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := make(chan error, 1)
			go func() { exited <- cmd.Wait() }()
			c := &api.Client{Home: home, Wait: 10 * time.Second}
			defer c.Close()
			login, err := c.BeginLogin(context.Background(), api.LoginRequest{Provider: "openai"})
			if err != nil {
				t.Fatal(err)
			}
			// A command that waits is answered, with the state of then.
			waited := make(chan error, 1)
			go func() {
				l, err := c.Login(context.Background(), login.ID, time.Minute)
				if err == nil && l.Status != authsome.LoginWaiting {
					err = fmt.Errorf("status %s", l.Status)
				}
				waited <- err
			}()
			time.Sleep(50 * time.Millisecond) // let it get there
			if err := stop(c, cmd.Process.Pid); err != nil {
				t.Fatal(err)
			}
			if err := <-exited; err != nil {
				t.Errorf("the daemon ended with %v", err)
			}
			if err := <-waited; err != nil {
				t.Errorf("the command that waited: %v", err)
			}
			path, err := api.SocketPath(home)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket is still there: %v", err)
			}
			log, err := os.ReadFile(filepath.Join(home, api.LogFile))
			if err != nil || !strings.Contains(string(log), "msg=stopped") {
				t.Errorf("the log does not tell of the end: %v", err)
			}
		})
	}
}

// What a person began before the daemon died goes on after: a run with the
// same token and port, and a login with the same form.
func TestKilledDaemonIsContinued(t *testing.T) {
	home, port := newHome(t)
	ctx := context.Background()
	first := connect(t, options(home, "v1", port))
	pid := health(t, first).PID
	login, err := first.BeginLogin(ctx, api.LoginRequest{Provider: "openai", Connection: "work"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g, info, err := first.OpenGrant(ctx, ln, api.GrantRequest{Program: "codex"})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-g.Done()
	// A child that asks now must wait, not fail.
	waiting := make(chan error, 1)
	go func() { waiting <- throughProxy(ln.Addr().String(), info) }()

	o := options(home, "v1", port)
	o.AnyVersion = true
	second := connect(t, o)
	if now := health(t, second).PID; now == pid {
		t.Fatalf("daemon %d lives", pid)
	}
	renewal := &api.Renewal{ID: info.ID, Token: info.Token, Secret: info.Secret}
	for name, wrong := range map[string]api.Renewal{
		"another token":  {ID: info.ID, Token: info.Secret, Secret: info.Secret},
		"another secret": {ID: info.ID, Token: info.Token, Secret: info.Token},
		"another run":    {ID: "run_x", Token: info.Token, Secret: info.Secret},
	} {
		if _, _, err := second.OpenGrant(ctx, ln, api.GrantRequest{Program: "codex", Renew: &wrong}); authsome.CodeOf(err) != authsome.Forbidden {
			t.Errorf("renewed with %s: %v", name, err)
		}
	}
	again, renewed, err := second.OpenGrant(ctx, ln, api.GrantRequest{Program: "codex", Renew: renewal})
	if err != nil {
		t.Fatal(err)
	}
	if renewed.ID != info.ID || renewed.Token != info.Token || renewed.CA != info.CA {
		t.Errorf("the grant changed: %s → %s, CA equal %v", info.ID, renewed.ID, renewed.CA == info.CA)
	}
	if err := <-waiting; err != nil {
		t.Errorf("a request made while there was no daemon: %v", err)
	}
	if _, _, err := second.OpenGrant(ctx, ln, api.GrantRequest{Program: "codex", Renew: renewal}); authsome.CodeOf(err) != authsome.Forbidden {
		t.Errorf("a grant was held twice: %v", err)
	}
	if l, err := second.Login(ctx, login.ID, 0); err != nil || l.Status != authsome.LoginWaiting || l.URL != login.URL {
		t.Errorf("the login is %+v, %v; it was %+v", l, err, login)
	}
	done, err := second.SubmitLogin(ctx, login.ID, map[string]authsome.Secret{"api_key": authsome.NewSecret("sk-" + strings.Repeat("a", 48))})
	if err != nil || done.Status != authsome.LoginCompleted {
		t.Errorf("finishing the login: %+v, %v", done, err)
	}
	_ = again.Close()

	// The run is over: nothing is left to renew.
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, _, err := second.OpenGrant(ctx, ln, api.GrantRequest{Program: "codex", Renew: renewal})
		if authsome.CodeOf(err) == authsome.Forbidden {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("an ended run was renewed: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A stop is no end of the runs: they come back to the next daemon.
func TestStoppedDaemonLeavesItsRuns(t *testing.T) {
	home, port := newHome(t)
	ctx := context.Background()
	c := connect(t, options(home, "v1", port))
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for name, open := range map[string]func(*api.Client, context.Context, *net.TCPListener, api.GrantRequest) (*api.GrantConn, api.GrantInfo, error){
		"handed over": (*api.Client).OpenGrant, "relayed": (*api.Client).OpenRelayedGrant,
	} {
		g, info, err := open(c, ctx, ln, api.GrantRequest{Program: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if err := throughProxy(ln.Addr().String(), info); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := api.StopDaemon(ctx, home); err != nil {
			t.Fatal(err)
		}
		<-g.Done()
		c = connect(t, options(home, "v1", port))
		g, again, err := open(c, ctx, ln, api.GrantRequest{Program: "x", Renew: &api.Renewal{ID: info.ID, Token: info.Token, Secret: info.Secret}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := throughProxy(ln.Addr().String(), again); err != nil {
			t.Errorf("%s, after the restart: %v", name, err)
		}
		_ = g.Close()
	}
}

func TestTwoHomes(t *testing.T) {
	homeA, port := newHome(t)
	a := connect(t, options(homeA, "v1", port))
	homeB := filepath.Join(filepath.Dir(homeA), "other")
	b := connect(t, options(homeB, "v1", port))
	defer func() {
		if _, err := api.StopDaemon(context.Background(), homeB); err != nil {
			t.Error(err)
		}
	}()
	ha, hb := health(t, a), health(t, b)
	if ha.PID == hb.PID || ha.Home != homeA || hb.Home != homeB {
		t.Errorf("%+v and %+v", ha, hb)
	}
	if ha.BrowserNote != "" || ha.Browser == hb.Browser ||
		!strings.Contains(hb.BrowserNote, fmt.Sprintf("process %d", ha.PID)) || !strings.Contains(hb.BrowserNote, "another authsome") {
		t.Errorf("browsers: %+v and %+v", ha, hb)
	}
	key := map[string]authsome.Secret{"api_key": authsome.NewSecret("sk-" + strings.Repeat("a", 48))}
	l, err := a.BeginLogin(context.Background(), api.LoginRequest{Provider: "openai"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Login(context.Background(), l.ID, 0); authsome.CodeOf(err) != authsome.ConnectionNotFound {
		t.Errorf("the other home knows the login: %v", err)
	}
	if _, err := a.SubmitLogin(context.Background(), l.ID, key); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Connection(context.Background(), "openai", "", false); authsome.CodeOf(err) != authsome.ConnectionNotFound {
		t.Errorf("the other home has the connection: %v", err)
	}
	// The address that is open in a browser outlives a restart.
	if _, err := api.StopDaemon(context.Background(), homeB); err != nil {
		t.Fatal(err)
	}
	if again := health(t, connect(t, options(homeB, "v1", port))); again.Browser != hb.Browser {
		t.Errorf("the pages went from %s to %s", hb.Browser, again.Browser)
	}
}

func TestStrangerOnThePort(t *testing.T) {
	home, port := newHome(t)
	cmd := program(t, "hold", fmt.Sprint(port))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c := connect(t, options(home, "v1", port))
	h := health(t, c)
	want := fmt.Sprintf("port %d is held by process %d (%s)", port, cmd.Process.Pid, filepath.Base(cmd.Path))
	if !strings.Contains(h.BrowserNote, want) {
		t.Errorf("note %q, want %q", h.BrowserNote, want)
	}
	// Forms work all the same.
	l, err := c.BeginLogin(context.Background(), api.LoginRequest{Provider: "openai"})
	if err != nil || !strings.HasPrefix(l.URL, h.Browser+"/") {
		t.Fatalf("login %+v, %v", l, err)
	}
	if status, body := get(t, l.URL); status != 200 {
		t.Errorf("the form: HTTP %d %s", status, body)
	}
	got := checkNamed(t, c, "port")
	if !got.OK || !got.Warn || !strings.Contains(got.Text, fmt.Sprintf("process %d", cmd.Process.Pid)) || got.Fix == "" {
		t.Errorf("doctor: %+v", got)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := checkNamed(t, c, "port"); !got.Warn || !strings.Contains(got.Text, "free now") {
		t.Errorf("doctor, when it is gone: %+v", got)
	}
}

// A home that cannot be written to is said to be so, and nothing is broken.
func TestReadOnlyHome(t *testing.T) {
	home, port := newHome(t)
	connect(t, options(home, "v1", port))
	if _, err := api.StopDaemon(context.Background(), home); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "connect", home, "v1", fmt.Sprint(port))
	if os.Geteuid() == 0 {
		// Root may write anywhere; another user may not.
		const nobody = 65534
		dir := filepath.Dir(home)
		copyTo := filepath.Join(dir, "program")
		data, err := os.ReadFile(cmd.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copyTo, data, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.Path = copyTo
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err == nil && path != dir {
				err = os.Chown(path, nobody, nobody)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := filepath.WalkDir(home, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chmod(path, 0o400)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o500); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not writable") || !strings.Contains(string(out), home) {
		t.Errorf("%v: %s", err, out)
	}
	// Give it back for the clean-up.
	if err := filepath.WalkDir(filepath.Dir(home), func(path string, e os.DirEntry, err error) error {
		if err == nil {
			err = os.Chown(path, os.Geteuid(), os.Getegid())
		}
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		} else if err == nil {
			err = os.Chmod(path, 0o600)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// It was only closed, not harmed.
	connect(t, options(home, "v1", port))
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	home, port := newHome(t)
	if err := api.EnsureHome(home); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "serve-patiently", fmt.Sprint(port))
	cmd.Env = append(os.Environ(), "AUTHSOME_HOME="+home)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &api.Client{Home: home, Wait: 10 * time.Second}
	defer c.Close()
	health(t, c)
	// A request whose body never ends keeps the drain waiting.
	path, err := api.SocketPath(home)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{", api.PathLogins, api.Host)
	time.Sleep(50 * time.Millisecond) // let it get there
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for { // the socket is gone: the drain is under way
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	patience := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer patience.Stop()
	err = cmd.Wait()
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v, not by the signal", err)
	}
}

func init() {
	// serve-patiently PORT: a daemon that would drain for an hour.
	programs["serve-patiently"] = func(args []string) error {
		var port int
		if _, err := fmt.Sscan(args[0], &port); err != nil {
			return err
		}
		return Serve(context.Background(), Config{Version: "v1", Port: port, Drain: time.Hour})
	}
}
