package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/authsome/authsome/api"
)

// byRestart are the ways in which a request may fail that was under way.
var byRestart = []string{brokeOff, "shutting_down", "upstream_unreachable", "upstream_timeout", "denied"}

// restart ends the daemon, and has another one in front of the services before
// anybody notices: the requests that come meanwhile wait in the backlog of each
// run's socket, and the runs renew their grants.
func (s *soak) restart(ctx context.Context, kill bool) error {
	w := s.judge.expect(window{why: "restart of the daemon", classes: byRestart})
	defer s.judge.done(w)
	s.hold(syscall.SIGSTOP)
	defer s.hold(syscall.SIGCONT)
	if err := s.endDaemon(kill); err != nil {
		return err
	}
	return s.serve(ctx)
}

// orphan kills the daemon and leaves it to the runs to start another. That one
// knows nothing of the services' proxy, as docs/troubleshooting.md has it, so it is
// then replaced.
func (s *soak) orphan(ctx context.Context) error {
	w := s.judge.expect(window{why: "restart of the daemon", classes: byRestart})
	defer s.judge.done(w)
	if err := s.endDaemon(true); err != nil {
		return err
	}
	client := &api.Client{Home: s.world.AuthsomeHome()}
	defer client.Close()
	pid := 0
	if !eventually(func() bool {
		h, err := client.Health(ctx)
		pid = h.PID
		return err == nil
	}) {
		s.judge.violate("no run starts the daemon again")
	}
	s.count("daemons started by runs", 1)
	s.hold(syscall.SIGSTOP)
	defer s.hold(syscall.SIGCONT)
	if pid != 0 {
		s.judge.ended(false)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			return fmt.Errorf("end the daemon that a run has started: %w", err)
		}
		if !eventually(func() bool { return gone(pid) }) {
			return fmt.Errorf("the daemon that a run has started does not end")
		}
	}
	return s.serve(ctx)
}

// endDaemon ends the daemon and waits for its end.
func (s *soak) endDaemon(kill bool) error {
	pid := s.world.DaemonPID()
	s.judge.ended(kill)
	sig := syscall.SIGTERM
	if kill {
		sig = syscall.SIGKILL
		s.count("kills of the daemon", 1)
	} else {
		s.count("ends of the daemon", 1)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("end the daemon: %w", err)
	}
	if !eventually(func() bool { return gone(pid) }) {
		s.judge.violate("the daemon does not end (signal %d)", sig)
		return fmt.Errorf("the daemon does not end")
	}
	return nil
}

func (s *soak) serve(context.Context) error {
	began := time.Now()
	if err := s.world.Serve(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	s.daemonSince = began
	return nil
}

// gone says that a process has ended with all its threads, whether or not its parent
// has taken note: a run that is held does not. Its first thread may end before others,
// which hold the lock of the home.
func gone(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// PID (NAME) STATE …, where the name may hold anything (proc(5)).
	at := strings.LastIndex(string(data), ") ")
	if at >= 0 && !strings.HasPrefix(string(data[at+2:]), "Z") {
		return false
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err != nil || len(threads) <= 1
}
