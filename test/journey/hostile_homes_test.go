package journey

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
)

// secondHome is another AUTHSOME_HOME of the same person: same machine, same
// runtime directory.
type secondHome struct {
	w    *harness.World
	env  []string
	home string
	port int
}

// newSecondHome starts its daemon, which wants the given port for browsers.
func newSecondHome(t *testing.T, w *harness.World, name string, port int) *secondHome {
	t.Helper()
	h := &secondHome{w: w, home: filepath.Join(w.Home(), name), port: port}
	h.env = []string{"AUTHSOME_HOME=" + h.home, fmt.Sprintf("AUTHSOME_PORT=%d", port)}
	daemon := h.command("daemon", "serve").Env("HTTPS_PROXY=" + w.Internet.Proxy()).Cmd()
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = daemon.Wait() }()
	t.Cleanup(func() {
		h.command("daemon", "stop").Run()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the second home's daemon does not end")
			_ = daemon.Process.Kill()
		}
	})
	if !until(t, patience, "the second home's daemon is ready", func() bool {
		return strings.Contains(h.command("daemon", "status", "--json").Run().Stdout, `"status": "ready"`)
	}) {
		t.FailNow()
	}
	return h
}

// command is a command of this home.
func (h *secondHome) command(args ...string) *harness.Command {
	return h.w.Command(args...).Env(h.env...)
}

func (h *secondHome) logsIn(t *testing.T, args ...string) *attempt {
	t.Helper()
	return starts(t, h.command(append([]string{"login", "--no-browser", "--json"}, args...)...).Cmd())
}

// TestTwoHomesShareThePort: the browser comes back to the port, which one home has.
// A login of the other home is completed by way of it, and the first keeps nothing
// of it.
func TestTwoHomesShareThePort(t *testing.T) {
	w, o := newMCPWorld(t)
	second := newSecondHome(t, w, "second", w.Port())
	a := second.logsIn(t, theMCP)
	consentAt := a.visit()
	callback := returns(t, w, consentAt)
	if got, want := strings.SplitN(callback.String(), "?", 2)[0], w.Redirect(); got != want {
		t.Errorf("the browser comes back to %s, want %s", got, want)
	}
	code := callback.Query().Get("code")
	// What belongs to neither home is no login of either.
	status, page := visit(t, "GET", query(callback, "state", "of-nobody"), nil)
	if status < 400 || status >= 500 {
		t.Errorf("a state that nobody has: %d", status)
	}
	lacks(t, page, code)
	a.waits("a state that nobody has")

	status, page = visit(t, "GET", callback.String(), nil)
	if status != http.StatusOK {
		t.Errorf("the page is %d: %s", status, page)
	}
	lacks(t, page, code)
	a.succeeds()
	contains(t, must(t, second.command("list", "--json")), `"connection_name": "default"`, theName)
	holds(t, w)
	events := must(t, w.Command("log", "--json", "-n", "100000"))
	lacks(t, events, "provider.login", "provider.registered", theName)
	contains(t, must(t, second.command("log", "--json", "-n", "100000")), "provider.login", theName)
	if ok, refused := o.Count("token", ""); ok != 1 || refused != 0 {
		t.Errorf("the code was taken %d times and refused %d times", ok, refused)
	}
	if status, _ = visit(t, "GET", callback.String(), nil); status < 400 || status >= 500 {
		t.Errorf("a replay: %d", status)
	}

	// A no is told at once as well.
	b := second.logsIn(t, theMCP, "--connection", "other")
	denied, err := person(t, w, "hubot").Deny(within(t), b.visit())
	if err != nil {
		t.Fatal(err)
	}
	if denied.Status < 400 || denied.Status >= 500 {
		t.Errorf("after a no, the page is %d: %s", denied.Status, denied.Text)
	}
	if v := b.refused(); v.Error != "InputCancelled" {
		t.Errorf("after a no: %+v", v)
	}
	// And the home that has the port logs in for itself.
	c := attempts(t, w, theMCP)
	consents(t, w, c.visit())
	c.succeeds()
	holds(t, w, theName, theName+"/default connected")

	secrets := append(o.Secrets(), code)
	keepsQuiet(t, w, a.printed()+b.printed()+c.printed()+page, secrets...)
	files, err := filepath.Glob(filepath.Join(second.home, "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%q %v", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a directory
		}
		for i, s := range secrets {
			if bytes.Contains(data, []byte(s)) {
				t.Errorf("secret %d is in %s", i, f)
			}
		}
	}
}

// TestStrangerHoldsThePort: another program has the port for browsers. A login that
// needs it is refused at once and says who has it; one by device code needs no
// port.
func TestStrangerHoldsThePort(t *testing.T) {
	w := newWorld(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close()
	stranger := exec.Command(installed(t, "python3"), "-u", "-m", "http.server", "--bind", "127.0.0.1", fmt.Sprint(port))
	stranger.Dir = w.Work()
	said, err := stranger.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	if line := bufio.NewScanner(said); !line.Scan() || !strings.Contains(line.Text(), fmt.Sprint(port)) {
		t.Fatalf("python3 does not listen: %q", line.Text())
	}

	h := newSecondHome(t, w, "crowded", port)
	o := w.Internet.OAuth("github.com")
	o.PollInterval(time.Second)
	must(t, h.command("provider", "set-client", "github", "--client-id", o.App().ID, "--secret-stdin").Input(o.App().Secret))
	for _, args := range [][]string{{"github", "--flow", "pkce"}, {theMCP}} {
		v := h.logsIn(t, args...).refused()
		if v.Error != "DaemonUnavailable" || !strings.Contains(v.Message, fmt.Sprintf("process %d (python3", stranger.Process.Pid)) ||
			!strings.Contains(v.Message, fmt.Sprint(port)) || !strings.Contains(v.Hint, "device_code") {
			t.Errorf("%q: %+v", args, v)
		}
	}
	a := h.logsIn(t, "github", "--flow", "device_code")
	if _, err := person(t, w, "octocat").Device(within(t), a.visit(), a.says("Code:")); err != nil {
		t.Fatal(err)
	}
	a.succeeds()
	for _, x := range w.Internet.OAuth(theOAuth).Exchanges() {
		if x.Endpoint != "metadata" {
			t.Errorf("without a way back, the server was asked at %s", x.Path)
		}
	}
	// The port is free again: what the message says helps.
	_ = stranger.Process.Kill()
	_ = stranger.Wait()
	if v := h.logsIn(t, "github", "--flow", "pkce", "--connection", "second").refused(); !strings.Contains(v.Message, "free now") || v.Hint != "authsome daemon restart" {
		t.Errorf("%+v", v)
	}
	must(t, h.command("daemon", "stop"))
	again := newSecondHome(t, w, "crowded", port)
	o.AllowRedirect(fmt.Sprintf("http://127.0.0.1:%d/auth/callback/oauth", port))
	b := again.logsIn(t, "github", "--flow", "pkce", "--connection", "second")
	consents(t, w, b.visit())
	b.succeeds()
}
