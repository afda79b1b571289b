package proxy

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
)

// TestQuotaLeavesRoom: runs that take all they can get leave something to one that
// comes later, however many they are.
func TestQuotaLeavesRoom(t *testing.T) {
	for _, greedy := range []int{1, 2, 5, 10} {
		q := &quota{total: 100, each: 100}
		shares := make([]share, greedy+1)
		for more := true; more; {
			more = false
			for i := range greedy {
				more = q.take(&shares[i], 1) || more
			}
		}
		for i := range 100 / (greedy + 1) / 4 {
			if !q.take(&shares[greedy], 1) {
				t.Errorf("behind %d greedy runs one that comes later gets %d", greedy, i)
				break
			}
		}
	}
}

// TestQuotaTakesTurns: who waits is served as soon as there is something, runs in
// turn, and each run's in the order in which they came.
func TestQuotaTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quota{total: 8, each: 8}
		var holder, many, one share
		q.grant(&holder, 8)
		var mu sync.Mutex
		order := ""
		wait := func(s *share, name string) {
			go func() {
				if q.await(context.Background(), s, 1) {
					mu.Lock()
					order += name
					mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		wait(&many, "a")
		wait(&many, "b")
		wait(&many, "c")
		wait(&one, "1")
		for range 8 {
			q.give(&holder, 1)
			synctest.Wait()
		}
		if order != "a1bc" {
			t.Errorf("served in the order %q", order)
		}
	})
}

// TestQuotaWaitsInVain for its time, and for no longer than the child is there.
func TestQuotaWaitsInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quota{total: 2, each: 2}
		var s share
		q.take(&s, 2)
		began := time.Now()
		if q.await(context.Background(), &s, 1) || time.Since(began) != patience {
			t.Errorf("waited for %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began = time.Now()
		if q.await(ctx, &s, 1) || time.Since(began) != time.Second {
			t.Errorf("waited for %s after the child had gone", time.Since(began))
		}
		if q.await(context.Background(), &s, 3) {
			t.Error("got more than there is")
		}
		// No more wait than may have something.
		for range 2 {
			go q.await(context.Background(), &s, 1)
		}
		synctest.Wait()
		began = time.Now()
		if q.await(context.Background(), &s, 1) || time.Since(began) != 0 {
			t.Errorf("one too many waited, for %s", time.Since(began))
		}
		// One that gives up does not stop those behind it.
		q2 := &quota{total: 10, each: 10}
		var holder, big share
		q2.take(&holder, 7)
		ctx2, cancel2 := context.WithCancel(context.Background())
		go q2.await(ctx2, &big, 8)
		synctest.Wait()
		got := make(chan bool, 1)
		go func() { got <- q2.await(context.Background(), &big, 1) }()
		synctest.Wait()
		cancel2()
		if !<-got {
			t.Error("the one behind got nothing")
		}
		time.Sleep(2 * patience)
	})
}

// TestQuotaAddsUp, whatever happens at once.
func TestQuotaAddsUp(t *testing.T) {
	q := &quota{total: 50, each: 20}
	shares := make([]share, 5)
	var work sync.WaitGroup
	for i := range 20 {
		work.Go(func() {
			s := &shares[i%len(shares)]
			for range 300 {
				n := rand.Int64N(8)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(300))*time.Microsecond)
				if q.take(s, n) || q.await(ctx, s, n) {
					q.mu.Lock()
					if s.used > q.each || q.used > q.total {
						t.Errorf("%d of %d, %d of %d are in use", s.used, q.each, q.used, q.total)
					}
					q.mu.Unlock()
					q.give(s, n)
				}
				cancel()
			}
		})
	}
	work.Wait()
	if used, users := q.level(); used != 0 || users != 0 || len(q.queue) != 0 {
		t.Errorf("%d are in use by %d at the end, %d wait", used, users, len(q.queue))
	}
}

// TestNewHostsAreRationed: as many as in a minute at once, then evenly.
func TestNewHostsAreRationed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Limits{RunHosts: 60})
		a := l.of(&authsome.Grant{ID: "run_1"})
		began := time.Now()
		visit := func(n int) bool { return a.visit(context.Background(), string(rune('a'+n)), l.RunHosts) }
		for i := range 60 {
			if !visit(i) {
				t.Fatalf("refused the %dth", i+1)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("the first waited for %s", d)
		}
		for i := range 5 {
			if !visit(100 + i) {
				t.Errorf("refused the %dth that waits", i+1)
			}
		}
		if d := time.Since(began); d < 4900*time.Millisecond || d > 5100*time.Millisecond {
			t.Errorf("five more took %s", d)
		}
		if !visit(3) {
			t.Error("refused a host that was asked for before")
		}
		// Who wants all at once is told so.
		refused := 0
		var work sync.WaitGroup
		var mu sync.Mutex
		for i := range 20 {
			work.Go(func() {
				if !visit(200 + i) {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		work.Wait()
		if refused < 14 || refused > 16 {
			t.Errorf("%d of 20 were refused", refused)
		}
	})
}

// TestLimitsForDescriptors: never more than the process may have open, and
// something at least.
func TestLimitsForDescriptors(t *testing.T) {
	for _, files := range []int{0, 64, 1024, 4096, 20_000, 1 << 20} {
		l := Limits{}.ForDescriptors(files)
		if files >= 1024 && l.Connections+l.Requests > files-descriptorsKept {
			t.Errorf("%d files: %+v", files, l)
		}
		if l.Connections < 1 || l.Requests < 1 || l.RunConnections < 1 || l.RunRequests < 1 ||
			l.RunConnections > l.Connections || l.RunRequests > l.Requests {
			t.Errorf("%d files: %+v", files, l)
		}
	}
	if l := (Limits{}).ForDescriptors(1 << 20); l != (Limits{}).withDefaults() {
		t.Errorf("the defaults are lowered to %+v", l)
	}
}

// TestAccountsAreDropped with their runs.
func TestAccountsAreDropped(t *testing.T) {
	l := newLimiter(Limits{})
	a, b := l.of(&authsome.Grant{ID: "run_1"}), l.of(&authsome.Grant{ID: "run_2"})
	l.try(a, connections, 1)
	l.drop(func(g *authsome.Grant) bool { return g.ID == "run_1" })
	if len(l.accounts.byID) != 1 || l.of(b.grant) != b {
		t.Errorf("%d are left", len(l.accounts.byID))
	}
	l.give(a, connections, 1)
	if used, _ := l.quotas[connections].level(); used != 0 {
		t.Errorf("%d are in use", used)
	}
}

// TestUnknownMakeRoom: the oldest of those that have shown no token goes, once it has
// had the time to.
func TestUnknownMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnknown()
		begin := time.Now()
		stranger := func() *tunnel {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { _ = theirs.Close() })
			tun := &tunnel{conn: ours}
			u.add(t.Context(), tun)
			return tun
		}
		closed := func(tun *tunnel) bool {
			return tun.conn.SetDeadline(time.Time{}) != nil
		}
		first, second, third := stranger(), stranger(), stranger()
		time.Sleep(unknownTime / 2)
		for range maxUnknown - 3 {
			stranger()
		}
		if d := time.Since(begin); d != unknownTime/2 {
			t.Fatalf("there was no room for so many: %v", d)
		}
		// One more waits for the first one's time, or for one that goes.
		go func() {
			time.Sleep(unknownTime / 4)
			u.remove(second)
		}()
		stranger()
		if d := time.Since(begin); d != unknownTime*3/4 || closed(first) {
			t.Errorf("after %v, the first is closed: %v", d, closed(first))
		}
		stranger()
		if d := time.Since(begin); d != unknownTime || !closed(first) {
			t.Errorf("after %v, the first is closed: %v", d, closed(first))
		}
		u.remove(first)
		if stranger(); !closed(third) || closed(second) {
			t.Errorf("the oldest is closed: %v, who had left: %v", closed(third), closed(second))
		}
		if u.list.Len() != maxUnknown || len(u.at) != maxUnknown {
			t.Errorf("%d and %d are there", u.list.Len(), len(u.at))
		}
		// Who waits when the port closes is closed as well.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ours, theirs := net.Pipe()
		defer func() { _ = theirs.Close() }()
		late := &tunnel{conn: ours}
		if u.add(ctx, late); !closed(late) {
			t.Error("the port is closed, and a new connection waits for a place")
		}
	})
}
