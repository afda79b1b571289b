package journey

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// line reads one line of a child's output within a time.
func lines(t *testing.T, cmd *exec.Cmd) <-chan string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	c := make(chan string, 1000)
	go func() {
		defer close(c)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			c <- sc.Text()
		}
	}()
	return c
}

func next(t *testing.T, c <-chan string, want string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case l, ok := <-c:
			if !ok {
				t.Fatalf("the child ended before it printed %q", want)
			}
			if strings.Contains(l, want) {
				return
			}
		case <-limit:
			t.Fatalf("the child did not print %q", want)
		}
	}
}

// poll is a child that asks for the models every 100 ms and prints the status.
const poll = `while :; do curl -sS -m 20 -o /dev/null -w '%{http_code}\n' https://api.openai.com/v1/models; sleep 0.1; done`

// replaceDaemon kills the daemon and starts another in front of the fake
// internet. The run is held meanwhile: it would be quicker to start one, which
// would get no HTTPS_PROXY from it.
func replaceDaemon(t *testing.T, w *harness.World, run *exec.Cmd) {
	t.Helper()
	if err := run.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.KillDaemon()
	err := w.Serve()
	if cerr := run.Process.Signal(syscall.SIGCONT); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
}

// TestDaemonDies kills the daemon while a child works: the run starts another,
// and the child's next requests wait and then succeed, with the same token.
func TestDaemonDies(t *testing.T) {
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	cmd := w.Command("run", "--", "sh", "-c", poll).Cmd()
	out := lines(t, cmd)
	next(t, out, "200")
	for range 3 {
		replaceDaemon(t, w, cmd)
		for len(out) > 0 {
			<-out
		}
		next(t, out, "200")
	}
	contains(t, must(t, w.Command("log", "-n", "200", "--json")), "run.resumed")
}

// TestDaemonDiesForGood leaves it to the run to start the daemon again.
func TestDaemonDiesForGood(t *testing.T) {
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	cmd := w.Command("run", "--", "sh", "-c", `while :; do curl -sS -m 20 http://self-check.authsome.invalid/ && echo; sleep 0.1; done`).Cmd()
	out := lines(t, cmd)
	next(t, out, "ok")
	w.KillDaemon()
	for len(out) > 0 {
		<-out
	}
	time.Sleep(300 * time.Millisecond)
	next(t, out, "ok")
}

// TestStreamDies: the daemon is killed in the middle of a stream; the child
// sees its end, and its next request works.
func TestStreamDies(t *testing.T) {
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	cmd := w.Command("run", "--", "sh", "-c", `curl -sSN https://echo.example.com/stream; echo "ended $?"; curl -sS -m 20 https://api.openai.com/v1/models`).Cmd()
	out := lines(t, cmd)
	next(t, out, `{"n":3}`)
	replaceDaemon(t, w, cmd)
	next(t, out, "ended")
	next(t, out, "gpt-5")
}

// TestDaemonIsReplaced ends the daemon as `authsome daemon stop` does, while a
// stream has it take all the time that it may. What the child asks for meanwhile
// waits for the next daemon.
func TestDaemonIsReplaced(t *testing.T) {
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	begun := make(chan struct{})
	w.Internet.Replace("api.openai.com", "/v1/slow", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).Flush()
		close(begun)
		<-r.Context().Done()
	}))
	cmd := w.Command("run", "--", "sh", "-c", "(curl -sSN https://api.openai.com/v1/slow >/dev/null; echo ended) & "+poll).Cmd()
	out := lines(t, cmd)
	next(t, out, "200")
	<-begun
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pid := w.DaemonPID()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the daemon ends", func() bool { return syscall.Kill(pid, 0) != nil })
	err := w.Serve()
	if cerr := cmd.Process.Signal(syscall.SIGCONT); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	for after := 0; after < 5; {
		select {
		case l, ok := <-out:
			switch {
			case !ok:
				t.Fatal("the child has ended")
			case l == "ended":
				after = 1
			case l != "200":
				t.Fatalf("while the daemon was replaced the child got %q", l)
			case after > 0:
				after++
			}
		case <-time.After(patience):
			t.Fatal("the child's request waits for ever")
		}
	}
}

// TestRunIsKilled: SIGKILL of run ends the grant and, on Linux, the child.
func TestRunIsKilled(t *testing.T) {
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	cmd := w.Command("run", "--", "sh", "-c", `echo "child $$ $HTTPS_PROXY"; exec sleep 60`).Cmd()
	out := lines(t, cmd)
	var pid int
	var proxy string
	select {
	case l := <-out:
		if _, err := fmt.Sscanf(l, "child %d %s", &pid, &proxy); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the child says nothing")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, 5*time.Second, "the child ends", func() bool { return syscall.Kill(pid, 0) != nil })
	until(t, 5*time.Second, "the grant ends", func() bool {
		return strings.Contains(must(t, w.Command("log", "--json", "-n", "100000")), "run.ended")
	})
	curl := exec.Command(tool(t, "curl"), "-sS", "-m", "5", "-x", proxy, "https://api.openai.com/v1/models")
	if b, err := curl.CombinedOutput(); err == nil || bytes.Contains(b, []byte("gpt-5")) {
		t.Errorf("the dead run's proxy still answers: %s", b)
	}
}

// TestChildsEnd: exit codes and signals come through as in a shell.
func TestChildsEnd(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		argv []string
		code int
		say  string
	}{
		{[]string{"sh", "-c", "exit 7"}, 7, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{[]string{"no-such-command-anywhere"}, 127, "no-such-command-anywhere"},
		{[]string{"/tmp"}, 126, "directory"},
	} {
		r := w.Command(append([]string{"run", "--"}, tt.argv...)...).Run()
		if r.Code != tt.code {
			t.Errorf("%v: exit code %d, want %d\n%s", tt.argv, r.Code, tt.code, r.Stderr)
		}
		contains(t, r.Stderr, tt.say)
	}
	if r := w.Command("run").Run(); r.Code != 64 {
		t.Errorf("run without a command: exit code %d", r.Code)
	}
	r := w.Command("run", "--", "cat").Input("through\n").Run()
	if r.Stdout != "through\n" {
		t.Errorf("standard input: %q", r.Stdout)
	}
}

// TestLoginDuringARun: a login made while the child works is picked up, a
// logout as well.
func TestLoginDuringARun(t *testing.T) {
	w := newWorld(t)
	login(t, w, personalKey, "github")
	cmd := w.Command("run", "--", "sh", "-c", poll).Cmd()
	out := lines(t, cmd)
	next(t, out, "401") // nobody is logged in: a blind tunnel, and the real host's answer
	login(t, w, openaiKey, "openai")
	next(t, out, "200")
	must(t, w.Command("logout", "openai"))
	next(t, out, "401")
}

// TestBlindTunnelToARoutedHostIsClosed: a connection that was opened before the
// login would go on without the credential for ever.
func TestBlindTunnelToARoutedHostIsClosed(t *testing.T) {
	w := newWorld(t)
	login(t, w, personalKey, "github")
	script := filepath.Join(w.Work(), "keep.py")
	if err := os.WriteFile(script, []byte(`
import requests, time
s = requests.Session()
while True:
    print(s.get('https://api.openai.com/v1/models').status_code, flush=True)
    time.sleep(0.1)
`), 0o600); err != nil {
		t.Fatal(err)
	}
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		python = tool(t, "python3")
	}
	out := lines(t, w.Command("run", "--", python, script).Cmd())
	next(t, out, "401")
	login(t, w, openaiKey, "openai")
	next(t, out, "200")
}

// TestNestedRun uses the outer run's grant, and knows what was connected
// meanwhile.
func TestNestedRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	nested := must(t, w.Command("run", "--", "sh", "-c",
		`echo "$HTTPS_PROXY"; printf '%s\n' '`+personalKey+`' | "$0" login github --stdin >/dev/null && "$0" run -- sh -c 'echo "$HTTPS_PROXY"; echo "$GH_TOKEN"; curl -sS https://api.github.com/user'`, binary))
	got := strings.Split(nested, "\n")
	if len(got) < 4 || got[0] != got[1] {
		t.Fatalf("the nested run has another proxy:\n%s", nested)
	}
	if got[2] != "authsome-proxy-managed" {
		t.Errorf("GH_TOKEN in the nested run: %q", got[2])
	}
	contains(t, nested, "octocat")
}

// TestTwoHomes: each has a daemon of its own and never sees the other's.
func TestTwoHomes(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	login(t, a, openaiKey, "openai")
	lacks(t, must(t, b.Command("list")), "(default)")
	second := filepath.Join(a.Home(), "second")
	out := must(t, a.Command("whoami", "--json").Env("AUTHSOME_HOME="+second))
	contains(t, out, second, `"connected_providers_count": 0`)
	must(t, a.Command("daemon", "stop").Env("AUTHSOME_HOME="+second))
	contains(t, must(t, a.Command("list")), "(default)")
}

// TestUpstreamTrouble: an upstream that is not there, and one whose certificate
// nobody signed, are named to the child as JSON.
func TestUpstreamTrouble(t *testing.T) {
	w := newWorld(t)
	definition := filepath.Join(w.Work(), "acme.json")
	if err := os.WriteFile(definition, []byte(`{"schema_version":1,"name":"acme","auth_type":"api_key","flow":"api_key","api_url":"api.acme.example","export":{"ACME_KEY":"API_TOKEN"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, w.Command("register", definition, "--yes"))
	login(t, w, "acme-key-0123456789", "acme")
	r := w.Command("run", "--", "curl", "-sS", "-w", " %{http_code}", "https://api.acme.example/v1").Run()
	contains(t, r.Stdout, "502", "api.acme.example", `"error":"upstream_unreachable"`)
	lacks(t, r.Stdout+r.Stderr, "acme-key-0123456789")

	login(t, w, openaiKey, "openai")
	if err := w.Internet.Distrust("api.openai.com"); err != nil {
		t.Fatal(err)
	}
	r = w.Command("run", "--", "curl", "-sS", "-w", " %{http_code}", "https://api.openai.com/v1/models").Run()
	contains(t, r.Stdout, "502", "api.openai.com", "certificate")
	if n := len(w.Internet.Requests("api.openai.com")); n != 0 {
		t.Errorf("%d requests went to a host that nobody vouches for", n)
	}
}

// TestPlaceholderGoesNowhereElse: a placeholder on its way to another service,
// or in the clear, is what exfiltration looks like; it is refused and recorded.
func TestPlaceholderGoesNowhereElse(t *testing.T) {
	w := connected(t)
	curl := tool(t, "curl")
	for _, to := range []string{"https://api.anthropic.com/api/hello", "http://echo.example.com/small"} {
		r := w.Command("run", "--", curl, "-sS", "-w", " %{http_code}", "-H", "X-Copy: authsome-proxy-managed", to).Run()
		contains(t, r.Stdout, "403", "placeholder")
	}
	for _, host := range []string{"api.anthropic.com", "echo.example.com"} {
		if n := len(w.Internet.Requests(host)); n != 0 {
			t.Errorf("%d requests with a placeholder arrived at %s", n, host)
		}
	}
	contains(t, must(t, w.Command("log", "--json", "-n", "100000")), "placeholder")
}

// TestSecretsStayInside greps for the planted secrets after a journey: in every
// file that is not the vault, in everything that was printed, and in the
// command lines and environments of the processes.
func TestSecretsStayInside(t *testing.T) {
	w := connected(t)
	for _, argv := range [][]string{
		{"list"},
		{"list", "--json"},
		{"get", "openai"},
		{"get", "github", "--connection", "work", "--json"},
		{"inspect", "openai"},
		{"whoami"},
		{"doctor"},
		{"log"},
		{"log", "--json"},
		{"get", "openai", "--field", "api_key"},
		{"login", "openai", "--stdin", "--force", "--verbose"}, // refused: no key on standard input
		{"login", openaiKey},
		{"login", "openai", openaiKey},
		{"get", openaiKey},
		{"nonsense", workKey},
		{"run", "--verbose", "--explain", "--", "true"},
		{"run", "--", "curl", "-sS", "https://api.openai.com/v1/models"},
		{"run", "--", "curl", "-sS", "https://nowhere.example/"},
	} {
		w.Command(argv...).Run()
	}
	// Clients that keep what they saw: git its remote, Codex a transcript of all
	// that its shell printed, which here looks for secrets itself, in few processes:
	// Codex waits ten seconds for what it prints.
	must(t, w.Command("run", "--", tool(t, "git"), "clone", "-q", "https://github.com/"+internet.PrivateRepository, "kept"))
	w.Internet.CallShell(`env; { grep -lzx "HOME=$HOME" /proc/[0-9]*/environ | xargs cat | tr '\0' '\n'; } 2>/dev/null; find ~/.authsome -type f -exec cat -v {} +`)
	r := w.Command("run", "--", tool(t, "codex"), "exec", "--skip-git-repo-check", "-s", "danger-full-access", "what do you see").Run()
	contains(t, r.Stdout, "fake internet says hello")
	contains(t, r.Stderr, "OPENAI_API_KEY=authsome-proxy-managed")
	cmd := w.Command("run", "--", "sh", "-c", "echo up; exec sleep 30").Cmd()
	next(t, lines(t, cmd), "up")

	secrets := [][]byte{[]byte(openaiKey), []byte(anthropicKey), []byte(personalKey), []byte(workKey)}
	look := func(where string, data []byte) {
		for _, s := range secrets {
			if bytes.Contains(data, s) {
				t.Errorf("a secret is in %s", where)
			}
		}
	}
	look("what was printed", []byte(w.Output()))
	err := filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil // gone meanwhile
		}
		look(path, data)
		if info, err := d.Info(); err == nil && strings.HasPrefix(path, w.AuthsomeHome()) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	processes := w.Processes()
	if len(processes) < 3 {
		t.Errorf("%d processes have this home: the daemon, the run and its child should", len(processes))
	}
	for _, pid := range processes {
		for _, file := range []string{"environ", "cmdline"} {
			path := fmt.Sprintf("/proc/%d/%s", pid, file)
			data, err := os.ReadFile(path)
			if err != nil {
				continue // it has ended
			}
			look(path, data)
		}
	}
}

// TestBrowserPort: health and readiness answer, and nothing else does to a
// stranger's page.
func TestBrowserPort(t *testing.T) {
	w := newWorld(t)
	base := fmt.Sprintf("http://127.0.0.1:%d", w.Port())
	for path, want := range map[string]int{"/health": 200, "/ready": 200, "/": 200, "/auth/callback/oauth?state=x&code=y": 400, "/nothing": 404} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	req, _ := http.NewRequest(http.MethodGet, base+"/health", nil)
	req.Host = "attacker.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode == 200 {
		t.Error("a rebound name is answered")
	}
}
