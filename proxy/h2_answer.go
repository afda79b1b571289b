package proxy

import (
	"net/http"
	"net/textproto"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2answer is what a stream has as an http.ResponseWriter. It belongs to the
// handler; the mu of the connection guards what it has put into out.
type h2answer struct {
	header   http.Header
	status   int   // 0 until WriteHeader
	length   int64 // as announced; -1 when it is not
	written  int64
	sent     bool // the header is in out
	bodyless bool
	closed   bool // END_STREAM is in out
	// tail is where the last frame of the stream is in out, while that is the
	// buffer it was put into: END_STREAM may still be put on it.
	tail int
	turn uint64
}

// Header implements http.ResponseWriter.
func (s *h2stream) Header() http.Header {
	if s.header == nil {
		s.header = make(http.Header, 16)
	}
	return s.header
}

// WriteHeader implements http.ResponseWriter. A 1xx leaves at once, except 101,
// which HTTP/2 does not have (RFC 9113, section 8.6).
func (s *h2stream) WriteHeader(status int) {
	switch {
	case s.status != 0 || status == http.StatusSwitchingProtocols:
	case status >= 100 && status < 200:
		c := s.c
		c.mu.Lock()
		defer c.mu.Unlock()
		if !s.gone {
			c.putHeaders(s.id, 0, status, nil, s.header, interimName)
			c.write(1)
		}
	default:
		s.status = status
	}
}

func interimName(key string) string {
	if key == "Content-Length" {
		return ""
	}
	return answerName(key)
}

// answerName leaves out what concerns one connection only (RFC 9113, section
// 8.2.2), and trailers.
func answerName(key string) string {
	switch key {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
		return ""
	}
	return key
}

// trailerName is the name of a trailer.
func trailerName(key string) string {
	name, ok := strings.CutPrefix(key, http.TrailerPrefix)
	if !ok || !httpguts.ValidTrailerHeader(name) {
		return ""
	}
	return answerName(name)
}

// sendHeader puts the header into out, once; mu is held. all says that no body
// will come.
func (s *h2stream) sendHeader(all bool) {
	if s.sent || s.gone {
		return
	}
	s.sent = true
	if s.status == 0 {
		s.status = http.StatusOK
	}
	s.bodyless = s.req.Method == http.MethodHead || s.status == http.StatusNoContent || s.status == http.StatusNotModified
	if v := s.header["Content-Length"]; len(v) > 0 {
		n, err := strconv.ParseUint(textproto.TrimString(v[0]), 10, 63)
		if err != nil || s.status == http.StatusNoContent {
			delete(s.header, "Content-Length")
		} else {
			s.length = int64(n)
		}
	}
	var extra [2]hpack.HeaderField
	more := extra[:0]
	if all && s.length < 0 && !s.bodyless {
		s.length = 0
		more = append(more, hpack.HeaderField{Name: "content-length", Value: "0"})
	}
	if _, ok := s.header["Date"]; !ok {
		more = append(more, hpack.HeaderField{Name: "date", Value: time.Now().UTC().Format(http.TimeFormat)})
	}
	var flags http2.Flags
	if s.bodyless {
		flags = http2.FlagHeadersEndStream
		s.closed = true
	}
	s.tail = s.c.putHeaders(s.id, flags, s.status, more, s.header, answerName)
	s.turn = s.c.turn
}

// Write implements http.ResponseWriter.
func (s *h2stream) Write(b []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(b) == 0 {
		return 0, s.err()
	}
	s.sendHeader(false)
	switch {
	case s.gone:
		return 0, s.err()
	case s.bodyless:
		return len(b), nil
	case s.length >= 0 && s.written+int64(len(b)) > s.length:
		return 0, errTooLong
	}
	for n := 0; ; {
		if n == len(b) {
			return n, nil
		}
		if s.gone {
			return n, s.err()
		}
		size := min(int64(len(b)-n), c.frame, c.window, s.window)
		switch {
		case size > 0 && len(c.out) < h2MaxOut:
			c.window -= size
			s.window -= size
			s.written += size
			s.tail = c.putFrame(http2.FrameData, 0, s.id, b[n:n+int(size)])
			s.turn = c.turn
			n += int(size)
		case len(c.out) > 0 && !c.writing:
			c.write(1)
		default:
			s.wait()
		}
	}
}

// wait waits until there may be a window and room in out; mu is held.
func (s *h2stream) wait() {
	if !s.waits {
		s.waits = true
		s.c.waiting = append(s.c.waiting, s)
	}
	s.cond.Wait()
}

// err is why nothing can be sent any more; mu is held.
func (s *h2stream) err() error {
	switch {
	case !s.gone:
		return nil
	case s.c.over:
		return errChildGone
	}
	return errStreamReset
}

// FlushError is for http.ResponseController.
func (s *h2stream) FlushError() error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sendHeader(false)
	c.write(1)
	return s.err()
}

// EnableFullDuplex is for http.ResponseController; it is never otherwise here.
func (s *h2stream) EnableFullDuplex() error { return nil }

// finish ends the answer, and the stream; whole says that the handler has
// returned as it should.
func (s *h2stream) finish(whole bool) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	early := false
	switch {
	case s.gone:
	case !whole:
		s.abort()
	default:
		s.sendHeader(!s.trailers())
		switch {
		case s.closed:
		case s.length >= 0 && s.written != s.length:
			s.abort() // the child would take it for whole
		case s.trailers():
			c.putHeaders(s.id, http2.FlagHeadersEndStream, 0, nil, s.header, trailerName)
			s.closed = true
		case s.turn == c.turn && !c.over:
			c.out[s.tail+4] |= byte(http2.FlagDataEndStream) // the same as that of HEADERS
			s.closed = true
		default:
			c.putFrame(http2.FrameData, http2.FlagDataEndStream, s.id, nil)
			s.closed = true
		}
		early = s.closed && !s.ended
	}
	if early {
		// Section 8.1: the rest is not wanted. But curl 7.88, for one, takes a reset
		// for a failure when it has not yet read the answer that came before.
		s.answered = true
		time.AfterFunc(restTime, s.refuseRest)
	} else {
		c.drop(s)
	}
	if c.writing || c.soon || len(c.out) == 0 {
		return
	}
	if len(c.streams) > 0 {
		// Others may be about to end as well: their frames leave in the same write.
		c.soon = true
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
		c.soon = false
	}
	c.write(h2Rounds)
}

// refuseRest has the child stop sending.
func (s *h2stream) refuseRest() {
	c := s.c
	c.mu.Lock()
	if !s.gone {
		c.putReset(s.id, http2.ErrCodeNo)
		c.drop(s)
	}
	c.mu.Unlock()
	c.kick()
}

// abort cuts the answer off, so that it does not look whole; mu is held.
func (s *h2stream) abort() {
	if !s.closed || !s.ended {
		s.c.putReset(s.id, http2.ErrCodeInternal)
	}
}

// trailers reports whether there are any.
func (s *h2stream) trailers() bool {
	for key := range s.header {
		if trailerName(key) != "" {
			return true
		}
	}
	return false
}
