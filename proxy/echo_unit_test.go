package proxy

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/scrub"
)

// pieces gives a text in pieces of the sizes that sizes says.
type pieces struct {
	text, sizes []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	n := len(p.text)
	if len(p.sizes) > 0 {
		n, p.sizes = min(int(p.sizes[0])+1, n), p.sizes[1:]
	}
	n = copy(b, p.text[:n])
	p.text = p.text[n:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }
func (p *pieces) Close() error                { return nil }

const spokenKey = "sk-0123456789abcdefghij"

func spokenText(t *testing.T, in, sizes []byte) string {
	t.Helper()
	s := scrub.New([]authsome.Secret{authsome.NewSecret(spokenKey)})
	out, err := io.ReadAll(&spoken{ReadWriteCloser: &pieces{bytes.Clone(in), sizes}, st: s.NewStream()})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func part1(fin bool, opcode byte, payload string) string {
	b := appendFrame(nil, opcode, nil, []byte(payload))
	if !fin {
		b[0] &^= 0x80
	}
	return string(b)
}

func TestSpoken(t *testing.T) {
	stars := strings.Repeat("*", len(spokenKey))
	for name, c := range map[string]struct{ in, want string }{
		"one frame": {part1(true, opText, "a "+spokenKey+" b"), part1(true, opText, "a "+stars+" b")},
		"two frames and a ping between": {
			part1(false, opText, "a "+spokenKey[:9]) + part1(true, opPing, "?") + part1(true, opContinuation, spokenKey[9:]+" b"),
			part1(false, opText, "a "+stars[:9]) + part1(true, opPing, "?") + part1(true, opContinuation, stars[9:]+" b"),
		},
		"an empty last frame": {
			part1(false, opText, spokenKey) + part1(true, opContinuation, "") + part1(true, opText, "x"),
			part1(false, opText, stars) + part1(true, opContinuation, "") + part1(true, opText, "x"),
		},
		"binary":                  {part1(true, opBinary, spokenKey), part1(true, opBinary, spokenKey)},
		"two messages, half each": {part1(true, opText, spokenKey[:9]) + part1(true, opText, spokenKey[9:]), part1(true, opText, spokenKey[:9]) + part1(true, opText, spokenKey[9:])},
		"long":                    {part1(true, opText, strings.Repeat("x", 70000)+spokenKey), part1(true, opText, strings.Repeat("x", 70000)+stars)},
		"no frames":               {"\x81\x7e\x00\x01" + spokenKey, "\x81\x7e\x00\x01" + spokenKey},
		"cut short":               {part1(true, opText, spokenKey)[:20], part1(true, opText, spokenKey)[:20]},
		"close with a reason":     {part1(true, opClose, "\x03\xe8bye"), part1(true, opClose, "\x03\xe8bye")},
		"close with the key":      {part1(true, opClose, "\x03\xe8no "+spokenKey), part1(true, opClose, "\x03\xe8no "+stars)},
		"close in a message": {
			part1(false, opText, spokenKey[:5]) + part1(true, opClose, "\x03\xe8no "+spokenKey), part1(false, opText, spokenKey[:5]) + part1(true, opClose, "\x03\xe8no "+stars),
		},
		"many pings in a message":  {part1(false, opText, spokenKey[:5]) + strings.Repeat(part1(true, opPing, "0123456789"), 8000), part1(false, opText, spokenKey[:5]) + strings.Repeat(part1(true, opPing, "0123456789"), 8000)},
		"a message without an end": {part1(false, opText, "a") + part1(true, opText, spokenKey), part1(false, opText, "a") + part1(true, opText, stars)},
	} {
		if got := spokenText(t, []byte(c.in), nil); got != c.want {
			t.Errorf("%s: %.200q, want %.200q", name, got, c.want)
		}
	}
}

// FuzzSpoken: how the bytes are split makes no difference, and their number stays.
func FuzzSpoken(f *testing.F) {
	f.Add([]byte(part1(false, opText, "a"+spokenKey[:7])+part1(true, opPong, "")+part1(true, opContinuation, spokenKey[7:])), []byte{0, 3, 9, 1})
	f.Add([]byte(part1(true, opText, spokenKey)+part1(true, opBinary, spokenKey)+"\x8f\xff"), []byte{1, 1, 1})
	f.Add([]byte(part1(false, opText, spokenKey[:7])+part1(true, opClose, "\x03\xe8"+spokenKey)+part1(true, opContinuation, spokenKey[7:])), []byte{7, 1})
	f.Fuzz(func(t *testing.T, in, sizes []byte) {
		whole := spokenText(t, in, nil)
		if split := spokenText(t, in, sizes); split != whole {
			t.Fatalf("split: %q, whole: %q", split, whole)
		}
		if len(whole) != len(in) {
			t.Fatalf("%d bytes became %d", len(in), len(whole))
		}
		for i := range in {
			if whole[i] != in[i] && whole[i] != '*' {
				t.Fatalf("byte %d changed from %q to %q", i, in[i], whole[i])
			}
		}
	})
}
