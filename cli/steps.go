package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"golang.org/x/term"
)

// guide leads a person through the steps of one login.
type guide struct {
	*app
	o      loginOptions
	opened bool // a browser shows the login, and goes on by itself
	waited bool // how to end the waiting has been said
}

// follow goes from step to step until the login is over. With --no-wait it says
// what the first one needs.
func (g *guide) follow(ctx context.Context, l api.Login) error {
	for !l.Status.Final() {
		next, err := g.step(ctx, l)
		switch {
		case err != nil:
			return err
		case g.o.noWait:
			return g.loginStarted(ctx, l)
		}
		l = next
	}
	return g.loginEnded(ctx, l)
}

// step shows one step and returns the login once it waits for another one.
func (g *guide) step(ctx context.Context, l api.Login) (api.Login, error) {
	switch l.Step {
	case authsome.StepKey, authsome.StepClient:
		return g.form(ctx, l)
	case authsome.StepConfirm:
		return g.confirmServer(ctx, l)
	case authsome.StepAuthorize:
		return g.authorize(ctx, l)
	case authsome.StepDevice:
		return g.device(ctx, l)
	default:
		return g.wait(ctx, l, "")
	}
}

// form has a key or an OAuth app's credentials typed: on the page, or where no
// browser could be opened on the terminal, if there is one.
func (g *guide) form(ctx context.Context, l api.Login) (api.Login, error) {
	prompter, canPrompt := g.newPrompter()
	canPrompt = canPrompt && len(l.Fields) > 0 && !g.o.noWait
	if err := g.page(l, canPrompt, "`authsome login "+l.Provider+" --stdin` needs no browser"); err != nil {
		return l, err
	}
	if l.URL != "" {
		g.openFor(l.URL)
	}
	if g.opened || !canPrompt {
		return g.wait(ctx, l, "Waiting until it is done there.")
	}
	if l.Step == authsome.StepClient {
		g.explainApp(l)
	}
	return g.loginPrompt(ctx, l, prompter)
}

// page tells the address of the login's own page. Without one the login ends,
// unless it can go on here.
func (g *guide) page(l api.Login, orHere bool, otherwise string) error {
	switch {
	case l.URL != "":
		g.tell("Visit: %s", l.URL)
	case !orHere:
		g.cancelLogin(l)
		return authsome.E(authsome.DaemonUnavailable, "log in to %s: no page can be shown, because the daemon has no port for browsers", l.Provider).
			WithHint("authsome doctor says why; %s", otherwise)
	}
	return nil
}

// explainApp says what an OAuth app is needed for, where the page would.
func (g *guide) explainApp(l api.Login) {
	g.tell("%s lets a program log in only by way of an OAuth app that was created there.\nCreate one of your own, once:", l.Provider)
	if l.AppsURL != "" {
		g.tell("  at            %s", l.AppsURL)
	}
	if l.RedirectURI != "" {
		g.tell("  redirect URI  %s", l.RedirectURI)
	} else {
		g.tell("  and allow it the device flow")
	}
	g.tell("What the service shows for it is asked for only once:")
}

// confirmServer asks whether a server on another site may be asked. It is the
// person who must say so: --json and --quiet do not answer it.
func (g *guide) confirmServer(ctx context.Context, l api.Login) (api.Login, error) {
	here := term.IsTerminal(int(g.Stdin.Fd())) && !g.o.noWait
	g.tell("%s says that its logins are made at %s, which is another site.\n"+
		"A hostile service could name a server that has nothing to do with it, to get a\n"+
		"login of yours that is meant for another one. Go on only if you know that the two\n"+
		"belong together.", cleanLine(l.Resource), cleanLine(l.Server))
	if !here {
		if err := g.page(l, false, "or log in on a terminal"); err != nil {
			return l, err
		}
		g.openFor(l.URL)
		return g.wait(ctx, l, "Waiting until that is answered there.")
	}
	yes, err := g.confirm(ctx, fmt.Sprintf("Log in to %s at %s?", cleanLine(l.Resource), cleanLine(l.Server)))
	if err == nil && !yes {
		err = authsome.E(authsome.Cancelled, "log in to %s: the server %s was not confirmed", l.Provider, l.Server)
	}
	if err != nil {
		g.cancelLogin(l)
		return l, err
	}
	next, err := g.api.ConfirmLogin(ctx, l.ID)
	if authsome.CodeOf(err) == authsome.Invalid {
		// Answered on the page meanwhile.
		return g.api.Login(ctx, l.ID, 0)
	}
	return next, err
}

// authorize sends the person to the service's own page.
func (g *guide) authorize(ctx context.Context, l api.Login) (api.Login, error) {
	if !plainHTTPS(l.URL) {
		return g.unsafeAddress(l)
	}
	g.tell("Visit: %s", l.URL)
	if g.opened {
		return g.wait(ctx, l, "It goes on in your browser.")
	}
	if g.openFor(l.URL); !g.opened {
		g.noBrowserHere(ctx, l)
	}
	return g.wait(ctx, l, "Waiting until it is done there.")
}

// noBrowserHere says what helps where the browser that the person has is on
// another machine: the service leads it back to 127.0.0.1, which is that one.
func (g *guide) noBrowserHere(ctx context.Context, l api.Login) {
	if g.display() || !term.IsTerminal(int(g.Stderr.Fd())) {
		return
	}
	if p, err := g.api.Provider(ctx, l.Provider); err == nil && slices.Contains(p.Flows, string(authsome.FlowDeviceCode)) {
		g.note("It has to be a browser on this machine. With one elsewhere: authsome login %s --flow device_code", l.Provider)
		return
	}
	port := "7998"
	if u, err := url.Parse(l.RedirectURI); err == nil && u.Port() != "" {
		port = u.Port()
	}
	g.note("It has to be a browser on this machine, or one whose port %s leads here: ssh -L %s:127.0.0.1:%s HOST", port, port, port)
}

// unsafeAddress ends a login whose server wants people to go where nobody should
// be sent. Discovery refuses such addresses already; one that got through would
// be handed to the system, which starts other programs for other schemes.
func (g *guide) unsafeAddress(l api.Login) (api.Login, error) {
	g.cancelLogin(l)
	return l, authsome.E(authsome.AuthFailed, "log in to %s: the service wants it to go on at an address that is not plain https", l.Provider).
		WithHint("authsome inspect %s", l.Provider)
}

// plainHTTPS reports whether an address may be shown and opened.
func plainHTTPS(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && clean(address) == address
}

// openFor opens the browser if there is a display and nobody said no.
func (g *guide) openFor(address string) {
	if g.opened || g.o.noBrowser || !g.display() {
		return
	}
	if err := g.openBrowser(address); err != nil {
		g.note("No browser could be opened: %v.", err)
		return
	}
	g.opened = true
	g.note("It opens in your browser.")
}

// wait waits until the login waits for something else. what is said first.
func (g *guide) wait(ctx context.Context, l api.Login, what string) (api.Login, error) {
	if g.o.noWait {
		return l, nil
	}
	if what != "" {
		if !g.waited {
			g.waited = true
			what += " Ctrl-C ends the waiting, not the login."
		}
		g.note("%s", what)
	}
	return g.waitLogin(ctx, l)
}

// loginPrompt asks for a form's values on the terminal, while the page in a browser
// remains a way to give them. It returns the login with its next step.
func (a *app) loginPrompt(ctx context.Context, l api.Login, p *prompter) (api.Login, error) {
	if l.URL != "" {
		a.note("Open it in a browser on this machine, or answer here.")
	}
	if err := p.start(); err != nil {
		return l, err
	}
	defer p.stop()

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
				return done, nil
			}
		}
		select {
		case e := <-elsewhere:
			return e.l, e.err
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
		cancelWait()
		a.cancelLogin(l)
		return l, err
	}
}

// askFields asks for every field of a login.
func askFields(ctx context.Context, p *prompter, l api.Login) (map[string]authsome.Secret, error) {
	fields := map[string]authsome.Secret{}
	for _, f := range l.Fields {
		value, err := p.askField(ctx, f)
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

// waitLogin waits until a login has ended or waits for something else. A daemon
// that dies meanwhile is started again: the login is a row, and goes on.
func (a *app) waitLogin(ctx context.Context, l api.Login) (api.Login, error) {
	c := a.api
	// The first question does not wait: the daemon compares with what it knows,
	// and the step may have changed since the person was told.
	poll := time.Duration(0)
	for failures := 0; ; {
		now, err := c.Login(ctx, l.ID, poll)
		switch {
		case err == nil && (now.Status.Final() || now.Step != l.Step):
			return now, nil
		case err == nil:
			failures, poll = 0, loginPoll
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
