//go:build unix

package api

import (
	"io/fs"
	"os"
	"syscall"
)

// daemonDir is where the daemon works, so that it keeps no file system busy.
const daemonDir = "/"

// terminate is the polite end.
const terminate = syscall.SIGTERM

// detached gives the daemon a session of its own: it outlives the terminal, and
// Ctrl-C there is not for it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func sameVariable(a, b string) bool { return a == b }

func ownedByUser(fi fs.FileInfo) bool { return owner(fi) == os.Geteuid() }

func openToOthers(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o077 != 0 }
