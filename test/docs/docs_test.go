package docs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// What the person types at each login, by provider and connection. The fake
// internet accepts nothing else.
var keys = map[string]string{
	"openai":          "sk-proj-canaryOpenAI0123456789abcdefghij",
	"anthropic":       "sk-ant-canaryAnthropic0123456789abcdef",
	"github":          "ghp_canaryPersonal0123456789abcdefghijkl",
	"github personal": "ghp_canaryPersonal0123456789abcdefghijkl",
	"github work":     "ghp_canaryWork0123456789abcdefghijklmnop",
	"acme":            "ak_canaryacme0123456789",
}

// block is one fenced block of a page.
type block struct {
	page string
	line int    // of its first line of text, from 1
	lang string // "sh", "json" …
	file string // of file=NAME, "" without
	text string
}

// blocks takes a page apart. A fence that is not closed is an error.
func blocks(page, text string) ([]block, error) {
	var all []block
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			b := block{page: page, line: i + 2}
			for j, word := range strings.Fields(fence) {
				if name, ok := strings.CutPrefix(word, "file="); ok {
					b.file = name
				} else if j == 0 {
					b.lang = word
				}
			}
			open = &b
		case isFence:
			all, open = append(all, *open), nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s:%d: the block is not closed", page, open.line)
	}
	return all, nil
}

// TestBlocksRun runs every block marked sh as it stands, in the order of its
// page, in a world of its own for each page. Blocks with file=NAME are written
// to that file first. What only shows something is marked text, and not run.
//
// Three kinds of line are not run as they stand; see prepare.
func TestBlocksRun(t *testing.T) {
	for _, page := range pages(t) {
		t.Run(strings.ReplaceAll(page, "/", "-"), func(t *testing.T) {
			t.Parallel()
			all, err := blocks(page, read(t, page))
			if err != nil {
				t.Fatal(err)
			}
			var w *harness.World
			for _, b := range all {
				switch {
				case b.lang == "bash" || b.lang == "shell":
					t.Errorf("%s:%d: a block of %s would never be run: call it sh, or text", b.page, b.line, b.lang)
					continue
				case b.file == "" && b.lang != "sh":
					continue
				case w == nil:
					w = newWorld(t)
				}
				if b.file != "" {
					if !filepath.IsLocal(b.file) {
						t.Fatalf("%s:%d: file=%s leads out of the directory", b.page, b.line, b.file)
					}
					if err := os.WriteFile(filepath.Join(w.Work(), b.file), []byte(b.text), 0o600); err != nil {
						t.Fatal(err)
					}
					continue
				}
				script, err := prepare(b, read(t, "Makefile"))
				if err != nil {
					t.Fatal(err)
				}
				if out, err := runScript(w, script); err != nil {
					t.Fatalf("%s: the block at line %d: %v\n%s", b.page, b.line, err, out)
				}
			}
		})
	}
}

func newWorld(t *testing.T) *harness.World {
	t.Helper()
	w, err := harness.Start(binary, internet.Credentials{
		OpenAI: keys["openai"], Anthropic: keys["anthropic"], GitHub: []string{keys["github personal"], keys["github work"]},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	// For `authsome login openai --stdin < key.txt`.
	if err := os.WriteFile(filepath.Join(w.Work(), "key.txt"), []byte(keys["openai"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// runScript runs a script with the program's directory, and that of the clients
// from npm, in front of PATH, and without a terminal.
func runScript(w *harness.World, script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	npm, err := filepath.Abs("../npm/node_modules/.bin")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "bash", "-E", "-e", "-u", "-o", "pipefail", "-c", script)
	cmd.Dir = w.Work()
	cmd.Env = w.Environ("PATH=" + strings.Join([]string{filepath.Dir(binary), npm, os.Getenv("PATH")}, string(os.PathListSeparator)))
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = errors.Join(err, errors.New("it did not end in two minutes"))
	}
	return string(out), err
}

var (
	loginLine    = regexp.MustCompile(`^authsome login ([a-z0-9-]+)(.*)$`)
	connectionOf = regexp.MustCompile(`--connection[ =]([a-z0-9-]+)`)
	agentLine    = regexp.MustCompile(`^authsome run( .*)? -- codex$`)
	evalLine     = regexp.MustCompile(`^eval "(\$\(.*\))"$`)
	makeLine     = regexp.MustCompile(`^make ([a-z-]+)$`)
)

// prepare makes the script of a block. It keeps the page's line numbers, so
// that a failure names them. These lines are changed, and no others:
//
//   - `authsome login P` without --stdin or --no-wait asks a person. The person
//     is played by the test: the key comes by --stdin.
//   - `authsome run -- codex` opens Codex's screen, which waits for a person.
//     With --explain all is done but the start itself. (test/journey starts the
//     real screen.)
//   - `make X` must be a target of the Makefile. It is not run: this test is
//     part of one of them, and makes of others take minutes.
//
// `eval "$(…)"` is taken in two steps, because the shell forgets the exit code
// of what stands inside.
func prepare(b block, makefile string) (string, error) {
	lines := []string{`trap 'echo "` + b.page + `:$LINENO: exit code $?" >&2' ERR`}
	for len(lines) < b.line-1 {
		lines = append(lines, "")
	}
	for i, line := range strings.Split(b.text, "\n") {
		command := strings.TrimRight(line, " ")
		if at := strings.Index(command, " #"); at >= 0 {
			command = strings.TrimRight(command[:at], " ")
		}
		if m := loginLine.FindStringSubmatch(command); m != nil && !strings.Contains(m[2], "--stdin") && !strings.Contains(m[2], "--no-wait") {
			who := m[1]
			if c := connectionOf.FindStringSubmatch(m[2]); c != nil {
				who += " " + c[1]
			}
			key := keys[who]
			if key == "" {
				return "", fmt.Errorf("%s:%d: the test has no key to type for %s", b.page, b.line+i, who)
			}
			command += " --stdin <<< '" + key + "'"
		}
		if agentLine.MatchString(command) {
			command = strings.Replace(command, "authsome run", "authsome run --explain", 1)
		}
		if m := evalLine.FindStringSubmatch(command); m != nil {
			command = `evaluated="` + m[1] + `"; eval "$evaluated"`
		}
		if m := makeLine.FindStringSubmatch(command); m != nil {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				return "", fmt.Errorf("%s:%d: the Makefile has no target %s", b.page, b.line+i, m[1])
			}
			command = ""
		}
		lines = append(lines, command)
	}
	return strings.Join(lines, "\n"), nil
}

// TestBlockFails shows that a block whose command fails is reported with the
// page's line, whatever follows it.
func TestBlockFails(t *testing.T) {
	all, err := blocks("page.md", "# Page\n\n```sh\ntrue\nauthsome inspect nothing  # a comment\ntrue\n```\n")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d blocks, %v", len(all), err)
	}
	w := newWorld(t)
	script, err := prepare(all[0], "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := runScript(w, script)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 4 || !strings.Contains(out, "page.md:5:") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, text := range []string{"make nothing\n", "authsome login stranger\n"} {
		if script, err := prepare(block{page: "page.md", line: 1, lang: "sh", text: text}, "test:\n"); err == nil {
			t.Errorf("accepted %q as %q", text, script)
		}
	}
	if _, err := blocks("page.md", "```sh\ntrue\n"); err == nil {
		t.Error("a block that is not closed was accepted")
	}
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// TestLinks follows every relative link, to its heading where it names one.
func TestLinks(t *testing.T) {
	for _, page := range append(pages(t), "CHANGELOG.md") {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			name, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if name != "" {
				target = filepath.Join(filepath.Dir(page), name)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					err = errors.New("there is no such file")
				}
				t.Errorf("%s: link to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !hasHeading(read(t, target), anchor) {
				t.Errorf("%s: link to %s: there is no such heading", page, m[1])
			}
		}
	}
}

// hasHeading reports whether a heading has this anchor, made as GitHub does.
func hasHeading(text, anchor string) bool {
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), "")
		if strings.ReplaceAll(slug, " ", "-") == anchor {
			return true
		}
	}
	return false
}
