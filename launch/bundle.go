package launch

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// The files of a bundle, in a directory named by their content:
//
//	<cache>/authsome/trust/<16 hex of SHA-256>/
//	    bundle.pem        the person's roots, or the system's, and ours
//	    ca.pem            ours, and what the person adds to Node's and Deno's
//	    wgetrc            the person's settings and ca_certificate
//	    php/authsome.ini  curl.cainfo and openssl.cafile
//	    trust.jks         the same as bundle.pem for Java, where there is one
//	    node.cjs, python  the shims of shims.go
//
// Nothing in it is secret. It is made anew in memory at each run and compared
// with what lies there, byte for byte: the runs of the same uid could have
// changed it. That costs less than a millisecond, and no index can go stale.
const (
	trustDir   = "trust"
	bundleFile = "bundle.pem"
	caFile     = "ca.pem"
	wgetrcFile = "wgetrc"
	phpDir     = "php"
	phpFile    = "authsome.ini"
)

const (
	// maxRoots bounds one file of certificates. Debian's has 220 kB.
	maxRoots = 8 << 20
	// maxWgetrc bounds a wgetrc.
	maxWgetrc = 256 << 10
	// maxRootFiles bounds the files that are read of one directory.
	maxRootFiles = 4096
	// keepUnused is how long a bundle that no run uses is kept.
	keepUnused = 7 * 24 * time.Hour
)

// Roots are the certificates that the person's programs trust today, as far as
// files and variables say.
type Roots struct {
	// Warnings are about presets that could not be used, for people.
	Warnings []string

	bundle pemSet // what replaces a client's own roots
	extra  pemSet // what is read beside them
	wgetrc []byte

	// sum is of the first summed bytes of the bundle: all that are known before
	// there is a grant.
	sum    hash.Hash
	summed int
}

// GatherRoots reads the roots. It needs no grant, so it can run while one is
// asked for.
//
// SSL_CERT_FILE is the person's word on what the roots are: where it is set and
// can be read, the system's are left out. The files of all other trust
// variables are added, since the root of a company's network may stand in any
// of them.
func GatherRoots(environ []string, goos string) *Roots {
	env := parse(environ, goos)
	r := &Roots{}
	if findJava(env, goos) {
		r.bundle.java = new(keyStore)
	}
	read := map[string]bool{}
	add := func(set *pemSet, name string) bool {
		path, ok := env.get(name)
		if !ok || path == "" {
			return false
		}
		if read[path] && set == &r.bundle {
			return true
		}
		n, err := set.addPath(path)
		if err != nil {
			r.warn("%s=%s cannot be used: %v", name, path, err)
			return false
		}
		read[path] = read[path] || set == &r.bundle
		return n > 0
	}
	if !add(&r.bundle, "SSL_CERT_FILE") {
		r.addSystem()
	}
	if dirs, ok := env.get("SSL_CERT_DIR"); ok {
		for _, dir := range filepath.SplitList(dirs) {
			// The system's own directories hold what its file holds, and the child
			// goes on reading them.
			if dir == "" || slices.Contains(systemDirs, filepath.Clean(dir)) {
				continue
			}
			if _, err := r.bundle.addPath(dir); err != nil {
				r.warn("SSL_CERT_DIR=%s cannot be used: %v", dir, err)
			}
		}
	}
	for _, name := range slices.Concat(replacing[1:], otherSpellings) {
		add(&r.bundle, name)
	}
	for _, name := range appending {
		// First for themselves, then for all.
		if add(&r.extra, name) {
			add(&r.bundle, name)
		}
	}
	if r.bundle.count == 0 {
		r.warn("no roots were found on this system: set SSL_CERT_FILE to a file of certificates, or the child will trust nothing but routed hosts")
	}
	r.readWgetrc(env)
	r.sum, r.summed = sha256.New(), r.bundle.text.size()
	_ = r.bundle.text.writeTo(r.sum, 0)
	return r
}

func (r *Roots) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// addSystem adds the roots of the system: the first standard file that has any,
// else the standard directories, else what the system says by other means.
func (r *Roots) addSystem() {
	for _, path := range systemFiles {
		if n, err := r.bundle.addPath(path); err == nil && n > 0 {
			break
		}
	}
	if r.bundle.count == 0 {
		for _, dir := range systemDirs {
			if n, err := r.bundle.addPath(dir); err == nil && n > 0 {
				break
			}
		}
	}
	if err := addSystemStore(&r.bundle); err != nil {
		r.warn("the system's certificate store cannot be read: %v", err)
	}
}

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

// wgetDropped are the settings of a wgetrc that are not taken over: those that
// would go round the proxy, those that we set, and passwords, which have no
// business in a cache. wget reads names without regard to case, "-" and "_".
var wgetDropped = []string{
	"httpproxy", "httpsproxy", "noproxy", "useproxy", "proxyuser", "proxypassword", "proxypasswd",
	"cacertificate", "cadirectory", "password", "httppassword", "httppasswd", "ftppassword", "ftppasswd", "user", "httpuser", "ftpuser",
}

// readWgetrc takes the person's own settings over, since WGETRC replaces their
// file and cannot include it. wget goes on reading the system's.
func (r *Roots) readWgetrc(env *variables) {
	path, preset := env.get("WGETRC")
	if path == "" {
		home, _ := env.get("HOME")
		if home == "" {
			return
		}
		path = filepath.Join(home, ".wgetrc")
	}
	data, err := readRegular(path, maxWgetrc)
	if err != nil {
		if preset || !errors.Is(err, fs.ErrNotExist) {
			r.warn("the wget settings in %s cannot be used: %v", path, err)
		}
		return
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, "=")
		name = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(strings.TrimSpace(name)))
		if slices.Contains(wgetDropped, name) {
			if strings.Contains(name, "pass") {
				r.warn("%s: a password for wget is not passed on to the child", path)
			}
			continue
		}
		out.WriteString(strings.TrimRight(line, "\r\n") + "\n")
	}
	r.wgetrc = out.Bytes()
}

// Trust is a bundle on disk, in use until Release.
type Trust struct {
	dir  string
	java bool      // there is a JVM, and a trust store for it
	lock io.Closer // nil where there is none
}

// Dir holds the files. Their names have no meaning for anybody but the
// variables of Environment.
func (t *Trust) Dir() string { return t.dir }

// Bundle is the file of all roots, ours among them.
func (t *Trust) Bundle() string { return filepath.Join(t.dir, bundleFile) }

// Authority is the file of our root alone, but for what the person adds.
func (t *Trust) Authority() string { return filepath.Join(t.dir, caFile) }

// Wgetrc is the settings file for wget.
func (t *Trust) Wgetrc() string { return filepath.Join(t.dir, wgetrcFile) }

// PHP is the directory for PHP_INI_SCAN_DIR.
func (t *Trust) PHP() string { return filepath.Join(t.dir, phpDir) }

// Release says that the run is over. The files stay for the next one.
func (t *Trust) Release() {
	if t.lock != nil {
		_ = t.lock.Close()
	}
}

// TrustDir is where bundles are kept.
func TrustDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", authsome.E(authsome.Invalid, "write the child's certificates: there is no cache directory: %w", err).
			WithHint("set HOME, or XDG_CACHE_HOME to a directory of yours")
	}
	return filepath.Join(cache, "authsome", trustDir), nil
}

// Write makes the bundle of these roots and ca, the proxy's own root in PEM,
// under base, or takes the one that is there and is right. It is called once.
func (r *Roots) Write(base string, ca []byte) (*Trust, error) {
	if n, broken := r.bundle.addPEM(ca); n == 0 || broken > 0 {
		return nil, authsome.E(authsome.Internal, "write the child's certificates: the daemon gave no root certificate").
			WithHint("authsome doctor")
	}
	r.extra.addPEM(ca)
	_ = r.bundle.text.writeTo(r.sum, r.summed)
	_ = r.extra.text.writeTo(r.sum, 0)
	fmt.Fprintf(r.sum, "%s%d %d", r.wgetrc, r.bundle.text.size(), r.extra.text.size())
	fixed := fixedFiles()
	for _, f := range fixed {
		_ = f.data.writeTo(r.sum, 0)
	}
	if r.bundle.java != nil {
		r.sum.Write([]byte("java"))
	}
	t := &Trust{dir: filepath.Join(base, hex.EncodeToString(r.sum.Sum(nil))[:16]), java: r.bundle.java != nil}
	files := []trustFile{
		{bundleFile, r.bundle.text},
		{caFile, r.extra.text},
		{wgetrcFile, text{r.wgetrc, []byte("ca_certificate=" + t.Bundle() + "\n")}},
		{filepath.Join(phpDir, phpFile), text{fmt.Appendf(nil, "curl.cainfo=%q\nopenssl.cafile=%q\n", t.Bundle(), t.Bundle())}},
	}
	files = append(files, fixed...)
	if r.bundle.java != nil {
		files = append(files, trustFile{javaFile, text{r.bundle.java.bytes()}})
	}
	for attempt := 0; ; attempt++ {
		err := t.use(base, files)
		if err == nil {
			return t, nil
		}
		// Another run may be sweeping this very directory away.
		if attempt == 3 || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errSwept) {
			return nil, authsome.E(authsome.Invalid, "write the child's certificates to %s: %w", t.dir, reason(err)).
				WithHint("set XDG_CACHE_HOME to a directory that you can write")
		}
		time.Sleep(time.Duration(attempt) * 5 * time.Millisecond)
	}
}

var errSwept = errors.New("it is being removed")

type trustFile struct {
	name string
	data text
}

// use checks the files of a bundle, writes what is missing or different, and
// holds the directory.
func (t *Trust) use(base string, files []trustFile) error {
	fresh := false
	for _, dir := range []string{base, t.dir, t.PHP(), t.Python()} {
		made, err := privateDir(dir)
		if err != nil {
			return err
		}
		fresh = fresh || made
	}
	lock, err := lockShared(t.dir)
	if err != nil {
		return err
	}
	t.lock = lock
	// What a Python has compiled counts for the next instead of the file beside
	// it, and nobody compares it.
	_ = os.RemoveAll(filepath.Join(t.Python(), "__pycache__"))
	for _, f := range files {
		path := filepath.Join(t.dir, f.name)
		if same(path, f.data) {
			continue
		}
		if err := replaceFile(path, f.data); err != nil {
			t.Release()
			return err
		}
	}
	// The time of the last use decides what sweep removes.
	now := time.Now()
	_ = os.Chtimes(t.dir, now, now)
	if fresh {
		sweep(base, t.dir, now)
	}
	return nil
}

// privateDir makes a directory of the user's own, or makes sure that it is one.
// What stands in its place is removed: it lies in a cache.
func privateDir(dir string) (made bool, err error) {
	fi, err := os.Lstat(dir)
	if err == nil && !fi.IsDir() {
		if err := os.Remove(dir); err != nil {
			return false, err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true, os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return false, err
	}
	if !ownDir(fi) {
		return false, fmt.Errorf("%s belongs to another user", dir)
	}
	if fi.Mode().Perm() != 0o700 {
		return false, os.Chmod(dir, 0o700)
	}
	return false, nil
}

// same reports whether a file is a regular one, for the user alone, with
// exactly this content.
func same(path string, data text) bool {
	size := data.size()
	fi, err := os.Lstat(path)
	if err != nil || !fi.Mode().IsRegular() || !privateFile(fi) || fi.Size() != int64(size) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	// In pieces: memory that is touched for the first time costs more than the
	// comparison.
	piece := make([]byte, min(size+1, 32<<10))
	for _, part := range data {
		for len(part) > 0 {
			n, err := f.Read(piece[:min(len(piece), len(part))])
			if err != nil || !bytes.Equal(piece[:n], part[:n]) {
				return false
			}
			part = part[n:]
		}
	}
	n, err := f.Read(piece[:1])
	return n == 0 && errors.Is(err, io.EOF)
}

// replaceFile puts a file in place whole, whoever reads the old one.
func replaceFile(path string, data text) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = data.writeTo(f, 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if fi, lerr := os.Lstat(path); lerr == nil && fi.IsDir() {
		_ = os.RemoveAll(path)
	}
	return os.Rename(f.Name(), path)
}

// sweep removes the bundles beside keep that no run holds and none has used for
// a while. It is done when a new one is made, which is seldom.
func sweep(base, keep string, now time.Time) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		dir := filepath.Join(base, e.Name())
		fi, err := e.Info()
		if err != nil || dir == keep || !e.IsDir() || len(e.Name()) != 16 || now.Sub(fi.ModTime()) < keepUnused {
			continue
		}
		lock, ok := lockAlone(dir)
		if !ok {
			continue
		}
		// Under the lock: a run may have begun to use it since it was listed.
		if fi, err := os.Lstat(dir); err == nil && now.Sub(fi.ModTime()) >= keepUnused {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}
