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
	look := func(fd uintptr) bool {
		ready, _ := peek(fd)
		silent = !ready
		return true
	}
	return func() bool {
		silent = false
		return raw.Read(look) == nil && silent
	}
}

// peek reports whether a read of a descriptor would return at once, and with what
// error. The descriptor does not block: Go has set it so.
func peek(fd uintptr) (ready bool, err error) {
	var b [1]byte
	for {
		_, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false, nil
		}
		return true, err
	}
}
