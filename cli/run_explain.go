package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/authsome/authsome/launch"
)

// explanation is what `run --explain --json` prints. It holds no token.
type explanation struct {
	Command   []string          `json:"command"` // as it would be started
	Path      string            `json:"path"`
	Providers map[string]string `json:"providers"` // → connection
	Only      []string          `json:"only"`      // the providers that the run is limited to; none means all
	Scrubbed  bool              `json:"scrubbed"`  // answers do not tell the credentials
	Hosts     []string          `json:"hosts"`
	Profile   string            `json:"profile,omitempty"`
	Arguments []launch.Addition `json:"arguments"`
	Shims     []launch.Shim     `json:"shims"`
	Notes     []string          `json:"notes"`
	Changes   []launch.Change   `json:"environment"`
	Outer     bool              `json:"inside_run"`
}

// explain says what the command would get.
func (a *app) explain(argv []string, path string, plan *launch.Plan, changes []launch.Change, shims []launch.Shim, g *heldGrant) error {
	e := explanation{
		Command: argv, Path: path, Providers: g.info.Providers, Only: g.info.Only, Scrubbed: !g.info.NoScrub, Hosts: g.info.Hosts,
		Arguments: []launch.Addition{}, Shims: shims, Notes: []string{}, Changes: changes, Outer: g.outer,
	}
	if e.Providers == nil {
		e.Providers = map[string]string{}
	}
	if e.Only == nil {
		e.Only = []string{}
	}
	if e.Hosts == nil {
		e.Hosts = []string{}
	}
	if plan != nil {
		e.Command, e.Profile = plan.Argv, plan.Profile
		e.Arguments = append(e.Arguments, plan.Added...)
		e.Notes = append(e.Notes, plan.Notes...)
	}
	return a.result(e, e.text)
}

func (e explanation) text() string {
	var b strings.Builder
	quoted := make([]string, len(e.Command))
	for i, w := range e.Command {
		quoted[i] = shellWord(cleanLine(w))
	}
	fmt.Fprintf(&b, "Command: %s\nFile:    %s\n", strings.Join(quoted, " "), cleanLine(e.Path))
	if e.Outer {
		b.WriteString("Grant:   that of the run around it\n")
	}
	var used []string
	for _, p := range slices.Sorted(maps.Keys(e.Providers)) {
		used = append(used, p+"="+e.Providers[p])
	}
	if len(used) == 0 {
		used = []string{"none"}
	}
	fmt.Fprintf(&b, "Uses:    %s\n", cleanLine(strings.Join(used, ", ")))
	if len(e.Only) > 0 {
		fmt.Fprintf(&b, "Limited: to %s (--provider)\n", cleanLine(strings.Join(e.Only, ", ")))
	}
	if !e.Scrubbed {
		b.WriteString("Answers: as they are, also where they tell a credential (--no-scrub)\n")
	}
	if len(e.Hosts) > 0 {
		fmt.Fprintf(&b, "Routes:  %s\n", cleanLine(strings.Join(e.Hosts, ", ")))
	}
	if e.Profile != "" {
		fmt.Fprintf(&b, "Profile: %s (--no-profile leaves it out)\n", e.Profile)
	}
	for i, s := range e.Shims {
		title := "        "
		if i == 0 {
			title = "Shims:  "
		}
		fmt.Fprintf(&b, "%s %s, which %s (--no-shim %s leaves it out)\n", title, s.Name, s.Does, s.Name)
	}
	if len(e.Arguments) > 0 {
		b.WriteString("\nArguments that are added:\n")
		for _, add := range e.Arguments {
			words := make([]string, len(add.Arguments))
			for i, w := range add.Arguments {
				words[i] = shellWord(w)
			}
			fmt.Fprintf(&b, "  %s\n      %s\n", strings.Join(words, " "), add.Why)
		}
	}
	b.WriteString("\nEnvironment:\n")
	for _, c := range e.Changes {
		sign, value := "+", "="+c.Value
		switch c.Act {
		case "removed":
			sign, value = "-", ""
		case "replaced":
			sign = "~"
		}
		fmt.Fprintf(&b, "  %s %s\n      %s\n", sign, cleanLine(c.Name+value), cleanLine(c.Why))
	}
	for _, n := range e.Notes {
		fmt.Fprintf(&b, "\nNote: %s\n", n)
	}
	return b.String()
}

// shellWord quotes a word where a shell would take it apart.
func shellWord(w string) string {
	if w != "" && strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,") == "" {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
