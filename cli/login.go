package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

type loginOptions struct {
	provider     string
	connection   string
	flow         string
	scopes       []string
	baseURL      string
	force        bool
	stdin        bool
	timeout      time.Duration
	noWait       bool
	noBrowser    bool
	allowPrivate bool
	name         string
	status       string // id of a login whose state is asked for
}

// byAddress reports whether the login is to a site that says itself how.
func (o *loginOptions) byAddress() bool { return strings.Contains(o.provider, "://") }

const (
	defaultLoginTimeout = 300 * time.Second
	// loginPoll is how long one question to the daemon waits for the login to
	// change. It also bounds for how long a change is missed that comes between
	// two questions.
	loginPoll = 10 * time.Second
	// promptTries is how often a key that does not look right may be typed.
	promptTries = 3
)

func newLoginCmd(a *app) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login PROVIDER|URL",
		Short: "Connect an account",
		Long: `Connect an account, and wait until it is done. Where the service asks for consent,
its page opens in the browser. A key is typed into a page of authsome's, or at a
prompt where there is no display, or comes from standard input with --stdin. It is
never an argument, which other programs could read.

The address to open is always printed. Where there is no display, as over SSH, a
service that can give a code gives one, which is entered on any other device.
Ending this command does not cancel the login.

With a URL in place of a provider's name, the site is asked how it wants to be
logged in to, as MCP servers say it.

The first connection of a provider becomes its default. With --force an existing
one is replaced, and becomes the default.

docs/login.md explains every way to log in.`,
		Example: `  authsome login github
  authsome login github --connection work
  authsome login github --connection work --force    # replace it, make it the default
  authsome login github --flow device_code           # enter a code on another device
  authsome login openai --stdin < key.txt
  authsome login https://mcp.example.com/mcp --name docs
  authsome login github --no-wait --json             # for a program that polls:
  authsome login --status SESSION_ID`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return keyAsArgument(cmd, "%s takes %s or a URL, and nothing else", cmd.CommandPath(), aProvider)
			case o.status != "":
				return statusAlone(cmd, args, o.status)
			}
			return arguments(aProvider)(cmd, args)
		},
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.status != "" {
				return a.loginStatus(cmd.Context(), o.status)
			}
			o.provider = args[0]
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if err := checkTarget(cmd, &o); err != nil {
				return err
			}
			if o.timeout < time.Second || o.timeout > 24*time.Hour {
				return usage(cmd, "--timeout is from 1s to 24h")
			}
			if o.stdin && term.IsTerminal(int(a.Stdin.Fd())) {
				return usage(cmd, "--stdin reads the key from a file or a pipe, and this is a terminal, which would show it").
					WithHint("leave --stdin out, and you are asked: %s PROVIDER", cmd.CommandPath())
			}
			return a.login(ctx, o)
		},
	}
	refuseSecretFlags(cmd, keyAsArgument)
	f := cmd.Flags()
	a.connectionFlag(cmd, &o.connection, `what to call this account (default "default")`)
	f.StringVar(&o.flow, "flow", "", "`NAME` of the way to log in (default: the first that inspect lists)")
	f.StringSliceVar(&o.scopes, "scopes", nil, "what to ask for, separated by commas")
	f.StringVar(&o.baseURL, "base-url", "", "address of a service that you host yourself")
	f.BoolVar(&o.force, "force", false, "replace an existing connection and make it the default")
	f.BoolVar(&o.stdin, "stdin", false, "read the key from standard input; one line for each field")
	f.DurationVar(&o.timeout, "timeout", defaultLoginTimeout, "how long the login may take")
	f.StringVar(&o.name, "name", "", "what to call the provider that a URL leads to")
	f.BoolVar(&o.noWait, "no-wait", false, "start the login and return at once")
	f.StringVar(&o.status, "status", "", "print how the login with this `SESSION_ID` stands, and start none")
	f.BoolVar(&o.noBrowser, "no-browser", false, "open no browser")
	f.BoolVar(&o.allowPrivate, "allow-private", false, "the service is on a private network, and may have the credential")
	return cmd
}

// keyAsArgument refuses a command line that may hold a key, without repeating
// it.
func keyAsArgument(cmd *cobra.Command, format string, args ...any) error {
	return usage(cmd, format+". A key is never given as an argument: other programs can read it there, and the shell keeps it in its history. If one was given, replace it at the service", args...).
		WithHint("%s PROVIDER asks for it; %s PROVIDER --stdin < FILE reads it", cmd.CommandPath(), cmd.CommandPath())
}

// refuseSecretFlags words the errors of flags that are not there and that people
// give a secret to, without repeating it.
func refuseSecretFlags(cmd *cobra.Command, refuse func(cmd *cobra.Command, format string, args ...any) error) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if !errors.As(err, &unknown) {
			return flagError(cmd, err)
		}
		switch name := unknown.GetSpecifiedName(); {
		case unknown.GetSpecifiedShortnames() != "" || !harmless(name):
			return refuse(cmd, "%s has no such flag", cmd.CommandPath())
		case slices.Contains([]string{"key", "api-key", "apikey", "token", "secret", "client-secret", "password"}, name):
			return refuse(cmd, "%s has no flag --%s", cmd.CommandPath(), name)
		}
		return flagError(cmd, err)
	})
}

// checkTarget refuses what cannot be a site's address, and repeats none: a query
// or a user name may hold a key.
func checkTarget(cmd *cobra.Command, o *loginOptions) error {
	if !o.byAddress() {
		if o.name != "" {
			return usage(cmd, "--name goes with a URL; a provider has its name already")
		}
		return nil
	}
	u, err := url.Parse(o.provider)
	switch {
	case err != nil || u.Hostname() == "":
		return usage(cmd, "the URL cannot be understood")
	case u.User != nil:
		return keyAsArgument(cmd, "a URL has no user name or password in front of its host here")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return keyAsArgument(cmd, "a URL has neither ? nor # here")
	case u.Scheme == "http":
		return usage(cmd, "log in to http://%s: nothing secret is sent without TLS", u.Host).WithHint("%s https://%s%s", cmd.CommandPath(), u.Host, u.EscapedPath())
	case u.Scheme != "https":
		return usage(cmd, "a URL begins with https:// here")
	case o.stdin:
		return usage(cmd, "--stdin gives a key, and a site that is logged in to by its URL takes none")
	}
	return nil
}

// sessionID is what the daemon calls a login.
var sessionID = regexp.MustCompile(`^sess_[a-z0-9]+$`)

// statusAlone checks the command line of --status.
func statusAlone(cmd *cobra.Command, args []string, id string) error {
	others := len(args) > 0
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { others = others || f.Changed && f.Name != "status" })
	switch {
	case others:
		return usage(cmd, "--status asks about a login that was started, and goes with nothing else")
	case len(id) > 64 || !sessionID.MatchString(id):
		return usage(cmd, "--status takes the session ID that --no-wait has printed: sess_ and letters")
	}
	return nil
}

// login starts a login and brings it to its end, as far as the options say.
func (a *app) login(ctx context.Context, o loginOptions) error {
	req := api.LoginRequest{
		Provider: o.provider, Connection: o.connection, Flow: o.flow, Scopes: o.scopes, BaseURL: o.baseURL,
		Force: o.force, Timeout: int(o.timeout / time.Second), AllowPrivate: o.allowPrivate,
	}
	if o.byAddress() {
		req.Provider, req.URL, req.Name = "", o.provider, o.name
	}
	var piped []byte
	if o.stdin {
		var err error
		// Before anything is started, so that nothing is left waiting when
		// there is no key.
		if piped, err = readPiped(a.Stdin, "log in to "+o.provider); err != nil {
			return err
		}
		if req.Flow == "" {
			req.Flow = string(authsome.FlowAPIKey)
		}
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	byCode := a.preferCode(ctx, o)
	if byCode {
		req.Flow = string(authsome.FlowDeviceCode)
	}
	if req.URL != "" {
		a.note("Asking %s how it wants to be logged in to …", req.URL)
	}
	l, err := c.BeginLogin(ctx, req)
	switch {
	case authsome.CodeOf(err) == authsome.ProviderNotFound && !harmless(o.provider) && len(o.provider) > 24 && req.URL == "":
		// Long and unknown: it could be a key, and is not repeated.
		return authsome.E(authsome.ProviderNotFound, "log in: there is no provider of that name").WithHint("authsome list")
	case err != nil:
		if byCode {
			a.note("That was a login by code, since there is no display here. Another way: authsome login %s --flow NAME", o.provider)
		}
		return err
	case l.Already:
		if o.stdin {
			a.note("The key that was given was not used.")
		}
		return a.loggedIn(ctx, l)
	case o.stdin:
		return a.loginPiped(ctx, l, piped)
	}
	a.note("Logging in to %s (%s).", l.Provider, l.Connection)
	return (&guide{app: a, o: o}).follow(ctx, l)
}

// preferCode reports whether the login is to be by device code although nobody
// asked for that: where there is no display, a page that leads back to this
// machine leads nowhere, as over SSH. The daemon words what is wrong with the
// provider's name.
func (a *app) preferCode(ctx context.Context, o loginOptions) bool {
	if o.flow != "" || o.stdin || o.byAddress() || a.display() {
		return false
	}
	p, err := a.api.Provider(ctx, o.provider)
	if err != nil || !prefersCode(p, o) {
		return false
	}
	a.note("There is no display here, so this login is by a code that is entered on any device. In a browser on this machine: --flow %s", p.Flows[0])
	return true
}

// prefersCode is whether a provider's usual flow needs a browser here, and
// another one does not. A connection that is there is for the daemon to judge.
func prefersCode(p api.Provider, o loginOptions) bool {
	if len(p.Flows) == 0 || !slices.Contains(p.Flows, string(authsome.FlowDeviceCode)) {
		return false
	}
	if first := authsome.Flow(p.Flows[0]); first != authsome.FlowPKCE && first != authsome.FlowDCR {
		return false
	}
	return o.force || !slices.ContainsFunc(p.Connections, func(c api.Connection) bool {
		return c.ConnectionName == cmp.Or(o.connection, authsome.DefaultConnection) && c.Status == string(authsome.Connected)
	})
}

// cancelLogin ends a login that this command gives up, if it can.
func (a *app) cancelLogin(l api.Login) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := a.api.CancelLogin(ctx, l.ID); err != nil {
		a.logger().Debug("cancel the login", "login", l.ID, "err", err)
	}
}

// loginDocument has the keys of the Python authsome, and what a person sees
// besides.
type loginDocument struct {
	Status       string `json:"status"` // "started" or "success"; with --status that of the login
	Provider     string `json:"provider"`
	Connection   string `json:"connection"`
	RecordStatus string `json:"record_status"`
	SessionID    string `json:"session_id,omitempty"`
	// Step is what a login that goes on waits for, and what follows is what the
	// person needs for it.
	Step        string `json:"step,omitempty"`
	AuthURL     string `json:"auth_url,omitempty"`
	UserCode    string `json:"user_code,omitempty"`
	VerifyAt    string `json:"verification_uri,omitempty"`
	VerifyAll   string `json:"verification_uri_complete,omitempty"`
	Server      string `json:"authorization_server,omitempty"`
	Resource    string `json:"resource,omitempty"`
	RedirectURI string `json:"redirect_uri,omitempty"`
	AppsURL     string `json:"apps_url,omitempty"`
	Poll        string `json:"poll,omitempty"` // the command that says how it stands

	Account   *authsome.Account `json:"account,omitempty"`
	IsDefault bool              `json:"is_default"`
	Already   bool              `json:"already_connected,omitempty"`
	Replaced  bool              `json:"replaced,omitempty"`
	ExpiresAt *time.Time        `json:"expires_at,omitempty"` // of the login while it goes on, else of the credential
	Notes     []string          `json:"notes,omitempty"`

	Error   string `json:"error,omitempty"` // with --status, as an error's document has them
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// describe makes the document of a login as it stands.
func (a *app) describe(ctx context.Context, l api.Login, status string) loginDocument {
	doc := loginDocument{
		Status: status, Provider: l.Provider, Connection: l.Connection, RecordStatus: string(authsome.NotConnected),
		SessionID: l.ID, Account: l.Account, IsDefault: l.Default, Already: l.Already, Replaced: l.Replaced && !l.Already, Notes: l.Notes,
	}
	if !l.Status.Final() {
		doc.Step, doc.AuthURL, doc.UserCode, doc.VerifyAt, doc.VerifyAll = string(l.Step), l.URL, l.UserCode, l.VerificationURL, l.VerificationURLComplete
		doc.Server, doc.Resource, doc.RedirectURI, doc.AppsURL = l.Server, l.Resource, l.RedirectURI, l.AppsURL
		doc.Poll, doc.ExpiresAt = "authsome login --status "+l.ID, &l.ExpiresAt
	}
	// A connection that is to be replaced works meanwhile. More than the login says
	// is a courtesy: it has worked either way.
	if conn, err := a.api.Connection(ctx, l.Provider, l.Connection, false); err == nil {
		doc.RecordStatus, doc.IsDefault = conn.Status, conn.IsDefault
		if l.Status == authsome.LoginCompleted {
			doc.ExpiresAt = conn.ExpiresAt
			if doc.Account == nil {
				doc.Account = conn.Account
			}
		}
	} else if l.Status == authsome.LoginCompleted {
		doc.RecordStatus = string(authsome.Connected)
	}
	return doc
}

// loginStarted is the end of --no-wait.
func (a *app) loginStarted(ctx context.Context, l api.Login) error {
	return a.done(a.describe(ctx, l, "started"), "Session ID: %s\nIt has %s. `authsome login --status %s` shows how it stands.",
		l.ID, span(time.Until(l.ExpiresAt)+time.Second/2), l.ID)
}

// loginStatus is --status: always JSON. The exit code is that of a failed login
// once it is over without a connection.
func (a *app) loginStatus(ctx context.Context, id string) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	l, err := c.Login(ctx, id, 0)
	if err != nil {
		return err
	}
	doc := a.describe(ctx, l, string(l.Status))
	failed := l.Status.Final() && l.Status != authsome.LoginCompleted
	if failed {
		err := a.failedLogin(l)
		doc.Error, doc.Message, doc.Hint = string(authsome.CodeOf(err)), err.Error(), authsome.HintOf(err)
	}
	if err := a.printJSON(doc); err != nil {
		return err
	}
	if failed {
		return exitStatus(exitCode(authsome.E(authsome.AuthFailed, "")))
	}
	return nil
}

// loginEnded reports how a login ended.
func (a *app) loginEnded(ctx context.Context, l api.Login) error {
	if l.Status == authsome.LoginCompleted {
		return a.loggedIn(ctx, l)
	}
	return a.failedLogin(l)
}

// failedLogin is the error of a login that led to no connection.
func (a *app) failedLogin(l api.Login) error {
	if l.Code != "" {
		return (&api.Failure{Error: l.Code, Message: l.Error, Hint: l.Hint}).Err()
	}
	again := "authsome login " + l.Provider
	switch l.Status {
	case authsome.LoginExpired:
		return authsome.E(authsome.TimedOut, "log in to %s: nobody finished it in time", l.Provider).WithHint("%s", again)
	case authsome.LoginCancelled:
		return authsome.E(authsome.Cancelled, "log in to %s: it was cancelled", l.Provider).WithHint("%s", again)
	default:
		return authsome.E(authsome.AuthFailed, "log in to %s: it failed", l.Provider).WithHint("%s", again)
	}
}

// loggedIn reports success, or that there was nothing to do.
func (a *app) loggedIn(ctx context.Context, l api.Login) error {
	doc := a.describe(ctx, l, "success")
	for _, n := range l.Notes {
		a.note("Note: %s.", n)
	}
	account := accountLabel(doc.Account)
	if l.Already {
		doc.SessionID = ""
		as := ""
		if account != "" {
			as = " as " + account
		}
		return a.done(doc, "Already logged in to %s (%s)%s. Use --force to log in again.", l.Provider, l.Connection, as)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Logged in to %s (%s)", l.Provider, l.Connection)
	if account != "" {
		fmt.Fprintf(&text, " as %s", account)
	}
	text.WriteString(".")
	if doc.Replaced {
		text.WriteString(" The earlier credential was replaced.")
	}
	switch {
	case doc.IsDefault:
		fmt.Fprintf(&text, "\nIt is what %s uses by default.", l.Provider)
	default:
		fmt.Fprintf(&text, "\nAnother connection is the default of %s; `authsome set-default %s %s` changes that.", l.Provider, l.Provider, l.Connection)
	}
	if doc.ExpiresAt != nil && !doc.ExpiresAt.IsZero() {
		fmt.Fprintf(&text, "\nIt %s.", expiry(doc.ExpiresAt, time.Now()))
	}
	return a.done(doc, "%s", text.String())
}
