// Command authsome: log in once, and let agents use it without seeing the
// secret. Package cli is the command, package daemon the process behind it.
package main

import (
	"context"
	"io"
	"log"
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
	// http.Transport tells the standard logger, word by word, what a service says on
	// an idle connection, and there is no other way to keep it from the log: it may
	// hold the credential that the service was sent.
	log.SetOutput(io.Discard)
	c := daemon.Config{Home: o.Home, Port: o.Port, Stderr: o.Stderr}
	if o.Verbose {
		c.Level = slog.LevelDebug
	}
	return daemon.Serve(ctx, c)
}
