package api

import (
	"net"

	"golang.org/x/sys/unix"
)

// PeerOf asks the kernel who made the other end: LOCAL_PEERCRED and
// LOCAL_PEERPID, sys/un.h.
func PeerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		var cred *unix.Xucred
		if cred, optErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); optErr != nil {
			return
		}
		p.UID = int(cred.Uid)
		p.PID, optErr = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	}); err != nil {
		return Peer{}, err
	}
	return p, optErr
}
