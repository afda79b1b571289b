package truststore

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"os"
	"path/filepath"
)

// rootStore is the person's own list of roots: no administrator is needed,
// Windows asks the person itself, and other users are not touched.
type rootStore struct {
	h        *Host
	certutil string // Microsoft's, not NSS's
}

func (h *Host) system() []Store {
	exe := filepath.Join(h.Getenv("SystemRoot"), "System32", "certutil.exe")
	if _, err := os.Stat(exe); err != nil {
		return nil
	}
	return []Store{{Kind: System, Where: `CurrentUser\Root`, impl: &rootStore{h, exe}}}
}

// thumbprint is how Windows names a certificate.
func thumbprint(c Certificate) string {
	sum := sha1.Sum(c)
	return hex.EncodeToString(sum[:])
}

func (r *rootStore) has(ctx context.Context, certs []Certificate) ([]Certificate, error) {
	var there []Certificate
	for _, c := range certs {
		// It fails where there is none of that thumbprint.
		if _, err := r.h.Run(ctx, false, r.certutil, "-user", "-store", "Root", thumbprint(c)); err == nil {
			there = append(there, c)
		}
	}
	return there, ctx.Err()
}

func (r *rootStore) add(ctx context.Context, c Certificate) error {
	return inFile(c.pem(), func(path string) error {
		_, err := r.h.run(ctx, false, r.certutil, "-user", "-addstore", "Root", path)
		return err
	})
}

func (r *rootStore) remove(ctx context.Context, certs []Certificate) error {
	for _, c := range certs {
		if _, err := r.h.run(ctx, false, r.certutil, "-user", "-delstore", "Root", thumbprint(c)); err != nil {
			return err
		}
	}
	return nil
}
