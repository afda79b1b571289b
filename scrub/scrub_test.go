package scrub

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/authsome/authsome"
)

// TestPrefix has two values of which one begins with the other: nothing stays of
// the longer one, and it is the one that is reported.
func TestPrefix(t *testing.T) {
	short, long := token[:20], token
	for _, values := range [][]string{{short, long}, {long, short}} {
		s := New(secrets(values...))
		text := "a " + long + " b " + short + " c " + short + "x " + long[:30]
		want := "a " + stars48 + " b " + stars48[:20] + " c " + stars48[:20] + "x " + stars48[:20] + long[20:30]
		for _, parts := range [][]int{nil, ones(len(text)), {25}, {22, 3, 20}} {
			if got := inParts(s, text, parts); got != want {
				t.Errorf("in parts of %v: %s", parts, got)
			}
		}
		st := s.NewStream()
		st.Overwrite([]byte(text), true)
		hits := Hits{3, 1}
		if values[0] == long {
			hits = Hits{1, 3}
		}
		if !slices.Equal(st.Hits(), hits) {
			t.Errorf("hits %v, want %v", st.Hits(), hits)
		}
	}
}

func TestHits(t *testing.T) {
	s := New(secrets("Bearer "+token, "unused-value-1", token, awkward))
	text := token + awkward + token + "," + base64.StdEncoding.EncodeToString([]byte(token))
	for _, parts := range [][]int{nil, ones(len(text))} {
		st := s.NewStream()
		var buf []byte
		for i, n := range append(parts, -1) {
			if n < 0 {
				n = len(text) - i
			}
			buf = append(buf, text[i:i+n]...)
			buf = buf[st.Overwrite(buf, i+n == len(text)):]
		}
		// A value that is given twice is reported as the first.
		if got := st.Hits(); !slices.Equal(got, Hits{3, 0, 0, 1}) || got.Total() != 4 {
			t.Errorf("hits %v", got)
		}
	}
}

// TestNothingIsHeld lets leave at once what cannot begin a value.
func TestNothingIsHeld(t *testing.T) {
	st := New(secrets(token, awkward)).NewStream()
	for _, event := range []string{
		"data: {\"delta\":\"Hello\"}\n\n", ": ping\n\n", "event: done\ndata: [DONE]\n\n", "{}\n", "a", "sk.", "%gg", "p@rt", "&amp;",
	} {
		buf := []byte(event)
		if n := st.Overwrite(buf, false); n != len(buf) {
			t.Errorf("%q was held back from byte %d on", event, n)
		}
	}
}

// TestOnlyBeginningsAreHeld counts what is held back.
func TestOnlyBeginningsAreHeld(t *testing.T) {
	for _, tt := range []struct {
		text string
		held int
	}{
		{"data: s", 1},
		{"data: sk-proj-Z", 9},
		{"data: sk-proj-Zx", 0},
		{"sksksk", 2},
		{token + "s", 1},
		{token + "\n", 0},
		{"a%7", 2},
		{"a%70", 3},
		{`x\u00`, 4},
		{"&#11", 4},
		{"&#12", 0},
		{"p%40", 4},
		{"p%41", 0},
		{"p&comm", 6},
		{"p&comx", 0},
	} {
		st := New(secrets(token, awkward)).NewStream()
		if held := len(tt.text) - st.Overwrite([]byte(tt.text), false); held != tt.held {
			t.Errorf("of %q, %d bytes are held back, not %d", tt.text, held, tt.held)
		}
	}
}

// TestBig is a value of 64 KB, in every form, byte by byte and in parts, and one
// that repeats itself, where every byte may be its beginning.
func TestBig(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < 64<<10; i++ {
		fmt.Fprintf(&b, "%x/%d&", i*i*7919, i)
	}
	for name, value := range map[string]string{"varied": b.String()[:64<<10], "repeated": strings.Repeat("A", 64<<10), "period": strings.Repeat("0123456789abcdef", 4<<10)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(secrets(value))
			for form, encoded := range map[string]string{
				"plain": value, "base64": base64.StdEncoding.EncodeToString([]byte("x" + value)), "hex": fmt.Sprintf("%x", value), "url": urlEscape(value),
			} {
				text := "before " + encoded + value[:40<<10] + " behind"
				for reader, r := range map[string]io.Reader{
					"bytes": iotest.OneByteReader(strings.NewReader(text)), "halves": iotest.HalfReader(strings.NewReader(text)), "whole": strings.NewReader(text),
				} {
					if testing.Short() && reader == "bytes" && form != "plain" {
						continue
					}
					scrubbed := s.Reader(r)
					got, err := io.ReadAll(scrubbed)
					if err != nil || len(got) != len(text) {
						t.Fatalf("%s, %s: %d bytes of %d, %v", form, reader, len(got), len(text), err)
					}
					stars := bytes.Count(got, []byte("*"))
					// Of repeated values, places overlap.
					if stars < len(encoded)-4 || name == "varied" && stars > len(encoded) || scrubbed.Hits().Total() != 1 {
						t.Errorf("%s, %s: %d stars for %d bytes, %v", form, reader, stars, len(encoded), scrubbed.Hits())
					}
				}
			}
		})
	}
}

// TestManyInOneText: a text that is full of values costs no more the longer it is. A
// header may be so. When each value is compared with all others, or all of a name copied
// for each, this takes longer than tests may.
func TestManyInOneText(t *testing.T) {
	const value = "abcd1234"
	size := 8 << 20
	if testing.Short() {
		size = 1 << 20
	}
	text := strings.Repeat(value+" ", size/len(value+" "))
	name := strings.Repeat("ABcd1234-", size/len("ABcd1234-"))
	s := New(secrets(value))
	for what, scrubbed := range map[string]func() (string, Hits){
		"a value": func() (string, Hits) { return s.String(text) },
		"a name":  func() (string, Hits) { return s.Name(name) },
	} {
		got, hits := scrubbed()
		if len(got) != len(text) || strings.ContainsAny(got, "abcd1234ABCD") || hits.Total() != len(text)/9 {
			t.Errorf("%s: %d hits, %.50q", what, hits.Total(), got)
		}
	}
}

// TestBeginningThatRepeatsItself: of a value that goes on otherwise, too, what is known
// of the beginning is used wherever it repeats itself.
func TestBeginningThatRepeatsItself(t *testing.T) {
	value := strings.Repeat("a", 64<<10) + "1"
	s := New(secrets(value))
	for i := range s.forms {
		// In Base64 it repeats itself after four characters.
		if f := &s.forms[i]; f.periodic < len(f.text)-4 || f.period == 0 || f.period > 4 {
			t.Errorf("form %d: of %d bytes, %d repeat themselves after %d", i, len(f.text), f.periodic, f.period)
		}
	}
	text := strings.Repeat("a", 1<<20)
	for name, tt := range map[string]struct {
		text string
		hits int
	}{"alone": {text, 0}, "and the value": {text + "1" + text, 1}} {
		scrubbed := s.Reader(strings.NewReader(tt.text))
		got, err := io.ReadAll(scrubbed)
		if stars := bytes.Count(got, []byte("*")); err != nil || len(got) != len(tt.text) || stars != tt.hits*len(value) || scrubbed.Hits().Total() != tt.hits {
			t.Errorf("%s: %d stars, %v, %v", name, stars, scrubbed.Hits(), err)
		}
	}
}

// TestReader reads into buffers of every size from readers of every kind.
func TestReader(t *testing.T) {
	s := New(secrets(token, awkward))
	text := strings.Repeat(someText+token+"\n"+awkward, 20)
	want := whole(s, text)
	sources := map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "error with data": iotest.DataErrReader,
	}
	for name, source := range sources {
		for _, size := range []int{1, 7, 511, 513, 4096} {
			r := s.Reader(source(strings.NewReader(text)))
			var got []byte
			buf := make([]byte, size)
			for {
				n, err := r.Read(buf)
				got = append(got, buf[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if string(got) != want {
				t.Errorf("%s into %d bytes: %s", name, size, got)
			}
		}
	}
	if err := iotest.TestReader(s.Reader(strings.NewReader(text)), []byte(want)); err != nil {
		t.Error(err)
	}
}

// TestReaderPassesErrorsOn returns what came before an error first, and nothing of a
// value that has begun.
func TestReaderPassesErrorsOn(t *testing.T) {
	s := New(secrets(token))
	for _, size := range []int{1, 100, 4096} {
		r := s.Reader(io.MultiReader(strings.NewReader("a "+token+" "+token[:47]), iotest.ErrReader(io.ErrClosedPipe)))
		var got []byte
		buf := make([]byte, size)
		n, err := 0, error(nil)
		for err == nil {
			n, err = r.Read(buf)
			got = append(got, buf[:n]...)
		}
		if err != io.ErrClosedPipe || string(got) != "a "+stars48+" " {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestReaderDoesNotWait reads from a source that never ends.
func TestReaderDoesNotWait(t *testing.T) {
	s := New(secrets(token))
	in, out := io.Pipe()
	defer in.Close()
	r := s.Reader(in)
	buf := make([]byte, 1024)
	for _, tt := range []struct{ send, get string }{
		{"data: 1\n\n", "data: 1\n\n"}, {"data: " + token + "\n\n", "data: " + stars48 + "\n\n"}, {"data: sk-proj", "data: "}, {"\n\n", "sk-proj\n\n"},
	} {
		go func() { _, _ = io.WriteString(out, tt.send) }()
		n, err := r.Read(buf)
		if err != nil || string(buf[:n]) != tt.get {
			t.Fatalf("of %q came %q, %v", tt.send, buf[:n], err)
		}
	}
}

func TestStringAndHeader(t *testing.T) {
	s := New(secrets("Bearer "+token, awkward))
	h := http.Header{
		"X-Echo":     {"fine", "Bearer " + token, base64.StdEncoding.EncodeToString([]byte("a:" + token))},
		"Location":   {"https://example.com/?key=" + token + "&x=1"},
		"Etag":       {`"abc"`},
		"X-" + token: {"a name"},
	}
	shared := h["X-Echo"]
	hits := s.Header(h)
	if !slices.Equal(hits, Hits{4, 0}) {
		t.Errorf("hits %v", hits)
	}
	if h.Get("Location") != "https://example.com/?key="+stars48+"&x=1" || h["X-Echo"][1] != "Bearer "+stars48 || h["X-Echo"][0] != "fine" || h.Get("Etag") != `"abc"` {
		t.Errorf("%v", h)
	}
	if h["X-"+stars48][0] != "a name" || len(h) != 4 {
		t.Errorf("%v", h)
	}
	if shared[1] != "Bearer "+token {
		t.Error("a slice that others may hold was changed")
	}
	if got, hits := s.String("401 no " + token); got != "401 no "+stars48 || hits.Total() != 1 {
		t.Errorf("%s, %v", got, hits)
	}
	if got, hits := s.String(strings.Repeat("long ", 500) + awkward); !strings.HasSuffix(got, "long "+stars48[:len(awkward)]) || hits[1] != 1 {
		t.Errorf("%s, %v", got, hits)
	}
}

func TestNothingToLookFor(t *testing.T) {
	for name, s := range map[string]*Scrubber{"nil": nil, "none": New(nil), "weak": New(secrets("a", ""))} {
		buf := []byte(token)
		if !s.Empty() || s.NewStream().Overwrite(buf, false) != len(buf) || string(buf) != token {
			t.Errorf("%s: %s", name, buf)
		}
		h := http.Header{"Accept-Encoding": {"br, x"}, "A": {token}}
		s.Ask(h)
		if hits := s.Header(h); hits != nil || h.Get("Accept-Encoding") != "br, x" || h.Get("A") != token {
			t.Errorf("%s: %v", name, h)
		}
		if got, _ := s.String(token); got != token {
			t.Errorf("%s: %s", name, got)
		}
		got, err := io.ReadAll(s.Reader(strings.NewReader(token)))
		if err != nil || string(got) != token {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if weak := New(secrets("a", token, "password")).Weak(); !slices.Equal(weak, []int{0, 2}) {
		t.Errorf("weak: %v", weak)
	}
}

// TestPrintsNothing keeps values out of logs.
func TestPrintsNothing(t *testing.T) {
	s := New(secrets(token))
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "s", s)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&b, format, s)
	}
	if strings.Contains(b.String(), "proj") || strings.Contains(b.String(), fmt.Sprintf("%x", "proj")) {
		t.Error(b.String())
	}
}

func TestManyGoroutines(t *testing.T) {
	s := New(secrets(token, awkward))
	text := strings.Repeat(someText+token, 50)
	want := whole(s, text)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if got := inParts(s, text, []int{i, 100 * i, 7}); got != want {
				t.Errorf("goroutine %d: %s", i, got)
			}
		})
	}
	wg.Wait()
}

func TestAllocatesNothing(t *testing.T) {
	s := New([]authsome.Secret{authsome.NewSecret(token), authsome.NewSecret(awkward)})
	st := s.NewStream()
	clean, dirty := []byte(strings.Repeat(someText, 20)), []byte("x sk-proj "+token)
	if n := testing.AllocsPerRun(100, func() { st.Overwrite(clean, false) }); n != 0 {
		t.Errorf("%v allocations for a text", n)
	}
	copied := make([]byte, len(dirty))
	if n := testing.AllocsPerRun(100, func() { copy(copied, dirty); st.Overwrite(copied, true) }); n != 0 {
		t.Errorf("%v allocations for a text with a value", n)
	}
	h := http.Header{"Content-Type": {"application/json"}, "Date": {"Tue, 24 Nov 2026 00:00:00 GMT"}, "X-Request-Id": {strings.Repeat("0f", 100)}}
	if n := testing.AllocsPerRun(100, func() { s.Header(h) }); n != 0 {
		t.Errorf("%v allocations for a header", n)
	}
	buf := make([]byte, 4096)
	r := s.Reader(endless{})
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Read(buf) }); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
}

// endless is a source of text.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, strings.Repeat(someText, 1)), nil }
