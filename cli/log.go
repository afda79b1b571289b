package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// The command's own log: one line an invocation, more with --verbose, never an
// argument, since people mistakenly give keys there. The place and the limits
// are the Python authsome's.
const (
	defaultLogFile = "$AUTHSOME_HOME/client/logs/authsome.log"
	maxLog         = 10 << 20
	oldLogs        = 5 // authsome.log.1 is the newest
)

// logger is the log of one invocation, opened when the first line is written.
type logger struct {
	l    *slog.Logger
	file *os.File
}

// logPath is where the log goes; "" is nowhere.
func (a *app) logPath() (string, error) {
	if a.opt.logFile != defaultLogFile {
		return a.opt.logFile, nil
	}
	home, err := a.home()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, "client", "logs", "authsome.log"), nil
}

// logger opens the log on first use. A log that cannot be written stops no
// command; only a file that was asked for by name is worth a warning.
func (a *app) logger() *slog.Logger {
	if a.log.l != nil {
		return a.log.l
	}
	level := slog.LevelInfo
	if a.opt.verbose {
		level = slog.LevelDebug
	}
	var handlers []slog.Handler
	if a.opt.verbose {
		handlers = append(handlers, slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: level}))
	}
	f, err := a.openLog()
	switch {
	case err != nil && a.opt.logFile != defaultLogFile:
		a.warn("the log file %s cannot be written: %v", a.opt.logFile, cause(err))
	case f != nil:
		a.log.file = f
		handlers = append(handlers, slog.NewTextHandler(f, &slog.HandlerOptions{Level: level}))
	}
	a.log.l = slog.New(slog.NewMultiHandler(handlers...))
	return a.log.l
}

// openLog opens the log for appending, after putting a long one aside. It is
// nil when there is none to write: a home that does not exist is not made for
// its log.
func (a *app) openLog() (*os.File, error) {
	path, err := a.logPath()
	if err != nil || path == "" {
		return nil, err
	}
	if a.opt.logFile == defaultLogFile {
		if _, err := os.Stat(a.homePath); err != nil {
			return nil, nil
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() && fi.Size() >= maxLog {
		// Two commands may do this at once; the loser's renames fail or move a
		// short log on, and no line is lost from the one being written.
		for i := oldLogs - 1; i >= 0; i-- {
			from := fmt.Sprintf("%s.%d", path, i)
			if i == 0 {
				from = path
			}
			if err := os.Rename(from, fmt.Sprintf("%s.%d", path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
}

// logEnd writes the line of an invocation.
func (a *app) logEnd(command string, code int, err error) {
	switch {
	case strings.Contains(command, " __"): // the shell's completion asks at every key
		return
	case command == "authsome daemon serve": // it has a log, and its home may be gone
		return
	}
	attrs := []slog.Attr{
		slog.String("command", command),
		slog.Int("exit", code),
		slog.Duration("took", time.Since(a.began).Round(time.Microsecond)),
	}
	level := slog.LevelInfo
	if err != nil && !errors.As(err, new(exitStatus)) {
		level = slog.LevelError
		attrs = append(attrs, slog.String("class", string(authsome.CodeOf(err))), slog.String("message", err.Error()))
		if known := (*authsome.Error)(nil); errors.As(err, &known) && known.Err != nil {
			attrs = append(attrs, slog.String("cause", known.Err.Error()))
		}
	}
	a.logger().LogAttrs(context.Background(), level, "command", attrs...)
	if a.log.file != nil {
		_ = a.log.file.Close()
	}
}
