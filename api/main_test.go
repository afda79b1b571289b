package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/gofrs/flock"
	"go.uber.org/goleak"
)

// The test binary is also the programs that the tests start: a small daemon,
// a command that connects to it, and clients of another user.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if run, ok := programs[os.Args[1]]; ok {
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	code := m.Run()
	// A daemon built with the race detector takes a second to end, and is waited
	// for by the process that started it.
	err := goleak.Find()
	for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); {
		err = goleak.Find()
	}
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var programs = map[string]func(args []string) error{
	"small-daemon": smallDaemon,
	"connect": func(args []string) error {
		c, err := api.Connect(context.Background(), options(args[0], args[1], args[2:]...))
		if err != nil {
			return err
		}
		h, err := c.Health(context.Background())
		fmt.Println(h.PID)
		return err
	},
	"dial": func(args []string) error {
		conn, err := net.Dial("unix", args[0])
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", api.PathHealth, api.Host); err != nil {
			return err
		}
		n, err := conn.Read(make([]byte, 1))
		fmt.Println(n)
		return err
	},
	"listen": func(args []string) error {
		ln, err := net.Listen("unix", args[0])
		if err != nil {
			return err
		}
		if err := os.Chmod(args[0], 0o777); err != nil {
			return err
		}
		fmt.Println("listening")
		for {
			if _, err := ln.Accept(); err != nil {
				return err
			}
		}
	},
}

// options makes Connect start the small daemon.
func options(home, version string, daemonArgs ...string) api.Options {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return api.Options{
		Home: home, Version: version, Executable: exe,
		Args:    append([]string{"small-daemon", version}, daemonArgs...),
		Environ: append(os.Environ(), "AUTHSOME_PROXY_MODE="),
	}
}

// granting makes what the small daemon answers grants with; nil where the tests
// know none.
var granting func() http.Handler

// lockedFile locks a file so that a child can inherit it; nil where that is not
// tested.
var lockedFile func(path string) (*os.File, error)

// smallDaemon is as much of a daemon as package api needs: it takes the home's
// lock, notes that it started, and answers health and stop. Its second argument
// makes it misbehave.
func smallDaemon(args []string) error {
	version, how := args[0], ""
	if len(args) > 1 {
		how = args[1]
	}
	home, err := api.Home(os.Getenv)
	if err != nil {
		return err
	}
	starts, err := os.OpenFile(filepath.Join(home, "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	env, _ := json.Marshal(os.Environ())
	fmt.Fprintf(starts, "%s\n", env)
	_ = starts.Close()
	switch how {
	case "fails":
		api.ReportFailure(home, errors.New("secret inner text"))
		return errors.New("failed")
	case "dies":
		os.Exit(3)
	case "keyring":
		time.Sleep(11 * time.Second) // a database in use, then a locked keyring
		err := authsome.E(authsome.VaultFailed, "open the vault: its master key is in the keyring, which does not answer").WithHint("unlock the keyring")
		api.ReportFailure(home, err)
		return err
	case "overtaken", "overtaken deaf":
		return overtaken(home, version, how)
	}
	lock := flock.New(filepath.Join(home, api.LockFile))
	var locked *os.File
	switch how {
	case "inherits": // descriptor 3 is the locked file
	case "hands over":
		if locked, err = lockedFile(lock.Path()); err != nil {
			return err
		}
	default:
		if ok, err := lock.TryLock(); err != nil || !ok {
			return fmt.Errorf("locked: %v", err)
		}
	}
	if err := os.WriteFile(lock.Path(), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	if how == "slow" {
		time.Sleep(200 * time.Millisecond)
	}
	ln, err := api.Listen(home)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc(api.PathHealth, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Health{Status: "ok", Version: version, PID: os.Getpid(), Home: home})
	})
	mux.HandleFunc(api.PathStop, func(w http.ResponseWriter, r *http.Request) {
		switch how {
		case "refuses":
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(api.Failure{Error: "OperationNotAllowed", Message: "no"})
		case "deaf":
		default:
			close(stop)
		}
	})
	if granting != nil {
		mux.Handle(api.PathGrants, granting())
	}
	go func() { _ = http.Serve(ln, mux) }()
	<-stop
	_ = ln.Close()
	if how == "hands over" {
		next, err := os.Executable()
		if err != nil {
			return err
		}
		cmd := exec.Command(next, "small-daemon", version, "inherits")
		cmd.ExtraFiles = []*os.File{locked}
		return cmd.Start()
	}
	time.Sleep(20 * time.Millisecond) // as if connections were being drained
	return lock.Unlock()
}

// overtaken is a daemon that another process is faster than: it notes its id,
// has the other one started, and then waits for the home.
func overtaken(home, version, how string) error {
	if how == "overtaken deaf" {
		signal.Ignore(syscall.SIGTERM)
	}
	if err := os.WriteFile(filepath.Join(home, "second"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	first := exec.Command(exe, "small-daemon", version)
	if err := first.Start(); err != nil {
		return err
	}
	// Not waited for: the home is taken when it has started.
	time.Sleep(time.Minute)
	return errors.New("nobody has ended this process")
}

// starts reads which daemons were started in a home: the environment of each.
func starts(t *testing.T, home string) [][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(home, "starts"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out [][]string
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if line == "" {
			continue
		}
		var env []string
		if err := json.Unmarshal([]byte(line), &env); err != nil {
			t.Fatal(err)
		}
		out = append(out, env)
	}
	return out
}

// newHome gives a test a home and a runtime directory of its own, and stops
// the daemon at the end.
func newHome(t *testing.T) string {
	t.Helper()
	runtimeDir(t)
	home, err := api.ResolveHome(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if _, err := api.StopDaemon(ctx, home); err != nil {
			t.Errorf("stop the test's daemon: %v", err)
		}
	})
	return home
}

// runtimeDir sets XDG_RUNTIME_DIR to a short path, as a socket needs.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "as")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	return dir
}

// program is a command that runs one of programs.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(exe, args...)
}
