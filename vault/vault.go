// Package vault seals records. A random data key encrypts them; a master key,
// kept elsewhere, wraps the data key. What is sealed opens only in the place
// that it was sealed for, because its authsome.Binding is the associated data.
package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/authsome/authsome"
)

// Headers stores what a vault keeps about itself; package store implements it.
type Headers interface {
	// VaultHeader returns nil, nil when the vault was not made yet.
	VaultHeader(ctx context.Context, id string) ([]byte, error)
	// CreateVaultHeader fails when there is a header already.
	CreateVaultHeader(ctx context.Context, id string, header []byte) error
}

// Config is what Open needs.
type Config struct {
	// Home is the directory of the key file.
	Home string
	// Getenv reads the environment; AUTHSOME_MASTER_KEY, AUTHSOME_MASTER_KEY_FILE
	// and AUTHSOME_KEYRING ("off" leaves the keyring out when a vault is made).
	Getenv func(string) string
	// Keyring is the OS keyring; nil means that there is none.
	Keyring Keyring
	Headers Headers
}

// header is stored beside the records, as JSON. It holds no secret: the data
// key in it is wrapped.
type header struct {
	Version int       `json:"v"`      // 1
	Source  string    `json:"source"` // where the master key is
	Created time.Time `json:"created_at"`
	// Wrapped is the data key, sealed by the master key under the binding
	// {Kind: "data-key", Vault, Name: Source}.
	Wrapped []byte `json:"wrapped_key"`
}

// Vault seals and opens. It may be used from any goroutine.
type Vault struct {
	source string
	aead   cipher.AEAD
}

const keyBytes = 32 // AES-256

// Open opens the vault of a home, or makes it when there is none. Where the
// master key comes from is decided when the vault is made, and recorded; after
// that a missing or wrong key is an error, never a new vault.
func Open(ctx context.Context, c Config) (*Vault, error) {
	raw, err := c.Headers.VaultHeader(ctx, authsome.LocalVault)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return create(ctx, c)
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil || h.Version != 1 {
		return nil, authsome.E(authsome.VaultFailed, "open the vault: its header is damaged, or of a newer version").
			WithHint("run the version of authsome that wrote it")
	}
	master, err := readMaster(c, h.Source)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	return unwrap(h, master)
}

func create(ctx context.Context, c Config) (*Vault, error) {
	source, master, err := chooseMaster(c)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	data := make([]byte, keyBytes)
	_, _ = rand.Read(data) // never fails (crypto/rand, Go 1.24)
	defer clear(data)
	wrapper, err := newAEAD(master)
	if err != nil {
		return nil, err
	}
	h := header{Version: 1, Source: source, Created: time.Now().UTC().Truncate(time.Second)}
	h.Wrapped = seal(wrapper, keyBinding(source), data)
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, authsome.E(authsome.Internal, "make the vault: %w", err)
	}
	if err := c.Headers.CreateVaultHeader(ctx, authsome.LocalVault, raw); err != nil {
		return nil, err
	}
	return unwrap(h, master)
}

func unwrap(h header, master []byte) (*Vault, error) {
	wrapper, err := newAEAD(master)
	if err != nil {
		return nil, err
	}
	data, err := unseal(wrapper, keyBinding(h.Source), h.Wrapped)
	if err != nil || len(data) != keyBytes {
		return nil, authsome.E(authsome.VaultFailed, "open the vault: the master key (%s) is not the one that it was made with", h.Source).
			WithHint("bring the right key back; nothing was changed, and nothing is lost")
	}
	defer clear(data)
	aead, err := newAEAD(data)
	if err != nil {
		return nil, err
	}
	return &Vault{source: h.Source, aead: aead}, nil
}

// Source names where the master key is: "env", "env_file", "keyring" or "file".
func (v *Vault) Source() string { return v.source }

// Seal encrypts a record for the place that b describes.
func (v *Vault) Seal(b authsome.Binding, plaintext []byte) ([]byte, error) {
	return seal(v.aead, b, plaintext), nil
}

// Unseal opens a record. It fails when the bytes were changed, or were sealed
// for another place or version, and does not tell which.
func (v *Vault) Unseal(b authsome.Binding, sealed []byte) ([]byte, error) {
	return unseal(v.aead, b, sealed)
}

// formatVersion is the first byte of everything sealed.
const formatVersion = 1

var errSealed = errors.New("the sealed record does not open: it was changed, or belongs elsewhere")

// seal writes
//
//	version (1 byte) | nonce (12 bytes) | AES-256-GCM ciphertext and tag
//
// The nonce is random: with 2^32 records under one key the chance of a repeat
// is 2^-33 (NIST SP 800-38D section 8.3).
func seal(aead cipher.AEAD, b authsome.Binding, plaintext []byte) []byte {
	out := make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(plaintext)+aead.Overhead())
	out[0] = formatVersion
	_, _ = rand.Read(out[1:])
	return aead.Seal(out, out[1:], plaintext, associated(b))
}

func unseal(aead cipher.AEAD, b authsome.Binding, sealed []byte) ([]byte, error) {
	n := aead.NonceSize()
	if len(sealed) < 1+n+aead.Overhead() || sealed[0] != formatVersion {
		return nil, errSealed
	}
	plain, err := aead.Open(nil, sealed[1:1+n], sealed[1+n:], associated(b))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// associated encodes a binding so that no two bindings look alike: each text
// with its length before it.
func associated(b authsome.Binding) []byte {
	out := []byte{formatVersion}
	for _, s := range []string{b.Kind, b.Vault, b.User, b.Provider, b.Name} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return binary.BigEndian.AppendUint64(out, uint64(b.Version))
}

func keyBinding(source string) authsome.Binding {
	return authsome.Binding{Kind: "data-key", Vault: authsome.LocalVault, Name: source}
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, authsome.E(authsome.Internal, "prepare a key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("prepare a key: %w", err)
	}
	return aead, nil
}
