package cli

import "github.com/spf13/cobra"

// The later generation of the Python authsome groups its commands; the earlier
// one does not. Both names work, and are the same commands.

func newProviderCmd(a *app) *cobra.Command {
	return newGroup("provider", "Providers: list, inspect, register, set-client, revoke, remove",
		newListCmd(a), newInspectCmd(a), newRegisterCmd(a), newSetClientCmd(a), newRevokeCmd(a), newRemoveCmd(a))
}

func newConnectionsCmd(a *app) *cobra.Command {
	inspect := newRecordCmd(a)
	inspect.Use, inspect.Short = "inspect PROVIDER", "Show one connection, secrets hidden"
	inspect.Example = "  authsome connections inspect github --connection work"
	return newGroup("connections", "Connections: list, inspect, set-default",
		newConnectionListCmd(a), inspect, newSetDefaultCmd(a))
}
