package store

import "golang.org/x/sys/windows"

// noRoom are the ways of the system to say that a disk is full, for everybody
// or for one user.
var noRoom = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}
