package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/authsome/authsome"
	"github.com/gofrs/flock"
)

// Options say how Connect finds or makes a daemon. The zero value is what a
// command needs.
type Options struct {
	// Home is the home as the person gave it; "" is what the environment means.
	Home string
	// Version is the caller's; "" is authsome.Version.
	Version string
	// AnyVersion takes a daemon of another version as it is. A run that renews
	// its grant sets it: the program may have been replaced while the child
	// was at work, and two versions must not restart each other's daemons.
	AnyVersion bool
	// NoStart only looks for a running daemon.
	NoStart bool
	// Timeout bounds the whole; 0 is 25 s, and less where a process inside a run
	// cannot hope for that run any more.
	Timeout time.Duration
	// Executable and Args are the daemon's command line; "" is this program,
	// and nil is `daemon serve`.
	Executable string
	Args       []string
	// Environ is the caller's environment; nil is os.Environ(). What the daemon
	// gets of it is in daemonEnvironment.
	Environ []string
}

const (
	// connectTimeout is for the worst case in which there still is an answer, so
	// that it is heard: a daemon of another version takes 8 s to end
	// (StopDaemon), and the new one waits 5 s for a database that is in use and
	// 5 s for a keyring that nobody unlocks, before it says so.
	connectTimeout = 25 * time.Second
	// strayTimeout is for a process that has the mark of a run, but no way to it
	// by which it could tell whether that run lives.
	strayTimeout = 2 * time.Second
	// healthTimeout is how long one daemon may take to say who it is.
	healthTimeout = 3 * time.Second
	// stopTimeout is how long a daemon may take to end before it is made to.
	stopTimeout = 6 * time.Second
	// endTimeout is the same for a process that became no daemon. One waits less
	// than that for the home, and ends by itself.
	endTimeout = time.Second
)

// InsideRun reports whether an environment is that of a run's descendant, as
// far as it is honest. The daemon decides by process instead; this is for
// when there is no daemon to ask.
func InsideRun(environ []string) bool {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "AUTHSOME_PROXY_MODE="); ok && v != "" {
			return true
		}
	}
	return false
}

// Connect returns a client of the home's daemon, which it starts when there is
// none, and replaces when it is of another version. Of any number of commands
// that come at once, one starts it and the others wait. Inside a run nothing is
// started or stopped: Connect then waits for the run to do it.
func Connect(ctx context.Context, o Options) (*Client, error) {
	s, err := newStarter(o)
	if err != nil {
		return nil, err
	}
	return s.run(ctx)
}

// ConnectGrant is Connect and OpenGrant in one, for a run that begins: where a
// daemon of the right version answers, one connection does for both. prepare
// makes what OpenGrant takes, while the daemon is at work; it is called once at
// most, and what it has made is the caller's. The client is there, beside an
// error as well, when a daemon was met.
func ConnectGrant(ctx context.Context, o Options, prepare func() (*net.TCPListener, GrantRequest, error)) (*Client, *GrantConn, GrantInfo, error) {
	s, err := newStarter(o)
	if err != nil {
		return nil, nil, GrantInfo{}, err
	}
	var listener *net.TCPListener
	var req GrantRequest
	var failed error
	once := func() error {
		if listener == nil && failed == nil {
			if listener, req, failed = prepare(); failed == nil {
				failed = checkListener(listener)
			}
		}
		return failed
	}
	conn, version, err := s.client.upgrade(ctx, PathGrants, GrantProtocol, once)
	switch {
	case failed != nil:
		return nil, nil, GrantInfo{}, failed
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return nil, nil, GrantInfo{}, deaf()
	case err != nil: // for Connect to say why, or do something about it
	case version != s.Version && !s.AnyVersion:
		_ = conn.Close()
	default:
		g, info, err := s.client.askGrant(ctx, conn, listener, req, !canPassSockets)
		if authsome.CodeOf(err) != authsome.DaemonUnavailable {
			return s.client, g, info, err
		}
		// On its way out: the next one may do it.
	}
	c, err := s.run(ctx)
	if err == nil {
		err = once()
	}
	if err != nil {
		return nil, nil, GrantInfo{}, err
	}
	g, info, err := c.OpenGrant(ctx, listener, req)
	return c, g, info, err
}

func newStarter(o Options) (*starter, error) {
	s := &starter{Options: o, began: time.Now()}
	if s.Version == "" {
		s.Version = authsome.Version
	}
	if s.Environ == nil {
		s.Environ = os.Environ()
	}
	s.insideRun = InsideRun(s.Environ)
	if s.insideRun {
		s.way = wayOut(s.Environ)
	}
	if s.Timeout == 0 {
		s.Timeout = connectTimeout
		if s.insideRun && s.way == "" {
			s.Timeout = strayTimeout
		}
	}
	var err error
	if o.Home == "" {
		s.home, err = Home(os.Getenv)
	} else {
		s.home, err = ResolveHome(o.Home)
	}
	if err != nil {
		return nil, err
	}
	s.client = &Client{Home: s.home}
	return s, nil
}

// run is Connect, once its options are read.
func (s *starter) run(ctx context.Context) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	if err := s.connect(ctx); err != nil {
		s.client.Close()
		return nil, err
	}
	return s.client, nil
}

// starter is one call of Connect.
type starter struct {
	Options
	home      string
	client    *Client
	began     time.Time
	insideRun bool
	way       string    // the address of the run's proxy, inside one; "" if unknown
	tried     time.Time // when that was last tried
}

// wayOut is the address of a run's proxy, as its descendants' environment has
// it; "" when it has none.
func wayOut(environ []string) string {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.EqualFold(name, "HTTPS_PROXY") {
			continue
		}
		if u, err := url.Parse(value); err == nil && u.Hostname() == "127.0.0.1" && u.Port() != "" {
			return u.Host
		}
	}
	return ""
}

// runIsOver reports whether the run that this process is inside has ended: it
// holds its proxy's port for as long as it lives, without a daemon as well. It
// looks once in a while, since each look is a connection that somebody accepts.
func (s *starter) runIsOver(ctx context.Context) bool {
	if s.way == "" || time.Since(s.tried) < time.Second {
		return false
	}
	s.tried = time.Now()
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "tcp4", s.way)
	if err == nil {
		_ = conn.Close()
	}
	// Any other error may be a sandbox's.
	return errors.Is(err, syscall.ECONNREFUSED)
}

// found is what a look for the daemon gives.
type found int

const (
	nobody found = iota // none listens, or it is on its way out
	right               // a daemon to use
	other               // a daemon of another version
)

// look asks for the daemon once. An error is final.
func (s *starter) look(ctx context.Context) (found, Health, error) {
	hctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	h, err := s.client.Health(hctx)
	switch {
	case err == nil && (h.Version == s.Version || s.AnyVersion):
		return right, h, nil
	case err == nil:
		return other, h, nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nobody, h, deaf()
	case authsome.CodeOf(err) == authsome.DaemonUnavailable:
		return nobody, h, nil
	default:
		return nobody, h, err
	}
}

func deaf() error {
	return authsome.E(authsome.DaemonUnavailable, "the daemon is running but does not answer").
		WithHint("authsome daemon restart")
}

func (s *starter) connect(ctx context.Context) error {
	for ensured := false; ; {
		state, daemon, err := s.look(ctx)
		switch {
		case err != nil:
			return err
		case state == right:
			return nil
		case s.NoStart && state == nobody:
			return authsome.E(authsome.DaemonUnavailable, "the daemon is not running").WithHint("authsome daemon start")
		case (s.NoStart || s.insideRun) && state == other:
			return authsome.E(authsome.DaemonUnavailable, "the daemon is of version %s, this program of %s", daemon.Version, s.Version).
				WithHint("restart it in a terminal of your own, outside any run: authsome daemon restart")
		}
		if state == nobody {
			if f := s.failed(); f != nil {
				return f
			}
		}
		switch {
		case s.insideRun:
			if state == nobody && s.runIsOver(ctx) {
				return authsome.E(authsome.DaemonUnavailable, "the daemon is not running, and the run that this process belongs to is over").
					WithHint("start it in a terminal of your own: authsome daemon start")
			}
		default:
			if !ensured {
				if err := EnsureHome(s.home); err != nil {
					return err
				}
				ensured = true
			}
			done, err := s.tryStart(ctx)
			if done || err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return s.timedOut(ctx)
		case <-time.After(dialEvery):
		}
	}
}

func (s *starter) timedOut(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return authsome.E(authsome.Cancelled, "start the daemon: cancelled")
	}
	if s.insideRun {
		e := authsome.E(authsome.DaemonUnavailable, "the daemon is not running, and a process inside a run may not start it")
		if s.way == "" {
			return e.WithHint("where this is no run, unset AUTHSOME_PROXY_MODE; else start it in a terminal of your own: authsome daemon start")
		}
		return e.WithHint("start it in a terminal of your own: authsome daemon start")
	}
	return authsome.E(authsome.DaemonUnavailable, "start the daemon: it was not ready after %s", s.Timeout).
		WithHint("see %s", filepath.Join(s.home, LogFile))
}

// tryStart becomes the one that starts the daemon, unless another command is;
// it then reports false.
func (s *starter) tryStart(ctx context.Context) (bool, error) {
	lock := flock.New(filepath.Join(s.home, StartLockFile), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return false, homeError(s.home, "is not writable", err)
	}
	if !ok {
		return false, nil
	}
	defer func() { _ = lock.Unlock() }()
	// Another may have done it between the look and the lock.
	state, _, err := s.look(ctx)
	switch {
	case err != nil:
		return false, err
	case state == right:
		return true, nil
	case state == other:
		if _, err := StopDaemon(ctx, s.home); err != nil {
			return false, err
		}
		s.client.Close() // its idle connection leads to the old one
	}
	if s.locked() {
		return false, nil // one is on its way, or on its way out
	}
	return s.start(ctx)
}

// start launches the daemon and waits until it answers. The caller holds the
// start lock. It reports false when another process became the daemon
// meanwhile: a person's `daemon serve`.
func (s *starter) start(ctx context.Context) (bool, error) {
	exe, args := s.Executable, s.Args
	if exe == "" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return false, authsome.E(authsome.Internal, "start the daemon: %w", err)
		}
	}
	if args == nil {
		args = []string{"daemon", "serve"}
	}
	log, err := openInHome(s.home, LogFile, os.O_APPEND|os.O_WRONLY)
	if err != nil {
		return false, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(exe, args...)
	cmd.Dir = daemonDir
	cmd.Env = daemonEnvironment(s.Environ, s.home)
	// What the daemon cannot log itself, a crash, ends in its log all the same.
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = detached()
	if err := cmd.Start(); err != nil {
		return false, authsome.E(authsome.DaemonUnavailable, "start the daemon: %w", err)
	}
	exited := make(chan error, 1)
	pid := cmd.Process.Pid
	// It is waited for as long as this process lives: a run outlives daemons
	// and must not keep them as zombies.
	go func() { exited <- cmd.Wait() }()
	for {
		state, daemon, err := s.look(ctx)
		if err == nil && state != nobody && daemon.PID > 0 && daemon.PID != pid {
			// A person's `daemon serve` was first. The process that was started
			// has nothing to do any more.
			end(cmd.Process, exited)
		}
		switch {
		case err != nil:
			return false, err
		case state == right:
			return true, nil
		case state == other:
			return false, authsome.E(authsome.DaemonUnavailable, "start the daemon: %s is of version %s, this program of %s", exe, daemon.Version, s.Version).
				WithHint("the program was replaced meanwhile: run the command again")
		}
		select {
		case <-ctx.Done():
			return false, s.timedOut(ctx)
		case err := <-exited:
			if f := s.failed(); f != nil {
				return false, f
			}
			if s.locked() {
				return false, nil
			}
			how := "without a word"
			if err != nil {
				how = err.Error()
			}
			return false, authsome.E(authsome.DaemonUnavailable, "start the daemon: it ended at once (%s)", how).
				WithHint("see %s", filepath.Join(s.home, LogFile))
		case <-time.After(dialEvery / 2):
		}
	}
}

// end makes a process end, and returns when it has. exited tells.
func end(p *os.Process, exited <-chan error) {
	_ = p.Signal(terminate)
	select {
	case <-exited:
	case <-time.After(endTimeout):
		_ = p.Kill()
		<-exited
	}
}

// locked reports whether some process is the home's daemon, or becomes it.
func (s *starter) locked() bool {
	lock := flock.New(filepath.Join(s.home, LockFile), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if ok {
		_ = lock.Unlock()
	}
	return err == nil && !ok
}

// reportedFailure is a Failure with its time, so that one of yesterday is not
// taken for today's.
type reportedFailure struct {
	Failure
	At time.Time `json:"at"`
}

// ReportFailure leaves word for the commands that wait for the daemon of a
// home: it could not start. Nothing is said about its own failing, which the
// log has.
func ReportFailure(home string, err error) {
	path, perr := SocketPath(home)
	if perr != nil || privateDir(filepath.Dir(path), true) != nil {
		return
	}
	data, jerr := json.Marshal(reportedFailure{*FailureOf(err), time.Now()})
	if jerr != nil {
		return
	}
	tmp := fmt.Sprintf("%s.%d", failurePath(path), os.Getpid())
	if os.WriteFile(tmp, data, 0o600) == nil {
		_ = os.Rename(tmp, failurePath(path))
	}
}

// ClearFailure takes back an earlier ReportFailure.
func ClearFailure(home string) {
	if path, err := SocketPath(home); err == nil && privateDir(filepath.Dir(path), false) == nil {
		_ = os.Remove(failurePath(path))
	}
}

// failed is what a daemon that began after this command did has reported, or
// nil.
func (s *starter) failed() error {
	path, err := SocketPath(s.home)
	if err != nil || privateDir(filepath.Dir(path), false) != nil {
		return nil
	}
	var f reportedFailure
	data, err := os.ReadFile(failurePath(path))
	if err != nil || json.Unmarshal(data, &f) != nil || f.At.Before(s.began) {
		return nil
	}
	return f.Err()
}

// StopDaemon asks the daemon of a resolved home to end and returns when it has.
// One that does not answer, or not end, is made to. It reports false when there
// was none.
func StopDaemon(ctx context.Context, home string) (bool, error) {
	conn, err := dialHome(ctx, home)
	if err != nil {
		if absent(err) {
			return false, nil
		}
		return false, unavailable(ctx, err)
	}
	peer, err := PeerOf(conn)
	_ = conn.Close()
	if err != nil {
		return false, authsome.E(authsome.Internal, "stop the daemon: %w", err)
	}
	c := &Client{Home: home}
	defer c.Close()
	sctx, cancel := context.WithTimeout(ctx, healthTimeout)
	err = c.Stop(sctx)
	cancel()
	if err != nil && authsome.CodeOf(err) != authsome.DaemonUnavailable {
		return false, err // refused
	}
	lock := flock.New(filepath.Join(home, LockFile), flock.SetPermissions(0o600))
	for began, sent := time.Now(), 0; ; {
		// The lock goes with the process, whatever is left of it otherwise.
		ok, err := lock.TryLock()
		if err != nil {
			return false, homeError(home, "is not writable", err)
		}
		if ok {
			return true, lock.Unlock()
		}
		// A run starts the next daemon at once, which may have the lock before it
		// is seen to be free.
		if next := lockHolder(home); peer.PID > 0 && next > 0 && next != peer.PID {
			return true, nil
		}
		if p, err := os.FindProcess(peer.PID); err == nil && peer.PID > 0 {
			switch waited := time.Since(began); {
			case waited > stopTimeout && sent == 0:
				sent++
				_ = p.Signal(terminate)
			case waited > stopTimeout+stopTimeout/3 && sent == 1:
				sent++
				_ = p.Kill()
			}
		}
		select {
		case <-ctx.Done():
			return false, authsome.E(authsome.DaemonUnavailable, "stop the daemon: process %d is still there", peer.PID).
				WithHint("end it yourself: kill -9 %d", peer.PID)
		case <-time.After(dialEvery):
		}
	}
}

// lockHolder is the process id in a home's lock file; 0 when it says nothing, or
// cannot be read while it is locked (Windows).
func lockHolder(home string) int {
	data, err := os.ReadFile(filepath.Join(home, LockFile))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}

// daemonVariables are what an automatically started daemon gets of the
// environment of the command that starts it: enough to find its home, the
// keyring and the language, and nothing that says where traffic goes or whom
// to trust (HTTPS_PROXY, SSL_CERT_FILE). Those count for a `daemon serve` that
// a person starts. A trailing * stands for any rest.
var daemonVariables = []string{
	"HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_*", "XDG_*",
	"DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY",
	"AUTHSOME_HOME", "AUTHSOME_MASTER_KEY", "AUTHSOME_MASTER_KEY_FILE", "AUTHSOME_KEYRING", "AUTHSOME_PORT", "AUTHSOME_LOG",
	"AUTHSOME_LIMITS",
	// Windows
	"SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "USERPROFILE", "USERNAME", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP",
}

// daemonEnvironment filters environ by daemonVariables and sets the home.
func daemonEnvironment(environ []string, home string) []string {
	var out []string
	for _, kv := range environ {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" || sameVariable(name, "AUTHSOME_HOME") {
			continue
		}
		for _, v := range daemonVariables {
			prefix, any := strings.CutSuffix(v, "*")
			if sameVariable(name, v) || any && strings.HasPrefix(name, prefix) {
				out = append(out, kv)
				break
			}
		}
	}
	return append(out, "AUTHSOME_HOME="+home)
}
