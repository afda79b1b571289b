// Package cli is the authsome command: one file for each subcommand, and the
// few things that they share:
//
//	cli.go     from arguments to an exit code
//	root.go    the tree of commands, global options, usage errors
//	output.go  the rules of what is printed where
//	table.go   tables, and the times in them
//	exit.go    the one table from kinds of failure to exit codes
//	log.go     the command's own log file
//	prompt.go, presence.go, browser.go: the person in front of it
//
// It speaks to the daemon only, through package api, and holds no state but
// that of one invocation.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/authsome/authsome/api"
)

// Program is one invocation of the command, wired by main.
type Program struct {
	Args    []string // without the program's name
	Stdin   *os.File
	Stdout  *os.File
	Stderr  *os.File
	Environ []string // as os.Environ gives it
	// Serve is the daemon: it runs until ctx ends, a signal comes or it is asked
	// to stop. It is passed in because the command knows the daemon by its API
	// only.
	Serve func(ctx context.Context, o ServeOptions) error
}

// ServeOptions are what `daemon serve` was told.
type ServeOptions struct {
	Home    string    // resolved
	Port    int       // for browsers; 0 is what the environment says, else the usual one
	Verbose bool      // log everything
	Stderr  io.Writer // takes the log as well
}

// Main runs one command and returns the program's exit code.
func Main(p Program) int {
	a := &app{Program: p, began: time.Now()}
	// What the flags would say is needed before they are parsed: an error in
	// them is reported the way they ask for.
	a.prescan()
	root := newRoot(a)
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	cmd, err := root.ExecuteC()
	code := a.finish(err)
	if a.api != nil {
		a.api.Close()
	}
	a.logEnd(cmd.CommandPath(), code, err)
	return code
}

// app is what the commands of one invocation share.
type app struct {
	Program
	opt   options
	log   logger
	began time.Time

	homePath string
	api      *api.Client
}

// options are the flags that every command has.
type options struct {
	json    bool
	quiet   bool
	noColor bool
	verbose bool
	logFile string // defaultLogFile stands for the one in the home
}

// prescan finds --json and --quiet among the arguments, as far as they are
// authsome's own and not those of a program to run.
func (a *app) prescan() {
	for _, arg := range a.Args {
		switch arg {
		case "--":
			return
		case "--json", "--json=true":
			a.opt.json = true
		case "--quiet", "--quiet=true":
			a.opt.quiet = true
		}
	}
}

// getenv reads the invocation's environment.
func (a *app) getenv(name string) string {
	for i := len(a.Environ) - 1; i >= 0; i-- { // the last one counts, as for exec
		if v, ok := strings.CutPrefix(a.Environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// home is the resolved home, which need not exist.
func (a *app) home() (string, error) {
	if a.homePath != "" {
		return a.homePath, nil
	}
	home, err := api.Home(a.getenv)
	if err == nil {
		a.homePath = home
	}
	return home, err
}

// insideRun reports whether this process descends from a run, as far as its
// environment is honest. The daemon knows it without asking.
func (a *app) insideRun() bool { return api.InsideRun(a.Environ) }

// client connects to the daemon, starting it when none is there.
func (a *app) client(ctx context.Context) (*api.Client, error) {
	return a.connect(ctx, api.Options{})
}

// connect is client with options. Home and Environ are filled in.
func (a *app) connect(ctx context.Context, o api.Options) (*api.Client, error) {
	if a.api != nil {
		return a.api, nil
	}
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	o.Home, o.Environ = home, a.Environ
	began := time.Now()
	c, err := api.Connect(ctx, o)
	if err != nil {
		return nil, err
	}
	a.logger().Debug("connected to the daemon", "home", home, "took", time.Since(began).Round(time.Microsecond))
	a.api = c
	return c, nil
}

// interruptible returns a context that ends when the person presses Ctrl-C or
// the process is asked to end. Commands that do not wait have no use for it:
// they end as processes do.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// finish reports a command's error and gives the exit code.
func (a *app) finish(err error) int {
	if err == nil {
		return 0
	}
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	a.printError(err)
	return exitCode(err)
}
