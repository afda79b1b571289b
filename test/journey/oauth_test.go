package journey

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
	"github.com/authsome/authsome/test/oauthserver"
)

// desktop is a machine with a display: what authsome opens in the browser can be
// asked for.
type desktop struct {
	t      *testing.T
	env    []string
	opened string // file with the addresses, one a line
	taken  int
}

func newDesktop(t *testing.T, w *harness.World) *desktop {
	t.Helper()
	bin := filepath.Join(w.Dir, "bin")
	d := &desktop{t: t, opened: filepath.Join(bin, "opened"), env: []string{"DISPLAY=:0", "PATH=" + bin + ":" + os.Getenv("PATH")}}
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nprintf '%s\\n' \"$1\" >> '" + d.opened + "'\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

// next waits for the next address that is opened.
func (d *desktop) next() string {
	d.t.Helper()
	var lines []string
	if !until(d.t, patience, "the browser opens", func() bool {
		data, _ := os.ReadFile(d.opened)
		lines = strings.Split(string(data), "\n")
		return len(lines) > d.taken+1
	}) {
		d.t.FailNow()
	}
	d.taken++
	return lines[d.taken-1]
}

// chromium is somebody with a real browser.
func chromium(t *testing.T, w *harness.World) *harness.Browser {
	t.Helper()
	b, err := harness.StartBrowser(context.WithoutCancel(t.Context()), w.Internet, "octocat")
	if errors.Is(err, harness.ErrNoBrowser) {
		if _, derr := os.Stat("/etc/debian_version"); derr != nil {
			t.Skip(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// sees waits until the terminal has shown a text.
func (s *screen) sees(text string) {
	s.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(s.text(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the terminal does not show %q:\n%s", text, s.text())
		}
	}
}

// line waits for the first line that begins so, and returns the rest of it.
func (s *screen) line(begin string) string {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for l := range strings.Lines(s.text()) {
			if rest, ok := strings.CutPrefix(l, begin); ok && strings.HasSuffix(rest, "\n") {
				return strings.TrimSpace(rest)
			}
		}
	}
	s.t.Fatalf("the terminal has no line %q:\n%s", begin, s.text())
	return ""
}

// ends waits for the command's end and its last words.
func (s *screen) ends(code int, words string) {
	s.t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		s.t.Fatalf("the command does not end:\n%s", s.text())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d, want %d:\n%s", got, code, s.text())
	}
	s.sees(words)
}

// define registers a definition.
func define(t *testing.T, w *harness.World, name, definition string) {
	t.Helper()
	file := filepath.Join(w.Work(), name+".json")
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, w.Command("register", file, "--yes"))
}

// judge is a certified authorization server, which says of every request whether
// it was right.
type judge struct {
	*oauthserver.Server
	t    *testing.T
	host string
}

// newJudge makes one at auth.NAME.example, and an API that takes its tokens at
// api.NAME.example. Both are in the world's internet.
func newJudge(t *testing.T, w *harness.World, name string, c oauthserver.Config) *judge {
	t.Helper()
	c.Host = "auth." + name + ".example"
	s, err := oauthserver.Start(c)
	if errors.Is(err, oauthserver.ErrNotInstalled) {
		if _, derr := os.Stat("/etc/debian_version"); derr != nil {
			t.Skip(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w.Internet.Handle(c.Host, s)
	w.Internet.Handle("api."+name+".example", s.API())
	return &judge{s, t, c.Host}
}

func (j *judge) stats() oauthserver.Stats {
	j.t.Helper()
	st, err := j.Stats()
	if err != nil {
		j.t.Fatal(err)
	}
	return st
}

func (j *judge) tokens() []oauthserver.Token {
	j.t.Helper()
	all, err := j.Tokens()
	if err != nil {
		j.t.Fatal(err)
	}
	return all
}

// approves checks that nothing was refused so far and that no token came twice.
// A device's polls before consent are no refusals.
func (j *judge) approves() {
	j.t.Helper()
	st := j.stats()
	for _, x := range st.Exchanges {
		if x.Error != "" && x.Error != "authorization_pending" {
			j.t.Errorf("%s refused a request for %s: %s (%s)", j.host, x.GrantType, x.Error, x.Detail)
		}
	}
	if st.Reused != 0 || st.Resource.Refused != 0 || st.UserInfo.Refused != 0 {
		j.t.Errorf("%s: %d tokens came twice; refused at the API: %d, at userinfo: %d", j.host, st.Reused, st.Resource.Refused, st.UserInfo.Refused)
	}
}

// secrets are all that the server has given out: tokens, codes, and secrets of
// clients that have registered.
func (j *judge) secrets() []string {
	j.t.Helper()
	var out []string
	for _, tok := range j.tokens() {
		if tok.Value != "" {
			out = append(out, tok.Value)
		}
	}
	clients, err := j.Clients()
	if err != nil {
		j.t.Fatal(err)
	}
	for _, c := range clients {
		for _, name := range []string{"client_secret", "registration_access_token"} {
			if s, ok := c[name].(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// sent are the secrets that the product itself has put on its way to any host:
// codes, verifiers, assertions, refresh tokens, and the secrets of apps.
func sent(w *harness.World) []string {
	var out []string
	for _, r := range w.Internet.Requests("") {
		form, err := url.ParseQuery(string(r.Body))
		if err != nil {
			continue
		}
		for _, name := range []string{"code", "code_verifier", "refresh_token", "client_secret", "device_code", "assertion", "client_assertion", "token"} {
			if v := form.Get(name); len(v) >= 8 {
				out = append(out, v)
			}
		}
		scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		switch {
		case strings.EqualFold(scheme, "basic"):
			if both, err := base64.StdEncoding.DecodeString(value); err == nil {
				_, password, _ := strings.Cut(string(both), ":")
				out = append(out, value, password)
			}
		case value != "" && value != "authsome-proxy-managed":
			out = append(out, value)
		}
	}
	return out
}

// sweep looks for every secret of a journey wherever it does not belong: what was
// printed, the daemon's log and the audit, all files of the person, and the
// command lines and environments of what still runs.
func sweep(t *testing.T, w *harness.World, printed string, secrets ...string) {
	t.Helper()
	secrets = append(secrets, sent(w)...)
	slices.Sort(secrets)
	secrets = slices.DeleteFunc(slices.Compact(secrets), func(s string) bool { return len(s) < 8 })
	if len(secrets) < 3 {
		t.Fatalf("there are %d secrets to look for", len(secrets))
	}
	look := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("a secret (%s…) is in %s", s[:4], where)
			}
		}
	}
	look("what was printed", printed+w.Output())
	look("daemon logs", must(t, w.Command("daemon", "logs", "-n", "100000")))
	look("log --json", must(t, w.Command("log", "--json", "-n", "100000")))
	look("list --json", must(t, w.Command("list", "--json")))
	files := 0
	for _, root := range []string{w.Home(), w.Work()} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil // gone meanwhile
			}
			files++
			look(path, string(data))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 3 {
		t.Errorf("the home has %d files", files)
	}
	for _, pid := range w.Processes() {
		for _, file := range []string{"environ", "cmdline"} {
			path := fmt.Sprintf("/proc/%d/%s", pid, file)
			if data, err := os.ReadFile(path); err == nil {
				look(path, string(data))
			}
		}
	}
}

// status asks an address inside a run and returns the status and the body.
func status(t *testing.T, w *harness.World, run []string, curl ...string) (code, body string) {
	t.Helper()
	args := append(append([]string{"run"}, run...), "--", tool(t, "curl"), "-sS", "-m", "60", "-w", "\n%{http_code}")
	out := must(t, w.Command(append(args, curl...)...))
	at := strings.LastIndex(out, "\n")
	return out[at+1:], out[:at]
}

// bearer checks that the last request that arrived at a path carried this token;
// "" is none at all.
func bearer(t *testing.T, w *harness.World, host, path, token string) {
	t.Helper()
	var last *internet.Request
	for _, r := range w.Internet.Requests(host) {
		if r.Path == path {
			last = &r
		}
	}
	want := "Bearer " + token
	if token == "" {
		want = ""
	}
	switch {
	case last == nil:
		t.Errorf("nothing arrived at %s%s", host, path)
	case last.Header.Get("Authorization") != want:
		t.Errorf("the request to %s%s came with another credential", host, path)
	}
}

// waitUntil waits for a moment and a bit.
func waitUntil(at time.Time) { time.Sleep(time.Until(at) + 50*time.Millisecond) }

// expires is when a connection's token ends.
func expires(t *testing.T, w *harness.World, provider, connection string) time.Time {
	t.Helper()
	var doc struct {
		ExpiresAt time.Time `json:"expires_at"`
	}
	text := must(t, w.Command("get", provider, "--connection", connection, "--json"))
	if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.ExpiresAt.IsZero() {
		t.Fatalf("%v: %s", err, text)
	}
	return doc.ExpiresAt
}
