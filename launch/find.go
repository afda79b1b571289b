package launch

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/authsome/authsome"
)

// Find returns the file that a command's name stands for, as a shell finds it
// by PATH. Its errors are CommandNotFound (127) and NotExecutable (126).
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	// A relative entry of PATH is the person's wish; shells follow it, too.
	if err == nil || errors.Is(err, exec.ErrDot) {
		return path, nil
	}
	found := name
	if !strings.ContainsRune(filepath.ToSlash(name), '/') {
		// LookPath passes over what cannot be executed; shells say so.
		found = ""
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			p := filepath.Join(dir, name)
			if fi, err := os.Stat(p); err == nil && !fi.IsDir() && name != "" {
				found = p
				break
			}
		}
	}
	fi, serr := os.Stat(found)
	switch {
	case found == "" || errors.Is(serr, fs.ErrNotExist):
		return "", authsome.E(authsome.CommandNotFound, "start %q: there is no such command", name).
			WithHint("check the spelling, and that it is installed and in PATH")
	case serr == nil && fi.IsDir():
		return "", authsome.E(authsome.NotExecutable, "start %q: it is a directory", name)
	case serr == nil:
		return "", authsome.E(authsome.NotExecutable, "start %q: %s is not executable", name, found).
			WithHint("chmod +x %s", found)
	default:
		return "", authsome.E(authsome.NotExecutable, "start %q: %w", name, reason(serr))
	}
}
