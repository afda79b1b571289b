package launch

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const errTooLong = syscall.ERROR_BUFFER_OVERFLOW

// run starts the child on the same console, which sends Ctrl-C and Ctrl-Break
// to both: this process takes them and goes on waiting.
func run(c Command) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)
	cmd := &exec.Cmd{Path: c.Path, Args: c.Argv, Env: c.Env, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr}
	if err := cmd.Start(); err != nil {
		return 0, startError(c, err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 1, nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
