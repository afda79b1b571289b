package proxy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/scrub"
)

// TestHandshakesWait for each other, twice as long as requests do, and not for a
// child that has gone.
func TestHandshakesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHandshakes()
		for range cap(s) {
			if !s.await(context.Background()) {
				t.Fatal("there is room")
			}
		}
		if cap(s) < maxHandshakes || cap(s) > 10*maxHandshakes {
			t.Errorf("%d at once", cap(s))
		}
		began := time.Now()
		if s.await(context.Background()) || time.Since(began) != 2*patience {
			t.Errorf("one too many, after %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began = time.Now()
		if s.await(ctx) || time.Since(began) != time.Second {
			t.Errorf("one too many of a child that has gone, after %s", time.Since(began))
		}
		time.AfterFunc(time.Second, s.give)
		if !s.await(context.Background()) {
			t.Error("none when another has ended")
		}
	})
}

// TestWhatIsRememberedIsBounded: hosts of a run, what hosts speak, pools of
// connections, and the scrubbers of a login.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	a := newLimiter(Limits{}).of(&authsome.Grant{ID: "run_1"})
	var speaks hostSet
	made := 0
	all := pools{make: func(k poolKey, g *authsome.Grant, _ authsome.Secret) *pool {
		made++
		return &pool{key: k, grant: g}
	}}
	var looks scrubbers
	value := func(n int) []authsome.Secret {
		return []authsome.Secret{authsome.NewSecret(fmt.Sprintf("sk-0123456789-%d", n))}
	}
	for i := range maxKnownHosts + 10 {
		host := fmt.Sprintf("h%d.example.com", i)
		for range 2 {
			if !a.visit(context.Background(), host, 1_000_000) {
				t.Fatalf("refused the %dth host", i+1)
			}
		}
		speaks.set(host, true)
		if !speaks.has(host) {
			t.Fatal("what a host speaks is forgotten at once")
		}
		all.get(poolKey{grant: host}, nil, authsome.Secret{})
		all.get(poolKey{grant: "used"}, nil, authsome.Secret{})
		if i < 3*maxScrubbers {
			if made := looks.of(value(i)); looks.of(value(i)) != made {
				t.Fatal("a scrubber is made for each request")
			}
		}
		if len(a.hosts) > maxKnownHosts || len(speaks.hosts) > maxHosts || len(all.byKey) > maxPools || all.recent.Len() != len(all.byKey) || len(looks.byValue) > maxScrubbers {
			t.Fatalf("%d hosts, %d that speak, %d pools, %d scrubbers", len(a.hosts), len(speaks.hosts), len(all.byKey), len(looks.byValue))
		}
	}
	if made != maxKnownHosts+10+1 {
		t.Errorf("%d pools were made: one in use was dropped", made)
	}
}

// kept is a connection that tells when it is closed.
type kept struct {
	net.Conn
	closed chan<- string
	name   string
}

func (c *kept) Close() error {
	c.closed <- c.name
	return nil
}

// TestIdleLinksAreBounded: of one host, of all, and in time.
func TestIdleLinksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s links
		closed := make(chan string, 10*maxIdle)
		idle := func() (ofA, all int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.idle["a"]), s.count
		}
		put := func(addr string) {
			s.put(&link{addr: addr, conn: &kept{closed: closed, name: addr}, quiet: func() bool { return true }})
		}
		for range maxIdlePerHost + 1 {
			put("a")
		}
		synctest.Wait()
		if n, _ := idle(); n != maxIdlePerHost || len(closed) != 1 {
			t.Errorf("%d are kept of a host, %d closed", n, len(closed))
		}
		for i := range 2 * maxIdle {
			put(fmt.Sprint("b", i))
		}
		synctest.Wait()
		if _, n := idle(); n != maxIdle {
			t.Errorf("%d are kept", n)
		}
		for len(closed) > 0 {
			<-closed
		}
		time.Sleep(idleUpstream - time.Second)
		synctest.Wait()
		if len(closed) != 0 {
			t.Errorf("%d are closed too early", len(closed))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, n := idle(); n != 0 || len(closed) != maxIdle {
			t.Errorf("%d are kept when their time is up, %d were closed", n, len(closed))
		}
	})
}

// TestSpokenHoldsLittle: what a service puts between two parts of a message waits for
// it up to a point.
func TestSpokenHoldsLittle(t *testing.T) {
	ping := part1(true, opPing, strings.Repeat("x", maxControl))
	begin := part1(false, opText, spokenKey[:9])
	few, many := strings.Repeat(ping, maxWaiting/len(ping)/2), strings.Repeat(ping, maxWaiting/len(ping)+1)
	s := &spoken{st: scrub.New([]authsome.Secret{authsome.NewSecret(spokenKey)}).NewStream()}
	out := func(text string) string {
		s.feed([]byte(text))
		s.release()
		return string(s.out)
	}
	if got := out(begin + few); got != begin[:2] || s.waiting != len(few) {
		t.Errorf("%d bytes left, %d wait", len(got), s.waiting)
	}
	if got := out(many); got != begin[2:]+few+many || s.waiting != 0 || len(s.payload) != 0 {
		t.Errorf("%d bytes left, %d of %d wait", len(got), s.waiting, len(few+many))
	}
}

// TestPoolsOfReplacedLogins: a login that was replaced leaves no pool behind, and
// takes nobody else's with it.
func TestPoolsOfReplacedLogins(t *testing.T) {
	all := pools{make: func(k poolKey, g *authsome.Grant, _ authsome.Secret) *pool { return &pool{key: k, grant: g} }}
	key := func(user, connection string, generation int64, reach reach) poolKey {
		return poolKey{vault: "local", user: user, provider: "github", connection: connection, generation: generation, reach: reach}
	}
	kept := []poolKey{{grant: "run_1"}, key("ann", "home", 1, publicAddress), key("ben", "work", 1, publicAddress)}
	for _, k := range append(kept, key("ann", "work", 1, publicAddress), key("ann", "work", 2, anyAddress)) {
		all.get(k, nil, authsome.Secret{})
	}
	now := key("ann", "work", 3, publicAddress)
	all.get(now, nil, authsome.Secret{})
	all.get(poolKey{grant: "run_2"}, nil, authsome.Secret{})
	for _, k := range append(kept, now, poolKey{grant: "run_2"}) {
		if all.byKey[k] == nil {
			t.Errorf("the pool of %+v is gone", k)
		}
	}
	if len(all.byKey) != len(kept)+2 || all.recent.Len() != len(all.byKey) {
		t.Errorf("%d pools are kept, of which %d are in use", len(all.byKey), len(kept)+2)
	}
	// What is still under way with the former key does not drop the present one.
	all.get(key("ann", "work", 2, publicAddress), nil, authsome.Secret{})
	if all.byKey[now] == nil {
		t.Error("an older pool has dropped a newer one")
	}
}
