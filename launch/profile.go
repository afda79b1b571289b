package launch

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tailscale/hujson"
)

// A profile is what one agent needs beyond the environment that all get: data
// in profiles/, one file for each agent, in the form of these types.
type profile struct {
	Name string `json:"name"`
	// Commands are base names, without ".exe" and the like; Packages are what
	// npx and its kin are given.
	Commands []string `json:"commands"`
	Packages []string `json:"packages"`
	// OptionsWithValue take the next word, OptionsWithValues all words up to the
	// next option. They are needed to find the subcommand, which is the first
	// word that belongs to no option, if it is one of Subcommands; any other
	// first word is a prompt or a file.
	OptionsWithValue  []string `json:"options_with_value"`
	OptionsWithValues []string `json:"options_with_values"`
	Subcommands       []string `json:"subcommands"`
	Rules             []rule   `json:"rules"`
}

// rule is one thing to add or remove, and when. All conditions that are given
// must hold.
type rule struct {
	Why              string   `json:"why"`
	Connected        string   `json:"connected"`         // this provider is connected
	ConnectedBesides string   `json:"connected_besides"` // another one than this is
	Subcommands      []string `json:"subcommands"`       // "" is none
	// Since and Before are versions; Before is exclusive. A version that cannot
	// be seen without starting the program counts as the newest.
	Since  string `json:"since"`
	Before string `json:"before"`
	// WithArguments and UnlessArguments are RE2 expressions for one option with
	// its value ("--opt value", "--opt=value", "-ovalue") or one word; UnlessFiles
	// for a file's content. UnlessVariables are names that the person has set.
	WithArguments   []string    `json:"with_arguments"`
	UnlessArguments []string    `json:"unless_arguments"`
	UnlessVariables []string    `json:"unless_variables"`
	UnlessFiles     []fileMatch `json:"unless_files"`

	Set       map[string]string `json:"set"`
	Unset     []string          `json:"unset"`
	Arguments []string          `json:"arguments"` // in front of all others
	Note      string            `json:"note"`      // a line for the person
}

// fileMatch is an expression for what stands in a file of the agent's. Path may
// begin with "~/" or "${NAME:-default}/".
type fileMatch struct {
	Path    string `json:"path"`
	Matches string `json:"matches"`
}

//go:embed profiles/*.jsonc
var profileFiles embed.FS

// profiles reads those of the embedded files, which a test has checked, whose
// text has one of the words; "" stands for all. Most commands have no profile,
// and reading one takes longer than all else that is done to an environment.
func profiles(words ...string) ([]profile, error) {
	entries, err := profileFiles.ReadDir("profiles")
	if err != nil {
		return nil, err
	}
	var out []profile
	for _, e := range entries {
		data, err := profileFiles.ReadFile(path.Join("profiles", e.Name()))
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(data, []byte(w)) }) {
			continue
		}
		p, err := parseProfile(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		out = append(out, p)
	}
	return out, nil
}

func parseProfile(data []byte) (profile, error) {
	var p profile
	std, err := hujson.Standardize(data)
	if err != nil {
		return p, err
	}
	dec := json.NewDecoder(strings.NewReader(string(std)))
	dec.DisallowUnknownFields()
	return p, dec.Decode(&p)
}

// Facts are what a profile's conditions look at.
type Facts struct {
	Environ   []string // the parent's
	OS        string
	Path      string   // the file that will be started, from Find
	Connected []string // provider names
}

// Plan is what a profile makes of a command.
type Plan struct {
	Profile string // the agent's name
	// Argv is the whole command, the program's name first.
	Argv  []string
	Set   map[string]Setting
	Unset map[string]string // name → why
	Added []Addition
	Notes []string
}

// Setting is a variable's value and the reason for it.
type Setting struct{ Value, Why string }

// Addition is a group of arguments that was added.
type Addition struct {
	Arguments []string `json:"arguments"`
	Why       string   `json:"why"`
}

// Profile finds the agent that a command starts, and plans what it needs. It
// returns nil for a command without a profile.
func Profile(argv []string, facts Facts) *Plan {
	if len(argv) == 0 {
		return nil
	}
	word := `"` + commandName(argv[0]) + `"`
	if _, is := runners[commandName(argv[0])]; is || slices.Contains(interpreters, commandName(argv[0])) {
		word = "" // the agent's name comes later
	}
	list, err := profiles(word)
	if err != nil {
		return nil
	}
	for i := range list {
		p := &list[i]
		if at, version, ok := p.find(argv); ok {
			return p.plan(argv, at, version, facts)
		}
	}
	return nil
}

// runners start a package by its name: npx codex, pnpm dlx @openai/codex. The
// words between are the runner's subcommand.
var runners = map[string][]string{"npx": nil, "bunx": nil, "pnpx": nil, "pnpm": {"dlx"}, "bun": {"x"}, "yarn": {"dlx"}}

// interpreters start a script by its path: node …/codex.js.
var interpreters = []string{"node", "bun", "deno"}

// find looks for the agent in a command and returns the index of the first of
// its own arguments, and the version where the command names one.
func (p *profile) find(argv []string) (at int, version string, ok bool) {
	name := commandName(argv[0])
	if slices.Contains(p.Commands, name) {
		return 1, "", true
	}
	if words, is := runners[name]; is && len(argv) > len(words) && slices.Equal(argv[1:1+len(words)], words) {
		for i := 1 + len(words); i < len(argv); i++ {
			switch arg := argv[i]; {
			case arg == "-p" || arg == "--package" || arg == "-c" || arg == "--call":
				return 0, "", false // too much of the runner's own to tell
			case strings.HasPrefix(arg, "-"):
			default:
				pkg, version := arg, ""
				if j := strings.LastIndexByte(arg, '@'); j > 0 {
					pkg, version = arg[:j], arg[j+1:]
				}
				return i + 1, version, slices.Contains(p.Packages, pkg) || slices.Contains(p.Commands, pkg)
			}
		}
	}
	if slices.Contains(interpreters, name) && len(argv) > 1 && strings.HasSuffix(argv[1], ".js") {
		return 2, "", slices.Contains(p.Commands, commandName(argv[1]))
	}
	return 0, "", false
}

// commandName is the base name of a program without what Windows and Node put
// behind it.
func commandName(file string) string {
	name := file[strings.LastIndexAny(file, `/\`)+1:]
	for _, ext := range []string{".exe", ".cmd", ".bat", ".ps1", ".js"} {
		if len(name) > len(ext) && strings.EqualFold(name[len(name)-len(ext):], ext) {
			return name[:len(name)-len(ext)]
		}
	}
	return name
}

// words takes a command line apart: options with their values, each as one
// string, and the subcommand.
func (p *profile) words(args []string) (items []string, subcommand string) {
	first := true
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--": // only operands follow
			return items, subcommand
		case slices.Contains(p.OptionsWithValue, arg) && i+1 < len(args):
			i++
			items = append(items, arg+" "+args[i])
		case slices.Contains(p.OptionsWithValues, arg):
			items = append(items, arg)
			for i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
			}
		case strings.HasPrefix(arg, "-") && arg != "-":
			items = append(items, arg)
		default:
			if first && slices.Contains(p.Subcommands, arg) {
				subcommand = arg
			}
			first = false
			if arg == subcommand {
				items = append(items, arg)
			}
		}
	}
	return items, subcommand
}

func (p *profile) plan(argv []string, at int, version string, facts Facts) *Plan {
	items, subcommand := p.words(argv[at:])
	env := parse(facts.Environ, facts.OS)
	given := func(re string) bool { return slices.ContainsFunc(items, regexp.MustCompile(re).MatchString) }
	plan := &Plan{Profile: p.Name, Argv: argv, Set: map[string]Setting{}, Unset: map[string]string{}}
	var added []string
	for _, r := range p.Rules {
		if r.Connected != "" && !slices.Contains(facts.Connected, r.Connected) ||
			r.ConnectedBesides != "" && !slices.ContainsFunc(facts.Connected, func(c string) bool { return c != r.ConnectedBesides }) ||
			r.Subcommands != nil && !slices.Contains(r.Subcommands, subcommand) ||
			r.WithArguments != nil && !slices.ContainsFunc(r.WithArguments, given) ||
			slices.ContainsFunc(r.UnlessArguments, given) ||
			slices.ContainsFunc(r.UnlessVariables, func(name string) bool { v, _ := env.get(name); return v != "" }) ||
			slices.ContainsFunc(r.UnlessFiles, func(m fileMatch) bool { return m.holds(env) }) {
			continue
		}
		if r.Since != "" || r.Before != "" {
			v := version
			if v == "" {
				v = p.versionOf(facts.Path)
			}
			if r.Since != "" && older(v, r.Since) || r.Before != "" && !older(v, r.Before) {
				continue
			}
		}
		for name, value := range r.Set {
			plan.Set[name] = Setting{value, r.Why}
		}
		for _, name := range r.Unset {
			plan.Unset[name] = r.Why
		}
		if len(r.Arguments) > 0 {
			plan.Added = append(plan.Added, Addition{r.Arguments, r.Why})
			added = append(added, r.Arguments...)
		}
		if r.Note != "" {
			plan.Notes = append(plan.Notes, r.Note)
		}
	}
	if len(added) > 0 {
		plan.Argv = slices.Concat(argv[:at], added, argv[at:])
	}
	return plan
}

// maxAgentFile bounds what is read of an agent's own files.
const maxAgentFile = 1 << 20

func (m fileMatch) holds(env *variables) bool {
	file := m.Path
	if rest, ok := strings.CutPrefix(file, "${"); ok {
		expr, tail, _ := strings.Cut(rest, "}")
		name, fallback, _ := strings.Cut(expr, ":-")
		dir, _ := env.get(name)
		if dir == "" {
			dir = fallback
		}
		file = dir + tail
	}
	if rest, ok := strings.CutPrefix(file, "~/"); ok {
		home := "HOME"
		if env.fold {
			home = "USERPROFILE"
		}
		dir, _ := env.get(home)
		if dir == "" {
			return false
		}
		file = filepath.Join(dir, rest)
	}
	data, err := readRegular(filepath.FromSlash(file), maxAgentFile)
	// The content may hold an agent's own key: it goes no further than this.
	return err == nil && regexp.MustCompile(m.Matches).Match(data)
}

// versionInPath is how package managers name directories: Cellar/codex/0.169.0,
// releases/0.169.0-x86_64-unknown-linux-musl.
var versionInPath = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(-.*)?$`)
})

// versionOf sees an agent's version without starting it, which would take as
// long as all else: in the package.json above a script, or in the path. It
// returns "" when neither says it.
func (p *profile) versionOf(file string) string {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return ""
	}
	dir := filepath.Dir(file)
	for range 4 {
		var pkg struct{ Name, Version string }
		if data, err := os.ReadFile(filepath.Join(dir, "package.json")); err == nil && json.Unmarshal(data, &pkg) == nil && slices.Contains(p.Packages, pkg.Name) {
			return pkg.Version
		}
		if m := versionInPath().FindStringSubmatch(filepath.Base(dir)); m != nil {
			return m[1]
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// older reports whether version a comes before b. What is no version counts as
// newer than all.
func older(a, b string) bool {
	m, n := versionInPath().FindStringSubmatch(a), versionInPath().FindStringSubmatch(b)
	if m == nil || n == nil {
		return false
	}
	x, y := strings.Split(m[1], "."), strings.Split(n[1], ".")
	for i := range x {
		xi, _ := strconv.Atoi(x[i])
		yi, _ := strconv.Atoi(y[i])
		if xi != yi {
			return xi < yi
		}
	}
	return false
}
