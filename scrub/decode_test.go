package scrub

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// flusher is what the encoders have in common.
type flusher interface {
	io.WriteCloser
	Flush() error
}

// encoder wraps w for a coding; "raw" is deflate without zlib's wrapping.
func encoder(coding string, w io.Writer) flusher {
	switch coding {
	case "gzip", "x-gzip":
		return gzip.NewWriter(w)
	case "deflate":
		return zlib.NewWriter(w)
	case "raw":
		e, err := flate.NewWriter(w, flate.DefaultCompression)
		if err != nil {
			panic(err)
		}
		return e
	case "br":
		return brotli.NewWriterLevel(w, 4)
	case "zstd":
		e, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err)
		}
		return e
	}
	panic(coding)
}

// encode applies codings in the order in which Content-Encoding lists them.
func encode(text, codings string) []byte {
	data := []byte(text)
	for coding := range strings.SplitSeq(codings, ", ") {
		var b bytes.Buffer
		e := encoder(coding, &b)
		_, _ = e.Write(data)
		_ = e.Close()
		data = b.Bytes()
	}
	return data
}

func codingName(coding string) string { return strings.ReplaceAll(coding, "raw", "deflate") }

var allCodings = []string{"gzip", "x-gzip", "deflate", "raw", "br", "zstd", "gzip, br", "zstd, raw", "br, gzip"}

func mustDecode(t *testing.T, coding string, r io.Reader) io.ReadCloser {
	t.Helper()
	d, err := Decode(codingName(coding), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestDecode(t *testing.T) {
	text := strings.Repeat(someText, 5000)
	for _, coding := range allCodings {
		t.Run(coding, func(t *testing.T) {
			data := encode(text, coding)
			for name, r := range map[string]io.Reader{
				"whole": bytes.NewReader(data), "bytes": iotest.OneByteReader(bytes.NewReader(data)), "error with data": iotest.DataErrReader(bytes.NewReader(data)),
			} {
				got, err := io.ReadAll(mustDecode(t, coding, r))
				if err != nil || string(got) != text {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			if got, err := io.ReadAll(mustDecode(t, coding, strings.NewReader(""))); err != nil || len(got) != 0 {
				t.Errorf("an empty body: %q, %v", got, err)
			}
			if got, err := io.ReadAll(mustDecode(t, coding, bytes.NewReader(encode("", coding)))); err != nil || len(got) != 0 {
				t.Errorf("an encoded empty body: %q, %v", got, err)
			}
		})
	}
	if got, err := io.ReadAll(mustDecode(t, "identity, ", strings.NewReader(text))); err != nil || string(got) != text {
		t.Errorf("identity: %d bytes, %v", len(got), err)
	}
	for _, codings := range []string{"compress", "gzip, dcz", "gzip, gzip, gzip", "aws-chunked"} {
		if _, err := Decode(codings, nil); !errors.Is(err, ErrCoding) {
			t.Errorf("%s: %v", codings, err)
		}
	}
}

// TestDecodeAtOnce gets each part of a stream as soon as it was flushed.
func TestDecodeAtOnce(t *testing.T) {
	for _, coding := range []string{"gzip", "deflate", "raw", "br", "zstd"} {
		t.Run(coding, func(t *testing.T) {
			in, out := io.Pipe()
			e := encoder(coding, out)
			d := mustDecode(t, coding, in)
			buf := make([]byte, 64<<10)
			events := make(chan string)
			go func() {
				for event := range events {
					_, _ = io.WriteString(e, event)
					_ = e.Flush()
				}
				_ = e.Close()
				_ = out.Close()
			}()
			for i := range 50 {
				event := fmt.Sprintf("data: %d %s\n\n", i, strings.Repeat("x", i*40))
				events <- event
				for got := ""; got != event; {
					n, err := d.Read(buf)
					got += string(buf[:n])
					if err != nil || !strings.HasPrefix(event, got) {
						t.Fatalf("event %d: %q, %v", i, got, err)
					}
				}
			}
			close(events)
			if n, err := io.ReadFull(d, buf); err != io.EOF {
				t.Errorf("at the end: %d bytes, %v", n, err)
			}
		})
	}
}

// TestDecodeMembers reads gzip files one behind the other, and what servers pad
// them with.
func TestDecodeMembers(t *testing.T) {
	one, two := encode("one ", "gzip"), encode("two", "gzip")
	for name, data := range map[string][]byte{
		"members": append(bytes.Clone(one), two...),
		"zeros":   append(append(bytes.Clone(one), two...), make([]byte, 100)...),
		"a byte":  append(append(bytes.Clone(one), two...), 0x1f),
	} {
		if got, err := io.ReadAll(mustDecode(t, "gzip", bytes.NewReader(data))); err != nil || string(got) != "one two" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// The end of a member is there before the next one is.
	in, out := io.Pipe()
	defer in.Close()
	go func() { _, _ = out.Write(one) }()
	got, err := io.ReadAll(io.LimitReader(mustDecode(t, "gzip", in), 4))
	if err != nil || string(got) != "one " {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDecodeBroken cuts and changes bodies: what is good comes first, then an error.
func TestDecodeBroken(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < 300<<10; i++ {
		fmt.Fprintf(&b, "%x ", i*i*2654435761)
	}
	text := b.String()
	for _, coding := range allCodings {
		t.Run(coding, func(t *testing.T) {
			data := encode(text, coding)
			cut := data[:len(data)*3/4]
			got, err := io.ReadAll(mustDecode(t, coding, bytes.NewReader(cut)))
			if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(text, string(got)) || len(got) < len(text)/8 {
				t.Errorf("cut: %d of %d bytes, %v", len(got), len(text), err)
			}
			got, err = io.ReadAll(mustDecode(t, coding, io.MultiReader(bytes.NewReader(cut), iotest.ErrReader(io.ErrClosedPipe))))
			if err != io.ErrClosedPipe || !strings.HasPrefix(text, string(got)) {
				t.Errorf("broken off: %d bytes, %v", len(got), err)
			}
			for _, at := range []int{0, 1, len(data) / 2, len(data) - 1} {
				broken := bytes.Clone(data)
				broken[at] ^= 0x55
				got, err = io.ReadAll(mustDecode(t, coding, bytes.NewReader(broken)))
				// Raw deflate and Brotli have no checksum.
				if err == nil && len(got) == len(text) && !strings.Contains(coding, "raw") && !strings.Contains(coding, "br") {
					t.Errorf("byte %d changed: no error", at)
				}
				if err != nil && strings.Contains(err.Error(), text[:20]) {
					t.Errorf("the error quotes the body: %v", err)
				}
			}
			d := mustDecode(t, coding, strings.NewReader("\x00\x01this is no such thing"))
			if got, err := io.ReadAll(d); err == nil {
				t.Errorf("anything: %q", got)
			}
			_, again := d.Read(make([]byte, 1))
			if again == nil {
				t.Error("a read after an error succeeded")
			}
			_ = d.Close()
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// bomb is size zero bytes in gzip, over and over.
func bomb(size int) []byte {
	var b bytes.Buffer
	e, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	zeros := make([]byte, 1<<20)
	for range size >> 20 {
		_, _ = e.Write(zeros)
	}
	_ = e.Close()
	return b.Bytes()
}

// repeated is a reader of data, n times.
func repeated(data []byte, n int) io.Reader {
	var rs []io.Reader
	for range n {
		rs = append(rs, bytes.NewReader(data))
	}
	return io.MultiReader(rs...)
}

// highest runs f and returns by how much the heap was greater at most, looked at
// with every call of look.
func highest(f func(look func())) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapInuse, m.HeapInuse
	f(func() {
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapInuse)
	})
	return most - before
}

// TestBomb decodes 10 GB of zeros from 10 MB, and scrubs them, in a few MB. It is
// 64 MB for the race detector.
func TestBomb(t *testing.T) {
	member, members := 256<<20, 40
	if testing.Short() {
		member, members = 64<<20, 1
	}
	size := int64(member) * int64(members)
	data := repeated(bomb(member), members)
	s := New(secrets(token))
	used := highest(func(look func()) {
		r := s.Reader(mustDecode(t, "gzip", data))
		buf := make([]byte, 32<<10)
		var n int64
		for i := 0; ; i++ {
			m, err := r.Read(buf)
			n += int64(m)
			if i%4096 == 0 {
				look()
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n != size {
			t.Errorf("%d bytes of %d", n, size)
		}
	})
	if used > 8<<20 {
		t.Errorf("%d KB of memory", used>>10)
	}
}

// TestBombs does the same on a smaller scale for all codings.
func TestBombs(t *testing.T) {
	s := New(secrets(token))
	for _, coding := range []string{"deflate", "raw", "br", "zstd", "gzip, gzip", "zstd, br"} {
		size := 64 << 20
		if testing.Short() {
			size /= 2
		}
		var b bytes.Buffer
		// The inner coding of two is listed first.
		first, second, two := strings.Cut(coding, ", ")
		outer := io.WriteCloser(encoder(first, &b))
		if two {
			e := encoder(second, &b)
			outer = encoder(first, e)
			defer e.Close()
			_, _ = io.CopyN(outer, zeros{}, int64(size))
			_ = outer.Close()
			_ = e.Close()
		} else {
			_, _ = io.CopyN(outer, zeros{}, int64(size))
			_ = outer.Close()
		}
		used := highest(func(look func()) {
			r := s.Reader(mustDecode(t, coding, &b))
			buf := make([]byte, 32<<10)
			n := 0
			for i := 0; ; i++ {
				m, err := r.Read(buf)
				n += m
				if i%1024 == 0 {
					look()
				}
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", coding, err)
				}
			}
			if n != size {
				t.Errorf("%s: %d bytes of %d", coding, n, size)
			}
		})
		if used > 24<<20 {
			t.Errorf("%s: %d KB of memory", coding, used>>10)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestZstdWindow refuses a frame that wants more memory than HTTP allows.
func TestZstdWindow(t *testing.T) {
	// RFC 8878, section 3.1.1: magic, a descriptor without a content size, and a
	// window of 1 GB; then a raw block.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3}
	frame = append(frame, binary.LittleEndian.AppendUint32(nil, 1|5<<3)[:3]...)
	frame = append(frame, "hello"...)
	got, err := io.ReadAll(mustDecode(t, "zstd", bytes.NewReader(frame)))
	if err == nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	frame[5] = 13 << 3 // 8 MB
	if got, err := io.ReadAll(mustDecode(t, "zstd", bytes.NewReader(frame))); err != nil || string(got) != "hello" {
		t.Errorf("8 MB: %q, %v", got, err)
	}
}

// FuzzDecode feeds anything to the decoders: no panic, no memory without bound, and
// the scrubbed text is as long as the text, unless that breaks off.
func FuzzDecode(f *testing.F) {
	for i, coding := range allCodings {
		f.Add(uint8(i), encode(someText+token, coding))
		f.Add(uint8(i), encode(strings.Repeat("a", 100000), coding))
	}
	s := New(secrets(token))
	f.Fuzz(func(t *testing.T, coding uint8, data []byte) {
		name := codingName(allCodings[int(coding)%len(allCodings)])
		const limit = 8 << 20
		plain, err := io.ReadAll(io.LimitReader(mustDecode(t, name, bytes.NewReader(data)), limit))
		scrubbed, err2 := io.ReadAll(io.LimitReader(s.Reader(mustDecode(t, name, iotest.HalfReader(bytes.NewReader(data)))), limit))
		want := whole(s, string(plain))
		if err != nil && err2 != nil && strings.HasPrefix(want, string(scrubbed)) {
			want = string(scrubbed) // without what may be the beginning of a value
		}
		if (err == nil) != (err2 == nil) || len(plain) < limit && string(scrubbed) != want {
			t.Errorf("%s: %d bytes, %v; scrubbed %d, %v", name, len(plain), err, len(scrubbed), err2)
		}
	})
}
