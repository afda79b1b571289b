package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

// redirectStdio makes f stdout and stderr.
func redirectStdio(f *os.File) {
	for fd := 1; fd <= 2; fd++ {
		_ = unix.Dup3(int(f.Fd()), fd, 0)
	}
}
