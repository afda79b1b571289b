package proxy

import "bytes"

// What the http.Server refuses before it asks its handler it answers itself, in
// plain text (net/http, conn.serve): with this behind the status line, and in one
// write. A handler's answer may look the same, and is left alone: see answering.
const serverErrorHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// reworded is such an answer as one of ours; anything else stays as it is.
func reworded(b []byte) []byte {
	const start = "HTTP/1.1 "
	if !bytes.HasPrefix(b, []byte(start)) {
		return b
	}
	status, text, ok := bytes.Cut(b[len(start):], []byte(serverErrorHeaders))
	if ok && bytes.HasPrefix(status, []byte("501 ")) && string(text) == "Unsupported transfer encoding" {
		// Something else than chunks. RFC 9112, section 6.1 leaves the status open.
		return problemf(badRequest, "the request is malformed: its Transfer-Encoding is not chunked").raw(true)
	}
	if !ok || !bytes.HasPrefix(text, status) {
		return b
	}
	if bytes.HasPrefix(status, []byte("431 ")) {
		return problemf(headerTooLarge, "the header is over %d bytes", maxHeader).raw(true)
	}
	why := "the request is malformed"
	// One of net/http's own constants: nothing of the request.
	if _, detail, ok := bytes.Cut(text, []byte(": ")); ok {
		why += ": " + string(detail)
	}
	return problemf(badRequest, "%s", why).raw(true)
}

// Write implements net.Conn.
func (c *resumed) Write(b []byte) (int, error) { return childOf(c).writeWorded(c.Conn.Write, b) }

// plainConn is a connection without a tunnel, as the http.Server sees it.
type plainConn struct{ *childConn }

// Read implements net.Conn.
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.childConn.Read(b)
	return c.headed(c.childConn, n, err)
}

// Write implements net.Conn.
func (c *plainConn) Write(b []byte) (int, error) { return c.writeWorded(c.childConn.Write, b) }

func (c *childConn) writeWorded(write func([]byte) (int, error), b []byte) (int, error) {
	if c.answering.Load() {
		return write(b)
	}
	ours := reworded(b)
	n, err := write(ours)
	if err == nil {
		n = len(b)
	}
	return min(n, len(b)), err
}
