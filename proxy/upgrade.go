package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// switchProtocols passes a 101 on and then the bytes of both sides. They stay as
// they are, WebSocket frames with whatever extensions the two have agreed on,
// unless the resolution says that something is put into the child's messages.
func (x *exchange) switchProtocols(res *http.Response) {
	up, ok := res.Body.(io.ReadWriteCloser)
	if !ok || x.upgrade == "" || !strings.EqualFold(res.Header.Get("Upgrade"), x.upgrade) {
		x.wrongSwitch("the upstream switched to a protocol that was not asked for")
		return
	}
	// Two would read from the child: net/http still sends the body on, and what comes
	// behind it is the other protocol's (RFC 9110, section 7.8).
	if !x.body.over() {
		x.wrongSwitch("the upstream switched protocols before the request had ended")
		return
	}
	if x.scrub != nil && isWebSocket(x.upgrade) {
		if len(res.Header[extensionsHeader]) > 0 {
			x.wrongSwitch("the upstream uses a WebSocket extension that was not offered")
			return
		}
		said := &spoken{ReadWriteCloser: up, st: x.scrub.NewStream()}
		defer func() {
			x.out.Scrubbed += said.st.Hits().Total()
			x.report.Unseen = said.unseen
		}()
		up = said
	} else if x.scrub != nil {
		x.report.Unseen = true // nobody knows what is a message there
	}
	var watched *socket
	if x.res.Message != nil {
		if len(res.Header[extensionsHeader]) > 0 {
			x.wrongSwitch("the upstream uses a WebSocket extension that was not offered")
			return
		}
		watched = &socket{up: up, sub: newMessages(x.res)}
		watched.sub.room = x.messageRoom
		defer watched.sub.free()
		up = watched
	}
	protocol := res.Header.Get("Upgrade")
	removeHopByHop(res.Header)
	delete(res.Header, errorHeader)
	conn, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.out.Err = "the client's connection cannot switch protocols"
		panic(http.ErrAbortHandler)
	}
	// Reconsider and Shutdown end it by the context.
	stop := context.AfterFunc(res.Request.Context(), func() {
		_ = up.Close()
		_ = x.c.tunnel.conn.Close()
	})
	defer stop()

	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n")
	_ = res.Header.Write(&head) // to memory: cannot fail
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		x.out.Err = "the client went away"
		_ = conn.Close()
		return
	}
	var from io.Reader = conn
	if n := rw.Reader.Buffered(); n > 0 { // frames sent right behind the request
		early, _ := rw.Reader.Peek(n)
		from = io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)
	}
	x.out.Sent, x.out.Received, err = splice(upgraded{conn}, from, up)
	switch {
	case causeOf(res.Request.Context()) == errReconsidered:
		x.out.Err = errReconsidered.Error()
	case watched != nil && watched.reason() != nil:
		x.out.Err = "ended by the proxy: " + watched.reason().reason
	case err != nil:
		x.out.Err = "the stream broke off"
	}
}

// wrongSwitch answers in the place of a 101 that nobody asked for.
func (x *exchange) wrongSwitch(why string) {
	x.out.Status, x.out.Err = http.StatusBadGateway, why
	(&problem{Code: upstreamUnreachable, Host: x.host, Failed: "upstream", Message: why}).write(x.w)
}

// upgraded is the child's side of an upgraded connection. When the upstream has
// gone, the child gets some time to close its side: closing at once with its
// bytes unread would reset the connection, and with it the last frames.
type upgraded struct{ net.Conn }

// CloseWrite implements half-closing for splice.
func (u upgraded) CloseWrite() error {
	_ = u.Conn.SetReadDeadline(time.Now().Add(lingering))
	return closeWrite(u.Conn)
}

// SetLinger is for reset: the connection is cut below TLS, whose end would say
// that all has come.
func (u upgraded) SetLinger(int) error {
	c := childOf(u.Conn)
	reset(c.Conn)
	return c.Conn.Close()
}
