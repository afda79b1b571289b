// Package audit holds what makes the log of acts trustworthy: the chain of
// hashes over events, and the spool that takes the events of requests before
// their credential leaves.
package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// NewID is a fresh event id: "audit_" and 32 hex digits, of which the first
// twelve are the time in milliseconds, as in a UUID of version 7 (RFC 9562,
// section 5.7). In the index over ids, new ones are then neighbours, so that a
// log of a million events takes more as quickly as an empty one.
func NewID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails (crypto/rand, Go 1.24)
	return "audit_" + hex.EncodeToString(b[:])
}

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
