package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// terminal is a command on a terminal of its own, which is its controlling
// one.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	pty    *os.File
	tty    *os.File
	before *term.State
	ended  chan error
	read   chan struct{} // closed when all that was printed has been read

	mu   sync.Mutex
	text bytes.Buffer // what is seen
	from int          // what sees has not looked at yet begins here
}

// types starts a command on a terminal.
func (p *person) types(args ...string) *terminal {
	p.t.Helper()
	return p.typesIn(&pty.Winsize{Rows: 24, Cols: 80}, args...)
}

// typesIn is types on a terminal of a size.
func (p *person) typesIn(size *pty.Winsize, args ...string) *terminal {
	p.t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := pty.Setsize(ptmx, size); err != nil {
		p.t.Fatal(err)
	}
	term0, err := term.GetState(int(tty.Fd()))
	if err != nil {
		p.t.Fatal(err)
	}
	x := &terminal{t: p.t, cmd: p.command(args...), pty: ptmx, tty: tty, before: term0, ended: make(chan error, 1), read: make(chan struct{})}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = tty, tty, tty
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	asRoot(x.cmd)
	if err := x.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(x.read)
		buf := make([]byte, 64<<10)
		for {
			n, err := ptmx.Read(buf)
			x.mu.Lock()
			x.text.Write(buf[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() { x.ended <- x.cmd.Wait() }()
	p.t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		_ = tty.Close()
		_ = ptmx.Close()
	})
	return x
}

// asRoot has the command believe that it is root, in a user namespace of its
// own, so that no sudo of this machine asks for a password.
func asRoot(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		return
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// sees waits until the terminal shows this, behind what was seen before.
func (x *terminal) sees(text string) {
	x.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		x.mu.Lock()
		all := x.text.String()
		if i := strings.Index(all[x.from:], text); i >= 0 {
			x.from += i + len(text)
			x.mu.Unlock()
			return
		}
		x.mu.Unlock()
		if time.Now().After(end) {
			x.t.Fatalf("the terminal does not show %q:\n%s", text, all)
		}
	}
}

// presses types on the terminal.
func (x *terminal) presses(keys string) {
	x.t.Helper()
	if _, err := x.pty.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// ends waits for the end, and holds the terminal to be as it was.
func (x *terminal) ends() (int, string) {
	x.t.Helper()
	select {
	case err := <-x.ended:
		if now, gerr := term.GetState(int(x.tty.Fd())); gerr != nil || !reflect.DeepEqual(now, x.before) {
			x.t.Errorf("the terminal was left in another state (%v)", gerr)
		}
		_ = x.tty.Close() // the last of them: the reader gets to the end
		<-x.read
		x.mu.Lock()
		defer x.mu.Unlock()
		return code(x.t, err), x.text.String()
	case <-time.After(patience):
		x.mu.Lock()
		defer x.mu.Unlock()
		x.t.Fatalf("it does not end:\n%s", x.text.String())
		return 0, ""
	}
}

// TestPrompt holds what a person sees where there is a terminal and no display.
func TestPrompt(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	x := p.types("login", "openai")
	x.sees("Visit: http://127.0.0.1:")
	x.sees("API key: ")
	// With a slip, a cursor key and a changed mind on the way.
	x.presses("nonsense\x15")
	x.presses("sk-" + canary + "X\x7f\x1b[D")
	x.presses("-0123456789abcdefghij\r")
	c, text := x.ends()
	if c != 0 || !strings.Contains(text, "Logged in to openai (default).") {
		t.Errorf("exit code %d\n%s", c, text)
	}
	if strings.Contains(text, canary) || !strings.Contains(text, "*****") {
		t.Errorf("the key is not masked:\n%s", text)
	}
	if got := p.must("", "export", "openai", "--format", "dotenv"); !strings.HasPrefix(got, "OPENAI_API_KEY="+key+"\n") {
		t.Errorf("the key that was typed arrived as %q", got)
	}
}

// TestPromptAsksAgain holds that a key that does not look right is asked for
// again, with the hint, three times in all.
func TestPromptAsksAgain(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	x := p.types("login", "openai")
	x.sees("API key: ")
	x.presses("wrong-" + canary + "\r")
	x.sees("does not look right")
	x.sees("Hint: ")
	x.sees("API key: ")
	x.presses("\r")
	x.sees("is empty")
	x.sees("API key: ")
	x.presses(key + "\r")
	if c, text := x.ends(); c != 0 || strings.Contains(text, canary) {
		t.Errorf("exit code %d\n%s", c, text)
	}

	x = p.types("login", "openai", "--connection", "second")
	for range 3 {
		x.sees("API key: ")
		x.presses("wrong-" + canary + "\r")
		x.sees("does not look right")
	}
	if c, text := x.ends(); c != 1 || strings.Contains(text, canary) {
		t.Errorf("after three wrong ones: exit code %d\n%s", c, text)
	}
	if c, _, _ := p.does("", "get", "openai", "--connection", "second"); c != 3 {
		t.Errorf("a connection was made of wrong keys: %d", c)
	}
}

func TestPromptCancelled(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	for name, keys := range map[string]string{"Ctrl-C": "sk-" + canary + "\x03", "Ctrl-D": "\x04"} {
		x := p.types("login", "openai")
		x.sees("API key: ")
		x.presses(keys)
		if c, text := x.ends(); c != 2 || !strings.Contains(text, "log in to openai: cancelled") {
			t.Errorf("%s: exit code %d\n%s", name, c, text)
		}
	}
	// Asked to end by somebody else, it still gives the terminal back.
	x := p.types("login", "openai")
	x.sees("API key: ")
	if err := x.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if c, text := x.ends(); c != 2 {
		t.Errorf("SIGTERM: exit code %d\n%s", c, text)
	}
}

// TestPromptPaste holds that a key of any length arrives whole, though a
// terminal's own lines end at 4095 bytes, and that one of several lines is
// refused rather than cut, with nothing left over for the shell.
func TestPromptPaste(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	const sid = "AC0123456789abcdef0123456789abcdef"
	long := canary + strings.Repeat("x", 6000)
	x := p.types("login", "twilio")
	x.sees("Account SID: ")
	x.presses(sid + "\r")
	x.sees("Auth token: ")
	for rest := long; rest != ""; { // as a terminal passes it on, by and by
		n := min(1000, len(rest))
		x.presses(rest[:n])
		rest = rest[n:]
	}
	x.presses("\r")
	c, text := x.ends()
	if c != 0 || strings.Contains(text, canary) {
		t.Errorf("exit code %d\n%s", c, text)
	}
	if !strings.Contains(text, "Account SID: "+sid) {
		t.Errorf("what is no secret is not shown:\n%s", text)
	}
	if got := p.must("", "export", "twilio", "--format", "dotenv"); !strings.Contains(got, "="+long+"\n") {
		t.Errorf("%d bytes arrived of %d", len(got), len(long))
	}

	x = p.types("login", "openai")
	x.sees("API key: ")
	x.presses(key + "\rrm -rf " + canary + "\r")
	x.sees("more than one line")
	x.sees("API key: ")
	x.presses("\x03")
	if c, text := x.ends(); c != 2 || strings.Contains(text, canary) {
		t.Errorf("exit code %d\n%s", c, text)
	}
	if c, _, _ := p.does("", "get", "openai"); c != 3 {
		t.Errorf("half of what was pasted became a key: %d", c)
	}
}

// TestPromptTakenBack holds that a login can be finished in a browser while the
// terminal asks.
func TestPromptTakenBack(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	x := p.types("login", "openai")
	x.sees("API key: ")
	x.mu.Lock()
	id := loginID(t, x.text.String())
	x.mu.Unlock()
	p.finish(id)
	if c, text := x.ends(); c != 0 || !strings.Contains(text, "Logged in to openai (default).") {
		t.Errorf("exit code %d\n%s", c, text)
	}
}

// TestStdinTerminal holds that --stdin does not read from a terminal, which
// would show the key.
func TestStdinTerminal(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	x := p.types("login", "openai", "--stdin")
	if c, text := x.ends(); c != 64 || !strings.Contains(text, "this is a terminal, which would show it") {
		t.Errorf("exit code %d\n%s", c, text)
	}
}

// TestShowSecret holds that a secret is shown to a person who confirms it, and
// to nobody else.
func TestShowSecret(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.must(key, "login", "openai", "--stdin")

	x := p.types("get", "openai", "--field", "api_key", "--show-secret")
	x.sees("Do you want to show the secret of openai (default)? Type yes: ")
	x.presses("yes\n")
	if c, text := x.ends(); c != 0 || !strings.Contains(text, "\n"+key+"\r\n") {
		t.Errorf("after yes: exit code %d\n%s", c, text)
	}

	for _, answer := range []string{"no\n", "\n", "y\n", "\x04"} {
		x := p.types("get", "openai", "--show-secret")
		x.sees("Type yes: ")
		x.presses(answer)
		if c, text := x.ends(); c != 2 || strings.Contains(text, canary) || !strings.Contains(text, "it was not confirmed") {
			t.Errorf("after %q: exit code %d\n%s", answer, c, text)
		}
	}

	// A program without a terminal, such as an agent's tool, whatever it is fed.
	cmd := p.command("get", "openai", "--show-secret")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("yes\nyes\n"), &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	asRoot(cmd)
	if c := code(t, cmd.Run()); c != 2 || strings.Contains(out.String(), canary) || !strings.Contains(out.String(), "nobody to confirm it") {
		t.Errorf("without a terminal: exit code %d\n%s", c, out.String())
	}
	// It is in the audit.
	if text := p.must("", "log"); strings.Count(text, "credential.revealed") != 1 {
		t.Errorf("the audit of one reveal:\n%s", text)
	}
}

func TestColour(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	const red = "\x1b[31mError:\x1b[0m"
	x := p.types("get", "nobody")
	if c, text := x.ends(); c != 4 || !strings.Contains(text, red) {
		t.Errorf("on a terminal: exit code %d, %q", c, text)
	}
	x = p.types("get", "nobody", "--no-color")
	if _, text := x.ends(); strings.Contains(text, "\x1b") || !strings.Contains(text, "Error: ") {
		t.Errorf("--no-color: %q", text)
	}
	p.environ = append(p.environ, "NO_COLOR=1")
	x = p.types("get", "nobody")
	if _, text := x.ends(); strings.Contains(text, "\x1b") {
		t.Errorf("NO_COLOR: %q", text)
	}
}

// TestLoginOpensBrowser holds that where there is a display the browser opens,
// and that the terminal asks when it does not.
func TestLoginOpensBrowser(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	bin := t.TempDir()
	opened := filepath.Join(bin, "opened")
	script := "#!/bin/sh\necho \"$1\" > " + opened + ".new && mv " + opened + ".new " + opened + "\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	p.environ = append(p.environ, "DISPLAY=:0", "PATH="+bin+":"+os.Getenv("PATH"))
	x := p.types("login", "openai")
	x.sees("It opens in your browser.")
	x.sees("Waiting until it is done there")
	var url []byte
	for end := time.Now().Add(patience); url == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		url, _ = os.ReadFile(opened)
	}
	p.finish(loginID(t, string(url)))
	if c, text := x.ends(); c != 0 || !strings.Contains(text, "Visit: "+strings.TrimSpace(string(url))) {
		t.Errorf("exit code %d, %s opened\n%s", c, url, text)
	}

	if err := os.Remove(opened); err != nil {
		t.Fatal(err)
	}
	x = p.types("login", "openai", "--force", "--no-browser")
	x.sees("API key: ")
	x.presses("\x03")
	if c, _ := x.ends(); c != 2 {
		t.Errorf("exit code %d", c)
	}
	if _, err := os.Stat(opened); err == nil {
		t.Error("--no-browser opened one")
	}

	p.environ = append(p.environ, "PATH="+t.TempDir())
	x = p.types("login", "openai", "--force")
	x.sees("No browser could be opened")
	x.sees("API key: ")
	x.presses("\x03")
	x.ends()
}
