package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

func newDoctorCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check that everything works, and say what to do where it does not",
		Long: `Check the home, the daemon, the vault, the providers, the proxy and its
certificates. Each line is a check; each failure comes with what to do. The exit
code is 1 when something is broken.`,
		Example: `  authsome doctor`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := a.examine(cmd.Context())
			doc := diagnose(checks)
			if err := a.result(doc, func() string { return a.doctorText(checks) }); err != nil {
				return err
			}
			if doc.Status != ready {
				return exitStatus(exitCodes[authsome.NotReady])
			}
			return nil
		},
	}
}

const (
	ready    = "ready"
	notReady = "not_ready"
)

// diagnosis has the keys of the Python authsome, and the checks in full.
type diagnosis struct {
	Status   string            `json:"status"`
	Checks   map[string]string `json:"checks"` // name → ok, fail or warn
	Issues   []string          `json:"issues"`
	Warnings []string          `json:"warnings"`
	Details  []api.Check       `json:"details"`
}

func diagnose(checks []api.Check) diagnosis {
	d := diagnosis{Status: ready, Checks: map[string]string{}, Issues: []string{}, Warnings: []string{}, Details: checks}
	for _, c := range checks {
		text := c.Name + ": " + c.Text
		if c.Fix != "" {
			text += " (" + c.Fix + ")"
		}
		switch {
		case !c.OK:
			d.Status = notReady
			d.Checks[c.Name] = "fail"
			d.Issues = append(d.Issues, text)
		case c.Warn:
			d.Checks[c.Name] = "warn"
			d.Warnings = append(d.Warnings, text)
		default:
			d.Checks[c.Name] = "ok"
		}
	}
	return d
}

// examine makes the checks: those that need no daemon, the daemon itself, then
// what it finds.
func (a *app) examine(ctx context.Context) []api.Check {
	home := a.checkHome()
	checks := []api.Check{home}
	daemon, c := a.checkDaemon(ctx)
	checks = append(checks, daemon)
	if c == nil {
		return checks
	}
	d, err := c.Doctor(ctx)
	if err != nil {
		return append(checks, failed("checks", err))
	}
	for _, check := range d.Checks {
		if check.Name != home.Name && check.Name != daemon.Name {
			checks = append(checks, check)
			continue
		}
		// The daemon looks deeper, but cannot undo what was found here.
		for i := range checks {
			if checks[i].Name == check.Name && checks[i].OK {
				checks[i] = check
			}
		}
	}
	return checks
}

// failed is a check that an error answers.
func failed(name string, err error) api.Check {
	return api.Check{Name: name, Text: err.Error(), Fix: authsome.HintOf(err)}
}

// checkHome looks at the home from here, since a daemon that cannot use it
// cannot say so.
func (a *app) checkHome() api.Check {
	home, err := a.home()
	if err != nil {
		return failed("home", err)
	}
	fi, err := os.Lstat(home)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Check{Name: "home", OK: true, Text: home + " does not exist yet"}
	case err != nil:
		return api.Check{Name: "home", Text: fmt.Sprintf("%s: %v", home, cause(err)), Fix: "set AUTHSOME_HOME to a directory of your own"}
	case !fi.IsDir():
		return api.Check{Name: "home", Text: home + " is not a directory", Fix: "set AUTHSOME_HOME to a directory of your own"}
	}
	return api.Check{Name: "home", OK: true, Text: home}
}

// checkDaemon connects to the daemon, starting it as every command does.
func (a *app) checkDaemon(ctx context.Context) (api.Check, *api.Client) {
	c, err := a.client(ctx)
	if err != nil {
		return failed("daemon", err), nil
	}
	h, err := c.Health(ctx)
	if err != nil {
		return failed("daemon", err), nil
	}
	check := api.Check{Name: "daemon", OK: true, Text: fmt.Sprintf("version %s, process %d", h.Version, h.PID)}
	if h.Version != authsome.Version {
		check.OK, check.Fix = false, "authsome daemon restart"
		check.Text += fmt.Sprintf("; this program is version %s", authsome.Version)
	}
	return check, c
}

// doctorText is a line for each check, and one more with what to do.
func (a *app) doctorText(checks []api.Check) string {
	var b strings.Builder
	for _, c := range checks {
		word, colour := "OK", green
		switch {
		case !c.OK:
			word, colour = "FAIL", red
		case c.Warn:
			word, colour = "WARN", yellow
		}
		fmt.Fprintf(&b, "%s: %s", cleanLine(c.Name), a.paint(a.Stdout, colour, word))
		if c.Text != "" {
			fmt.Fprintf(&b, "  %s", a.paint(a.Stdout, dim, cleanLine(c.Text)))
		}
		b.WriteByte('\n')
		if c.Fix != "" && (!c.OK || c.Warn) {
			fmt.Fprintf(&b, "  fix: %s\n", cleanLine(c.Fix))
		}
	}
	d := diagnose(checks)
	switch {
	case d.Status != ready:
		fmt.Fprintf(&b, "\nNot ready: %d of %d checks failed.\n", len(d.Issues), len(checks))
	case len(d.Warnings) > 0:
		fmt.Fprintf(&b, "\nReady, with %d warning(s).\n", len(d.Warnings))
	default:
		b.WriteString("\nReady.\n")
	}
	return b.String()
}
