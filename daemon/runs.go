package daemon

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// run is one living `authsome run`: it holds a connection on which nothing is
// said any more, and whose end is the run's.
type run struct {
	grant *authsome.Grant
	token authsome.Secret
	pid   int
	port  int
	conn  *net.UnixConn
	// streams is where a relayed run's connections come in; nil for one that
	// handed its socket over.
	streams *api.StreamListener
}

// runs are the living ones. It answers whose descendant a process is.
type runs struct {
	mu      sync.RWMutex
	byGrant map[string]*run
	byPID   map[int]*run
	// sleeping are the processes of runs that an earlier daemon knew and that
	// have not come back yet: their children are theirs all the same.
	sleeping map[int]authsome.Grant

	closed bool
	work   sync.WaitGroup
}

// startSlack is by how much a process may seem to have begun later than it
// did: the boot time is kept in whole seconds.
const startSlack = 2 * time.Second

// sleep notes the runs of an earlier daemon. A process that began after its
// run did is another one, under a number that came round again.
func (r *runs) sleep(grants []authsome.Grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range grants {
		if began, err := startOf(g.Identity.PID); err == nil && began.Before(g.CreatedAt.Add(startSlack)) {
			r.sleeping[g.Identity.PID] = g
		}
	}
}

// forget wakes nobody any more: the runs that did not come back are over.
func (r *runs) forget(alive func(grantID string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid, g := range r.sleeping {
		if !alive(g.ID) {
			delete(r.sleeping, pid)
		}
	}
}

// none reports whether there is no run at all.
func (r *runs) none() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byPID) == 0 && len(r.sleeping) == 0
}

// heldBy is the grant of the run that a process is; "" when it is none.
func (r *runs) heldBy(pid int) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if x := r.byPID[pid]; x != nil {
		return x.grant.ID
	}
	return r.sleeping[pid].ID
}

// get returns the living run of a grant, or nil.
func (r *runs) get(grantID string) *run {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byGrant[grantID]
}

// errStopping sends a run to the next daemon; any other refusal would end it.
var errStopping = authsome.E(authsome.DaemonUnavailable, "start a run: the daemon is stopping")

// add makes a run known, unless its grant has a living run already.
func (r *runs) add(x *run) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return errStopping
	case r.byGrant[x.grant.ID] != nil:
		return authsome.E(authsome.Forbidden, "start a run: another process holds this grant")
	}
	r.byGrant[x.grant.ID] = x
	if x.pid > 0 {
		r.byPID[x.pid] = x
		delete(r.sleeping, x.pid)
	}
	return nil
}

func (r *runs) remove(x *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byGrant, x.grant.ID)
	if r.byPID[x.pid] == x {
		delete(r.byPID, x.pid)
	}
}

// begin counts a handler that has left the HTTP server's care; false when the
// daemon is stopping.
func (r *runs) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.work.Add(1)
	return true
}

// close lets every run go and returns when its handlers have: each run then
// looks for the next daemon.
func (r *runs) close(ctx context.Context) {
	r.mu.Lock()
	r.closed = true
	for _, x := range r.byGrant {
		_ = x.conn.Close()
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() { defer close(done); r.work.Wait() }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// stopping reports whether close was called.
func (r *runs) stopping() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.closed
}
