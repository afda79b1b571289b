//go:build linux && !race

package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// directConn reads and writes a TCP connection without telling the scheduler, which
// would expect a system call that may block, and hand the processor on: on a
// descriptor of Go's none does.
type directConn struct {
	*net.TCPConn
	raw  syscall.RawConn
	r, w transfer
}

// transfer is one direction.
type transfer struct {
	mu  sync.Mutex
	buf []byte
	n   int
	err syscall.Errno
	f   func(fd uintptr) bool // one step; here, so that it is made once
}

func direct(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	s := &directConn{TCPConn: tcp, raw: raw}
	s.r.f = func(fd uintptr) bool { return s.r.step(syscall.SYS_READ, fd) }
	s.w.f = func(fd uintptr) bool {
		for {
			if !s.w.step(syscall.SYS_WRITE, fd) {
				return false
			}
			if s.w.err != 0 || len(s.w.buf) == 0 {
				return true
			}
		}
	}
	return s
}

// step makes one call. It is false when there is nothing to be done now.
func (t *transfer) step(trap, fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.buf))), uintptr(len(t.buf)))
		switch err {
		case 0:
			t.n += int(n)
			t.buf = t.buf[n:]
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		t.err = err
		return true
	}
}

// Read implements net.Conn.
func (s *directConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &s.r
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf, t.n, t.err = b, 0, 0
	err := s.raw.Read(t.f)
	t.buf = nil
	switch {
	case err != nil:
		return 0, err
	case t.err != 0:
		return 0, s.fail("read", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements net.Conn.
func (s *directConn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &s.w
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf, t.n, t.err = b, 0, 0
	err := s.raw.Write(t.f)
	t.buf = nil
	if err == nil && t.err != 0 {
		err = s.fail("write", t.err)
	}
	return t.n, err
}

func (s *directConn) fail(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
