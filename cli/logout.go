package cli

import (
	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

func newLogoutCmd(a *app) *cobra.Command {
	var connection string
	cmd := &cobra.Command{
		Use:   "logout PROVIDER",
		Short: "Delete one connection's credential",
		Long: `Delete one connection's credential. Programs that run under authsome lose the
account at once. Where the service can be told, it is, so that tokens which got
out are worth nothing either; a service that cannot be reached does not keep the
credential here, and is named. A connection that does not exist is no error.`,
		Example: `  authsome logout github
  authsome logout github --connection work`,
		Args:              arguments(aProvider),
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			removed, err := c.Logout(cmd.Context(), args[0], connection)
			if err != nil && authsome.CodeOf(err) != authsome.ConnectionNotFound {
				return err
			}
			name := connection
			switch {
			case len(removed.Connections) > 0:
				name = removed.Connections[0]
			case name == "":
				name = authsome.DefaultConnection
			}
			a.notes(removed)
			return a.done(struct {
				Status     string   `json:"status"`
				Provider   string   `json:"provider"`
				Connection string   `json:"connection"`
				Notes      []string `json:"notes,omitempty"`
			}{"logged_out", args[0], name, removed.Notes}, "Logged out of %s (%s).", args[0], name)
		},
	}
	a.connectionFlag(cmd, &connection, "which one (default: the provider's default)")
	return cmd
}

func newRevokeCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke PROVIDER",
		Short: "Delete all credentials of a provider",
		Long: `Log out of every connection of a provider as logout does, and delete what was
stored for logging in to it, such as your own OAuth app's secret. The app itself
stays at the service.`,
		Example:           `  authsome revoke github`,
		Args:              arguments(aProvider),
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			removed, err := c.Revoke(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a.notes(removed)
			return a.done(removal{"revoked", args[0], removed.Notes}, "Revoked all credentials for %s.", args[0])
		},
	}
}

func newRemoveCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove PROVIDER",
		Short: "Delete a provider's credentials and its registered definition",
		Long: `Delete what revoke deletes, and the provider's definition if it was registered. A
definition that comes with authsome stays.`,
		Example:           `  authsome remove my-service`,
		Args:              arguments(aProvider),
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			removed, err := c.Remove(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a.notes(removed)
			return a.done(removal{"removed", args[0], removed.Notes}, "Removed provider %s.", args[0])
		},
	}
}

type removal struct {
	Status   string   `json:"status"`
	Provider string   `json:"provider"`
	Notes    []string `json:"notes,omitempty"`
}

// notes passes on what the daemon has to say about a removal: what was done at
// the service, and what was not.
func (a *app) notes(r api.Removed) {
	for _, n := range r.Notes {
		a.note("%s", n)
	}
}

func newSetDefaultCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "set-default PROVIDER CONNECTION",
		Short: "Choose the connection that is used when none is named",
		Example: `  authsome set-default github work
  authsome run --connection github=personal -- gh repo list   # for one run only`,
		Args: arguments(aProvider, aConnection),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return a.completeConnections(cmd, args, typed)
			}
			return a.completeProviders(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.SetDefault(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return a.done(struct {
				Status   string `json:"status"`
				Provider string `json:"provider"`
				Default  string `json:"default_connection"`
			}{"ok", args[0], args[1]}, "Default connection for %s set to %s.", args[0], args[1])
		},
	}
}
