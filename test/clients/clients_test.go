package clients

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// What the person has logged in with, by host. It must arrive there, and nobody
// else may see it.
var keys = map[string]string{
	"api.openai.com":                    "sk-proj-canaryOpenAI0123456789abcdefghij",
	"api.anthropic.com":                 "sk-ant-canaryAnthropic0123456789abcdef",
	"api.github.com":                    "ghp_canaryPersonal0123456789abcdefghijkl",
	"github.com":                        "ghp_canaryPersonal0123456789abcdefghijkl",
	"generativelanguage.googleapis.com": "AIzaCanaryGemini0123456789abcdefghij",
	awsHost:                             "AKIACANARY0123456789",
	internet.PackagesHost:               "pk_canaryPackages0123456789",
}

// awsHost takes requests that are signed with awsSecret and the key of this host,
// which is the key's public half: the secret itself never leaves. Whether the
// signature is right is for the tests of that.
const (
	awsHost   = "sts.eu-west-1.amazonaws.com"
	awsSecret = "canarySecret0123456789abcdefghijklmnopqr"
)

// sts answers who the caller is.
func sts(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Authorization"), "Credential="+keys[awsHost]+"/") {
		http.Error(w, "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = io.WriteString(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
		`<Arn>arn:aws:iam::123456789012:user/canary</Arn><UserId>1</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
}

// packages is a provider that the person has registered: a company's own index.
const packages = `{"schema_version": 1, "name": "packages", "auth_type": "api_key", "flow": "api_key",
  "api_url": "` + internet.PackagesHost + `", "api_key": {"header_name": "Authorization", "header_prefix": "Bearer"},
  "export": {"PACKAGES_TOKEN": "API_TOKEN"}}`

// newWorld is a fresh home with everything logged in.
func newWorld(t *testing.T) *harness.World {
	t.Helper()
	w, err := harness.Start(binary, internet.Credentials{
		OpenAI: keys["api.openai.com"], Anthropic: keys["api.anthropic.com"], GitHub: []string{keys["github.com"]},
		Gemini: keys["generativelanguage.googleapis.com"], Packages: keys[internet.PackagesHost],
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.Internet.Handle(awsHost, http.HandlerFunc(sts))
	definition := filepath.Join(w.Work(), "packages.json")
	if err := os.WriteFile(definition, []byte(packages), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := []*harness.Command{
		w.Command("register", definition, "--yes"),
		w.Command("login", "aws", "--stdin").Input(keys[awsHost] + "\n" + awsSecret + "\n"),
	}
	for provider, host := range map[string]string{
		"openai": "api.openai.com", "anthropic": "api.anthropic.com", "github": "github.com",
		"gemini": "generativelanguage.googleapis.com", "packages": internet.PackagesHost,
	} {
		commands = append(commands, w.Command("login", provider, "--stdin").Input(keys[host]+"\n"))
	}
	for _, c := range commands {
		if out, err := c.Output(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	place(t, w)
	return w
}

// place puts what clients run into the home's directory for work: js with the
// libraries of npm-clients, lean with those of npm.
func place(t *testing.T, w *harness.World) {
	t.Helper()
	for dir, npm := range map[string]string{"js": "npm-clients", "lean": "npm", "py": "", "java": "", "other": ""} {
		from := dir
		if dir == "lean" {
			from = "js"
		}
		if err := os.CopyFS(filepath.Join(w.Work(), dir), os.DirFS(filepath.Join("testdata", from))); err != nil {
			t.Fatal(err)
		}
		if npm == "" {
			continue
		}
		modules, err := filepath.Abs(filepath.Join("..", npm, "node_modules"))
		if err == nil {
			err = os.Symlink(modules, filepath.Join(w.Work(), dir, "node_modules"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// outcome is what a run of a client has shown.
type outcome struct {
	code    int
	output  string
	arrived bool // a request with the key, which the host has taken
	direct  bool // a connection to the host without the proxy
}

func (o outcome) works(want string) bool {
	return o.code == 0 && strings.Contains(o.output, want) && o.arrived && !o.direct
}

// observe runs f and says what came of it at host.
func observe(t *testing.T, w *harness.World, host string, f func() (code int, output string)) outcome {
	t.Helper()
	w.Internet.Forget()
	direct.take()
	var o outcome
	o.code, o.output = f()
	o.direct = slices.Contains(direct.take(), host)
	for _, q := range w.Internet.Requests("") {
		for h, key := range keys {
			switch has := holds(q, key); {
			case has && h == q.Host:
				o.arrived = o.arrived || q.Host == host && (q.Status < 400 && q.Status != 0)
			case has && key != keys[q.Host]:
				t.Errorf("the key for %s went to %s%s", h, q.Host, q.Path)
			}
		}
	}
	for _, key := range keys {
		if strings.Contains(o.output, key) || strings.Contains(o.output, awsSecret) {
			t.Error("the client has seen a key")
		}
	}
	return o
}

// holds reports whether a request carries a key, as it is or in Basic.
func holds(q internet.Request, key string) bool {
	for _, values := range q.Header {
		for _, v := range values {
			if strings.Contains(v, key) {
				return true
			}
			if basic, ok := strings.CutPrefix(v, "Basic "); ok {
				if pair, err := base64.StdEncoding.DecodeString(basic); err == nil && strings.Contains(string(pair), key) {
					return true
				}
			}
		}
	}
	return false
}

// under runs a command under `authsome run`.
func under(w *harness.World, flags, env, argv []string) func() (int, string) {
	return func() (int, string) {
		args := append(append(append([]string{"run"}, flags...), "--"), argv...)
		r := w.Command(args...).Env(env...).Run()
		return r.Code, r.Stdout + r.Stderr
	}
}

// TestClients runs the table, and holds docs/clients.md to it.
func TestClients(t *testing.T) {
	page := readPage(t)
	w := newWorld(t)
	var results []result
	for _, c := range table() {
		if !*all && !c.lean {
			continue
		}
		t.Run(c.title(), func(t *testing.T) {
			c = c.resolve(t, w)
			r := result{client: c, version: version(t, w, c)}
			r.how = try(t, w, c)
			results = append(results, r)
			if r.how != c.expect {
				t.Errorf("it is %q, and %q was expected", r.how, c.expect)
			}
			if *update || c.group == "" {
				return
			}
			if said := page.outcome(c); said != r.outcome() {
				t.Errorf("docs/clients.md says %q, and it is %q: make test-clients", said, r.outcome())
			}
		})
	}
	if *all && flag.Lookup("test.run").Value.String() == "" {
		page.check(t, results)
	}
}

// title is unique, and has no "/" that is not a level.
func (c client) title() string {
	parts := []string{c.group, strings.ReplaceAll(c.name, "/", "-"), c.node}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	return strings.ReplaceAll(strings.Join(parts, "/"), " ", "-")
}

// try finds out how a client gets to its host: by variables alone, by a shim, or
// with what the table says must be set. It is tried as everybody runs it, and,
// where a shim could have had a hand in it, without that.
func try(t *testing.T, w *harness.World, c client) how {
	t.Helper()
	if c.group == agents {
		return tryAgent(t, c)
	}
	usual := observe(t, w, c.host, under(w, nil, c.env, c.argv))
	if usual.works(c.want) {
		if c.shim != "" {
			if o := observe(t, w, c.host, under(w, []string{"--no-shim", c.shim}, c.env, c.argv)); !o.works(c.want) {
				return byShim
			}
		}
		return byVariables
	}
	if c.expect != notReached && c.expect != bySetting {
		t.Log(usual.describe(w))
	}
	if c.expect == bySetting && len(c.with) == 0 {
		t.Fatal("the table does not say what to run")
	}
	if len(c.with) > 0 {
		set := observe(t, w, c.host, under(w, nil, c.env, c.with))
		if set.works(c.want) {
			return bySetting
		}
		t.Log(set.describe(w))
	}
	if !usual.direct && c.expect == notReached {
		t.Errorf("it neither works nor goes round the proxy: %s", usual.describe(w))
	}
	return notReached
}

// tryAgent finds out whether an agent works on a fresh home, and whether it does
// without its profile on another.
func tryAgent(t *testing.T, c client) how {
	t.Helper()
	once := func(flags ...string) (outcome, string) {
		w := newWorld(t)
		f := under(w, flags, c.env, c.argv)
		if c.screen != nil {
			f = func() (int, string) { return c.screen.drive(t, w, flags, c.argv) }
		}
		o := observe(t, w, c.host, f)
		return o, o.describe(w)
	}
	o, seen := once()
	if !o.works(c.want) {
		t.Log(seen)
		return notReached
	}
	if c.expect == bySetting {
		return bySetting // a step of its screen
	}
	if o, _ := once("--no-profile"); o.works(c.want) {
		return byVariables
	}
	return byProfile
}

func (o outcome) describe(w *harness.World) string {
	var b strings.Builder
	fmt.Fprintf(&b, "exit code %d, arrived %v, direct %v\n", o.code, o.arrived, o.direct)
	for _, q := range w.Internet.Requests("") {
		fmt.Fprintf(&b, "arrived: %s %s%s -> %d\n", q.Method, q.Host, q.Path, q.Status)
	}
	text := o.output
	if len(text) > 6000 {
		text = text[:3000] + "\n…\n" + text[len(text)-3000:]
	}
	return b.String() + text
}

var versionNumber = regexp.MustCompile(`\d+\.\d+(\.\d+)?([.-]\w+)*`)

// version asks a client for its version, outside of a run.
func version(t *testing.T, w *harness.World, c client) string {
	t.Helper()
	if len(c.version) == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.version[0], c.version[1:]...)
	cmd.Env, cmd.Dir = w.Environ(c.env...), w.Work()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v\n%s", c.version, err, out)
	}
	return versionNumber.FindString(string(out))
}
