package sigv4

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// The form of an aws-chunked body whose chunks are signed (S3 API reference,
// "Signature Calculations for the Authorization Header: Transferring Payload in
// Multiple Chunks" and "… Including Trailing Headers"):
//
//	hex(size) ";chunk-signature=" signature CRLF
//	data CRLF
//	…
//	"0;chunk-signature=" signature CRLF
//	[ name ":" value CRLF … "x-amz-trailer-signature:" signature CRLF ]
//	CRLF
//
// Each signature covers the one before it, the first the one in Authorization.
// They are 64 hex digits, the old ones as the new, so that the length stays.
const (
	chunkExtension   = ";chunk-signature="
	trailerSignature = "x-amz-trailer-signature"
	maxChunkLine     = 16 + len(chunkExtension) + 64 + 2
	// maxTrailer bounds the trailers, in bytes: checksums, of which there is one.
	maxTrailer = 16 << 10
)

var emptyHash = Hash(nil)

// signingKey derives the key for one day, region and service.
func signingKey(secret, region, service string, at time.Time) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{at.Format("20060102"), region, service, terminator} {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, text)
	return h.Sum(nil)
}

// chunks is a body whose chunks are signed again as they pass. It holds one.
type chunks struct {
	src         *bufio.Reader
	key         []byte
	date, scope string
	last        string // signature of what came before
	trailers    bool

	chunk   bytes.Buffer
	pending []byte // of chunk, not read yet
	err     error
}

func newChunks(src io.Reader, key []byte, date, scope, seed string, trailers bool) *chunks {
	return &chunks{src: bufio.NewReaderSize(src, 32<<10), key: key, date: date, scope: scope, last: seed, trailers: trailers}
}

// Read implements io.Reader. Its errors are the source's own, and *authsome.Error
// of code Invalid for a body that is not of the form.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.pending) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.chunk.Reset()
		if c.err = c.next(); c.err != nil && c.err != io.EOF {
			return 0, c.err
		}
		c.pending = c.chunk.Bytes()
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// next puts the next chunk, signed, into c.chunk; io.EOF with the last.
func (c *chunks) next() error {
	line, err := c.line(maxChunkLine)
	if err != nil {
		return err
	}
	digits, sig, ok := strings.Cut(strings.TrimSuffix(line, "\r\n"), chunkExtension)
	size, err := strconv.ParseUint(digits, 16, 63)
	if !ok || err != nil || !hash.MatchString(sig) || !strings.HasSuffix(line, "\r\n") {
		return malformed("a chunk begins with its size in hex and its signature")
	}
	if size > MaxChunk {
		return authsome.E(authsome.Invalid, "a signed chunk of the body has %d bytes: the longest that can be signed again has %d", size, MaxChunk).
			WithHint("let the program send its body in smaller chunks")
	}
	c.chunk.WriteString(line)
	start := c.chunk.Len()
	if _, err := io.CopyN(&c.chunk, c.src, int64(size)); err != nil {
		return short(err)
	}
	c.last = c.sign("AWS4-HMAC-SHA256-PAYLOAD", emptyHash, Hash(c.chunk.Bytes()[start:]))
	copy(c.chunk.Bytes()[start-2-len(c.last):], c.last)
	switch {
	case size > 0:
		if line, err = c.line(2); err == nil && line != "\r\n" {
			err = malformed("a chunk is longer than it says")
		}
		c.chunk.WriteString(line)
		return err
	case c.trailers:
		return c.end()
	}
	rest, err := io.ReadAll(io.LimitReader(c.src, 3))
	if err == nil && string(rest) != "\r\n" && len(rest) > 0 {
		err = malformed("something follows its last chunk")
	}
	c.chunk.Write(rest)
	if err != nil {
		return err
	}
	return io.EOF
}

// end signs the trailers, which stay as they are.
func (c *chunks) end() error {
	text, err := io.ReadAll(io.LimitReader(c.src, maxTrailer+1))
	if err != nil {
		return err
	}
	if len(text) > maxTrailer {
		return malformed("its trailers are too long")
	}
	var canonical []string
	at := -1 // of the signature
	for offset, rest := 0, string(text); rest != ""; {
		line, after, _ := strings.Cut(rest, "\n")
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r"), ":")
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case name == "" && !ok: // the examples of the reference have empty lines in between
		case !ok || at >= 0:
			return malformed("its trailers are no list of names and values, the signature last")
		case name == trailerSignature:
			if value = strings.TrimLeft(value, " "); !hash.MatchString(value) {
				return malformed("the signature of its trailers is none")
			}
			at = offset + strings.Index(line, value)
		default:
			canonical = append(canonical, name+":"+strings.Join(strings.Fields(value), " ")+"\n")
		}
		offset += len(rest) - len(after)
		rest = after
	}
	if at < 0 {
		return malformed("its trailers have no signature")
	}
	slices.Sort(canonical)
	c.last = c.sign("AWS4-HMAC-SHA256-TRAILER", Hash([]byte(strings.Join(canonical, ""))))
	copy(text[at:], c.last)
	c.chunk.Write(text)
	return io.EOF
}

// sign makes the signature of a chunk or of the trailers.
func (c *chunks) sign(kind string, hashes ...string) string {
	text := append([]string{kind, c.date, c.scope, c.last}, hashes...)
	return hex.EncodeToString(mac(c.key, strings.Join(text, "\n")))
}

// line reads up to and with a line feed, at most limit bytes.
func (c *chunks) line(limit int) (string, error) {
	var line []byte
	for len(line) < limit {
		b, err := c.src.ReadByte()
		if err != nil {
			return "", short(err)
		}
		if line = append(line, b); b == '\n' {
			break
		}
	}
	return string(line), nil
}

// short turns an end in the middle into an error.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return malformed("it ends in the middle of a chunk")
	}
	return err
}

func malformed(why string) error {
	return refuse(fixMalform, "the body is not made of signed chunks, as x-amz-content-sha256 says: %s", why)
}
