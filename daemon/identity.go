package daemon

import (
	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// localIdentity is the person of this home, for what no request asks for.
var localIdentity = authsome.Identity{Vault: authsome.LocalVault, User: authsome.LocalUser}

// unknownRun is Identity.Run for a process whose descent cannot be told any
// more, because it or one of its ancestors is gone. It counts as a run's
// descendant: one that hands its connection over and ends must gain nothing.
const unknownRun = "unknown"

// maxAncestors bounds the walk, should ids form a ring while it is under way.
const maxAncestors = 1000

// identify says who speaks through a connection. It is asked anew for every
// request, since runs come and go.
func (d *Daemon) identify(peer api.Peer) authsome.Identity {
	id := authsome.Identity{Vault: authsome.LocalVault, User: authsome.LocalUser, PID: peer.PID}
	if !knowsProcesses {
		return id
	}
	id.Program = programOf(peer.PID)
	id.Run = d.runs.of(peer.PID)
	return id
}

// of is the run that a process descends from: "" for none, unknownRun when it
// cannot be told. The process that holds a run is not its own descendant.
func (r *runs) of(pid int) string {
	if r.none() {
		return ""
	}
	// An ancestor may end between two steps, and its children move up: then
	// the walk is done again.
	for range 3 {
		if run, ok := r.walk(pid); ok {
			return run
		}
	}
	return unknownRun
}

func (r *runs) walk(pid int) (string, bool) {
	if pid <= 0 {
		return "", false
	}
	for range maxAncestors {
		parent, err := parentOf(pid)
		if err != nil {
			return "", false
		}
		if parent <= 0 {
			return "", true
		}
		if run := r.heldBy(parent); run != "" {
			return run, true
		}
		pid = parent
	}
	return "", false
}
