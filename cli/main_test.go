package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/cli"
	"github.com/authsome/authsome/daemon"
	"github.com/rogpeppe/go-internal/testscript"
)

// canary is part of every secret in these tests: wherever it turns up outside
// of what was asked for, a secret has leaked.
const canary = "canary"

// The test binary is the authsome command too, daemon included.
func TestMain(m *testing.M) {
	if strings.HasSuffix(os.Args[0], ".test") {
		// What nohup, or a shell for its background job, has set to be ignored stays
		// so in every command, and the tests that interrupt one would wait for ever.
		for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
			if signal.Ignored(sig) {
				signal.Notify(make(chan os.Signal, 1), sig)
			}
		}
	}
	testscript.Main(m, map[string]func(){"authsome": func() {
		os.Exit(cli.Main(cli.Program{
			Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
			Serve: func(ctx context.Context, o cli.ServeOptions) error {
				return daemon.Serve(ctx, daemon.Config{Home: o.Home, Port: o.Port, Stderr: o.Stderr})
			},
		}))
	}})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home", ".authsome")
			for _, kv := range newEnvironment(t, env.WorkDir) {
				name, value, _ := strings.Cut(kv, "=")
				env.Setenv(name, value)
			}
			env.Defer(func() { stopAndSearch(t, home) })
			return os.WriteFile(filepath.Join(env.WorkDir, "huge.json"), bytes.Repeat([]byte(" "), 1<<20+1), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits,
			"json":  checkJSON,
		},
	})
}

// newEnvironment makes a person's environment under dir: a home, a runtime
// directory and a port of their own, no display.
func newEnvironment(t *testing.T, dir string) []string {
	t.Helper()
	for _, d := range []string{"home", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return []string{
		"HOME=" + filepath.Join(dir, "home"),
		"AUTHSOME_HOME=" + filepath.Join(dir, "home", ".authsome"),
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"AUTHSOME_PORT=" + strconv.Itoa(ln.Addr().(*net.TCPAddr).Port),
		"PATH=" + os.Getenv("PATH"),
		"TERM=xterm",
		"SSH_CONNECTION=far away", // a Mac has a display otherwise
		// A program built with the race detector sleeps a second before it ends.
		"GORACE=atexit_sleep_ms=10",
	}
}

// stopAndSearch ends a home's daemon and looks for secrets in all that it and
// the commands left behind. The home is found by its record, since the socket's
// directory is of another environment than the test's.
func stopAndSearch(t *testing.T, home string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := api.StopDaemon(ctx, home); err != nil {
		t.Errorf("stop the daemon: %v", err)
	}
	err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s holds a secret in plain text", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// exits runs a command that must end with this code: exits CODE COMMAND…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// checkJSON holds stdout to be exactly one document of version 1, and members
// of it to have values: json [PATH=VALUE]…, where PATH is like
// connections.0.status, and VALUE is JSON or plain text; PATH= must be absent.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("json cannot be negated")
	}
	text := ts.ReadFile("stdout")
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		ts.Fatalf("stdout is not one JSON document: %v", err)
	}
	if !strings.HasPrefix(text, "{\n  \"v\": 1") || !strings.HasSuffix(text, "}\n") {
		ts.Fatalf("the document does not begin with v, is not indented by two or has no newline")
	}
	for _, arg := range args {
		path, want, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("usage: json [PATH=VALUE]…")
		}
		got, found := lookup(doc, strings.Split(path, "."))
		data, _ := json.Marshal(got)
		switch {
		case want == "" && found:
			ts.Fatalf("%s is there: %s", path, data)
		case want == "" || string(data) == want || got == any(want):
		default:
			ts.Fatalf("%s is %s, not %s", path, data, want)
		}
	}
}

func lookup(v any, path []string) (any, bool) {
	if len(path) == 0 {
		return v, true
	}
	switch v := v.(type) {
	case map[string]any:
		if next, ok := v[path[0]]; ok {
			return lookup(next, path[1:])
		}
	case []any:
		if i, err := strconv.Atoi(path[0]); err == nil && i < len(v) {
			return lookup(v[i], path[1:])
		}
	}
	return nil, false
}
