//go:build unix

package launch

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const errTooLong = syscall.E2BIG

// The signals, by where they come from.
var (
	// terminalSignals are sent by the terminal to the whole foreground group.
	// There the child has its own already, and a second Ctrl-C means something
	// else to many programs; everywhere else they are passed on.
	terminalSignals = []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH}
	// sentSignals are meant for whoever runs as this process. SIGCONT is among
	// them since the child may have been stopped alone.
	sentSignals = []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT}
)

// settle is how long a signal for the whole group, or a SIGCONT after a stop,
// may take to reach the child as well.
const settle = 20 * time.Millisecond

func run(c Command) (int, error) {
	adoptOrphans()
	// One that nohup, or a shell for its background job, had ignored stays so,
	// here and in the child.
	passed := slices.DeleteFunc(slices.Concat(terminalSignals, sentSignals), signal.Ignored)
	signals := make(chan os.Signal, 32)
	if len(passed) > 0 { // Notify takes none for all
		signal.Notify(signals, passed...)
		defer signal.Stop(signals)
	}
	p := &child{over: make(chan struct{}), tty: openTerminal()}

	// The kernel sends a parent-death signal when the thread that started the
	// child ends, so this thread must not; it waits here anyway.
	runtime.LockOSThread()
	var err error
	if p.pid, err = fork(c); err != nil {
		runtime.UnlockOSThread()
		p.end()
		return 0, startError(c, err)
	}
	go p.forward(signals)
	code := p.wait()
	runtime.UnlockOSThread()
	p.end()
	return code, nil
}

// fork starts the child. A file that the kernel does not know as a program is
// given to the shell, as execvp does (POSIX, exec family), if it is text.
func fork(c Command) (int, error) {
	attr := &syscall.ProcAttr{
		Env:   c.Env,
		Files: []uintptr{c.Stdin.Fd(), c.Stdout.Fd(), c.Stderr.Fd()},
		Sys:   childAttributes(),
	}
	pid, err := syscall.ForkExec(c.Path, c.Argv, attr)
	if errors.Is(err, syscall.ENOEXEC) {
		if data, rerr := readRegular(c.Path, maxRoots); rerr == nil && len(data) > 0 && bytes.IndexByte(data[:min(len(data), 512)], 0) < 0 {
			pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", c.Path}, c.Argv[1:]...), attr)
		}
	}
	return pid, err
}

// child is a started process until it has been waited for.
type child struct {
	pid  int
	over chan struct{}

	// mu is held while the process or the terminal is used beside wait.
	mu  sync.Mutex
	tty terminal // -1 after the end
}

// end is called when the process is no more, and its number may be another's.
func (p *child) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.over)
	p.tty.close()
	p.tty = -1
}

// pass sends a signal on, unless the child is over or has it already.
func (p *child) pass(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.over:
	default:
		if !slices.Contains(terminalSignals, os.Signal(sig)) || !p.tty.foreground() {
			_ = syscall.Kill(p.pid, sig)
		}
	}
}

// wait returns the child's exit code. Orphans that this process has adopted are
// taken off the system's list on the way.
func (p *child) wait() int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(waitFor(p.pid), &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1 // ECHILD: somebody else has waited for it, which nobody here does
		case pid != p.pid:
		case status.Exited():
			return status.ExitStatus()
		case status.Signaled():
			return 128 + int(status.Signal())
		case status.Stopped():
			p.stopped()
		}
	}
}

// stopped follows a child that was stopped: the shell waits for this process
// and must see it stop to take the terminal back. Without a terminal there is
// no shell that would continue it.
func (p *child) stopped() {
	if !p.tty.open() {
		return
	}
	// A SIGCONT for the group may have come meanwhile; stopping then would be
	// once too often.
	time.Sleep(settle)
	if stillStopped(p.pid) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}

// stillStopped looks at a child without taking the news of its end.
func stillStopped(pid int) bool {
	out, err := processState(pid)
	return err == nil && out == 'T'
}

// forward passes signals on until the child is over.
func (p *child) forward(signals <-chan os.Signal) {
	for {
		select {
		case <-p.over:
			return
		case sig := <-signals:
			if sig == syscall.SIGTERM || sig == syscall.SIGHUP {
				// One that was sent to the group (timeout, a service manager) has
				// reached the child already, and most end by it. What asks to end
				// for the second time asks for more haste, to some.
				select {
				case <-p.over:
					return
				case <-time.After(settle):
				}
			}
			p.pass(sig.(syscall.Signal))
		}
	}
}

// terminal is the controlling terminal, or -1.
type terminal int

func openTerminal() terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1
	}
	return terminal(fd)
}

func (t terminal) open() bool { return t >= 0 }

// foreground reports whether this process's group has the terminal, so that
// the terminal's signals reach it.
func (t terminal) foreground() bool {
	if t < 0 {
		return false
	}
	group, err := unix.IoctlGetInt(int(t), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

func (t terminal) close() {
	if t >= 0 {
		_ = unix.Close(int(t))
	}
}
