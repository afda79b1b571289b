package sigv4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/authsome/authsome"
)

// chunked frames a body as a program does that has signed it with placeholders.
func chunked(body []byte, size int, trailers ...string) []byte {
	var b bytes.Buffer
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x;chunk-signature=%064d\r\n%s\r\n", n, 0, body[:n])
		body = body[n:]
	}
	fmt.Fprintf(&b, "0;chunk-signature=%064d\r\n", 0)
	for _, t := range trailers {
		b.WriteString(t + "\r\n")
	}
	if trailers != nil {
		fmt.Fprintf(&b, "x-amz-trailer-signature:%064d\r\n", 0)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// TestChunkExamples makes the signatures of the S3 API reference's two examples:
// 66,560 letters in chunks of 64 KB, without and with a trailing checksum.
func TestChunkExamples(t *testing.T) {
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	body := bytes.Repeat([]byte("a"), 66560)
	for _, tt := range []struct {
		name, payload string
		body          []byte
		headers       []string
		want          []string
	}{
		{
			"chunks", signedChunks, chunked(body, 64<<10),
			[]string{"Content-Encoding", "aws-chunked", "X-Amz-Decoded-Content-Length", "66560", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY", "Content-Length", "66824"},
			[]string{
				"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
				"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
				"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
				"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
			},
		},
		{
			"trailer", signedChunksTrail, chunked(body, 64<<10, "x-amz-checksum-crc32c:sOO8/Q=="),
			[]string{"Content-Encoding", "aws-chunked", "X-Amz-Decoded-Content-Length", "66560", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY", "X-Amz-Trailer", "x-amz-checksum-crc32c"},
			[]string{
				"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
				"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
				"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
				"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := header("PUT", "s3.amazonaws.com", "/examplebucket/chunkObject.txt", "s3", "us-east-1",
				append(tt.headers, "X-Amz-Content-Sha256", tt.payload)...)
			r.Length = int64(len(tt.body))
			s, v := resign(t, r, tt.body, keysOf(docsID, docsSecret, ""), now)
			if v.Chunks != 3 || !bytes.Equal(v.Body, body) {
				t.Errorf("%d chunks of %d bytes", v.Chunks, len(v.Body))
			}
			out, err := io.ReadAll(s.Body(bytes.NewReader(tt.body)))
			if err != nil || len(out) != len(tt.body) {
				t.Fatalf("%d bytes, want %d: %v", len(out), len(tt.body), err)
			}
			if auth := s.Header.Get("Authorization"); !strings.HasSuffix(auth, tt.want[0]) {
				t.Errorf("have %s, want %s", auth, tt.want[0])
			}
			for _, want := range tt.want[1:] {
				if !bytes.Contains(out, []byte("chunk-signature="+want)) {
					t.Errorf("the chunk %s is missing", want)
				}
			}
		})
	}
}

func streamed(payload string, body []byte) *Request {
	r := header("PUT", "b.s3.eu-west-1.amazonaws.com", "/k", "s3", "eu-west-1", "X-Amz-Content-Sha256", payload)
	r.Length = int64(len(body))
	return r
}

// TestChunkForms signs again however the bytes are split, and in the forms in
// which SDKs write trailers.
func TestChunkForms(t *testing.T) {
	sum := "x-amz-checksum-crc32:AAAAAA=="
	zero := strings.Repeat("0", 64)
	for name, body := range map[string]string{
		"of the SDKs":      string(chunked([]byte("hello"), 3, sum)),
		"of the reference": "0;chunk-signature=" + zero + "\r\n" + sum + "\n\r\nx-amz-trailer-signature:" + zero + "\r\n\r\n",
		"blanks":           "0;chunk-signature=" + zero + "\r\nX-Amz-Checksum-Crc32:  AAAAAA==\r\nx-amz-trailer-signature: " + zero + "\r\n\r\n",
		"no end":           "0;chunk-signature=" + zero + "\r\n" + sum + "\r\nx-amz-trailer-signature:" + zero,
		"two":              string(chunked([]byte("hello"), 3, "x-amz-meta-z:1", sum)),
	} {
		t.Run(name, func(t *testing.T) {
			r := streamed(signedChunksTrail, []byte(body))
			sig, err := Find(r)
			if err != nil {
				t.Fatal(err)
			}
			s, err := sig.Sign(r, keysOf("A", "s", ""), "", testNow)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := io.ReadAll(s.Body(strings.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			for _, split := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
				again, err := io.ReadAll(split(s.Body(split(strings.NewReader(body)))))
				if err != nil || !bytes.Equal(again, whole) {
					t.Fatalf("%v\n%s\n%s", err, again, whole)
				}
			}
			if bytes.Contains(whole, []byte(zero)) || len(whole) != len(body) {
				t.Errorf("an old signature is left:\n%s", whole)
			}
			if name == "of the SDKs" || name == "two" {
				resign(t, r, []byte(body), keysOf("A", "s", ""), testNow)
			}
		})
	}
}

func TestChunksRefused(t *testing.T) {
	zero := strings.Repeat("0", 64)
	sig := ";chunk-signature=" + zero + "\r\n"
	end := "0" + sig
	for _, tt := range []struct{ name, payload, body, says string }{
		{"nothing", signedChunks, "", "middle"},
		{"no frames", signedChunks, "hello, world\r\n", "begins"},
		{"no signature", signedChunks, "5\r\nhello\r\n0\r\n\r\n", "begins"},
		{"a signature that is none", signedChunks, "5;chunk-signature=zz\r\nhello\r\n", "begins"},
		{"another extension", signedChunks, "5;a=b;chunk-signature=" + zero + "\r\nhello\r\n", "begins"},
		{"a size that is none", signedChunks, "-5" + sig + "hello\r\n", "begins"},
		{"a line without end", signedChunks, strings.Repeat("0", 300), "begins"},
		{"cut off", signedChunks, "5" + sig + "hel", "middle"},
		{"no last chunk", signedChunks, "5" + sig + "hello\r\n", "middle"},
		{"longer than it says", signedChunks, "5" + sig + "hello!\r\n" + end + "\r\n", "longer"},
		{"something behind", signedChunks, end + "\r\nGET / HTTP/1.1\r\n", "follows"},
		{"a trailer that nobody promised", signedChunks, end + "x:y\r\n\r\n", "follows"},
		{"too long a chunk", signedChunks, fmt.Sprintf("%x", MaxChunk+1) + sig, "smaller"},
		{"no trailer", signedChunksTrail, end + "\r\n", "no signature"},
		{"an unsigned trailer", signedChunksTrail, end + "x-amz-checksum-crc32:AA==\r\n\r\n", "no signature"},
		{"a broken trailer", signedChunksTrail, end + "x\r\n", "no list"},
		{"something behind the trailers", signedChunksTrail, end + "x-amz-trailer-signature:" + zero + "\r\nx:y\r\n", "last"},
		{"a trailer's signature that is none", signedChunksTrail, end + "x-amz-trailer-signature:00\r\n", "is none"},
		{"too many trailers", signedChunksTrail, end + strings.Repeat("a:b\r\n", maxTrailer), "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := streamed(tt.payload, []byte(tt.body))
			sig, err := Find(r)
			if err != nil {
				t.Fatal(err)
			}
			s, err := sig.Sign(r, keysOf("A", "s", ""), "", testNow)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(s.Body(strings.NewReader(tt.body)))
			if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error()+authsome.HintOf(err), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
	// A program that goes away is not one that sends nonsense.
	r := streamed(signedChunks, nil)
	found, err := Find(r)
	if err != nil {
		t.Fatal(err)
	}
	s, err := found.Sign(r, keysOf("A", "s", ""), "", testNow)
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	if _, err := io.ReadAll(s.Body(io.MultiReader(strings.NewReader("5;chunk"), iotest.ErrReader(gone)))); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
}

// TestUnsignedTrailer passes a body whose chunks carry no signatures as it is.
func TestUnsignedTrailer(t *testing.T) {
	body := []byte("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n")
	r := streamed(unsignedTrailer, body)
	r.Header.Set("X-Amz-Decoded-Content-Length", "5")
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "SignedHeaders=host", "SignedHeaders=host;x-amz-decoded-content-length", 1))
	s, v := resign(t, r, body, keysOf("A", "s", ""), testNow)
	if s.Body != nil || string(v.Body) != "hello" || v.Trailers["x-amz-checksum-crc32"] != "NhCmhg==" {
		t.Errorf("%v", v)
	}
}
