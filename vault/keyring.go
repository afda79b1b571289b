package vault

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"path/filepath"
	"time"

	"github.com/zalando/go-keyring"
)

// Keyring is the operating system's. All calls may hang (a locked keyring asks
// the person, who may not be there), so they are given a time limit.
type Keyring interface {
	Get(service, user string) (string, error) // ErrNoKey when there is none
	Set(service, user, password string) error
}

var (
	// ErrNoKey is a Keyring's answer for an entry that does not exist.
	ErrNoKey = errors.New("no such entry in the keyring")
	// ErrNoKeyring is the answer where there is no keyring to ask.
	ErrNoKeyring = errors.New("there is no keyring")
)

// keyringPatience bounds all that is asked of a keyring while a vault is opened
// or made. A command that starts the daemon waits longer than this, and so gets
// to say what the matter is.
const keyringPatience = 5 * time.Second

// probePatience bounds ProbeKeyring.
const probePatience = 3 * time.Second

const keyringService = "authsome"

// keyringUser tells homes apart in the one keyring of a person.
func keyringUser(home string) string {
	if abs, err := filepath.Abs(home); err == nil {
		home = abs
	}
	sum := sha256.Sum256([]byte(home))
	return "master_key:" + hex.EncodeToString(sum[:8])
}

// keyringMaster finds or makes a key in the keyring, and names its entry; nil
// when there is no keyring that can be relied on.
func keyringMaster(ctx context.Context, c Config) (user string, key []byte) {
	ctx, cancel := context.WithTimeout(ctx, keyringPatience)
	defer cancel()
	user = keyringUser(c.Home)
	text, err := keyringGet(ctx, c.Keyring, user)
	if err == nil {
		key, err := parseKey([]byte(text))
		if err != nil {
			return "", nil // not ours to overwrite
		}
		return user, key
	}
	if !errors.Is(err, ErrNoKey) {
		return "", nil
	}
	key = newKey()
	encoded := base64.StdEncoding.EncodeToString(key)
	_, err = within(ctx, func() (string, error) { return "", c.Keyring.Set(keyringService, user, encoded) })
	if err == nil {
		// Some accept an entry and keep nothing.
		var back string
		if back, err = keyringGet(ctx, c.Keyring, user); err == nil && back == encoded {
			return user, key
		}
	}
	clear(key)
	return "", nil
}

// keyringGet reads an entry.
func keyringGet(ctx context.Context, k Keyring, user string) (string, error) {
	if k == nil {
		return "", ErrNoKeyring
	}
	return within(ctx, func() (string, error) { return k.Get(keyringService, user) })
}

// ProbeKeyring reports whether a keyring answers; an entry need not exist. It
// waits 3 s at most.
func ProbeKeyring(ctx context.Context, k Keyring) error {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	if _, err := keyringGet(ctx, k, "probe"); err != nil && !errors.Is(err, ErrNoKey) {
		return err
	}
	return nil
}

// within calls f and gives up on it when ctx ends. A call that hangs keeps its
// goroutine; there are at most a few in a daemon's life.
func within(ctx context.Context, f func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := f()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", errors.New("the keyring did not answer in time")
	}
}

// SystemKeyring is the operating system's: Keychain, Secret Service, Windows
// Credential Manager.
type SystemKeyring struct{}

// Get implements Keyring.
func (SystemKeyring) Get(service, user string) (string, error) {
	if err := reachable(); err != nil {
		return "", err
	}
	s, err := keyring.Get(service, user)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", ErrNoKey
	}
	return s, err
}

// Set implements Keyring.
func (SystemKeyring) Set(service, user, password string) error {
	if err := reachable(); err != nil {
		return err
	}
	return keyring.Set(service, user, password)
}
