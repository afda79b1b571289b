package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/authsome/authsome"
)

// maxMessage bounds a text message that is looked at, in bytes with the headers
// of its frames. It is held until it is whole. A longer one ends the stream:
// passing it on without a look would leave it to chance whether the service gets
// a credential or a placeholder.
const maxMessage = 1 << 20

// messages is what the child sends on a WebSocket, with our placeholder in its
// text messages replaced. Control frames and binary messages pass as they come,
// byte for byte; so do text messages without a placeholder, but whole. Nothing
// else than valid frames gets through.
type messages struct {
	connection string // that a placeholder may name
	at         []string
	value      []byte // as the inside of a JSON string

	header [maxFrameHeader]byte
	have   int
	frame  frame
	left   int64  // of the frame's payload; only with inside
	inside bool   // between the end of a header and the end of its payload
	under  byte   // the opcode of the message that has begun; 0 for none
	held   []byte // the frames of a text message
	// room asks for memory for what is held, and is told with less than 0 what is not
	// held any more; nil is never short of it.
	room     func(n int) bool
	reserved int
	over     bool // after the Close frame, nothing counts any more
}

func newMessages(res *authsome.Resolution) *messages {
	m := &messages{connection: res.Connection, value: jsonEscaped(res.Message.Value)}
	if res.Message.At != "" {
		m.at = strings.Split(res.Message.At, ".")
	}
	return m
}

// jsonEscaped is a secret as it stands between the quotes of a JSON string. What
// JSON leaves as it is stays so, since not every protocol in text is JSON.
func jsonEscaped(s authsome.Secret) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s.Reveal()) // a string, to memory: cannot fail
	return bytes.TrimSuffix(bytes.TrimPrefix(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte(`"`)), []byte(`"`))
}

// feed takes the next bytes of the child and appends to out what goes to the
// service. How the bytes are split makes no difference. After a refusal it must
// not be called again.
func (m *messages) feed(out, p []byte) ([]byte, *refusal) {
	for len(p) > 0 && !m.over {
		if !m.inside {
			m.header[m.have] = p[0]
			m.have++
			p = p[1:]
			f, size, no := frameHeader(m.header[:m.have])
			if no != nil {
				return out, no
			}
			if size == 0 {
				continue
			}
			if no := f.wrong(m.under); no != nil {
				return out, no
			}
			if !f.control() && f.opcode != opContinuation {
				m.under = f.opcode
			}
			m.frame, m.left, m.inside, m.have = f, f.length, true, 0
			if !m.holding() {
				out = append(out, m.header[:size]...)
			} else if f.length > int64(maxMessage-len(m.held)-size) {
				return out, tooLong
			} else if !m.reserve(int(f.length) + size) {
				return out, noRoom
			} else {
				m.held = append(m.held, m.header[:size]...)
			}
		}
		n := min(m.left, int64(len(p)))
		if m.holding() {
			m.held = append(m.held, p[:n]...)
		} else {
			out = append(out, p[:n]...)
		}
		p = p[n:]
		if m.left -= n; m.left > 0 {
			continue
		}
		m.inside = false
		switch {
		case m.frame.opcode == opClose:
			m.over = true
		case m.frame.control() || !m.frame.fin:
		case m.under == opText:
			var no *refusal
			if out, no = m.whole(out); no != nil {
				return out, no
			}
			m.under, m.held = 0, m.held[:0]
			m.free()
			if cap(m.held) > bigBuffer {
				m.held = nil
			}
		default:
			m.under = 0
		}
	}
	return out, nil
}

func (m *messages) reserve(n int) bool {
	if m.room != nil {
		if !m.room(n) {
			return false
		}
		m.reserved += n
	}
	return true
}

func (m *messages) free() {
	if m.reserved > 0 {
		m.room(-m.reserved)
		m.reserved = 0
	}
}

// longestPlaceholder is more than a placeholder with a connection's name has.
const longestPlaceholder = len(authsome.Placeholder) + 256

var noRoom = &refusal{statusTryLater, "what is kept of messages is as much as may be; try again later"}

var tooLong = &refusal{statusTooBig, fmt.Sprintf("a text message may have %d MiB here", maxMessage>>20)}

// holding reports whether the frame under way is a part of a text message.
func (m *messages) holding() bool { return m.under == opText && !m.frame.control() }

// whole appends the text message that is held.
func (m *messages) whole(out []byte) ([]byte, *refusal) {
	text := make([]byte, 0, len(m.held))
	var key [4]byte
	for rest := m.held; len(rest) > 0; {
		f, size, _ := frameHeader(rest) // it was valid before
		if len(text) == 0 {
			key = f.key
		}
		end := size + int(f.length)
		text = appendMasked(text, f.key, rest[size:end])
		rest = rest[end:]
	}
	if !bytes.Contains(text, []byte(authsome.Placeholder)) {
		return append(out, m.held...), nil
	}
	changed, no := m.replaced(text)
	switch {
	case no != nil:
		return out, no
	case changed == nil:
		return append(out, m.held...), nil
	}
	// The child's key serves again: it hides nothing from those who know it, and
	// no page of a browser chooses what is written here (section 10.3).
	return appendFrame(out, opText, &key, changed), nil
}

// replaced is the text with the value in it; nil when the placeholder is not
// where it would be replaced.
func (m *messages) replaced(text []byte) ([]byte, *refusal) {
	places := [][2]int{{0, len(text)}}
	if m.at != nil {
		places = jsonStrings(text, m.at)
	}
	var out []byte
	done := 0
	for _, p := range places {
		for i := p[0]; ; {
			k := bytes.Index(text[i:p[1]], []byte(authsome.Placeholder))
			if k < 0 {
				break
			}
			i += k
			name, _ := authsome.FindPlaceholder(string(text[i:min(i+longestPlaceholder, p[1])]))
			if name != "" && name != m.connection {
				return nil, &refusal{statusPolicy, "the placeholder names another connection than this stream has"}
			}
			out = append(append(out, text[done:i]...), m.value...)
			if i += len(authsome.Placeholder); name != "" {
				i += 1 + len(name)
			}
			if done = i; len(out) > maxMessage {
				return nil, tooLong
			}
		}
	}
	if done == 0 {
		return nil, nil
	}
	if out = append(out, text[done:]...); len(out) > maxMessage {
		return nil, tooLong
	}
	return out, nil
}

// jsonStrings finds the strings at a path of a JSON text: where each starts and
// ends inside its quotes. There is none in what is not JSON to its end.
func jsonStrings(text []byte, path []string) (found [][2]int) {
	type level struct {
		object, key bool // key: an object's key comes next
		matches     bool // the levels above lead along the path
		at          bool // and the member under way is the next step
	}
	var stack []level
	dec := json.NewDecoder(bytes.NewReader(text))
	for {
		start := int(dec.InputOffset())
		token, err := dec.Token()
		if err != nil {
			if len(stack) > 0 || start < len(bytes.TrimRight(text, " \t\r\n")) {
				return nil
			}
			return found
		}
		var top *level
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '}' || t == ']' {
				stack = stack[:len(stack)-1]
				break
			}
			matches := top == nil || top.object && top.matches && top.at
			stack = append(stack, level{object: t == '{', key: t == '{', matches: matches && len(stack) < len(path)})
			continue
		case string:
			if top != nil && top.object && top.key {
				top.key, top.at = false, top.matches && t == path[len(stack)-1]
				continue
			}
			if top != nil && top.object && top.at && len(stack) == len(path) {
				for text[start] != '"' { // after the colon, and space
					start++
				}
				found = append(found, [2]int{start + 1, int(dec.InputOffset()) - 1})
			}
		}
		if len(stack) > 0 && stack[len(stack)-1].object {
			stack[len(stack)-1].key = true
		}
	}
}
