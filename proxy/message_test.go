package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// A token with what JSON escapes, and what it does not.
const (
	socketToken   = `s3cr"et\<&>é` + "\x01"
	socketEscaped = `s3cr\"et\\<&>é\u0001`
)

func testMessages(at string) *messages {
	return newMessages(&authsome.Resolution{Connection: "work", Message: &authsome.Message{At: at, Value: authsome.NewSecret(socketToken)}})
}

// sent is a frame of a client. bits are byte 0.
func sent(bits byte, payload string) []byte {
	return appendFrame(nil, bits&0x0f, &[4]byte{bits, 0xa5, byte(len(payload)), 0x0f}, []byte(payload))
}

// parts is a message in several frames.
func parts(opcode byte, payloads ...string) [][]byte {
	var out [][]byte
	for i, p := range payloads {
		f := sent(opcode, p)
		if opcode = opContinuation; i < len(payloads)-1 {
			f[0] &^= 0x80
		}
		out = append(out, f)
	}
	return out
}

// read takes valid frames of a client apart: "text:…", "binary:…", "ping:…" and
// so on, messages put together.
func read(t *testing.T, b []byte) (got []string) {
	t.Helper()
	names := map[byte]string{opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"}
	var under byte
	var message string
	for len(b) > 0 {
		f, size, no := frameHeader(b)
		if size == 0 || no != nil || f.wrong(under) != nil || int64(len(b)-size) < f.length {
			t.Fatalf("no whole frame is at %x: %v", b[:min(len(b), 16)], no)
		}
		payload := string(appendMasked(nil, f.key, b[size:size+int(f.length)]))
		b = b[size+int(f.length):]
		switch {
		case f.control():
			got = append(got, names[f.opcode]+":"+payload)
			continue
		case f.opcode != opContinuation:
			under, message = f.opcode, ""
		}
		if message += payload; f.fin {
			got = append(got, names[under]+":"+message)
			under = 0
		}
	}
	return got
}

func TestMessages(t *testing.T) {
	t.Parallel()
	ours := authsome.Placeholder
	for name, tt := range map[string]struct {
		at   string
		in   [][]byte
		want []string // nil: unchanged, byte for byte
		code uint16
	}{
		"nothing of ours":         {in: parts(opText, `{"op":1,"d":null}`)},
		"nothing, in parts":       {in: parts(opText, `{"op":`, ``, `1}`)},
		"empty":                   {in: parts(opText, "")},
		"binary":                  {in: append(parts(opBinary, "x"+ours), parts(opBinary, ours[:5], ours[5:])...)},
		"anywhere":                {in: parts(opText, `{"token":"`+ours+`","again":"Bot `+ours+`"}`), want: []string{`text:{"token":"` + socketEscaped + `","again":"Bot ` + socketEscaped + `"}`}},
		"no JSON":                 {in: parts(opText, "AUTH "+ours+"\n"), want: []string{"text:AUTH " + socketEscaped + "\n"}},
		"named":                   {in: parts(opText, `["`+ours+`.work"]`), want: []string{`text:["` + socketEscaped + `"]`}},
		"named by a sentence":     {in: parts(opText, ours+". And"), want: []string{"text:" + socketEscaped + ". And"}},
		"another name":            {in: append(parts(opText, "before"), parts(opText, `["`+ours+`.home"]`)...), want: []string{"text:before"}, code: statusPolicy},
		"in parts":                {in: parts(opText, `{"a":"`+ours[:4], ours[4:9], "", ours[9:]+`"}`), want: []string{`text:{"a":"` + socketEscaped + `"}`}},
		"pings between parts":     {in: slices.Insert(parts(opText, ours[:4], ours[4:]), 1, sent(opPing, ours), sent(opPong, "")), want: []string{"ping:" + ours, "pong:", "text:" + socketEscaped}},
		"a field":                 {at: "d.token", in: parts(opText, `{"op":2, "d" : {"x":["`+ours+`"],"token" : "`+ours+`"}}`), want: []string{`text:{"op":2, "d" : {"x":["` + ours + `"],"token" : "` + socketEscaped + `"}}`}},
		"a part of a field":       {at: "d.token", in: parts(opText, `{"d":{"token":"Bot `+ours+`"}}`), want: []string{`text:{"d":{"token":"Bot ` + socketEscaped + `"}}`}},
		"a field twice":           {at: "t", in: parts(opText, `{"t":"`+ours+`","t":"`+ours+`"}`), want: []string{`text:{"t":"` + socketEscaped + `","t":"` + socketEscaped + `"}`}},
		"an escaped key":          {at: "d.token", in: parts(opText, `{"\u0064":{"token":"`+ours+`"}}`), want: []string{`text:{"\u0064":{"token":"` + socketEscaped + `"}}`}},
		"another field":           {at: "d.token", in: parts(opText, `{"d":{"text":"`+ours+`","token":{"token":"`+ours+`"}},"token":"`+ours+`"}`)},
		"a list of fields":        {at: "d.token", in: parts(opText, `{"d":[{"token":"`+ours+`"}]}`)},
		"a list at the top":       {at: "token", in: parts(opText, `[{"token":"`+ours+`"}]`)},
		"a key of ours":           {at: "d", in: parts(opText, `{"`+ours+`":"x"}`)},
		"a field of no JSON":      {at: "t", in: parts(opText, `{"t":"`+ours+`"`)},
		"a field, then no JSON":   {at: "t", in: parts(opText, `{"t":"`+ours+`"} "`+ours)},
		"two texts":               {at: "t", in: parts(opText, `{"t":"`+ours+`"} {"t":"`+ours+`"}`), want: []string{`text:{"t":"` + socketEscaped + `"} {"t":"` + socketEscaped + `"}`}},
		"another name, elsewhere": {at: "t", in: parts(opText, `{"u":"`+ours+`.home"}`)},
		"a close":                 {in: [][]byte{sent(opClose, "\x03\xe8bye")}},
		"after a close":           {in: [][]byte{sent(opClose, "\x03\xe8"), sent(opText, ours), {0xff, 0xff}}, want: []string{"close:\x03\xe8"}},
		"a close inside a text":   {in: slices.Insert(parts(opText, ours, ours), 1, sent(opClose, "")), want: []string{"close:"}},
		"as long as can be":       {in: parts(opText, strings.Repeat("x", maxMessage-maxFrameHeader))},
		"too long":                {in: append(parts(opText, "before"), parts(opText, strings.Repeat("x", maxMessage))...), want: []string{"text:before"}, code: statusTooBig},
		"too long in parts":       {in: parts(opText, strings.Repeat("x", maxMessage/2), strings.Repeat("x", maxMessage/2)), want: []string{}, code: statusTooBig},
		"many empty parts":        {in: parts(opText, make([]string, maxMessage/6+1)...), want: []string{}, code: statusTooBig},
		"a long binary":           {in: parts(opBinary, strings.Repeat("x", 3*maxMessage), ours)},
		"no mask":                 {in: [][]byte{appendFrame(nil, opText, nil, []byte(ours))}, want: []string{}, code: statusProtocol},
		"a reserved bit":          {in: [][]byte{sent(opPing, "x"), {0xc1, 0x80, 0, 0, 0, 0}}, want: []string{"ping:x"}, code: statusProtocol},
		"an unknown opcode":       {in: [][]byte{{0x83, 0x80, 0, 0, 0, 0}}, want: []string{}, code: statusProtocol},
		"an unknown control":      {in: [][]byte{{0x8b, 0x80, 0, 0, 0, 0}}, want: []string{}, code: statusProtocol},
		"a ping in parts":         {in: [][]byte{{0x09, 0x80, 0, 0, 0, 0}}, want: []string{}, code: statusProtocol},
		"a long ping":             {in: [][]byte{sent(opPing, strings.Repeat("x", 126))}, want: []string{}, code: statusProtocol},
		"no beginning":            {in: [][]byte{sent(opContinuation, "x")}, want: []string{}, code: statusProtocol},
		"a text in a text":        {in: append(parts(opText, "x", "y")[:1], sent(opText, "z")), want: []string{}, code: statusProtocol},
		"a wasteful length":       {in: [][]byte{{0x81, 0xfe, 0, 125}}, want: []string{}, code: statusProtocol},
		"a more wasteful one":     {in: [][]byte{{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}}, want: []string{}, code: statusProtocol},
		"a negative length":       {in: [][]byte{{0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0}}, want: []string{}, code: statusProtocol},
		"an endless text":         {in: [][]byte{{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}}, want: []string{}, code: statusTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := bytes.Join(tt.in, nil)
			got, no := testMessages(tt.at).feed(nil, in)
			code := uint16(0)
			if no != nil {
				code = no.code
				if b := no.closeFrame(); len(b) > 2+maxControl || binary.BigEndian.Uint16(b[2:]) != code || int(b[1]) != len(b)-2 {
					t.Errorf("the close frame is %x", b)
				}
			}
			if code != tt.code {
				t.Errorf("refused with %d, want %d", code, tt.code)
			}
			if tt.want == nil {
				if !bytes.Equal(got, in) {
					t.Errorf("%d bytes became %d", len(in), len(got))
				}
				return
			}
			if list := read(t, got); !slices.Equal(list, tt.want) {
				t.Errorf("got %.300q\nwant %.300q", list, tt.want)
			}
		})
	}
}

// TestMessageWithManyPlaceholders: what a small message would become is bounded
// as well.
func TestMessageWithManyPlaceholders(t *testing.T) {
	t.Parallel()
	m := newMessages(&authsome.Resolution{Message: &authsome.Message{Value: authsome.NewSecret(strings.Repeat("k", 4<<10))}})
	got, no := m.feed(nil, sent(opText, strings.Repeat(authsome.Placeholder+" ", 300)))
	if no == nil || no.code != statusTooBig || len(got) != 0 {
		t.Errorf("%d bytes, %v", len(got), no)
	}
}

// TestMessagesKeepNoMemory that a long message once took.
func TestMessagesKeepNoMemory(t *testing.T) {
	t.Parallel()
	m := testMessages("")
	if _, no := m.feed(nil, sent(opText, strings.Repeat("x", 500<<10))); no != nil {
		t.Fatal(no)
	}
	if cap(m.held) > bigBuffer {
		t.Errorf("%d bytes are kept", cap(m.held))
	}
}

func TestJSONEscaped(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain", socketToken, "\u2028", "日本", `\`, `"`, "</script>"} {
		var back string
		if err := json.Unmarshal([]byte(`"`+string(jsonEscaped(authsome.NewSecret(s)))+`"`), &back); err != nil || back != s {
			t.Errorf("%q came back as %q, %v", s, back, err)
		}
	}
}

// TestBoundaries: the end of a frame is found however the bytes come, and not
// beyond it when asked to stop.
func TestBoundaries(t *testing.T) {
	t.Parallel()
	frames := [][]byte{
		appendFrame(nil, opText, nil, []byte("hello")), appendFrame(nil, opPing, nil, nil),
		appendFrame(nil, opBinary, nil, make([]byte, 300)), sent(opText, "masked"), appendFrame(nil, opBinary, nil, make([]byte, 70<<10)),
	}
	all := bytes.Join(frames, nil)
	for _, step := range []int{1, 2, 3, 7, 100, len(all)} {
		var s boundaries
		var ends []int
		for at := 0; at < len(all); {
			n := s.skip(all[at:min(at+step, len(all))], true)
			if at += n; s.between() {
				ends = append(ends, at)
			}
		}
		want, at := []int{}, 0
		for _, f := range frames {
			at += len(f)
			want = append(want, at)
		}
		if !slices.Equal(ends, want) {
			t.Errorf("in steps of %d: ends at %v, want %v", step, ends, want)
		}
	}
	var s boundaries
	if n := s.skip(all, false); n != len(all) || !s.between() {
		t.Errorf("followed %d of %d bytes", n, len(all))
	}
	s.skip([]byte{0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2}, false)
	if s.between() || s.skip(all, true) != len(all) && s.between() {
		t.Error("an end was found in what is no frame")
	}
}
