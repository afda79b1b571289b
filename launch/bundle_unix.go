//go:build unix

package launch

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// openNonblocking opens a file without waiting: a FIFO opens at once, and is
// then seen to be no regular file.
func openNonblocking(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}

func ownDir(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

func privateFile(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o077 == 0 && ownDir(fi) }

// lockShared holds a bundle for a run. The lock is of the directory's open file,
// so it ends with the process however that ends, and the child does not inherit
// it.
func lockShared(dir string) (io.Closer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		_ = f.Close()
		return nil, errSwept
	case err != nil:
		// A file system without locks, on which lockAlone fails as well: nothing
		// is swept there.
		return f, nil
	}
	return f, nil
}

// lockAlone holds a bundle that no run holds.
func lockAlone(dir string) (io.Closer, bool) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, false
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = f.Close()
		return nil, false
	}
	return f, true
}
