//go:build unix

package proxy

import (
	"net"
	"syscall"
)

// transparent reports whether nothingToRead can tell.
func transparent(c net.Conn) bool {
	_, ok := c.(syscall.Conn)
	return ok
}

// nothingToRead reports whether a connection is open and nothing has come on it.
func nothingToRead(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		// The descriptor does not block: Go has set it so.
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && silent
}
