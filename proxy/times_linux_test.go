package proxy

import (
	"context"
	"io"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestServiceThatIsNotThere and one that begins no TLS are given up, each after its time
// and with what it was that did not come.
func TestServiceThatIsNotThere(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	giveUp := func(t *testing.T, port int, after time.Duration, code code, cause string) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 4*after)
		defer cancel()
		p, begin := &Proxy{}, time.Now()
		_, err := p.secure(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "http/1.1", &pool{})
		if err == nil || ctx.Err() != nil || time.Since(begin) < after {
			t.Fatalf("ended with %v after %v, want %v", err, time.Since(begin), after)
		}
		if prob := p.upstreamProblem(err, "x.example", 443); prob.Code != code || prob.Cause != cause {
			t.Errorf("%s: %q", prob.Code, prob.Cause)
		}
	}
	t.Run("no TLS", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
			}
		}()
		giveUp(t, ln.Addr().(*net.TCPAddr).Port, tlsTime, upstreamTLS, "the TLS handshake took too long")
	})
	t.Run("no TCP", func(t *testing.T) {
		giveUp(t, deaf(t), dialTime, upstreamTimeout, "it took too long")
	})
}

// deaf gives a port of loopback whose queue of connections is full, so that Linux
// answers no SYN (tcp(7)).
func deaf(t *testing.T) int {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*syscall.SockaddrInet4).Port
	for range 100 {
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
		if isTimeout(err) {
			return port
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the queue is never full")
	return 0
}
