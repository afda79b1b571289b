//go:build unix

package proxy

import (
	"net"
	"syscall"
)

// newProbe makes what reports whether a connection is open and nothing has come
// on it; nil when that cannot be told.
func newProbe(c net.Conn) func() bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	silent := false
	var b [1]byte
	look := func(fd uintptr) bool {
		// The descriptor does not block: Go has set it so.
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	}
	return func() bool {
		silent = false
		return raw.Read(look) == nil && silent
	}
}
