package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome/test/harness"
)

// hostile is a directory for the bundle whose name has to be quoted everywhere.
func hostile(t *testing.T, w *harness.World) string {
	t.Helper()
	dir := filepath.Join(w.Dir, `a "cache" of Jo's`)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return "XDG_CACHE_HOME=" + dir
}

// programs are the Nodes to try: the system's, with -all every one.
func programs(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for name, path := range map[string]string{"the system's": "node", "24": "../npm/node_modules/.bin/node"} {
		if path, err := exec.LookPath(path); err == nil {
			found[name], _ = filepath.Abs(path)
		}
	}
	for _, n := range nodes {
		if *all && n.pkg != "node" {
			found[n.version], _ = filepath.Abs("../npm-clients/node_modules/" + n.pkg + "/bin/node")
		}
	}
	if len(found) == 0 {
		t.Fatal("there is no Node: run test/install.sh")
	}
	return found
}

// findings compares a script's lines with what they must be.
func findings(t *testing.T, output string, want []string) {
	t.Helper()
	got := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("not found: %s\nin:\n%s", line, output)
		}
	}
}

// TestNodeShim looks at what the shim leaves alone, from a place with a name
// that has to be quoted, behind options of the person's own.
func TestNodeShim(t *testing.T) {
	w := newWorld(t)
	env := []string{hostile(t, w), `NODE_OPTIONS=--no-warnings --title="a \"b\" c"`, "NO_PROXY=.elsewhere.example,port.example:443"}
	for name, node := range programs(t) {
		t.Run(name, func(t *testing.T) {
			direct.take()
			code, out := under(w, nil, env, []string{node, "lean/shim.mjs"})()
			if code != 0 {
				t.Fatalf("exit code %d\n%s", code, out)
			}
			findings(t, out, []string{
				"an agent for a proxy: 200", "agent: false: 200", "a URL and options: 200", "in a worker: 200",
				"http on this machine: local", "https on this machine: true", "fetch, NO_PROXY: true", "https, NO_PROXY: true",
				"names: fetch get request function function", "without the variables: true",
			})
			for _, line := range strings.Split(out, "\n") {
				if what, value, _ := strings.Cut(line, ": "); strings.HasSuffix(what, "refused") && (value == "200" || value == "undefined") {
					t.Errorf("a refusal of the proxy is told as %s", value)
				}
			}
			went := direct.take()
			for _, host := range []string{"sub.elsewhere.example", "port.example", "unset.example"} {
				if !slices.Contains(went, host) {
					t.Errorf("%s was not asked for directly; those that were: %q", host, went)
				}
			}
			for _, host := range []string{"api.openai.com", "unknown.example.com"} {
				if slices.Contains(went, host) {
					t.Errorf("%s was asked for directly", host)
				}
			}
			if _, out := under(w, nil, env, []string{node, "-e", ""})(); out != "" {
				t.Errorf("a program that does nothing prints %q", out)
			}
			if _, out := under(w, nil, env, []string{node, "-p", "process.title"})(); strings.TrimSpace(out) != `a "b" c` {
				t.Errorf("the person's own options have become %q", out)
			}
			if *all && major(name) < 24 {
				if _, out := under(w, nil, nil, []string{node, "js/dispatcher.mjs"})(); !strings.Contains(out, "mine: true, asked: 1") {
					t.Errorf("the program's own dispatcher: %s", out)
				}
			}
		})
	}
}

// TestPythonShim does the same for Python, with a sitecustomize of the person's
// own, one that fails, and none.
func TestPythonShim(t *testing.T) {
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		python = "python3"
	}
	w := newWorld(t)
	mine := filepath.Join(w.Dir, "my python")
	broken := filepath.Join(w.Dir, "broken")
	for dir, text := range map[string]string{mine: "MINE = 'yes'\n", broken: "raise ValueError('mine is broken')\n"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{hostile(t, w), "NO_PROXY=elsewhere.example"}
	direct.take()
	code, out := under(w, nil, append(env, "PYTHONPATH="+mine), []string{python, "py/shim.py"})()
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	findings(t, out, []string{
		"sitecustomize: yes", "in front: python", "routed: 200", "NO_PROXY: True", "this machine: True", "a tunnel: 200", "without the variables: True",
	})
	if !strings.Contains(out, "refused: OSError Tunnel connection failed: ") {
		t.Errorf("a refusal of the proxy is told otherwise:\n%s", out)
	}
	if went := direct.take(); !slices.Contains(went, "sub.elsewhere.example") || !slices.Contains(went, "unset.example") || slices.Contains(went, "api.openai.com") {
		t.Errorf("asked for directly: %q", went)
	}

	// The same with and without the shim.
	for name, path := range map[string]string{"none of their own": "", "a broken one": broken} {
		show := func(flags ...string) string {
			environ := slices.Clone(env)
			if path != "" {
				environ = append(environ, "PYTHONPATH="+path)
			}
			_, out := under(w, flags, environ, []string{python, "-c", "import sys; print('sitecustomize' in sys.modules)"})()
			return out
		}
		with, without := show(), show("--no-shim", "python")
		if with != without && (path == "" || !strings.Contains(with, "mine is broken")) {
			t.Errorf("%s: with the shim\n%s\nand without\n%s", name, with, without)
		}
	}

	// Other Pythons, where there are any, start as ever.
	for _, other := range []string{"python2", "python2.7", "pypy3", "python3"} {
		path, err := exec.LookPath(other)
		if err != nil {
			continue
		}
		plain := exec.Command(path, "-c", "print(1)")
		plain.Env = w.Environ()
		if out, err := plain.CombinedOutput(); err != nil || string(out) != "1\n" {
			continue // not one that works, as a launcher without its home
		}
		if code, out := under(w, nil, append(env, "PYTHONPATH="+mine), []string{path, "-c", "import sitecustomize; print(sitecustomize.MINE)"})(); code != 0 || out != "yes\n" {
			t.Errorf("%s: exit code %d\n%s", other, code, out)
		}
	}
}
