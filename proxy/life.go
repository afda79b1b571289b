package proxy

import (
	"context"
	"slices"
	"sync"
	"time"
)

// life is the context of one request on a front, or a stream of HTTP/2. A chain of the standard
// library's would do the same: it costs a fifth of what such a request allocates.
//
// It has no parent: what ends it is the child's connection (see watch), the
// tunnel, or Reconsider. Contexts that are made from it end with it.
type life struct {
	c *childConn // the value of childKey

	mu    sync.Mutex
	cause error         // why it has ended; nil until then
	done  chan struct{} // made when somebody asks for it
	link  *link         // closed at the end
	after []*func()     // run at the end
}

// Deadline implements context.Context: there is none.
func (l *life) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (l *life) Value(key any) any {
	if _, ok := key.(childKey); ok {
		return l.c
	}
	return nil
}

var ended = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done implements context.Context.
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.cause != nil {
			l.done = ended
		}
	}
	return l.done
}

// Err implements context.Context.
func (l *life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return context.Canceled
	}
	return nil
}

// AfterFunc is what package context asks of contexts that are not its own.
func (l *life) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		go f()
		return func() bool { return false }
	}
	p := &f
	l.after = append(l.after, p)
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.Index(l.after, p)
		if i < 0 {
			return false
		}
		l.after = slices.Delete(l.after, i, i+1)
		return true
	}
}

// hold has a link closed when the life ends; false when it has ended.
func (l *life) hold(up *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return false
	}
	l.link = up
	return true
}

// release takes hold back; false when the life has ended.
func (l *life) release() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.link = nil
	return l.cause == nil
}

// end ends it, once; cause nil is context.Canceled.
func (l *life) end(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return
	}
	l.cause = cause
	if l.done != nil {
		close(l.done)
	}
	if l.link != nil {
		go func(up *link) { _ = up.conn.Close() }(l.link) // it writes, and may wait
		l.link = nil
	}
	for _, f := range l.after {
		go (*f)()
	}
	l.after = nil
}

// causeOf is context.Cause for contexts that may be lives.
func causeOf(ctx context.Context) error {
	if l, ok := ctx.(*life); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.cause
	}
	return context.Cause(ctx)
}
