package launch

import (
	"errors"
	"io/fs"
	"os"

	"github.com/authsome/authsome"
)

// Command is a child to start.
type Command struct {
	Path   string   // from Find
	Argv   []string // the program's name first
	Env    []string // from Environment
	Stdin  *os.File
	Stdout *os.File
	Stderr *os.File
}

// Run starts the child, waits for it, and returns its exit code: its own, or
// 128 and the number of the signal that ended it. An error means that it did
// not start.
//
// The child gets the three files as they are, and on Unix every other
// descriptor that the caller was started with. It stays in the process group:
// so Ctrl-C, Ctrl-Z and the terminal's other signals reach it from the
// terminal, a pipeline stays one job, and whoever signals the group reaches
// all of it. What is sent to this process alone is passed on; see start_unix.go.
//
// When the child is over, so is the run. Descendants that it leaves behind are
// left alone: they may have been meant to stay, and their grant has ended.
func Run(c Command) (int, error) { return run(c) }

// startError names the reason for which a system did not start a program.
func startError(c Command, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, serr := os.Stat(c.Path); serr == nil {
			return authsome.E(authsome.CommandNotFound, "start %q: the interpreter that it names in its first line does not exist", c.Argv[0])
		}
		return authsome.E(authsome.CommandNotFound, "start %q: there is no such command", c.Argv[0])
	case errors.Is(err, errTooLong):
		return authsome.E(authsome.NotExecutable, "start %q: its arguments and its environment are larger than this system takes", c.Argv[0])
	default:
		return authsome.E(authsome.NotExecutable, "start %q: %w", c.Argv[0], cause(err))
	}
}
