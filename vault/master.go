package vault

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// Where a master key may be. The order is that of choice when a vault is made.
const (
	sourceEnv     = "env"      // AUTHSOME_MASTER_KEY
	sourceEnvFile = "env_file" // the file that AUTHSOME_MASTER_KEY_FILE names
	sourceKeyring = "keyring"
	sourceFile    = "file" // KeyFile in the home
)

const (
	envKey     = "AUTHSOME_MASTER_KEY"
	envKeyFile = "AUTHSOME_MASTER_KEY_FILE"
	envKeyring = "AUTHSOME_KEYRING"
)

// KeyFile is the master key's file in the home, 0600.
const KeyFile = "master.key"

// Keyring is the operating system's. Both calls may hang (a locked keyring
// asks the person, who may not be there), so they are given a time limit.
type Keyring interface {
	Get(service, user string) (string, error) // ErrNoKey when there is none
	Set(service, user, password string) error
}

// ErrNoKey is a Keyring's answer for an entry that does not exist.
var ErrNoKey = errors.New("no such entry in the keyring")

// keyringTimeout is long enough for a person to type a keyring's password.
const keyringTimeout = 30 * time.Second

// keyringProbe is how long a keyring may take while a vault is being made and
// another source is there to fall back to.
const keyringProbe = 3 * time.Second

const keyringService = "authsome"

// keyringUser tells homes apart in the one keyring of a person.
func keyringUser(home string) string {
	sum := sha256.Sum256([]byte(home))
	return "master_key:" + hex.EncodeToString(sum[:8])
}

// chooseMaster decides where the master key of a new vault is, and makes one
// where there is none.
func chooseMaster(c Config) (string, []byte, error) {
	for _, source := range []string{sourceEnv, sourceEnvFile} {
		if c.Getenv(map[string]string{sourceEnv: envKey, sourceEnvFile: envKeyFile}[source]) != "" {
			key, err := readMaster(c, source)
			return source, key, err
		}
	}
	// A key file without a vault is one whose making was cut short, or whose
	// database was lost: it is used again, never overwritten.
	if _, err := os.Lstat(filepath.Join(c.Home, KeyFile)); err == nil {
		key, err := readMaster(c, sourceFile)
		return sourceFile, key, err
	}
	if c.Keyring != nil && c.Getenv(envKeyring) != "off" {
		if key := keyringMaster(c); key != nil {
			return sourceKeyring, key, nil
		}
	}
	key, err := makeKeyFile(filepath.Join(c.Home, KeyFile))
	return sourceFile, key, err
}

// keyringMaster finds or makes a key in the keyring; nil when there is no
// usable keyring.
func keyringMaster(c Config) []byte {
	user := keyringUser(c.Home)
	text, err := within(keyringProbe, func() (string, error) { return c.Keyring.Get(keyringService, user) })
	if err == nil {
		if key, err := parseKey(text); err == nil {
			return key
		}
		return nil // not ours to overwrite
	}
	if !errors.Is(err, ErrNoKey) {
		return nil
	}
	key := newKey()
	encoded := base64.StdEncoding.EncodeToString(key)
	if _, err := within(keyringProbe, func() (string, error) { return "", c.Keyring.Set(keyringService, user, encoded) }); err != nil {
		return nil
	}
	// Some keyrings accept and forget (a session collection).
	back, err := within(keyringProbe, func() (string, error) { return c.Keyring.Get(keyringService, user) })
	if err != nil || back != encoded {
		return nil
	}
	return key
}

// readMaster reads the master key from the source that a vault records.
func readMaster(c Config, source string) ([]byte, error) {
	missing := func(what, hint string) error {
		return authsome.E(authsome.VaultFailed, "open the vault: its master key is in %s, which %s", sourceName(c, source), what).WithHint("%s", hint)
	}
	var text string
	switch source {
	case sourceEnv:
		if text = c.Getenv(envKey); text == "" {
			return nil, missing("is not set", "set it, then restart the daemon: authsome daemon restart")
		}
	case sourceEnvFile:
		path := c.Getenv(envKeyFile)
		if path == "" {
			return nil, missing("is not set", "set it to the key's file, then restart the daemon: authsome daemon restart")
		}
		var err error
		if text, err = readKeyFile(path); err != nil {
			return nil, err
		}
	case sourceKeyring:
		if c.Keyring == nil {
			return nil, missing("is not there", "start the keyring's service, then run: authsome daemon restart")
		}
		var err error
		text, err = within(keyringTimeout, func() (string, error) { return c.Keyring.Get(keyringService, keyringUser(c.Home)) })
		switch {
		case errors.Is(err, ErrNoKey):
			return nil, missing("has no such entry any more", "restore the entry "+keyringService+"/"+keyringUser(c.Home)+" of the keyring")
		case err != nil:
			return nil, missing("does not answer", "unlock the keyring, then run: authsome daemon restart")
		}
	case sourceFile:
		var err error
		if text, err = readKeyFile(filepath.Join(c.Home, KeyFile)); err != nil {
			return nil, err
		}
		var file keyFile
		if json.Unmarshal([]byte(text), &file) == nil {
			text = file.Key
		}
	default:
		return nil, authsome.E(authsome.VaultFailed, "open the vault: it keeps its master key in a way that this version does not know").
			WithHint("run the version of authsome that wrote it")
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, authsome.E(authsome.VaultFailed, "read the master key from %s: %w", sourceName(c, source), err).
			WithHint("it has 32 bytes, as Base64 or hex; make one with: openssl rand -base64 32")
	}
	return key, nil
}

func sourceName(c Config, source string) string {
	switch source {
	case sourceEnv:
		return "the variable " + envKey
	case sourceEnvFile:
		return "the file that " + envKeyFile + " names"
	case sourceKeyring:
		return "the keyring"
	default:
		return filepath.Join(c.Home, KeyFile)
	}
}

// keyFile is the form of KeyFile.
type keyFile struct {
	Version int       `json:"version"`
	Key     string    `json:"key"` // Base64
	Created time.Time `json:"created_at"`
	Note    string    `json:"note"`
}

// makeKeyFile writes a new key without ever replacing a file: it is complete
// under another name before it gets its own.
func makeKeyFile(path string) ([]byte, error) {
	key := newKey()
	data, err := json.MarshalIndent(keyFile{
		Version: 1, Key: base64.StdEncoding.EncodeToString(key), Created: time.Now().UTC().Truncate(time.Second),
		Note: "The master key of authsome's vault. Without it the vault cannot be opened; whoever has both can read it.",
	}, "", "  ")
	if err != nil {
		return nil, authsome.E(authsome.Internal, "make the master key: %w", err)
	}
	fail := func(err error) ([]byte, error) {
		return nil, authsome.E(authsome.VaultFailed, "make the master key %s: %w", path, err).
			WithHint("make the home writable, or set %s", envKey)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+KeyFile+"-*") // 0600
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(append(data, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(tmp.Name(), path) // fails when path exists, unlike a rename
	}
	if err != nil {
		return fail(err)
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
	return key, nil
}

// readKeyFile reads a key's file, which must be closed to others.
func readKeyFile(path string) (string, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", authsome.E(authsome.VaultFailed, "open the vault: its master key %s is gone", path).
			WithHint("bring the file back from a copy; without it the vault cannot be opened")
	}
	if err != nil {
		return "", authsome.E(authsome.VaultFailed, "read the master key %s: %w", path, err)
	}
	if openToOthers(fi) {
		return "", authsome.E(authsome.VaultFailed, "read the master key %s: others may read it (mode %04o)", path, fi.Mode().Perm()).
			WithHint("chmod 600 %s", path)
	}
	if !fi.Mode().IsRegular() || fi.Size() > 64<<10 {
		return "", authsome.E(authsome.VaultFailed, "read the master key %s: it is not a key's file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", authsome.E(authsome.VaultFailed, "read the master key %s: %w", path, err)
	}
	return string(data), nil
}

func newKey() []byte {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand, Go 1.24)
	return key
}

// parseKey reads 32 bytes in hex or any Base64. A passphrase is refused: it
// would have to be stretched, and most would be guessed all the same.
func parseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if key, err := hex.DecodeString(text); err == nil && len(key) == keyBytes {
		return key, nil
	}
	bare := strings.TrimRight(text, "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if key, err := enc.DecodeString(bare); err == nil && len(key) == keyBytes {
			return key, nil
		}
	}
	return nil, errors.New("it is not 32 bytes in Base64 or hex")
}

// within calls f and gives up on it after a while. A call that hangs keeps its
// goroutine; there are at most a few in a daemon's life.
func within(limit time.Duration, f func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := f()
		done <- result{text, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.text, r.err
	case <-timer.C:
		return "", errors.New("the keyring did not answer in time")
	}
}
