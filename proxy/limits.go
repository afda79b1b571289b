package proxy

import (
	"context"
	"runtime"
	"time"
)

// Limits bound what children use of the daemon, so that none of them takes it from
// the others. A zero field is the default. See docs/limits.md, which a test holds to
// the numbers here.
//
// Of Connections, Requests and Memory there is a total for all runs, and less for
// one. The last quarter of a total goes to runs that have less than an equal share
// of it, counted as if there were one run more: so there is always room for another
// one that wants little.
type Limits struct {
	// Connections of children: tunnels, blind ones too, and others.
	Connections, RunConnections int
	// Requests under way: those waiting for an answer, streams and WebSockets, and
	// blind tunnels.
	Requests, RunRequests int
	// Memory is for what is kept of bodies, in bytes.
	Memory, RunMemory int64
	// RunHosts is how many hosts a run may ask for, for the first time, in a minute,
	// once it has asked for as many: each needs a certificate.
	RunHosts int
}

const (
	maxConnections    = 16384
	maxRunConnections = 4096
	maxRequests       = 16384
	maxRunRequests    = 4096
	maxMemory         = 512 << 20
	maxRunMemory      = 256 << 20
	maxRunHosts       = 3000

	// maxHandshakes bounds those of a run that are being calculated: more at once
	// are no faster, and only keep others from the processor.
	maxHandshakes = 32
	// maxUnknown bounds the connections to a run's port that have shown no token. The
	// one that has been silent for longest makes room, after unknownTime.
	maxUnknown  = 256
	unknownTime = time.Second
	// maxURL is the size limit of a path with its query, in bytes.
	maxURL = 256 << 10

	// patience is how long a request waits for a place, for memory, or for its turn
	// with a new host. Most of what it waits for takes less.
	patience = 5 * time.Second
	// retryAfter is what a child is told that has waited in vain, in seconds.
	retryAfter = 1
	// tellAgain is how long a limit that a run has hit is not told again.
	tellAgain = 10 * time.Minute
)

// descriptorsKept of those that the process may open are for what is not the
// children's: database, spool, log, API, and two for each run. An eighth is,
// when that is more.
const descriptorsKept = 256

// ForDescriptors lowers the limits to what a process can do that may have so many
// files open, and fills in defaults. A connection and a request cost one each; what
// is kept open for later requests gives way.
func (l Limits) ForDescriptors(files int) Limits {
	l = l.withDefaults()
	most := max((files-max(descriptorsKept, files/8))/2, 16)
	l.Connections, l.Requests = min(l.Connections, most), min(l.Requests, most)
	l.RunConnections, l.RunRequests = min(l.RunConnections, l.Connections/2), min(l.RunRequests, l.Requests/2)
	return l
}

func (l Limits) withDefaults() Limits {
	or := func(n *int, usual int) {
		if *n <= 0 {
			*n = usual
		}
	}
	or(&l.Connections, maxConnections)
	or(&l.RunConnections, min(maxRunConnections, l.Connections))
	or(&l.Requests, maxRequests)
	or(&l.RunRequests, min(maxRunRequests, l.Requests))
	or(&l.RunHosts, maxRunHosts)
	if l.Memory <= 0 {
		l.Memory = maxMemory
	}
	if l.RunMemory <= 0 {
		l.RunMemory = min(maxRunMemory, l.Memory)
	}
	return l
}

// resource is what there is a quota of.
type resource int

const (
	connections resource = iota
	requests
	memory
	resources // how many there are
)

// limiter knows what each run uses.
type limiter struct {
	Limits
	quotas   [resources]quota
	accounts accounts
}

func newLimiter(l Limits) *limiter {
	l = l.withDefaults()
	s := &limiter{Limits: l}
	s.quotas[connections] = quota{total: int64(l.Connections), each: int64(l.RunConnections)}
	s.quotas[requests] = quota{total: int64(l.Requests), each: int64(l.RunRequests)}
	s.quotas[memory] = quota{total: l.Memory, each: l.RunMemory}
	return s
}

func (s *limiter) try(a *account, r resource, n int64) bool {
	return s.quotas[r].take(&a.shares[r], n)
}

// await is try that waits, but not for longer than patience.
func (s *limiter) await(ctx context.Context, a *account, r resource, n int64) bool {
	return s.quotas[r].take(&a.shares[r], n) || s.quotas[r].await(ctx, &a.shares[r], n)
}

// force takes what cannot be refused.
func (s *limiter) force(a *account, r resource, n int64) {
	if n > 0 {
		q := &s.quotas[r]
		q.mu.Lock()
		defer q.mu.Unlock()
		q.grant(&a.shares[r], n)
	}
}

// has reports whether the run could have so much.
func (s *limiter) has(a *account, r resource, n int64) bool {
	q := &s.quotas[r]
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fits(&a.shares[r], n)
}

// low reports whether the run, or all together, use more than half of what they
// may.
func (s *limiter) low(a *account, r resource) bool {
	q := &s.quotas[r]
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used > q.total/2 || a.shares[r].used > q.each/2
}

func (s *limiter) give(a *account, r resource, n int64) { s.quotas[r].give(&a.shares[r], n) }

// slots is a semaphore.
type slots chan struct{}

func newHandshakes() slots { return make(slots, max(maxHandshakes, 2*runtime.GOMAXPROCS(0))) }

func (s slots) await(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(2 * patience)
	defer t.Stop()
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}

func (s slots) give() { <-s }

// Usage is what children use at the moment.
type Usage struct {
	Connections, Requests int
	Memory                int64 // bytes
}

// Usage gives what children use at the moment.
func (p *Proxy) Usage() Usage {
	level := func(r resource) int64 {
		used, _ := p.limits.quotas[r].level()
		return used
	}
	return Usage{Connections: int(level(connections)), Requests: int(level(requests)), Memory: level(memory)}
}
