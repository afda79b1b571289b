package store

import (
	"context"
	"database/sql/driver"
	"time"
)

// unlockTime bounds the giving back of a lock.
const unlockTime = 5 * time.Second

// Lock waits until nobody else holds the lock of that name, in this process or
// in another one on the same database, and takes it. What is done under it, and
// what is read under it, no other holder has changed meanwhile.
//
// A holder that dies gives the lock back by dying: on PostgreSQL it belongs to a
// session of the server, which ends with its connection; SQLite's file has one
// process at a time. Time alone never ends it: a refresh that was merely slow
// would be made twice, and with rotation that costs the whole token family. For
// the same reason it is no row with a date in it.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	mine := make(chan struct{})
	for {
		s.mu.Lock()
		other := s.held[name]
		if other == nil {
			s.held[name] = mine
		}
		s.mu.Unlock()
		if other == nil {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, s.fail("wait for "+name, context.Cause(ctx))
		}
	}
	release := func() {
		s.mu.Lock()
		delete(s.held, name)
		s.mu.Unlock()
		close(mine)
	}
	if s.engine.lock == "" {
		return release, nil
	}
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		release()
		return nil, s.fail("lock "+name, err)
	}
	if _, err := conn.ExecContext(ctx, s.engine.lock, name); err != nil {
		_ = conn.Close()
		release()
		return nil, s.fail("lock "+name, err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTime)
		defer cancel()
		if _, err := conn.ExecContext(ctx, s.engine.unlock, name); err != nil {
			// The session must not go back into the pool with the lock.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close()
		release()
	}, nil
}
