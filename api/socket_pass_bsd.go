//go:build unix && !linux

package api

// socketsHaveOwners: fstat of a socket gives no owner on macOS, and
// SO_ACCEPTCONN is not documented in its getsockopt(2).
const socketsHaveOwners = false
