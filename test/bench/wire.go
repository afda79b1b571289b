package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// endpoint is where a target takes its requests.
type endpoint struct {
	// Doors are the ways in; clients take turns at them. authsome has one for
	// each run, all others have one.
	Doors []door
	// Connect says that a CONNECT comes first.
	Connect bool
	Host    string
	// Bearer is the credential that the client sends: the placeholder, where
	// somebody puts the real one on.
	Bearer string
	// Roots are what the client trusts, PEM.
	Roots []byte
}

// door is an address, and the password of its proxy, "" for none.
type door struct{ Addr, Token string }

// patience bounds everything that should take milliseconds.
const patience = 30 * time.Second

// wire is one connection to a service by way of a target, through TLS. It
// speaks as much HTTP/1.1 as the load needs: net/http would use more of the
// processors than what is measured.
type wire struct {
	conn *tls.Conn
	br   *bufio.Reader
}

// dialer makes the connections of one endpoint.
type dialer struct {
	to     endpoint
	config *tls.Config
	buffer int // of a connection's reader, in bytes
}

func newDialer(to endpoint, alpn string) (*dialer, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(to.Roots) {
		return nil, errors.New("no root certificate")
	}
	return &dialer{to: to, buffer: 64 << 10, config: &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{alpn},
	}}, nil
}

// dial makes the n-th connection, to the endpoint's own host when host is "".
func (d *dialer) dial(n int, host string) (*wire, error) {
	if host == "" {
		host = d.to.Host
	}
	at := d.to.Doors[n%len(d.to.Doors)]
	conn, err := net.DialTimeout("tcp", at.Addr, patience)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if d.to.Connect {
		if err := askConnect(conn, host, at.Token); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	config := d.config.Clone()
	config.ServerName = host
	w := &wire{conn: tls.Client(conn, config)}
	if err := w.conn.Handshake(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if got, want := w.conn.ConnectionState().NegotiatedProtocol, config.NextProtos[0]; got != want {
		_ = conn.Close()
		return nil, fmt.Errorf("it chose %q, not %q", got, want)
	}
	_ = w.conn.SetDeadline(time.Time{})
	w.br = bufio.NewReaderSize(w.conn, d.buffer)
	return w, nil
}

// askConnect asks a proxy for a tunnel.
func askConnect(conn net.Conn, host, token string) error {
	text := "CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\n"
	if token != "" {
		text += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("authsome:"+token)) + "\r\n"
	}
	if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
		return err
	}
	var buf [4096]byte
	for n := 0; n < len(buf); {
		k, err := conn.Read(buf[n:])
		if err != nil {
			return fmt.Errorf("CONNECT: %w", err)
		}
		n += k
		if head, _, ok := bytes.Cut(buf[:n], []byte("\r\n\r\n")); ok {
			if f := strings.Fields(string(head)); len(f) < 2 || f[1] != "200" {
				return fmt.Errorf("CONNECT to %s: %q", host, head)
			}
			return nil
		}
	}
	return errors.New("CONNECT: an endless answer")
}

// requestText is a request's header, as small programs send it.
func requestText(method, host, target, bearer string, more ...string) []byte {
	text := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer " + bearer + "\r\n"
	for _, line := range more {
		text += line + "\r\n"
	}
	return []byte(text + "\r\n")
}

// readHead reads an answer's status and header.
func (w *wire) readHead() (status int, head string, err error) {
	for {
		line, err := w.br.ReadSlice('\n')
		if err != nil {
			return 0, "", err
		}
		head += string(line)
		if len(line) <= 2 {
			break
		}
	}
	if len(head) < 13 {
		return 0, "", fmt.Errorf("a strange answer: %q", head)
	}
	status, err = strconv.Atoi(head[9:12])
	return status, head, err
}

var (
	lengthName  = []byte("Content-Length")
	chunkedName = []byte("Transfer-Encoding")
)

// readAnswer reads a whole answer and throws its body away, whose length it
// returns. Any status but 200 is an error.
func (w *wire) readAnswer() (int64, error) {
	line, err := w.br.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || string(line[9:12]) != "200" {
		return 0, fmt.Errorf("status: %q", line)
	}
	length, chunked := int64(-1), false
	for {
		line, err := w.br.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, lengthName):
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return 0, err
			}
		case bytes.EqualFold(name, chunkedName):
			chunked = true
		}
	}
	switch {
	case chunked:
		return w.discardChunks()
	case length < 0:
		return 0, errors.New("an answer without a length")
	}
	return length, w.discard(length)
}

func (w *wire) discard(n int64) error {
	for n > 0 {
		k, err := w.br.Discard(int(min(n, 1<<20)))
		if n -= int64(k); err != nil {
			return err
		}
	}
	return nil
}

func (w *wire) discardChunks() (int64, error) {
	var total int64
	for {
		line, err := w.br.ReadSlice('\n')
		if err != nil {
			return total, err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 63)
		if err != nil {
			return total, err
		}
		if err := w.discard(n + 2); err != nil { // its CR LF, which ends the last one too
			return total, err
		}
		if n == 0 {
			return total, nil
		}
		total += n
	}
}

// exchange sends a request without a body and reads its answer.
func (w *wire) exchange(request []byte) error {
	if _, err := w.conn.Write(request); err != nil {
		return err
	}
	_, err := w.readAnswer()
	return err
}

func (w *wire) close() { _ = w.conn.Close() }

// get makes one request on a connection of its own.
func (d *dialer) get(n int, host string) error {
	w, err := d.dial(n, host)
	if err != nil {
		return err
	}
	defer w.close()
	if host == "" {
		host = d.to.Host
	}
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	return w.exchange(requestText(http.MethodGet, host, "/small", d.to.Bearer))
}
