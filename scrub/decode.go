package scrub

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxCodings is how many codings may lie on top of each other. No service
	// uses two; more are a way to waste a proxy's time.
	maxCodings = 2
	// maxZstdWindow is what decoders of zstd in HTTP have to support, and encoders
	// may not exceed (RFC 9659, section 3). It bounds the memory of a decoder.
	maxZstdWindow = 8 << 20
	readAhead     = 8 << 10
)

// ErrCoding means that a body is in a content coding that cannot be decoded, or
// in more than two.
var ErrCoding = errors.New("the content coding is not supported")

// codingsOf splits the values of a Content-Encoding. The coding that was applied
// last is the last one; "identity" is none.
func codingsOf(values []string) []string {
	var cs []string
	for _, v := range values {
		for c := range strings.SplitSeq(v, ",") {
			switch c = strings.ToLower(strings.Trim(c, " \t")); c {
			case "", "identity":
			case "x-gzip": // RFC 9110, section 8.4.1.3
				cs = append(cs, "gzip")
			default:
				cs = append(cs, c)
			}
		}
	}
	return cs
}

// decodable reports whether Decode knows the codings.
func decodable(codings []string) bool {
	for _, c := range codings {
		if c != "gzip" && c != "deflate" && c != "br" && c != "zstd" {
			return false
		}
	}
	return len(codings) <= maxCodings
}

// Decode reads r decoded. The codings are the value of a Content-Encoding: gzip,
// deflate (in zlib's wrapping or raw, since servers send both), br, zstd, two of
// these, or none. Others are ErrCoding.
//
// What has come is returned at once, as far as the encoder has flushed it. Memory
// is bounded: some tens of kilobytes, for br and zstd at most the window that the
// encoder chose, 16 and 8 MB. An empty body decodes to nothing. A body that breaks
// off is io.ErrUnexpectedEOF, behind all that could be decoded; what is corrupt is
// another error. Errors of r are returned as they are. Close, which may not be
// called during a Read, leaves r open.
func Decode(codings string, r io.Reader) (io.ReadCloser, error) {
	cs := codingsOf([]string{codings})
	if !decodable(cs) {
		return nil, fmt.Errorf("decode %q: %w", codings, ErrCoding)
	}
	return decode(cs, r), nil
}

// What a decoder takes, for accounts of memory. For br it is the window that
// encoders use unless they are told otherwise; RFC 7932 permits four times as much.
const (
	smallWindow  = 64 << 10
	brotliWindow = 4 << 20
)

// Window is about how much memory it takes to decode a body with this
// Content-Encoding, in bytes.
func Window(contentEncoding []string) int64 {
	if len(contentEncoding) == 0 {
		return 0
	}
	codings := codingsOf(contentEncoding)
	if !decodable(codings) {
		return 0
	}
	var n int64
	for _, c := range codings {
		switch c {
		case "br":
			n += brotliWindow
		case "zstd":
			n += maxZstdWindow
		default:
			n += smallWindow
		}
	}
	return n
}

// decode is Decode for codings that are known to be decodable.
func decode(codings []string, r io.Reader) io.ReadCloser {
	var all layers
	for i := len(codings) - 1; i >= 0; i-- {
		d := &layer{coding: codings[i], raw: source{r: r}}
		all = append(all, d)
		r = d
	}
	if len(all) == 0 {
		return io.NopCloser(r)
	}
	return all
}

// layers are the decoders of a body, the outermost coding first.
type layers []*layer

func (l layers) Read(p []byte) (int, error) { return l[len(l)-1].Read(p) }

func (l layers) Close() error {
	for _, d := range l {
		d.release()
	}
	return nil
}

// source remembers the error of a reader, to tell it from a decoder's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// layer takes one coding off.
type layer struct {
	coding string
	raw    source
	in     *bufio.Reader // of raw; nil before the first byte and when it is over
	dec    decoder       // nil before the first byte, and between members of gzip
	ended  bool          // a member of gzip has ended
	err    error
}

// decoder is what the packages for the codings have in common.
type decoder interface {
	io.Reader
	open(in *bufio.Reader) error
	pool() *sync.Pool
}

// Decoders are big: those that are not in use are kept for the next body.
var (
	inputs  = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readAhead) }}
	gzips   = sync.Pool{New: func() any { return &gzipDecoder{new(gzip.Reader)} }}
	zlibs   = sync.Pool{New: func() any { return new(zlibDecoder) }}
	flates  = sync.Pool{New: func() any { return &flateDecoder{flate.NewReader(nil)} }}
	brotlis = sync.Pool{New: func() any { return &brotliDecoder{brotli.NewReader(nil)} }}
	zstds   = sync.Pool{New: newZstd}
)

type gzipDecoder struct{ *gzip.Reader }

func (d *gzipDecoder) pool() *sync.Pool { return &gzips }

func (d *gzipDecoder) open(in *bufio.Reader) error {
	err := d.Reset(in)
	// Looking for another member would wait for bytes while the last ones of
	// this member are in hand.
	d.Multistream(false)
	return err
}

type zlibDecoder struct{ io.ReadCloser }

func (d *zlibDecoder) pool() *sync.Pool { return &zlibs }

func (d *zlibDecoder) open(in *bufio.Reader) (err error) {
	if d.ReadCloser == nil {
		d.ReadCloser, err = zlib.NewReader(in)
		return err
	}
	return d.ReadCloser.(zlib.Resetter).Reset(in, nil)
}

type flateDecoder struct{ io.ReadCloser }

func (d *flateDecoder) pool() *sync.Pool { return &flates }

func (d *flateDecoder) open(in *bufio.Reader) error {
	return d.ReadCloser.(flate.Resetter).Reset(in, nil)
}

type brotliDecoder struct{ *brotli.Reader }

func (d *brotliDecoder) pool() *sync.Pool { return &brotlis }

func (d *brotliDecoder) open(in *bufio.Reader) error { return d.Reset(in) }

type zstdDecoder struct{ *zstd.Decoder }

func (d *zstdDecoder) pool() *sync.Pool { return &zstds }

func (d *zstdDecoder) open(in *bufio.Reader) error { return d.Reset(in) }

func newZstd() any {
	// A concurrency of one means no goroutines, and that what a block holds is
	// returned before the next one is waited for.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		panic(err) // the options are constant
	}
	return &zstdDecoder{d}
}

func (l *layer) Read(p []byte) (int, error) {
	for l.err == nil && len(p) > 0 {
		if l.dec == nil {
			if err := l.open(); err != nil {
				l.err = l.cause(err)
				break
			}
		}
		n, err := l.dec.Read(p)
		switch {
		case err == io.EOF && l.coding == "gzip":
			l.put() // perhaps there is another member
			l.ended = true
		case err != nil:
			l.err = l.cause(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	if l.err != nil {
		l.release()
	}
	return 0, l.err
}

// open waits for the first bytes and takes the decoder for them. It returns io.EOF
// when nothing comes.
func (l *layer) open() error {
	if l.in == nil {
		l.in = inputs.Get().(*bufio.Reader)
		l.in.Reset(&l.raw)
	}
	head, err := l.in.Peek(2)
	if len(head) == 0 {
		return err
	}
	switch l.coding {
	case "gzip":
		if l.ended && (len(head) < 2 || head[0] != 0x1f || head[1] != 0x8b) {
			return io.EOF // padding; all but the strictest clients ignore it
		}
		l.dec = gzips.Get().(decoder)
	case "deflate":
		// RFC 1950, section 2.2: the method is 8, and the two bytes are a multiple
		// of 31. No raw stream of a usual encoder begins so.
		if len(head) == 2 && head[0]&15 == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			l.dec = zlibs.Get().(decoder)
		} else {
			l.dec = flates.Get().(decoder)
		}
	case "br":
		l.dec = brotlis.Get().(decoder)
	default:
		l.dec = zstds.Get().(decoder)
	}
	if err := l.dec.open(l.in); err == io.EOF {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	return nil
}

// cause says what an error of a decoder means.
func (l *layer) cause(err error) error {
	switch {
	case l.raw.err != nil:
		return l.raw.err
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return err
	}
	return fmt.Errorf("decode %s: %w", l.coding, err)
}

// put gives the decoder back.
func (l *layer) put() {
	if l.dec != nil {
		l.dec.pool().Put(l.dec)
		l.dec = nil
	}
}

// release ends the layer, whatever its state.
func (l *layer) release() {
	l.put()
	if l.in != nil {
		l.in.Reset(nil)
		inputs.Put(l.in)
		l.in = nil
	}
	if l.err == nil {
		l.err = io.ErrClosedPipe
	}
}
