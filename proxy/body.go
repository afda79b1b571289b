package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/authsome/authsome"
)

// maxReplay is how much of a body is kept for sending it again. git asks with a
// GET before it pushes, so what matters is small.
const maxReplay = 64 << 10

// errDetached ends the reading of an attempt that another one replaced.
var errDetached = errors.New("the request is being sent again")

// childBody is the body of a child's request. Each attempt to send the request
// reads it through a reader of its own; only the latest may. It counts, keeps
// the beginning when the request may have to be sent again, and fills in the
// trailers at the end.
type childBody struct {
	src     io.ReadCloser
	request *http.Request // of the child, for its trailers
	// trailer goes with the upstream request; net/http sends it after the body.
	trailer http.Header
	// places are the headers of the service that are for credentials.
	places []string

	mu      sync.Mutex
	current *attempt
	reading bool
	ended   bool // src gave io.EOF
	err     error
	sent    int64
	keeping bool   // what is read from now on, up to maxReplay in all
	kept    []byte // from the start
	lost    bool   // something was read that was not kept
}

// newBody wraps a request's body. It returns nil when the request has none.
func newBody(r *http.Request) *childBody {
	if r.ContentLength == 0 { // also over HTTP/2, where Body is never NoBody
		return nil
	}
	b := &childBody{src: r.Body, request: r}
	if r.ContentLength < 0 || len(r.Trailer) > 0 {
		b.trailer = http.Header{}
		for name := range r.Trailer {
			if trailerAllowed(name) {
				b.trailer[name] = nil
			}
		}
	}
	return b
}

// keep has the beginning kept, since the request may have to be sent again.
func (b *childBody) keep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeping = true
}

// forget is called when the request is not sent again any more.
func (b *childBody) forget() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept, b.keeping, b.lost = nil, false, true
}

// reserve keeps trailers out of the places of a service's credentials: to a server
// that merges them into the header, they would be there (RFC 9110, section 6.5.1).
func (b *childBody) reserve(res *authsome.Resolution) {
	if b == nil || b.trailer == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.places = places(res)
	for name := range b.trailer {
		if slices.ContainsFunc(b.places, likeName(name)) {
			delete(b.trailer, name)
		}
	}
}

// peek reads up to limit bytes before the first attempt, and keeps them. It says
// whether they are all.
func (b *childBody) peek(limit int) (beginning []byte, all bool, err error) {
	b.kept = make([]byte, 0, min(maxReplay, max(512, b.request.ContentLength+1)))
	for len(b.kept) < limit && !b.ended {
		if len(b.kept) == cap(b.kept) {
			b.kept = slices.Grow(b.kept, min(len(b.kept), limit-len(b.kept)))
		}
		n, err := b.src.Read(b.kept[len(b.kept):min(cap(b.kept), limit)])
		b.kept = b.kept[:len(b.kept)+n]
		b.mu.Lock()
		b.read(n, err)
		err = b.err
		b.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
	}
	return b.kept, b.ended || int64(len(b.kept)) == b.request.ContentLength, nil
}

// attempt is the body as one upstream request sees it.
type attempt struct {
	body  *childBody
	again []byte // what earlier attempts have read
}

// replayable reports whether the body can be sent from its start: not when what
// was read is lost, or is being read at this moment.
func (b *childBody) replayable() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unharmed()
}

// unharmed is replayable; mu is held.
func (b *childBody) unharmed() bool { return !b.reading && b.err == nil && !b.lost }

// attempt starts over; errDetached when that is impossible.
func (b *childBody) attempt() (*attempt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.unharmed() {
		return nil, errDetached
	}
	b.current = &attempt{b, b.kept}
	return b.current, nil
}

func (a *attempt) Read(p []byte) (int, error) {
	b := a.body
	b.mu.Lock()
	switch {
	case b.current != a:
		b.mu.Unlock()
		return 0, errDetached
	case len(a.again) > 0:
		n := copy(p, a.again)
		a.again = a.again[n:]
		b.mu.Unlock()
		return n, nil
	case b.ended:
		b.mu.Unlock()
		return 0, io.EOF
	case b.err != nil:
		defer b.mu.Unlock()
		return 0, b.err
	}
	b.reading = true
	b.mu.Unlock()

	n, err := b.src.Read(p)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	switch {
	case n == 0:
	case b.keeping && len(b.kept)+n <= maxReplay:
		b.kept = append(b.kept, p[:n]...)
	default:
		b.kept, b.keeping, b.lost = nil, false, true
	}
	b.read(n, err)
	return n, err
}

// read takes note of what a Read of src gave. It is called with mu held.
func (b *childBody) read(n int, err error) {
	b.sent += int64(n)
	switch {
	case err == io.EOF:
		b.ended = true
		if b.trailer != nil {
			for name, values := range b.request.Trailer {
				if trailerAllowed(name) && !slices.ContainsFunc(b.places, likeName(name)) && len(values) > 0 {
					b.trailer[name] = values
				}
			}
		}
	case err != nil:
		b.err = err
	}
}

// Close is called by net/http when it needs no more. The child's body stays
// open: it belongs to the server, and may be needed by another attempt.
func (a *attempt) Close() error {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	if a.body.current == a {
		a.body.current = nil
	}
	return nil
}

// state is how much was read of the child, and the error that reading ended
// with.
func (b *childBody) state() (sent int64, err error) {
	if b == nil {
		return 0, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent, b.err
}

// malformedBody reports whether reading a body over HTTP/1.1 ended with chunks or
// trailers that are none, and not because the child has gone.
func malformedBody(err error) bool {
	var network net.Error
	return err != nil && !errors.As(err, &network) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) &&
		!errors.Is(err, net.ErrClosed) && !errors.Is(err, errDetached) && !errors.Is(err, errClosedBody)
}

// errChunks is for such a body. What comes behind it on the connection is the next
// request to nobody (RFC 9112, section 7.1).
func errChunks() *problem {
	prob := problemf(badRequest, "the body of the request is malformed: its chunks or its trailers are not valid")
	prob.last = true
	return prob
}

// over reports whether all of the body was read of the child, or there is none.
func (b *childBody) over() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// begun reports whether the child has sent anything of its body, or has none.
func (b *childBody) begun() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent > 0 || b.ended
}
