package proxy

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/scrub"
)

// scrubbers are those of a pool: one for each set of values that was put on a
// request, since they cost more than a request does.
type scrubbers struct {
	mu      sync.Mutex
	byValue map[string]*scrub.Scrubber
}

// maxScrubbers bounds those of a pool; refreshes and routes make new ones.
const maxScrubbers = 32

func (s *scrubbers) of(values []authsome.Secret) *scrub.Scrubber {
	var key strings.Builder
	for _, v := range values {
		key.WriteString(v.Reveal())
		key.WriteByte(0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.byValue[key.String()]; ok {
		return found
	}
	if s.byValue == nil || len(s.byValue) >= maxScrubbers {
		s.byValue = map[string]*scrub.Scrubber{}
	}
	made := scrub.New(values)
	s.byValue[key.String()] = made
	return made
}

// scrubber looks for what the resolution puts on the request, and for what it
// says must not come back. It is nil when there is nothing to look for.
func (x *exchange) scrubber() *scrub.Scrubber {
	if x.grant == nil || x.grant.Unscrubbed {
		return nil
	}
	var room [8]authsome.Secret
	values := append(room[:0], x.res.Guard...)
	if x.res.Verdict == authsome.Inject {
		for _, s := range x.res.Set {
			values = append(values, s.Value)
		}
		if x.res.Rewrite != nil {
			for _, s := range x.res.Rewrite.Set {
				values = append(values, s.Value)
			}
		}
		if x.res.Message != nil {
			values = append(values, x.res.Message.Value)
		}
		if s := x.res.Sign; s != nil {
			values = append(values, s.SecretAccessKey)
			if !s.SessionToken.IsZero() {
				values = append(values, s.SessionToken)
			}
		}
	}
	if len(values) == 0 {
		return nil
	}
	// What a request was sent with before, and was refused, may be in this answer, too:
	// the service has seen both.
	values = append(values, x.tried...)
	if x.res.Renewable {
		x.tried = slices.Clone(values)
	}
	if found := x.p.poolFor(x.grant, x.res).scrubbers.of(values); !found.Empty() {
		return found
	}
	return nil
}

// ask changes what the child accepts to what can be looked into.
func (x *exchange) ask(header http.Header) {
	if x.scrub = x.scrubber(); x.scrub == nil {
		return
	}
	x.scrub.Ask(header)
	if x.p.limits.low(x.c.account, memory) {
		scrub.Spare(header)
	}
	if isWebSocket(x.upgrade) {
		delete(header, extensionsHeader) // compressed messages cannot be looked into
	}
}

// spoken is the service's side of a WebSocket whose text messages, and the reason
// of whose end, are scrubbed on their way to the child. Frames keep their lengths,
// and leave when it is known that they do not hold the beginning of a value.
type spoken struct {
	io.ReadWriteCloser
	st *scrub.Stream

	header  [maxFrameHeader]byte
	have    int   // bytes of header
	left    int64 // of the payload
	text    bool  // the message that has begun is a text
	open    bool  // and it has not ended
	looking bool  // the frame is a part of it
	fin     bool
	lost    bool // the bytes are no frames
	unseen  bool // so are they, or frames that nobody may send, and none could look into

	// queue is what has come and not left, in order: bytes as they are, or so
	// many of payload.
	queue   []part
	waiting int    // bytes of queue that are no payload
	payload []byte // the first clean bytes are scrubbed
	clean   int
	out     []byte // to be read
	err     error  // of reading; comes behind out
}

// part of what is on its way: raw bytes, or a number of payload's.
type part struct {
	raw     []byte
	payload int
}

// maxWaiting bounds what a service can put between two parts of a message.
const maxWaiting = 64 << 10

// Read implements io.Reader.
func (s *spoken) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		var n int
		n, s.err = s.ReadWriteCloser.Read(p)
		whole := s.whole(p[:n])
		if n > 0 && whole == n {
			return n, nil
		}
		if whole > 0 {
			s.raw(p[:whole])
		}
		s.feed(p[whole:n])
		if s.err != nil {
			s.raw(s.header[:s.have])
			s.have = 0
			s.end()
		}
		s.release()
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// CloseWrite ends the child's direction.
func (s *spoken) CloseWrite() error { return closeWrite(s.ReadWriteCloser) }

// whole scrubs, where they are, the frames at the start of p that are messages of
// their own and have come whole, as almost all have; it returns where they end.
func (s *spoken) whole(p []byte) (end int) {
	if s.lost || s.open || s.have > 0 || s.left > 0 || len(s.queue) > 0 {
		return 0
	}
	for {
		f, size, no := frameHeader(p[end:min(len(p), end+maxFrameHeader)])
		if no != nil || size == 0 || f.length > int64(len(p)-end-size) || !f.control() && (!f.fin || f.opcode == opContinuation) {
			return end
		}
		payload := p[end+size : end+size+int(f.length)]
		s.unseen = s.unseen || f.hidden()
		if !f.control() {
			s.text, s.fin = f.opcode == opText, true
		}
		if f.opcode == opText || f.opcode == opClose {
			s.st.Overwrite(payload, true)
		}
		end += size + len(payload)
	}
}

func (s *spoken) feed(p []byte) {
	for len(p) > 0 {
		switch {
		case s.lost:
			s.raw(p)
			return
		case s.left > 0:
			n := min(s.left, int64(len(p)))
			s.left -= n
			if s.looking {
				s.payload = append(s.payload, p[:n]...)
				s.enqueue(part{payload: int(n)})
				s.overwrite(s.fin && s.left == 0)
			} else {
				s.raw(p[:n])
			}
			p = p[n:]
		default:
			s.header[s.have] = p[0]
			s.have++
			p = p[1:]
			f, size, no := frameHeader(s.header[:s.have])
			if no == nil && size == 0 {
				continue
			}
			s.raw(s.header[:s.have])
			s.have = 0
			if no != nil {
				s.lost, s.unseen = true, true
				s.end()
				continue
			}
			s.begin(f)
		}
	}
}

// begin takes a frame's header.
func (s *spoken) begin(f frame) {
	s.left, s.fin = f.length, f.fin
	s.unseen = s.unseen || f.hidden()
	if f.opcode == opClose {
		// A status and text for people (RFC 6455, section 5.5.1). No message goes on
		// behind it.
		s.overwrite(true)
		s.open, s.looking, s.fin = false, true, true
		return
	}
	if f.control() {
		s.looking = false
		return
	}
	if f.opcode != opContinuation {
		s.overwrite(true) // of a message that was never ended
		s.text = f.opcode == opText
	}
	s.open = !f.fin
	s.looking = s.text
	if s.looking && f.fin && f.length == 0 {
		s.overwrite(true)
	}
}

func (s *spoken) raw(b []byte) {
	s.enqueue(part{raw: append([]byte(nil), b...)})
	if s.waiting += len(b); s.waiting > maxWaiting {
		s.end()
	}
}

func (s *spoken) enqueue(p part) {
	if n := len(s.queue); n > 0 && p.payload > 0 && s.queue[n-1].payload > 0 {
		s.queue[n-1].payload += p.payload
		return
	}
	s.queue = append(s.queue, p)
}

// overwrite scrubs what has come of a message.
func (s *spoken) overwrite(last bool) {
	s.clean += s.st.Overwrite(s.payload[s.clean:], last)
}

// end lets go of everything: nothing follows that a value could go on in.
func (s *spoken) end() { s.overwrite(true) }

// release moves what may leave to out.
func (s *spoken) release() {
	s.out = s.out[:0]
	i := 0
	for ; i < len(s.queue); i++ {
		q := &s.queue[i]
		if q.payload == 0 {
			s.out = append(s.out, q.raw...)
			s.waiting -= len(q.raw)
			continue
		}
		n := min(q.payload, s.clean)
		s.out = append(s.out, s.payload[:n]...)
		s.payload = s.payload[:copy(s.payload, s.payload[n:])]
		s.clean -= n
		if q.payload -= n; q.payload > 0 {
			break
		}
	}
	s.queue = append(s.queue[:0], s.queue[i:]...)
}
