package proxy

import (
	"encoding/binary"
	"fmt"
)

// A frame of a WebSocket (RFC 6455, section 5.2):
//
//	byte 0  FIN, RSV1 to 3, four bits of opcode
//	byte 1  MASK, seven bits of length; 126 and 127 say that it follows
//	        in two bytes or in eight, big-endian
//	        four bytes of masking key, with MASK
//	        the payload
type frame struct {
	fin    bool
	rsv    byte // the three reserved bits, as they stand in byte 0
	opcode byte
	masked bool
	key    [4]byte
	length int64
}

// The opcodes that RFC 6455 knows (section 11.8). From opClose on they control
// the connection, and may come between the parts of a message.
const (
	opContinuation byte = 0
	opText         byte = 1
	opBinary       byte = 2
	opClose        byte = 8
	opPing         byte = 9
	opPong         byte = 10
)

// maxFrameHeader is the longest header, in bytes.
const maxFrameHeader = 14

// maxControl is the longest payload of a control frame (section 5.5).
const maxControl = 125

// refusal is the end of a WebSocket that we bring about: a status of RFC 6455,
// section 7.4.1, and a reason for people.
type refusal struct {
	code   uint16
	reason string
}

// The statuses in use.
const (
	statusProtocol uint16 = 1002
	statusPolicy   uint16 = 1008
	statusTooBig   uint16 = 1009
	statusTryLater uint16 = 1013 // https://www.iana.org/assignments/websocket
)

func malformed(format string, args ...any) *refusal {
	return &refusal{statusProtocol, fmt.Sprintf(format, args...)}
}

// frameHeader reads the header at the start of b. size is 0 when b ends before
// the header does.
func frameHeader(b []byte) (f frame, size int, no *refusal) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f.fin, f.rsv, f.opcode = b[0]&0x80 != 0, b[0]&0x70, b[0]&0x0f
	f.masked = b[1]&0x80 != 0
	size = 2
	switch n := b[1] & 0x7f; n {
	case 126:
		if size += 2; len(b) < size {
			return f, 0, nil
		}
		f.length = int64(binary.BigEndian.Uint16(b[2:]))
		if f.length <= maxControl {
			return f, 0, malformed("a length is not in its shortest form")
		}
	case 127:
		if size += 8; len(b) < size {
			return f, 0, nil
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long>>63 != 0 || long <= 0xffff {
			return f, 0, malformed("a length is not in its shortest form, or negative")
		}
		f.length = int64(long)
	default:
		f.length = int64(n)
	}
	if f.masked {
		if size += 4; len(b) < size {
			return f, 0, nil
		}
		copy(f.key[:], b[size-4:])
	}
	return f, size, nil
}

// control reports whether the frame is no part of a message.
func (f *frame) control() bool { return f.opcode >= opClose }

// hidden reports whether what a service sends in the frame cannot be read: it is
// masked, which only clients do (section 5.1), or changed by an extension.
func (f *frame) hidden() bool { return f.masked || f.rsv != 0 }

// wrong says why a client may not send the frame where no extension was agreed
// on; under is the opcode of the message that has begun, 0 for none.
func (f *frame) wrong(under byte) *refusal {
	switch {
	case f.rsv != 0:
		return malformed("a reserved bit is set, and no extension was agreed on")
	case !f.masked:
		return malformed("a frame is not masked")
	case f.control() && (!f.fin || f.length > maxControl):
		return malformed("a control frame is in parts, or too long")
	}
	switch f.opcode {
	case opContinuation:
		if under == 0 {
			return malformed("a message begins with its continuation")
		}
	case opText, opBinary:
		if under != 0 {
			return malformed("a message begins before the last one has ended")
		}
	case opClose, opPing, opPong:
	default:
		return malformed("the opcode %d is unknown", f.opcode)
	}
	return nil
}

// appendFrame appends a whole text message in one frame.
func appendFrame(out []byte, opcode byte, key *[4]byte, payload []byte) []byte {
	masked := byte(0)
	if key != nil {
		masked = 0x80
	}
	out = append(out, 0x80|opcode)
	switch n := len(payload); {
	case n <= maxControl:
		out = append(out, masked|byte(n))
	case n <= 0xffff:
		out = binary.BigEndian.AppendUint16(append(out, masked|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, masked|127), uint64(n))
	}
	if key == nil {
		return append(out, payload...)
	}
	out = append(out, key[:]...)
	return appendMasked(out, *key, payload)
}

// appendMasked appends payload, masked or unmasked, which is the same (section
// 5.3). A frame's payload starts with the key's first byte.
func appendMasked(out []byte, key [4]byte, payload []byte) []byte {
	for i, b := range payload {
		out = append(out, b^key[i&3])
	}
	return out
}

// closeFrame is the frame by which a server ends a connection.
func (r *refusal) closeFrame() []byte {
	payload := binary.BigEndian.AppendUint16(nil, r.code)
	payload = append(payload, "authsome: "+r.reason...)
	return appendFrame(nil, opClose, nil, payload[:min(len(payload), maxControl)])
}

// boundaries follows frames as they pass by, whatever they are, to know where
// one ends.
type boundaries struct {
	header [maxFrameHeader]byte
	have   int   // bytes of header
	left   int64 // of the payload
	lost   bool  // the bytes are no frames: there is no end to be found any more
}

// between reports whether the next byte begins a frame.
func (s *boundaries) between() bool { return !s.lost && s.have == 0 && s.left == 0 }

// skip follows p. With stop, it goes no further than the next end of a frame.
// It returns how many bytes it has followed.
func (s *boundaries) skip(p []byte, stop bool) int {
	for n := 0; ; {
		if n == len(p) || s.lost || stop && n > 0 && s.between() {
			return n
		}
		if s.left > 0 {
			k := min(s.left, int64(len(p)-n))
			s.left -= k
			n += int(k)
			continue
		}
		s.header[s.have] = p[n]
		s.have++
		n++
		switch f, size, no := frameHeader(s.header[:s.have]); {
		case no != nil:
			s.lost = true
		case size > 0:
			s.have, s.left = 0, f.length
		}
	}
}
