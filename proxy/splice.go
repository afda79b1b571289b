package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Buffers for copying. Below 32 KB bulk transfers lose half their speed, above
// it nothing is gained.
const (
	bigBuffer = 32 << 10
	// smallBuffer is what an idle stream holds: most streams are idle most of
	// the time, and 10,000 of them must not cost a big buffer each.
	smallBuffer = 1 << 10
)

var (
	bigBuffers   = sync.Pool{New: func() any { b := make([]byte, bigBuffer); return &b }}
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }}
)

// buffer is a small buffer that turns into a big one while there is much to
// copy.
type buffer struct{ small, big *[]byte }

// next returns where to read to. last is how many bytes the last read gave, 0
// at the start.
func (b *buffer) next(last int) []byte {
	switch {
	case b.big != nil && (last >= smallBuffer || last == 0):
		return *b.big
	case b.big != nil:
		bigBuffers.Put(b.big)
		b.big = nil
	case last == smallBuffer:
		b.grow()
		return *b.big
	}
	if b.small == nil {
		b.small = smallBuffers.Get().(*[]byte)
	}
	return *b.small
}

// grow takes a big buffer; next gives it back when the reads get short.
func (b *buffer) grow() { b.big = bigBuffers.Get().(*[]byte) }

func (b *buffer) release() {
	if b.big != nil {
		bigBuffers.Put(b.big)
	}
	if b.small != nil {
		smallBuffers.Put(b.small)
	}
	*b = buffer{}
}

// pump copies until src ends, and passes each read on at once. The error is nil
// when src ended well.
func pump(dst io.Writer, src io.Reader) (n int64, err error) {
	var b buffer
	defer b.release()
	for last := 0; ; {
		buf := b.next(last)
		var rerr error
		last, rerr = src.Read(buf)
		if last > 0 {
			if _, err := dst.Write(buf[:last]); err != nil {
				return n, err
			}
			n += int64(last)
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// splice copies both ways between the child and the upstream until both have
// ended. An end of one direction is passed on as such, so that a client that
// has said all it has to say still gets its answer; an error ends both. There
// is no time limit: a stream may be silent for hours.
//
// childReader is the child's side for reading, when bytes were read ahead.
func splice(child net.Conn, childReader io.Reader, upstream io.ReadWriteCloser) (sent, received int64, err error) {
	done := make(chan error, 1)
	go func() {
		var err error
		sent, err = pump(upstream, childReader)
		if err != nil || closeWrite(upstream) != nil {
			_ = upstream.Close()
			_ = child.Close()
		}
		done <- err
	}()
	received, err = pump(child, upstream)
	if err != nil {
		// Broken off is not ended: the child must be able to tell.
		reset(child)
	}
	if err != nil || closeWrite(child) != nil {
		_ = child.Close()
		_ = upstream.Close()
	}
	if e := <-done; err == nil {
		err = e
	}
	_ = child.Close()
	_ = upstream.Close()
	return sent, received, err
}

var errNoHalfClose = errors.New("the connection cannot be half closed")

// closeWrite ends the writing direction only.
func closeWrite(c any) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errNoHalfClose
}

// reset makes the Close of a TCP connection an abort.
func reset(c any) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0)
	}
}

// lingering is how long the child may take to close its side after the
// upstream of an upgraded connection has gone: closing at once would reset the
// connection, and the child might lose the last frames.
const lingering = 10 * time.Second
