package authsome

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// redacted is what a Secret looks like wherever it is printed.
const redacted = "•••"

// Secret is a value that must not be seen: an API key, a token, a password. It
// prints, formats, logs and marshals as "•••" whatever the verb, so that a
// forgotten %v cannot leak it. The zero Secret is empty.
//
// Only Reveal gives the value up; arch_test.go lists the packages that may call
// it.
type Secret struct{ value string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the value itself. The caller answers for where it goes.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.value == "" }

// Len is the number of bytes in the value.
func (s Secret) Len() int { return len(s.value) }

// Equal compares two secrets without giving away by its duration where they
// differ.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(o.value)) == 1
}

// String implements fmt.Stringer: always "•••", or "" for an empty secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return redacted
}

// Format implements fmt.Formatter, so that no verb (%x, %q, %#v, %d) reaches
// the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler (and so JSON): "•••".
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes only the empty text: a Secret that had been marshalled
// would come back as "•••". Code that stores secrets encodes them itself, where
// it seals them.
func (s *Secret) UnmarshalText(text []byte) error {
	if len(text) > 0 {
		return errors.New("a secret cannot be read from text")
	}
	*s = Secret{}
	return nil
}
