package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// discardInput drops what a terminal has received and nobody has read.
func discardInput(f *os.File) { _ = unix.IoctlSetInt(int(f.Fd()), unix.TCFLSH, unix.TCIFLUSH) }
