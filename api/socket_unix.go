//go:build unix

package api

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/authsome/authsome"
)

// SocketPath is the path of a resolved home's socket:
// $XDG_RUNTIME_DIR/authsome/HASH.sock, or authsome-UID/HASH.sock in the
// directory for temporary files where there is no XDG_RUNTIME_DIR of the
// user's own (sudo keeps the variable of the user before), or where the path
// would be too long for a socket.
func SocketPath(home string) (string, error) {
	name := socketName(home)
	var dirs []string
	if run := os.Getenv("XDG_RUNTIME_DIR"); ownRuntimeDir(run) {
		dirs = append(dirs, filepath.Join(run, "authsome"))
	}
	private := fmt.Sprintf("authsome-%d", os.Geteuid())
	dirs = append(dirs, filepath.Join(os.TempDir(), private), filepath.Join("/tmp", private))
	for _, dir := range dirs {
		if path := filepath.Join(dir, name); filepath.IsAbs(path) && len(path) <= maxSocketPath {
			return path, nil
		}
	}
	return "", authsome.E(authsome.Internal, "find a place for the daemon's socket: no path is short enough")
}

func ownRuntimeDir(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir() && owner(fi) == os.Geteuid() && fi.Mode().Perm()&0o022 == 0
}

// privateDir holds the socket's directory to what keeps others out: a real
// directory, ours, 0700. Somebody else may have made it first, in a directory
// for temporary files. Nothing is repaired: what was open once may have been
// used already.
func privateDir(dir string, create bool) error {
	if create {
		// The runtime directory itself exists; the temporary one does too.
		if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
			return authsome.E(authsome.Internal, "make a directory for the daemon's socket: %w", err)
		}
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	wrong := ""
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		wrong = "is a symbolic link"
	case !fi.IsDir():
		wrong = "is no directory"
	case owner(fi) != os.Geteuid():
		wrong = fmt.Sprintf("belongs to user %d", owner(fi))
	case fi.Mode().Perm()&0o077 != 0:
		wrong = fmt.Sprintf("can be used by other users (mode %04o)", fi.Mode().Perm())
	default:
		return nil
	}
	return authsome.E(authsome.Forbidden, "use the daemon's socket: %s %s", dir, wrong).
		WithHint("find out who made it, then remove it: rm -r %s", dir)
}

func owner(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

func reparseSocket(fs.FileInfo) bool { return false }
