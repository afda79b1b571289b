package cli

import (
	"bytes"
	"context"
	"errors"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type clientOptions struct {
	provider string
	id       string
	stdin    bool
	public   bool
	baseURL  string
	forget   bool
}

func newSetClientCmd(a *app) *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "set-client PROVIDER",
		Short: "Set the OAuth app that logins go through",
		Long: `Set the OAuth app of your own that logins to a provider go through, or forget it.
A login asks for it when it needs one; this changes it, such as when its secret
was renewed at the service.

The secret is asked for, or read from standard input with --secret-stdin. It is
never an argument, which other programs could read. A private key in PEM is taken
in its place where the service wants one.

Connections that exist keep working: when it is the same app, the next refresh
uses the new secret.`,
		Example: `  authsome provider set-client github
  authsome provider set-client github --client-id Iv1.0123456789abcdef --secret-stdin < secret.txt
  authsome provider set-client gitlab --base-url https://gitlab.example.com
  authsome provider set-client github --forget`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return secretAsArgument(cmd, "%s takes %s and nothing else", cmd.CommandPath(), aProvider)
			}
			return arguments(aProvider)(cmd, args)
		},
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.provider = args[0]
			switch {
			case o.forget && (o.id != "" || o.stdin || o.public):
				return usage(cmd, "--forget goes with --base-url only")
			case o.stdin && o.public:
				return usage(cmd, "--public says that there is no secret, and --secret-stdin gives one")
			case o.stdin && term.IsTerminal(int(a.Stdin.Fd())):
				return usage(cmd, "--secret-stdin reads the secret from a file or a pipe, and this is a terminal, which would show it").
					WithHint("leave it out, and you are asked: %s %s", cmd.CommandPath(), o.provider)
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.setClient(ctx, cmd, o)
		},
	}
	refuseSecretFlags(cmd, secretAsArgument)
	f := cmd.Flags()
	f.StringVar(&o.id, "client-id", "", "the app's client `ID`, which is no secret")
	f.BoolVar(&o.stdin, "secret-stdin", false, "read the secret, or a private key, from standard input")
	f.BoolVar(&o.public, "public", false, "the app has no secret")
	f.StringVar(&o.baseURL, "base-url", "", "address of a service that you host yourself")
	f.BoolVar(&o.forget, "forget", false, "delete what is stored; the next login asks again")
	return cmd
}

// secretAsArgument refuses a command line that may hold a secret, without
// repeating it.
func secretAsArgument(cmd *cobra.Command, format string, args ...any) error {
	return usage(cmd, format+". A secret is never given as an argument: other programs can read it there, and the shell keeps it in its history. If one was given, replace it at the service", args...).
		WithHint("%s PROVIDER asks for it; %s PROVIDER --secret-stdin < FILE reads it", cmd.CommandPath(), cmd.CommandPath())
}

func (a *app) setClient(ctx context.Context, cmd *cobra.Command, o clientOptions) error {
	if a.insideRun() {
		return authsome.E(authsome.Forbidden, "set an OAuth client: a process under `authsome run` may not").
			WithHint("run it in a terminal of your own")
	}
	var piped []byte
	if o.stdin {
		var err error
		if piped, err = readPiped(a.Stdin, "set the OAuth app of "+o.provider); err != nil {
			return err
		}
		defer clear(piped)
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	p, err := c.Provider(ctx, o.provider) // before anything is asked
	if err != nil {
		return err
	}
	if o.forget {
		if err := c.ForgetClient(ctx, p.Name, o.baseURL); err != nil {
			return err
		}
		return a.done(clientDocument{"forgotten", p.Name}, "Forgot the OAuth app of %s. The next login that needs one asks for it.", p.Name)
	}
	app := authsome.OAuthClient{ID: o.id}
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(piped), []byte("-----BEGIN ")):
		app.Key = authsome.NewSecret(string(piped))
	case bytes.ContainsAny(piped, "\r\n"):
		return authsome.E(authsome.Invalid, "set the OAuth app of %s: what came on standard input has several lines, and is no private key", p.Name).
			WithHint("give the secret alone")
	case piped != nil:
		app.Secret = authsome.NewSecret(string(bytes.TrimSpace(piped)))
	}
	if err := a.askClient(ctx, cmd, o, &app); err != nil {
		return err
	}
	if err := c.SetClient(ctx, p.Name, o.baseURL, app); err != nil {
		return err
	}
	return a.done(clientDocument{"ok", p.Name}, "Set the OAuth app of %s. Next: authsome login %s", p.Name, p.Name)
}

type clientDocument struct {
	Status   string `json:"status"` // "ok" or "forgotten"
	Provider string `json:"provider"`
}

// askClient asks on the terminal for what the command line left out.
func (a *app) askClient(ctx context.Context, cmd *cobra.Command, o clientOptions, app *authsome.OAuthClient) error {
	askID, askSecret := o.id == "", !o.stdin && !o.public
	if !askID && !askSecret {
		return nil
	}
	p, ok := a.newPrompter()
	switch {
	case !ok && askID:
		return usage(cmd, "there is no terminal to ask for the client ID: give --client-id")
	case !ok:
		return usage(cmd, "there is no terminal to ask for the secret: give --secret-stdin, or --public where the app has none")
	}
	if err := p.start(); err != nil {
		return err
	}
	defer p.stop()
	id, secret, err := askApp(ctx, p, askID, askSecret)
	switch {
	case errors.Is(err, errInterrupted), errors.Is(err, errEndOfInput), errors.Is(err, context.Canceled):
		return authsome.E(authsome.Cancelled, "set the OAuth app of %s: cancelled", o.provider)
	case errors.Is(err, errLongInput):
		return authsome.E(authsome.Invalid, "set the OAuth app of %s: that is longer than 64 KiB, and no secret is", o.provider)
	case err == nil && p.typedAhead():
		return authsome.E(authsome.Invalid, "set the OAuth app of %s: what was pasted has more than one line", o.provider)
	}
	if askID {
		app.ID = id
	}
	if askSecret {
		app.Secret = secret
	}
	return err
}

func askApp(ctx context.Context, p *prompter, askID, askSecret bool) (id string, secret authsome.Secret, err error) {
	if askID {
		if id, err = p.askPublic(ctx, "Client ID"); err != nil {
			return "", authsome.Secret{}, err
		}
	}
	if askSecret {
		secret, err = p.askField(ctx, api.LoginField{Label: "Client secret", Optional: true})
	}
	return id, secret, err
}
