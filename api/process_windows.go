package api

import (
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

const daemonDir = `C:\`

// terminate: there is no polite end from outside.
var terminate = os.Kill

func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}

func sameVariable(a, b string) bool { return strings.EqualFold(a, b) }

// The access list that the profile directory hands down decides on Windows.
func ownedByUser(fs.FileInfo) bool  { return true }
func openToOthers(fs.FileInfo) bool { return false }
