package docs

import (
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// command is one command of the program, as its --help shows it.
type command struct {
	path  string   // "authsome connections list"
	flags []string // its own, "--connection" …
}

var (
	helpRow  = regexp.MustCompile(`^  ([a-z][a-z-]*) +\S`)
	helpFlag = regexp.MustCompile(`^ +(?:-[a-z], )?(--[a-z][a-z-]*)`)
)

// walk asks a command and all below it for help. The flags that every command
// has come back apart.
func walk(t *testing.T, args ...string) (all []command, global []string) {
	t.Helper()
	out, err := exec.Command(binary, append(slices.Clone(args), "--help")...).Output()
	if err != nil {
		t.Fatalf("authsome %s --help: %v", strings.Join(args, " "), err)
	}
	c := command{path: strings.Join(append([]string{"authsome"}, args...), " ")}
	section := ""
	var below []string
	for _, line := range strings.Split(string(out), "\n") {
		if line != "" && !strings.HasPrefix(line, " ") && strings.HasSuffix(line, ":") {
			section = line
			continue
		}
		flag := helpFlag.FindStringSubmatch(line)
		switch section {
		case "", "Usage:", "Examples:":
		case "Flags:":
			if flag != nil && len(args) == 0 {
				global = append(global, flag[1])
			} else if flag != nil && flag[1] != "--help" {
				c.flags = append(c.flags, flag[1])
			}
		case "Global Flags:":
		default:
			if row := helpRow.FindStringSubmatch(line); row != nil {
				below = append(below, row[1])
			}
		}
	}
	all = []command{c}
	for _, name := range below {
		if name == "help" {
			continue // is --help by another name
		}
		more, _ := walk(t, append(slices.Clone(args), name)...)
		all = append(all, more...)
	}
	return all, global
}

var (
	cliHeading = regexp.MustCompile("(?m)^#+ .*$")
	inCode     = regexp.MustCompile("`(authsome[a-z -]*)`")
	anyFlag    = regexp.MustCompile(`(?:^|[\s\x60|(])(--[a-z][a-z-]*)`)
	afterDash  = regexp.MustCompile("(?m) -- [^`\n]*")
)

// TestCommandsDocumented holds docs/cli.md and the help of the program against
// each other: every command has a heading; under it every flag that it has is
// named, and none that it has not.
func TestCommandsDocumented(t *testing.T) {
	all, global := walk(t)
	if len(all) < 20 || len(global) < 5 {
		t.Fatalf("help shows %d commands and %d global flags: it is read wrongly", len(all), len(global))
	}
	page := read(t, "docs/cli.md")
	heads := cliHeading.FindAllStringIndex(fenced.ReplaceAllStringFunc(page, func(s string) string {
		return strings.ReplaceAll(s, "#", "-") // comments are no headings
	}), -1)
	byPath := map[string]command{}
	every := slices.Clone(global)
	for _, c := range all {
		byPath[c.path] = c
		every = append(every, c.flags...)
	}
	documented := map[string]bool{}
	for i, at := range heads {
		end := len(page)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		title, body := page[at[0]:at[1]], afterDash.ReplaceAllString(page[at[1]:end], "")
		var own []string
		for _, m := range inCode.FindAllStringSubmatch(title, -1) {
			c, ok := byPath[m[1]]
			if !ok {
				t.Errorf("docs/cli.md has a heading for %q, and the program no such command", m[1])
				continue
			}
			documented[c.path] = true
			own = append(own, c.flags...)
		}
		allowed := append(slices.Clone(global), own...)
		if len(inCode.FindAllString(title, -1)) == 0 {
			allowed = every // general words
		}
		var named []string
		for _, m := range anyFlag.FindAllStringSubmatch(body, -1) {
			named = append(named, m[1])
			if !slices.Contains(allowed, m[1]) {
				t.Errorf("docs/cli.md, %q: there is no flag %s", title, m[1])
			}
		}
		for _, f := range own {
			if !slices.Contains(named, f) {
				t.Errorf("docs/cli.md, %q: the flag %s is not named", title, f)
			}
		}
	}
	for _, c := range all {
		if c.path != "authsome" && !documented[c.path] {
			t.Errorf("docs/cli.md has no heading with `%s`", c.path)
		}
	}
	for _, f := range global {
		if !strings.Contains(page, "`"+f) {
			t.Errorf("docs/cli.md does not name %s", f)
		}
	}
}

var (
	codeOf   = regexp.MustCompile(`(?m)^\tauthsome\.(\w+): +(\d+),$`)
	nameOf   = regexp.MustCompile(`(?m)^\t(\w+) +Code = "(\w+)"`)
	tableRow = regexp.MustCompile(`(?m)^\| (\d+) \| (.*)$`)
)

// TestExitCodesDocumented holds the table of docs/cli.md against that of the
// program: every kind of error stands in the row of its code, and nowhere else.
func TestExitCodesDocumented(t *testing.T) {
	names := map[string]string{}
	for _, m := range nameOf.FindAllStringSubmatch(read(t, "errors.go"), -1) {
		names[m[1]] = m[2]
	}
	codes := map[string]int{}
	for _, m := range codeOf.FindAllStringSubmatch(read(t, "cli/exit.go"), -1) {
		code, err := strconv.Atoi(m[2])
		if err != nil || names[m[1]] == "" {
			t.Fatalf("cli/exit.go: %s is read wrongly", m[0])
		}
		codes[names[m[1]]] = code
	}
	if len(codes) < 10 {
		t.Fatalf("cli/exit.go shows %d codes: it is read wrongly", len(codes))
	}
	rows := tableRow.FindAllStringSubmatch(read(t, "docs/cli.md"), -1)
	for name, code := range codes {
		var in []string
		for _, row := range rows {
			if strings.Contains(row[2], "`"+name+"`") {
				in = append(in, row[1])
			}
		}
		if !slices.Equal(in, []string{strconv.Itoa(code)}) {
			t.Errorf("%s exits with %d, and docs/cli.md has it in the rows %q", name, code, in)
		}
	}
}
