package journey

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// TestCodexExec is the main job: the real `codex exec` on a fresh home, with a
// placeholder in its environment, gets its answer over the WebSocket that it
// prefers, and OpenAI has seen the real key.
func TestCodexExec(t *testing.T) {
	t.Parallel()
	codex := tool(t, "codex")
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	w.Internet.Say("The answer is forty-two.")
	for _, launch := range []string{"first", "second"} {
		w.Internet.Forget()
		r := w.Command("run", "--", codex, "exec", "--skip-git-repo-check", "what is the answer").Run()
		if r.Code != 0 || !strings.Contains(r.Stdout, "forty-two") {
			t.Fatalf("%s launch: exit code %d\n%s%s", launch, r.Code, r.Stdout, r.Stderr)
		}
		lacks(t, r.Stdout+r.Stderr, openaiKey)
		var sockets int
		for _, q := range w.Internet.Requests("api.openai.com") {
			if q.Header.Get("Authorization") != "Bearer "+openaiKey {
				t.Errorf("%s launch: %s %s came with another credential", launch, q.Method, q.Path)
			}
			if q.Path == "/v1/responses" && q.Status == http.StatusSwitchingProtocols {
				sockets++
			}
		}
		if sockets == 0 {
			t.Errorf("%s launch: no WebSocket to /v1/responses", launch)
		}
		// Codex sends its key to a sibling domain, too: that must be the
		// placeholder.
		for _, q := range w.Internet.Requests("chatgpt.com") {
			if strings.Contains(fmt.Sprint(q.Header), openaiKey) {
				t.Errorf("%s launch: the key went to chatgpt.com%s", launch, q.Path)
			}
		}
	}
}

// screen is a program on a terminal.
type screen struct {
	t   *testing.T
	cmd *exec.Cmd
	*harness.Terminal
}

func onTerminal(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	term, err := harness.OnTerminal(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(term.Close)
	return &screen{t, cmd, term}
}

func (s *screen) text() string { return s.Text() }

func (s *screen) typed(text string) {
	s.t.Helper()
	if err := s.Type(text); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for what a condition looks for.
func until(t *testing.T, limit time.Duration, what string, ok func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	t.Errorf("%s: not within %s", what, limit)
	return false
}

// askTUI starts Codex's interactive screen, types a question, and waits for
// the answer.
func askTUI(t *testing.T, w *harness.World, codex, launch string) {
	t.Helper()
	w.Internet.Forget()
	s := onTerminal(t, w.Command("run", "--", codex).Cmd())
	var asked time.Time
	trusted := false
	ok := until(t, 90*time.Second, launch+" launch: an answer on the screen", func() bool {
		text := s.text()
		switch {
		case strings.Contains(text, "fortytwo"):
			return true
		case !trusted && strings.Contains(text, "Do you trust"):
			trusted = true
			s.typed("\r")
		// What is typed while the screen is loading may be lost, so the
		// question is asked again after a while.
		case strings.Contains(text, "OpenAI Codex") && time.Since(asked) > 10*time.Second:
			time.Sleep(1500 * time.Millisecond)
			s.typed("what is the answer")
			time.Sleep(300 * time.Millisecond)
			s.typed("\r")
			asked = time.Now()
		}
		return false
	})
	if !ok {
		t.Logf("the screen:\n%s", s.text())
		w.DumpDaemon()
	}
	found := false
	for _, q := range w.Internet.Requests("api.openai.com") {
		if strings.HasPrefix(q.Path, "/v1/responses") {
			found = true
			if q.Header.Get("Authorization") != "Bearer "+openaiKey {
				t.Errorf("%s launch: %s %s came with another credential", launch, q.Method, q.Path)
			}
		}
	}
	if !found {
		t.Errorf("%s launch: nothing arrived at api.openai.com/v1/responses", launch)
	}
	s.typed("\x03")
	time.Sleep(200 * time.Millisecond)
	s.typed("\x03")
}

// TestCodexTUI runs the interactive screen on a fresh home, with nothing else
// set up, then again, and then after a plain launch whose background server
// would keep an environment without us.
func TestCodexTUI(t *testing.T) {
	t.Parallel()
	codex := tool(t, "codex")
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	w.Internet.Say("The answer is fortytwo.")
	askTUI(t, w, codex, "first")
	askTUI(t, w, codex, "second")

	plain := exec.Command(codex)
	plain.Env, plain.Dir = w.Environ("CODEX_CA_CERTIFICATE="+w.Root()), w.Work()
	s := onTerminal(t, plain)
	until(t, 20*time.Second, "the plain launch draws something", func() bool { return s.text() != "" })
	time.Sleep(2 * time.Second)
	_ = plain.Process.Kill()
	askTUI(t, w, codex, "after a plain one")
}

// TestCodexSandbox has Codex run gh in its own shell: its default sandbox cuts
// loopback off, and authsome says which flag to set; with that flag it works.
func TestCodexSandbox(t *testing.T) {
	t.Parallel()
	codex, gh := tool(t, "codex"), tool(t, "gh")
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	login(t, w, personalKey, "github")
	call := func(flags ...string) (harness.Result, []internet.Request) {
		w.Internet.Forget()
		w.Internet.CallShell(gh + " api user")
		args := append([]string{"run", "--", codex, "exec", "--skip-git-repo-check"}, flags...)
		r := w.Command(append(args, "who am I")...).Run()
		var user []internet.Request
		for _, q := range w.Internet.Requests("api.github.com") {
			if q.Path == "/user" {
				user = append(user, q)
			}
		}
		return r, user
	}
	r, user := call()
	if len(user) != 0 {
		t.Errorf("Codex's default sandbox let gh out")
	}
	contains(t, r.Stderr, "sandbox_workspace_write.network_access=true")

	r, user = call("-s", "workspace-write", "-c", "sandbox_workspace_write.network_access=true")
	if len(user) == 0 {
		t.Fatalf("with network access gh did not get out:\n%s%s", r.Stdout, r.Stderr)
	}
	if got := user[0].Header.Get("Authorization"); got != "Bearer "+personalKey {
		t.Error("gh's request came with another credential")
	}
	lacks(t, r.Stdout+r.Stderr, openaiKey, personalKey)
}
