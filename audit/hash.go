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

// Encode is the form of an event that is stored and hashed.
func Encode(ev authsome.Event) ([]byte, error) { return json.Marshal(ev) }

// Hash chains an event to the one before it: SHA-256 over the previous hash
// (empty for the first event of a vault) and the event's encoded form, Seq
// included. Changing, dropping or reordering an event breaks every later hash.
func Hash(prev, encoded []byte) []byte {
	h := sha256.New()
	h.Write(prev)
	h.Write(encoded)
	return h.Sum(nil)
}
