// Package harness puts a built authsome into a fresh home in front of the fake
// internet, as a person would set it up: an explicit `authsome daemon serve`
// with HTTPS_PROXY and SSL_CERT_FILE, a login, and commands under `authsome
// run`. Nothing of the machine's own environment is used but PATH.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/authsome/authsome/test/internet"
)

// World is one home with its daemon and its internet.
type World struct {
	Binary   string
	Dir      string // everything of this world lies below it
	Internet *internet.Internet

	port        int
	mu          sync.Mutex
	daemon      *exec.Cmd
	daemonEnded chan struct{} // closed when it has
	output      bytes.Buffer  // everything that commands and daemons printed
	seen        sync.Mutex
}

// Start makes a world. The daemon is ready when it returns.
func Start(binary string, cred internet.Credentials) (*World, error) {
	// Sockets have short paths, so this one cannot lie in a test's directory.
	dir, err := os.MkdirTemp("", "authsome-world-")
	if err != nil {
		return nil, err
	}
	w := &World{Binary: binary, Dir: dir}
	for _, d := range []string{w.Home(), w.runtime(), w.Work(), filepath.Join(dir, "internet")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	if w.Internet, err = internet.Start(filepath.Join(dir, "internet"), cred); err != nil {
		w.Close()
		return nil, err
	}
	if err := os.WriteFile(w.Root(), w.Internet.RootPEM(), 0o600); err != nil {
		w.Close()
		return nil, err
	}
	// A free port, so that the real 7998 of this machine is left alone.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Close()
		return nil, err
	}
	w.port = ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close()
	w.Internet.AllowRedirect(w.Redirect())
	if err := w.Serve(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Home is the person's home directory; AuthsomeHome is in it.
func (w *World) Home() string { return filepath.Join(w.Dir, "home") }

// AuthsomeHome is the AUTHSOME_HOME.
func (w *World) AuthsomeHome() string { return filepath.Join(w.Home(), ".authsome") }

// Work is an empty directory to work in.
func (w *World) Work() string { return filepath.Join(w.Dir, "work") }

func (w *World) runtime() string { return filepath.Join(w.Dir, "run") }

// Root is the file with the fake internet's root.
func (w *World) Root() string { return filepath.Join(w.Dir, "root.pem") }

// Port is the browser's.
func (w *World) Port() int { return w.port }

// Redirect is the redirect URI of this home's logins, which every app that the
// fake internet knows from the start has registered.
func (w *World) Redirect() string {
	return fmt.Sprintf("http://127.0.0.1:%d/auth/callback/oauth", w.port)
}

// Environ is a person's environment. The fake internet's root is in it as a
// company's would be, since hosts that nobody routes are not intercepted and
// show their own certificates.
func (w *World) Environ(extra ...string) []string {
	return append([]string{
		"HOME=" + w.Home(), "XDG_RUNTIME_DIR=" + w.runtime(), "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TERM=xterm-256color",
		fmt.Sprintf("AUTHSOME_PORT=%d", w.port), "AUTHSOME_KEYRING=off", "SSL_CERT_FILE=" + w.Root(),
		"GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}, extra...)
}

// Serve starts a daemon in front of the fake internet and waits until it is
// ready.
func (w *World) Serve() error {
	cmd := exec.Command(w.Binary, "daemon", "serve")
	cmd.Env = w.Environ("HTTPS_PROXY=" + w.Internet.Proxy())
	cmd.Dir = w.Work()
	cmd.Stdout, cmd.Stderr = recorder{w}, recorder{w}
	cmd.WaitDelay = time.Second // for what its children still print
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var cause error
	w.mu.Lock()
	w.daemon, w.daemonEnded = cmd, ended
	w.mu.Unlock()
	go func() {
		cause = cmd.Wait()
		close(ended)
	}()
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case <-ended:
			return fmt.Errorf("the daemon ended: %w\n%s", cause, w.Output())
		default:
		}
		probe := exec.Command(w.Binary, "daemon", "status", "--json")
		probe.Env = w.Environ()
		if out, err := probe.Output(); err == nil && bytes.Contains(out, []byte(`"status": "ready"`)) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the daemon was not ready in time\n" + w.Output())
}

// DaemonPID is the process id of the daemon that Serve started last.
func (w *World) DaemonPID() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.daemon.Process.Pid
}

// KillDaemon kills the daemon as a crash would, and waits until nothing of it is left:
// a thread that goes on for a moment holds its lock.
func (w *World) KillDaemon() {
	w.mu.Lock()
	daemon, ended := w.daemon, w.daemonEnded
	w.mu.Unlock()
	if daemon != nil {
		_ = daemon.Process.Kill()
		<-ended
	}
}

// DumpDaemon has the daemon print where each of its goroutines is, and die of
// it: for a test that hangs.
func (w *World) DumpDaemon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.daemon.Process.Signal(syscall.SIGQUIT)
	time.Sleep(time.Second)
}

// Close ends everything and deletes it.
func (w *World) Close() {
	stop := exec.Command(w.Binary, "daemon", "stop")
	stop.Env = w.Environ()
	_ = stop.Run()
	w.KillDaemon()
	// Codex leaves a background server of its own, and a run that was stopped
	// in the middle may have left a daemon.
	for _, p := range w.Processes() {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
	if w.Internet != nil {
		w.Internet.Close()
	}
	_ = os.RemoveAll(w.Dir)
}

// Processes are those that have this world's home, as /proc tells; where there
// is none, none are found.
func (w *World) Processes() []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00HOME="+w.Home()+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Output is all that commands and daemons of this world have printed.
func (w *World) Output() string {
	w.seen.Lock()
	defer w.seen.Unlock()
	return w.output.String()
}

type recorder struct{ w *World }

func (r recorder) Write(b []byte) (int, error) {
	r.w.seen.Lock()
	defer r.w.seen.Unlock()
	return r.w.output.Write(b)
}

// Command is one invocation of authsome.
type Command struct {
	w       *World
	args    []string
	input   string
	env     []string
	timeout time.Duration
}

// Command prepares `authsome args…`.
func (w *World) Command(args ...string) *Command {
	return &Command{w: w, args: args, timeout: 2 * time.Minute}
}

// Input sets what the command reads.
func (c *Command) Input(text string) *Command { c.input = text; return c }

// Env adds variables.
func (c *Command) Env(kv ...string) *Command { c.env = append(c.env, kv...); return c }

// Cmd is the command for whoever wants to start it.
func (c *Command) Cmd() *exec.Cmd {
	cmd := exec.Command(c.w.Binary, c.args...)
	cmd.Env, cmd.Dir = c.w.Environ(c.env...), c.w.Work()
	cmd.Stdin = strings.NewReader(c.input)
	return cmd
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs the command to its end.
func (c *Command) Run() Result {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.w.Binary, c.args...)
	cmd.Env, cmd.Dir = c.w.Environ(c.env...), c.w.Work()
	cmd.Stdin = strings.NewReader(c.input)
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout = io.MultiWriter(&stdout, recorder{c.w})
	cmd.Stderr = io.MultiWriter(&stderr, recorder{c.w})
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if err != nil && ctx.Err() != nil {
		r.Stderr += fmt.Sprintf("\n(killed after %s)", c.timeout)
	}
	return r
}

// Output runs the command and returns what it printed; a code other than 0 is
// an error.
func (c *Command) Output() (string, error) {
	r := c.Run()
	if r.Code != 0 {
		return r.Stdout + r.Stderr, fmt.Errorf("authsome %s: exit code %d", strings.Join(c.args, " "), r.Code)
	}
	return r.Stdout, nil
}
