package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// options are what the flags say, and what the test sets.
type options struct {
	binary  string
	time    time.Duration // all in all; 0 is every act once, and then some rounds
	round   time.Duration
	streams int
	runs    int
	seed    uint64
	pause   time.Duration // between two requests of a stream
	settle  time.Duration // a rest, at least
	last    time.Duration // the last one: longer than connections are kept
	verbose bool
}

// soak is one soak.
type soak struct {
	o     options
	out   io.Writer
	began time.Time
	rng   *rand.Rand

	world    *harness.World
	keys     *keyring
	auth     *authServer
	services *services
	roster   *roster
	judge    *judge
	audit    *auditor
	slots    []*slot
	finished []endedRun

	accounts  []string          // of runs; the last is logged out now and then
	current   map[string]string // the key of each account that is logged in
	byDefault string
	passing   int
	deadSince time.Time

	daemonSince time.Time
	fresh       level // with all runs, before the first request

	mu     sync.Mutex
	counts map[string]int
}

func (s *soak) count(what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what] += n
}

func (s *soak) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, "%s %s\n", clock(time.Now()), fmt.Sprintf(format, args...))
}

// run does it all. It leaves nothing behind, however it ends.
func run(ctx context.Context, o options, out io.Writer) error {
	s := &soak{
		o: o, out: out, began: time.Now(), rng: rand.New(rand.NewPCG(o.seed, 0)), keys: newKeyring(), auth: newAuthServer(), judge: newJudge(out),
		current: map[string]string{}, counts: map[string]int{},
	}
	s.judge.verbose = o.verbose
	s.roster = newRoster(s.judge)
	s.services = &services{keys: s.keys, auth: s.auth, judge: s.judge, runs: s.roster}
	s.logf("seed %d, %d streams of %d runs", o.seed, o.streams, o.runs)
	defer s.close()
	err := s.setUp(ctx)
	if err == nil {
		err = s.play(ctx)
	}
	s.report()
	if verdict := s.judge.err(); verdict != nil {
		return verdict
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil && s.world != nil {
		text := s.world.Output()
		return fmt.Errorf("%w\nthe last that was printed:\n%s", err, text[max(len(text)-4000, 0):])
	}
	return err
}

func (s *soak) close() {
	for _, sl := range s.slots {
		if sl.run != nil {
			_ = sl.run.cmd.Process.Kill()
			<-sl.run.ended
		}
	}
	if s.audit != nil {
		s.audit.close()
	}
	if s.world != nil {
		s.world.Close()
	}
}

// setUp starts the services, the daemon and the runs, and logs everybody in.
func (s *soak) setUp(ctx context.Context) error {
	var err error
	if s.world, err = harness.Start(s.o.binary, internet.Credentials{}); err != nil {
		return err
	}
	s.daemonSince = time.Now()
	s.world.Internet.Quiet()
	for _, host := range []string{hostBearer, hostBasic, hostQuery, hostOAuth, hostBlind} {
		s.world.Internet.Handle(host, s.services.handler(host))
	}
	s.world.Internet.Handle(hostLogin, s.auth)
	if err := s.define(providerKey, keyDefinition); err != nil {
		return err
	}
	if err := s.define(providerOAuth, oauthDefinition); err != nil {
		return err
	}
	if _, err := s.command("", "provider", "set-client", providerOAuth, "--client-id", "soak", "--public"); err != nil {
		return err
	}
	// The last run goes by the default, the others have an account each.
	for n := range s.o.runs {
		sl := &slot{n: n, streams: s.o.streams / s.o.runs}
		s.slots = append(s.slots, sl)
		if n == s.o.runs-1 {
			break
		}
		sl.account = fmt.Sprintf("account%d", n)
		s.accounts = append(s.accounts, sl.account)
		if err := s.login(sl.account); err != nil {
			return err
		}
		if err := s.consent(ctx, sl.account); err != nil {
			return err
		}
	}
	if s.audit, err = openAudit(s.world.AuthsomeHome(), s.judge); err != nil {
		return err
	}
	for _, sl := range s.slots {
		if err := s.start(sl); err != nil {
			return err
		}
	}
	if s.fresh, err = s.rested(ctx, s.o.settle/4); err != nil {
		return err
	}
	s.logf("fresh: %v", s.fresh)
	return nil
}

// play is the order. For the first two fifths of the time everything happens; from
// then on one daemon has to live with the rest, so that it has time to grow.
func (s *soak) play(ctx context.Context) error {
	end := s.began.Add(s.o.time - s.o.last)
	half := s.began.Add(s.o.time * 2 / 5)
	var levels []level
	for round := 1; ; round++ {
		restarts := time.Now().Before(half)
		if s.o.time == 0 {
			restarts = round == 1
		}
		s.logf("round %d", round)
		if err := s.chaos(ctx, restarts, round); err != nil {
			return err
		}
		over := s.o.time == 0 && round == 3 || s.o.time > 0 && time.Now().After(end)
		settle := s.o.settle
		if over {
			settle = s.o.last
		}
		l, err := s.rest(ctx, settle)
		if err != nil {
			return err
		}
		if len(levels) > 0 && levels[0].since != l.since {
			levels = nil // of another daemon
		}
		levels = append(levels, l)
		if over {
			break
		}
	}
	s.grown(levels)
	return s.finish(ctx)
}

// chaos lets the load go, and does one act after the other.
func (s *soak) chaos(ctx context.Context, restarts bool, round int) error {
	end := time.Now().Add(s.o.round)
	s.tellAll("go")
	for {
		for _, a := range s.deal(restarts) {
			s.pauseFor(ctx, time.Duration(s.rng.Int64N(int64(2*s.o.pause))))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if s.o.time > 0 && time.Now().After(end) || s.o.time == 0 && round > 1 && time.Now().After(end) {
				return nil
			}
			s.logf("- %s", a.name)
			if err := a.do(s, ctx); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			s.count("acts: "+a.name, 1)
			if err := s.mend(ctx, ""); err != nil {
				return err
			}
		}
		if s.o.time == 0 {
			// Every stream has time for what it does.
			s.pauseFor(ctx, s.o.round)
			return nil
		}
	}
}

// rest has all children close what they have open, and checks what must hold then.
func (s *soak) rest(ctx context.Context, settle time.Duration) (level, error) {
	s.tellAll("rest")
	if err := s.mend(ctx, ""); err != nil {
		return level{}, err
	}
	l, err := s.rested(ctx, settle)
	if err != nil {
		return l, err
	}
	s.judge.settle()
	arrived := s.services.take()
	if err := s.audit.compare(ctx, arrived); err != nil {
		return l, err
	}
	s.logf("at rest: %v; %d requests came with a key", l, len(arrived))
	return l, nil
}

// finish ends the runs, and compares the daemon's goroutines with those of one that
// has done nothing.
func (s *soak) finish(ctx context.Context) error {
	for i, sl := range s.slots {
		sl.run.say("go")
		s.pauseFor(ctx, s.o.pause/4)
		s.end(ctx, sl, []string{"child ends", "run is killed", "run is ended", "child is killed"}[i%4])
	}
	settle := s.o.settle / 4
	if s.o.last > keptTime {
		settle = s.o.last
	}
	if _, err := s.rested(ctx, settle); err != nil {
		return err
	}
	s.judge.settle()
	if err := s.audit.compare(ctx, s.services.take()); err != nil {
		return err
	}
	s.total()
	used, err := s.dump()
	if err != nil {
		return err
	}
	s.judge.ended(true)
	if err := s.serve(ctx); err != nil {
		return err
	}
	s.pauseFor(ctx, s.o.settle/4)
	unused, err := s.dump()
	if err != nil {
		return err
	}
	s.logf("goroutines: %d, in a fresh daemon %d; %s", used.total(), unused.total(), used.more(unused))
	if used.total() > unused.total()+moreGoroutines || settle > keptTime && used.kept() > 0 {
		s.judge.violate("%d goroutines, and %d in a fresh daemon: %s", used.total(), unused.total(), used.more(unused))
	}
	if text := s.world.Output(); strings.Contains(text, canary) {
		s.judge.violate("a key is in what was printed")
	}
	return nil
}

// report prints what was done.
func (s *soak) report() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services.mu.Lock()
	total, nameless := s.services.total, s.services.nameless
	s.services.mu.Unlock()
	_, _ = fmt.Fprintf(s.out, "\nseed %d, %s, %d requests came with a key, %d without one that counts\n", s.o.seed, time.Since(s.began).Round(time.Second), total, nameless)
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		_, _ = fmt.Fprintf(s.out, "%9d %s\n", s.counts[name], name)
	}
	s.judge.mu.Lock()
	defer s.judge.mu.Unlock()
	for _, why := range slices.Sorted(maps.Keys(s.judge.excused)) {
		_, _ = fmt.Fprintf(s.out, "%9d requests failed by %s\n", s.judge.excused[why], why)
	}
	if s.audit != nil {
		_, _ = fmt.Fprintf(s.out, "%9d events in the audit\n", s.audit.rows)
	}
}
