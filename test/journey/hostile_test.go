package journey

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// patience is how long anything may take here before the test gives up on it.
const patience = 60 * time.Second

// attempt is an `authsome login` that has been started and has perhaps not ended
// yet. Nobody is at its standard input, and there is no terminal.
type attempt struct {
	t      *testing.T
	cmd    *exec.Cmd
	said   chan string // lines of standard error
	ended  chan struct{}
	stdout bytes.Buffer // to be read once it has ended

	mu     sync.Mutex
	stderr strings.Builder
}

// attempts starts `authsome login` with these arguments.
func attempts(t *testing.T, w *harness.World, args ...string) *attempt {
	t.Helper()
	return starts(t, w.Command(append([]string{"login", "--no-browser", "--json"}, args...)...).Cmd())
}

// starts starts a command that is one, whatever its home.
func starts(t *testing.T, cmd *exec.Cmd) *attempt {
	t.Helper()
	a := &attempt{t: t, cmd: cmd, said: make(chan string, 100), ended: make(chan struct{})}
	a.cmd.Stdin, a.cmd.Stdout = nil, &a.stdout
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			a.mu.Lock()
			a.stderr.WriteString(sc.Text() + "\n")
			a.mu.Unlock()
			a.said <- sc.Text()
		}
		_, _ = io.Copy(io.Discard, stderr)
		close(a.said)
		_ = a.cmd.Wait()
		close(a.ended)
	}()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.ended
		if t.Failed() {
			t.Logf("%q:\n%s", a.cmd.Args, a.printed())
		}
	})
	return a
}

// printed is all that the command has printed so far.
func (a *attempt) printed() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.ended:
		return a.stderr.String() + a.stdout.String()
	default:
		return a.stderr.String()
	}
}

// says waits for a line that begins so, and returns the rest of it.
func (a *attempt) says(begin string) string {
	a.t.Helper()
	for limit := time.After(patience); ; {
		select {
		case l, ok := <-a.said:
			if !ok {
				<-a.ended
				a.t.Fatalf("it ended before it said %q:\n%s", begin, a.printed())
			}
			if rest, ok := strings.CutPrefix(l, begin); ok {
				return strings.TrimSpace(rest)
			}
		case <-limit:
			a.t.Fatalf("it has not said %q:\n%s", begin, a.printed())
		}
	}
}

// visit is the address that the person is to open.
func (a *attempt) visit() string {
	a.t.Helper()
	return a.says("Visit: ")
}

// waits checks that the command has not ended.
func (a *attempt) waits(after string) {
	a.t.Helper()
	select {
	case <-a.ended:
		a.t.Fatalf("%s has ended the login:\n%s", after, a.printed())
	default:
	}
}

// verdict is the document that a command with --json ends with.
type verdict struct {
	Code    int    `json:"-"` // the exit code
	Status  string `json:"status"`
	Step    string `json:"step"`
	Session string `json:"session_id"`
	Error   string `json:"error"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	AuthURL string `json:"auth_url"`
	Server  string `json:"authorization_server"`
}

func verdictOf(t *testing.T, code int, stdout string) verdict {
	t.Helper()
	v := verdict{}
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		t.Fatalf("%v: %q", err, stdout)
	}
	v.Code = code
	return v
}

// ends waits for the command's end.
func (a *attempt) ends() verdict {
	a.t.Helper()
	for limit := time.After(patience); ; {
		select {
		case <-a.ended:
			return verdictOf(a.t, a.cmd.ProcessState.ExitCode(), a.stdout.String())
		case _, ok := <-a.said: // nobody listens any more
			if !ok {
				a.said = nil
			}
		case <-limit:
			a.t.Fatalf("it has not ended:\n%s", a.printed())
		}
	}
}

// refused waits for the end, which must be one clear line and the next command.
func (a *attempt) refused() verdict {
	a.t.Helper()
	v := a.ends()
	v.refusal(a.t, strings.Join(a.cmd.Args[1:], " "))
	return v
}

// succeeds waits for the end, which must be a connection.
func (a *attempt) succeeds() {
	a.t.Helper()
	if v := a.ends(); v.Code != 0 || v.Status != "success" {
		a.t.Fatalf("%q: %+v\n%s", a.cmd.Args[1:], v, a.printed())
	}
}

// refusal checks that a command was refused with one clear line and the next
// command.
func (v verdict) refusal(t *testing.T, what string) {
	t.Helper()
	switch {
	case v.Code <= 0 || v.Error == "" || v.Error == "InternalError":
		t.Errorf("%s: exit code %d: %+v", what, v.Code, v)
	case v.Message == "" || len(v.Message) > 400 || strings.ContainsAny(v.Message+v.Hint, "\n\r\x1b<>"):
		t.Errorf("%s: not one clear line: %q, %q", what, v.Message, v.Hint)
	case !strings.Contains(v.Hint, "authsome ") && !strings.Contains(v.Hint, "--") && !strings.Contains(v.Hint, "in a terminal of your own"):
		t.Errorf("%s: no next command after %q: %q", what, v.Message, v.Hint)
	}
}

// holdings are the providers and connections that `list` shows: those that
// somebody has registered or logged in to.
func holdings(t *testing.T, w *harness.World) []string {
	t.Helper()
	type provider struct {
		Name        string `json:"name"`
		Connections []struct {
			Name   string `json:"connection_name"`
			Status string `json:"status"`
		} `json:"connections"`
	}
	var doc struct {
		Bundled []provider `json:"bundled"`
		Custom  []provider `json:"custom"`
	}
	if err := json.Unmarshal([]byte(must(t, w.Command("list", "--json"))), &doc); err != nil || len(doc.Bundled) < 20 {
		t.Fatalf("%v: list shows %d providers", err, len(doc.Bundled))
	}
	var out []string
	for _, p := range append(doc.Custom, doc.Bundled...) {
		if slices.ContainsFunc(doc.Custom, func(c provider) bool { return c.Name == p.Name }) {
			out = append(out, p.Name)
		}
		for _, c := range p.Connections {
			out = append(out, p.Name+"/"+c.Name+" "+c.Status)
		}
	}
	return out
}

// holds checks what is connected and registered, to the last entry.
func holds(t *testing.T, w *harness.World, want ...string) {
	t.Helper()
	got := holdings(t, w)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

// person is somebody with a browser in the world's internet.
func person(t *testing.T, w *harness.World, login string) *internet.Person {
	t.Helper()
	p, err := w.Internet.Person(login)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// consents has somebody consent at the address, and takes them back to authsome.
func consents(t *testing.T, w *harness.World, at string) internet.Page {
	t.Helper()
	page, err := person(t, w, "octocat").Consent(within(t), at)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// returns has somebody consent at the address, and gives the callback's address,
// to which nobody has gone yet.
func returns(t *testing.T, w *harness.World, at string) *url.URL {
	t.Helper()
	callback, err := person(t, w, "octocat").Authorize(within(t), at)
	if err != nil {
		t.Fatal(err)
	}
	return callback
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// visit is one request of a browser, which follows no redirect and has no cookies.
func visit(t *testing.T, method, at string, header http.Header) (status int, page string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), method, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range header {
		req.Header.Set(name, header.Get(name))
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// keepsQuiet checks that no secret is in anything that people see or that
// outlives a command: what was printed, the daemon's log, the audit, and the files
// of the home, the database included.
func keepsQuiet(t *testing.T, w *harness.World, printed string, secrets ...string) {
	t.Helper()
	places := map[string]string{
		"the output of commands": printed + w.Output(),
		"daemon logs":            must(t, w.Command("daemon", "logs", "-n", "100000")),
		"log --json":             must(t, w.Command("log", "--json", "-n", "100000")),
	}
	files, err := filepath.Glob(filepath.Join(w.AuthsomeHome(), "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("the home has %q (%v)", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || !info.Mode().IsRegular() {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		places[f] = string(data)
	}
	if len(secrets) == 0 {
		t.Fatal("there is no secret to look for")
	}
	for place, text := range places {
		for i, s := range secrets {
			if len(s) < 8 {
				t.Errorf("secret %d is %q, which could be anywhere", i, s)
			} else if strings.Contains(text, s) {
				t.Errorf("secret %d (%s…) is in %s", i, s[:4], place)
			}
		}
	}
}

// TestHostileSites logs in to every hostile site that there is, by its address,
// as an agent would: no terminal, and nobody to ask.
func TestHostileSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sites := w.Internet.AddHostiles()
	if len(sites) < 29 {
		t.Fatalf("%d hostile sites", len(sites))
	}
	started := map[string]*attempt{}
	for _, s := range sites {
		if !s.Confirm {
			started[s.Name] = attempts(t, w, s.URL)
		}
	}
	// Those about which a person may decide wait for one, and do nothing else.
	// What is on another site is named, whichever of the addresses it is.
	consent, _ := w.Internet.AddMCP(internet.MCP{Host: "consent-elsewhere-mcp.example", Path: "/mcp", Metadata: func(doc map[string]any) {
		doc["authorization_endpoint"] = "https://accounts.google.com/o/oauth2/v2/auth"
	}})
	sites = append(sites, internet.Hostile{Name: "consent-elsewhere", URL: consent.URL(), Confirm: true})
	servers := map[string]string{
		"other-site": "login.other-site.example", "mixed": "accounts.google.com and " + internet.Attacker, "consent-elsewhere": "accounts.google.com",
	}
	for _, s := range sites {
		if !s.Confirm {
			continue
		}
		v := verdictOf(t, 0, must(t, w.Command("login", s.URL, "--no-wait", "--json")))
		if v.Status != "started" || v.Step != "confirm" || v.Server != servers[s.Name] || !strings.HasPrefix(v.AuthURL, fmt.Sprintf("http://127.0.0.1:%d/", w.Port())) {
			t.Errorf("%s (%s): %+v", s.Name, s.Why, v)
		}
		if v = verdictOf(t, 0, must(t, w.Command("login", "--status", v.Session))); v.Status != "waiting_for_user" || v.Step != "confirm" {
			t.Errorf("%s (%s), which nobody has confirmed: %+v", s.Name, s.Why, v)
		}
		a := attempts(t, w, s.URL, "--timeout", "1s")
		a.says(s.Name + "-mcp.example says that its logins are made at " + servers[s.Name])
		if at := a.visit(); !strings.Contains(at, "/input?ticket=") {
			t.Errorf("%s: the address to confirm it at is %s", s.Name, at)
		}
		if v := a.refused(); v.Error != "LoginTimedOut" {
			t.Errorf("%s: without an answer: %+v", s.Name, v)
		}
		// An agent is not asked at all.
		for _, more := range []string{"--no-wait", "--timeout=30s"} {
			r := w.Command("run", "--", binary, "login", s.URL, more, "--no-browser", "--json").Run()
			v = verdictOf(t, r.Code, r.Stdout)
			v.refusal(t, s.Name+" inside a run")
			if v.Error != "OperationNotAllowed" {
				t.Errorf("%s inside a run: %+v", s.Name, v)
			}
		}
	}

	// Private addresses are not for discovery, and an agent cannot say that they are.
	for _, address := range []string{"https://169.254.169.254/mcp", "https://10.0.0.7/mcp", "https://localhost:7998/mcp", "https://[::ffff:10.0.0.7]/mcp"} {
		r := w.Command("login", address, "--no-browser", "--json").Run()
		verdictOf(t, r.Code, r.Stdout).refusal(t, address)
		r = w.Command("run", "--", binary, "login", address, "--allow-private", "--no-browser", "--json").Run()
		v := verdictOf(t, r.Code, r.Stdout)
		v.refusal(t, address+" inside a run")
		if v.Error != "OperationNotAllowed" {
			t.Errorf("%s inside a run: %+v", address, v)
		}
	}

	for _, f := range []string{"pkce", "device_code"} {
		r := w.Command("run", "--", binary, "login", "github", "--flow", f, "--allow-private", "--no-wait", "--json").Run()
		if v := verdictOf(t, r.Code, r.Stdout); v.Error != "OperationNotAllowed" {
			t.Errorf("--flow %s --allow-private inside a run: %+v", f, v)
		}
	}

	var printed, code string
	for _, s := range sites {
		a := started[s.Name]
		if a == nil {
			continue
		}
		if s.Name == "redirecting-token" {
			// All is as it should be until the code is to be exchanged.
			callback := returns(t, w, a.visit())
			code = callback.Query().Get("code")
			if status, page := visit(t, http.MethodGet, callback.String(), nil); status < 400 {
				t.Errorf("%s: the callback's page is %d: %s", s.Name, status, page)
			}
		}
		a.refused()
		printed += a.printed()
	}

	holds(t, w)
	if got := w.Internet.Requests(internet.Attacker); len(got) != 0 {
		t.Errorf("%d requests went to the attacker, the first is %s %s", len(got), got[0].Method, got[0].Path)
	}
	for _, host := range w.Internet.Dialled() {
		if !strings.HasSuffix(host, "-mcp.example") && host != "login.other-site.example" {
			t.Errorf("%s was asked for", host)
		}
	}
	for _, host := range []string{"login.other-site.example", "auth.mixed-mcp.example", "auth.consent-elsewhere-mcp.example"} {
		for _, r := range w.Internet.Requests(host) {
			if r.Method != http.MethodGet || !strings.HasPrefix(r.Path, "/.well-known/") {
				t.Errorf("before anybody has confirmed it: %s %s%s", r.Method, host, r.Path)
			}
		}
	}
	keepsQuiet(t, w, printed, code)
}

// formSecrets are the values of a token request that nobody may see.
func formSecrets(body string) []string {
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range []string{"code", "code_verifier", "refresh_token", "client_secret", "device_code"} {
		if v := form.Get(name); v != "" {
			out = append(out, v)
		}
	}
	return out
}
