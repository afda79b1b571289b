//go:build unix

package daemon

import (
	"syscall"
	"testing"
)

// TestDescriptorsAreRaised: the soft limit, which protects programs that use
// select(2), is of no use here.
func TestDescriptorsAreRaised(t *testing.T) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur != l.Max {
		t.Errorf("%d files may be open, of %d", l.Cur, l.Max)
	}
}
