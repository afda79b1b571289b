package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	// maxDefinition bounds a definition file; the longest known has 4 KiB.
	maxDefinition = 1 << 20
	// reachTimeout bounds the whole look at a definition's hosts.
	reachTimeout = 5 * time.Second
)

func newRegisterCmd(a *app) *cobra.Command {
	var force, yes bool
	cmd := &cobra.Command{
		Use:   "register PATH",
		Short: "Add a provider from a definition file",
		Long: `Add a provider from a definition file, JSON with comments allowed. The hosts that
will receive the credential are shown before it is added: a definition decides
where a secret goes.

A name that exists already is replaced with --force only. Existing connections
stay bound to the hosts that they were made for.`,
		Example: `  authsome register ./my-service.json
  authsome register ./my-service.json --force --yes`,
		Args: arguments("the path of a definition file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.register(cmd.Context(), args[0], force, yes || force || a.opt.json || a.opt.quiet)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a definition of the same name; do not ask")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) register(ctx context.Context, path string, force, yes bool) error {
	text, err := readDefinition(path)
	if err != nil {
		return err
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	reg := api.Registration{Filename: filepath.Base(path), Definition: text, Force: force, DryRun: true}
	seen, err := c.Register(ctx, reg)
	if err != nil {
		return err
	}
	if (seen.Replaced || seen.Shadows) && !force {
		// Asked for the error, which the daemon words.
		reg.DryRun = false
		if _, err := c.Register(ctx, reg); err != nil {
			return err
		}
	}
	warnings := append([]string{}, seen.Provider.Warnings...)
	a.note("%s", registrationSummary(seen))
	for _, w := range warnings {
		a.warn("%s", w)
	}
	if !yes {
		switch ok, err := a.confirm(ctx, "Register it?"); {
		case errors.Is(err, errNobody):
			return authsome.E(authsome.Cancelled, "%w", err).WithHint("pass --yes to go on without it")
		case err != nil:
			return err
		case !ok:
			a.note("Nothing was registered.")
			return nil
		}
	}
	reg.DryRun = false
	done, err := c.Register(ctx, reg)
	if err != nil {
		return err
	}
	if !a.opt.quiet || a.opt.json {
		for _, w := range a.unreachable(ctx, done.Provider.Name) {
			warnings = append(warnings, w)
			a.warn("%s", w)
		}
	}
	return a.done(struct {
		Status   string   `json:"status"`
		Provider string   `json:"provider"`
		Warnings []string `json:"warnings"`
	}{"registered", done.Provider.Name, warnings},
		"Registered provider %s. Next: authsome login %s", done.Provider.Name, done.Provider.Name)
}

// readDefinition reads the file and says what is wrong with it as a file; what
// is in it is the daemon's to judge.
func readDefinition(path string) (string, error) {
	bad := func(why string) error {
		return authsome.E(authsome.Invalid, "register %s: %s", path, why).WithHint("give the path of a definition file: authsome register ./my-service.json")
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", bad("there is no such file")
	case err != nil:
		return "", bad(cause(err).Error())
	case fi.IsDir():
		return "", bad("it is a directory")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", bad(cause(err).Error())
	}
	defer func() { _ = f.Close() }()
	// Bounded by what is read, not by what Stat says: it may be a pipe.
	data, err := io.ReadAll(io.LimitReader(f, maxDefinition+1))
	switch {
	case err != nil:
		return "", bad(cause(err).Error())
	case len(data) > maxDefinition:
		return "", bad("it is longer than 1 MiB, and no definition is")
	}
	return string(data), nil
}

// registrationSummary is what a person must know before they agree.
func registrationSummary(r api.Registered) string {
	p := r.Provider
	var b strings.Builder
	line := func(k, v string) { fmt.Fprintf(&b, "  %-12s %s\n", k+":", cleanLine(v)) }
	fmt.Fprintf(&b, "Provider %s\n", cleanLine(p.Name))
	line("Name", p.DisplayName)
	line("Auth", fmt.Sprintf("%s (%s)", p.AuthType, strings.Join(p.Flows, ", ")))
	hosts := strings.Join(p.Hosts, ", ")
	if hosts == "" {
		hosts = "none: nothing is routed"
	}
	line("Sent to", hosts)
	if h := injected(p.Definition); h != "" {
		line("Sent as", h)
	}
	switch {
	case r.Replaced:
		line("Replaces", "the registered definition of this name")
	case r.Shadows:
		line("Replaces", "the definition of this name that comes with authsome")
	}
	return strings.TrimRight(b.String(), "\n")
}

// definitionFields are what the command itself reads of a definition, for show:
// the daemon decides.
type definitionFields struct {
	APIKey struct {
		Header string  `json:"header_name"`
		Prefix *string `json:"header_prefix"`
	} `json:"api_key"`
	OAuth struct {
		AuthorizationURL string `json:"authorization_url"`
	} `json:"oauth"`
}

// injected says which header carries the credential, as far as a definition of
// schema 1 tells.
func injected(def json.RawMessage) string {
	var d definitionFields
	if json.Unmarshal(def, &d) != nil || d.APIKey.Header == "" {
		return ""
	}
	prefix := "Bearer "
	if d.APIKey.Prefix != nil {
		prefix = strings.TrimSuffix(*d.APIKey.Prefix, " ") + " "
	}
	return strings.TrimSpace(d.APIKey.Header + ": " + strings.TrimLeft(prefix, " ") + "…")
}

var errNobody = errors.New("nobody answered the question")

// confirm asks a yes-or-no question of whoever stdin is; no answer is no
// permission.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	_, _ = fmt.Fprintf(a.Stderr, "%s [y/N] ", question)
	type answer struct {
		text string
		err  error
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	got := make(chan answer, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(a.Stdin, 256)).ReadString('\n')
		got <- answer{text, err}
	}()
	var in answer
	select {
	case <-ctx.Done():
		in.err = ctx.Err()
	case in = <-got:
	}
	if in.err != nil || !term.IsTerminal(int(a.Stdin.Fd())) {
		_, _ = fmt.Fprintln(a.Stderr) // which a person's own Enter would have done
	}
	switch {
	case ctx.Err() != nil:
		return false, authsome.E(authsome.Cancelled, "cancelled")
	case in.err != nil && in.text == "":
		return false, authsome.E(authsome.Cancelled, "%w", errNobody)
	}
	answered := strings.ToLower(strings.TrimSpace(in.text))
	return answered == "y" || answered == "yes", nil
}

// unreachable looks whether a new definition's hosts answer at all, which shows
// a mistyped one early. What they answer does not matter, and no redirect is
// followed: nothing but the definition's own hosts is asked.
func (a *app) unreachable(ctx context.Context, provider string) []string {
	p, err := a.api.Provider(ctx, provider)
	if err != nil {
		return nil
	}
	var targets []string
	for _, h := range p.Hosts {
		if !strings.Contains(h, "*") {
			targets = append(targets, "https://"+h+"/")
		}
	}
	var d definitionFields
	if json.Unmarshal(p.Definition, &d) == nil && strings.HasPrefix(d.OAuth.AuthorizationURL, "https://") {
		targets = append(targets, d.OAuth.AuthorizationURL)
	}
	if len(targets) > 0 {
		a.note("Testing whether %s answers …", p.DisplayName)
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	warnings := make([]string, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodHead, target, nil)
			if err == nil {
				var resp *http.Response
				if resp, err = client.Do(req); err == nil {
					_ = resp.Body.Close()
					return
				}
			}
			var u *url.Error
			if errors.As(err, &u) {
				err = u.Err
			}
			why := err.Error()
			if errors.Is(err, context.DeadlineExceeded) {
				why = "no answer within " + reachTimeout.String()
			}
			warnings[i] = fmt.Sprintf("%s cannot be reached: %s", target, why)
		})
	}
	wg.Wait()
	var out []string
	for _, w := range warnings {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}
