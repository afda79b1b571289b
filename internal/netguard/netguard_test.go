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
	for _, s := range []string{
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
		"100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "203.0.113.9",
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001::1", "100::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "64:ff9b::a83f:8110",
		"2002:7f00:1::", "2002:a00:1::1",
	} {
		if !IsPrivate(netip.MustParseAddr(s)) || !HostIsPrivate(s) {
			t.Errorf("%s counts as public", s)
		}
		if err := PublicOnly("tcp", net.JoinHostPort(s, "443"), nil); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s is dialled: %v", s, err)
		}
	}
	for _, s := range []string{
		"8.8.8.8", "1.1.1.1", "140.82.121.4", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "192.169.0.1", "168.63.129.17", "223.255.255.255",
		"2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
	} {
		if IsPrivate(netip.MustParseAddr(s)) || HostIsPrivate(s) {
			t.Errorf("%s counts as private", s)
		}
		if err := PublicOnly("tcp", net.JoinHostPort(s, "443"), nil); err != nil {
			t.Errorf("%s is not dialled: %v", s, err)
		}
	}
	if !IsPrivate(netip.Addr{}) {
		t.Error("no address counts as public")
	}
	for _, s := range []string{"", "8.8.8.8", "x:443", "[::1]:443", "127.0.0.1:443"} {
		if PublicOnly("tcp", s, nil) == nil {
			t.Errorf("a dial to %q was let through", s)
		}
	}
	if err := PublicOnly("tcp", "8.8.8.8:443", nil); err != nil {
		t.Error(err)
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
