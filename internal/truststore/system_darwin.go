package truststore

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"os"
	"path/filepath"
)

// keychain is the person's own: no root is needed, macOS asks the person itself,
// and other users of the machine are not touched.
type keychain struct {
	h        *Host
	security string
	path     string
}

func (h *Host) system() []Store {
	k := &keychain{h, program("security"), filepath.Join(h.Home, "Library", "Keychains", "login.keychain-db")}
	if _, err := os.Stat(k.path); err != nil || k.security == "" {
		return nil
	}
	return []Store{{Kind: System, Where: k.path, impl: k}}
}

func (k *keychain) has(ctx context.Context, certs []Certificate) ([]Certificate, error) {
	all, err := k.h.run(ctx, false, k.security, "find-certificate", "-a", "-p", k.path)
	if err != nil {
		return nil, err
	}
	var there []Certificate
	for _, c := range certs {
		if bytes.Contains(all, c.pem()) {
			there = append(there, c)
		}
	}
	return there, nil
}

func (k *keychain) add(ctx context.Context, c Certificate) error {
	return inFile(c.pem(), func(path string) error {
		_, err := k.h.run(ctx, false, k.security, "add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "-k", k.path, path)
		return err
	})
}

func (k *keychain) remove(ctx context.Context, certs []Certificate) error {
	for _, c := range certs {
		err := inFile(c.pem(), func(path string) error {
			_, err := k.h.run(ctx, false, k.security, "remove-trusted-cert", path)
			return err
		})
		if err != nil {
			return err
		}
		sum := sha1.Sum(c) // how security(1) names a certificate, on every version
		if _, err := k.h.run(ctx, false, k.security, "delete-certificate", "-Z", hex.EncodeToString(sum[:]), k.path); err != nil {
			return err
		}
	}
	return nil
}
