package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newWhoamiCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Show whose home this is and what is connected",
		Example: `  authsome whoami`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			w, err := c.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			return a.result(w, func() string {
				var b strings.Builder
				line := func(k, v string) { fmt.Fprintf(&b, "%s: %s\n", k, cleanLine(v)) }
				line("authsome_version", w.Version)
				line("home_directory", w.Home)
				line("profile", w.Profile)
				if w.DID != nil {
					line("did", *w.DID)
				}
				line("registration_status", w.RegistrationStatus)
				line("daemon_url", w.DaemonURL)
				line("encryption_backend", w.EncryptionBackend)
				line("vault_status", w.VaultStatus)
				line("connected_providers_count", fmt.Sprint(w.ConnectedCount))
				for _, p := range w.Connected {
					line("  "+p.Name, strings.Join(p.Connections, ", "))
				}
				return b.String()
			})
		},
	}
}
