package cli

import (
	"fmt"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

func newListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List providers and their connections",
		Long: `List every provider that can be logged in to, with the connections that exist.

The account is who the service says that a connection is, where it can be asked.
The status is connected, expired (it may come back by itself), invalid (log in
again) or revoked. A token that expires is renewed before it does.`,
		Example: `  authsome list
  authsome list --json | jq -r '.bundled[] | select(.connections != []) | .name'`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			all, err := c.Providers(cmd.Context())
			if err != nil {
				return err
			}
			return a.result(listDocument(all), func() string { return listText(all, time.Now()) })
		},
	}
}

// listed providers and connections have the keys of the Python authsome, and
// the account, which tells two connections apart.
type (
	listing struct {
		Bundled []listedProvider `json:"bundled"`
		Custom  []listedProvider `json:"custom"`
	}
	listedProvider struct {
		Name        string             `json:"name"`
		DisplayName string             `json:"display_name"`
		AuthType    string             `json:"auth_type"`
		Source      string             `json:"source"`
		Connections []listedConnection `json:"connections"`
	}
	listedConnection struct {
		Provider       string            `json:"provider,omitempty"` // by `connections list` only
		ConnectionName string            `json:"connection_name"`
		IsDefault      bool              `json:"is_default"`
		AuthType       string            `json:"auth_type"`
		Status         string            `json:"status"`
		Scopes         []string          `json:"scopes,omitempty"`
		ExpiresAt      *time.Time        `json:"expires_at,omitempty"`
		Account        *authsome.Account `json:"account,omitempty"`
	}
)

func listConnection(c api.Connection) listedConnection {
	return listedConnection{
		ConnectionName: c.ConnectionName, IsDefault: c.IsDefault, AuthType: c.AuthType,
		Status: c.Status, Scopes: c.Scopes, ExpiresAt: c.ExpiresAt, Account: c.Account,
	}
}

func listDocument(all []api.Provider) listing {
	doc := listing{Bundled: []listedProvider{}, Custom: []listedProvider{}}
	for _, p := range all {
		lp := listedProvider{
			Name: p.Name, DisplayName: p.DisplayName, AuthType: p.AuthType, Source: p.Source,
			Connections: []listedConnection{},
		}
		for _, c := range p.Connections {
			lp.Connections = append(lp.Connections, listConnection(c))
		}
		if p.Source == string(authsome.Custom) {
			doc.Custom = append(doc.Custom, lp)
		} else {
			doc.Bundled = append(doc.Bundled, lp)
		}
	}
	return doc
}

func listText(all []api.Provider, now time.Time) string {
	if len(all) == 0 {
		return "No providers configured.\n"
	}
	connected := 0
	t := newTable("Provider", "Source", "Auth", "Connection", "Account", "Status", "Expires")
	for _, p := range all {
		name := fmt.Sprintf("%s [%s]", p.DisplayName, p.Name)
		if len(p.Connections) == 0 {
			t.row(name, p.Source, p.AuthType, "-", "-", string(authsome.NotConnected), "-")
			continue
		}
		works := false
		for _, c := range p.Connections {
			t.row(name, p.Source, c.AuthType, connectionLabel(c), accountLabel(c.Account), c.Status, expiry(c.ExpiresAt, now))
			works = works || usable(c, now)
		}
		if works {
			connected++
		}
	}
	return fmt.Sprintf("Providers: %d total, %d connected\n\n%s", len(all), connected, t)
}

// usable reports whether a connection works as far as its record says.
func usable(c api.Connection, now time.Time) bool {
	return c.Status == string(authsome.Connected) && (c.ExpiresAt == nil || c.ExpiresAt.IsZero() || c.ExpiresAt.After(now))
}

// connectionLabel is a connection in a table.
func connectionLabel(c api.Connection) string {
	if c.IsDefault {
		return c.ConnectionName + " (default)"
	}
	return c.ConnectionName
}

// newConnectionListCmd is `connections list`: what there is, and nothing that
// there could be.
func newConnectionListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List connections",
		Example: `  authsome connections list`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			all, err := c.Providers(cmd.Context())
			if err != nil {
				return err
			}
			doc := struct {
				Connections []listedConnection `json:"connections"`
			}{[]listedConnection{}}
			t := newTable("Provider", "Connection", "Auth", "Account", "Status", "Expires")
			now := time.Now()
			for _, p := range all {
				for _, c := range p.Connections {
					lc := listConnection(c)
					lc.Provider = p.Name
					doc.Connections = append(doc.Connections, lc)
					t.row(p.Name, connectionLabel(c), c.AuthType, accountLabel(c.Account), c.Status, expiry(c.ExpiresAt, now))
				}
			}
			return a.result(doc, func() string {
				if len(doc.Connections) == 0 {
					return "No connections. Make one with `authsome login PROVIDER`.\n"
				}
				return t.String()
			})
		},
	}
}

func accountLabel(acc *authsome.Account) string {
	switch {
	case acc == nil:
		return ""
	case acc.Label != "":
		return acc.Label
	default:
		return acc.ID
	}
}
