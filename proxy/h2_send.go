package proxy

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2sender is the sending side of a connection. The mu of the connection guards
// it.
type h2sender struct {
	out      []byte // frames to be written
	turn     uint64 // counts the buffers that out has been
	writing  bool   // somebody writes, and will write out next
	soon     bool   // somebody is about to
	controls int    // frames in out that the child has caused
	waiting  []*h2stream

	window  int64 // that is left of the connection's
	initial int64 // of a new stream
	frame   int64 // size of the largest frame
	encoder *hpack.Encoder
	lower   map[string]string // names of fields that are not common
}

const (
	h2Small = 4 << 10
	h2Big   = h2MaxOut + h2FrameSize + h2Small
	// h2Rounds is how often a handler that has ended writes for the others.
	h2Rounds = 4
)

var (
	h2SmallBuffers = sync.Pool{New: func() any { b := make([]byte, 0, h2Small); return &b }}
	h2BigBuffers   = sync.Pool{New: func() any { b := make([]byte, 0, h2Big); return &b }}
)

// room makes room for n bytes in out.
func (c *h2sender) room(n int) {
	size := len(c.out) + n
	switch {
	case size <= cap(c.out):
	case size <= h2Small:
		c.out = *h2SmallBuffers.Get().(*[]byte)
	case size <= h2Big && cap(c.out) < h2Big:
		old := c.out
		c.out = append(*h2BigBuffers.Get().(*[]byte), old...)
		releaseOut(old)
	default:
		c.out = slices.Grow(c.out, n)
	}
}

func releaseOut(b []byte) {
	b = b[:0]
	switch cap(b) {
	case h2Small:
		h2SmallBuffers.Put(&b)
	case h2Big:
		h2BigBuffers.Put(&b)
	}
}

func putUint32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }

// putHead puts a frame's header into out, and gives where it is (section 4.1).
func (c *h2sender) putHead(t http2.FrameType, flags http2.Flags, id uint32, size int) int {
	c.room(h2FrameHeader + size)
	at := len(c.out)
	c.out = append(c.out, byte(size>>16), byte(size>>8), byte(size), byte(t), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	return at
}

// putFrame puts a frame into out.
func (c *h2sender) putFrame(t http2.FrameType, flags http2.Flags, id uint32, payload []byte) int {
	at := c.putHead(t, flags, id, len(payload))
	c.out = append(c.out, payload...)
	return at
}

func (c *h2sender) putWindowUpdate(id uint32, n int64) {
	var b [4]byte
	putUint32(b[:], uint32(n))
	c.putFrame(http2.FrameWindowUpdate, 0, id, b[:])
}

// putSettings puts the server's preface (section 3.4).
func (c *h2sender) putSettings() {
	var b []byte
	for _, s := range [...]http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: h2MaxStreams},
		{ID: http2.SettingInitialWindowSize, Val: h2StreamWindow},
		{ID: http2.SettingMaxFrameSize, Val: h2MaxFrame},
		{ID: http2.SettingMaxHeaderListSize, Val: h2MaxHeaders},
	} {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	c.putFrame(http2.FrameSettings, 0, 0, b)
}

// maxResets is how many streams that we reset are remembered. The child may have
// sent more on as many as there are at once.
const maxResets = h2MaxStreams

// putReset ends a stream; mu is held.
func (c *h2conn) putReset(id uint32, code http2.ErrCode) {
	var b [4]byte
	putUint32(b[:], uint32(code))
	c.putFrame(http2.FrameRSTStream, 0, id, b[:])
	if len(c.resets) < maxResets {
		c.resets = append(c.resets, id)
		return
	}
	c.resets[c.reset%maxResets] = id
	c.reset++
}

// h2out is where the encoder of HPACK writes to.
type h2out struct{ c *h2conn }

func (o h2out) Write(b []byte) (int, error) {
	o.c.room(len(b))
	o.c.out = append(o.c.out, b...)
	return len(b), nil
}

// putHeaders puts a header or trailers into out, and gives where the frame is;
// mu is held. status is 0 for trailers, and name says which of the fields are
// meant, and what they are called.
func (c *h2conn) putHeaders(id uint32, flags http2.Flags, status int, extra []hpack.HeaderField, h http.Header, name func(string) string) int {
	at := c.putHead(http2.FrameHeaders, flags|http2.FlagHeadersEndHeaders, id, 0)
	field := func(name, value string) {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) // to memory: cannot fail
	}
	if status != 0 {
		field(":status", statusText(status))
	}
	for _, f := range extra {
		_ = c.encoder.WriteField(f)
	}
	for key, values := range h {
		key = name(key)
		if key == "" {
			continue
		}
		low := c.lowerName(key)
		if low == "" {
			continue
		}
		for _, v := range values {
			if v = trimmed(v); httpguts.ValidHeaderFieldValue(v) {
				field(low, v)
			}
		}
	}
	size := len(c.out) - at - h2FrameHeader
	if int64(size) <= c.frame {
		c.out[at], c.out[at+1], c.out[at+2] = byte(size>>16), byte(size>>8), byte(size)
		return at
	}
	// Section 6.10: the rest goes into CONTINUATION frames.
	block := slices.Clone(c.out[at+h2FrameHeader:])
	c.out = c.out[:at]
	c.putFrame(http2.FrameHeaders, flags, id, block[:c.frame])
	for block = block[c.frame:]; int64(len(block)) > c.frame; block = block[c.frame:] {
		c.putFrame(http2.FrameContinuation, 0, id, block[:c.frame])
	}
	c.putFrame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, id, block)
	return at
}

func statusText(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

// trimmed is a value without the blanks around it, which it must not have
// (section 8.2.1).
func trimmed(v string) string { return strings.Trim(v, " \t") }

// kick has somebody else write what is in out. It does not wait.
func (c *h2conn) kick() {
	c.mu.Lock()
	if !c.writing && len(c.out) > 0 {
		c.writing = true
		go c.carryOn()
	}
	c.mu.Unlock()
}

// carryOn writes until there is nothing to be written. writing was set for it.
func (c *h2conn) carryOn() {
	c.mu.Lock()
	c.writing = false
	for len(c.out) > 0 && !c.writing {
		c.write(1 << 30)
	}
	c.mu.Unlock()
}

// write writes out, unless somebody does already, who takes it along; mu is held,
// but not while writing. What comes meanwhile it writes as well, so often, and
// then leaves it to another goroutine.
func (c *h2conn) write(rounds int) {
	if c.writing {
		return
	}
	c.writing = true
	for ; len(c.out) > 0; rounds-- {
		if rounds == 0 {
			go c.carryOn()
			return
		}
		b := c.out
		c.out, c.controls = nil, 0
		c.turn++
		if c.over {
			releaseOut(b)
			break
		}
		c.wake()
		c.mu.Unlock()
		_, err := c.conn.Write(b)
		if err != nil {
			_ = c.conn.Close() // which ends the reading
		}
		c.mu.Lock()
		releaseOut(b)
	}
	c.writing = false
}

// wake lets all try again that wait for the connection's window or for room in
// out; mu is held.
func (c *h2conn) wake() {
	for i, s := range c.waiting {
		s.waits = false
		s.cond.Signal()
		c.waiting[i] = nil
	}
	c.waiting = c.waiting[:0]
}
