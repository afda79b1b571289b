package scrub

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

const (
	// maxWhole is the length up to which an encoded body is looked into as a whole,
	// to send it on as it is. It is what a JSON answer rarely exceeds, and what a
	// request may cost in memory.
	maxWhole = 64 << 10
	// maxTrial bounds what such a body is decoded to: a bomb is cheaper to pass on
	// decoded, for then it is decoded as slowly as the child reads.
	maxTrial = 8 << 20
)

// Report says what was done to one answer. It is for the goroutine that reads the
// body, and final when that has ended.
type Report struct {
	// Decoded says that the body is sent on without its content coding.
	Decoded bool
	// Unseen says that the body could not be looked into: a coding that nobody
	// asked for, of the body or of its messages, or a part of an encoded body.
	Unseen bool

	header Hits
	reader *Reader
}

// Hits says how often each value was found, in the header, the body as far as it
// was read, and the trailers.
func (r *Report) Hits() Hits {
	var all Hits
	all.Add(r.header)
	if r.reader != nil {
		all.Add(r.reader.Hits())
	}
	return all
}

// Response scrubs an answer: its status line and header at once, its body and
// trailers as the body is read. Without res.Request, it is no answer to a HEAD. Nothing is done for a nil
// Scrubber, or one that looks for nothing.
//
// A body without a content coding is overwritten in place, so that its length, the
// parts of a 206, and the framing of gRPC survive. It is never held back but for
// what may be the beginning of a value.
//
// A body with one is decoded, and sent on without it: Content-Encoding,
// Content-Length, Accept-Ranges and the checksums of the encoded body go, and a
// strong ETag becomes a weak one, since the same bytes will not come again.
// Except when its length is known and small, and it holds nothing: then it is sent
// on as it came. An encoded body that cannot be decoded is looked through as it is;
// the Report says so.
//
// Answers to HEAD, 1xx, 204 and 304 have no body, and keep what their header says
// of one.
func (s *Scrubber) Response(res *http.Response) *Report {
	if s.Empty() {
		return new(Report)
	}
	body := &responseBody{s: s, res: res, upstream: res.Body}
	report := &body.report
	var found Hits
	res.Status, found = s.String(res.Status)
	report.header.Add(found)
	report.header.Add(s.Header(res.Header))
	if res.Body == nil || res.Body == http.NoBody || res.StatusCode < 200 || res.StatusCode == http.StatusNoContent ||
		res.StatusCode == http.StatusNotModified || res.Request != nil && res.Request.Method == http.MethodHead {
		return report
	}

	// Services of gRPC answer in the coding of the request's messages, whatever the
	// client accepts (grpc-go for one).
	report.Unseen = len(codingsOf(res.Header["Grpc-Encoding"])) > 0 || len(codingsOf(res.Header["Connect-Content-Encoding"])) > 0
	codings := codingsOf(res.Header["Content-Encoding"])
	var plain io.Reader = res.Body
	clean := false
	switch {
	case len(codings) == 0:
	case res.StatusCode == http.StatusPartialContent || !decodable(codings):
		report.Unseen = true
	default:
		if plain, clean = s.small(res, codings); !clean {
			report.Decoded = true
			decoded(res)
			plain = decode(codings, plain)
		}
	}
	if body.Reader = plain; !clean {
		body.stream.s = s
		body.scrubbed = Reader{st: &body.stream, src: plain}
		report.reader = &body.scrubbed
		body.Reader = report.reader
	}
	res.Body = body
	return report
}

// small reads an encoded body whose length is known and small. It returns what to
// read the body from, and whether that holds nothing and can be sent on as it is.
func (s *Scrubber) small(res *http.Response, codings []string) (body io.Reader, clean bool) {
	if res.ContentLength < 0 || res.ContentLength > maxWhole {
		return res.Body, false
	}
	encoded := make([]byte, res.ContentLength)
	if n, err := io.ReadFull(res.Body, encoded); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return io.MultiReader(bytes.NewReader(encoded[:n]), errorReader{err}), false
	}
	// Behind it come the end and the trailers.
	body = io.MultiReader(bytes.NewReader(encoded), res.Body)
	d := decode(codings, bytes.NewReader(encoded))
	defer d.Close()
	r := s.Reader(d)
	buf := trialBuffers.Get().(*[]byte)
	defer trialBuffers.Put(buf)
	for total := 0; total <= maxTrial; {
		n, err := r.Read(*buf)
		total += n
		if r.Hits() != nil {
			return body, false
		}
		if err != nil {
			// What is corrupt may be corrupt to us alone. And decoders pass over some of
			// the bytes: comments, and what is behind the end.
			return body, err == io.EOF && !s.suspicious(encoded)
		}
	}
	return body, false
}

var trialBuffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// checksums are the fields that tell of the bytes of an encoded body.
var checksums = []string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "X-Goog-Hash"}

// decoded changes the header of an answer whose content coding is taken off.
func decoded(res *http.Response) {
	res.ContentLength = -1
	for _, name := range [...]string{"Content-Encoding", "Content-Length", "Accept-Ranges"} {
		delete(res.Header, name)
	}
	withoutChecksums(res.Header)
	for name := range res.Trailer {
		if isChecksum(name) {
			delete(res.Trailer, name)
		}
	}
	if tags := res.Header["Etag"]; len(tags) > 0 && !strings.HasPrefix(tags[0], "W/") {
		res.Header["Etag"] = []string{"W/" + tags[0]}
	}
}

func isChecksum(name string) bool {
	return slices.Contains(checksums, name) || strings.HasPrefix(name, "X-Amz-Checksum-")
}

func withoutChecksums(h http.Header) {
	for name := range h {
		if isChecksum(name) {
			delete(h, name)
		}
	}
}

// maxBehind is how many bytes behind the end of an encoded body are read to get at
// the trailers.
const maxBehind = 64 << 10

// responseBody is the scrubbed body of an answer, with all that is needed for it.
type responseBody struct {
	io.Reader
	s        *Scrubber
	res      *http.Response
	report   Report
	stream   Stream
	scrubbed Reader
	upstream io.ReadCloser
	over     bool
}

// Read implements io.Reader. At the end it scrubs the trailers.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && !b.over {
		b.over = true
		b.atEnd()
	}
	return n, err
}

func (b *responseBody) atEnd() {
	if b.report.Decoded {
		// A decoder knows where its part ends, and need not have read the end of
		// the body, which brings the trailers.
		_, _ = io.CopyN(io.Discard, b.upstream, maxBehind)
	}
	if b.report.Decoded || b.report.reader != nil && b.report.reader.Hits() != nil {
		withoutChecksums(b.res.Trailer)
	}
	b.report.header.Add(b.s.Header(b.res.Trailer))
}

// Close implements io.Closer. The decoders are left alone, as it may be called
// during a Read.
func (b *responseBody) Close() error { return b.upstream.Close() }

// errorReader is the end of a body that broke off.
type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }
