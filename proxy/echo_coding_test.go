package proxy_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// flusher is what the encoders have in common.
type flusher interface {
	io.WriteCloser
	Flush() error
}

// encoder wraps w for a content coding; "raw" is deflate without zlib's wrapping.
func encoder(coding string, w io.Writer) flusher {
	switch coding {
	case "gzip":
		return gzip.NewWriter(w)
	case "deflate":
		return zlib.NewWriter(w)
	case "raw":
		e, _ := flate.NewWriter(w, flate.DefaultCompression) // the level is one
		return e
	case "br":
		return brotli.NewWriterLevel(w, 4)
	default:
		e, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20)) // so are these
		return e
	}
}

// coded encodes parts, with a flush behind each.
func coded(coding string, parts ...string) string {
	var b bytes.Buffer
	e := encoder(coding, &b)
	for _, p := range parts {
		_, _ = io.WriteString(e, p)
		_ = e.Flush()
	}
	_ = e.Close()
	return b.String()
}

// flushed is the beginning of what is encoded, up to the end of a text.
func flushed(coding, text string) string {
	var b bytes.Buffer
	e := encoder(coding, &b)
	_, _ = io.WriteString(e, text)
	_ = e.Flush()
	return b.String()
}

// skippable is a frame of zstd that decoders pass over (RFC 8878, section 3.1.2).
const skippable = "\x50\x2a\x4d\x18\x05\x00\x00\x00sk-ra"

// codedAnswers are those of TestRawAnswersAreScrubbed whose body has a content
// coding.
func codedAnswers() map[string]said {
	const k = rawKey
	text, want := "your key is "+k+", is it?", "your key is "+rawStars+", is it?"
	gone := map[string]string{"Content-Encoding": "", "Content-Length": "", "Accept-Ranges": "", "Content-Digest": "", "Etag": `W/"a"`, "Vary": "Accept-Encoding"}
	// say is an answer in a coding, as the header tells of it.
	say := func(field, body string) said {
		return said{
			bytes: ok + field + "Etag: \"a\"\r\nVary: Accept-Encoding\r\nAccept-Ranges: bytes\r\nContent-Digest: sha-256=:x:\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(body, 11, "X-Last: "+k, "Repr-Digest: y"),
			body:  want, header: gone, trails: map[string]string{"X-Last": rawStars, "Repr-Digest": ""}, places: 2,
		}
	}
	header := func(coding string) string {
		return "Content-Encoding: " + strings.Replace(coding, "raw", "deflate", 1) + "\r\n"
	}
	answers := map[string]said{}
	for _, coding := range []string{"gzip", "deflate", "raw", "br", "zstd"} {
		answers[coding] = say(header(coding), coded(coding, text))
		answers[coding+", flushed in the key"] = say(header(coding), coded(coding, text[:20], text[20:25], text[25:]))
		whole := coded(coding, text)
		answers[coding+", of known length"] = said{bytes: ok + header(coding) + "Etag: \"a\"\r\n" + sized(whole), body: want, header: map[string]string{"Content-Encoding": "", "Content-Length": "", "Etag": `W/"a"`}, places: 1}
		clean := coded(coding, "nothing to see")
		answers[coding+", and clean"] = said{bytes: ok + header(coding) + "Etag: \"a\"\r\n" + sized(clean), body: clean, header: map[string]string{"Content-Encoding": strings.Replace(coding, "raw", "deflate", 1), "Etag": `"a"`}}
		// The text is there, and behind it nothing, or nothing that can be decoded.
		for name, rest := range map[string]string{"cut off": "", "corrupt": strings.Repeat("\xff", 30)} {
			broken := said{bytes: ok + header(coding) + "Transfer-Encoding: chunked\r\n\r\n" + chunks(flushed(coding, text)+rest, 9), body: want, places: 1, broken: true}
			if coding == "br" {
				broken.places = -1 // its decoder keeps what it has when it finds an error
			}
			answers[coding+", "+name] = broken
		}
	}
	answers["members of gzip"] = say(header("gzip"), coded("gzip", text[:20])+coded("gzip", text[20:])+strings.Repeat("\x00", 20))
	answers["frames of zstd"] = say(header("zstd"), skippable+coded("zstd", text[:20])+skippable+skippable+coded("zstd", text[20:])+skippable)
	for _, field := range []string{"Content-Encoding: GZIP", "Content-Encoding: x-gzip", "Content-Encoding: identity, gzip", "Content-Encoding:  ,gzip , ", "content-encoding:gzip\t", "Content-Encoding: \r\nContent-Encoding: gzip"} {
		answers[field] = say(field+"\r\n", coded("gzip", text))
	}
	answers["two codings"] = say("Content-Encoding: gzip, br\r\n", coded("br", coded("gzip", text)))
	answers["two codings in two lines"] = say("Content-Encoding: zstd\r\nContent-Encoding: x-gzip\r\n", coded("gzip", coded("zstd", text)))
	// What nobody asked for passes as it came, looked through as it is.
	for _, coding := range []string{"compress", "dcb", "dcz", "gzip;q=1", "gzip, gzip, gzip", "aws-chunked"} {
		answers[coding] = said{bytes: ok + "Content-Encoding: " + coding + "\r\nEtag: \"a\"\r\n" + sized("\x1f\x9d"+k), body: "\x1f\x9d" + rawStars, header: map[string]string{"Content-Encoding": coding, "Etag": `"a"`}, places: 1, unseen: true}
	}
	answers["gzip that says nothing of it"] = said{bytes: ok + sized(coded("gzip", text)), body: coded("gzip", text)}
	answers["no gzip"] = said{bytes: ok + "Content-Encoding: gzip\r\n" + sized(text), broken: true}
	answers["nothing"] = said{bytes: ok + "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks("", 1), header: map[string]string{"Content-Encoding": ""}}
	return answers
}

// bombOf is a body that a service can go on with for ever: how it begins, and what
// then comes over and over.
func bombOf(t *testing.T, coding string) (head, again []byte) {
	t.Helper()
	var b bytes.Buffer
	e := encoder(coding, &b)
	zeros := make([]byte, 1<<20)
	fill := func() {
		for range 64 {
			_, _ = e.Write(zeros)
		}
	}
	fill()
	if coding != "br" {
		_ = e.Close() // members of gzip and frames of zstd may follow each other
		return nil, b.Bytes()
	}
	// Brotli has one stream only. Flushed, it goes on at a byte, and what is written
	// again comes out alike.
	var ends []int
	for range 3 {
		_ = e.Flush()
		ends = append(ends, b.Len())
		fill()
	}
	_ = e.Flush()
	data := b.Bytes()
	if again = data[ends[1]:ends[2]]; !bytes.Equal(again, data[ends[2]:]) {
		t.Fatal("Brotli does not repeat itself")
	}
	return data[:ends[1]], again
}

// TestBombedAnswers: 10 GB of gzip out of some KB, in memory that does not grow. The
// child reads all of it. Of the others a tenth shows that nothing grows with it.
func TestBombedAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("10 GB take their time")
	}
	for coding, total := range map[string]int64{"gzip": 10 << 30, "br": 1 << 30, "zstd": 1 << 30} {
		t.Run(coding, func(t *testing.T) {
			w := newWorld(t, holding(rawKey))
			head, again := bombOf(t, coding)
			w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				bw := bufio.NewWriter(c)
				_, _ = fmt.Fprintf(bw, ok+"Content-Encoding: %s\r\nTransfer-Encoding: chunked\r\n\r\n", coding)
				chunk := func(b []byte) error {
					_, _ = fmt.Fprintf(bw, "%x\r\n", len(b))
					_, _ = bw.Write(b)
					_, err := bw.WriteString("\r\n")
					return err
				}
				if head != nil {
					_ = chunk(head)
				}
				for chunk(again) == nil { // until the child has had enough
				}
			})
			grown := watchHeap()
			res := w.get(w.client(http1), "https://api.openai.com/", "Accept-Encoding: "+coding)
			n, err := io.CopyN(io.Discard, res.Body, total)
			if n != total || err != nil || res.Header.Get("Content-Encoding") != "" {
				t.Errorf("%d bytes of %d MB, %v, %v", n, total>>20, err, res.Header)
			}
			_ = res.Body.Close()
			if n := grown(); n > 48<<20 {
				t.Errorf("the heap grew by %d MB", n>>20)
			}
			if out := w.broker.last(); out.Received < total || out.Err == "" {
				t.Errorf("finished with %+v", out)
			}
		})
	}
}
