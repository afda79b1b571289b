package netguard

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxAnswer bounds the header of a proxy's answer, in bytes.
const maxAnswer = 64 << 10

// connect asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func (d ProxyDialer) connect(ctx context.Context, conn net.Conn, via *url.URL, host string, port int) (net.Conn, error) {
	if via.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{ServerName: via.Hostname(), RootCAs: d.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	req := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if u := via.User; u != nil {
		password, _ := u.Password()
		req += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		return nil, err
	}
	br := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		if isTimeout(err) {
			return nil, err
		}
		return nil, &ProxyError{Proxy: via.Host, Cause: "its answer to CONNECT is not HTTP"}
	}
	if err := ProxyRefusal(via, res); err != nil {
		err.Cause += " to CONNECT " + addr
		return nil, err
	}
	if n := br.Buffered(); n > 0 { // a service that speaks first
		rest, _ := br.Peek(n)
		return &aheadConn{Conn: conn, ahead: rest}, nil
	}
	return conn, nil
}

// ProxyRefusal says of an answer of an HTTP proxy, to CONNECT or to a request, why
// it did not do what it was asked for; nil when it did. Nothing that the proxy
// wrote is quoted.
func ProxyRefusal(via *url.URL, res *http.Response) *ProxyError {
	e := &ProxyError{Proxy: via.Host, Timeout: res.StatusCode == http.StatusGatewayTimeout}
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	// 401 is a mistake for 407, and tinyproxy makes it.
	case code != http.StatusProxyAuthRequired && code != http.StatusUnauthorized:
		e.Cause = fmt.Sprintf("it answered %d", code)
	case !offersBasic(res.Header):
		e.Cause = fmt.Sprintf("it wants another authentication than Basic, with %d", code)
	case via.User != nil:
		e.Denied, e.Cause = true, fmt.Sprintf("it refused the user name and the password, with %d", code)
	default:
		e.Denied, e.Cause = true, fmt.Sprintf("it wants a user name and a password, with %d", code)
	}
	return e
}

// offersBasic also takes no challenge at all for one, which is what servers
// that leave it out mean.
func offersBasic(h http.Header) bool {
	challenges := h.Values("Proxy-Authenticate")
	return len(challenges) == 0 || slices.ContainsFunc(challenges, func(c string) bool {
		for part := range strings.SplitSeq(c, ",") {
			scheme, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if strings.EqualFold(scheme, "Basic") {
				return true
			}
		}
		return false
	})
}

// aheadConn gives back what was read with the proxy's answer.
type aheadConn struct {
	net.Conn
	ahead []byte
}

func (c *aheadConn) Read(b []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// CloseWrite ends one direction.
func (c *aheadConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
