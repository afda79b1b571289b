package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// Host says what to do with a CONNECT to host:port, which is normalised.
func (b *Broker) Host(g *authsome.Grant, host string, port int) authsome.HostVerdict {
	if b.routed(g, host, port) {
		return authsome.Intercept
	}
	if g.Mode.Denies() {
		return authsome.Refuse
	}
	return authsome.Tunnel
}

// Current reports whether a stream that was opened with a connection's
// credential of that generation may go on. Provider "" means that nothing was
// injected, and only the grant counts.
func (b *Broker) Current(g *authsome.Grant, provider, connection string, generation int64) bool {
	if b.grant(g.ID) == nil {
		return false
	}
	if provider == "" {
		return true
	}
	a := b.snapshot.Load().of(ownerOf(g.Identity)).byProvider[provider]
	if a == nil {
		return false
	}
	x := a.byName[connection]
	return x != nil && x.generation == generation
}

// Resolve decides on one request: which connection, what to put on it, or why
// not. When a credential will leave, the intent has been recorded before
// Resolve returns. The error is always an *authsome.Error.
func (b *Broker) Resolve(ctx context.Context, g *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error) {
	own := b.grant(g.ID)
	if own == nil {
		return nil, authsome.E(authsome.Forbidden, "the run that this request belongs to is over")
	}
	forward := &authsome.Resolution{Verdict: authsome.Forward}
	t, configured := b.tables(g)
	if t == nil {
		return b.unrouted(g, req, forward, "no provider is routed")
	}
	entry, result := t.Match(req.Host, req.Port, req.Method, req.Path)
	if result == route.None && configured != nil {
		// Only now: a provider that nobody has logged in to takes no request from
		// one that is connected, however close its route is.
		t = configured
		entry, result = t.Match(req.Host, req.Port, req.Method, req.Path)
	}
	for _, other := range req.Overrides {
		if !t.Same(req.Host, req.Port, req.Method, other, req.Path) {
			return nil, b.refuse(g, req, entry.Provider, "", authsome.EventProxyDenied, authsome.E(authsome.Invalid,
				"a service may read another method than %s in the request, and the two belong to different routes", req.Method).
				WithHint("send the request with the method that is meant, in capitals"))
		}
	}
	switch result {
	case route.Matched:
	case route.Unclear:
		return nil, b.refuse(g, req, entry.Provider, "", authsome.EventProxyDenied, authsome.E(authsome.Invalid,
			"services would differ in whether the path %s is one of %s", req.Path, entry.Provider).
			WithHint("send the path without doubled slashes, escaped slashes and semicolons"))
	case route.Excepted:
		// A login endpoint of the provider: the client's own business. What comes
		// back may be ours all the same, when it has guessed what to ask.
		return &authsome.Resolution{Verdict: authsome.Forward, Provider: entry.Provider, Guard: b.secretsOf(g, entry.Provider)}, nil
	case route.Ambiguous:
		who := strings.Join(t.Candidates(req.Host, req.Port, req.Method, req.Path), " and ")
		b.Logger.Error("ambiguous route", "host", req.Host, "providers", who)
		if !g.Mode.Denies() {
			return forward, nil
		}
		return nil, b.refuse(g, req, "", "", authsome.EventProxyDenied, authsome.E(authsome.Ambiguous,
			"%s claim %s%s alike, so neither gets it", who, req.Host, req.Path).
			WithHint("authsome inspect %s", entry.Provider))
	default:
		return b.unrouted(g, req, forward, "no provider covers this path")
	}

	p, ok := b.Catalog.Get(entry.Provider)
	if !ok {
		return b.unrouted(g, req, forward, "its provider was removed")
	}
	slots := entry.Data.(*slots)
	if req.Inspection == nil && len(slots.look) > 0 {
		return &authsome.Resolution{Verdict: authsome.Inspect, Provider: p.Name, Look: slots.look, Deny: entry.Route.Deny}, nil
	}
	asked := wishes(req, slots.headers)
	if asked.other != "" {
		return nil, b.refuse(g, req, p.Name, "", authsome.EventProxyDenied, authsome.E(authsome.Invalid,
			"the request names two connections of %s, %s and %s", p.Name, asked.name, asked.other).
			WithHint("name one connection in a request, or none: authsome list"))
	}
	placeholder, named := asked.placeholder, asked.name
	name := named
	if name == "" {
		name = g.Choices[p.Name]
	}
	x, err := b.serving(g, p.Name, name, req)
	if authsome.CodeOf(err) == authsome.Ambiguous {
		return nil, b.refuse(g, req, p.Name, name, authsome.EventProxyDenied, asError(err))
	}
	if err != nil {
		// Forwarding our own placeholder could only end in a riddle of a 401.
		if !g.Mode.Denies() && !placeholder && named == "" {
			return forward, nil
		}
		e := authsome.E(authsome.CredentialMissing, "%s", err.Error()).WithHint("authsome login %s", p.Name)
		if named != "" {
			e = e.WithHint("authsome login %s --connection %s", p.Name, named)
		}
		return nil, b.refuse(g, req, p.Name, name, authsome.EventProxyNoCredentials, e)
	}
	if x.Status != authsome.Connected && !b.usable(x, req) {
		e := authsome.E(authsome.TokenExpired, "the login to %s (%s) is %s", p.Name, x.Name, x.Status).
			WithHint("authsome login %s --connection %s --force", p.Name, x.Name)
		return nil, b.refuse(g, req, p.Name, x.Name, authsome.EventProxyNoCredentials, e)
	}
	r, err := b.unseal(x)
	if err != nil {
		return nil, err
	}
	if !r.covers(req.Host, req.Port) {
		e := authsome.E(authsome.Forbidden, "the login to %s (%s) was made for %s, not for %s",
			p.Name, x.Name, strings.Join(r.Hosts, ", "), req.Host).
			WithHint("authsome login %s --connection %s --force", p.Name, x.Name)
		return nil, b.refuse(g, req, p.Name, x.Name, authsome.EventProxyDenied, e)
	}
	if req.Inspection != nil && req.Inspection.Refused != nil {
		return nil, b.refuse(g, req, p.Name, x.Name, authsome.EventProxyDenied, asError(req.Inspection.Refused))
	}
	if call := deniedCall(entry.Route.Deny, req); call != "" {
		return nil, b.refuse(g, req, p.Name, x.Name, authsome.EventProxyDenied, authsome.E(authsome.Forbidden,
			"%s is denied to runs: its answer would put a credential into the program's hands", call).
			WithHint("make this call in a terminal of your own, and log in with what it answers: authsome login %s --connection NAME", p.Name))
	}
	if x, r, err = b.fresh(ctx, x, req.Rejected); err != nil {
		return nil, b.refuse(g, req, p.Name, x.Name, authsome.EventProxyNoCredentials, asError(err))
	}

	res := &authsome.Resolution{
		Provider: p.Name, Connection: x.Name, Private: r.Private, Generation: x.generation, Strip: slots.headers,
		// The service's word on the last token of a login that is over is turned
		// into what helps.
		Version: x.Version, Renewable: r.renewable() || r.OAuth != nil && r.OAuth.Dead,
	}
	what := challenge{p.Name, x.Name, req.Host, req.Repository}
	challenged := req.Challenged || placeholder || own.wasChallenged(what)
	waiting := false
	var places []authsome.SetPlace
	for _, in := range entry.Route.Inject {
		// Where keys go elsewhere than access tokens, the route has one for each.
		if !in.Fits(r.cred) || forConnection(res, req, in, r) {
			continue
		}
		room, held := roomFor(req, in)
		if !room {
			continue
		}
		switch in.When {
		case authsome.OnPlaceholder:
			if !held {
				continue
			}
		case authsome.OnChallenge:
			if !challenged {
				waiting = true
				continue
			}
		}
		if in.Slot == authsome.SlotSigV4 {
			res.Sign = &authsome.SigV4{
				AccessKeyID:     r.cred.Get(authsome.FieldAccessKeyID),
				SecretAccessKey: r.cred.Get(authsome.FieldSecretAccessKey),
				SessionToken:    r.cred.Get(authsome.FieldSessionToken),
			}
			continue
		}
		value := fill(in, r.cred)
		res.Guard = r.guard(res.Guard, in)
		if in.Slot.Beyond() {
			places = append(places, authsome.SetPlace{Place: authsome.Place{Slot: in.Slot, Name: in.Name}, Value: value})
			continue
		}
		res.Set = append(res.Set, authsome.SetHeader{Name: in.Name, Value: value})
	}
	switch {
	case len(res.Set)+len(places) > 0 || res.Sign != nil || res.Message != nil || !res.Certificate.IsZero():
		res.Verdict = authsome.Inject
		if len(places)+len(slots.strip) > 0 {
			res.Rewrite = &authsome.Rewrite{Strip: slots.strip, Set: places}
		}
	case waiting:
		// Nothing of the child's is taken away: a public repository is fetched
		// as it would be without us.
		res.Verdict, res.Strip = authsome.Challenge, nil
		return res, nil
	default:
		return forward, nil
	}
	if req.Challenged {
		own.remember(what)
	}
	ev := b.requestEvent(g, req, authsome.EventInjected, "started")
	ev.Provider, ev.Connection = p.Name, x.Name
	if err := b.Recorder.Append(ev); err != nil {
		b.Logger.Error("record a request before its credential leaves", "err", err)
		return nil, authsome.E(authsome.StoreFailed, "the request could not be recorded, so no credential was sent: %w", err).
			WithHint("authsome doctor")
	}
	return res, nil
}

// secretsOf are all secrets of a provider's connections.
func (b *Broker) secretsOf(g *authsome.Grant, provider string) []authsome.Secret {
	var out []authsome.Secret
	c := b.snapshot.Load().of(ownerOf(g.Identity)).byProvider[provider]
	if c == nil {
		return nil
	}
	for _, name := range c.names() {
		if r, err := b.unseal(c.byName[name]); err == nil {
			for _, s := range r.secrets() {
				out = append(out, authsome.NewSecret(s))
			}
		}
	}
	return out
}

// serving finds the connection for a request: the one that was named, else the
// default, else, when that was made for another service of the kind (the vendor's
// own, say, and the host is a company's), the one that was made for this host.
func (b *Broker) serving(g *authsome.Grant, p, name string, req *authsome.Request) (*held, error) {
	h := b.snapshot.Load().of(ownerOf(g.Identity))
	x, err := h.find(p, name)
	if err != nil || name != "" {
		return x, err
	}
	if r, err := b.unseal(x); err != nil || r.covers(req.Host, req.Port) {
		return x, err
	}
	var others []*held
	for _, n := range h.byProvider[p].names() {
		other := h.byProvider[p].byName[n]
		if r, err := b.unseal(other); err == nil && r.covers(req.Host, req.Port) {
			others = append(others, other)
		}
	}
	switch len(others) {
	case 0:
		return x, nil
	case 1:
		return others[0], nil
	}
	return nil, authsome.E(authsome.Ambiguous, "%s has several logins for %s, and none of them is its default", p, req.Host).
		WithHint("authsome run --connection %s=%s -- COMMAND", p, others[0].Name)
}

// deniedCall names the call that a request is, of those that are denied to runs;
// "" when it is none. The proxy has found those of AWS's.
func deniedCall(denials []authsome.Denial, req *authsome.Request) string {
	if req.Inspection != nil && req.Inspection.Denied != "" {
		return req.Inspection.Denied
	}
	for _, d := range denials {
		covers := func(method string) bool { return d.Covers(method, req.Path) }
		if d.Service == "" && (covers(req.Method) || slices.ContainsFunc(req.Overrides, covers)) {
			return d.Name
		}
	}
	return ""
}

// usable reports whether a connection that needs the person still has a token
// that works, or one that may be had by trying again.
func (b *Broker) usable(x *held, req *authsome.Request) bool {
	r, err := b.unseal(x)
	return err == nil && r.OAuth != nil && (r.renewable() || r.valid(b.Now()) && req.Rejected == 0)
}

// asError gives the error that crosses to the proxy.
func asError(err error) *authsome.Error {
	var e *authsome.Error
	if errors.As(err, &e) {
		c := *e
		return &c
	}
	return authsome.E(authsome.Internal, "the request could not be decided on: %w", err)
}

// unrouted answers for a path that nobody claims.
func (b *Broker) unrouted(g *authsome.Grant, req *authsome.Request, forward *authsome.Resolution, why string) (*authsome.Resolution, error) {
	if !g.Mode.Denies() {
		return forward, nil
	}
	return nil, b.refuse(g, req, "", "", authsome.EventProxyDenied, authsome.E(authsome.Forbidden,
		"this run refuses %s%s: %s", req.Host, req.Path, why).WithHint("authsome list"))
}

// refuse records a refusal and returns it. That it could not be recorded
// changes nothing for the child: it is refused either way.
func (b *Broker) refuse(g *authsome.Grant, req *authsome.Request, provider, connection string, t authsome.EventType, e *authsome.Error) error {
	ev := b.requestEvent(g, req, t, "denied")
	ev.Provider, ev.Connection, ev.Detail = provider, connection, e.Message
	if req.Rejected != 0 {
		// Not how the request ended: it was sent, and Finish says how that did.
		ev.Request = ""
	}
	e.Provider = provider
	if err := b.Recorder.Append(ev); err != nil {
		b.Logger.Error("record a refusal", "err", err)
	}
	return e
}

func (b *Broker) requestEvent(g *authsome.Grant, req *authsome.Request, t authsome.EventType, status string) authsome.Event {
	ev := b.event(g.Identity, t, status)
	ev.Run, ev.Program, ev.Request = g.ID, g.Program, req.ID
	ev.Method, ev.Host, ev.Path = req.Method, req.Host, req.Path
	if req.Inspection != nil {
		ev.Path = req.Inspection.Path
	}
	return ev
}

// Finish records how a request ended. res is nil when the proxy itself refused
// it (a misplaced placeholder, say).
func (b *Broker) Finish(g *authsome.Grant, req *authsome.Request, res *authsome.Resolution, out authsome.Outcome) {
	if res != nil && out.Scrubbed > 0 {
		ev := b.requestEvent(g, req, authsome.EventScrubbed, "ok")
		ev.Provider, ev.Connection, ev.Request = res.Provider, res.Connection, ""
		ev.Detail = "the answer held the credential; places overwritten: " + strconv.Itoa(out.Scrubbed)
		if err := b.Recorder.Append(ev); err != nil {
			b.Logger.Error("record that an answer was scrubbed", "err", err)
		}
	}
	t, status := authsome.EventInjected, "ok"
	switch {
	case res == nil:
		t, status = authsome.EventProxyDenied, "denied"
	case res.Verdict != authsome.Inject:
		return // no credential left, so there is nothing to account for
	case out.Err != "":
		status = "failed"
	}
	ev := b.requestEvent(g, req, t, status)
	if res != nil {
		ev.Provider, ev.Connection = res.Provider, res.Connection
	}
	ev.Code, ev.Sent, ev.Received = out.Status, out.Sent, out.Received
	ev.DurationMS, ev.Detail = int64(out.Duration/time.Millisecond), out.Err
	if out.Unseen && ev.Detail == "" {
		ev.Detail = "whether the answer holds the credential could not be seen, because of its coding"
	}
	if err := b.Recorder.AppendLater(ev); err != nil {
		b.Logger.Error("record the end of a request", "err", err)
	}
}

// fill renders an injection's template with the credential.
func fill(in authsome.Injection, c *authsome.Credential) authsome.Secret {
	var sb strings.Builder
	rest := in.Value
	for {
		before, after, ok := strings.Cut(rest, "{")
		field, tail, closed := strings.Cut(after, "}")
		if !ok || !closed {
			sb.WriteString(rest)
			break
		}
		sb.WriteString(before)
		sb.WriteString(c.Get(field).Reveal())
		rest = tail
	}
	if in.Slot == authsome.SlotBasic {
		return authsome.NewSecret("Basic " + base64.StdEncoding.EncodeToString([]byte(sb.String())))
	}
	return authsome.NewSecret(sb.String())
}

// guard appends the secrets that a template is filled with: services repeat a key
// without what it came with ("ID:KEY"). Of Basic, scrubbing looks for the password,
// and not for the user, whose name answers are full of.
func (r *record) guard(secrets []authsome.Secret, in authsome.Injection) []authsome.Secret {
	for rest := in.Value; in.Slot != authsome.SlotBasic; {
		_, after, opened := strings.Cut(rest, "{")
		field, tail, closed := strings.Cut(after, "}")
		if !opened || !closed {
			break
		}
		if !slices.Contains(r.Public, field) {
			secrets = append(secrets, r.cred.Get(field))
		}
		rest = tail
	}
	return secrets
}

func (g *grant) wasChallenged(c challenge) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.challenged[c]
}

func (g *grant) remember(c challenge) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.challenged) < maxChallenged && len(c.repository) <= maxRepository {
		g.challenged[c] = true
	}
}
