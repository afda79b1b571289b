package proxy

import (
	"context"
	"slices"
	"sync"
	"time"
)

// quota divides one resource among runs.
type quota struct {
	total, each int64

	mu    sync.Mutex
	used  int64
	users int64 // shares of which something is used
	// queue are the shares that somebody waits for, the next one to be served in
	// front. Runs take turns, however many wait in each.
	queue []*share
}

// share is what one run has of a quota. Its fields are guarded by the quota's mu.
type share struct {
	used    int64
	waiting []*waiter // in the order in which they came
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when it has what it waits for
}

// fits reports whether a run may have so much more.
func (q *quota) fits(s *share, n int64) bool {
	if n > q.each-s.used || n > q.total-q.used {
		return false
	}
	if q.used+n <= q.total-q.total/4 {
		return true
	}
	// An equal share for all of them, and for one more, which may come any time.
	users := q.users + 1
	if s.used == 0 {
		users++
	}
	return s.used+n <= max(q.total/users, 1)
}

func (q *quota) grant(s *share, n int64) {
	if s.used == 0 && n > 0 {
		q.users++
	}
	s.used += n
	q.used += n
}

// take takes so much, unless that would be too much, or others of the same run wait.
func (q *quota) take(s *share, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(s.waiting) > 0 || !q.fits(s, n) {
		return false
	}
	q.grant(s, n)
	return true
}

// await waits for its turn; false when that did not come in time. No more may wait
// of a run than may have something.
func (q *quota) await(ctx context.Context, s *share, n int64) bool {
	w := &waiter{n: n, ready: make(chan struct{})}
	q.mu.Lock()
	if n > q.each || int64(len(s.waiting)) >= q.each {
		q.mu.Unlock()
		return false
	}
	if len(s.waiting) == 0 {
		q.queue = append(q.queue, s)
	}
	s.waiting = append(s.waiting, w)
	q.serve()
	q.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-w.ready:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(s.waiting, w)
	if i < 0 {
		return true // at the last moment
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	if len(s.waiting) == 0 {
		i = slices.Index(q.queue, s)
		q.queue = slices.Delete(q.queue, i, i+1)
	}
	q.serve() // who came behind may want less
	return false
}

// give gives back.
func (q *quota) give(s *share, n int64) {
	if n == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.used -= n
	q.used -= n
	if s.used == 0 {
		q.users--
	}
	q.serve()
}

// serve lets go on who can. It is called with mu held.
func (q *quota) serve() {
	for i := 0; i < len(q.queue); {
		s := q.queue[i]
		w := s.waiting[0]
		if !q.fits(s, w.n) {
			i++
			continue
		}
		q.grant(s, w.n)
		close(w.ready)
		s.waiting = s.waiting[1:]
		q.queue = slices.Delete(q.queue, i, i+1)
		if len(s.waiting) > 0 {
			q.queue = append(q.queue, s) // behind the other runs
		}
		i = 0
	}
}

// level is what is used in all, and by how many runs.
func (q *quota) level() (used, users int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used, q.users
}
