//go:build unix

package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// canPassSockets says that a listening socket can be handed to the daemon.
const canPassSockets = true

// sendSocket writes line to conn with the listener's descriptor riding on its
// first byte (SCM_RIGHTS, unix(7)). It may write a part of the line.
//
// The descriptor is used in place: (*net.TCPListener).File with Fd would take
// the socket, which both processes then share, out of non-blocking mode.
func sendSocket(conn *net.UnixConn, listener *net.TCPListener, line []byte) (int, error) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var sendErr error
	if err := raw.Control(func(fd uintptr) {
		n, _, sendErr = conn.WriteMsgUnix(line, unix.UnixRights(int(fd)), nil)
	}); err != nil {
		return 0, err
	}
	return n, sendErr
}

// receivedSockets are descriptors that came with a line. They are closed
// unless listener took one.
type receivedSockets struct{ fds []int }

// maxSockets is how many descriptors are received so that they can be closed;
// the kernel closes those that find no room.
const maxSockets = 8

func (s *receivedSockets) count() int { return len(s.fds) }

// read is conn.Read that keeps the descriptors that came along. The runtime
// receives them with MSG_CMSG_CLOEXEC, so that none leaks into a program that
// is started meanwhile.
func (s *receivedSockets) read(conn *net.UnixConn, b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(maxSockets*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return max(n, 0), err
	}
	msgs, perr := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			perr = errors.New("something else than a socket came along")
			continue
		}
		s.fds = append(s.fds, fds...)
	}
	switch {
	case perr != nil:
		return n, perr
	case flags&unix.MSG_CTRUNC != 0 || len(s.fds) > 1:
		return n, errors.New("more than one socket came along")
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *receivedSockets) close() {
	for _, fd := range s.fds {
		_ = unix.Close(fd)
	}
	s.fds = nil
}

// listener makes the one received descriptor a net.Listener, after making sure
// that it is what a run hands over: a TCP socket of our own that listens on
// 127.0.0.1 and on the port that the request names.
func (s *receivedSockets) listener(port int) (net.Listener, error) {
	if len(s.fds) != 1 {
		return nil, fmt.Errorf("%d sockets came along, not one", len(s.fds))
	}
	fd := s.fds[0]
	if err := checkSocket(fd, port); err != nil {
		return nil, err
	}
	s.fds = nil
	// Shared with the run, which has it non-blocking as well.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "proxy")
	defer func() { _ = f.Close() }()
	return net.FileListener(f) // duplicates
}

func checkSocket(fd, port int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("what came along is no socket")
	}
	if int(st.Uid) != os.Geteuid() && socketsHaveOwners {
		return errors.New("the socket belongs to another user")
	}
	if t, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || t != unix.SOCK_STREAM {
		return errors.New("the socket is no TCP socket")
	}
	sa, err := unix.Getsockname(fd)
	in, ok := sa.(*unix.SockaddrInet4)
	if err != nil || !ok {
		return errors.New("the socket is no TCP socket for IPv4")
	}
	if in.Addr != [4]byte{127, 0, 0, 1} || in.Port != port {
		return fmt.Errorf("the socket listens on %s, not on 127.0.0.1:%d",
			&net.TCPAddr{IP: in.Addr[:], Port: in.Port}, port)
	}
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil && !socketsHaveOwners {
		return nil // accepting will tell
	}
	if err != nil || on == 0 {
		return errors.New("the socket does not listen")
	}
	return nil
}
