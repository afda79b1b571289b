package launch

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
