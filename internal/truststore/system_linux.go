package truststore

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
)

// anchors is how a family of distributions takes a root: a file in a directory,
// and a program that makes bundles of those.
type anchors struct {
	dir, suffix string
	update      []string
	fresh       string // an argument for update after a removal; "" is none
	bundle      string // what update writes
}

// families are told apart by their directory: Fedora and RHEL, openSUSE, Arch,
// then Debian, Ubuntu and Alpine.
var families = []anchors{
	{"/etc/pki/ca-trust/source/anchors", ".pem", []string{"update-ca-trust", "extract"}, "", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
	{"/usr/share/pki/trust/anchors", ".pem", []string{"update-ca-certificates"}, "", "/var/lib/ca-certificates/ca-bundle.pem"},
	{"/etc/ca-certificates/trust-source/anchors", ".crt", []string{"update-ca-trust"}, "", "/etc/ca-certificates/extracted/tls-ca-bundle.pem"},
	// Without --fresh, links to what was removed stay in /etc/ssl/certs.
	{"/usr/local/share/ca-certificates", ".crt", []string{"update-ca-certificates"}, "--fresh", "/etc/ssl/certs/ca-certificates.crt"},
}

// systemStore is the store of a Linux distribution.
type systemStore struct {
	h *Host
	anchors
	root bool
}

func (h *Host) system() []Store {
	for _, f := range families {
		if fi, err := os.Stat(f.dir); err != nil || !fi.IsDir() {
			continue
		}
		root := os.Geteuid() != 0
		s := Store{Kind: System, Where: f.dir, Root: root}
		f.update = append([]string{program(f.update[0])}, f.update[1:]...)
		if f.update[0] == "" {
			s.Lacks = "the program that reads it is not installed: it is in the package ca-certificates"
		}
		s.impl = &systemStore{h, f, root}
		return []Store{s}
	}
	return nil
}

func (s *systemStore) file(c Certificate) string { return filepath.Join(s.dir, c.Name()+s.suffix) }

// has looks for the file as well as in the bundle: either may be what is left of
// an update that broke off.
func (s *systemStore) has(_ context.Context, certs []Certificate) ([]Certificate, error) {
	bundle, err := os.ReadFile(s.bundle)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var there []Certificate
	for _, c := range certs {
		if s.holds(c) || bytes.Contains(bundle, c.pem()) {
			there = append(there, c)
		}
	}
	return there, nil
}

// holds reports whether the file of a certificate is there and holds it.
func (s *systemStore) holds(c Certificate) bool {
	data, err := os.ReadFile(s.file(c))
	if err != nil {
		return false
	}
	is, err := Parse(string(data))
	return err == nil && bytes.Equal(is, c)
}

func (s *systemStore) add(ctx context.Context, c Certificate) error {
	err := inFile(c.pem(), func(path string) error {
		_, err := s.h.run(ctx, s.root, program("install"), "-m", "0644", path, s.file(c))
		return err
	})
	if err == nil {
		_, err = s.h.run(ctx, s.root, s.update...)
	}
	return err
}

func (s *systemStore) remove(ctx context.Context, certs []Certificate) error {
	rm := []string{program("rm"), "-f", "--"}
	for _, c := range certs {
		if s.holds(c) {
			rm = append(rm, s.file(c))
		}
	}
	if len(rm) > 3 {
		if _, err := s.h.run(ctx, s.root, rm...); err != nil {
			return err
		}
	}
	update := s.update
	if s.fresh != "" {
		update = append(update[:len(update):len(update)], s.fresh)
	}
	_, err := s.h.run(ctx, s.root, update...)
	return err
}
