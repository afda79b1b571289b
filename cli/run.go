package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/launch"
	"github.com/spf13/cobra"
)

// runOptions are the flags of `run`.
type runOptions struct {
	connections []string // provider=name
	providers   []string // the only ones; none means all
	mode        string
	explain     bool
	noProfile   bool
	noScrub     bool
	noShims     bool
	noShim      []string
}

func newRunCmd(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENTS]",
		Short: "Run a command with your connections, without the secrets",
		Long: `Run a command whose requests carry your credentials. The command itself sees
"authsome-proxy-managed" wherever a key would be; a local proxy puts the real
one on each request to the services that you are logged in to.

Standard input, output and the terminal are the command's own. Signals reach it,
and its exit code is returned: 128+n when signal n ended it, 127 when there is
no such command, 126 when it cannot be executed.

The two dashes are needed: what follows them is the command and nothing else.

Modes: connected_allow (default) routes the services that you are logged in to
and lets everything else pass; connected_deny refuses everything else;
configured_allow and configured_deny treat every known service alike, and
answer "log in first" for those without a connection.

Some programs look at no variable for proxies. For them a shim is loaded by Node
and by Python, and JVMs get a trust store; --no-shims leaves that out, and so
does AUTHSOME_NO_SHIM, with names separated by commas, or "all".`,
		Example: `  authsome run -- codex
  authsome run -- gh api user
  authsome run --connection github=work -- git push
  authsome run --provider openai,github -- codex          # and nothing else of yours
  authsome run --explain -- codex exec 'fix the tests'    # show what would change`,
		// Everything after -- is the child's, however it looks.
		DisableFlagsInUseLine: true,
		Args:                  runArguments,
		ValidArgsFunction:     cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.connections, "connection", nil, "use this connection: PROVIDER=NAME (may be repeated)")
	f.StringSliceVar(&o.providers, "provider", nil, "use these providers only: `NAME,…` (may be repeated)")
	f.StringVar(&o.mode, "mode", "", "connected_allow, connected_deny, configured_allow or configured_deny")
	f.BoolVar(&o.explain, "explain", false, "print what the command would get, and do not start it")
	f.BoolVar(&o.noProfile, "no-profile", false, "add nothing that is meant for this agent in particular")
	f.BoolVar(&o.noScrub, "no-scrub", false, "pass answers on as they are, also where they tell a credential")
	f.BoolVar(&o.noShims, "no-shims", false, "load nothing into Node, Python or Java")
	f.StringSliceVar(&o.noShim, "no-shim", nil, "leave this shim out: java, node or python (may be repeated)")
	_ = cmd.RegisterFlagCompletionFunc("no-shim", cobra.FixedCompletions([]string{"java", "node", "python"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("provider", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeProviders(cmd, nil, typed)
	})
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(modes, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var modes = []string{
	string(authsome.ConnectedAllow), string(authsome.ConnectedDeny),
	string(authsome.ConfiguredAllow), string(authsome.ConfiguredDeny),
}

// runArguments wants the command behind "--", always: `run gh --json` would
// otherwise leave it open whose --json that is.
func runArguments(cmd *cobra.Command, args []string) error {
	const example = "authsome run -- codex"
	dash := cmd.ArgsLenAtDash()
	switch {
	case dash < 0 && len(args) > 0:
		e := usage(cmd, "run needs -- in front of the command")
		if harmless(args[0]) {
			return e.WithHint("authsome run -- %s …", args[0])
		}
		return e.WithHint("for example: %s", example)
	case dash > 0:
		return usage(cmd, "run takes nothing but flags in front of --").WithHint("for example: %s", example)
	case len(args) == 0 || args[0] == "":
		return usage(cmd, "run needs a command").WithHint("for example: %s", example)
	}
	return nil
}

// choices reads PROVIDER=NAME.
func (o runOptions) choices() (map[string]string, error) {
	out := map[string]string{}
	for _, c := range o.connections {
		provider, name, ok := strings.Cut(c, "=")
		if !ok || provider == "" || name == "" {
			return nil, authsome.E(authsome.Usage, "--connection needs a provider and the name of a connection").
				WithHint("for example: authsome run --connection github=work -- gh api user")
		}
		if was, twice := out[provider]; twice && was != name {
			return nil, authsome.E(authsome.Usage, "--connection names two connections of %s", cleanLine(provider)).
				WithHint("a request can choose by its placeholder: authsome-proxy-managed.NAME")
		}
		out[provider] = name
	}
	return out, nil
}

// run starts the child and returns its exit code as an exitStatus.
func (a *app) run(ctx context.Context, o runOptions, argv []string) error {
	choices, err := o.choices()
	if err != nil {
		return err
	}
	if o.mode != "" && !slices.Contains(modes, o.mode) {
		return authsome.E(authsome.Usage, "there is no such mode").WithHint("one of %s", strings.Join(modes, ", "))
	}
	withoutShims, err := o.withoutShims(a.getenv(noShimVariable))
	if err != nil {
		return err
	}
	path, err := launch.Find(argv[0])
	if err != nil {
		return err
	}
	trustDir, err := launch.TrustDir()
	if err != nil {
		return err
	}
	// Reading the person's roots takes about as long as the daemon's answer.
	gathered := make(chan *launch.Roots, 1)
	go func() { gathered <- launch.GatherRoots(a.Environ, runtime.GOOS) }()

	g, err := a.grant(ctx, api.GrantRequest{
		Program: filepath.Base(argv[0]), Mode: o.mode, Connections: choices, Providers: o.providers, NoScrub: o.noScrub,
	})
	if err != nil {
		return err
	}
	defer g.close()
	ca := []byte(g.info.CA)
	proxy := launch.Proxy{Port: g.info.Port, Token: g.info.Token}
	checked := make(chan error, 1)
	if !o.explain {
		go func() { checked <- launch.Check(ctx, proxy, ca) }()
	}
	roots := <-gathered
	trust, err := roots.Write(trustDir, ca)
	if err != nil {
		return err
	}
	defer trust.Release()

	var plan *launch.Plan
	if !o.noProfile {
		plan = launch.Profile(argv, launch.Facts{
			Environ: a.Environ, OS: runtime.GOOS, Path: path, Connected: slices.Sorted(maps.Keys(g.info.Providers)),
		})
	}
	env, changes := launch.Environment(launch.Settings{
		Environ: a.Environ, OS: runtime.GOOS, Proxy: proxy, Trust: trust,
		Placeholders: g.info.Placeholders, Leaked: g.info.Leaked, Hosts: g.info.Hosts, Plan: plan,
		WithoutShims: withoutShims,
	})
	for _, w := range roots.Warnings {
		a.warn("%s", cleanLine(w))
	}
	if o.explain {
		return a.explain(argv, path, plan, changes, shimsFor(withoutShims, changes), g)
	}
	if err := trust.Check(ca); err != nil {
		return err
	}
	if err := <-checked; err != nil {
		if g.outer {
			return sandboxed(err)
		}
		return err
	}
	switch only := g.info.Only; {
	case len(g.info.Providers) > 0:
	case len(only) > 0:
		a.note("authsome: of what --provider names nothing is connected yet, so this run has no credentials; for example: authsome login %s", only[0])
	default:
		a.note("authsome: nothing is connected yet, so this run has no credentials; for example: authsome login github")
	}
	if plan != nil {
		argv = plan.Argv
		for _, n := range plan.Notes {
			a.note("authsome: %s", n)
		}
	}
	stop := g.keep(a)
	code, err := launch.Run(launch.Command{
		Path: path, Argv: argv, Env: env, Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr,
	})
	stop()
	switch {
	case err != nil:
		return err
	case code != 0:
		return exitStatus(code)
	}
	return nil
}

// sandboxed adds what a dead proxy means to a process that is inside a run: the
// run is alive, so something has cut this process off.
func sandboxed(err error) error {
	if authsome.CodeOf(err) != authsome.DaemonUnavailable {
		return err
	}
	return authsome.E(authsome.DaemonUnavailable, "%w from here, although this run is alive: a sandbox keeps this process off the network", err).
		WithHint("for Codex: codex -s workspace-write -c sandbox_workspace_write.network_access=true")
}

// heldGrant is the grant of this run, or of the one that this process is in.
type heldGrant struct {
	info     api.GrantInfo
	request  api.GrantRequest
	home     string
	outer    bool             // another run's
	listener *net.TCPListener // nil for an outer one, as is conn
	conn     *api.GrantConn
}

// grant asks the daemon for a grant. Inside a run it is the outer one's: the
// daemon gives no second, and what was connected meanwhile is in its answer.
func (a *app) grant(ctx context.Context, req api.GrantRequest) (*heldGrant, error) {
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	g := &heldGrant{home: home, request: req}
	if a.insideRun() {
		client, err := a.client(ctx)
		if err != nil {
			return nil, err
		}
		err = g.join(ctx, client)
		// A variable may have outlived its run.
		if err == nil || authsome.CodeOf(err) != authsome.Invalid {
			return g, err
		}
	}
	if client, err := a.openGrant(ctx, g); err != nil {
		if g.listener != nil {
			_ = g.listener.Close()
		}
		if client != nil && authsome.CodeOf(err) == authsome.Forbidden {
			// Inside a run after all, which its variables no longer say.
			if jerr := g.join(ctx, client); jerr == nil || authsome.CodeOf(jerr) == authsome.Usage {
				return g, jerr
			}
		}
		return nil, err
	}
	g.info.Port = g.listener.Addr().(*net.TCPAddr).Port
	return g, nil
}

// openGrant asks for a grant of this run's own, and returns the daemon that was
// asked. Where none is known yet, it is looked for, or started.
func (a *app) openGrant(ctx context.Context, g *heldGrant) (*api.Client, error) {
	prepare := func() (*net.TCPListener, api.GrantRequest, error) {
		// Without the multipath kind, which takes longer and is for other machines.
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, g.request, authsome.E(authsome.Internal, "listen on 127.0.0.1 for the child: %w", err)
		}
		g.listener = ln.(*net.TCPListener)
		g.request.Salt, g.request.Env = hashes(a.Environ)
		return g.listener, g.request, nil
	}
	if a.api != nil {
		_, _, err := prepare()
		if err == nil {
			g.conn, g.info, err = a.api.OpenGrant(ctx, g.listener, g.request)
		}
		return a.api, err
	}
	var err error
	a.api, g.conn, g.info, err = api.ConnectGrant(ctx, api.Options{Home: g.home, Environ: a.Environ}, prepare)
	return a.api, err
}

// joinWithin is how long a run inside a run waits for the outer one, which may
// just have lost its daemon.
const joinWithin = 5 * time.Second

// join takes the grant of the run that this process is in.
func (g *heldGrant) join(ctx context.Context, client *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	for {
		info, err := client.GrantSelf(ctx)
		if err != nil {
			if authsome.CodeOf(err) != authsome.DaemonUnavailable {
				return err
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if r := g.request; r.Mode != "" || r.NoScrub || len(r.Connections)+len(r.Providers) > 0 {
			return authsome.E(authsome.Usage, "a run inside a run uses the outer one's mode, providers, connections and scrubbing").
				WithHint("leave --mode, --provider, --connection and --no-scrub out; a request can choose by its placeholder: authsome-proxy-managed.NAME")
		}
		g.info, g.outer, g.listener, g.conn = info, true, nil, nil
		return nil
	}
}

// hashed bounds the values that are compared with stored secrets: a shorter one
// is none, and a longer one neither.
const (
	hashedMin = 8
	hashedMax = 64 << 10
)

// hashes lets the daemon find the variables that hold a stored secret without
// seeing any.
func hashes(environ []string) (salt string, env map[string]string) {
	salt = rand.Text()
	env = make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" && len(value) >= hashedMin && len(value) <= hashedMax {
			sum := sha256.Sum256([]byte(salt + value))
			env[name] = hex.EncodeToString(sum[:])
		}
	}
	return salt, env
}
