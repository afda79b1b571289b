package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/internal/truststore"
	"github.com/spf13/cobra"
)

func newCAInstallCmd(a *app) *cobra.Command {
	var kinds []string
	var yes bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have this machine's programs trust the authority, for your hosts only",
		Long: `Install a root in the stores where programs look for roots: the system's, the NSS
databases of Firefox and Chromium, and those of Java. It is for programs that read
none of the variables by which ` + "`authsome run`" + ` tells about its authority.

What is installed may sign for the hosts of your connections, as they are now, and
for nothing else: its own key is thrown away at once. After a login to another
service it is to be repeated; doctor says so.

The system's store, and a Java that was installed for all users, can be changed by
root only; sudo is asked for that. What will be done is said first, and you are
asked. Roots of earlier are taken out. It is refused inside a run.`,
		Example: `  authsome ca install
  authsome ca install --store nss --yes`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range kinds {
				if !slices.Contains(truststore.Kinds, truststore.Kind(k)) {
					return usage(cmd, "--store knows system, nss and java")
				}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.installCA(ctx, kinds, yes)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&kinds, "store", nil, "install in `KIND` only: system, nss or java (may be repeated)")
	f.BoolVar(&yes, "yes", false, "do not ask")
	_ = cmd.RegisterFlagCompletionFunc("store", cobra.FixedCompletions([]string{"system", "nss", "java"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newCAUninstallCmd(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take out of all stores what `ca install` has put there",
		Long: `Take every root that this home has ever installed out of all stores, and nothing
else. What will be done is said first, and you are asked. It is refused inside a
run.`,
		Example: `  authsome ca uninstall`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.uninstallCA(ctx, yes)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// installCA asks the daemon whether it may, says what it would do, has the root
// made, and installs it.
func (a *app) installCA(ctx context.Context, kinds []string, yes bool) error {
	info, err := a.changeAuthority(ctx, api.ActCheck)
	if err != nil {
		return err
	}
	if len(info.Routed) == 0 {
		// Asked for the error, which the daemon words.
		_, err := a.changeAuthority(ctx, api.ActInstall)
		return err
	}
	old, err := rootsOf(info)
	if err != nil {
		return err
	}
	var chosen []place
	for _, p := range a.places(ctx, old) {
		wanted := len(kinds) == 0 || slices.Contains(kinds, string(p.Kind))
		switch {
		case p.state == inUnknown && wanted:
			a.warn("%s is left out: %s", cleanLine(p.Where), cleanLine(p.note))
		case wanted, p.state == inOutdated, p.state == inCurrent && info.Stale:
			// One that has a root of earlier gets the new one, too: two are never
			// served.
			chosen = append(chosen, p)
		}
	}
	if !slices.ContainsFunc(chosen, func(p place) bool { return len(kinds) == 0 || slices.Contains(kinds, string(p.Kind)) }) {
		return authsome.E(authsome.NotReady, "install the certificate authority: there is no store to install it in%s", ofKinds(kinds)).
			WithHint("Firefox and Chromium make theirs at their first start; `authsome ca path` is a file for programs that are told by hand")
	}
	a.note("The root that is installed may sign for these hosts, and no others:\n  %s", cleanLine(strings.Join(info.Routed, ", ")))
	a.notePlaces("It goes into:", chosen)
	if ok, err := a.agreed(ctx, "Install it?", yes); !ok || err != nil {
		return err
	}
	if info, err = a.changeAuthority(ctx, api.ActInstall); err != nil {
		return err
	}
	now, err := rootsOf(info)
	if err != nil {
		return err
	}
	return a.change("installed", chosen, func(s truststore.Store) error {
		_, err := s.Install(ctx, now.current, now.all)
		return err
	}, nil, fmt.Sprintf("Installed in %s. It is limited to the hosts of your connections; after a login to another service, install it again.", counted(len(chosen), "store")))
}

func ofKinds(kinds []string) string {
	if len(kinds) == 0 {
		return ""
	}
	return " of the kind " + strings.Join(kinds, " or ")
}

func (a *app) uninstallCA(ctx context.Context, yes bool) error {
	info, err := a.changeAuthority(ctx, api.ActCheck)
	if err != nil {
		return err
	}
	r, err := rootsOf(info)
	if err != nil {
		return err
	}
	var held []place
	unknown := 0
	if len(r.all) > 0 {
		for _, p := range a.places(ctx, r) {
			switch p.state {
			case inUnknown:
				unknown++
				a.warn("%s is left out: %s", cleanLine(p.Where), cleanLine(p.note))
			case inCurrent, inOutdated:
				held = append(held, p)
			}
		}
	}
	if len(held) > 0 {
		a.notePlaces("Roots of this home are taken out of:", held)
		if ok, err := a.agreed(ctx, "Take them out?", yes); !ok || err != nil {
			return err
		}
	}
	text := fmt.Sprintf("Taken out of %s.", counted(len(held), "store"))
	if len(held) == 0 {
		text = "Nothing of this home is installed."
	}
	return a.change("uninstalled", held, func(s truststore.Store) error {
		_, err := s.Uninstall(ctx, r.all)
		return err
	}, func() error {
		if unknown > 0 || len(r.all) == 0 {
			return nil // what cannot be looked into may hold one, whose name is needed then
		}
		_, err := a.changeAuthority(ctx, api.ActForget)
		return err
	}, text)
}

// agreed asks. Other than elsewhere, --json and --quiet are no answer: what a
// machine trusts is not changed in passing.
func (a *app) agreed(ctx context.Context, question string, yes bool) (bool, error) {
	if yes {
		return true, nil
	}
	ok, err := a.confirm(ctx, question)
	if errors.Is(err, errNobody) {
		return false, authsome.E(authsome.Cancelled, "%w", err).WithHint("pass --yes to go on without it")
	}
	if err == nil && !ok {
		return false, authsome.E(authsome.Cancelled, "nothing was changed")
	}
	return ok, err
}

func (a *app) notePlaces(title string, places []place) {
	var b strings.Builder
	for _, p := range places {
		fmt.Fprintf(&b, "\n  %-6s  %s", p.Kind, cleanLine(p.Where))
		if p.Root {
			b.WriteString("  (as root, by sudo)")
		}
	}
	a.note("%s%s", title, b.String())
}

// storeResult is what became of one store.
type storeResult struct {
	Store string `json:"store"`
	Where string `json:"where"`
	Error string `json:"error,omitempty"`
}

// change does f to every store, however the one before went; then, if all went
// well, after; and reports.
func (a *app) change(status string, places []place, f func(truststore.Store) error, after func() error, text string) error {
	doc := struct {
		Status string        `json:"status"`
		Stores []storeResult `json:"stores"`
	}{status, []storeResult{}}
	var first error
	failed := 0
	for _, p := range places {
		r := storeResult{Store: string(p.Kind), Where: p.Where}
		if err := f(p.Store); err != nil {
			failed++
			r.Error = err.Error()
			if first == nil {
				first = err
			}
			a.warn("%s: %s", cleanLine(p.Where), cleanLine(r.Error))
		}
		doc.Stores = append(doc.Stores, r)
	}
	if first != nil {
		return authsome.E(authsome.NotReady, "change what this machine trusts: %d of %s could not be changed: %w", failed, counted(len(places), "store"), first).
			WithHint("authsome ca show says what is where; the same command tries again")
	}
	if after != nil {
		if err := after(); err != nil {
			return err
		}
	}
	return a.done(doc, "%s", text)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// trustHost is this machine, for this person.
func (a *app) trustHost() *truststore.Host {
	home := a.getenv("HOME")
	if home == "" {
		home, _ = os.UserHomeDir() // without one, only what is the machine's is looked at
	}
	return &truststore.Host{Home: home, Getenv: a.getenv, Run: a.runTool}
}

// runTool runs a program of the system in an environment of its own, through
// sudo where it has to be root and this process is not.
func (a *app) runTool(ctx context.Context, root bool, argv ...string) ([]byte, error) {
	if root && os.Geteuid() > 0 {
		sudo := systemProgram("sudo")
		if sudo == "" {
			return nil, errors.New("this needs root, and there is no sudo: leave it out with --store, which may be given several times")
		}
		// sudo asks on the terminal by itself; where there is none it must not wait.
		ask := "-n"
		if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
			_ = tty.Close()
			ask = "--prompt=To change what this machine trusts, sudo asks for your password: "
		}
		argv = append([]string{sudo, ask, "--"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	for _, name := range []string{"HOME", "SystemRoot"} {
		if v := a.getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd.CombinedOutput()
}
