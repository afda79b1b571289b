package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/scrub"
)

// headTogether is how long the header of an answer waits for the first bytes of
// its body, so that both leave in one write. It delays nobody: what has come is
// passed on at once.
const headTogether = time.Millisecond

// deliver streams an answer to the child. Each read is flushed at once; nothing
// is held back until a buffer is full.
func (x *exchange) deliver(res *http.Response) {
	defer func() { _ = res.Body.Close() }()
	x.out.Status = res.StatusCode
	x.from, _ = res.Body.(*linkBody)
	together := x.from != nil && x.from.link.br.Buffered() > 0
	x.hideAddress(res.Header)
	if x.scrub != nil {
		// There is no waiting any more, nor is there for what comes without having
		// been asked for; but others wait, and what is asked for next is cheaper.
		n := scrub.Window(res.Header["Content-Encoding"])
		x.p.limits.force(x.c.account, memory, n)
		x.reserved += n
	}
	x.report = x.scrub.Response(res)
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.switchProtocols(res)
		return
	}
	h := answerHeader(x.w, res.Header)
	if res.StatusCode == http.StatusNotModified && x.r.ProtoMajor > 1 {
		// It would be that of the body which is not sent. Some clients (Go's) miss it
		// then: an answer without a body has none in its frames.
		delete(h, "Content-Length")
	}
	announced := len(res.Trailer) > 0
	for name := range res.Trailer {
		if trailerAllowed(name) {
			name, _ = x.scrub.Name(name) // counted when they come
			h.Add("Trailer", name)
		}
	}
	if announced && x.r.ProtoMajor == 1 {
		// HTTP/1.1 has trailers on chunked answers only; HTTP/2 on all.
		delete(h, "Content-Length")
	}
	x.w.WriteHeader(res.StatusCode)

	readErr, writeErr := x.stream(res, together)
	switch {
	case causeOf(x.r.Context()) == errReconsidered:
		x.out.Err = errReconsidered.Error()
		panic(http.ErrAbortHandler)
	case writeErr != nil || x.r.Context().Err() != nil:
		x.out.Err = "the client went away"
		panic(http.ErrAbortHandler)
	case readErr != nil:
		x.out.Err = "the answer broke off"
		// The child must see that it is not whole: the connection is cut
		// instead of ended.
		panic(http.ErrAbortHandler)
	}
	if announced || len(res.Trailer) > 0 {
		// Even an answer without a body must be chunked to carry trailers.
		_ = flush(x.w)
	}
	for name, values := range res.Trailer {
		if trailerAllowed(name) {
			h[http.TrailerPrefix+name] = values
		}
	}
}

// flush sends what has been written.
func flush(w http.ResponseWriter) error {
	if f, ok := w.(interface{ FlushError() error }); ok {
		return f.FlushError()
	}
	return http.NewResponseController(w).Flush()
}

// stream copies the body; together says that its beginning is there.
func (x *exchange) stream(res *http.Response, together bool) (readErr, writeErr error) {
	if res.Body == http.NoBody || x.r.Method == http.MethodHead {
		return nil, nil
	}
	var head *lateFlush // nil when there is no need
	if !together {
		head = &lateFlush{w: x.w}
		x.head = head
		timer := time.AfterFunc(headTogether, head.flush)
		defer func() {
			timer.Stop()
			head.cancel()
		}()
	}
	if x.from != nil {
		x.from.others = x
	}
	var b buffer
	defer b.release()
	if res.ContentLength > smallBuffer {
		b.grow()
	}
	for last := 0; ; {
		buf := b.next(last)
		last, readErr = res.Body.Read(buf)
		head.cancel()
		if last > 0 {
			if _, err := x.w.Write(buf[:last]); err != nil {
				return nil, err
			}
			x.out.Received += int64(last)
			// The end of the handler flushes the last part.
			if x.out.Received != res.ContentLength {
				if err := flush(x.w); err != nil && !errors.Is(err, http.ErrNotSupported) {
					return nil, err
				}
			}
		}
		if readErr == io.EOF {
			return nil, nil
		}
		if readErr != nil {
			return readErr, nil
		}
	}
}

// lateFlush sends the header when no body has come for a while, and does
// nothing once it was cancelled.
type lateFlush struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	over bool
}

func (f *lateFlush) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.over = true
		_ = flush(f.w)
	}
}

func (f *lateFlush) cancel() {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
}

// maxInterim bounds the 1xx answers to one request; net/http leaves the limit
// to whoever looks at them.
const maxInterim = 100

// interim passes 1xx answers on (RFC 9110, section 15.2). 100 is left to
// net/http, which sends it when the body is asked for.
type interim struct {
	w     http.ResponseWriter
	scrub *scrub.Scrubber
	old   bool // HTTP/1.0, which knows none
	// unread is the body of an HTTP/2 request. Until some of it has come, the
	// child may be waiting for a 100, and net/http sends none after another 1xx.
	unread *childBody

	mu       sync.Mutex
	over     bool
	count    int
	scrubbed int
}

// pass is called by net/http's own goroutine, and may be called after RoundTrip
// has given up, when the header is no longer ours to change.
func (i *interim) pass(status int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.count++; i.count > maxInterim {
		return errAnswer
	}
	if status == http.StatusSwitchingProtocols {
		return errAnswer // a 1xx over HTTP/2, which has none of these (RFC 9113, section 8.6)
	}
	if status == http.StatusContinue || i.old || i.over || !i.unread.begun() {
		return nil
	}
	i.scrubbed += i.scrub.Header(http.Header(header)).Total()
	h := answerHeader(i.w, http.Header(header))
	i.w.WriteHeader(status)
	clear(h)
	return nil
}

// close ends it, and adds what was overwritten to the outcome.
func (i *interim) close(out *authsome.Outcome) {
	i.mu.Lock()
	i.over = true
	out.Scrubbed += i.scrubbed
	i.mu.Unlock()
}
