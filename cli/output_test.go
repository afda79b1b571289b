package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

// TestExitCodes holds the table to have every kind of failure that there is.
func TestExitCodes(t *testing.T) {
	src, err := os.ReadFile("../errors.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\t\w+ +Code = "(\w+)" +// (\d+)`).FindAllStringSubmatch(string(src), -1)
	if len(found) < 20 {
		t.Fatalf("only %d kinds of failure were found in errors.go", len(found))
	}
	for _, m := range found {
		var want int
		_ = json.Unmarshal([]byte(m[2]), &want)
		if got, ok := exitCodes[authsome.Code(m[1])]; !ok || got != want {
			t.Errorf("%s exits with %d, %v; errors.go says %d", m[1], got, ok, want)
		}
	}
	if len(exitCodes) != len(found) {
		t.Errorf("%d kinds of failure and %d exit codes", len(found), len(exitCodes))
	}
	if exitCode(nil) != 0 || exitCode(os.ErrExist) != 1 {
		t.Error("the exit codes of success and of a foreign error")
	}
}

func TestDocument(t *testing.T) {
	for _, tt := range []struct {
		in   any
		want string
	}{
		{struct{}{}, `{"v":1}`},
		{struct {
			URL string `json:"url"`
		}{"http://x/?a=1&b=<2>"}, `{"v":1,"url":"http://x/?a=1&b=<2>"}`},
		{object{{"b", json.RawMessage(`1`)}, {"a", json.RawMessage(`"<&"`)}}, `{"v":1,"b":1,"a":"<&"}`},
		{object(nil), `{"v":1}`},
	} {
		got, err := document(tt.in)
		if err != nil || string(got) != tt.want {
			t.Errorf("document(%v) = %s, %v, want %s", tt.in, got, err, tt.want)
		}
	}
	if _, err := document([]int{1}); err == nil {
		t.Error("an array was taken for a document")
	}
	if got, err := document(authsome.NewSecret("canary")); err == nil {
		t.Errorf("a secret became a document: %s", got)
	}
}

// TestClean holds that nothing from elsewhere drives the terminal.
func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain ü 漢\ttext\n":        "plain ü 漢\ttext\n",
		"\x1b[2Jgone":              `\u001b[2Jgone`,
		"title\x1b]0;x\x07":        `title\u001b]0;x\u0007`,
		"back\b\rover":             `back\u0008\u000dover`,
		"api.\u202emoc.live":       `api.\u202emoc.live`,
		"zero\u200bwidth":          `zero\u200bwidth`,
		"\u009bC1":                 `\u009bC1`,
		"not utf-8 \xff\x1b":       "not utf-8 \ufffd\\u001b",
		"del\x7f":                  `del\u007f`,
		"line separator\u2028here": "line separator\u2028here",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := cleanLine("a\nb"); got != `a\nb` {
		t.Errorf("cleanLine leaves %q", got)
	}
	table := newTable("Name")
	table.row("evil\x1b[31m\nProviders: 9 total")
	if got := table.String(); strings.Count(got, "\n") != 3 || strings.Contains(got, "\x1b") {
		t.Errorf("a cell got out of its place: %q", got)
	}
}

func TestTable(t *testing.T) {
	table := newTable("Provider", "S")
	table.row("OpenAI [openai]", "")
	table.row("Ä [a]", "connected")
	want := `Provider         S
---------------  ---------
OpenAI [openai]  -
Ä [a]            connected
`
	if got := table.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { x := now.Add(d); return &x }
	for _, tt := range []struct {
		at   *time.Time
		want string
	}{
		{nil, "-"},
		{&time.Time{}, "-"},
		{at(47*time.Minute + 30*time.Second), "expires in 47m"},
		{at(30 * time.Second), "expires in 30s"},
		{at(47 * time.Hour), "expires in 47h"},
		{at(72 * time.Hour), "expires in 3d"},
		{at(-2*time.Hour - time.Minute), "expired 2h ago"},
		{at(0), "expired 0s ago"},
	} {
		if got := expiry(tt.at, now); got != tt.want {
			t.Errorf("expiry = %q, want %q", got, tt.want)
		}
	}
}

// TestListCounts holds who counts as connected: a provider with a connection
// that works now.
func TestListCounts(t *testing.T) {
	now := time.Now()
	past := now.Add(-time.Hour)
	conn := func(status authsome.Status, expires *time.Time) api.Connection {
		return api.Connection{ConnectionName: "c", Status: string(status), ExpiresAt: expires}
	}
	all := []api.Provider{
		{Name: "a", Connections: []api.Connection{conn(authsome.Connected, nil), conn(authsome.Connected, nil)}},
		{Name: "b", Connections: []api.Connection{conn(authsome.Connected, &past)}},
		{Name: "c", Connections: []api.Connection{conn(authsome.Broken, nil), conn(authsome.Revoked, nil)}},
		{Name: "d"},
	}
	text := listText(all, now)
	if !strings.HasPrefix(text, "Providers: 4 total, 1 connected\n\n") {
		t.Errorf("got %q", text)
	}
	if !strings.Contains(text, "expired 1h ago") {
		t.Errorf("a past expiry is not shown: %q", text)
	}
	if got := listText(nil, now); got != "No providers configured.\n" {
		t.Errorf("got %q", got)
	}
}

func TestRecord(t *testing.T) {
	rec, err := record(api.Connection{
		Provider: "p", ConnectionName: "c", Status: "connected", Hosts: []string{"a", "b"},
		Fields: map[string]string{"api_key": api.Redacted, "status": "mine", "v": "7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"status": "connected", "api_key": api.Redacted, "field_status": "mine", "field_v": "7", "hosts": "a, b", "is_default": "false",
	} {
		if got := rec.plain(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if rec.has("fields") || rec.has("v") {
		t.Errorf("the record has members that it should not: %v", rec.names())
	}
}

// TestInspectDocument holds that a definition cannot pass for more than it is.
func TestInspectDocument(t *testing.T) {
	p := api.Provider{
		Name: "p", Source: "custom", Hosts: []string{"h"}, Warnings: []string{"w"},
		Definition: json.RawMessage(`{"z":1,"v":9,"connections":"mine","flows":["made up"],"a":{"y":1,"x":2}}`),
		Flows:      []string{"pkce"},
	}
	doc, err := inspectDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := document(doc)
	want := `{"v":1,"z":1,"a":{"y":1,"x":2},"name":"p","source":"custom","flows":["pkce"],"hosts":["h"],"warnings":["w"],"connections":[]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	for _, bad := range []string{`[]`, `"x"`, `{"a":`, `{"a":1`, `nul`} {
		if _, err := inspectDocument(api.Provider{Name: "p", Definition: json.RawMessage(bad)}); err == nil {
			t.Errorf("the definition %s was taken", bad)
		}
	}
}

func TestDiagnose(t *testing.T) {
	d := diagnose([]api.Check{
		{Name: "a", OK: true, Text: "fine"},
		{Name: "b", OK: true, Warn: true, Text: "old", Fix: "do this"},
		{Name: "c", Text: "gone", Fix: "do that"},
	})
	if d.Status != notReady || d.Checks["a"] != "ok" || d.Checks["b"] != "warn" || d.Checks["c"] != "fail" ||
		len(d.Issues) != 1 || d.Issues[0] != "c: gone (do that)" || len(d.Warnings) != 1 {
		t.Errorf("got %+v", d)
	}
	a := &app{Program: Program{Stdout: os.Stdout}, opt: options{noColor: true}}
	text := a.doctorText(d.Details)
	for _, line := range []string{"a: OK  fine\n", "b: WARN  old\n  fix: do this\n", "c: FAIL  gone\n  fix: do that\n", "\nNot ready: 1 of 3 checks failed.\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is missing in\n%s", line, text)
		}
	}
	if diagnose(nil).Status != ready {
		t.Error("nothing wrong is not ready")
	}
}

// TestShellQuote hands every byte that a variable can hold to real shells.
func TestShellQuote(t *testing.T) {
	var all strings.Builder
	for b := 1; b < 256; b++ {
		all.WriteByte(byte(b))
	}
	values := []string{
		"plain", "", " ", "'", "''", `'\''`, `"$(touch pwned)"`, "`touch pwned`", "$HOME", `\`, "a\nb", "\n", "-n", "!x", "*", "~",
		"'; touch pwned; '", "#x", "\u2028ü", all.String(),
	}
	var vars []api.ExportedVar
	for i, v := range values {
		vars = append(vars, api.ExportedVar{Name: "V" + string(rune('A'+i)), Value: v})
	}
	script, err := exportText(vars, "env")
	if err != nil {
		t.Fatal(err)
	}
	// A child prints them, so they must be exported; NUL separates, as no value
	// holds it.
	var print strings.Builder
	for _, v := range vars {
		print.WriteString(`printf '%s\000' "$` + v.Name + `"; `)
	}
	ran := 0
	for _, shell := range []string{"sh", "bash", "dash", "zsh", "ksh", "busybox"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		ran++
		args := []string{"-c", `eval "$1"; sh -c "$2"`, "x", script, print.String()}
		if shell == "busybox" {
			args = append([]string{"sh"}, args...)
		}
		cmd := exec.Command(path, args...)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", shell, err)
		}
		got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if len(got) != len(values) {
			t.Errorf("%s: %d values came through, of %d", shell, len(got), len(values))
			continue
		}
		for i := range values {
			if got[i] != values[i] {
				t.Errorf("%s: %q became %q", shell, values[i], got[i])
			}
		}
		if _, err := os.Stat(filepath.Join(cmd.Dir, "pwned")); err == nil {
			t.Errorf("%s ran what was in a value", shell)
		}
	}
	if ran == 0 {
		t.Fatal("there is no shell")
	}
}

func TestExportRefuses(t *testing.T) {
	for _, tt := range []struct{ format, name, value string }{
		{"env", "X=$(touch x)", "v"},
		{"json", "a b", "v"},
		{"dotenv", "1X", "v"},
		{"shell", "", "v"},
		{"env", "X\n", "v"},
		{"env", "X", "canary\x00"},
		{"dotenv", "X", "canary\nY=1"},
		{"dotenv", "X", "canary\r"},
		{"dotenv", "X", `canary'"`},
		{"dotenv", "X", "canary'$HOME"},
	} {
		text, err := exportText([]api.ExportedVar{{Name: tt.name, Value: tt.value, Provider: "p"}}, tt.format)
		if authsome.CodeOf(err) != authsome.Invalid {
			t.Errorf("%s of %q gives %q, %v", tt.format, tt.name, text, err)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("the error quotes the value: %v", err)
		}
	}
}

func TestDotenvQuote(t *testing.T) {
	for in, want := range map[string]string{
		"sk-abc_123.x/y+z==": "sk-abc_123.x/y+z==",
		"":                   "",
		"two words":          "'two words'",
		"a#b":                "'a#b'",
		"$HOME":              "'$HOME'",
		`say "x"`:            `'say "x"'`,
		"it's":               `"it's"`,
	} {
		if got, err := dotenvQuote(in); err != nil || got != want {
			t.Errorf("dotenvQuote(%q) = %s, %v, want %s", in, got, err, want)
		}
	}
}

// TestHelp holds that every command explains itself, with an example.
func TestHelp(t *testing.T) {
	seen := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		if len(cmd.Commands()) == 0 {
			seen++
			if !strings.Contains(cmd.Example, "authsome ") {
				t.Errorf("%s has no example", cmd.CommandPath())
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	root := newRoot(&app{})
	walk(root)
	if seen < 25 {
		t.Errorf("only %d commands were seen", seen)
	}
	for _, name := range []string{"json", "quiet", "no-color", "verbose", "log-file"} {
		if root.PersistentFlags().Lookup(name) == nil {
			t.Errorf("--%s is not everywhere", name)
		}
	}
}

func TestBrowserEnvironment(t *testing.T) {
	person := []string{"HOME=/h", "DISPLAY=:0", "XDG_RUNTIME_DIR=/r", "HTTPS_PROXY=http://corp:3128", "AUTHSOME_MASTER_KEY=canary", "=C:=x", "odd"}
	if got := strings.Join(browserEnvironment(person, false), " "); got != "HOME=/h DISPLAY=:0 XDG_RUNTIME_DIR=/r HTTPS_PROXY=http://corp:3128" {
		t.Errorf("outside a run: %s", got)
	}
	run := append(person, "https_proxy=http://t@127.0.0.1:1", "SSL_CERT_FILE=/ca", "NEW_CA_VARIABLE=/ca", "NODE_OPTIONS=x",
		"OPENAI_API_KEY="+authsome.Placeholder, "GNOME_KEY="+authsome.Placeholder+".work", "AUTHSOME_PROXY_MODE=true", "WAYLAND_DISPLAY=w")
	if got := strings.Join(browserEnvironment(run, true), " "); got != "HOME=/h DISPLAY=:0 XDG_RUNTIME_DIR=/r WAYLAND_DISPLAY=w" {
		t.Errorf("inside a run: %s", got)
	}
}

// TestOpenBrowser starts what stands for the browser, and sees what it gets.
func TestOpenBrowser(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	for _, o := range openers() {
		script := "#!/bin/sh\n{ echo \"$@\"; env; } > " + out + ".new\nmv " + out + ".new " + out + "\n"
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(o[0])), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if strings.HasPrefix(openers()[0][0], "/") || os.PathSeparator != '/' {
		t.Skip("this system's opener is not found by PATH")
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	a := &app{Program: Program{Environ: []string{"PATH=" + os.Getenv("PATH"), "AUTHSOME_PROXY_MODE=true", "SSL_CERT_FILE=/ca"}}}
	if err := a.openBrowser("http://127.0.0.1:1/x?a=1&b=2"); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for end := time.Now().Add(10 * time.Second); got == nil && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got, _ = os.ReadFile(out)
	}
	if !strings.HasPrefix(string(got), "http://127.0.0.1:1/x?a=1&b=2\n") {
		t.Errorf("the browser got %q", got)
	}
	if strings.Contains(string(got), "SSL_CERT_FILE") || strings.Contains(string(got), "AUTHSOME") {
		t.Errorf("the browser got the run's environment: %s", got)
	}
}

// TestLogRotates fills the command's log and looks at what is kept.
func TestLogRotates(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, "client", "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "authsome.log")
	for i := range oldLogs + 2 {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, maxLog+int64(i)); err != nil {
			t.Fatal(err)
		}
		a := &app{Program: Program{Environ: []string{"AUTHSOME_HOME=" + home}, Stderr: os.Stderr}, opt: options{logFile: defaultLogFile}}
		a.logEnd("authsome list", 0, nil)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != oldLogs+1 {
		t.Errorf("%d files are kept, %v", len(entries), err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() > 1000 || fi.Mode().Perm() != 0o600 {
		t.Errorf("the log after rotation: %v, %v", fi, err)
	}
	if fi, err := os.Stat(path + ".1"); err != nil || fi.Size() != maxLog+oldLogs+1 {
		t.Errorf("the newest of the old ones: %v, %v", fi, err)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got, err := tail(path, 3); err != nil || len(got) != 0 {
		t.Errorf("no file: %q, %v", got, err)
	}
	for text, want := range map[string]string{"": "", "a\n": "a", "a\nb\nc\nd\n": "b|c|d", "a\nb\nc\nd": "b|c|d", "\n\n": ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := tail(path, 3); err != nil || strings.Join(got, "|") != want {
			t.Errorf("tail of %q: %q, %v", text, got, err)
		}
	}
	if err := os.WriteFile(path, []byte("cut off"+strings.Repeat("x", maxTail)+"\nlast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := tail(path, 3); err != nil || strings.Join(got, "|") != "last" {
		t.Errorf("the tail of a long file: %d lines, %v", len(got), err)
	}
}
