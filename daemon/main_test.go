package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"go.uber.org/goleak"
)

// The test binary is also the programs that the tests start: the daemon
// itself, commands, a run with its child, and a stranger that holds a port.
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
	// serve VERSION PORT: the daemon of AUTHSOME_HOME.
	"serve": func(args []string) error {
		port, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return Serve(context.Background(), Config{Version: args[0], Port: port, Stderr: os.Stderr})
	},
	// connect HOME VERSION PORT: a command that needs the daemon.
	"connect": func(args []string) error {
		port, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		c, err := api.Connect(context.Background(), options(args[0], args[1], port))
		if err != nil {
			return err
		}
		h, err := c.Health(context.Background())
		fmt.Println(h.PID)
		return err
	},
	// run HOME COMMAND…: holds a grant, and starts this program again as the
	// child.
	"run": func(args []string) error {
		ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		c := &api.Client{Home: args[0]}
		g, _, err := c.OpenGrant(context.Background(), ln, api.GrantRequest{Program: "child"})
		if err != nil {
			return err
		}
		defer func() { _ = g.Close() }()
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		cmd := exec.Command(exe, args[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	},
	// shell COMMAND…: one process more between a run and its descendant.
	"shell": func(args []string) error {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		cmd := exec.Command(exe, args...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	},
	// ask HOME: what a process is allowed, one line each: the act, and the code
	// of the error or "ok".
	"ask": func(args []string) error {
		c := &api.Client{Home: args[0]}
		ctx := context.Background()
		say := func(what string, err error) {
			code := string(authsome.CodeOf(err))
			if err == nil {
				code = "ok"
			}
			fmt.Println(what, code)
		}
		_, err := c.Providers(ctx)
		say("list", err)
		_, err = c.Export(ctx, api.ExportRequest{})
		say("export", err)
		_, err = c.Connection(ctx, "openai", "", true)
		say("reveal", err)
		info, err := c.GrantSelf(ctx)
		say("self", err)
		if err == nil && (info.Token == "" || info.Secret != "" || info.Port == 0) {
			return fmt.Errorf("grant of the run: token %v, secret %v, port %d", info.Token != "", info.Secret != "", info.Port)
		}
		ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		g, _, err := c.OpenGrant(ctx, ln, api.GrantRequest{Program: "x"})
		if err == nil {
			_ = g.Close()
		}
		say("grant", err)
		if len(args) > 1 {
			say("stop", c.Stop(ctx))
		}
		return nil
	},
	// hold PORT: a stranger on the browser's port, until its stdin closes.
	"hold": func(args []string) error {
		ln, err := net.Listen("tcp4", "127.0.0.1:"+args[0])
		if err != nil {
			return err
		}
		fmt.Println("held")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return ln.Close()
	},
	// sleep: does nothing until a signal comes.
	"sleep": func([]string) error {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		<-c
		return nil
	},
}

// options makes Connect start this program as the daemon.
func options(home, version string, port int) api.Options {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return api.Options{
		Home: home, Version: version, Executable: exe,
		Args: []string{"serve", version, strconv.Itoa(port)},
		Environ: slices.DeleteFunc(os.Environ(), func(kv string) bool {
			return strings.HasPrefix(kv, "AUTHSOME_PROXY_MODE=")
		}),
	}
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(exe, args...)
}

// newHome gives a test a home, a runtime directory with a short path and a
// port of its own, and stops the daemon at the end.
func newHome(t *testing.T) (home string, port int) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "as")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("AUTHSOME_KEYRING", "off")
	if home, err = api.ResolveHome(filepath.Join(dir, "home")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if _, err := api.StopDaemon(ctx, home); err != nil {
			t.Errorf("stop the test's daemon: %v", err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(home, api.LogFile))
			t.Logf("daemon.log:\n%s", log)
		}
	})
	return home, freePort(t)
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// connect is api.Connect that must succeed.
func connect(t *testing.T, o api.Options) *api.Client {
	t.Helper()
	c, err := api.Connect(context.Background(), o)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, authsome.HintOf(err))
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

// inProcess runs a daemon in this process, for what can only be broken from
// inside. Stopping it is the test's end.
func inProcess(t *testing.T) (*Daemon, *api.Client) {
	t.Helper()
	home, port := newHome(t)
	return serveIn(t, Config{Home: home, Port: port, Version: "v1"})
}

func serveIn(t *testing.T, c Config) (*Daemon, *api.Client) {
	t.Helper()
	if c.Level == nil {
		c.Level = slog.LevelDebug
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := open(ctx, c)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		err := d.serve(ctx)
		d.close()
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	client := &api.Client{Home: d.home, Wait: 10 * time.Second}
	t.Cleanup(client.Close)
	if _, err := client.Health(ctx); err != nil {
		t.Fatal(err)
	}
	return d, client
}

// get asks the browser's port as a browser does.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}

// searchFiles looks for texts in everything under dir.
func searchFiles(t *testing.T, dir string, texts []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		for i, s := range texts {
			if s != "" && bytes.Contains(data, []byte(s)) {
				t.Errorf("%s holds secret number %d", path, i)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
