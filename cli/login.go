package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
}

const (
	defaultLoginTimeout = 300 * time.Second
	// loginPoll is how long one question to the daemon waits for the login to
	// end.
	loginPoll = 50 * time.Second
	// promptTries is how often a key that does not look right may be typed.
	promptTries = 3
)

func newLoginCmd(a *app) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login PROVIDER",
		Short: "Connect an account",
		Long: `Connect an account, and wait until it is done. The secret is typed into a page
in the browser, or at a prompt where there is no display, or comes from standard
input with --stdin. It is never an argument, which other programs could read.

The address of the page is always printed: it may be opened in any browser on
this machine. Ending this command does not cancel the login.

The first connection of a provider becomes its default. With --force an existing
one is replaced, and becomes the default.`,
		Example: `  authsome login openai
  authsome login github --connection work
  authsome login github --connection work --force    # replace it, make it the default
  authsome login openai --stdin < key.txt
  authsome login openai --no-wait --json             # for a program that polls`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return keyAsArgument(cmd, "%s takes %s and nothing else", cmd.CommandPath(), aProvider)
			}
			return arguments(aProvider)(cmd, args)
		},
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.provider = args[0]
			ctx, stop := interruptible(cmd.Context())
			defer stop()
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
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if !errors.As(err, &unknown) {
			return flagError(cmd, err)
		}
		switch name := unknown.GetSpecifiedName(); {
		case unknown.GetSpecifiedShortnames() != "" || !harmless(name):
			return keyAsArgument(cmd, "%s has no such flag", cmd.CommandPath())
		case slices.Contains([]string{"key", "api-key", "apikey", "token", "secret", "password"}, name):
			return keyAsArgument(cmd, "%s has no flag --%s", cmd.CommandPath(), name)
		}
		return flagError(cmd, err)
	})
	f := cmd.Flags()
	a.connectionFlag(cmd, &o.connection, `what to call this account (default "default")`)
	f.StringVar(&o.flow, "flow", "", "`NAME` of the way to log in (default: the first that inspect lists)")
	f.StringSliceVar(&o.scopes, "scopes", nil, "what to ask for, separated by commas")
	f.StringVar(&o.baseURL, "base-url", "", "address of a service that you host yourself")
	f.BoolVar(&o.force, "force", false, "replace an existing connection and make it the default")
	f.BoolVar(&o.stdin, "stdin", false, "read the key from standard input; one line for each field")
	f.DurationVar(&o.timeout, "timeout", defaultLoginTimeout, "how long the login may take")
	f.BoolVar(&o.noWait, "no-wait", false, "start the login and return at once")
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

// login starts a login and brings it to its end, as far as the options say.
func (a *app) login(ctx context.Context, o loginOptions) error {
	req := api.LoginRequest{
		Provider: o.provider, Connection: o.connection, Flow: o.flow, Scopes: o.scopes, BaseURL: o.baseURL,
		Force: o.force, Timeout: int(o.timeout / time.Second), AllowPrivate: o.allowPrivate,
	}
	var piped []byte
	if o.stdin {
		var err error
		// Before anything is started, so that nothing is left waiting when
		// there is no key.
		if piped, err = readPiped(a.Stdin, o.provider); err != nil {
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
	l, err := c.BeginLogin(ctx, req)
	switch {
	case authsome.CodeOf(err) == authsome.ProviderNotFound && !harmless(o.provider) && len(o.provider) > 24:
		// Long and unknown: it could be a key, and is not repeated.
		return authsome.E(authsome.ProviderNotFound, "log in: there is no provider of that name").WithHint("authsome list")
	case err != nil:
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
	prompter, canPrompt := a.newPrompter()
	canPrompt = canPrompt && len(l.Fields) > 0 && !o.noWait
	switch {
	case l.URL != "":
		a.tell("Visit: %s", l.URL)
	case !canPrompt:
		a.cancelLogin(l)
		return authsome.E(authsome.DaemonUnavailable, "log in to %s: no page can be shown, because the daemon has no port for browsers", l.Provider).
			WithHint("authsome doctor says why; `authsome login %s --stdin` needs no browser", l.Provider)
	}
	opened := false
	if l.URL != "" && !o.noBrowser && a.display() {
		if err := a.openBrowser(l.URL); err != nil {
			a.note("No browser could be opened: %v.", err)
		} else {
			opened = true
			a.note("It opens in your browser.")
		}
	}
	switch {
	case o.noWait:
		return a.loginStarted(ctx, l)
	case !opened && canPrompt:
		return a.loginPrompt(ctx, l, prompter)
	}
	a.note("Waiting until it is done there. Ctrl-C ends the waiting, not the login.")
	l, err = a.waitLogin(ctx, l)
	if err != nil {
		return err
	}
	return a.loginEnded(ctx, l)
}

// readPiped reads what --stdin gives, up to the size of the longest keys, and
// refuses nothing at all.
func readPiped(r io.Reader, provider string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTyped+1))
	switch {
	case err != nil:
		return nil, authsome.E(authsome.Invalid, "log in to %s: standard input cannot be read: %w", provider, cause(err))
	case len(data) > maxTyped:
		return nil, authsome.E(authsome.Invalid, "log in to %s: standard input is longer than 64 KiB, and no key is", provider)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // which PowerShell puts in front
	data = bytes.TrimRight(data, "\r\n")
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, authsome.E(authsome.Invalid, "log in to %s: standard input is empty: no key came", provider)
	}
	return data, nil
}

// pipedFields makes the fields of a login from lines, one for each in the
// definition's order. The errors quote nothing.
func pipedFields(l api.Login, data []byte) (map[string]authsome.Secret, error) {
	bad := func(why string, args ...any) error {
		labels := make([]string, len(l.Fields))
		for i, f := range l.Fields {
			labels[i] = f.Label
		}
		return authsome.E(authsome.Invalid, "log in to %s: %s", l.Provider, fmt.Sprintf(why, args...)).
			WithHint("give %d line(s) on standard input: %s", len(l.Fields), strings.Join(labels, ", "))
	}
	lines := bytes.Split(data, []byte("\n"))
	if len(lines) != len(l.Fields) {
		return nil, bad("standard input has %d lines, not %d", len(lines), len(l.Fields))
	}
	fields := map[string]authsome.Secret{}
	for i, line := range lines {
		line = bytes.TrimSuffix(line, []byte("\r"))
		switch {
		case len(bytes.TrimSpace(line)) == 0:
			return nil, bad("line %d is empty", i+1)
		case !utf8.Valid(line):
			return nil, bad("line %d is not text in UTF-8", i+1)
		case bytes.ContainsFunc(line, unicode.IsControl):
			return nil, bad("line %d has a control character in it", i+1)
		}
		fields[l.Fields[i].Name] = authsome.NewSecret(string(line))
	}
	return fields, nil
}

// loginPiped finishes a login with what came from standard input.
func (a *app) loginPiped(ctx context.Context, l api.Login, data []byte) error {
	defer clear(data)
	fields, err := pipedFields(l, data)
	if err == nil {
		var done api.Login
		if done, err = a.api.SubmitLogin(ctx, l.ID, fields); err == nil {
			return a.loginEnded(ctx, done)
		}
	}
	a.cancelLogin(l)
	return err
}

// loginPrompt asks on the terminal, while the page in a browser remains a way
// to finish.
func (a *app) loginPrompt(ctx context.Context, l api.Login, p *prompter) error {
	if l.URL != "" {
		a.note("Open it in a browser on this machine, or answer here.")
	}
	if err := p.start(); err != nil {
		return err
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			p.stop()
		}
	}
	defer stop()

	// The browser may be quicker; then the question is taken back.
	type ended struct {
		l   api.Login
		err error
	}
	waiting, cancelWait := context.WithCancel(ctx)
	defer cancelWait()
	asking, cancelAsk := context.WithCancel(ctx)
	defer cancelAsk()
	elsewhere := make(chan ended, 1)
	go func() {
		l, err := a.waitLogin(waiting, l)
		elsewhere <- ended{l, err}
		cancelAsk()
	}()

	for try := 1; ; try++ {
		fields, err := askFields(asking, p, l)
		if err == nil && p.typedAhead() {
			err = authsome.E(authsome.Invalid, "log in to %s: what was pasted has more than one line", l.Provider)
			p.rest = nil
		}
		if err == nil {
			var done api.Login
			if done, err = a.api.SubmitLogin(ctx, l.ID, fields); err == nil {
				stop()
				return a.loginEnded(ctx, done)
			}
		}
		select {
		case e := <-elsewhere:
			stop()
			if e.err != nil {
				return e.err
			}
			return a.loginEnded(ctx, e.l)
		default:
		}
		switch {
		case authsome.CodeOf(err) == authsome.Invalid && try < promptTries:
			a.retryNote(p, err)
			continue
		case errors.Is(err, errInterrupted), errors.Is(err, errEndOfInput), errors.Is(err, context.Canceled):
			err = authsome.E(authsome.Cancelled, "log in to %s: cancelled", l.Provider)
		case errors.Is(err, errLongInput):
			err = authsome.E(authsome.Invalid, "log in to %s: that is longer than 64 KiB, and no key is", l.Provider)
		}
		stop()
		cancelWait()
		a.cancelLogin(l)
		return err
	}
}

// askFields asks for every field of a login.
func askFields(ctx context.Context, p *prompter, l api.Login) (map[string]authsome.Secret, error) {
	fields := map[string]authsome.Secret{}
	for _, f := range l.Fields {
		value, err := p.ask(ctx, f.Label, f.Public)
		if err != nil {
			return nil, err
		}
		fields[f.Name] = value
	}
	return fields, nil
}

// retryNote says why the same is asked again. The terminal is in raw mode, so
// that lines end with both characters.
func (a *app) retryNote(p *prompter, err error) {
	_, _ = fmt.Fprintf(p.out, "%s\r\n", cleanLine(err.Error()))
	if hint := authsome.HintOf(err); hint != "" {
		_, _ = fmt.Fprintf(p.out, "Hint: %s\r\n", cleanLine(hint))
	}
}

// waitLogin waits until a login has ended. A daemon that dies meanwhile is
// started again: the login is a row, and goes on.
func (a *app) waitLogin(ctx context.Context, l api.Login) (api.Login, error) {
	c := a.api
	for failures := 0; ; {
		now, err := c.Login(ctx, l.ID, loginPoll)
		switch {
		case err == nil && now.Status.Final():
			return now, nil
		case err == nil:
			failures = 0
			continue
		case ctx.Err() != nil:
			e := authsome.E(authsome.Cancelled, "log in to %s: no longer waiting; the login goes on", l.Provider)
			if l.URL != "" {
				e = e.WithHint("finish it at %s", l.URL)
			}
			return l, e
		case authsome.CodeOf(err) != authsome.DaemonUnavailable:
			return l, err
		}
		if failures++; failures > 3 {
			return l, err
		}
		home, herr := a.home()
		if herr != nil {
			return l, herr
		}
		again, cerr := api.Connect(ctx, api.Options{Home: home, Environ: a.Environ})
		if cerr != nil {
			return l, cerr
		}
		defer again.Close()
		c = again
	}
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
	Status       string     `json:"status"` // "started" or "success"
	Provider     string     `json:"provider"`
	Connection   string     `json:"connection"`
	RecordStatus string     `json:"record_status"`
	SessionID    string     `json:"session_id,omitempty"`
	AuthURL      string     `json:"auth_url,omitempty"`
	IsDefault    bool       `json:"is_default"`
	Already      bool       `json:"already_connected,omitempty"`
	Replaced     bool       `json:"replaced,omitempty"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"` // of the login while it has only started, else of the credential
}

// loginStarted is the end of --no-wait.
func (a *app) loginStarted(ctx context.Context, l api.Login) error {
	doc := loginDocument{
		Status: "started", Provider: l.Provider, Connection: l.Connection,
		RecordStatus: string(authsome.NotConnected), SessionID: l.ID, AuthURL: l.URL,
		Replaced: l.Replaced, ExpiresAt: &l.ExpiresAt,
	}
	if l.Replaced { // the connection that is to be replaced works meanwhile
		if conn, err := a.api.Connection(ctx, l.Provider, l.Connection, false); err == nil {
			doc.RecordStatus, doc.IsDefault = conn.Status, conn.IsDefault
		}
	}
	return a.done(doc, "Session ID: %s\nIt has %s. `authsome list` shows when it is done.", l.ID, span(time.Until(l.ExpiresAt)+time.Second/2))
}

// loginEnded reports how a login ended.
func (a *app) loginEnded(ctx context.Context, l api.Login) error {
	if l.Status == authsome.LoginCompleted {
		return a.loggedIn(ctx, l)
	}
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
	doc := loginDocument{
		Status: "success", Provider: l.Provider, Connection: l.Connection, RecordStatus: string(authsome.Connected),
		SessionID: l.ID, AuthURL: l.URL, IsDefault: l.Default, Already: l.Already, Replaced: l.Replaced && !l.Already,
	}
	var account string
	// More than the login says is a courtesy: it has worked either way.
	if conn, err := a.api.Connection(ctx, l.Provider, l.Connection, false); err == nil {
		doc.RecordStatus, doc.ExpiresAt, doc.IsDefault = conn.Status, conn.ExpiresAt, conn.IsDefault
		account = accountLabel(conn.Account)
	}
	if l.Already {
		doc.SessionID, doc.AuthURL = "", ""
		return a.done(doc, "Already logged in to %s (%s). Use --force to log in again.", l.Provider, l.Connection)
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
