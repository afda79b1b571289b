package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"

	"github.com/authsome/authsome"
)

// maxSocketPath is the longest path of a socket: sun_path has 104 bytes on
// macOS (108 on Linux), and its last is NUL.
const maxSocketPath = 103

// Peer is the process at the other end of the socket.
type Peer struct {
	UID int // -1 where the system does not tell
	PID int // 0 where the system does not tell
}

// Listener is the daemon's end. It accepts connections of the owner's
// processes only.
type Listener struct {
	*net.UnixListener
	path string
}

// Path is where the socket lies.
func (l *Listener) Path() string { return l.path }

// Listen makes the socket of a resolved home. The caller holds the home's
// LockFile, so that a socket found there is a dead daemon's and is replaced.
func Listen(home string) (*Listener, error) {
	path, err := SocketPath(home)
	if err != nil {
		return nil, err
	}
	if err := privateDir(filepath.Dir(path), true); err != nil {
		return nil, err
	}
	fi, err := os.Lstat(path)
	switch {
	case err == nil && fi.Mode().Type() != os.ModeSocket && !reparseSocket(fi):
		return nil, authsome.E(authsome.Internal, "listen on %s: something that is no socket lies there", path).
			WithHint("remove it: rm %s", path)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, authsome.E(authsome.Internal, "remove a dead daemon's socket: %w", err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, authsome.E(authsome.Internal, "listen on %s: %w", path, err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, authsome.E(authsome.Internal, "listen on %s: %w", path, err)
	}
	// Between the two calls the private directory keeps others out.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, authsome.E(authsome.Internal, "make %s private: %w", path, err)
	}
	return &Listener{ln, path}, nil
}

// Accept implements net.Listener. A connection of another user is closed
// without an answer.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := PeerOf(conn)
		if err != nil || !ownPeer(peer) {
			_ = conn.Close()
			continue
		}
		return conn, nil
	}
}

// dial connects to the socket at path and makes sure that the owner's own
// daemon is at the other end: a directory that somebody else made could hold a
// socket that collects keys.
func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	if err := privateDir(filepath.Dir(path), false); err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	peer, err := PeerOf(conn)
	if err == nil && !ownPeer(peer) {
		err = authsome.E(authsome.Forbidden, "connect to the daemon: the process behind %s belongs to another user", path).
			WithHint("find out who made it before you go on: ls -l %s", path)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// ownPeer reports whether the peer is the owner's. Where the system does not
// say, the directory's permissions decide.
func ownPeer(p Peer) bool { return p.UID == -1 || p.UID == os.Geteuid() }

// sockets lists where the daemon of a home may be found, most likely first.
func sockets(home string) ([]string, error) {
	path, err := SocketPath(home)
	if err != nil {
		return nil, err
	}
	paths := []string{path}
	if r, err := ReadRecord(home); err == nil && r.Socket != "" && r.Socket != path {
		paths = append(paths, r.Socket)
	}
	return paths, nil
}

// ReadRecord reads a home's Record.
func ReadRecord(home string) (Record, error) {
	var r Record
	data, err := os.ReadFile(filepath.Join(home, RecordFile))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

// failurePath is where a daemon that could not start leaves its Failure for
// the commands that wait for it.
func failurePath(socket string) string {
	return socket[:len(socket)-len(filepath.Ext(socket))] + ".failed"
}
