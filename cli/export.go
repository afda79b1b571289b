package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

// formats are what `export --format` knows, in the order of its help.
var formats = []string{"env", "shell", "dotenv", "json"}

func newExportCmd(a *app) *cobra.Command {
	var connection, format string
	cmd := &cobra.Command{
		Use:   "export [PROVIDER]",
		Short: "Print credentials in plain text, as variables",
		Long: `Print the credentials of one connection, or of all, under the names of the
variables that programs read. Prefer ` + "`authsome run`" + `, which shows them to nobody.

  env, shell   lines for eval: export NAME='value'
  dotenv       NAME=value, for a file
  json         {"v":1,"credentials":{"NAME":"value"}}

Refresh tokens are never exported. It is refused inside a run.`,
		Example: `  eval "$(authsome export openai)"
  authsome export github --connection work --format dotenv > .env`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return arguments(aProvider)(cmd, args)
		},
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(formats, format) {
				return usage(cmd, "--format knows %s", strings.Join(formats, ", "))
			}
			req := api.ExportRequest{Connection: connection}
			if len(args) > 0 {
				req.Provider = args[0]
			} else if connection != "" {
				return usage(cmd, "--connection needs %s with it", aProvider)
			}
			if a.insideRun() {
				return authsome.E(authsome.Forbidden, "export a credential: this process runs under `authsome run`, which gets none to see").
					WithHint("call the service: authsome puts the credential on the request. For a file or another program, export in a terminal of your own")
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			out, err := c.Export(cmd.Context(), req)
			if err != nil {
				return err
			}
			text, err := exportText(out.Credentials, format)
			if err != nil {
				return err
			}
			if len(out.Credentials) == 0 {
				a.note("There is nothing to export: no connection has a credential.")
			} else {
				a.warn("these are credentials in plain text: whoever reads them can use them")
			}
			if a.opt.json || format == "json" {
				return a.printJSON(credentials(out.Credentials))
			}
			return a.write([]byte(text))
		},
	}
	a.connectionFlag(cmd, &connection, "which one (default: the provider's default)")
	cmd.Flags().StringVar(&format, "format", formats[0], strings.Join(formats, ", "))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// credentials is the document of export.
func credentials(vars []api.ExportedVar) any {
	doc := struct {
		Credentials map[string]string `json:"credentials"`
	}{map[string]string{}}
	for _, v := range vars {
		doc.Credentials[v.Name] = v.Value
	}
	return doc
}

// variable is what shells accept as a name (POSIX XBD 3.216). Anything else
// would be run by eval.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// exportText writes variables in a format; for json it only checks them. No
// error quotes a value.
func exportText(vars []api.ExportedVar, format string) (string, error) {
	var b strings.Builder
	for _, v := range vars {
		if !variable.MatchString(v.Name) {
			return "", authsome.E(authsome.Invalid, "export %s: its definition names a variable %q, which is no name for one", v.Provider, clip(v.Name)).
				WithHint("correct the definition and register it again")
		}
		switch format {
		case "env", "shell":
			if strings.ContainsRune(v.Value, 0) {
				return "", authsome.E(authsome.Invalid, "export %s: the value of %s holds a NUL byte, which no variable can", v.Provider, v.Name)
			}
			fmt.Fprintf(&b, "export %s=%s\n", v.Name, shellQuote(v.Value))
		case "dotenv":
			value, err := dotenvQuote(v.Value)
			if err != nil {
				return "", authsome.E(authsome.Invalid, "export %s: the value of %s %w", v.Provider, v.Name, err).
					WithHint("use --format env or json")
			}
			fmt.Fprintf(&b, "%s=%s\n", v.Name, value)
		}
	}
	return b.String(), nil
}

// shellQuote quotes for POSIX shells. Within single quotes every byte stands
// for itself (POSIX XCU 2.2.2), so only the single quote needs care.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// dotenvPlain is what every reader of such files takes as it is.
var dotenvPlain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=~-]*$`)

// dotenvQuote quotes for .env files, about which readers agree in little: a
// value without special characters, single quotes around one that has no single
// quote in it, double quotes around one that has nothing which they let stand
// for something else. What needs more is refused rather than changed by some
// reader.
func dotenvQuote(s string) (string, error) {
	switch {
	case dotenvPlain.MatchString(s):
		return s, nil
	case strings.ContainsAny(s, "\n\r\x00"):
		return "", errors.New("has several lines, which a .env file cannot hold")
	case !strings.Contains(s, "'"):
		return "'" + s + "'", nil
	case !strings.ContainsAny(s, "\"\\$`"):
		return `"` + s + `"`, nil
	default:
		return "", errors.New("has quotes that readers of .env files understand differently")
	}
}

// clip keeps a name from elsewhere short.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
