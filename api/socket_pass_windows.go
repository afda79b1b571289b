package api

import (
	"errors"
	"net"
)

// canPassSockets: AF_UNIX on Windows has no SCM_RIGHTS, so grants are relayed.
const canPassSockets = false

var errNoSockets = errors.New("this system cannot hand over a socket")

func sendSocket(*net.UnixConn, *net.TCPListener, []byte) (int, error) { return 0, errNoSockets }

type receivedSockets struct{}

func (receivedSockets) count() int                                     { return 0 }
func (receivedSockets) read(conn *net.UnixConn, b []byte) (int, error) { return conn.Read(b) }
func (receivedSockets) close()                                         {}
func (receivedSockets) listener(int) (net.Listener, error)             { return nil, errNoSockets }
