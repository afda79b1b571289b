// Package vault seals records. A random data key encrypts them; a master key,
// kept elsewhere, wraps the data key. What is sealed opens only in the place
// that it was sealed for, because its authsome.Binding is the associated data.
package vault

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/authsome/authsome"
)

// Headers stores what a vault keeps about itself; package store implements it.
type Headers interface {
	// VaultHeader returns nil, nil when the vault was not made yet.
	VaultHeader(ctx context.Context, id string) ([]byte, error)
	// CreateVaultHeader fails when there is a header already, or there are
	// records that one was for.
	CreateVaultHeader(ctx context.Context, id string, header []byte) error
}

// Config is what Open needs.
type Config struct {
	// Home is the directory of the key file. It must exist.
	Home string
	// Getenv reads the environment: AUTHSOME_MASTER_KEY, a key in Base64 or hex;
	// AUTHSOME_MASTER_KEY_FILE, the path of a file with one; and
	// AUTHSOME_KEYRING, which may be "off" so that a new vault keeps its key in
	// no keyring, as is wanted on a machine without a person.
	Getenv func(string) string
	// Keyring is the operating system's; nil means that there is none.
	Keyring Keyring
	Headers Headers
}

// header is stored beside the records, as JSON. It holds no secret: the data
// key in it is wrapped.
type header struct {
	Version int       `json:"v"`      // headerVersion
	Source  string    `json:"source"` // where the master key is
	Created time.Time `json:"created_at"`
	// KeyringUser names the entry of the keyring, so that a home may be moved.
	KeyringUser string `json:"keyring_user,omitempty"`
	// Check tells a wrong master key from a damaged header: checkBytes derived
	// from the master key, which do not tell it.
	Check []byte `json:"check"`
	// Wrapped is the data key, sealed under keyBinding by a key that is derived
	// from the master key.
	Wrapped []byte `json:"wrapped_key"`
}

const (
	headerVersion = 1
	keyBytes      = 32 // AES-256
	checkBytes    = 8
)

// Vault seals and opens. It may be used from any goroutine.
type Vault struct {
	source string
	aead   cipher.AEAD
}

// Open opens the vault of a home, or makes it when there is none. Where the
// master key comes from is decided when the vault is made, and recorded; after
// that a missing or wrong key is an error, never a new vault. It waits a few
// seconds at most for a keyring.
//
// The master key is in its place before the header says so. So a vault whose
// making was cut short is made again with the key that it left.
func Open(ctx context.Context, c Config) (*Vault, error) {
	_ = os.Remove(filepath.Join(c.Home, keyDraft)) // of a process that was killed while it made a key
	raw, err := c.Headers.VaultHeader(ctx, authsome.LocalVault)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return create(ctx, c)
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, damagedHeader()
	}
	if h.Version != headerVersion {
		return nil, authsome.E(authsome.VaultFailed, "open the vault: its header has the form %d, and this version of authsome knows %d only", h.Version, headerVersion).
			WithHint("run the version of authsome that wrote it")
	}
	master, err := readMaster(ctx, c, h)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	return unwrap(c, h, master)
}

func create(ctx context.Context, c Config) (*Vault, error) {
	h := header{Version: headerVersion, Created: time.Now().UTC().Truncate(time.Second)}
	master, err := chooseMaster(ctx, c, &h)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	data := newKey()
	defer clear(data)
	wrapper, check, err := derive(master)
	if err != nil {
		return nil, err
	}
	h.Check, h.Wrapped = check, seal(wrapper, keyBinding(h.Source), data)
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, authsome.E(authsome.Internal, "make the vault: %w", err)
	}
	if err := c.Headers.CreateVaultHeader(ctx, authsome.LocalVault, raw); err != nil {
		return nil, err
	}
	return unwrap(c, h, master)
}

func unwrap(c Config, h header, master []byte) (*Vault, error) {
	wrapper, check, err := derive(master)
	if err != nil {
		return nil, err
	}
	if len(h.Check) != checkBytes {
		return nil, damagedHeader()
	}
	if subtle.ConstantTimeCompare(check, h.Check) != 1 {
		return nil, authsome.E(authsome.VaultFailed, "open the vault: the master key in %s is not the one that it was made with", placeOf(c, h)).
			WithHint("bring the right key back, then run: authsome daemon restart. Nothing was changed, and nothing is lost")
	}
	data, err := unseal(wrapper, keyBinding(h.Source), h.Wrapped)
	if err != nil || len(data) != keyBytes {
		return nil, damagedHeader()
	}
	defer clear(data)
	aead, err := newAEAD(data)
	if err != nil {
		return nil, err
	}
	return &Vault{source: h.Source, aead: aead}, nil
}

// derive makes of a master key what wraps the data key, and what is stored to
// recognise the master key by. HKDF (RFC 5869) keeps the two apart.
func derive(master []byte) (wrapper cipher.AEAD, check []byte, err error) {
	key, err := hkdf.Key(sha256.New, master, nil, "authsome 1: wrap the data key", keyBytes)
	if err != nil {
		return nil, nil, authsome.E(authsome.Internal, "derive from the master key: %w", err)
	}
	defer clear(key)
	if wrapper, err = newAEAD(key); err != nil {
		return nil, nil, err
	}
	if check, err = hkdf.Key(sha256.New, master, nil, "authsome 1: recognise the master key", checkBytes); err != nil {
		return nil, nil, authsome.E(authsome.Internal, "derive from the master key: %w", err)
	}
	return wrapper, check, nil
}

func keyBinding(source string) authsome.Binding {
	return authsome.Binding{Kind: "data-key", Vault: authsome.LocalVault, Name: source, Version: headerVersion}
}

func newKey() []byte {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand, Go 1.24)
	return key
}

func damagedHeader() error {
	return authsome.E(authsome.VaultFailed, "open the vault: its header in the database is damaged").
		WithHint("stop the daemon and put a copy of the database in its place; authsome does not overwrite it")
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
