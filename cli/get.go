package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

func newGetCmd(a *app) *cobra.Command {
	var o recordOptions
	cmd := newRecordCommand(a, &o)
	cmd.Use, cmd.Short = "get PROVIDER", "Show one connection"
	cmd.Long = `Show one connection: its account, status, scopes, hosts and times, and how the
last renewal of its token went. Secrets are hidden unless --show-secret is given,
which asks the person first: by the system's own dialogue where there is one, else
on the terminal. It is refused inside a run.`
	cmd.Example = `  authsome get github
  authsome get github --connection work --field status
  authsome get github --field expires_at
  authsome get openai --field api_key --show-secret`
	cmd.Flags().BoolVar(&o.secret, "show-secret", false, "show secrets, after asking you")
	return cmd
}

// newRecordCmd is get without --show-secret.
func newRecordCmd(a *app) *cobra.Command { return newRecordCommand(a, &recordOptions{}) }

type recordOptions struct {
	connection string
	field      string
	secret     bool
}

func newRecordCommand(a *app, o *recordOptions) *cobra.Command {
	cmd := &cobra.Command{
		Args:              arguments(aProvider),
		ValidArgsFunction: a.completeProviders,
		RunE:              func(cmd *cobra.Command, args []string) error { return showRecord(a, cmd, args[0], *o) },
	}
	a.connectionFlag(cmd, &o.connection, "which one (default: the provider's default)")
	cmd.Flags().StringVar(&o.field, "field", "", "print this field only")
	return cmd
}

func showRecord(a *app, cmd *cobra.Command, provider string, o recordOptions) error {
	c, err := a.client(cmd.Context())
	if err != nil {
		return err
	}
	conn, err := c.Connection(cmd.Context(), provider, o.connection, false)
	if err != nil {
		return err
	}
	rec, err := record(conn)
	if err != nil {
		return err
	}
	// A script need not know which of these a connection happens to have.
	if slices.Contains(optionalMembers, o.field) && !rec.has(o.field) {
		if err := rec.add(o.field, nil); err != nil {
			return err
		}
	}
	// Nobody is asked for what cannot be shown.
	if o.field != "" && !rec.has(o.field) {
		return authsome.E(authsome.Invalid, "%s (%s) has no field %q, only %s",
			provider, conn.ConnectionName, o.field, strings.Join(rec.names(), ", "))
	}
	if o.secret {
		if a.insideRun() {
			return authsome.E(authsome.Forbidden, "show a secret: this process runs under `authsome run`, which gets none to see").
				WithHint("run it in a terminal of your own")
		}
		if err := a.presence(cmd.Context(), fmt.Sprintf("show the secret of %s (%s)", provider, conn.ConnectionName)); err != nil {
			return err
		}
		// By name: what is the default could have changed while the person was
		// asked about this one.
		if conn, err = c.Connection(cmd.Context(), provider, conn.ConnectionName, true); err != nil {
			return err
		}
		if rec, err = record(conn); err != nil {
			return err
		}
	}
	if o.field == "" {
		return a.result(rec, rec.text)
	}
	one := object{}
	for _, m := range rec {
		if m.name == "provider" || m.name == "connection_name" || m.name == o.field {
			one = append(one, m)
		}
	}
	return a.result(one, func() string { return rec.plain(o.field) + "\n" })
}

// optionalMembers are those of a connection's record that stand there only when
// they are known. `get --field` gives an empty line for them, null as JSON.
var optionalMembers = []string{"scopes", "base_url", "account", "obtained_at", "expires_at", "last_refresh_at", "last_refresh_error"}

// record is a connection as `get` shows it: the fields of its credential stand
// beside the rest, as in the Python authsome. A credential's field whose name
// is taken gets the prefix "field_".
func record(c api.Connection) (object, error) {
	fields := c.Fields
	c.Fields = nil
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return nil, authsome.E(authsome.Internal, "show %s: %w", c.Provider, err)
	}
	rec, err := parseObject(buf.Bytes())
	if err != nil {
		return nil, authsome.E(authsome.Internal, "show %s: %w", c.Provider, err)
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		as := name
		for rec.has(as) || as == "v" {
			as = "field_" + as
		}
		if err := rec.add(as, fields[name]); err != nil {
			return nil, err
		}
	}
	return rec, nil
}

func (o object) names() []string {
	names := make([]string, len(o))
	for i, m := range o {
		names[i] = cleanLine(m.name)
	}
	return names
}

// plain is a member's value for people: text without quotes, a list with
// commas, all else as JSON.
func (o object) plain(name string) string {
	for _, m := range o {
		if m.name != name {
			continue
		}
		var text string
		if json.Unmarshal(m.value, &text) == nil {
			return text
		}
		var acc authsome.Account
		if name == "account" && json.Unmarshal(m.value, &acc) == nil {
			return accountLabel(&acc)
		}
		var list []string
		if json.Unmarshal(m.value, &list) == nil {
			return strings.Join(list, ", ")
		}
		return string(m.value)
	}
	return ""
}

// text is the object as `name: value` lines.
func (o object) text() string {
	var b strings.Builder
	for _, m := range o {
		fmt.Fprintf(&b, "%s: %s\n", cleanLine(m.name), cleanLine(o.plain(m.name)))
	}
	return b.String()
}
