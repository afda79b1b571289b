package proxy

import (
	"sync"
	"time"
)

const (
	// maxIdleWorkers is how many goroutines wait for the next request.
	maxIdleWorkers = 64
	// idleWorker is how long.
	idleWorker = 5 * time.Second
)

// workers run the handlers of HTTP/2 requests. A handler's stack is deep, and
// growing a new one each time costs more than to wake a goroutine that has one.
type workers struct {
	mu     sync.Mutex
	idle   []worker // the one used last is last
	sweeps bool
	closed bool
}

type worker struct {
	next  chan *h2stream // nil ends it
	since time.Time
}

// run runs a stream's handler.
func (w *workers) run(s *h2stream) {
	w.mu.Lock()
	n := len(w.idle) - 1
	if n < 0 {
		w.mu.Unlock()
		go w.work(s)
		return
	}
	next := w.idle[n].next
	w.idle = w.idle[:n]
	w.mu.Unlock()
	next <- s
}

func (w *workers) work(s *h2stream) {
	next := make(chan *h2stream, 1)
	for s != nil {
		for s != nil {
			s.run()
			s = s.c.done()
		}
		w.mu.Lock()
		if w.closed || len(w.idle) >= maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, worker{next, time.Now()})
		if !w.sweeps {
			w.sweeps = true
			time.AfterFunc(idleWorker, w.sweep)
		}
		w.mu.Unlock()
		s = <-next
	}
}

// sweep ends those that nobody has needed for a while.
func (w *workers) sweep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.idle) && time.Since(w.idle[n].since) >= idleWorker {
		w.idle[n].next <- nil
		n++
	}
	w.idle = append(w.idle[:0], w.idle[n:]...)
	if w.sweeps = len(w.idle) > 0; w.sweeps {
		time.AfterFunc(idleWorker, w.sweep)
	}
}

// close ends those that are idle, and others when they become so.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, i := range w.idle {
		i.next <- nil
	}
	w.idle = nil
}
