package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"time"
)

// Most streams say nothing most of the time, and there may be thousands of them. So
// whoever waits for long does it without what is needed only while bytes flow:
// buffers, and the deep stack of a read through crypto/tls.

// quietTime is how long nothing has to come before a stream is at rest.
const quietTime = 100 * time.Millisecond

// rawConn is the descriptor of a connection; nil where there is none that can be
// waited for.
func rawConn(c net.Conn) syscall.RawConn {
	sc, ok := c.(syscall.Conn)
	if !ok || runtime.GOOS == "windows" {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// awaitReadable waits until something can be read, the end included. The error is
// the connection's, or that of its read deadline. One of the connection is told once
// by the system: whoever gets it here would next read an end as if all had come.
func awaitReadable(raw syscall.RawConn) error {
	var failed error
	err := raw.Read(func(fd uintptr) bool {
		var ready bool
		ready, failed = peek(fd)
		return ready
	})
	return errors.Join(err, failed)
}

// rester gives up what it does not need while nothing comes.
type rester interface{ rest() }

// rest waits for the service while nothing of what it has sent is left to be read.
// When that takes a while, it gives up its buffer, and has the others give up
// theirs. The error is the next read's.
func (l *link) rest(others rester) error {
	if l.raw == nil || l.br.Buffered() > 0 {
		return nil
	}
	// Not in the body, which keeps an error for ever. This also finds what
	// crypto/tls has read already, of which the descriptor knows nothing.
	_ = l.conn.SetReadDeadline(time.Now().Add(quietTime))
	_, err := l.br.Peek(1)
	_ = l.conn.SetReadDeadline(time.Time{})
	switch {
	case err == io.EOF:
		return nil // it comes again, and whether it is one the body knows
	case !isTimeout(err) || l.br.Buffered() > 0:
		return err
	}
	if others != nil {
		others.rest()
	}
	// The body holds on to l.br, so what is inside is exchanged.
	full := new(bufio.Reader)
	*full, *l.br = *l.br, bufio.Reader{}
	putReader(full)
	err = awaitReadable(l.raw)
	*l.br = *getReader(l)
	return err
}

// rest implements rester: the child's side of an exchange.
func (x *exchange) rest() {
	if x.head != nil {
		x.head.flush()
	}
	if w, ok := x.w.(*frontWriter); ok {
		w.rest()
	}
}

// rest gives the buffer back until something is written.
func (w *frontWriter) rest() {
	if f := w.f; w.err == nil && f.bw != nil && f.bw.Buffered() == 0 {
		f.bw.Reset(nil)
		writers.Put(f.bw)
		f.bw = nil
	}
}

// writer is the buffer towards the child.
func (f *front) writer() *bufio.Writer {
	if f.bw == nil {
		f.bw = writers.Get().(*bufio.Writer)
		f.bw.Reset(f.conn)
	}
	return f.bw
}

// awaitChild waits for the child to send something, or to go. There is nothing
// left to be read of what it has sent.
func (f *front) awaitChild() error {
	if raw := rawConn(f.c.Conn); raw != nil && f.c.ahead == nil && f.br.Buffered() == 0 {
		putReader(f.br)
		f.br = nil
		err := awaitReadable(raw)
		if f.br = getReader(f.conn); err != nil {
			return err
		}
	}
	_, err := f.br.Peek(1)
	return err
}
