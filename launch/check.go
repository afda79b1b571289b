package launch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/authsome/authsome"
)

// checkTimeout bounds the self-check. Agents wait for minutes, or for ever, on
// a proxy that is dead or a certificate that they do not trust, and say little.
const checkTimeout = 5 * time.Second

// Check makes one request through the grant to the proxy itself, the way the
// child will: CONNECT with the token, then TLS checked against ca, the proxy's
// root certificate in PEM. Together with Trust.Check, which finds that root in
// the bundle that the child reads, nil means that the child can work. Neither
// needs the other's result, so both can be under way at once.
func Check(ctx context.Context, proxy Proxy, ca []byte) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialTCP(ctx, "tcp4", netip.AddrPort{}, proxy.address())
	if err != nil {
		return authsome.E(authsome.DaemonUnavailable, "check the way out: the proxy on %s cannot be reached: %w", proxy.address(), cause(err)).
			WithHint("authsome doctor")
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	silent := func(err error) error {
		return authsome.E(authsome.DaemonUnavailable, "check the way out: the proxy on %s does not answer: %w", proxy.address(), cause(err)).
			WithHint("authsome doctor")
	}
	authority := authsome.SelfCheckHost + ":443"
	token := base64.StdEncoding.EncodeToString([]byte(proxyUser + ":" + proxy.Token))
	if _, err := conn.Write([]byte("CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\nProxy-Authorization: Basic " + token + "\r\n\r\n")); err != nil {
		return silent(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return silent(err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusProxyAuthRequired:
		return authsome.E(authsome.NotReady, "check the way out: the proxy on %s does not know this run", proxy.address()).
			WithHint("authsome doctor")
	default:
		return authsome.E(authsome.NotReady, "check the way out: the proxy on %s answers %s", proxy.address(), resp.Status).
			WithHint("authsome doctor")
	}

	tc := tls.Client(conn, &tls.Config{
		ServerName: authsome.SelfCheckHost, RootCAs: pool, MinVersion: tls.VersionTLS12,
		// Both ends are on this machine; the hybrid exchange would cost more than
		// the rest of the check.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
	})
	if err := tc.HandshakeContext(ctx); err != nil {
		if why := distrust(err); why != "" {
			return authsome.E(authsome.NotReady, "check the way out: the child would not trust the proxy's certificates: %s", why).
				WithHint("authsome doctor")
		}
		return silent(err)
	}
	if _, err := tc.Write([]byte("GET / HTTP/1.1\r\nHost: " + authsome.SelfCheckHost + "\r\nConnection: close\r\n\r\n")); err != nil {
		return silent(err)
	}
	resp, err = http.ReadResponse(bufio.NewReader(tc), nil)
	if err != nil {
		return silent(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return authsome.E(authsome.NotReady, "check the way out: the proxy answers %s to its own check", resp.Status).
			WithHint("authsome doctor")
	}
	return nil
}

// Check makes sure that the bundle on disk holds ca, the proxy's root
// certificate in PEM: at its end, unless the person's own roots held it
// already. All else in it was compared when it was made or taken, by Write.
// Parsing the other hundred and fifty would take longer than all the rest.
func (t *Trust) Check(ca []byte) error {
	var root pemSet
	root.addPEM(ca)
	want := bytes.Join(root.text, nil)
	if len(want) > 0 && endsIn(t.Bundle(), want) {
		return nil
	}
	data, err := os.ReadFile(t.Bundle())
	if err != nil || len(want) == 0 || !bytes.Contains(data, want) {
		return authsome.E(authsome.NotReady, "check the way out: %s lacks this installation's root certificate", t.Bundle()).
			WithHint("authsome doctor")
	}
	return nil
}

// endsIn reports whether a file ends in text.
func endsIn(path string, text []byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil || fi.Size() < int64(len(text)) {
		return false
	}
	end := make([]byte, len(text))
	_, err = f.ReadAt(end, fi.Size()-int64(len(text)))
	return err == nil && bytes.Equal(end, text)
}

// distrust says why a certificate was not accepted; "" when that is not what
// went wrong.
func distrust(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return "another authority signed them"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "they are not valid at this machine's time, " + time.Now().UTC().Format(time.RFC3339)
	case errors.As(err, &invalid):
		return invalid.Error()
	case errors.As(err, &host):
		return "they are for other hosts"
	}
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) {
		return verify.Err.Error()
	}
	return ""
}

// cause takes "dial tcp 127.0.0.1:1: connect:" off an error.
func cause(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in " + checkTimeout.String())
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}
