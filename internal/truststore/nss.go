package truststore

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
)

// profiles are where programs keep their NSS databases, below the home
// directory: Firefox as such, from snap and flatpak, and on macOS; Chromium, old
// and new, and from snap. Only databases that exist are used: a program makes its
// own at its first start.
var profiles = []string{
	".mozilla/firefox/*",
	"snap/firefox/common/.mozilla/firefox/*",
	".var/app/org.mozilla.firefox/.mozilla/firefox/*",
	"Library/Application Support/Firefox/Profiles/*",
	".pki/nssdb",
	".local/share/pki/nssdb",
	"snap/chromium/current/.pki/nssdb",
}

// nssStore is one database: cert9.db of NSS 3.12 and later.
type nssStore struct {
	h        *Host
	certutil string
	db       string // "sql:" and the directory
}

func (h *Host) nss() []Store {
	if runtime.GOOS == "windows" || h.Home == "" {
		return nil // Firefox reads the system's store there
	}
	certutil := program("certutil", "/opt/homebrew/opt/nss/bin", "/usr/local/opt/nss/bin")
	lacks := ""
	if certutil == "" {
		lacks = "NSS's certutil is not installed: it is in the package libnss3-tools, nss-tools or nss"
	}
	var out []Store
	for _, pattern := range profiles {
		found, _ := filepath.Glob(filepath.Join(escapeGlob(h.Home), pattern, "cert9.db")) // only the pattern could be wrong
		for _, file := range found {
			dir := filepath.Dir(file)
			out = append(out, Store{Kind: NSS, Where: dir, Lacks: lacks, impl: &nssStore{h, certutil, "sql:" + dir}})
		}
	}
	return out
}

// escapeGlob quotes what filepath.Glob would take for a pattern.
func escapeGlob(path string) string {
	return regexp.MustCompile(`[][*?\\]`).ReplaceAllString(path, `\$0`)
}

// nickname is a line of certutil -L: a name and three sets of trust flags.
var nickname = regexp.MustCompile(`(?m)^(authsome-[0-9a-f]{16}) +[a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]* *$`)

func (s *nssStore) has(ctx context.Context, certs []Certificate) ([]Certificate, error) {
	list, err := s.h.run(ctx, false, s.certutil, "-L", "-d", s.db)
	if err != nil {
		return nil, err
	}
	var there []Certificate
	for _, m := range nickname.FindAllSubmatch(list, -1) {
		name := string(m[1])
		i := slices.IndexFunc(certs, func(c Certificate) bool { return c.Name() == name })
		if i < 0 {
			continue
		}
		out, err := s.h.run(ctx, false, s.certutil, "-L", "-d", s.db, "-n", name, "-a")
		if err != nil {
			return nil, err
		}
		if c, err := Parse(string(out)); err == nil && bytes.Equal(c, certs[i]) {
			there = append(there, certs[i])
		}
	}
	return there, nil
}

func (s *nssStore) add(ctx context.Context, c Certificate) error {
	return inFile(c.pem(), func(path string) error {
		// C: trusted to sign for servers, and for nothing else.
		_, err := s.h.run(ctx, false, s.certutil, "-A", "-d", s.db, "-t", "C,,", "-n", c.Name(), "-i", path)
		return err
	})
}

func (s *nssStore) remove(ctx context.Context, certs []Certificate) error {
	for _, c := range certs {
		if _, err := s.h.run(ctx, false, s.certutil, "-D", "-d", s.db, "-n", c.Name()); err != nil {
			return err
		}
	}
	return nil
}
