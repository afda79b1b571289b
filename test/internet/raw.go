package internet

import (
	"crypto/tls"
	"net"
	"net/http"
)

// HandleRaw adds a host that speaks for itself: serve gets each connection when its
// TLS is done, over HTTP/1.1, and what it says is not looked at. It closes the
// connection when it returns. Its requests are not recorded.
func (n *Internet) HandleRaw(host string, serve func(net.Conn)) {
	n.Handle(host, http.HandlerFunc(refuse)) // so that it exists
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.raw == nil {
		n.raw = map[string]func(net.Conn){}
	}
	n.raw[host] = serve
}

func (n *Internet) rawHost(host string) func(net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.raw[host]
}

func (n *Internet) serveRaw(conn net.Conn, host string, serve func(net.Conn)) {
	c := tls.Server(conn, &tls.Config{
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.leaf(host) },
	})
	defer func() { _ = c.Close() }()
	if c.Handshake() == nil {
		serve(c)
	}
}
