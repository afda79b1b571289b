// Package truststore puts certificates into the places where programs look for
// roots, takes them out again, and says where they are:
//
//	system_*.go  the operating system's store
//	nss.go       the databases of Firefox and Chromium
//	java.go      the key stores of Java virtual machines
//
// It does so by the tools that each of them documents. The library for this,
// github.com/smallstep/truststore, was tried first. It has no way to say where a
// certificate is; it removes by asking whether the certificate verifies, so that
// one which has expired stays; it reports success where a profile of several
// failed; and it keeps its settings in globals that are read when the program
// starts. Its last release is of 2023.
//
// A certificate of ours bears a name that is made from its fingerprint, and is
// compared whole before it is removed, so that nothing else is ever touched.
package truststore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kind is a kind of store.
type Kind string

// The kinds.
const (
	System Kind = "system"
	NSS    Kind = "nss"
	Java   Kind = "java"
)

// Kinds are all of them, in the order in which they are dealt with: on Debian
// the system's tool writes Java's store as well.
var Kinds = []Kind{System, NSS, Java}

// Certificate is the DER of one.
type Certificate []byte

// Parse reads one certificate in PEM.
func Parse(text string) (Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a certificate in PEM")
	}
	return block.Bytes, nil
}

// Name is what it is called in stores: "authsome-" and the first 16 hex digits
// of its fingerprint.
func (c Certificate) Name() string { return "authsome-" + c.Fingerprint()[:16] }

// Fingerprint is its SHA-256, in lower-case hex.
func (c Certificate) Fingerprint() string {
	sum := sha256.Sum256(c)
	return hex.EncodeToString(sum[:])
}

func (c Certificate) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})
}

// Run runs a program, as root where it has to be, and returns what it printed
// to both streams.
type Run func(ctx context.Context, root bool, argv ...string) ([]byte, error)

// Host is where stores are looked for.
type Host struct {
	// Home is the person's home directory.
	Home string
	// Getenv reads the environment.
	Getenv func(string) string
	// Run runs the tools.
	Run Run
}

// Store is one place where programs look for roots.
type Store struct {
	Kind Kind
	// Where is its directory or file.
	Where string
	// Root says that to change it this process needs rights that it has not.
	Root bool
	// Lacks says what must be there for the store to be read or changed, for
	// people; "" when nothing is missing.
	Lacks string

	impl implementation
}

// implementation is what the kinds differ in.
type implementation interface {
	// has returns which of certs are there.
	has(ctx context.Context, certs []Certificate) ([]Certificate, error)
	add(ctx context.Context, c Certificate) error
	// remove is only called for what has returned.
	remove(ctx context.Context, certs []Certificate) error
}

// Find returns every store that there is.
func (h *Host) Find() []Store {
	return slices.Concat(h.system(), h.nss(), h.java())
}

// Has returns which of certs are in the store.
func (s *Store) Has(ctx context.Context, certs []Certificate) ([]Certificate, error) {
	switch {
	case len(certs) == 0:
		return nil, nil
	case s.Lacks != "":
		return nil, errors.New(s.Lacks)
	}
	return s.impl.has(ctx, certs)
}

// Install makes c the only one of certs in the store: it adds it, if it is not
// there, then takes the others out. It reports whether something was changed.
func (s *Store) Install(ctx context.Context, c Certificate, certs []Certificate) (changed bool, err error) {
	there, err := s.Has(ctx, append(slices.Clone(certs), c))
	if err != nil {
		return false, err
	}
	old := slices.DeleteFunc(slices.Clone(there), func(o Certificate) bool { return bytes.Equal(o, c) })
	if len(old) == len(there) {
		if err := s.impl.add(ctx, c); err != nil {
			return false, err
		}
		now, err := s.impl.has(ctx, []Certificate{c})
		switch {
		case err != nil:
			return true, err
		case len(now) == 0:
			return true, errors.New("it was added without an error, and is not there")
		}
		changed = true
	}
	if len(old) > 0 {
		return true, s.remove(ctx, old)
	}
	return changed, nil
}

// Uninstall takes certs out of the store, and reports whether any was there.
func (s *Store) Uninstall(ctx context.Context, certs []Certificate) (changed bool, err error) {
	there, err := s.Has(ctx, certs)
	if err != nil || len(there) == 0 {
		return false, err
	}
	return true, s.remove(ctx, there)
}

func (s *Store) remove(ctx context.Context, certs []Certificate) error {
	if err := s.impl.remove(ctx, certs); err != nil {
		return err
	}
	left, err := s.impl.has(ctx, certs)
	if err == nil && len(left) > 0 {
		err = errors.New("it was removed without an error, and is still there")
	}
	return err
}

// program finds one where systems keep theirs, wherever PATH leads: as root, it
// would be a way in.
func program(name string, more ...string) string {
	for _, dir := range append([]string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin", "/opt/homebrew/bin"}, more...) {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// inFile gives f a private file with these contents.
func inFile(data []byte, f func(path string) error) error {
	dir, err := os.MkdirTemp("", "authsome-ca-") // 0700
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return f(path)
}

// failure names the program and the last thing that it said.
func failure(argv []string, out []byte, err error) error {
	said := ""
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			said = ": " + line
		}
	}
	return fmt.Errorf("%s: %w%s", filepath.Base(argv[0]), err, said)
}

// run runs a tool and words its failure.
func (h *Host) run(ctx context.Context, root bool, argv ...string) ([]byte, error) {
	if argv[0] == "" {
		return nil, errors.New("a program that comes with every system is missing")
	}
	out, err := h.Run(ctx, root, argv...)
	if err != nil {
		return out, failure(argv, out, err)
	}
	return out, nil
}
