package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRoot makes the tree of commands. Nothing here does work: the constructors
// only describe.
func newRoot(a *app) *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:   "authsome",
		Short: "Log in once; let agents use it without seeing the secret",
		Long: `authsome keeps the credentials of a person's services and puts them on the
requests of the programs that they launch, so that an agent works with real
accounts and never holds a key.`,
		Example: `  authsome login openai               # once
  authsome run -- codex               # from then on
  authsome list`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return printVersion(a)
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(flagError)
	root.SuggestionsMinimumDistance = 2
	root.Flags().BoolVarP(&version, "version", "v", false, "print the version")
	f := root.PersistentFlags()
	f.BoolVar(&a.opt.json, "json", a.opt.json, "print one JSON document, errors too")
	f.BoolVar(&a.opt.quiet, "quiet", a.opt.quiet, "hide messages")
	f.BoolVar(&a.opt.noColor, "no-color", false, "print without colours (also: NO_COLOR=1)")
	f.BoolVar(&a.opt.verbose, "verbose", false, "log in detail, to standard error too")
	f.StringVar(&a.opt.logFile, "log-file", defaultLogFile, `write the log to this file, "" to none`)

	const (
		work   = "work"
		manage = "manage"
		system = "system"
		group  = "group"
	)
	root.AddGroup(
		&cobra.Group{ID: work, Title: "What it is for:"},
		&cobra.Group{ID: manage, Title: "Connections and providers:"},
		&cobra.Group{ID: system, Title: "The system:"},
		&cobra.Group{ID: group, Title: "The same by group:"},
	)
	add := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add(work, newLoginCmd(a), newRunCmd(a), newListCmd(a))
	add(manage,
		newGetCmd(a), newInspectCmd(a), newSetDefaultCmd(a), newLogoutCmd(a),
		newRevokeCmd(a), newRemoveCmd(a), newRegisterCmd(a), newExportCmd(a))
	add(system, newWhoamiCmd(a), newDoctorCmd(a), newLogCmd(a), newCACmd(a), newDaemonCmd(a), newVersionCmd(a))
	add(group, newProviderCmd(a), newConnectionsCmd(a))
	root.SetHelpCommandGroupID(system)
	root.SetCompletionCommandGroupID(system)
	return root
}

// newGroup makes a command that only holds others.
func newGroup(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(sub...)
	return cmd
}

// usage is the error of a command line that cannot be understood.
func usage(cmd *cobra.Command, format string, args ...any) *authsome.Error {
	return authsome.E(authsome.Usage, format, args...).WithHint("%s --help", cmd.CommandPath())
}

// unknownCommand names what was typed only if it can be no key.
func unknownCommand(cmd *cobra.Command, typed string) error {
	e := usage(cmd, "there is no such command")
	if harmless(typed) {
		e = usage(cmd, "%s has no command %q", cmd.CommandPath(), typed)
		if near := cmd.SuggestionsFor(typed); len(near) > 0 {
			e = e.WithHint("did you mean `%s %s`?", cmd.CommandPath(), near[0])
		}
	}
	return e
}

// harmless reports whether a word may be repeated in an error: keys are longer,
// and have other characters than commands and flags have.
func harmless(word string) bool {
	return len(word) <= 20 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz-") == ""
}

// flagError words pflag's errors anew: its own repeat what was typed, which may
// be a key that begins with a dash or was given to a flag that is not there.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" && harmless(unknown.GetSpecifiedName()):
		return usage(cmd, "%s has no flag --%s", cmd.CommandPath(), unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return usage(cmd, "%s has no such flag", cmd.CommandPath())
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		return usage(cmd, "what was given to --%s is not a %s", f.Name, typeName(f.Value.Type()))
	case errors.As(err, &missing):
		return usage(cmd, "--%s needs a value", missing.GetFlag().Name)
	default:
		return usage(cmd, "the flags cannot be understood")
	}
}

// typeName says what pflag's types are to a person.
func typeName(t string) string {
	switch t {
	case "duration":
		return "duration such as 90s or 5m"
	case "int", "uint16":
		return "number in its range"
	case "bool":
		return "true or false"
	default:
		return t
	}
}

// arguments checks how many there are. An argument too many is never repeated:
// it may be a key.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd, "%s needs %s", cmd.CommandPath(), names[len(args)])
		case len(args) > len(names):
			return usage(cmd, "%s takes %s, and %d more was given", cmd.CommandPath(), listed(names), len(args)-len(names))
		}
		for i, arg := range args {
			if arg == "" {
				return usage(cmd, "%s needs %s, and an empty one was given", cmd.CommandPath(), names[i])
			}
		}
		return nil
	}
}

// listed joins names for a sentence.
func listed(names []string) string {
	if len(names) == 0 {
		return "no argument"
	}
	return strings.Join(names, " and ")
}

// The arguments of most commands.
const (
	aProvider   = "the name of a provider"
	aConnection = "the name of a connection"
)

// completeProviders offers the names of providers to the shell, if a daemon is
// running: none is started for a press of the tab key.
func (a *app) completeProviders(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range a.knownProviders(cmd.Context()) {
		names = append(names, p.Name+"\t"+cleanLine(p.DisplayName))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeConnections offers the connections of the provider that comes first
// among the arguments.
func (a *app) completeConnections(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, p := range a.knownProviders(cmd.Context()) {
		if len(args) > 0 && p.Name == args[0] {
			for _, c := range p.Connections {
				names = append(names, c.ConnectionName)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) knownProviders(ctx context.Context) []api.Provider {
	c, err := a.connect(ctx, api.Options{NoStart: true})
	if err != nil {
		return nil
	}
	all, err := c.Providers(ctx)
	if err != nil {
		return nil
	}
	return all
}

// connectionFlag adds --connection.
func (a *app) connectionFlag(cmd *cobra.Command, value *string, what string) {
	cmd.Flags().StringVar(value, "connection", "", what)
	_ = cmd.RegisterFlagCompletionFunc("connection", a.completeConnections)
}
