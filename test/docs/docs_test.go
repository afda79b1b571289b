// Package docs holds the documentation to be true: every command block in
// README.md and docs runs, every link leads somewhere, and every command of the
// program is described.
package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

const root = "../.."

// keys are what the person who follows the documentation types.
var keys = map[string]string{
	"openai": "sk-proj-documentation0123456789abcdef",
	"github": "ghp_documentation0123456789abcdefghijk",
	"acme":   "ak_documentation",
}

func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no documentation: %v", err)
	}
	return append([]string{filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")}, found...)
}

// block is one fenced block.
type block struct {
	line int
	info string // "sh", "json file=acme.json"
	text string
}

func blocks(t *testing.T, page string) (out []block) {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	for i, line := range strings.Split(string(data), "\n") {
		switch fence, ok := strings.CutPrefix(line, "```"); {
		case ok && open == nil:
			open = &block{line: i + 1, info: strings.TrimSpace(fence)}
		case ok:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Errorf("%s:%d: a block without an end", page, open.line)
	}
	return out
}

var plainLogin = regexp.MustCompile(`^authsome login ([a-z-]+)`)

// played is the line as the test runs it: where a person would be asked, the
// person is played. A key is typed by way of standard input, Codex's screen is
// asked for by --explain, a question is answered by --yes, and make's targets
// are looked at, since this is one of them.
func played(line string) string {
	code, _, _ := strings.Cut(line, " #")
	code = strings.TrimSpace(code)
	switch {
	case strings.HasPrefix(code, "make "):
		return "make -n -C " + root + " " + strings.TrimPrefix(code, "make ") + " >/dev/null"
	case code == "authsome run -- codex":
		return "authsome run --explain -- codex"
	case strings.Contains(code, "--stdin"):
		return code
	}
	if m := plainLogin.FindStringSubmatch(code); m != nil {
		return "printf '%s\\n' '" + keys[m[1]] + "' | " + code + " --stdin"
	}
	return code
}

// TestBlocks runs every sh block, each page in a home of its own in which the
// services that it speaks of are connected.
func TestBlocks(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "authsome")
	build := exec.Command("go", "build", "-o", binary, "./cmd/authsome")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build authsome: %v\n%s", err, out)
	}
	clients, err := filepath.Abs("../npm/node_modules/.bin")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, page := range pages(t) {
		t.Run(filepath.Base(page), func(t *testing.T) {
			w, err := harness.Start(binary, internet.Credentials{OpenAI: keys["openai"], GitHub: []string{keys["github"]}})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			run := func(script string) ([]byte, error) {
				cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
				cmd.Env, cmd.Dir = w.Environ("PATH="+dir+":"+clients+":"+os.Getenv("PATH")), w.Work()
				return cmd.CombinedOutput()
			}
			if err := os.WriteFile(filepath.Join(w.Work(), "key.txt"), []byte(keys["openai"]+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			// Who reads a page after the README is logged in already.
			if filepath.Base(page) != "README.md" {
				for _, p := range []string{"openai", "github"} {
					if out, err := run(played("authsome login " + p)); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
				}
			}
			for _, b := range blocks(t, page) {
				lang, file, _ := strings.Cut(b.info, " file=")
				switch {
				case file != "":
					if err := os.WriteFile(filepath.Join(w.Work(), filepath.Base(file)), []byte(b.text), 0o600); err != nil {
						t.Fatal(err)
					}
				case lang == "sh":
					for line := range strings.Lines(b.text) {
						script := strings.ReplaceAll(played(line), root, filepath.Join(here, root))
						if script == "" {
							continue
						}
						ran++
						if out, err := run(script); err != nil {
							t.Errorf("%s:%d: %s: %v\n%s", page, b.line, strings.TrimSpace(line), err, out)
						}
					}
				case lang == "bash" || lang == "shell":
					t.Errorf("%s:%d: a block of %s is not run: call it sh, or text", page, b.line, lang)
				}
			}
		})
	}
	if ran < 30 {
		t.Errorf("only %d commands were found in the documentation", ran)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestLinks: every relative link leads to a file.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			}
		}
	}
}

var subcommand = regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`)

// TestCommandsAreDescribed walks the help and looks for every command in
// docs/cli.md.
func TestCommandsAreDescribed(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "authsome")
	build := exec.Command("go", "build", "-o", binary, "./cmd/authsome")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build authsome: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	// Line breaks in the page may fall into a command.
	page := strings.Join(strings.Fields(string(text)), " ")
	seen := 0
	var walk func(path []string)
	walk = func(path []string) {
		cmd := exec.Command(binary, append(path, "--help")...)
		cmd.Env = []string{"HOME=" + dir, "AUTHSOME_HOME=" + dir}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v --help: %v", path, err)
		}
		_, list, ok := strings.Cut(string(out), "Examples:")
		if !ok {
			list = string(out)
		}
		list, _, _ = strings.Cut(list, "\nFlags:")
		for _, m := range subcommand.FindAllStringSubmatch(list, -1) {
			full := append(append([]string(nil), path...), m[1])
			seen++
			name := strings.Join(full, " ")
			if len(full) > 1 && full[0] == "completion" {
				continue
			}
			if !strings.Contains(page, "authsome "+name) && !strings.Contains(page, "`"+name) {
				t.Errorf("authsome %s is not in docs/cli.md", name)
			}
			walk(full)
		}
	}
	walk(nil)
	if seen < 25 {
		t.Errorf("only %d commands were found: %s", seen, "does the help look different now?")
	}
}
