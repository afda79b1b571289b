package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"strings"

	"github.com/authsome/authsome"
)

// formatVersion is the first byte of everything sealed.
const formatVersion = 1

// seal encrypts with a random nonce: with 2^32 records under one key the chance
// of a repeat is below 2^-32 (NIST SP 800-38D, section 8.3).
func seal(aead cipher.AEAD, b authsome.Binding, plaintext []byte) []byte {
	n := 1 + aead.NonceSize()
	out := make([]byte, n, n+len(plaintext)+aead.Overhead())
	out[0] = formatVersion
	_, _ = rand.Read(out[1:]) // never fails (crypto/rand, Go 1.24)
	return aead.Seal(out, out[1:], plaintext, associated(b))
}

// unseal reads
//
//	0    1  formatVersion
//	1   12  nonce
//	13   n  AES-256-GCM ciphertext
//	 +  16  tag, over the ciphertext and associated
func unseal(aead cipher.AEAD, b authsome.Binding, sealed []byte) ([]byte, error) {
	n := 1 + aead.NonceSize()
	if len(sealed) < n+aead.Overhead() {
		return nil, unopened(b, "it is cut short")
	}
	if sealed[0] != formatVersion {
		return nil, unopened(b, "it is damaged, or a newer version of authsome wrote it")
	}
	plain, err := aead.Open(nil, sealed[1:n], sealed[n:], associated(b))
	if err != nil {
		return nil, unopened(b, "it was changed, or belongs elsewhere")
	}
	return plain, nil
}

// associated encodes a binding so that no two look alike: each text with its
// length before it, and all numbers big-endian.
func associated(b authsome.Binding) []byte {
	out := []byte{formatVersion}
	for _, s := range []string{b.Kind, b.Vault, b.User, b.Provider, b.Name} {
		out = binary.BigEndian.AppendUint64(out, uint64(len(s)))
		out = append(out, s...)
	}
	return binary.BigEndian.AppendUint64(out, uint64(b.Version))
}

// unopened names the record by its place, which is no secret.
func unopened(b authsome.Binding, why string) error {
	what := strings.Join(strings.Fields(b.Kind+" "+b.Provider), " ")
	if b.Name != "" {
		what += " (" + b.Name + ")"
	}
	e := authsome.E(authsome.VaultFailed, "open the sealed %s: %s", what, why)
	if b.Kind == "connection" {
		e.Provider = b.Provider
		return e.WithHint("put a copy of the database in its place, or log in again: authsome login %s --connection %s --force", b.Provider, b.Name)
	}
	return e.WithHint("stop the daemon and put a copy of the database in its place")
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, authsome.E(authsome.Internal, "prepare a key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, authsome.E(authsome.Internal, "prepare a key: %w", err)
	}
	return aead, nil
}
