package launch

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/authsome/authsome"
)

// TestMain makes the test binary a command as well: with LAUNCH_TEST_RUN set it
// launches what its arguments say, as `authsome run` does, so that signals,
// terminals and exit codes are those of real processes.
func TestMain(m *testing.M) {
	if os.Getenv("LAUNCH_TEST_RUN") != "" {
		os.Exit(launchArguments(os.Args[1:]))
	}
	// What nohup, or a shell for its background job, has set to be ignored stays
	// so in every process that is started, and the tests of signals would wait
	// for ever. What is caught here is not ignored there (signal(7), "Execution").
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	os.Exit(m.Run())
}

func launchArguments(argv []string) int {
	_ = os.Unsetenv("LAUNCH_TEST_RUN")
	path, err := Find(argv[0])
	code := 0
	if err == nil {
		code, err = Run(Command{Path: path, Argv: argv, Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	}
	var e *authsome.Error
	if errors.As(err, &e) {
		fmt.Fprintln(os.Stderr, e.Code, e.Message)
		return map[authsome.Code]int{authsome.CommandNotFound: 127, authsome.NotExecutable: 126}[e.Code]
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no *authsome.Error:", err)
		return 99
	}
	return code
}
