package netguard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestCause looks at errors as a client gets them.
func TestCause(t *testing.T) {
	there := httptest.NewTLSServer(http.NotFoundHandler())
	defer there.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	old.StartTLS()
	defer old.Close()
	get := func(c *tls.Config, address string) error {
		res, err := (&http.Transport{TLSClientConfig: c}).RoundTrip(httptest.NewRequest("GET", address, nil))
		if err == nil {
			_ = res.Body.Close()
		}
		return err
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{get(&tls.Config{RootCAs: x509.NewCertPool()}, there.URL), "its certificate was refused: "},
		{get(nil, strings.Replace(plain.URL, "http:", "https:", 1)), "does not speak TLS"},
		{get(&tls.Config{MinVersion: tls.VersionTLS13}, old.URL), "it ended the TLS handshake: "},
		{fmt.Errorf("x: %w", ErrPrivate), "private address"},
		{&net.DNSError{Name: "canary.example", IsNotFound: true}, "the name does not exist"},
		{&net.DNSError{Name: "canary.example"}, "could not be looked up"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		{syscall.ECONNRESET, "connection reset"},
		{syscall.EHOSTUNREACH, "no route"},
		{context.Canceled, "given up"},
		{context.DeadlineExceeded, "too long"},
		{os.ErrDeadlineExceeded, "too long"},
		{io.ErrUnexpectedEOF, "ended before an answer came"},
		{errors.New("canary"), "ended before an answer came"},
	} {
		if got := Cause(tt.err); !strings.Contains(got, tt.want) || strings.Contains(got, "canary") {
			t.Errorf("%v is %q, want %q", tt.err, got, tt.want)
		}
	}
}
