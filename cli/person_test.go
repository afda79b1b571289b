package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// patience is how long a test waits for what must come, on a busy machine.
const patience = 30 * time.Second

const key = "sk-" + canary + "-0123456789abcdefghij"

// person is somebody with a home of their own, who types commands.
type person struct {
	t       *testing.T
	environ []string
	home    string
}

func newPerson(t *testing.T) *person {
	t.Helper()
	// Not t.TempDir, whose name is that of the test: a socket's path must stay
	// short.
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, environ: newEnvironment(t, dir), home: filepath.Join(dir, "home", ".authsome")}
	t.Cleanup(func() {
		stopAndSearch(t, p.home)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

// command makes one that is not started yet.
func (p *person) command(args ...string) *exec.Cmd {
	p.t.Helper()
	exe, err := exec.LookPath("authsome")
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = p.environ
	return cmd
}

// does runs a command to its end and gives its code and what it printed.
func (p *person) does(stdin string, args ...string) (int, string, string) {
	p.t.Helper()
	cmd := p.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	return code(p.t, cmd.Run()), stdout.String(), stderr.String()
}

// must is does for what has to work; it gives what was printed.
func (p *person) must(stdin string, args ...string) string {
	p.t.Helper()
	c, stdout, stderr := p.does(stdin, args...)
	if c != 0 {
		p.t.Fatalf("authsome %v exits with %d: %s", args, c, stderr)
	}
	return stdout
}

func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

// client speaks to the person's daemon, which runs already.
func (p *person) client() *api.Client {
	p.t.Helper()
	c := &api.Client{Home: p.home}
	p.t.Cleanup(c.Close)
	return c
}

// waiting is a command that goes on while the test does something.
type waiting struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan error

	mu     sync.Mutex
	out    bytes.Buffer
	stderr bytes.Buffer
	lines  chan string // of both streams
}

// begins starts a command.
func (p *person) begins(args ...string) *waiting {
	p.t.Helper()
	w := &waiting{t: p.t, cmd: p.command(args...), ended: make(chan error, 1), lines: make(chan string, 1000)}
	var readers sync.WaitGroup
	for _, to := range []*bytes.Buffer{&w.out, &w.stderr} {
		r, wr, err := os.Pipe()
		if err != nil {
			p.t.Fatal(err)
		}
		if to == &w.out {
			w.cmd.Stdout = wr
		} else {
			w.cmd.Stderr = wr
		}
		p.t.Cleanup(func() { _ = wr.Close() })
		readers.Go(func() {
			defer func() { _ = r.Close() }()
			br := bufio.NewReader(r)
			for {
				line, err := br.ReadString('\n')
				w.mu.Lock()
				to.WriteString(line)
				w.mu.Unlock()
				if line != "" {
					w.lines <- line
				}
				if err != nil {
					return
				}
			}
		})
	}
	if err := w.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	_ = w.cmd.Stdout.(io.Closer).Close()
	_ = w.cmd.Stderr.(io.Closer).Close()
	go func() {
		err := w.cmd.Wait()
		readers.Wait()
		w.ended <- err
	}()
	p.t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	return w
}

// says waits for a line with this in it.
func (w *waiting) says(text string) string {
	w.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case line := <-w.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("it does not say %q, but %s%s", text, w.out.String(), w.stderr.String())
		}
	}
}

// ends waits for the end and gives the code and the two streams.
func (w *waiting) ends() (int, string, string) {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return code(w.t, err), w.out.String(), w.stderr.String()
	case <-time.After(patience):
		w.t.Fatal("it does not end")
		return 0, "", ""
	}
}

// loginID takes the id of a login out of the line with its address.
func loginID(t *testing.T, line string) string {
	t.Helper()
	_, rest, ok := strings.Cut(line, "/auth/sessions/")
	id, _, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		t.Fatalf("there is no login in %q", line)
	}
	return id
}

// finish does what the page in the browser does.
func (p *person) finish(id string) {
	p.t.Helper()
	_, err := p.client().SubmitLogin(context.Background(), id, map[string]authsome.Secret{"api_key": authsome.NewSecret(key)})
	if err != nil {
		p.t.Fatal(err)
	}
}

// TestLoginWaits holds that a login waits for what happens in the browser, and
// says where to go at once.
func TestLoginWaits(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	w := p.begins("login", "openai", "--no-browser", "--json")
	id := loginID(t, w.says("Visit: http://127.0.0.1:"))
	w.says("Waiting until it is done there")
	p.finish(id)
	c, stdout, stderr := w.ends()
	if c != 0 || !strings.HasPrefix(stdout, "{\n  \"v\": 1,\n  \"status\": \"success\"") || !strings.Contains(stdout, id) {
		t.Errorf("exit code %d, stdout %s, stderr %s", c, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, canary) {
		t.Error("the key was printed")
	}
}

// TestLoginSurvives holds that neither the end of the command nor of the daemon
// is the end of a login.
func TestLoginSurvives(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	killed := p.begins("login", "openai", "--no-browser", "--connection", "killed")
	id := loginID(t, killed.says("Visit: "))
	killed.says("Waiting")
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.ends()

	restarted := p.begins("login", "openai", "--no-browser", "--connection", "restarted")
	second := loginID(t, restarted.says("Visit: "))
	restarted.says("Waiting")
	p.must("", "daemon", "restart")
	p.finish(second)
	if c, stdout, stderr := restarted.ends(); c != 0 || !strings.Contains(stdout, "Logged in to openai (restarted).") {
		t.Errorf("after the daemon's restart: exit code %d, %s%s", c, stdout, stderr)
	}

	crashed := p.begins("login", "openai", "--no-browser", "--connection", "crashed")
	third := loginID(t, crashed.says("Visit: "))
	crashed.says("Waiting")
	h, err := p.client().Health(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := os.FindProcess(h.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	p.must("", "list") // starts the next one, as the waiting command does
	p.finish(third)
	if c, stdout, stderr := crashed.ends(); c != 0 || !strings.Contains(stdout, "Logged in to openai (crashed).") {
		t.Errorf("after the daemon's crash: exit code %d, %s%s", c, stdout, stderr)
	}

	p.finish(id)
	if got := p.must("", "get", "openai", "--connection", "killed", "--field", "status"); got != "connected\n" {
		t.Errorf("the login whose command was killed: %q", got)
	}
}

// TestLoginInterrupted holds what Ctrl-C does while a login waits: it ends the
// waiting.
func TestLoginInterrupted(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	w := p.begins("login", "openai", "--no-browser")
	id := loginID(t, w.says("Visit: "))
	w.says("Waiting")
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c, _, stderr := w.ends()
	if c != 2 || !strings.Contains(stderr, "the login goes on") || !strings.Contains(stderr, "Hint: finish it at http://127.0.0.1:") {
		t.Errorf("exit code %d, %s", c, stderr)
	}
	p.finish(id)

	w = p.begins("login", "openai", "--no-browser", "--force", "--json")
	id = loginID(t, w.says("Visit: "))
	w.says("Waiting")
	if err := p.client().CancelLogin(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if c, stdout, _ := w.ends(); c != 2 || !strings.Contains(stdout, `"error": "InputCancelled"`) {
		t.Errorf("after it was cancelled on the page: exit code %d, %s", c, stdout)
	}
}

// TestLogFollows holds that `log -f` prints events as they come, and that
// Ctrl-C is how it ends.
func TestLogFollows(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.must("", "daemon", "start")
	w := p.begins("log", "-f", "--json")
	w.says(`"event":"daemon.started"`)
	p.must(key, "login", "openai", "--stdin")
	if line := w.says(`"event":"provider.login"`); !strings.HasPrefix(line, `{"v":1,"seq":`) {
		t.Errorf("a line of it is %q", line)
	}
	p.must("", "logout", "openai")
	w.says(`"event":"provider.logout"`)
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if c, _, stderr := w.ends(); c != 0 || stderr != "" {
		t.Errorf("exit code %d, %s", c, stderr)
	}
}
