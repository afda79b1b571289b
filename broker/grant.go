package broker

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

// resumeWithin is how long a grant that outlived its daemon waits for its run
// to come back. A living run notices the daemon's death at once.
const resumeWithin = 10 * time.Minute

// GrantSpec is what a run asks for.
type GrantSpec struct {
	Program string
	Mode    authsome.Mode     // "" is ConnectedAllow
	Choices map[string]string // provider → connection
	// Providers are the only ones that the run may use; none means all.
	Providers []string
	// Unscrubbed runs get answers as the services send them.
	Unscrubbed bool
	// Authority is the fingerprint of the certificate authority that the child
	// will trust.
	Authority string
}

// grants are the runs that may use credentials. Tokens are looked up by their
// hash, so that neither timing nor a database row gives one away.
type grants struct {
	mu     sync.RWMutex
	byHash map[[32]byte]*grant
	byID   map[string]*grant
}

type grant struct {
	authsome.Grant
	tokenHash  [32]byte
	secretHash [32]byte
	// dormant grants were read from the store and wait for their run.
	dormant bool

	mu sync.Mutex
	// challenged holds the repositories whose host has answered 401 once.
	challenged map[challenge]bool
}

// challenge is what a 401 is remembered for.
type challenge struct{ provider, connection, host, repository string }

// maxChallenged and maxRepository, in bytes, bound what a child can make a grant
// remember. No repository has so long a path; one that had would be asked for twice
// each time.
const (
	maxChallenged = 10_000
	maxRepository = 1 << 10
)

// sealedGrant is the sealed form of a grant. The token itself is stored
// nowhere.
type sealedGrant struct {
	Version    int            `json:"v"`
	Grant      authsome.Grant `json:"grant"`
	TokenHash  []byte         `json:"token_sha256"`
	SecretHash []byte         `json:"secret_sha256"`
}

func grantBinding(vault, id string) authsome.Binding {
	return authsome.Binding{Kind: "grant", Vault: vault, Name: id, Version: 1}
}

// StartGrant makes a grant for a run. The token is for the child's proxy URL;
// the secret lets the run, and only it, renew the grant with another daemon.
func (b *Broker) StartGrant(ctx context.Context, id authsome.Identity, spec GrantSpec) (_ *authsome.Grant, token, secret authsome.Secret, err error) {
	none := authsome.Secret{}
	switch spec.Mode {
	case "":
		spec.Mode = authsome.ConnectedAllow
	case authsome.ConnectedAllow, authsome.ConnectedDeny, authsome.ConfiguredAllow, authsome.ConfiguredDeny:
	default:
		return nil, none, none, authsome.E(authsome.Invalid, "start a run: there is no mode %q", clip(string(spec.Mode))).
			WithHint("use connected_allow, connected_deny, configured_allow or configured_deny")
	}
	for _, p := range slices.Sorted(maps.Keys(spec.Choices)) {
		if _, _, err := b.lookup(id, p, spec.Choices[p]); err != nil {
			return nil, none, none, err
		}
	}
	only := slices.Compact(slices.Sorted(slices.Values(spec.Providers)))
	for _, p := range only {
		if _, err := b.provider(p); err != nil {
			return nil, none, none, err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(spec.Choices)) {
		if len(only) > 0 && !slices.Contains(only, p) {
			return nil, none, none, authsome.E(authsome.Usage, "start a run: it is to use a connection of %s, which is not among the providers that it is limited to", p).
				WithHint("name it with --provider as well, or leave --connection %s=… out", p)
		}
	}
	token, secret = authsome.NewSecret(randomToken(32)), authsome.NewSecret(randomToken(32))
	g := &grant{
		Grant: authsome.Grant{
			ID: "run_" + randomToken(10), Identity: id, Mode: spec.Mode, Choices: maps.Clone(spec.Choices),
			Providers: only, Unscrubbed: spec.Unscrubbed, Program: clip(spec.Program), CreatedAt: b.Now().UTC(),
			Authority: spec.Authority,
		},
		tokenHash:  sha256.Sum256([]byte(token.Reveal())),
		secretHash: sha256.Sum256([]byte(secret.Reveal())),
		challenged: map[challenge]bool{},
	}
	plain, err := json.Marshal(sealedGrant{1, g.Grant, g.tokenHash[:], g.secretHash[:]})
	if err != nil {
		return nil, none, none, authsome.E(authsome.Internal, "start a run: %w", err)
	}
	sealed, err := b.Sealer.Seal(grantBinding(id.Vault, g.ID), plain)
	if err != nil {
		return nil, none, none, err
	}
	ev := b.event(id, authsome.EventRunStarted, "ok")
	ev.Run, ev.Detail = g.ID, g.Program
	row := authsome.SealedRow{ID: g.ID, User: id.User, Version: 1, Sealed: sealed}
	if err := b.Records.SaveGrant(ctx, id.Vault, row, ev); err != nil {
		return nil, none, none, err
	}
	b.grants.mu.Lock()
	b.grants.byHash[g.tokenHash], b.grants.byID[g.ID] = g, g
	b.grants.mu.Unlock()
	return &g.Grant, token, secret, nil
}

func (b *Broker) loadGrants(ctx context.Context) error {
	rows, err := b.Records.Grants(ctx, authsome.LocalVault)
	if err != nil {
		return err
	}
	var gone []string
	b.grants.mu.Lock()
	defer b.grants.mu.Unlock()
	for _, r := range rows {
		var s sealedGrant
		plain, err := b.Sealer.Unseal(grantBinding(authsome.LocalVault, r.ID), r.Sealed)
		if err == nil {
			err = json.Unmarshal(plain, &s)
		}
		if err != nil || s.Version != 1 || len(s.TokenHash) != 32 || len(s.SecretHash) != 32 {
			gone = append(gone, r.ID)
			continue
		}
		g := &grant{
			Grant: s.Grant, tokenHash: [32]byte(s.TokenHash), secretHash: [32]byte(s.SecretHash),
			dormant: true, challenged: map[challenge]bool{},
		}
		b.grants.byHash[g.tokenHash], b.grants.byID[g.ID] = g, g
	}
	if len(gone) == 0 {
		return nil
	}
	return b.Records.DeleteGrants(ctx, authsome.LocalVault, gone)
}

// ResumeGrant gives a grant back to the run that owned it under an earlier
// daemon. Token and secret must both be right, and the caller must not itself
// descend from a run.
func (b *Broker) ResumeGrant(ctx context.Context, id authsome.Identity, grantID string, token, secret authsome.Secret) (*authsome.Grant, error) {
	b.grants.mu.RLock()
	g := b.grants.byID[grantID]
	b.grants.mu.RUnlock()
	refused := authsome.E(authsome.Forbidden, "resume a run: there is no such run, or it is over").
		WithHint("start it anew with `authsome run`")
	if g == nil || id.Run != "" || g.Identity.Vault != id.Vault || g.Identity.User != id.User {
		return nil, refused
	}
	th, sh := sha256.Sum256([]byte(token.Reveal())), sha256.Sum256([]byte(secret.Reveal()))
	if subtle.ConstantTimeCompare(th[:], g.tokenHash[:])&subtle.ConstantTimeCompare(sh[:], g.secretHash[:]) != 1 {
		return nil, refused
	}
	ev := b.event(id, authsome.EventRunResumed, "ok")
	ev.Run, ev.Detail = g.ID, g.Program
	if err := b.Records.Append(ctx, ev); err != nil {
		return nil, err
	}
	b.grants.mu.Lock()
	defer b.grants.mu.Unlock()
	if b.grants.byID[grantID] != g {
		return nil, refused
	}
	g.dormant = false
	return &g.Grant, nil
}

// EndGrant ends a run: its token opens nothing any more, and its tunnels are
// closed. It never leaves a grant alive because of a failing store.
func (b *Broker) EndGrant(ctx context.Context, grantID string) error {
	return b.endGrant(ctx, grantID, false)
}

// endGrant is EndGrant, or does nothing to a grant whose run has come back.
func (b *Broker) endGrant(ctx context.Context, grantID string, dormant bool) error {
	b.grants.mu.Lock()
	g := b.grants.byID[grantID]
	if g == nil || dormant && !g.dormant {
		b.grants.mu.Unlock()
		return nil
	}
	delete(b.grants.byID, grantID)
	delete(b.grants.byHash, g.tokenHash)
	b.grants.mu.Unlock()
	b.changed()
	ev := b.event(g.Identity, authsome.EventRunEnded, "ok")
	ev.Run, ev.Detail = g.ID, g.Program
	return b.Records.DeleteGrants(ctx, g.Identity.Vault, []string{grantID}, ev)
}

// Sweep ends what waits for nobody: grants whose run did not come back after a
// restart, and logins whose time is over. The daemon calls it every minute.
func (b *Broker) Sweep(ctx context.Context, loadedAt time.Time) {
	b.sweepLogins(ctx)
	if b.Now().Sub(loadedAt) < resumeWithin {
		return
	}
	var dead []string
	b.grants.mu.RLock()
	for id, g := range b.grants.byID {
		if g.dormant {
			dead = append(dead, id)
		}
	}
	b.grants.mu.RUnlock()
	for _, id := range dead {
		if err := b.endGrant(ctx, id, true); err != nil {
			b.Logger.Warn("end a run that did not come back", "run", id, "err", err)
		}
	}
}

// Grant returns the grant that a token opens.
func (b *Broker) Grant(token string) (*authsome.Grant, bool) {
	h := sha256.Sum256([]byte(token))
	b.grants.mu.RLock()
	defer b.grants.mu.RUnlock()
	g := b.grants.byHash[h]
	if g == nil || g.dormant {
		return nil, false
	}
	return &g.Grant, true
}

// GrantByID returns a living grant.
func (b *Broker) GrantByID(id string) (*authsome.Grant, bool) {
	if g := b.grant(id); g != nil {
		return &g.Grant, true
	}
	return nil, false
}

func (b *Broker) grant(id string) *grant {
	b.grants.mu.RLock()
	defer b.grants.mu.RUnlock()
	if g := b.grants.byID[id]; g != nil && !g.dormant {
		return g
	}
	return nil
}

// Placeholders gives what a child's environment needs: the variables of every
// connected provider, the host patterns that are routed, and which connection
// each provider would use.
func (b *Broker) Placeholders(g *authsome.Grant) (env map[string]string, hosts []string, providers map[string]string) {
	h := b.snapshot.Load().of(ownerOf(g.Identity))
	env, providers = map[string]string{}, map[string]string{}
	for name, a := range h.byProvider {
		p, ok := b.Catalog.Get(name)
		if !ok || !g.Allows(name) {
			continue
		}
		use := g.Choices[name]
		if use == "" {
			use = a.deflt
		}
		if use == "" {
			continue
		}
		providers[name] = use
		for _, v := range p.Env {
			switch {
			case v.URL != "":
				env[v.Name] = v.URL
			case v.Field == authsome.FieldRefreshToken || !b.has(a.byName[use], p, v.Field):
			default:
				env[v.Name] = b.placeholder(a.byName[use], v)
			}
		}
		hosts = append(hosts, a.hosts(p)...)
	}
	slices.Sort(hosts)
	return env, slices.Compact(hosts), providers
}

// Routed are the host patterns of all connected providers, sorted: what a run
// without limits has routed.
func (b *Broker) Routed(id authsome.Identity) []string {
	var hosts []string
	for name, a := range b.snapshot.Load().of(ownerOf(id)).byProvider {
		if p, ok := b.Catalog.Get(name); ok {
			hosts = append(hosts, a.hosts(p)...)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// hosts are the host patterns of a provider's connections.
func (a *accounts) hosts(p *authsome.Provider) []string {
	var hosts []string
	for _, baseURL := range a.addresses() {
		hosts = append(hosts, boundHosts(p, baseURL)...)
	}
	return hosts
}

// has reports whether a connection has a field, as far as that is left to the
// person: AWS's session token, which only some keys have.
func (b *Broker) has(x *held, p *authsome.Provider, field string) bool {
	optional := slices.ContainsFunc(p.Key.Fields, func(f authsome.KeyField) bool { return f.Name == field && f.Optional })
	if !optional || x == nil {
		return true
	}
	r, err := b.unseal(x)
	return err != nil || !r.cred.Get(field).IsZero()
}

// placeholder is what stands in a variable: the constant for a secret, the
// value itself for a field that is none (tools put an account id into URLs). AWS's
// access key id, which goes with each request, is one of those by which a program
// may choose a connection.
func (b *Broker) placeholder(x *held, v authsome.EnvVar) string {
	if x != nil && v.Field != authsome.FieldAccessKeyID {
		if r, err := b.unseal(x); err == nil && slices.Contains(r.Public, v.Field) {
			return r.Fields[v.Field]
		}
	}
	return authsome.Placeholder
}

// Leaked tells which variables of the parent's environment hold a stored
// secret. hashes maps a name to hex(SHA-256(salt || value)), so the daemon sees
// no other value.
func (b *Broker) Leaked(g *authsome.Grant, salt string, hashes map[string]string) []string {
	if len(hashes) == 0 {
		return nil
	}
	secrets := map[string]bool{}
	for _, x := range b.snapshot.Load().of(ownerOf(g.Identity)).all() {
		r, err := b.unseal(x)
		if err != nil {
			continue
		}
		for _, v := range r.secrets() {
			sum := sha256.Sum256([]byte(salt + v))
			secrets[hex.EncodeToString(sum[:])] = true
		}
	}
	var leaked []string
	for name, h := range hashes {
		if secrets[h] {
			leaked = append(leaked, name)
		}
	}
	slices.Sort(leaked)
	return leaked
}
