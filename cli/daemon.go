package cli

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

func newDaemonCmd(a *app) *cobra.Command {
	cmd := newGroup("daemon", "The background process: serve, start, stop, restart, status, logs",
		newServeCmd(a), newStartCmd(a), newStopCmd(a), newRestartCmd(a), newStatusCmd(a), newLogsCmd(a))
	cmd.Long = `The daemon holds the vault, and puts credentials on requests. Any command starts
it when it is needed, and hands on what says which vault that is and how the
daemon does its work: AUTHSOME_HOME, AUTHSOME_MASTER_KEY,
AUTHSOME_MASTER_KEY_FILE, AUTHSOME_KEYRING, AUTHSOME_PORT, AUTHSOME_LOG and
AUTHSOME_LIMITS. They count until the daemon ends: after a change, ` + "`authsome daemon restart`" + `.

Which way it takes to the services and whom it trusts there (HTTPS_PROXY,
NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR) it takes from ` + "`authsome daemon serve`" + ` only;
one that a command starts goes to the network directly and trusts the system's
certificates.`
	return cmd
}

// outsideRun refuses what a process inside a run may not do to the daemon: it
// could otherwise make one that sends credentials where it likes.
func (a *app) outsideRun(what string) error {
	if a.insideRun() {
		return authsome.E(authsome.Forbidden, "%s the daemon: a process under `authsome run` may not", what).
			WithHint("run it in a terminal of your own")
	}
	return nil
}

func newServeCmd(a *app) *cobra.Command {
	var port uint16
	var host string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Be the daemon, in the foreground",
		Long: `Be the daemon until Ctrl-C or SIGTERM, with the log on standard error as well.

Unlike one that a command starts, this daemon takes HTTPS_PROXY, NO_PROXY,
SSL_CERT_FILE and SSL_CERT_DIR from the environment for its way to the services.`,
		Example: `  authsome daemon serve
  HTTPS_PROXY=http://proxy.corp.example:3128 authsome daemon serve`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.outsideRun("serve"); err != nil {
				return err
			}
			if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				return usage(cmd, "--host takes 127.0.0.1 only: the daemon's pages hold secrets and are for this machine")
			}
			home, err := a.home()
			if err != nil {
				return err
			}
			return a.Serve(cmd.Context(), ServeOptions{Home: home, Port: int(port), Verbose: a.opt.verbose, Stderr: a.Stderr})
		},
	}
	cmd.Flags().Uint16Var(&port, "port", 0, "port on 127.0.0.1 for browsers (default: AUTHSOME_PORT, else 7998)")
	// The Python authsome has it.
	cmd.Flags().StringVar(&host, "host", "127.0.0.1", "address for browsers")
	_ = cmd.Flags().MarkHidden("host")
	return cmd
}

// act is what start, stop and restart answer, with the later Python authsome's
// keys.
type act struct {
	Status      string `json:"status"`
	Message     string `json:"message"`
	StopMessage string `json:"stop_message,omitempty"`
	Stopped     *bool  `json:"stopped,omitempty"`
	PID         int    `json:"pid,omitempty"`
	Browser     string `json:"browser,omitempty"`
}

// started completes an act with who the daemon is.
func (a *app) started(ctx context.Context, c *api.Client, doc act) error {
	h, err := c.Health(ctx)
	if err != nil {
		return err
	}
	doc.PID, doc.Browser = h.PID, h.Browser
	doc.Message = fmt.Sprintf("%s, process %d.", doc.Message, h.PID)
	if h.BrowserNote != "" {
		a.warn("%s", h.BrowserNote)
	}
	return a.done(doc, "%s", strings.TrimSpace(doc.StopMessage+" "+doc.Message))
}

func newStartCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "start",
		Short:   "Start the daemon in the background",
		Example: `  authsome daemon start`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc := act{Status: "already_running", Message: "The daemon is running already"}
			if _, err := a.connect(cmd.Context(), api.Options{NoStart: true}); err != nil {
				if err := a.outsideRun("start"); err != nil {
					return err
				}
				doc = act{Status: "started", Message: "The daemon has started"}
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			return a.started(cmd.Context(), c, doc)
		},
	}
}

func newStopCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop the daemon",
		Long: `Stop the daemon. A program under ` + "`authsome run`" + ` starts it again at its next
request.`,
		Example: `  authsome daemon stop`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			stopped, err := a.stopDaemon(cmd.Context(), "stop")
			if err != nil {
				return err
			}
			return a.done(act{Status: "stopped", Message: stopMessage(stopped), Stopped: &stopped}, "%s", stopMessage(stopped))
		},
	}
}

func stopMessage(stopped bool) string {
	if stopped {
		return "The daemon has stopped."
	}
	return "The daemon was not running."
}

func (a *app) stopDaemon(ctx context.Context, what string) (bool, error) {
	if err := a.outsideRun(what); err != nil {
		return false, err
	}
	home, err := a.home()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return api.StopDaemon(ctx, home)
}

func newRestartCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "restart",
		Short:   "Stop the daemon and start it again",
		Example: `  authsome daemon restart`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			stopped, err := a.stopDaemon(cmd.Context(), "restart")
			if err != nil {
				return err
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			return a.started(cmd.Context(), c, act{
				Status: "restarted", Message: "The daemon has started", StopMessage: stopMessage(stopped), Stopped: &stopped,
			})
		},
	}
}

// daemonStatus has the keys of the Python authsome.
type daemonStatus struct {
	Running bool           `json:"running"`
	Health  *api.Health    `json:"health,omitempty"`
	Ready   *api.Ready     `json:"ready,omitempty"`
	PIDFile string         `json:"pid_file,omitempty"`
	LogFile string         `json:"log_file,omitempty"`
	Error   *string        `json:"error,omitempty"`
	Code    *authsome.Code `json:"code,omitempty"`
}

func newStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether the daemon runs and is well",
		Long: `Show whether the daemon runs and is well. It is not started for this. The exit
code is 0 either way, since the question was answered.`,
		Example: `  authsome daemon status --json | jq .running`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := a.daemonStatus(cmd.Context())
			if err != nil {
				return err
			}
			return a.result(doc, func() string { return statusText(doc) })
		},
	}
}

func (a *app) daemonStatus(ctx context.Context) (daemonStatus, error) {
	home, err := a.home()
	if err != nil {
		return daemonStatus{}, err
	}
	down := func(err error) daemonStatus {
		message, code := err.Error(), authsome.CodeOf(err)
		return daemonStatus{Error: &message, Code: &code}
	}
	// Any version is told about, and nothing is restarted for it.
	c, err := a.connect(ctx, api.Options{NoStart: true, AnyVersion: true})
	if err != nil {
		return down(err), nil
	}
	h, err := c.Health(ctx)
	if err != nil {
		return down(err), nil
	}
	doc := daemonStatus{
		Running: true, Health: &h,
		PIDFile: filepath.Join(home, api.LockFile), LogFile: filepath.Join(home, api.LogFile),
	}
	if d, err := c.Doctor(ctx); err == nil {
		full := diagnose(d.Checks)
		doc.Ready = &api.Ready{Status: full.Status, Checks: full.Checks, Issues: full.Issues, Warnings: full.Warnings}
	}
	return doc, nil
}

func statusText(d daemonStatus) string {
	var b strings.Builder
	line := func(k, v string) { fmt.Fprintf(&b, "%s: %s\n", k, cleanLine(v)) }
	if !d.Running {
		line("running", "no")
		line("reason", *d.Error)
		return b.String()
	}
	line("running", "yes")
	line("pid", fmt.Sprint(d.Health.PID))
	line("version", d.Health.Version)
	if d.Health.Version != authsome.Version {
		line("note", "this program is version "+authsome.Version+": `authsome daemon restart`")
	}
	line("home", d.Health.Home)
	line("browser", d.Health.Browser)
	if d.Health.BrowserNote != "" {
		line("browser note", d.Health.BrowserNote)
	}
	if d.Ready != nil {
		line("ready", map[bool]string{true: "yes", false: "no"}[d.Ready.Status == ready])
		for _, issue := range d.Ready.Issues {
			line("issue", issue)
		}
		for _, w := range d.Ready.Warnings {
			line("warning", w)
		}
	}
	line("log file", d.LogFile)
	return b.String()
}

func newLogsCmd(a *app) *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:     "logs",
		Short:   "Print the end of the daemon's log",
		Example: `  authsome daemon logs -n 200`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 {
				return usage(cmd, "-n is 1 or more")
			}
			home, err := a.home()
			if err != nil {
				return err
			}
			path := filepath.Join(home, api.LogFile)
			lines, err := tail(path, n)
			if err != nil {
				return authsome.E(authsome.Invalid, "read the log %s: %w", path, cause(err))
			}
			return a.result(struct {
				LogFile string   `json:"log_file"`
				Lines   []string `json:"lines"`
			}{path, lines}, func() string {
				if len(lines) == 0 {
					a.note("The daemon has logged nothing yet.")
					return ""
				}
				return clean(strings.Join(lines, "\n")) + "\n"
			})
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 80, "how many lines")
	return cmd
}
