package main

import (
	"context"
	"fmt"
	"time"
)

// act is one thing that is done to the system under load.
type act struct {
	name    string
	restart bool // it ends the daemon
	do      func(s *soak, ctx context.Context) error
}

var acts = []act{
	{"kill the daemon", true, func(s *soak, ctx context.Context) error { return s.restart(ctx, true) }},
	{"end the daemon", true, func(s *soak, ctx context.Context) error { return s.restart(ctx, false) }},
	{"kill the daemon, and let a run start the next", true, (*soak).orphan},
	{"end a run: its child ends", false, replaces("child ends")},
	{"end a run: its child is killed", false, replaces("child is killed")},
	{"end a run: it is killed", false, replaces("run is killed")},
	{"end a run: it is told to end", false, replaces("run is ended")},
	{"show a wrong certificate", false, (*soak).wrongCertificate},
	{"replace a key", false, func(s *soak, _ context.Context) error { return s.login(s.anAccount()) }},
	{"log out and in again", false, (*soak).outAndIn},
	{"change the default", false, func(s *soak, _ context.Context) error { return s.setDefault(s.aStable()) }},
	{"log in to one more account, and out", false, (*soak).passingAccount},
	{"define one more provider, and remove it", false, (*soak).passingProvider},
	{"trouble at the authorization server", false, (*soak).authTrouble},
	{"end a consent at the service", false, (*soak).endConsent},
	{"hang up on idle connections", false, func(s *soak, _ context.Context) error { s.hangUp(); return nil }},
}

// replaces ends a run in one way and starts another in its place.
func replaces(how string) func(*soak, context.Context) error {
	return func(s *soak, ctx context.Context) error {
		sl := s.slots[s.rng.IntN(len(s.slots))]
		s.logf("  run %s", sl.run.name)
		s.end(ctx, sl, how)
		if err := s.start(sl); err != nil {
			return err
		}
		sl.run.say("go")
		return nil
	}
}

// anAccount is one of a run's own; aStable is one that is never logged out.
func (s *soak) anAccount() string { return s.accounts[s.rng.IntN(len(s.accounts))] }
func (s *soak) aStable() string   { return s.accounts[s.rng.IntN(len(s.accounts)-1)] }

// volatile is the account that is logged out now and then.
func (s *soak) volatile() string { return s.accounts[len(s.accounts)-1] }

func (s *soak) wrongCertificate(ctx context.Context) error {
	host := []string{hostBearer, hostBasic, hostQuery, hostOAuth}[s.rng.IntN(4)]
	s.logf("  host %s", host)
	w := s.judge.expect(window{why: "a wrong certificate", host: host, classes: []string{"upstream_tls"}})
	defer s.judge.done(w)
	if err := s.world.Internet.Distrust(host); err != nil {
		return err
	}
	s.hangUp() // new connections are needed
	s.pauseFor(ctx, 2*time.Second)
	s.world.Internet.Trust(host)
	return nil
}

// hangUp has the services close what is idle. A request with a body that was just
// leaving on such a connection is not sent again, since the service may have acted
// on it; one that only reads is. These services ask for client certificates, and so
// the proxy takes it for a refusal of those (docs/proxy.md).
func (s *soak) hangUp() {
	w := s.judge.expect(window{why: "a service that hung up", kinds: []kind{upload, grpc}, classes: []string{"upstream_unreachable", "upstream_tls"}})
	s.world.Internet.HangUp()
	s.judge.done(w)
}

func (s *soak) outAndIn(ctx context.Context) error {
	account := s.volatile()
	if s.byDefault == account {
		if err := s.setDefault(s.aStable()); err != nil {
			return err
		}
	}
	w := s.judge.expect(window{
		why: "a logout", provider: providerKey, account: account, byDefault: s.roster.lately(account),
		classes: []string{brokeOff, "denied", "login_required", unauthorized},
	})
	defer s.judge.done(w)
	if err := s.logout(account); err != nil {
		return err
	}
	s.pauseFor(ctx, time.Second)
	return s.login(account)
}

func (s *soak) passingAccount(ctx context.Context) error {
	s.passing++
	name := fmt.Sprintf("passing%d", s.passing)
	if err := s.login(name); err != nil {
		return err
	}
	s.pauseFor(ctx, time.Second/2)
	return s.logout(name)
}

func (s *soak) passingProvider(context.Context) error {
	if err := s.define("passing", otherDefinition); err != nil {
		return err
	}
	if _, err := s.command("passingKey0123456789\n", "login", "passing", "--stdin"); err != nil {
		return err
	}
	s.count("logins", 1)
	_, err := s.command("", "remove", "passing")
	return err
}

// authTrouble is short enough for the tokens that are out to last.
func (s *soak) authTrouble(ctx context.Context) error {
	how := []string{"error", "reset"}[s.rng.IntN(2)]
	s.auth.setTrouble(how)
	s.pauseFor(ctx, time.Second)
	s.auth.setTrouble("")
	return nil
}

// endConsent has the service end a login by itself; the person logs in again.
func (s *soak) endConsent(ctx context.Context) error {
	account := s.anAccount()
	s.deadSince = time.Now()
	defer func() { s.deadSince = time.Time{} }()
	s.auth.end(account)
	s.pauseFor(ctx, time.Second)
	return s.mend(ctx, account)
}

// pauseFor lets the load go on for a while.
func (s *soak) pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// deal gives the acts in a random order, each once.
func (s *soak) deal(restarts bool) []act {
	var out []act
	for _, i := range s.rng.Perm(len(acts)) {
		if restarts || !acts[i].restart {
			out = append(out, acts[i])
		}
	}
	return out
}
