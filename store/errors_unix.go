//go:build unix

package store

import "syscall"

// noRoom are the ways of the system to say that a disk is full, for everybody
// or for one user.
var noRoom = []error{syscall.ENOSPC, syscall.EDQUOT}
