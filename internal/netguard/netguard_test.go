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
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestIsPrivate(t *testing.T) {
	for _, a := range []string{
		"0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.1", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
		"2002:0a00:0001::", "fc00::1", "fd00:ec2::254", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "2001::1",
	} {
		if !IsPrivate(netip.MustParseAddr(a)) || !HostIsPrivate(a) {
			t.Errorf("%s is public", a)
		}
		if err := PublicOnly("tcp", net.JoinHostPort(a, "443"), nil); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s is dialled: %v", a, err)
		}
	}
	for _, a := range []string{"1.1.1.1", "9.9.9.9", "172.32.0.1", "168.63.129.17", "2606:4700::1111", "64:ff9b::1.1.1.1", "2002:0101:0101::", "::ffff:1.1.1.1"} {
		if IsPrivate(netip.MustParseAddr(a)) || HostIsPrivate(a) {
			t.Errorf("%s is private", a)
		}
		if err := PublicOnly("tcp", net.JoinHostPort(a, "443"), nil); err != nil {
			t.Errorf("%s is not dialled: %v", a, err)
		}
	}
	if !IsPrivate(netip.Addr{}) || PublicOnly("tcp", "nonsense", nil) == nil {
		t.Error("what is no address is let pass")
	}
}

func TestHostIsPrivate(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost.": true, "x.localhost": true, "127.1": true, "2130706433": true, "0x7f000001": true, "0x7f.0.0.1": true, "0177.0.0.1": true, "0": true,
		"example.com": false, "localhost.example.com": false, "notlocalhost": false, "1.example": false, "0xample": false, "0x.example": false, "": false, "a.b1": false,
	} {
		if HostIsPrivate(host) != want {
			t.Errorf("HostIsPrivate(%q) is not %v", host, want)
		}
	}
}

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
