package vault

import (
	"errors"

	"github.com/zalando/go-keyring"
)

// SystemKeyring is the operating system's: Keychain, Secret Service, Windows
// Credential Manager.
type SystemKeyring struct{}

// Get implements Keyring.
func (SystemKeyring) Get(service, user string) (string, error) {
	s, err := keyring.Get(service, user)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", ErrNoKey
	}
	return s, err
}

// Set implements Keyring.
func (SystemKeyring) Set(service, user, password string) error {
	return keyring.Set(service, user, password)
}
