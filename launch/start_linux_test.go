package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// runner is a process that launches argv, in a session of its own: without a
// terminal.
func runner(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, argv...)
	cmd.Env = append(os.Environ(), "LAUNCH_TEST_RUN=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func exitCode(err error) int {
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	default:
		return -2
	}
}

// shell is a runner of a script, whose output can be waited for.
func shell(t *testing.T, script string, args ...string) (*exec.Cmd, *output) {
	t.Helper()
	cmd := runner(t, append([]string{"sh", "-c", script, "sh"}, args...)...)
	out := &output{t: t}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// output collects what is written, and waits for something to appear.
type output struct {
	t  *testing.T
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// wait returns the first match that is there, or comes.
func (o *output) wait(expr string) []string {
	o.t.Helper()
	re := regexp.MustCompile(expr)
	deadline := time.Now().Add(20 * time.Second)
	for {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%q does not come; there is\n%s", expr, o)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive reports whether a process runs: a zombie does not.
func alive(pid int) bool {
	state, err := processState(pid)
	return err == nil && state != 'Z' && state != 'X'
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never happens: " + what)
		}
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := put("plain", "exit 5\n", 0o644)
	tests := []struct {
		name string
		argv []string
		code int
		says string
	}{
		{"success", []string{"true"}, 0, ""},
		{"failure", []string{"sh", "-c", "exit 3"}, 3, ""},
		{"highest", []string{"sh", "-c", "exit 255"}, 255, ""},
		{"SIGTERM", []string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{"SIGKILL", []string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{"SIGINT", []string{"sh", "-c", "kill -INT $$"}, 130, ""},
		{"SIGHUP", []string{"sh", "-c", "kill -HUP $$"}, 129, ""},
		{"SIGSEGV", []string{"sh", "-c", "kill -SEGV $$"}, 139, ""},
		{"no such command", []string{"no-such-command-anywhere"}, 127, `CommandNotFound start "no-such-command-anywhere": there is no such command`},
		{"no such file", []string{dir + "/none"}, 127, "there is no such command"},
		{"no such directory", []string{dir + "/none/x"}, 127, "there is no such command"},
		{"empty", []string{""}, 127, "there is no such command"},
		{"directory", []string{dir}, 126, "CommandNotExecutable"},
		{"not executable", []string{plain}, 126, "is not executable"},
		{"below a file", []string{plain + "/x"}, 126, "not a directory"},
		{"shebang", []string{put("script", "#!/bin/sh\nexit 4\n", 0o755)}, 4, ""},
		{"missing interpreter", []string{put("lost", "#!/no/such/shell\n", 0o755)}, 127, "interpreter"},
		{"text without a shebang", []string{put("text", "test \"$1 $2\" = 'a b  c' && exit 6\n", 0o755), "a", "b  c"}, 6, ""},
		{"no program", []string{put("binary", "\x7fNOT\x00\x01\x02", 0o755)}, 126, "exec format error"},
		{"arguments without end", []string{"true", strings.Repeat("x", 1<<18)}, 126, "larger than this system takes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var cmd *exec.Cmd
			var out bytes.Buffer
			if tt.name == "arguments without end" {
				// They do not reach the runner either: it is run here.
				_, err := Run(Command{Path: "/bin/true", Argv: tt.argv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
				if authsome.CodeOf(err) != authsome.NotExecutable || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v", err)
				}
				return
			}
			cmd = runner(t, tt.argv...)
			cmd.Stderr = &out
			err := cmd.Run()
			if exitCode(err) != tt.code || !strings.Contains(out.String(), tt.says) || tt.says == "" && out.Len() > 0 {
				t.Errorf("exit code %d, want %d; it says %q", exitCode(err), tt.code, out.String())
			}
		})
	}
}

// A file of the right name that cannot be executed is not "not found".
func TestFindInPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "only-here"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/nowhere:"+dir+":"+os.Getenv("PATH"))
	if _, err := Find("only-here"); authsome.CodeOf(err) != authsome.NotExecutable || authsome.HintOf(err) != "chmod +x "+dir+"/only-here" {
		t.Errorf("got %v (%s)", err, authsome.HintOf(err))
	}
	if path, err := Find("sh"); err != nil || !filepath.IsAbs(path) {
		t.Errorf("sh is %q, %v", path, err)
	}
	t.Chdir(dir)
	if err := os.WriteFile("here", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", ".")
	if path, err := Find("here"); err != nil || path == "" {
		t.Errorf("a relative entry of PATH: %q, %v", path, err)
	}
}

// The child gets what the runner got: input, output, arguments, environment and
// further descriptors, byte for byte.
func TestChildIsUntouched(t *testing.T) {
	cmd := runner(t, "sh", "-c", `cat; printf '%s|' "$@" >&2; printf %s "$ODD" >&3`, "sh", "a b", "", "ä\n*")
	cmd.Env = append(cmd.Env, "ODD=x\ny=z ")
	data := bytes.Repeat([]byte("\x00\xff\r\n"), 1<<18)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = bytes.NewReader(data), &stdout, &stderr, []*os.File{w}
	err = cmd.Run()
	_ = w.Close()
	third, _ := io.ReadAll(r)
	if err != nil || !bytes.Equal(stdout.Bytes(), data) || stderr.String() != "a b||ä\n*|" || string(third) != "x\ny=z " {
		t.Errorf("%v; %d bytes out, %q, %q", err, stdout.Len(), stderr.String(), third)
	}
}

// Without a terminal every signal for the runner is for the child.
func TestSignalsArePassedOn(t *testing.T) {
	for _, sig := range []syscall.Signal{
		syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGCONT,
	} {
		name := strings.TrimPrefix(unix.SignalName(sig), "SIG")
		t.Run(name, func(t *testing.T) {
			cmd, out := shell(t, `trap 'echo got; exit 7' `+name+`; echo ready; while :; do sleep 0.01; done`)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			out.wait("ready")
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if code := exitCode(cmd.Wait()); code != 7 || !strings.Contains(out.String(), "got") {
				t.Errorf("exit code %d, output %q", code, out)
			}
		})
	}
}

// A child that ends by the signal ends the run with 128+n, and one that ignores
// it keeps the run alive.
func TestSignalsHaveTheirEffect(t *testing.T) {
	cmd, out := shell(t, "echo ready; exec sleep 100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.wait("ready")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if code := exitCode(cmd.Wait()); code != 143 {
		t.Errorf("exit code %d", code)
	}
	cmd, out = shell(t, `trap '' TERM; echo ready; read line; echo "heard $line"`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.wait("ready")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(3 * settle)
	_, _ = io.WriteString(in, "me\n")
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "heard me") {
		t.Errorf("%v, %q", err, out)
	}
}

// Stopping and continuing by hand, as a supervisor does.
func TestStopAndContinueWithoutATerminal(t *testing.T) {
	cmd, out := shell(t, `echo "pid $$"; read line; exit 9`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := number(t, out.wait(`pid (\d+)`)[1])
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	eventually(t, "the child stops", func() bool { s, _ := processState(pid); return s == 'T' })
	time.Sleep(3 * settle)
	if s, err := processState(cmd.Process.Pid); err != nil || s == 'T' {
		t.Errorf("the runner is %c (%v), and nobody would wake it", s, err)
	}
	_ = cmd.Process.Signal(syscall.SIGCONT) // for the runner, passed on
	eventually(t, "the child goes on", func() bool { s, _ := processState(pid); return s != 'T' })
	_, _ = io.WriteString(in, "\n")
	if code := exitCode(cmd.Wait()); code != 9 {
		t.Errorf("exit code %d", code)
	}
}

// What nohup has switched off stays off.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `trap '' HUP INT; exec "$0" sh -c 'kill -HUP $$; kill -INT $$; echo alive; exit 8'`, exe)
	cmd.Env = append(os.Environ(), "LAUNCH_TEST_RUN=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if exitCode(err) != 8 || string(out) != "alive\n" {
		t.Errorf("%v, %q", err, out)
	}
}

// A runner that is killed takes the child along.
func TestKilledRunnerTakesTheChildAlong(t *testing.T) {
	cmd, out := shell(t, `echo "pid $$"; exec sleep 1000`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := number(t, out.wait(`pid (\d+)`)[1])
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is gone", func() bool { return !alive(pid) })
	_ = cmd.Wait()
}

// Whoever loses its parent below the runner becomes its child, and is taken off
// the list when it ends, without a word about the real child's end.
func TestOrphansAreAdopted(t *testing.T) {
	cmd, out := shell(t, `
		sh -c 'sh -c "until grep -q \"PPid:.$1\$\" /proc/\$\$/status; do sleep 0.01; done; echo adopted \$\$" &'
		read line
		sh -c 'sh -c "exit 42" &'
		read line
		exit 5`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The script must know the runner's number: it is its own parent's.
	cmd.Args[3] = `set -- "$PPID"; ` + strings.ReplaceAll(cmd.Args[3], `$1\$`, `'"$1"'\$`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	orphan := number(t, out.wait(`adopted (\d+)`)[1])
	eventually(t, "the orphan is reaped", func() bool { _, err := processState(orphan); return errors.Is(err, os.ErrNotExist) })
	_, _ = io.WriteString(in, "\n")
	eventually(t, "no zombie is left", func() bool { return !slices.Contains(childStates(t, cmd.Process.Pid), 'Z') })
	_, _ = io.WriteString(in, "\n")
	if code := exitCode(cmd.Wait()); code != 5 {
		t.Errorf("exit code %d; %s", code, out)
	}
}

// childStates are the states of a process's children.
func childStates(t *testing.T, pid int) []byte {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	var states []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(data, fmt.Appendf(nil, "\nPPid:\t%d\n", pid)) {
			continue
		}
		if m := regexp.MustCompile(`\nState:\t(.)`).FindSubmatch(data); m != nil {
			states = append(states, m[1]...)
		}
	}
	return states
}

// The run is over with the child; what it leaves behind is left alone.
func TestDescendantsAreLeftAlone(t *testing.T) {
	cmd := runner(t, "sh", "-c", `sleep 1000 >/dev/null 2>&1 & echo $!`)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid := number(t, strings.TrimSpace(string(out)))
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	time.Sleep(3 * settle)
	if !alive(pid) {
		t.Error("it was ended")
	}
}

// terminalOf starts a command as the leader of a new terminal.
func terminalOf(t *testing.T, cmd *exec.Cmd) (*os.File, *output) {
	t.Helper()
	cmd.SysProcAttr = nil // pty sets its own
	out := &output{t: t}
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 117})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(); _ = cmd.Process.Kill() })
	go func() { _, _ = io.Copy(out, f) }()
	return f, out
}

func TestTerminalIsUntouched(t *testing.T) {
	cmd := runner(t, "sh", "-c", `test -t 0 && test -t 1 && test -t 2 && stty size; stty -echo; echo "mode $(stty -a | grep -c -- -echo\ )"`)
	_, out := terminalOf(t, cmd)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	out.wait("31 117")
	out.wait("mode 1")
}

// Ctrl-C reaches the child once: from the terminal, not from the runner as well.
func TestInterruptFromTheTerminal(t *testing.T) {
	cmd := runner(t, "sh", "-c", `n=0; trap 'n=$((n+1)); echo "caught $n"' INT; echo ready
		while test $n -lt 2; do sleep 0.01; done; sleep 0.3; exit $((10+n))`)
	f, out := terminalOf(t, cmd)
	out.wait("ready")
	_, _ = f.WriteString("\x03")
	out.wait("caught 1")
	time.Sleep(5 * settle)
	if strings.Contains(out.String(), "caught 2") {
		t.Error("one Ctrl-C came twice")
	}
	_, _ = f.WriteString("\x03")
	if code := exitCode(cmd.Wait()); code != 12 {
		t.Errorf("exit code %d; %s", code, out)
	}
}

func TestInterruptEndsAChildThatLetsIt(t *testing.T) {
	cmd := runner(t, "sh", "-c", "echo ready; exec sleep 1000")
	f, out := terminalOf(t, cmd)
	out.wait("ready")
	_, _ = f.WriteString("\x03")
	if code := exitCode(cmd.Wait()); code != 130 {
		t.Errorf("exit code %d", code)
	}
}

// A shell sees the run stop by Ctrl-Z, and go on by fg and bg; the same where
// the child stops itself alone, as some programs do.
func TestJobControl(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash here")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bash, "--norc", "--noprofile", "-i")
	cmd.Env = append(os.Environ(), "PS1=$ ", "EXE="+exe, "HISTFILE=")
	f, out := terminalOf(t, cmd)
	say := func(line string) { _, _ = f.WriteString(line) }

	say("LAUNCH_TEST_RUN=1 $EXE sh -c 'echo begi\"\"n; read line; echo \"heard $line\"; exit 6'\n")
	out.wait("begin")
	say("\x1a")
	out.wait(`\[1\]\+ +Stopped`)
	say("fg\n")
	time.Sleep(5 * settle)
	say("again\n")
	out.wait("heard again")
	say("echo \"code=$?\"\n")
	out.wait("code=6")

	say("LAUNCH_TEST_RUN=1 $EXE sh -c 'kill -STOP $$; echo \"we\"nt on; exit 4'\n")
	out.wait(`(?s)Stopped.*\[1\]\+ +Stopped`)
	say("bg\n")
	out.wait("went on")
	say("wait; echo \"end=$?\"\n")
	out.wait(`end=\d`)
	if strings.Count(out.String(), "Stopped") != 2 {
		t.Errorf("it stopped more than twice:\n%s", out)
	}
	say("exit\n")
	_ = cmd.Wait()
}

// A preset that is a FIFO holds nobody up.
func TestBundlePresetIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r := GatherRoots([]string{"SSL_CERT_FILE=" + path, "WGETRC=" + path}, "linux")
	if len(r.Warnings) != 2 || !strings.Contains(r.Warnings[0], "no regular file") {
		t.Errorf("warnings: %q", r.Warnings)
	}
}
