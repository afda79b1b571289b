package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// daemonPID is the number of the person's daemon.
func (p *person) daemonPID() int {
	p.t.Helper()
	rec, err := api.ReadRecord(p.home)
	if err != nil {
		p.t.Fatal(err)
	}
	return rec.PID
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never happens: " + what)
		}
	}
}

// events are the audit's, of one kind.
func (p *person) events(kind authsome.EventType) []authsome.Event {
	p.t.Helper()
	var doc struct{ Entries []authsome.Event }
	if err := json.Unmarshal([]byte(p.must("", "log", "--json", "-n", "500")), &doc); err != nil {
		p.t.Fatal(err)
	}
	var out []authsome.Event
	for _, e := range doc.Entries {
		if e.Type == kind {
			out = append(out, e)
		}
	}
	return out
}

// mark is a file by which a test tells a child to go on.
func mark(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The daemon is killed under a child at work, more than once; each time the run
// starts another, and the child's way out is the same port and the same token
// as before. A run inside the run checks it: through the proxy, with the
// child's own certificates.
func TestRunOutlivesTheDaemon(t *testing.T) {
	p := newPerson(t)
	p.must(key, "login", "openai", "--stdin")
	flag := filepath.Join(t.TempDir(), "go")
	w := p.begins("run", "--", "sh", "-c", `
		was=$HTTPS_PROXY
		for i in 1 2; do
			echo "ready $i"
			until test -e "$0.$i"; do sleep 0.02; done
			authsome run -- sh -c 'echo "works $0 $HTTPS_PROXY"' "$i" | sed "s|$was|the same|"
		done
		exit 6`, flag)
	for _, i := range []string{"1", "2"} {
		w.says("ready " + i)
		old := p.daemonPID()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// The next command may find the new daemon, but does not have to start it.
		eventually(t, "another daemon", func() bool {
			rec, err := api.ReadRecord(p.home)
			return err == nil && rec.PID != old
		})
		mark(t, flag+"."+i)
		w.says("works " + i + " the same")
	}
	if c, _, stderr := w.ends(); c != 6 || stderr != "" {
		t.Errorf("exit code %d; it says %q", c, stderr)
	}
	if resumed := p.events(authsome.EventRunResumed); len(resumed) != 2 {
		t.Errorf("the run came back %d times: %+v", len(resumed), resumed)
	}
	eventually(t, "the run is over", func() bool { return len(p.events(authsome.EventRunEnded)) == 1 })
}

// A daemon that is stopped in good order is followed by another as well.
func TestRunOutlivesARestart(t *testing.T) {
	p := newPerson(t)
	p.must(key, "login", "openai", "--stdin")
	flag := filepath.Join(t.TempDir(), "go")
	w := p.begins("run", "--", "sh", "-c", `echo ready; until test -e "$0"; do sleep 0.02; done; authsome run -- echo works`, flag)
	w.says("ready")
	p.must("", "daemon", "restart")
	mark(t, flag)
	w.says("works")
	if c, _, stderr := w.ends(); c != 0 {
		t.Errorf("exit code %d; it says %q", c, stderr)
	}
}

// Whatever ends the run ends the grant: kill -9 too, which takes the child along.
func TestKilledRunEndsTheGrant(t *testing.T) {
	p := newPerson(t)
	w := p.begins("run", "--", "sh", "-c", `echo "pid $$"; exec sleep 1000`)
	_, number, _ := strings.Cut(w.says("pid "), "pid ")
	pid, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is gone", func() bool { return syscall.Kill(pid, 0) != nil })
	eventually(t, "the grant has ended", func() bool {
		ended := p.events(authsome.EventRunEnded)
		return len(ended) == 1 && ended[0].Run == p.events(authsome.EventRunStarted)[0].Run
	})
}

// A grant that the daemon does not know any more cannot come back: the child is
// told by a closed port, and the person by a line.
func TestRunThatLostItsGrant(t *testing.T) {
	p := newPerson(t)
	p.must(key, "login", "openai", "--stdin")
	flag := filepath.Join(t.TempDir(), "go")
	w := p.begins("run", "--", "sh", "-c", `
		port=${HTTPS_PROXY##*:}
		echo ready
		until test -e "$0"; do sleep 0.02; done
		if grep -qi " 0100007F:$(printf %04X "$port") [0-9A-F:]* 0A " /proc/net/tcp; then echo open; else echo closed; fi`, flag)
	w.says("ready")
	// Another home's vault in its place knows nothing of this run.
	if err := syscall.Kill(p.daemonPID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := p.daemonPID()
	matches, err := filepath.Glob(filepath.Join(p.home, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range matches {
		if strings.Contains(filepath.Base(m), ".db") || strings.Contains(filepath.Base(m), "vault") || strings.Contains(filepath.Base(m), "key") {
			if err := os.RemoveAll(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := syscall.Kill(stopped, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.says("this run has lost its grant")
	mark(t, flag)
	w.says("closed")
	if c, _, _ := w.ends(); c != 0 {
		t.Errorf("exit code %d", c)
	}
}

// On a terminal the child has it: a person's keys reach it, Ctrl-C as well.
func TestRunOnATerminal(t *testing.T) {
	p := newPerson(t)
	p.must(key, "login", "openai", "--stdin")
	x := p.types("run", "--", "sh", "-c", `trap 'echo caught; exit 5' INT; test -t 0 && test -t 1 && echo "it is one"; read line; echo "heard $line"; while :; do sleep 0.02; done`)
	x.sees("it is one")
	x.presses("hello\r")
	x.sees("heard hello")
	x.presses("\x03")
	if c, _ := x.ends(); c != 5 {
		t.Errorf("exit code %d", c)
	}
}

// SIGTERM to the run is for the child, and its code is the run's.
func TestRunPassesSignalsOn(t *testing.T) {
	p := newPerson(t)
	w := p.begins("run", "--", "sh", "-c", `trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.02; done`)
	w.says("ready")
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.says("bye")
	if c, _, _ := w.ends(); c != 9 {
		t.Errorf("exit code %d", c)
	}
}

// Each run has a grant of its own, and its token is written down nowhere.
func TestTwoRunsHaveTwoGrants(t *testing.T) {
	p := newPerson(t)
	first, second := p.must("", "run", "--quiet", "--", "printenv", "HTTPS_PROXY"), p.must("", "run", "--quiet", "--", "printenv", "HTTPS_PROXY")
	if first == second || first == "" {
		t.Errorf("%q and %q", first, second)
	}
	token := func(url string) string { return strings.Split(strings.TrimPrefix(url, "http://authsome:"), "@")[0] }
	if a, b := token(first), token(second); a == b || len(a) < 32 {
		t.Errorf("the tokens have %d and %d characters, and are the same: %v", len(a), len(b), a == b)
	}
	// Neither is in what was written down.
	log, err := os.ReadFile(filepath.Join(p.home, api.LogFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{first, second} {
		if strings.Contains(string(log), token(url)) {
			t.Error("the log holds a token")
		}
	}
}
