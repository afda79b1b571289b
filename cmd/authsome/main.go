// Command authsome: log in once, and let agents use it without seeing the
// secret. Package cli is the command, package daemon the process behind it.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/authsome/authsome/cli"
	"github.com/authsome/authsome/daemon"
)

func main() {
	os.Exit(cli.Main(cli.Program{
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Environ: os.Environ(),
		Serve:   serve,
	}))
}

// serve is `authsome daemon serve`.
func serve(ctx context.Context, o cli.ServeOptions) error {
	c := daemon.Config{Home: o.Home, Port: o.Port, Stderr: o.Stderr}
	if o.Verbose {
		c.Level = slog.LevelDebug
	}
	return daemon.Serve(ctx, c)
}
