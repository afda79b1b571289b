package api

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/authsome/authsome"
)

// SocketPath is the path of a resolved home's socket, in the user's own part
// of the profile (%LOCALAPPDATA%). Windows has AF_UNIX since 1803 but no
// credentials of the peer; the access list that the profile directory hands
// down lets in the user, the administrators and the system.
func SocketPath(home string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", authsome.E(authsome.Internal, "find a place for the daemon's socket: %w", err)
	}
	path := filepath.Join(dir, "authsome", socketName(home))
	if len(path) > maxSocketPath {
		return "", authsome.E(authsome.Internal, "find a place for the daemon's socket: %s is too long a path for one", path)
	}
	return path, nil
}

func privateDir(dir string, create bool) error {
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return authsome.E(authsome.Internal, "make a directory for the daemon's socket: %w", err)
		}
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return authsome.E(authsome.Forbidden, "use the daemon's socket: %s is no directory", dir)
	}
	return nil
}

// reparseSocket recognises a socket file, which Windows shows as an irregular
// one (IO_REPARSE_TAG_AF_UNIX).
func reparseSocket(fi fs.FileInfo) bool { return fi.Mode()&(fs.ModeIrregular|fs.ModeSymlink) != 0 }
