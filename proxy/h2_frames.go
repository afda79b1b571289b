package proxy

import (
	"errors"
	"io"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// errMalformed is a frame whose payload is not what its header says.
var errMalformed = errors.New("malformed frame")

// next reads one frame, or one whole header.
func (c *h2conn) next() error {
	head, err := c.readHead()
	switch {
	case err != nil:
	case head.Type == http2.FrameData && c.begun:
		err = c.data(head)
	default:
		var f http2.Frame
		if f, err = c.readFrame(head); err == nil {
			err = c.handle(f)
		}
	}
	var wrong http2.StreamError
	if !errors.As(err, &wrong) {
		return err
	}
	if !c.forgive() {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return c.resetStream(wrong.StreamID, wrong.Code)
}

// h2FrameHeader is the size of a frame's header (section 4.1).
const h2FrameHeader = 9

// readHead reads a frame's header.
func (c *h2conn) readHead() (http2.FrameHeader, error) {
	if c.br.Buffered() < h2FrameHeader {
		c.answer()
	}
	return c.framer.ReadFrameHeader()
}

// readFrame reads the rest of a frame. It is valid until the next one is read.
func (c *h2conn) readFrame(head http2.FrameHeader) (http2.Frame, error) {
	partOfHeader := head.Type == http2.FrameHeaders || head.Type == http2.FrameContinuation
	if c.br.Buffered() < int(head.Length) {
		c.answer()
		if head.Type == http2.FrameHeaders && c.begun {
			c.hurry()
		}
	}
	f, err := c.framer.ReadFrameForHeader(head)
	var stream http2.StreamError
	switch {
	case err == nil:
		if !c.begun {
			// Section 3.4: the first one is SETTINGS.
			if s, ok := f.(*http2.SettingsFrame); !ok || s.IsAck() {
				return nil, http2.ConnectionError(http2.ErrCodeProtocol)
			}
			c.begun = true
			_ = c.conn.SetReadDeadline(time.Time{})
		}
		return f, nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		// A payload too short for its flags, or the end of the connection.
		return nil, errMalformed
	case partOfHeader && errors.As(err, &stream):
		// What is in it would be missing from the table of HPACK (section 4.3).
		return nil, http2.ConnectionError(stream.Code)
	}
	return nil, err
}

// hurry gives the child headTime for the header that it has begun.
func (c *h2conn) hurry() {
	if !c.hurried {
		c.hurried = true
		_ = c.conn.SetReadDeadline(time.Now().Add(headTime))
	}
}

// answer has written what reading has caused, before it waits for more. The
// goroutine that reads never writes itself: a child that does not read while it
// sends would wait for ever.
func (c *h2conn) answer() {
	if c.caused {
		c.caused = false
		c.kick()
	}
}

// forgive takes note of something that costs the child nothing and us something;
// false when there was too much of it.
func (c *h2conn) forgive() bool {
	now := time.Now()
	if !c.credited.IsZero() {
		c.credit = min(h2Burst, c.credit+now.Sub(c.credited).Seconds()*h2Rate)
	}
	c.credited = now
	c.credit--
	return c.credit >= 0
}

// handle acts on a frame.
func (c *h2conn) handle(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.headers(f)
	case *http2.WindowUpdateFrame:
		return c.windowUpdate(f)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.putFrame(http2.FramePing, http2.FlagPingAck, 0, f.Data[:])
		return c.control()
	case *http2.RSTStreamFrame:
		return c.resetByChild(f)
	case *http2.GoAwayFrame:
		c.leave()
		return nil
	case *http2.PushPromiseFrame:
		// Section 8.4: a client cannot push.
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	// PRIORITY means nothing any more (section 5.3.2); others are ignored
	// (section 5.5).
	return nil
}

// control counts a frame that the child has caused; mu is held.
func (c *h2conn) control() error {
	c.caused = true
	if c.controls++; c.controls > h2MaxControl {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// data takes a part of a request's body, from the connection right to where it is
// read (section 6.1).
func (c *h2conn) data(head http2.FrameHeader) error {
	size, padding := int64(head.Length), int64(0)
	if head.Flags.Has(http2.FlagDataPadded) {
		if size == 0 {
			return errMalformed
		}
		var n [1]byte
		if _, err := c.readSome(n[:]); err != nil {
			return err
		}
		if padding = 1 + int64(n[0]); padding > size {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
	}
	s, err := c.admit(head, size-padding)
	switch {
	case s != nil:
		err = s.body.fill(c, size-padding)
	case err == nil || errors.As(err, new(http2.StreamError)):
		if e := c.skip(size - min(padding, 1)); e != nil {
			return e
		}
		c.giveBack(size)
		return err
	}
	if err != nil {
		return err
	}
	if padding > 0 {
		if err := c.skip(padding - 1); err != nil {
			return err
		}
		c.giveBack(padding)
		s.giveBack(padding)
	}
	if head.Flags.Has(http2.FlagDataEndStream) {
		return c.ended(s)
	}
	if size == 0 && !c.forgive() {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// admit finds the stream of a DATA frame that has so many bytes besides its
// padding. Without one, and without an error, nobody wants it.
func (c *h2conn) admit(head http2.FrameHeader, bytes int64) (*h2stream, error) {
	id, size := head.StreamID, int64(head.Length)
	wrong := func(code http2.ErrCode) (*h2stream, error) {
		return nil, http2.StreamError{StreamID: id, Code: code}
	}
	full := c.full() // which may tell the person: not with mu held
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.receive {
		return nil, http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	c.receive -= size
	s := c.streams[id]
	switch {
	case id == 0 || id > c.maxID && !c.leaving:
		return nil, errUnopened
	case id > c.maxID, s == nil && slices.Contains(c.resets, id):
		return nil, nil // on its way before the child knew (sections 6.8 and 5.4.2)
	case s == nil || s.ended:
		return wrong(http2.ErrCodeStreamClosed)
	case size > s.receive:
		return wrong(http2.ErrCodeFlowControl)
	case full:
		return wrong(http2.ErrCodeEnhanceYourCalm)
	}
	s.receive -= size
	if s.got += bytes; s.declared >= 0 && s.got > s.declared {
		return wrong(http2.ErrCodeProtocol) // section 8.1.1
	}
	return s, nil
}

// ended notes that the child has ended its side of a stream.
func (c *h2conn) ended(s *h2stream) error {
	c.mu.Lock()
	s.ended = true
	short := s.declared >= 0 && s.got < s.declared
	if s.answered {
		c.drop(s)
	}
	c.mu.Unlock()
	if short {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol} // section 8.1.1
	}
	s.body.end(io.EOF)
	return nil
}

// readSome reads into b what there is, and at least a byte.
func (c *h2conn) readSome(b []byte) (int, error) {
	if c.br.Buffered() == 0 {
		c.answer()
	}
	return c.br.Read(b)
}

// skip reads what nobody wants.
func (c *h2conn) skip(n int64) error {
	for n > 0 {
		if c.br.Buffered() == 0 {
			c.answer()
			if _, err := c.br.Peek(1); err != nil {
				return err
			}
		}
		k, err := c.br.Discard(int(min(n, int64(c.br.Buffered()))))
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// errUnopened is a frame for a stream that was never opened (section 5.1, idle).
var errUnopened = http2.ConnectionError(http2.ErrCodeProtocol)

// unopened is for one whose stream may have been opened too late; mu is held.
func (c *h2conn) unopened() error {
	if c.leaving {
		return nil
	}
	return errUnopened
}

// headers takes a request, or the trailers of one (section 6.2).
func (c *h2conn) headers(f *http2.HeadersFrame) error {
	id, ended := f.StreamID, f.StreamEnded()
	if err := c.readBlock(f); err != nil {
		return err
	}
	defer c.block.clear()
	if id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol) // section 5.1.1
	}
	c.mu.Lock()
	s := c.streams[id]
	switch {
	case s != nil:
		was := s.ended
		c.mu.Unlock()
		switch {
		case was:
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
		case !ended || !c.block.trailers(s):
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
		}
		return c.ended(s)
	case id <= c.maxID:
		defer c.mu.Unlock()
		switch {
		case slices.Contains(c.resets, id):
			return nil
		case c.skipped:
			return http2.ConnectionError(http2.ErrCodeProtocol) // section 5.1.1
		}
		return http2.ConnectionError(http2.ErrCodeStreamClosed) // section 5.1
	case c.leaving:
		c.mu.Unlock()
		return nil // section 6.8: the child knows that it was not served
	}
	c.skipped = c.skipped || id > c.maxID+2 || c.maxID == 0 && id > 1
	c.maxID = id
	full := len(c.streams) >= h2MaxStreams
	c.mu.Unlock()
	switch {
	case full:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream} // section 5.1.2
	case c.block.noRoom:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeEnhanceYourCalm}
	}
	s, ok := c.open(id, ended)
	if !ok {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	c.used()
	c.mu.Lock()
	s.window = c.initial
	c.streams[id] = s
	run := c.running < h2MaxStreams
	if run {
		c.running++
	} else {
		c.pending = append(c.pending, s)
	}
	flood := len(c.pending) > h2MaxPending
	c.mu.Unlock()
	switch {
	case run:
		c.workers.run(s)
	case flood:
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// windowUpdate lets more be sent (section 6.9).
func (c *h2conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > h2MaxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.wake()
		return nil
	}
	if f.StreamID > c.maxID {
		return c.unopened()
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	if s.window += int64(f.Increment); s.window > h2MaxWindow {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	s.cond.Signal()
	return nil
}

// settings takes the child's (section 6.5).
func (c *h2conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if c.acked {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		c.acked = true
		return nil
	}
	if !c.forgive() {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.encoder.SetMaxDynamicTableSize(s.Val)
		case http2.SettingMaxFrameSize:
			c.frame = min(int64(s.Val), h2FrameSize)
		case http2.SettingInitialWindowSize:
			// Windows may become negative (section 6.9.2).
			more := int64(s.Val) - c.initial
			c.initial = int64(s.Val)
			for _, st := range c.streams {
				if st.window += more; st.window > h2MaxWindow {
					return http2.ConnectionError(http2.ErrCodeFlowControl)
				}
				st.cond.Signal()
			}
		}
		return nil
	}); err != nil {
		return err
	}
	c.putFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	return c.control()
}

// resetByChild ends a stream that the child has given up (section 6.4).
func (c *h2conn) resetByChild(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	if f.StreamID > c.maxID {
		defer c.mu.Unlock()
		return c.unopened()
	}
	s := c.streams[f.StreamID]
	if s != nil {
		s.ended = true
		c.drop(s)
	}
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	s.stop(errStreamReset)
	if !c.forgive() {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// resetStream ends a stream for what the child did on it.
func (c *h2conn) resetStream(id uint32, code http2.ErrCode) error {
	c.mu.Lock()
	s := c.streams[id]
	c.putReset(id, code)
	if s != nil {
		c.drop(s)
	}
	err := c.control()
	c.mu.Unlock()
	if s != nil {
		s.stop(errStreamReset)
	}
	return err
}
