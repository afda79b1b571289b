package proxy

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// TestLife: a life ends once, for a reason, and with it the contexts that were
// made from it, the link that it holds, and whoever waits.
func TestLife(t *testing.T) {
	t.Parallel()
	reason := errors.New("a reason")
	l := &life{c: &childConn{}}
	if l.Value(childKey{}) != l.c || l.Value("other") != nil {
		t.Error("values")
	}
	early := l.Done()
	child, cancel := context.WithCancel(l)
	defer cancel()
	ran := make(chan string, 3)
	context.AfterFunc(l, func() { ran <- "one" })
	stop := context.AfterFunc(l, func() { ran <- "stopped" })
	if !stop() || stop() {
		t.Error("a stop counts once")
	}
	if l.Err() != nil || causeOf(l) != nil || child.Err() != nil {
		t.Fatal("over before its end")
	}

	l.end(reason)
	l.end(errReconsidered)
	if l.Err() != context.Canceled || causeOf(l) != reason {
		t.Errorf("ended with %v, because of %v", l.Err(), causeOf(l))
	}
	for name, done := range map[string]<-chan struct{}{"asked before": early, "asked after": l.Done(), "a context made from it": child.Done()} {
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Errorf("not done: %s", name)
		}
	}
	if got := <-ran; got != "one" {
		t.Errorf("%s ran", got)
	}
	context.AfterFunc(l, func() { ran <- "late" })
	if got := <-ran; got != "late" {
		t.Errorf("%s ran", got)
	}
	if l.hold(nil) || l.release() {
		t.Error("holds something after its end")
	}

	fresh := new(life)
	fresh.end(nil)
	select {
	case <-fresh.Done():
	default:
		t.Error("one that nobody has waited for is not done")
	}
	if causeOf(fresh) != context.Canceled {
		t.Errorf("cause %v", causeOf(fresh))
	}
}

// TestLifeHolds: the link of a life that ends is closed.
func TestLifeHolds(t *testing.T) {
	t.Parallel()
	l := new(life)
	closed := &closing{c: make(chan struct{})}
	if !l.hold(&link{conn: closed}) || !l.release() {
		t.Fatal("nothing has ended")
	}
	if !l.hold(&link{conn: closed}) {
		t.Fatal("nothing has ended")
	}
	l.end(nil)
	<-closed.c
}

// closing is a connection that tells that it was closed.
type closing struct {
	net.Conn
	c chan struct{}
}

func (c *closing) Close() error { close(c.c); return nil }
