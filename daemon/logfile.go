package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

const (
	// maxLog is the size at which the log is put aside.
	maxLog = 10 << 20
	// oldLogs is how many are kept: daemon.log.1 is the newest.
	oldLogs = 3
)

// logFile is daemon.log. It is safe for concurrent use.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
	// stdio says that the process's own stdout and stderr are the log, as they
	// are for a daemon that was started by a command: they move along.
	stdio bool
}

func openLog(home string) (*logFile, error) {
	l := &logFile{path: filepath.Join(home, api.LogFile)}
	if err := l.open(); err != nil {
		return nil, authsome.E(authsome.Invalid, "use the home %s: it is not writable: %w", home, err).
			WithHint("set AUTHSOME_HOME to a directory that you can write to")
	}
	l.stdio = l.is(os.Stderr)
	return l, nil
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	l.file, l.size = f, fi.Size()
	return nil
}

// is reports whether w is this very file.
func (l *logFile) is(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := l.file.Stat()
	return err == nil && os.SameFile(a, b)
}

// Write implements io.Writer. A full disk loses lines, never the daemon.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > maxLog && l.size > 0 {
		l.rotate()
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// rotate puts the file aside. When that fails the old one goes on growing.
func (l *logFile) rotate() {
	for i := oldLogs; i > 0; i-- {
		from := l.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", l.path, i-1)
		}
		_ = os.Rename(from, fmt.Sprintf("%s.%d", l.path, i))
	}
	old := l.file
	if err := l.open(); err != nil {
		l.file, l.size = old, 0
		return
	}
	if l.stdio {
		redirectStdio(l.file)
	}
	_ = old.Close()
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// logger writes to the file and, in the foreground, to stderr. Values of type
// authsome.Secret show as dots by themselves.
func (l *logFile) logger(c Config) *slog.Logger {
	var w io.Writer = l
	if c.Stderr != nil && !l.is(c.Stderr) {
		w = both{l, c.Stderr}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: c.Level}))
}

// both writes to two, and to the second when the first fails (a full disk).
type both struct{ a, b io.Writer }

func (t both) Write(p []byte) (int, error) {
	_, errA := t.a.Write(p)
	_, errB := t.b.Write(p)
	if errA != nil {
		return len(p), errB
	}
	return len(p), nil
}
