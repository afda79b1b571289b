package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

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

// restart is the end of hints: a daemon reads the key when it starts.
const restart = "then run: authsome daemon restart"

// chooseMaster decides where the master key of a new vault is, makes one where
// there is none, and notes the place in the header.
func chooseMaster(ctx context.Context, c Config, h *header) ([]byte, error) {
	switch {
	case c.Getenv(envKey) != "":
		h.Source = sourceEnv
		return readMaster(ctx, c, *h)
	case c.Getenv(envKeyFile) != "":
		h.Source = sourceEnvFile
		return readMaster(ctx, c, *h)
	}
	h.Source = sourceFile
	path := filepath.Join(c.Home, KeyFile)
	// A key file without a vault is what is left of one whose making was cut
	// short, or whose database was lost: it is used again, or named in an error,
	// but never overwritten or passed over.
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return readMaster(ctx, c, *h)
	}
	if c.Keyring != nil && c.Getenv(envKeyring) != "off" {
		if user, key := keyringMaster(ctx, c); key != nil {
			h.Source, h.KeyringUser = sourceKeyring, user
			return key, nil
		}
	}
	return makeKeyFile(path)
}

// readMaster reads the master key from the place that a header names.
func readMaster(ctx context.Context, c Config, h header) ([]byte, error) {
	missing := func(what string) *authsome.Error {
		return authsome.E(authsome.VaultFailed, "open the vault: its master key is in %s, which %s", placeOf(c, h), what)
	}
	var text []byte
	var err error
	switch h.Source {
	case sourceEnv:
		if text = []byte(c.Getenv(envKey)); len(text) == 0 {
			return nil, missing("is not set").WithHint("set it to the key, %s", restart)
		}
	case sourceEnvFile:
		path := c.Getenv(envKeyFile)
		if path == "" {
			return nil, missing("is not set").WithHint("set it to the path of the key's file, %s", restart)
		}
		text, err = readKeyFile(path)
	case sourceFile:
		text, err = readKeyFile(filepath.Join(c.Home, KeyFile))
	case sourceKeyring:
		wait, cancel := context.WithTimeout(ctx, keyringPatience)
		found, err := keyringGet(wait, c.Keyring, h.KeyringUser)
		cancel()
		text = []byte(found)
		switch {
		case errors.Is(err, ErrNoKey):
			return nil, missing("has no such entry any more").WithHint("bring back the entry %s of the service %s, %s", h.KeyringUser, keyringService, restart)
		case err != nil:
			e := missing("does not answer").WithHint("unlock the keyring, or log in to the desktop session, %s", restart)
			e.Err = err
			return nil, e
		}
	default:
		return nil, authsome.E(authsome.VaultFailed, "open the vault: it keeps its master key in a way that this version of authsome does not know").
			WithHint("run the version of authsome that wrote it")
	}
	if err != nil {
		return nil, err
	}
	defer clear(text)
	key, err := parseKey(text)
	if err != nil {
		return nil, authsome.E(authsome.VaultFailed, "open the vault: the master key in %s %w", placeOf(c, h), err).
			WithHint("a key is 32 random bytes in Base64 or hex, as this makes one: openssl rand -base64 32")
	}
	return key, nil
}

// placeOf names where a master key is, for people.
func placeOf(c Config, h header) string {
	switch h.Source {
	case sourceEnv:
		return "the variable " + envKey
	case sourceEnvFile:
		if path := c.Getenv(envKeyFile); path != "" {
			return "the file " + path + " (" + envKeyFile + ")"
		}
		return "the file that " + envKeyFile + " names"
	case sourceKeyring:
		return "the keyring (" + keyringService + ", " + h.KeyringUser + ")"
	default:
		return "the file " + filepath.Join(c.Home, KeyFile)
	}
}

// parseKey reads 32 bytes in hex or any Base64, or as the field "key" of JSON,
// as KeyFile has it. A passphrase is refused: it would have to be stretched, and
// most would be guessed all the same. The error does not quote the text.
func parseKey(text []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	if bytes.HasPrefix(text, []byte("{")) {
		var f keyFile
		if err := json.Unmarshal(text, &f); err != nil || f.Version != keyFileVersion {
			return nil, errors.New("is damaged, or of a form that this version of authsome does not know")
		}
		text = []byte(f.Key)
		defer clear(text)
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(len(text)+2))
	if n, err := hex.Decode(key, text); err == nil && n == keyBytes {
		return key[:n:n], nil
	}
	bare := bytes.TrimRight(text, "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if n, err := enc.Decode(key, bare); err == nil && n == keyBytes {
			return key[:n:n], nil
		}
	}
	clear(key)
	return nil, errors.New("is not 32 bytes in Base64 or hex")
}
