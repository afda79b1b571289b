// Package journey runs the built authsome with real clients against the fake
// internet, as a person would.
package journey

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// The planted secrets. TestCanaries looks for them wherever they do not belong.
const (
	openaiKey    = "sk-proj-canaryOpenAI0123456789abcdefghij"
	anthropicKey = "sk-ant-canaryAnthropic0123456789abcdef"
	personalKey  = "ghp_canaryPersonal0123456789abcdefghijkl"
	workKey      = "ghp_canaryWork0123456789abcdefghijklmnop"
)

// binary is the program under test: built once, or the one that
// AUTHSOME_TEST_BINARY names.
var binary string

func TestMain(m *testing.M) { os.Exit(harness.Main(&binary, m.Run)) }

// newWorld is a fresh home with the daemon up and nothing logged in.
func newWorld(t *testing.T) *harness.World {
	t.Helper()
	w, err := harness.Start(binary, internet.Credentials{
		OpenAI: openaiKey, Anthropic: anthropicKey, GitHub: []string{personalKey, workKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(w.AuthsomeHome(), "daemon.log"))
			for _, q := range w.Internet.Requests("") {
				t.Logf("arrived: %s %s%s -> %d", q.Method, q.Host, q.Path, q.Status)
			}
			t.Logf("asked for by CONNECT: %q", w.Internet.Dialled())
			t.Logf("everything that was printed:\n%s\nthe daemon's log:\n%s", w.Output(), log)
		}
		w.Close()
	})
	return w
}

// login connects a provider by key.
func login(t *testing.T, w *harness.World, key string, args ...string) {
	t.Helper()
	must(t, w.Command(append([]string{"login", "--stdin"}, args...)...).Input(key+"\n"))
}

// must runs a command that has to succeed and returns its standard output.
func must(t *testing.T, c *harness.Command) string {
	t.Helper()
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// tool finds a program that make test installs. On Debian a missing one is a
// failure; elsewhere the test is skipped.
func tool(t *testing.T, name string) string {
	t.Helper()
	if path, err := filepath.Abs(filepath.Join("../npm/node_modules/.bin", name)); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return installed(t, name)
}

// installed finds a program by PATH alone.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if _, derr := os.Stat("/etc/debian_version"); derr == nil {
		t.Fatalf("%s is missing: run test/install.sh", name)
	}
	t.Skipf("%s is missing", name)
	return ""
}

// node is the Node that make test installs: one that can use a proxy by
// variable, which the one that is installed often cannot.
func node(t *testing.T) string {
	t.Helper()
	return tool(t, "node")
}

// contains fails the test unless every part is in text.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in:\n%s", p, text)
		}
	}
}

// lacks fails the test if any part is in text.
func lacks(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if strings.Contains(text, p) {
			t.Errorf("%q is in:\n%s", p, text)
		}
	}
}
