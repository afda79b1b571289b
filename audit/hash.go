// Package audit holds what makes the log of acts trustworthy: the chain of
// hashes over events, and the spool that takes the events of requests before
// their credential leaves.
package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/authsome/authsome"
)

// NewID is a fresh event id: "audit_" and 32 hex digits.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return "audit_" + hex.EncodeToString(b[:])
}

// Encode is the form of an event that is stored and hashed. What was stored is
// hashed as it is when the chain is checked, and not encoded again: a later
// version may know other fields.
func Encode(ev authsome.Event) ([]byte, error) { return json.Marshal(ev) }

// Start is what the first event of a vault is chained to, so that the events of
// one vault are no chain of another.
func Start(vault string) []byte {
	sum := sha256.Sum256([]byte("authsome audit 1\n" + vault))
	return sum[:]
}

// Hash chains an event to the one before it: SHA-256 over the previous hash (32
// bytes, Start for the first) and the event's encoded form, which holds its
// Seq. Changing, dropping or reordering an event breaks every later hash.
func Hash(prev, encoded []byte) []byte {
	h := sha256.New()
	h.Write(prev)
	h.Write(encoded)
	return h.Sum(nil)
}
