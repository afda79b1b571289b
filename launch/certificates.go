package launch

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// pemSet is a set of certificates as PEM text, each once.
type pemSet struct {
	text  text
	count int
	seen  map[uint64][]byte // DER's hash → its Base64, which is in memory anyway
	der   []byte            // of the last one, and room for the next
	java  *keyStore         // gets them as well; nil without a JVM
	vouch bool              // the system has made sure that they can be parsed
}

// seed is for the hashes of pemSet.
var seed = maphash.MakeSeed()

// text is a file's content in parts. They lie in what was read where that can
// be: most systems keep their roots as they are written here, so that nothing
// is copied.
type text [][]byte

// add appends b, which nobody changes any more.
func (t *text) add(b []byte) {
	if len(b) == 0 {
		return
	}
	if n := len(*t); n > 0 {
		last := (*t)[n-1]
		if size := len(last) + len(b); size <= cap(last) && &last[:size][len(last)] == &b[0] {
			(*t)[n-1] = last[:size] // b lies right behind it
			return
		}
	}
	*t = append(*t, b)
}

// size is in bytes.
func (t text) size() (n int) {
	for _, part := range t {
		n += len(part)
	}
	return n
}

// writeTo writes it, without its first skip bytes. A hash takes all.
func (t text) writeTo(w io.Writer, skip int) error {
	for _, part := range t {
		n := min(skip, len(part))
		skip -= n
		if _, err := w.Write(part[n:]); err != nil {
			return err
		}
	}
	return nil
}

// addPath adds the certificates of a file, or of the files of a directory, and
// returns how many it holds. A file without any is an error.
func (s *pemSet) addPath(path string) (int, error) {
	s.vouch = slices.Contains(systemFiles, path) || slices.Contains(systemDirs, path)
	defer func() { s.vouch = false }()
	data, err := readRegular(path, maxRoots)
	if errors.Is(err, errDirectory) {
		return s.addDir(path)
	}
	if err != nil {
		return 0, err
	}
	n, broken := s.addPEM(data)
	switch {
	case n > 0:
		return n, nil
	case broken > 0:
		return 0, errors.New("its certificates are broken")
	default:
		return 0, errors.New("it holds no certificate")
	}
}

func (s *pemSet) addDir(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, reason(err)
	}
	total := 0
	for _, e := range entries[:min(len(entries), maxRootFiles)] {
		if data, err := readRegular(filepath.Join(dir, e.Name()), maxRoots); err == nil && s.text.size() < maxRoots {
			n, _ := s.addPEM(data)
			total += n
		}
	}
	if total == 0 {
		return 0, errors.New("it holds no certificate")
	}
	return total, nil
}

var (
	pemBegin = []byte("-----BEGIN CERTIFICATE-----")
	pemEnd   = []byte("-----END CERTIFICATE-----")
)

// addPEM adds the certificates of PEM text, which nobody changes any more, and
// returns how many there are, and how many cannot be read. Only CERTIFICATE
// blocks are taken, so that no key that lies beside them is copied. Each is
// decoded: a block that is not what it seems, which makes OpenSSL refuse the
// whole file, does not get in.
//
// encoding/pem would take three times as long, and this is on the way of every
// start.
func (s *pemSet) addPEM(data []byte) (n, broken int) {
	for {
		i := bytes.Index(data, pemBegin)
		if i < 0 {
			return n, broken
		}
		data = data[i:]
		lines := data[len(pemBegin):]
		j := bytes.Index(lines, pemEnd)
		if j < 0 {
			return n, broken + 1
		}
		lines = lines[:j]
		if k := bytes.Index(lines, pemBegin); k >= 0 {
			broken++ // one that does not end before the next begins
			data = data[len(pemBegin)+k:]
			continue
		}
		block := data[:len(pemBegin)+j+len(pemEnd)]
		data = data[len(block):]
		if len(data) > 0 && data[0] == '\n' {
			block, data = block[:len(block)+1], data[1:]
		}
		body := lines
		if hasByte(lines, ' ', '\t') {
			body = bytes.Join(bytes.Fields(lines), nil)
		}
		if s.der = decode(s.der, body); s.der == nil {
			broken++
			continue
		}
		n++
		if s.isNew(s.der, body) {
			s.write(s.der, lines, block)
			if s.java != nil {
				s.java.add(s.der, s.vouch)
			}
		}
	}
}

// decode writes over dst the DER of a certificate, given as Base64 in lines; it
// is nil when it is none.
func decode(dst, body []byte) []byte {
	if n := base64.StdEncoding.DecodedLen(len(body)); cap(dst) < n {
		dst = make([]byte, 2*n)
	}
	n, err := base64.StdEncoding.Strict().Decode(dst[:cap(dst)], body) // passes over line ends
	if err != nil || !isSequence(dst[:n]) {
		return nil
	}
	return dst[:n]
}

// isNew remembers a certificate, and reports whether there was none like it.
func (s *pemSet) isNew(der, body []byte) bool {
	if s.seen == nil {
		s.seen = make(map[uint64][]byte, 256)
	}
	for sum := maphash.Bytes(seed, der); ; sum++ {
		was, taken := s.seen[sum]
		switch {
		case !taken:
			s.seen[sum] = body
			return true
		case bytes.Equal(decode(nil, was), der):
			return false
		}
	}
}

// write adds one certificate to the text: its block as it is where it has the
// usual form, which is faster than making it.
func (s *pemSet) write(der, lines, block []byte) {
	s.count++
	if usualLines(lines) {
		s.text.add(block)
		if block[len(block)-1] != '\n' {
			s.text.add([]byte{'\n'})
		}
		return
	}
	var b bytes.Buffer
	b.Write(pemBegin)
	b.WriteByte('\n')
	for body := base64.StdEncoding.AppendEncode(nil, der); len(body) > 0; {
		n := min(64, len(body))
		b.Write(body[:n])
		b.WriteByte('\n')
		body = body[n:]
	}
	b.Write(pemEnd)
	b.WriteByte('\n')
	s.text.add(b.Bytes())
}

// usualLines reports whether Base64 stands in lines of 64 characters, each with
// a line feed at its end, and one in front of the first (RFC 7468 section 3).
func usualLines(block []byte) bool {
	if len(block) < 2 || block[0] != '\n' || block[len(block)-1] != '\n' {
		return false
	}
	lines := 1
	for rest := block[1:]; len(rest) > 65; rest = rest[65:] {
		if rest[64] != '\n' {
			return false
		}
		lines++
	}
	return bytes.Count(block, []byte{'\n'}) == lines+1 && !hasByte(block, '\r', ' ', '\t')
}

// hasByte is bytes.ContainsAny, ten times as fast for a few bytes.
func hasByte(b []byte, any ...byte) bool {
	return slices.ContainsFunc(any, func(c byte) bool { return bytes.IndexByte(b, c) >= 0 })
}

// isSequence reports whether der is exactly one ASN.1 SEQUENCE, as every
// certificate is (X.690 section 8.9); what is inside is for the clients.
func isSequence(der []byte) bool {
	if len(der) < 4 || der[0] != 0x30 || der[1] < 0x81 || der[1] > 0x84 {
		return false // a certificate never fits into the short form's 127 bytes
	}
	size, head := 0, 2+int(der[1]&0x7f)
	if len(der) < head {
		return false
	}
	for _, b := range der[2:head] {
		size = size<<8 | int(b)
	}
	return size == len(der)-head
}

var errDirectory = errors.New("it is a directory")

// readRegular reads a whole file, whatever a variable leads to: it does not
// wait for the other end of a pipe, and does not read without end.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := openNonblocking(path)
	if err != nil {
		return nil, reason(err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, reason(err)
	case fi.IsDir():
		return nil, errDirectory
	case !fi.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case fi.Size() > limit:
		return nil, fmt.Errorf("it is larger than %d MB", limit>>20)
	}
	data := make([]byte, fi.Size(), fi.Size()+1)
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, reason(err)
	}
	return data[:n], nil
}

// reason is an error without the path that everybody knows.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
