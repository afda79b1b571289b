//go:build linux

package daemon

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// A run's descendants, however far away, may use what the run was given and
// nothing more; the run itself and a person's command are no descendants.
func TestWhoAsks(t *testing.T) {
	home, port := newHome(t)
	c := connect(t, options(home, "v1", port))
	login(t, c, "openai", "", openaiKey)
	inside := "list ok\nexport OperationNotAllowed\nreveal OperationNotAllowed\nself ok\ngrant OperationNotAllowed\nstop OperationNotAllowed\n"
	outside := "list ok\nexport ok\nreveal ok\nself InvalidInput\ngrant ok\n"
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"a person's command":  {[]string{"ask", home}, outside},
		"child":               {[]string{"run", home, "ask", home, "stop"}, inside},
		"grandchild":          {[]string{"run", home, "shell", "ask", home, "stop"}, inside},
		"great-grandchild":    {[]string{"run", home, "shell", "shell", "ask", home, "stop"}, inside},
		"beside another run":  {[]string{"shell", "ask", home}, outside},
		"child of no run yet": {[]string{"shell", "shell", "ask", home}, outside},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := program(t, tt.args...).CombinedOutput()
			if err != nil || string(out) != tt.want {
				t.Errorf("%v\n%s\nwant\n%s", err, out, tt.want)
			}
		})
	}
	denied := 0
	ev, err := c.Events(context.Background(), api.EventsQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ev.Entries {
		if e.Type == authsome.EventDenied && strings.HasPrefix(e.Run, "run_") && e.PID != 0 && e.Program != "" {
			denied++
		}
	}
	if denied < 6 {
		t.Errorf("%d refusals were recorded with run, process and program", denied)
	}
}

// Between the death of one daemon and the return of the run to the next, the
// run's descendants are still its descendants.
func TestDescendantsOfARunThatHasNotComeBack(t *testing.T) {
	home, port := newHome(t)
	c := connect(t, options(home, "v1", port))
	login(t, c, "openai", "", openaiKey)
	// A run whose child outlives the daemon, and which does not come back.
	cmd := program(t, "run", home, "wait-and-ask", home)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(filepath.Dir(home), "go")
	cmd.Env = append(os.Environ(), "GO_FILE="+fifo)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "waiting" {
		t.Fatalf("the child says %q", lines.Text())
	}
	if _, err := api.StopDaemon(context.Background(), home); err != nil {
		t.Fatal(err)
	}
	connect(t, options(home, "v1", port))
	if err := os.WriteFile(fifo, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	want := []string{"list ok", "export OperationNotAllowed", "reveal OperationNotAllowed", "self DaemonUnavailable", "grant OperationNotAllowed", "stop OperationNotAllowed"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func init() {
	// wait-and-ask HOME: ask once the file GO_FILE is there.
	programs["wait-and-ask"] = func(args []string) error {
		os.Stdout.WriteString("waiting\n")
		for {
			if _, err := os.Stat(os.Getenv("GO_FILE")); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		return programs["ask"]([]string{args[0], "stop"})
	}
}

func TestRunsOf(t *testing.T) {
	r := &runs{byGrant: map[string]*run{}, byPID: map[int]*run{}, sleeping: map[int]authsome.Grant{}}
	self, parent := os.Getpid(), os.Getppid()
	if got := r.of(self); got != "" {
		t.Errorf("without runs: %q", got)
	}
	r.byPID[parent] = &run{grant: &authsome.Grant{ID: "run_parent"}, pid: parent}
	if got := r.of(self); got != "run_parent" {
		t.Errorf("child: %q", got)
	}
	if got := r.of(parent); got != "" {
		t.Errorf("the run itself: %q", got)
	}
	// A process that is gone by the time it is looked for gains nothing.
	cmd := program(t, "ask")
	_ = cmd.Run()
	if got := r.of(cmd.Process.Pid); got != unknownRun {
		t.Errorf("a process that is gone: %q", got)
	}
	if got := r.of(0); got != unknownRun {
		t.Errorf("a process that cannot be told: %q", got)
	}
	if got := r.of(1); got != "" {
		t.Errorf("process 1: %q", got)
	}
	// A number that came round again is another process.
	r = &runs{byGrant: map[string]*run{}, byPID: map[int]*run{}, sleeping: map[int]authsome.Grant{}}
	old := authsome.Grant{ID: "run_old", CreatedAt: time.Now().Add(-100 * 365 * 24 * time.Hour)}
	old.Identity.PID = parent
	r.sleep([]authsome.Grant{old})
	if got := r.of(self); got != "" {
		t.Errorf("a process younger than the run: %q", got)
	}
	old.CreatedAt = time.Now()
	r.sleep([]authsome.Grant{old})
	if got := r.of(self); got != "run_old" {
		t.Errorf("a run that has not come back: %q", got)
	}
	r.forget(func(string) bool { return false })
	if got := r.of(self); got != "" {
		t.Errorf("after it was given up: %q", got)
	}
}

func TestProcesses(t *testing.T) {
	if p, err := parentOf(os.Getpid()); err != nil || p != os.Getppid() {
		t.Errorf("parent %d, %v; want %d", p, err, os.Getppid())
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got := programOf(os.Getpid()); got != filepath.Base(exe) {
		t.Errorf("program %q", got)
	}
	if began, err := startOf(os.Getpid()); err != nil || time.Since(began) < -startSlack || time.Since(began) > time.Hour {
		t.Errorf("began %v, %v", began, err)
	}
	if _, err := parentOf(1 << 30); err == nil {
		t.Error("a process that is not there has a parent")
	}
}

// A run's descendant that kills the daemon gains no daemon of its own making.
func TestRunMakesNoDaemonToItsTaste(t *testing.T) {
	home, port := newHome(t)
	h := health(t, connect(t, options(home, "v1", port)))
	for name, tt := range map[string]struct {
		env  string
		want string
	}{
		"proxy":       {"HTTPS_PROXY=http://127.0.0.1:1", "may not give it HTTPS_PROXY"},
		"lower case":  {"https_proxy=http://127.0.0.1:1", "may not give it https_proxy"},
		"roots":       {"SSL_CERT_FILE=/tmp/evil.pem", "may not give it SSL_CERT_FILE"},
		"roots' path": {"SSL_CERT_DIR=/tmp/evil", "may not give it SSL_CERT_DIR"},
	} {
		cmd := program(t, "run", home, "kill-and-serve", fmt.Sprint(h.PID), fmt.Sprint(port))
		cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
			name, _, _ := strings.Cut(kv, "=")
			return slices.Contains(steering, name)
		})
		cmd.Env = append(cmd.Env, "AUTHSOME_HOME="+home, tt.env)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		h = health(t, connect(t, options(home, "v1", port)))
	}
}

func init() {
	// kill-and-serve PID PORT: take a daemon's place.
	programs["kill-and-serve"] = func(args []string) error {
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		for syscall.Kill(pid, 0) == nil { // its parent waits for it
			time.Sleep(time.Millisecond)
		}
		return programs["serve"]([]string{"v1", args[1]})
	}
}
