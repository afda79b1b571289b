package proxy_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// account is one connection in the tests' broker.
type account struct {
	secret     string
	fields     map[string]string // beside "token", which is secret
	private    bool
	generation int64
	expired    bool
	// renewed are the tokens that follow when one is rejected; with lost, the
	// next one cannot be had.
	version int64
	renewed []string
	lost    bool
}

// broker is a small but whole Resolver: it routes with route.Table, fills the
// slots and remembers challenges, without a vault or a database.
type broker struct {
	t     testing.TB
	table *route.Table

	mu         sync.Mutex
	grants     map[string]*authsome.Grant // by token
	accounts   map[string]*account        // by provider
	challenged map[string]bool            // by repository
	asked      []*authsome.Request
	finished   []finished
	guard      []authsome.Secret
	changed    chan struct{} // closed and replaced when finished grows
}

type finished struct {
	req *authsome.Request
	res *authsome.Resolution
	out authsome.Outcome
}

func (b *broker) Grant(token string) (*authsome.Grant, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.grants[token]
	return g, ok
}

func (b *broker) Host(g *authsome.Grant, host string, port int) authsome.HostVerdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.table.Host(host, port):
		return authsome.Intercept
	case g.Mode.Denies():
		return authsome.Refuse
	default:
		return authsome.Tunnel
	}
}

func (b *broker) Resolve(_ context.Context, g *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, req)
	if !b.alive(g) {
		return nil, authsome.E(authsome.Forbidden, "the run is over")
	}
	entry, result := b.table.Match(req.Host, req.Port, req.Method, req.Path)
	for _, other := range req.Overrides {
		if !b.table.Same(req.Host, req.Port, req.Method, other, req.Path) {
			return nil, authsome.E(authsome.Invalid, "two methods").WithHint("send one")
		}
	}
	switch result {
	case route.Unclear:
		return nil, authsome.E(authsome.Invalid, "two readings of the path").WithHint("send a plain one")
	case route.Ambiguous:
		return nil, authsome.E(authsome.Ambiguous, "two providers claim it")
	case route.Matched:
	default:
		if g.Mode.Denies() {
			return nil, authsome.E(authsome.Forbidden, "no provider is for %s", req.Path)
		}
		return &authsome.Resolution{Verdict: authsome.Forward}, nil
	}
	a := b.accounts[entry.Provider]
	if a == nil {
		e := authsome.E(authsome.CredentialMissing, "nobody has logged in to %s", entry.Provider).WithHint("authsome login %s", entry.Provider)
		e.Provider = entry.Provider
		return nil, e
	}
	if a.expired {
		return nil, authsome.E(authsome.TokenExpired, "the login has expired").WithHint("authsome login %s --force", entry.Provider)
	}
	if req.Rejected != 0 && req.Rejected == a.version {
		if a.lost {
			return nil, authsome.E(authsome.RefreshFailed, "the service gives no new token").WithHint("authsome login %s --force", entry.Provider)
		}
		if len(a.renewed) > 0 {
			a.secret, a.renewed, a.version = a.renewed[0], a.renewed[1:], a.version+1
		}
	}
	if look := lookFor(entry.Route); len(look) > 0 && req.Inspection == nil {
		return &authsome.Resolution{Verdict: authsome.Inspect, Provider: entry.Provider, Look: look, Deny: entry.Route.Deny}, nil
	}
	if in := req.Inspection; in != nil && in.Refused != nil {
		return nil, in.Refused
	} else if in != nil && in.Denied != "" {
		return nil, authsome.E(authsome.Forbidden, "%s is denied", in.Denied)
	}
	connection, err := b.connectionOf(req)
	if err != nil {
		return nil, err
	}
	if named := b.accounts[entry.Provider+"."+connection]; named != nil {
		a = named
	}
	res := &authsome.Resolution{
		Version: a.version, Renewable: a.version != 0,
		Verdict: authsome.Inject, Provider: entry.Provider, Connection: connection,
		Private: a.private, Generation: a.generation, Guard: b.guard,
		Strip: entry.Route.Strip,
	}
	rewrite := &authsome.Rewrite{Strip: stripOf(entry.Route)}
	for _, in := range entry.Route.Inject {
		if at := (authsome.Place{Slot: in.Slot, Name: in.Name}); in.Slot.Beyond() {
			if f := req.Inspection.In(at); f != nil && (in.When != authsome.OnPlaceholder || f.Placeholder) {
				rewrite.Set = append(rewrite.Set, authsome.SetPlace{Place: at, Value: authsome.NewSecret(a.fill(in.Value))})
			}
			continue
		} else if in.Slot == authsome.SlotSigV4 {
			if req.Inspection.In(at) == nil {
				continue
			}
			res.Sign = &authsome.SigV4{
				AccessKeyID: authsome.NewSecret(a.fields["id"]), SecretAccessKey: authsome.NewSecret(a.secret), SessionToken: authsome.NewSecret(a.fields["session"]),
			}
			continue
		}
		res.Strip = append(res.Strip, in.Name)
		held := slices.ContainsFunc(req.Header[http.CanonicalHeaderKey(in.Name)], func(v string) bool {
			if raw, ok := strings.CutPrefix(v, "Basic "); ok {
				if text, err := base64.StdEncoding.DecodeString(raw); err == nil {
					v = string(text)
				}
			}
			return strings.Contains(v, authsome.Placeholder)
		})
		switch in.When {
		case authsome.OnPlaceholder:
			if !held {
				continue
			}
		case authsome.OnChallenge:
			if !held && !req.Challenged && !b.challenged[req.Repository] {
				return &authsome.Resolution{Verdict: authsome.Challenge, Provider: entry.Provider}, nil
			}
			b.challenged[req.Repository] = true
		}
		value := a.fill(in.Value)
		if in.Slot == authsome.SlotBasic {
			value = "Basic " + base64.StdEncoding.EncodeToString([]byte(value))
		}
		res.Set = append(res.Set, authsome.SetHeader{Name: in.Name, Value: authsome.NewSecret(value)})
	}
	if len(rewrite.Set)+len(rewrite.Strip) > 0 {
		res.Rewrite = rewrite
	}
	if len(res.Set)+len(rewrite.Set) == 0 && res.Sign == nil {
		return &authsome.Resolution{Verdict: authsome.Forward}, nil
	}
	return res, nil
}

func (a *account) fill(value string) string {
	value = strings.ReplaceAll(value, "{token}", a.secret)
	for name, v := range a.fields {
		value = strings.ReplaceAll(value, "{"+name+"}", v)
	}
	return value
}

// connectionOf is the one that the request names, in whatever place.
func (b *broker) connectionOf(req *authsome.Request) (string, error) {
	named := req.Connection
	if req.Inspection != nil {
		for _, f := range req.Inspection.Found {
			if f.Connection != "" && named != "" && f.Connection != named {
				return "", authsome.E(authsome.Invalid, "two connections").WithHint("name one")
			}
			if f.Connection != "" {
				named = f.Connection
			}
		}
	}
	if named == "" {
		return authsome.DefaultConnection, nil
	}
	return named, nil
}

func stripOf(r authsome.Route) (out []authsome.Place) {
	for _, in := range r.Inject {
		if in.Slot == authsome.SlotQuery || in.Slot == authsome.SlotCookie {
			out = append(out, authsome.Place{Slot: in.Slot, Name: in.Name})
		}
	}
	for _, n := range r.StripQuery {
		out = append(out, authsome.Place{Slot: authsome.SlotQuery, Name: n})
	}
	for _, n := range r.StripCookies {
		out = append(out, authsome.Place{Slot: authsome.SlotCookie, Name: n})
	}
	return out
}

func lookFor(r authsome.Route) []authsome.Place {
	look := stripOf(r)
	for _, in := range r.Inject {
		if in.Slot == authsome.SlotPath || in.Slot == authsome.SlotSigV4 || in.Slot.InBody() {
			look = append(look, authsome.Place{Slot: in.Slot, Name: in.Name})
		}
	}
	return look
}

func (b *broker) Finish(_ *authsome.Grant, req *authsome.Request, res *authsome.Resolution, out authsome.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = append(b.finished, finished{req, res, out})
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *broker) Current(g *authsome.Grant, provider, _ string, generation int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.alive(g) {
		return false
	}
	a := b.accounts[provider]
	return provider == "" || a != nil && a.generation == generation
}

func (b *broker) alive(g *authsome.Grant) bool {
	for _, other := range b.grants {
		if other == g {
			return true
		}
	}
	return false
}

// routes replaces the table.
func (b *broker) routes(entries ...route.Entry) {
	b.t.Helper()
	table, err := route.NewTable(entries)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table = table
}

func (b *broker) set(provider string, a *account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a == nil {
		delete(b.accounts, provider)
		return
	}
	if old := b.accounts[provider]; old != nil {
		a.generation = old.generation + 1
	}
	b.accounts[provider] = a
}

func (b *broker) end(token string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.grants, token)
}

// ends waits until n requests have been finished and returns them all.
func (b *broker) ends(n int) []finished {
	b.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		b.mu.Lock()
		list, changed := slices.Clone(b.finished), b.changed
		b.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-changed:
		case <-timeout:
			b.t.Fatalf("%d requests were finished, want %d", len(list), n)
		}
	}
}

// counts are how often the broker was asked, and told of an end.
func (b *broker) counts() (asked, finished int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked), len(b.finished)
}

// forget drops what has finished.
func (b *broker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = nil
}

// last waits for a request to have finished, and gives the outcome of the latest.
func (b *broker) last() authsome.Outcome {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		if n := len(b.finished); n > 0 {
			defer b.mu.Unlock()
			return b.finished[n-1].out
		}
		b.mu.Unlock()
		if time.Now().After(end) {
			b.t.Error("no request has finished")
			return authsome.Outcome{}
		}
	}
}
