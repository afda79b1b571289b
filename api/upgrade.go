package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/authsome/authsome"
)

// versionHeader tells in the answer to an upgrade which version answers.
const versionHeader = "Authsome-Version"

// upgrade opens a connection of its own and turns it into one of the given
// protocol. It also returns the daemon's version. A refusal comes back as the
// daemon's error. ctx bounds the upgrade only. meanwhile, unless it is nil, is
// called while the daemon thinks; its error is returned as it is.
func (c *Client) upgrade(ctx context.Context, path, protocol string, meanwhile func() error) (*net.UnixConn, string, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, "", unavailable(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	fail := func(err error) (*net.UnixConn, string, error) {
		stop()
		_ = conn.Close()
		return nil, "", unavailable(ctx, err)
	}
	// Nothing is done before the answer that could take long.
	_ = conn.SetDeadline(time.Now().Add(healthTimeout))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Host+path, nil)
	if err != nil {
		return fail(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	if err := req.Write(conn); err != nil {
		return fail(err)
	}
	if meanwhile != nil {
		if err := meanwhile(); err != nil {
			_, _, _ = fail(err)
			return nil, "", err
		}
	}
	br := bufio.NewReaderSize(conn, 1<<10)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != protocol {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxLine))
		return fail(failure(resp.StatusCode, body))
	}
	// In both protocols this side speaks first, so nothing may have come yet
	// that the buffer could have swallowed.
	if br.Buffered() > 0 {
		return fail(errors.New("its answer to an upgrade is followed by something else"))
	}
	if !stop() {
		return fail(ctx.Err())
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, resp.Header.Get(versionHeader), nil
}

// Upgrade answers a request for one of the protocols of this package with 101
// and this program's version, and gives its connection up. An error is for the caller to answer, unless it
// is http.ErrHijacked: then the connection is closed already.
func Upgrade(w http.ResponseWriter, r *http.Request, protocol string) (*net.UnixConn, error) {
	if r.Header.Get("Upgrade") != protocol {
		return nil, authsome.E(authsome.Invalid, "this path speaks %s only", protocol)
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, authsome.E(authsome.Internal, "take over a connection: %w", err)
	}
	uc, ok := conn.(*net.UnixConn)
	// Bytes that came before the 101 would be a descriptor lost, or a line
	// half read.
	if !ok || rw.Reader.Buffered() > 0 {
		_ = conn.Close()
		return nil, authsome.E(authsome.Invalid, "take over a connection: %w: the other side did not wait for the answer", http.ErrHijacked)
	}
	_ = uc.SetDeadline(time.Now().Add(handshakeTimeout))
	_, err = io.WriteString(uc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n"+versionHeader+": "+authsome.Version+"\r\n\r\n")
	if err != nil {
		_ = uc.Close()
		return nil, authsome.E(authsome.Internal, "take over a connection: %w: %v", http.ErrHijacked, err)
	}
	_ = uc.SetDeadline(time.Time{})
	return uc, nil
}

// readLine reads up to the first newline, which must be the last byte there.
func readLine(read func([]byte) (int, error)) ([]byte, error) {
	var line []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := read(buf)
		line = append(line, buf[:n]...)
		switch i := bytes.IndexByte(line, '\n'); {
		case i >= 0 && i != len(line)-1:
			return nil, errors.New("something follows the first line")
		case i >= 0:
			return line[:i], nil
		case len(line) > maxLine:
			return nil, errors.New("the first line is too long")
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.ErrUnexpectedEOF
		}
	}
}

// writeLine is the other half of readLine.
func writeLine(conn *net.UnixConn, v any, write func([]byte) (int, error)) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	_ = conn.SetWriteDeadline(time.Now().Add(handshakeTimeout))
	defer func() { _ = conn.SetWriteDeadline(time.Time{}) }()
	n, err := write(data)
	if err == nil && n < len(data) {
		_, err = conn.Write(data[n:])
	}
	return err
}
