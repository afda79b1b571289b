package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/authsome/authsome"
)

// FuzzFrames: whatever a child sends, and however it is split, the service gets
// what a reader of RFC 6455 that shares nothing with ours expects: the same frames,
// but for text messages with a placeholder, where the credential stands in its
// place and nothing else has changed. A WebSocket library reads the same from it.
func FuzzFrames(f *testing.F) {
	ours := authsome.Placeholder
	for i, seed := range [][]byte{
		sent(opText, `{"d":{"token":"`+ours+`"}}`),
		bytes.Join(append(parts(opText, ours[:7], ours[7:]+".work", "x"), sent(opPing, "p")), nil),
		bytes.Join(slices.Insert(parts(opText, `{"d":{"token":"`+ours[:3], ours[3:]+`"}}`), 1, sent(opPing, ours), sent(opPong, "")), nil),
		sent(opBinary, ours), sent(opClose, "\x03\xe8"), bytes.Join([][]byte{sent(opClose, ""), sent(opText, ours)}, nil),
		{0x81, 0xfe, 0, 200, 1, 2, 3, 4}, // cut off
		{0x01, 0x80, 0, 0, 0, 0, 0x80, 0x80, 0, 0, 0, 0},
		{0x81, 0xfe, 0, 125},                       // not the shortest length
		{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, // nor this
		{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1},    // negative
		{0x81, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0},    // too long, before its key has come
		{0x81, 0x05, 'h', 'e', 'l', 'l', 'o'},      // not masked
		{0xc1, 0x80, 0, 0, 0, 0},                   // compressed
		{0x09, 0x80, 0, 0, 0, 0},
		{0x89, 0xfe, 0, 0x7e}, // a ping in parts, a long ping
		bytes.Join([][]byte{parts(opText, "a", "b")[0], sent(opText, "c")}, nil),
		bytes.Join([][]byte{sent(opText, ours+".home"), sent(opText, "x")}, nil),
		bytes.Join([][]byte{sent(opBinary, strings.Repeat("x", 200)), sent(opText, ours+". And"), sent(opText, ours+"..")}, nil),
		sent(opText, `{"d":{"text":"`+ours+`","token":"`+ours+`"}} {"d":{"token":"`+ours+`.work"}}`),
	} {
		f.Add(seed, uint64(i*0x9e3779b9), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, in []byte, split uint64, field bool) {
		at := ""
		if field {
			at = "d.token"
		}
		whole, no := testMessages(at).feed(nil, in)
		var pieces []byte
		var noPieces *refusal
		m := testMessages(at)
		for rest := in; len(rest) > 0 && noPieces == nil; {
			n := min(1+int(split&7)*int(split>>3&7), len(rest))
			split = split>>6 | split<<58
			pieces, noPieces = m.feed(pieces, rest[:n])
			rest = rest[n:]
		}
		if !bytes.Equal(whole, pieces) || fmt.Sprint(no) != fmt.Sprint(noPieces) {
			t.Fatalf("whole: %x %v\nsplit: %x %v", whole, no, pieces, noPieces)
		}
		want := expected(in, field)
		if code := codeOf(no); code != want.code {
			t.Fatalf("refused with %d, by RFC 6455 with %d", code, want.code)
		}
		rest := whole
		var messages []string
		for _, w := range want.frames {
			n := len(w.raw)
			if w.text != nil {
				got, size := textFrame(rest, field)
				if n = size; size == 0 || !replacedIn(t, string(w.text), got, field) {
					t.Fatalf("%q became %q, at %x", w.text, got, rest)
				}
				messages = append(messages, "text:"+got)
			} else if !bytes.HasPrefix(rest, w.raw) {
				t.Fatalf("the frame %x became %x", w.raw, rest)
			}
			rest = rest[n:]
			messages = append(messages, w.message...)
		}
		if !bytes.Equal(rest, want.begun) {
			t.Fatalf("behind the frames there is %x, want %x", rest, want.begun)
		}
		if heard := heard(t, whole); !slices.Equal(heard, messages) {
			t.Fatalf("a service hears %q, want %q", heard, messages)
		}
	})
}

// stream6455 is what a service has to get of what a child sent.
type stream6455 struct {
	frames []frame6455
	begun  []byte // of a frame that has not ended, as it came
	code   uint16 // by which the stream ends
}

// frame6455 is a frame, or the frames of a text message: raw as they came, or with
// a placeholder to be replaced in text.
type frame6455 struct {
	raw, text []byte
	message   []string // that ends with it, as heard gives it; none with text
}

// expected reads RFC 6455, section 5, with the rules of docs/proxy.md.
func expected(in []byte, field bool) (s stream6455) {
	var message, raw []byte // of the data message that has begun
	kind := byte(0)
	for pos := 0; pos < len(in); {
		rest := in[pos:]
		header, length := 2, 0
		if len(rest) < 2 {
			return s
		}
		fin, opcode, masked := rest[0]>>7 == 1, rest[0]&15, rest[1]>>7 == 1
		if n := rest[1] & 127; n < 126 {
			length = int(n)
		} else {
			if header = 4; n == 127 {
				header = 10
			}
			if len(rest) < header {
				return s
			}
			for _, b := range rest[2:header] {
				if length > 1<<53 { // would overflow: negative, or longer than any machine has
					break
				}
				length = length<<8 | int(b)
			}
			if rest[2] > 127 && n == 127 || length < 126 || n == 127 && length < 1<<16 {
				s.code = 1002
				return s
			}
		}
		if masked {
			if header += 4; len(rest) < header {
				return s
			}
		}
		control := opcode > 7
		begins := opcode == 1 || opcode == 2
		if rest[0]&0x70 != 0 || !masked || opcode > 10 || opcode > 2 && opcode < 8 || control && (!fin || length > 125) ||
			!control && begins == (kind != 0) {
			s.code = 1002
			return s
		}
		if begins {
			kind = opcode
		}
		held := !control && kind == 1
		if held && length > 1<<20-len(raw)-header {
			s.code = 1009
			return s
		}
		if len(rest)-header < length {
			if !held {
				s.begun = rest
			}
			return s
		}
		payload := make([]byte, length)
		for i := range payload {
			payload[i] = rest[header+i] ^ rest[header-4+i%4]
		}
		whole := rest[:header+length]
		pos += len(whole)
		if control {
			if s.frames = append(s.frames, frame6455{raw: whole}); opcode == 8 {
				return s // what comes behind the Close frame counts for nothing
			}
			continue
		}
		message, raw = append(message, payload...), append(raw, whole...)
		f := frame6455{raw: whole}
		if held {
			f.raw = raw
		}
		if fin {
			if kind == 1 && placeholders.Match(message) && replaceable(message, field) {
				for _, m := range placeholders.FindAllSubmatch(message, -1) {
					if len(m[1]) > 0 && string(m[1]) != ".work" && !field {
						s.code = 1008
						return s
					}
				}
				if field && wrongName(message) {
					s.code = 1008
					return s
				}
				f.raw, f.text = nil, message
			} else {
				f.message = []string{map[byte]string{1: "text:", 2: "binary:"}[kind] + string(message)}
			}
			message, raw, kind = nil, nil, 0
		} else if held {
			continue
		}
		s.frames = append(s.frames, f)
	}
	return s
}

// A placeholder, and the name after its dot.
var placeholders = regexp.MustCompile(regexp.QuoteMeta(authsome.Placeholder) + `(\.[A-Za-z0-9._@-]+)?`)

// replaceable reports whether a placeholder stands where it would be replaced. With
// a field, our own finder of strings says so: what it finds is held to JSON by
// replacedIn and TestMessages.
func replaceable(message []byte, field bool) bool {
	return !field || slices.ContainsFunc(jsonStrings(message, []string{"d", "token"}), func(p [2]int) bool { return placeholders.Match(message[p[0]:p[1]]) })
}

// wrongName reports whether a placeholder in the field names another connection.
func wrongName(message []byte) bool {
	for _, p := range jsonStrings(message, []string{"d", "token"}) {
		for _, m := range placeholders.FindAllSubmatch(message[p[0]:p[1]], -1) {
			if len(m[1]) > 0 && string(m[1]) != ".work" {
				return true
			}
		}
	}
	return false
}

// replacedIn reports whether after is before with the credential in the place of
// placeholders, of all of them where no field is named, and else of those in it,
// and no other byte changed.
func replacedIn(t *testing.T, before, after string, field bool) bool {
	t.Helper()
	some, rest := false, after
	last := 0
	for _, at := range placeholders.FindAllStringIndex(before, -1) {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, before[last:at[0]]); !ok {
			return false
		}
		if cut, ok := strings.CutPrefix(rest, socketEscaped); ok {
			some, rest = true, cut
		} else if rest, ok = strings.CutPrefix(rest, before[at[0]:at[1]]); !ok || !field {
			return false
		}
		last = at[1]
	}
	if rest != before[last:] || !some {
		return false
	}
	// By encoding/json, which sees no places: the one field, and no other.
	var was, is map[string]any
	if !field || strings.Contains(before, `\`) || strings.Count(before, `"token"`) != 1 || strings.Count(before, `"d"`) != 1 || json.Unmarshal([]byte(before), &was) != nil {
		return true
	}
	d, _ := was["d"].(map[string]any)
	if token, ok := d["token"].(string); ok {
		d["token"] = placeholders.ReplaceAllLiteralString(token, socketToken)
	}
	return json.Unmarshal([]byte(after), &is) == nil && reflect.DeepEqual(was, is)
}

// textFrame reads a whole text message in one masked frame.
func textFrame(b []byte, field bool) (text string, size int) {
	if len(b) < 6 || b[0] != 0x81 || b[1] < 0x80 {
		return "", 0
	}
	s := expected(b, field)
	if len(s.frames) == 0 {
		return "", 0
	}
	if f := s.frames[0]; f.text != nil {
		return string(f.text), 0 // a placeholder is left where it had to go
	} else if len(f.message) == 1 {
		text, _ = strings.CutPrefix(f.message[0], "text:")
		return text, len(f.raw)
	}
	return "", 0
}

// heard is what github.com/coder/websocket, as the service, reads of what left:
// its messages, up to a Close frame or the first one that is not whole.
func heard(t *testing.T, b []byte) (messages []string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://service.example/", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	c, err := websocket.Accept(&hijacked{ResponseRecorder: httptest.NewRecorder(), in: bytes.NewReader(b)}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	for {
		kind, message, err := c.Read(t.Context())
		if err != nil {
			return messages
		}
		messages = append(messages, map[websocket.MessageType]string{websocket.MessageText: "text:", websocket.MessageBinary: "binary:"}[kind]+string(message))
	}
}

// hijacked is a connection on which everything has been said already.
type hijacked struct {
	*httptest.ResponseRecorder
	net.Conn
	in io.Reader
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h, bufio.NewReadWriter(bufio.NewReader(h), bufio.NewWriter(h)), nil
}

// Read ends with an error, since the library takes the end of a connection in the
// middle of a frame for that of the message.
func (h *hijacked) Read(p []byte) (int, error) {
	n, err := h.in.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
func (h *hijacked) Write(p []byte) (int, error)      { return len(p), nil }
func (h *hijacked) Close() error                     { return nil }
func (h *hijacked) SetDeadline(time.Time) error      { return nil }
func (h *hijacked) SetReadDeadline(time.Time) error  { return nil }
func (h *hijacked) SetWriteDeadline(time.Time) error { return nil }

func codeOf(no *refusal) uint16 {
	if no == nil {
		return 0
	}
	return no.code
}
