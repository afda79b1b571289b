package proxy

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
)

// piped gives both ends of a connection that buffers nothing, closed after the test.
func piped(t *testing.T) (ours, theirs net.Conn) {
	ours, theirs = net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}

// took fails the test unless f lasts as long as it should, by the bubble's clock.
func took(t *testing.T, want time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	if f(); time.Since(begin) != want {
		t.Errorf("took %v, want %v", time.Since(begin), want)
	}
}

// TestChildThatDoesNotRead short answers of our own is not waited for.
func TestChildThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, _ := piped(t)
		c := &childConn{Conn: ours, tunnel: &tunnel{conn: ours}}
		p := &Proxy{}
		took(t, writeTime, func() { p.reply(c, problemf(badRequest, "no"), true) })
		took(t, writeTime, func() {
			if p.establish(c) == nil {
				t.Error("a CONNECT is established that nobody was told of")
			}
		})
	})
}

// TestChildThatDoesNotSend the rest of a body that nobody wants is not waited for.
func TestChildThatDoesNotSend(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"x.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a, b := piped(t)
		ours := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, Time: time.Now})
		theirs := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
		got := make(chan string, 1)
		go func() {
			_, _ = io.WriteString(theirs, "12345")
			rest, _ := io.ReadAll(theirs)
			got <- string(rest)
		}()
		body := &frontBody{f: &front{conn: ours, br: bufio.NewReader(ours)}}
		body.left.Store(10)
		if _, err := io.ReadFull(body, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		took(t, unreadTime, func() {
			if body.finish() {
				t.Error("the connection goes on in the middle of a body")
			}
		})
		if s := <-got; s != "" {
			t.Errorf("the child got %q", s)
		}
	})
}

// TestChildThatDoesNotClose its side of a WebSocket is not waited for.
func TestChildThatDoesNotClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, _ := piped(t)
		u := upgraded{ours}
		_ = u.CloseWrite()
		took(t, lingering, func() {
			if _, err := u.Read(make([]byte, 1)); !isTimeout(err) {
				t.Errorf("ended with %v", err)
			}
		})
		// After a refusal, the service's frame that has begun may end first.
		up, service := piped(t)
		s := &socket{up: up}
		go func() { _, _ = service.Write([]byte("\x81\x05ab")) }()
		if n, err := s.Read(make([]byte, 10)); n != 4 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		s.refuse(&refusal{})
		took(t, lingering, func() {
			if _, err := service.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the service's connection ended with %v", err)
			}
		})
	})
}

// TestForgiveness comes back by the second.
func TestForgiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &h2conn{credit: h2Burst}
		forgiven := func() (n int) {
			for c.forgive() {
				n++
			}
			return n
		}
		if n := forgiven(); n != h2Burst {
			t.Errorf("%d at once", n)
		}
		c.credit = 0 // what was too much ended the connection
		time.Sleep(time.Second)
		if n := forgiven(); n != h2Rate {
			t.Errorf("%d in a second", n)
		}
		c.credit = 0
		time.Sleep(time.Hour)
		if n := forgiven(); n != h2Burst {
			t.Errorf("%d after a rest", n)
		}
	})
}

// TestLongFields: a name beyond maxName is none of ours, and a placeholder that ends
// behind maxValue is none; what is kept of them stays small.
func TestLongFields(t *testing.T) {
	pad := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		kind          authsome.Slot
		before, after string
	}{{authsome.SlotJSON, `{"key":"`, `"}`}, {authsome.SlotForm, `key=`, `&a=b`}} {
		for most, held := range map[int]bool{maxValue: true, maxValue + 1: false} {
			field := &bodyField{at: authsome.Place{Slot: tc.kind, Name: "key"}}
			n := most - len("-"+authsome.Placeholder)
			if tc.kind == authsome.SlotJSON {
				n-- // the opening quote is part of the value's text
			}
			body := tc.before + pad(n) + "-" + authsome.Placeholder + tc.after
			out, err := edit(tc.kind, []byte(body), 100, field)
			if err != nil || string(out) != body || !field.seen || field.held != held || cap(field.text) > 2*maxValue {
				t.Errorf("%s, a value of %d bytes: %v, held %v, %v", tc.kind, most, field.seen, field.held, err)
			}
		}
	}
	// Spaces in front of a name do not count to PHP.
	for most, found := range map[int]bool{maxName: true, maxName + 1: false} {
		name := strings.Repeat("+", most-len("key")) + "key"
		field := &bodyField{at: authsome.Place{Slot: authsome.SlotForm, Name: "key"}, value: []byte("real")}
		out, err := edit(authsome.SlotForm, []byte(name+"=mine"), 100, field)
		if err != nil || field.seen != found || bytes.Contains(out, []byte("mine")) == found {
			t.Errorf("a name of %d bytes: %v, %v, %q", most, field.seen, err, out[len(out)-20:])
		}
	}
}
