package broker_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/internal/oauthtest"
)

// near moves the clock to shortly before the end of acme's token.
func (w *world) near(before time.Duration) {
	w.t.Helper()
	c, _, err := w.Connection(me, "acme", "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.now = c.ExpiresAt.Add(-before)
}

// TestOneRefreshForAllRequests holds 200 requests at once, ten seconds before a
// token's end, against a server that ends the family when a refresh token comes
// twice; fifty times over.
func TestOneRefreshForAllRequests(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	const rounds, requests = 50, 200
	for round := 1; round <= rounds; round++ {
		w.near(10 * time.Second)
		var wg sync.WaitGroup
		for range requests {
			wg.Go(func() {
				if header, err := w.ask(g); err != nil || !w.auth.Valid(header) {
					t.Errorf("round %d: the upstream would answer 401: %v", round, err)
				}
			})
		}
		wg.Wait()
		if n := w.auth.Count("refresh_token"); n != round {
			t.Fatalf("%d refreshes in %d rounds", n, round)
		}
	}
	w.auth.Set(func(s *oauthtest.Server) {
		if s.Reused != 0 {
			t.Errorf("%d refresh tokens were used twice", s.Reused)
		}
	})
	c, _, err := w.Connection(me, "acme", "")
	if err != nil || !c.LastRefreshAt.Equal(w.now) || c.LastRefreshError != "" || !c.ExpiresAt.After(w.now) {
		t.Errorf("get shows %v, %q, %v; %v", c.LastRefreshAt, c.LastRefreshError, c.ExpiresAt, err)
	}
	refreshed := 0
	for _, ev := range w.events() {
		if ev.Type == authsome.EventRefreshed && ev.Status == "ok" {
			refreshed++
		}
	}
	if refreshed != rounds {
		t.Errorf("%d refreshes in the audit, not %d", refreshed, rounds)
	}
	w.noCanary()
}

func TestRefreshComesBackAfterARestart(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	w.near(10 * time.Second)
	if _, err := w.ask(w.grant(broker.GrantSpec{})); err != nil {
		t.Fatal(err)
	}
	w.restart()
	header, err := w.ask(w.grant(broker.GrantSpec{}))
	if err != nil || !w.auth.Valid(header) || w.auth.Count("refresh_token") != 1 {
		t.Errorf("the refreshed token was not stored: %v", err)
	}
}

func TestStreamsOutliveARefreshAndNotALogin(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	before, err := w.Resolve(context.Background(), g, api())
	if err != nil {
		t.Fatal(err)
	}
	w.near(10 * time.Second)
	after, err := w.Resolve(context.Background(), g, api())
	if err != nil || after.Version == before.Version {
		t.Fatalf("there was no refresh: %v", err)
	}
	if !w.Current(g, "acme", "default", before.Generation) {
		t.Error("a refresh ends the streams that were opened before it")
	}
	req := acmeLogin("")
	req.Force = true
	w.connect(req)
	if w.Current(g, "acme", "default", before.Generation) {
		t.Error("another login does not end the streams of the one before")
	}
}

func TestRefreshTroubleAndRefusal(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	first, err := w.ask(g)
	if err != nil {
		t.Fatal(err)
	}
	// Trouble: the old token is used for as long as it is valid.
	w.auth.Set(func(s *oauthtest.Server) { s.Fail = failAll(http.StatusBadGateway, "text/html", "canary_trouble") })
	w.near(60 * time.Second)
	for range 3 {
		if header, err := w.ask(g); err != nil || header != first {
			t.Fatalf("the token that is valid was not used: %v", err)
		}
	}
	if n := w.auth.Count("refresh_token"); n != 1 {
		t.Errorf("%d refreshes were tried at once", n)
	}
	c, _, _ := w.Connection(me, "acme", "")
	if c.LastRefreshError == "" || c.Status != authsome.Connected || !c.LastRefreshAt.Equal(w.now) {
		t.Errorf("get shows %+v", c)
	}
	w.noCanary(c.LastRefreshError)
	// Then it is over, and comes back by itself.
	w.now = w.now.Add(10 * time.Minute)
	_, err = w.ask(g)
	wantCode(t, err, authsome.RefreshFailed)
	if c, _, _ := w.Connection(me, "acme", ""); c.Status != authsome.Expired {
		t.Errorf("status %s", c.Status)
	}
	w.auth.Set(func(s *oauthtest.Server) { s.Fail = nil })
	if header, err := w.ask(g); err != nil || !w.auth.Valid(header) {
		t.Fatalf("the service is back, the login is not: %v", err)
	}
	if c, _, _ := w.Connection(me, "acme", ""); c.Status != authsome.Connected || c.LastRefreshError != "" {
		t.Errorf("get shows %+v", c)
	}
	// The server wants no more of it: valid still, then the person must log in.
	w.auth.Set(func(s *oauthtest.Server) { s.Families = map[string]*oauthtest.Family{} })
	w.near(60 * time.Second)
	n := w.auth.Count("refresh_token")
	for range 3 {
		if _, err := w.ask(g); err != nil {
			t.Fatalf("the access token is valid for a minute: %v", err)
		}
	}
	if got := w.auth.Count("refresh_token"); got != n+1 {
		t.Errorf("a dead refresh token was sent %d times", got-n)
	}
	if c, _, _ := w.Connection(me, "acme", ""); c.Status != authsome.Broken {
		t.Errorf("status %s", c.Status)
	}
	// The service may end that token before its time: its 401 becomes what helps.
	res, err := w.Resolve(ctx, g, api())
	if err != nil || !res.Renewable {
		t.Fatalf("%+v, %v", res, err)
	}
	again := api()
	again.Rejected = res.Version
	_, err = w.Resolve(ctx, g, again)
	wantCode(t, err, authsome.TokenExpired)
	w.now = w.now.Add(2 * time.Minute)
	_, err = w.ask(g)
	wantCode(t, err, authsome.TokenExpired)
	if !strings.Contains(authsome.HintOf(err), "authsome login acme --connection default --force") {
		t.Errorf("hint %q", authsome.HintOf(err))
	}
	if _, err := w.Export(ctx, me, "acme", ""); authsome.CodeOf(err) != authsome.TokenExpired {
		t.Errorf("export: %v", err)
	}
	if !w.recorded(authsome.EventRefreshFailed, "failed") {
		t.Error("the failures are not in the audit")
	}
	// A login repairs it; it needs no --force, since nothing works.
	w.connect(acmeLogin(""))
	if _, err := w.ask(g); err != nil {
		t.Error(err)
	}
	w.noCanary()
}

func TestUpstreamRejectsAToken(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	w.auth.Set(func(s *oauthtest.Server) { s.Silent = true }) // no expires_in: nothing says when
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	res, err := w.Resolve(ctx, g, api())
	if err != nil || !res.Renewable {
		t.Fatalf("%+v, %v", res, err)
	}
	again := api()
	again.Rejected = res.Version
	// A token that has just come is refused for another reason.
	next, err := w.Resolve(ctx, g, again)
	if err != nil || next.Version != res.Version || w.auth.Count("refresh_token") != 0 {
		t.Fatalf("a token that is seconds old was refreshed: %v", err)
	}
	w.now = w.now.Add(time.Hour)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			next, err := w.Resolve(ctx, g, again)
			if err != nil || next.Version == res.Version || !w.auth.Valid(set(next, "Authorization")) {
				t.Errorf("no new token after a 401: %v", err)
			}
		})
	}
	wg.Wait()
	if n := w.auth.Count("refresh_token"); n != 1 {
		t.Errorf("%d refreshes for one rejected token", n)
	}
	// No request refreshes merely because nothing says when the token ends.
	for range 5 {
		if _, err := w.ask(g); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.auth.Count("refresh_token"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

// TestRefreshOfARequestAfterTheEnd: while a daemon brings requests to their end, one of
// them begins a refresh and goes away. The token is stored before the daemon ends.
func TestRefreshOfARequestAfterTheEnd(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	w.near(-time.Second)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	w.Run(ended)
	arrived := make(chan func(), 1)
	w.auth.Hold("refresh_token", arrived)
	going, leave := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if _, err := w.Resolve(going, g, api()); err == nil {
			t.Error("there is a token already")
		}
	}()
	release := <-arrived
	w.auth.Hold("", nil)
	leave()
	<-gone
	time.AfterFunc(200*time.Millisecond, release)
	w.Wait()
	w.restart()
	if header, err := w.ask(w.grant(broker.GrantSpec{})); err != nil || !w.auth.Valid(header) || w.auth.Count("refresh_token") != 1 {
		t.Errorf("the new token was lost (%d refreshes): %v", w.auth.Count("refresh_token"), err)
	}
}

// TestRefreshThatTakesTooLong: when the daemon ends, a refresh whose answer does not
// come is given up, and that is recorded.
func TestRefreshThatTakesTooLong(t *testing.T) {
	t.Parallel()
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	w.near(-time.Second)
	arrived := make(chan func(), 1)
	w.auth.Hold("refresh_token", arrived)
	going, leave := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = w.Resolve(going, g, api())
	}()
	release := <-arrived
	defer release()
	leave()
	<-gone
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	w.Run(ended)
	if !w.recorded(authsome.EventRefreshFailed, "failed") {
		t.Error("the audit does not tell of the refresh")
	}
}

// TestRejectedTokenAfterTheClockWentBack: the token came while the clock was a day
// ahead, so that by the clock of now it has not come yet.
func TestRejectedTokenAfterTheClockWentBack(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	w.now = w.now.Add(-24 * time.Hour)
	res, err := w.Resolve(context.Background(), g, api())
	if err != nil {
		t.Fatal(err)
	}
	again := api()
	again.Rejected = res.Version
	next, err := w.Resolve(context.Background(), g, again)
	if err != nil || next.Version == res.Version || !w.auth.Valid(set(next, "Authorization")) {
		t.Errorf("no new token after a 401: %v", err)
	}
}

// TestARequestThatWasSentStaysInTheLog: the daemon is killed when the new token for a
// request that the service has answered with 401 was refused, and the end of the
// request is not written yet.
func TestARequestThatWasSentStaysInTheLog(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	req := api()
	req.ID = "r1"
	res, err := w.Resolve(ctx, g, req)
	if err != nil {
		t.Fatal(err)
	}
	w.auth.Set(func(s *oauthtest.Server) {
		s.Fail = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	})
	w.now = w.now.Add(10 * time.Minute)
	again := *req
	again.Rejected = res.Version
	if _, err := w.Resolve(ctx, g, &again); err == nil {
		t.Fatal("there is a new token")
	}
	w.restart()
	if !w.recorded(authsome.EventInjected, "started") || !w.recorded(authsome.EventProxyNoCredentials, "denied") {
		t.Error("the log does not say that a credential has left")
	}
}

// TestARotatedTokenThatCannotBeStored: the disk is full at the worst moment.
func TestARotatedTokenThatCannotBeStored(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	w.near(-time.Second)
	w.store.refuse.Store(true)
	_, err := w.ask(g)
	wantCode(t, err, authsome.RefreshFailed)
	w.noCanary(err.Error())
	w.store.refuse.Store(false)
	header, err := w.ask(g)
	if err != nil || !w.auth.Valid(header) || w.auth.Count("refresh_token") != 1 {
		t.Errorf("the token that had come was lost (%d refreshes): %v", w.auth.Count("refresh_token"), err)
	}
	w.auth.Set(func(s *oauthtest.Server) {
		if s.Reused != 0 {
			t.Error("the old one was sent again")
		}
	})
}

// TestAnUnsavedTokenIsNotTheNextLogins: the token that could not be stored belongs to
// a login that is over, and the connection of its name is another account's.
func TestAnUnsavedTokenIsNotTheNextLogins(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	w.near(-time.Second)
	w.store.refuse.Store(true)
	_, err := w.ask(g)
	wantCode(t, err, authsome.RefreshFailed)
	w.store.refuse.Store(false)
	if _, err := w.Logout(context.Background(), me, "acme", ""); err != nil {
		t.Fatal(err)
	}
	w.auth.Set(func(s *oauthtest.Server) { s.Account = "hubot" })
	w.connect(acmeLogin(""))
	w.near(-time.Second)
	header, err := w.ask(g)
	if err != nil || !w.auth.Valid(header) || w.auth.Count("refresh_token") != 2 {
		t.Errorf("the new login was not refreshed (%d refreshes): %v", w.auth.Count("refresh_token"), err)
	}
	c, _, err := w.Connection(me, "acme", "")
	if err != nil || c.Account.Label != "hubot" {
		t.Errorf("the connection is to %q: %v", c.Account.Label, err)
	}
}

// TestARefreshIsOfTheLoginThatIsStored: a request was decided on with a login that
// was replaced, under the same name and version, before its refresh began.
func TestARefreshIsOfTheLoginThatIsStored(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	w.near(-time.Second)
	w.store.beforeLock = func() {
		w.store.beforeLock = nil
		if _, err := w.Logout(ctx, me, "acme", ""); err != nil {
			t.Error(err)
		}
		w.connect(acmeLogin(""))
	}
	header, err := w.ask(g)
	if err != nil || !w.auth.Valid(header) {
		t.Errorf("the new login is not used: %v", err)
	}
	if c, _, err := w.Connection(me, "acme", ""); err != nil || c.Status != authsome.Connected {
		t.Errorf("the new login is %s, %v", c.Status, err)
	}
}

func TestNewSecretOfTheSameApp(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	g := w.grant(broker.GrantSpec{})
	const rotated = "canary-rotated-secret-987654321"
	w.auth.Set(func(s *oauthtest.Server) { s.Clients["app"] = rotated })
	w.near(-time.Second)
	_, err := w.ask(g)
	wantCode(t, err, authsome.RefreshFailed)
	if !strings.Contains(authsome.HintOf(err), "authsome provider set-client acme") {
		t.Errorf("hint %q", authsome.HintOf(err))
	}
	if err := w.SetClient(context.Background(), me, "acme", "", fields("client_id", "app", "client_secret", rotated)); err != nil {
		t.Fatal(err)
	}
	if header, err := w.ask(g); err != nil || !w.auth.Valid(header) {
		t.Errorf("the new secret is not used: %v", err)
	}
}

func TestDefinitionCannotMoveARefresh(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	evil := oauthtest.New(t)
	def := strings.Replace(string(w.auth.Definition("")), w.auth.URL+"/token", evil.URL+"/token", 1)
	if _, err := w.Register(context.Background(), me, "acme.jsonc", []byte(def), true, false); err != nil {
		t.Fatal(err)
	}
	w.near(-time.Second)
	header, err := w.ask(w.grant(broker.GrantSpec{}))
	if err != nil || !w.auth.Valid(header) || evil.Count("refresh_token") != 0 {
		t.Errorf("the refresh token went to the new address: %v", err)
	}
}

func TestNothingOfOAuthIsReadableInTheHome(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	w.near(10 * time.Second)
	if _, err := w.ask(w.grant(broker.GrantSpec{})); err != nil {
		t.Fatal(err)
	}
	l := w.begin(acmeLogin("waiting"))
	if l.AuthorizeURL == "" {
		t.Fatal("no login is waiting")
	}
	err := filepath.WalkDir(w.home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), "canary") {
			t.Errorf("%s holds a secret in plain", filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRefreshInTheBackground: what was used lately is refreshed without a
// request that waits for it; what nobody uses is left alone.
func TestRefreshInTheBackground(t *testing.T) {
	t.Parallel()
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	w.connect(acmeLogin("idle"))
	g := w.grant(broker.GrantSpec{})
	if _, err := w.ask(g); err != nil {
		t.Fatal(err)
	}
	// Used half an hour before the time at which the token is nearly over.
	w.near(30 * time.Minute)
	if _, err := w.ask(g); err != nil {
		t.Fatal(err)
	}
	w.near(4 * time.Minute)
	running, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { w.Run(running); close(ended) }()
	defer func() { stop(); <-ended }()
	for deadline := time.Now().Add(time.Minute); w.auth.Count("refresh_token") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was refreshed")
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, _, err := w.Connection(me, "acme", "default")
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the new token is not in use: %v", err)
		}
		if !c.LastRefreshAt.IsZero() {
			break
		}
	}
	if c, _, _ := w.Connection(me, "acme", "idle"); !c.LastRefreshAt.IsZero() || w.auth.Count("refresh_token") != 1 {
		t.Error("a connection that nobody uses was refreshed")
	}
}
