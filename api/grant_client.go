package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

// GrantConn is a run's hold on its grant: the grant lives until it is closed,
// or the daemon dies.
type GrantConn struct {
	conn  *net.UnixConn
	done  chan struct{}
	once  sync.Once
	relay *relay // nil where the listening socket was handed over
}

// Done is closed when the daemon's end of the connection has closed, or
// Close was called. The run then connects anew and renews its grant.
func (g *GrantConn) Done() <-chan struct{} { return g.done }

// Close ends the grant. It returns when nothing of this connection is at work
// any more.
func (g *GrantConn) Close() error {
	var err error
	g.once.Do(func() { err = g.conn.Close() })
	<-g.done
	return err
}

// watch closes Done when the daemon's end is gone. The daemon sends nothing
// after its first line; what it sends all the same is thrown away.
func (g *GrantConn) watch() {
	_, _ = io.Copy(io.Discard, g.conn)
	_ = g.conn.Close()
	if g.relay != nil {
		g.relay.stop()
	}
	close(g.done)
}

// OpenGrant asks for a grant, or renews one (req.Renew), for the child whose
// proxy is listener. The listener stays the caller's: it hands it to one daemon
// after another, never accepts from it, and closes it at the end. ctx bounds
// the opening only.
func (c *Client) OpenGrant(ctx context.Context, listener *net.TCPListener, req GrantRequest) (*GrantConn, GrantInfo, error) {
	return c.openGrant(ctx, listener, req, !canPassSockets)
}

// OpenRelayedGrant is OpenGrant for systems on which a listening socket cannot
// be handed over: this process accepts the child's connections and carries
// each to the daemon, until the GrantConn is done. It works everywhere;
// OpenGrant chooses it where it must.
func (c *Client) OpenRelayedGrant(ctx context.Context, listener *net.TCPListener, req GrantRequest) (*GrantConn, GrantInfo, error) {
	return c.openGrant(ctx, listener, req, true)
}

func (c *Client) openGrant(ctx context.Context, listener *net.TCPListener, req GrantRequest, relayed bool) (*GrantConn, GrantInfo, error) {
	if err := checkListener(listener); err != nil {
		return nil, GrantInfo{}, err
	}
	conn, _, err := c.upgrade(ctx, PathGrants, GrantProtocol, nil)
	if err != nil {
		return nil, GrantInfo{}, err
	}
	return c.askGrant(ctx, conn, listener, req, relayed)
}

// checkListener refuses a proxy that others could reach.
func checkListener(listener *net.TCPListener) error {
	addr, ok := listener.Addr().(*net.TCPAddr)
	if !ok || !addr.IP.Equal(net.IPv4(127, 0, 0, 1)) {
		return authsome.E(authsome.Internal, "open a grant: the proxy must listen on 127.0.0.1")
	}
	return nil
}

// askGrant goes on after the upgrade. The connection is the GrantConn's, or
// closed.
func (c *Client) askGrant(ctx context.Context, conn *net.UnixConn, listener *net.TCPListener, req GrantRequest, relayed bool) (*GrantConn, GrantInfo, error) {
	req.ProxyPort, req.Relay = listener.Addr().(*net.TCPAddr).Port, relayed
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	info, err := exchange(conn, listener, req)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, GrantInfo{}, unavailable(ctx, err)
	}
	_ = conn.SetDeadline(time.Time{})
	g := &GrantConn{conn: conn, done: make(chan struct{})}
	if relayed {
		g.relay = startRelay(c, listener, info.ID)
	}
	go g.watch()
	return g, info, nil
}

// exchange sends the request and reads the answer.
func exchange(conn *net.UnixConn, listener *net.TCPListener, req GrantRequest) (GrantInfo, error) {
	var info GrantInfo
	var err error
	if req.Relay {
		err = writeLine(conn, req, conn.Write)
	} else {
		err = writeLine(conn, req, func(b []byte) (int, error) { return sendSocket(conn, listener, b) })
	}
	if err != nil {
		return info, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	line, err := readLine(conn.Read)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(line, &info); err != nil {
		return info, authsome.E(authsome.DaemonUnavailable, "open a grant: the daemon's answer cannot be read")
	}
	if info.Error != nil {
		return GrantInfo{}, info.Error.Err()
	}
	return info, nil
}

// relay carries the child's connections to the daemon, one connection each.
type relay struct {
	client   *Client
	listener *net.TCPListener
	path     string
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

func startRelay(c *Client, listener *net.TCPListener, grantID string) *relay {
	path, err := expand(PathGrantStream, grantID)
	if err != nil {
		path = PathGrantStream // refused by the daemon, as it should be
	}
	_ = listener.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(context.Background())
	r := &relay{client: c, listener: listener, path: path, cancel: cancel}
	r.work.Add(1)
	go r.accept(ctx)
	return r
}

// stop ends the accepting, not the listener: later connections wait in its
// backlog for the next daemon.
func (r *relay) stop() {
	r.cancel()
	_ = r.listener.SetDeadline(time.Unix(1, 0))
	r.work.Wait()
	_ = r.listener.SetDeadline(time.Time{})
}

func (r *relay) accept(ctx context.Context) {
	defer r.work.Done()
	for ctx.Err() == nil {
		conn, err := r.listener.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, or an aborted connection: the next may do.
			select {
			case <-ctx.Done():
			case <-time.After(dialEvery):
			}
			continue
		}
		r.work.Add(1)
		go func() {
			defer r.work.Done()
			r.carry(ctx, conn)
		}()
	}
}

// carry copies both ways until both sides have said all, or the relay stops.
func (r *relay) carry(ctx context.Context, child *net.TCPConn) {
	defer func() { _ = child.Close() }()
	daemon, _, err := r.client.upgrade(ctx, r.path, StreamProtocol, nil)
	if err != nil {
		return
	}
	defer func() { _ = daemon.Close() }()
	defer context.AfterFunc(ctx, func() { _ = child.Close(); _ = daemon.Close() })()
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(daemon, child)
		_ = daemon.CloseWrite()
	}()
	_, _ = io.Copy(child, daemon)
	_ = child.CloseWrite()
	<-up
}
