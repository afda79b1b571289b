//go:build unix

package daemon

import (
	"math"
	"syscall"
)

// maxDescriptors is how many the process may have. The soft limit is the hard one:
// Go's package os has raised it, and gives children that are started the old one.
func maxDescriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur)
}
