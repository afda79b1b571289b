package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// discardInput drops what a terminal has received and nobody has read. The
// argument of TIOCFLUSH is a set of sys/fcntl.h's FREAD and FWRITE.
func discardInput(f *os.File) { _ = unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCFLUSH, 1) }
