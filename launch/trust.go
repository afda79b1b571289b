package launch

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/authsome/authsome"
)

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
