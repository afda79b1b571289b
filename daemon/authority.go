package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/ca"
)

const (
	authorityKind = "ca"
	authorityName = "root"
	// renewAuthority is how long before its end an authority is replaced, and how
	// long the longest run may then still go on.
	renewAuthority = 30 * 24 * time.Hour
	// renewInstalled is the same where a root of it is installed: the person has
	// the time between to install the next one, which only they can do.
	renewInstalled = 7 * 24 * time.Hour
	// maxRoots bounds how many roots are remembered for `ca uninstall`.
	maxRoots = 100
)

// authorities are the certificate authorities of the home: the one that new runs
// get, and former ones, which the children of living runs trust and which go with
// the last of them. It is what the proxy asks for certificates.
type authorities struct {
	d *Daemon
	// mu is held while they change, and, for reading, while a grant is begun, so
	// that the one that it was given is not removed as unused.
	mu      sync.RWMutex
	version int64 // of the stored item
	now     atomic.Pointer[authorityState]
}

// authorityState is never changed once it is published.
type authorityState struct {
	all   []*authority // the current one first
	roots [][]byte     // DER of all that were made to be installed, the newest last
}

type authority struct {
	*ca.Authority
	id     string          // its fingerprint
	root   *ca.Constrained // what was made of it to be installed; nil: nothing
	issuer *ca.Issuer
}

func newAuthority(a *ca.Authority, root *ca.Constrained) *authority {
	return &authority{a, a.Fingerprint(), root, ca.NewIssuerUnder(a, root)}
}

// sealedAuthorities is the sealed form. Version 1 had one authority, with its
// fields here.
type sealedAuthorities struct {
	Version     int               `json:"v"` // 2
	Authorities []sealedAuthority `json:"authorities"`
	Roots       [][]byte          `json:"roots,omitempty"`
	sealedAuthority
}

type sealedAuthority struct {
	Cert  []byte `json:"cert,omitempty"`
	Key   []byte `json:"key,omitempty"`
	Root  []byte `json:"root,omitempty"`
	Cross []byte `json:"cross,omitempty"`
}

func authorityBinding(version int64) authsome.Binding {
	return authsome.Binding{Kind: authorityKind, Vault: authsome.LocalVault, Name: authorityName, Version: version}
}

// openAuthorities opens the stored ones, or makes the first. One that does not
// open is an error: a new one would leave every running child without trust.
func (d *Daemon) openAuthorities(ctx context.Context) (*authorities, error) {
	as := &authorities{d: d}
	sealed, version, err := d.store.Item(ctx, authsome.LocalVault, authorityKind, authorityName)
	if err != nil {
		return nil, err
	}
	as.version = version
	if sealed == nil {
		a, err := ca.New(time.Now())
		if err != nil {
			return nil, authsome.E(authsome.Internal, "make a certificate authority: %w", err)
		}
		return as, as.save(ctx, &authorityState{all: []*authority{newAuthority(a, nil)}})
	}
	plain, err := d.vault.Unseal(authorityBinding(version), sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var s sealedAuthorities
	err = json.Unmarshal(plain, &s)
	if err == nil && s.Version == 1 {
		s.Authorities = []sealedAuthority{s.sealedAuthority}
	}
	if err != nil || s.Version < 1 || s.Version > 2 || len(s.Authorities) == 0 {
		return nil, authsome.E(authsome.VaultFailed, "open the certificate authority: the record is of a version that this program does not know")
	}
	state := &authorityState{roots: s.Roots}
	for _, one := range s.Authorities {
		a, err := ca.Parse(one.Cert, one.Key)
		clear(one.Key)
		if err != nil {
			return nil, authsome.E(authsome.VaultFailed, "open the certificate authority: %w", err)
		}
		var root *ca.Constrained
		if one.Root != nil {
			if root, err = a.ParseConstrained(one.Root, one.Cross); err != nil {
				return nil, authsome.E(authsome.VaultFailed, "open the certificate authority: %w", err)
			}
		}
		state.all = append(state.all, newAuthority(a, root))
	}
	as.now.Store(state)
	as.publish(state)
	return as, nil
}

// save stores a state together with what is recorded about it, then makes it the
// one in use. The caller holds mu, or nobody knows as yet.
func (as *authorities) save(ctx context.Context, next *authorityState, ev ...authsome.Event) error {
	s := sealedAuthorities{Version: 2, Roots: next.roots}
	for _, a := range next.all {
		var one sealedAuthority
		var err error
		if one.Cert, one.Key, err = a.Marshal(); err != nil {
			return authsome.E(authsome.Internal, "store a certificate authority: %w", err)
		}
		if a.root != nil {
			one.Root, one.Cross = a.root.Marshal()
		}
		s.Authorities = append(s.Authorities, one)
	}
	plain, err := json.Marshal(s)
	for _, one := range s.Authorities {
		clear(one.Key)
	}
	if err != nil {
		return authsome.E(authsome.Internal, "store a certificate authority: %w", err)
	}
	sealed, err := as.d.vault.Seal(authorityBinding(as.version+1), plain)
	clear(plain)
	if err != nil {
		return err
	}
	if err := as.d.store.SaveItem(ctx, authsome.LocalVault, authorityKind, authorityName, sealed, as.version+1, ev...); err != nil {
		return err
	}
	as.version++
	as.now.Store(next)
	as.publish(next)
	return nil
}

// file is where the certificates lie for programs that are given them by hand.
func (as *authorities) file() string { return filepath.Join(as.d.home, api.CAFile) }

// publish writes the certificates in use to the file, the current one first, if
// it does not hold them already. Nothing needs it but what a person has set up,
// so it is no reason to stop.
func (as *authorities) publish(s *authorityState) {
	var data []byte
	for _, a := range s.all {
		data = append(data, a.CertPEM()...)
	}
	if was, err := os.ReadFile(as.file()); err == nil && bytes.Equal(was, data) {
		return
	}
	tmp := as.file() + ".new"
	err := os.WriteFile(tmp, data, 0o600)
	if err == nil {
		err = os.Rename(tmp, as.file())
	}
	if err != nil {
		as.d.log.Warn("write the certificate authority's certificate", "err", err)
	}
}

// current is the authority of new runs.
func (as *authorities) current() *authority { return as.now.Load().all[0] }

// of is the authority that a run's child trusts; nil when it is gone.
func (as *authorities) of(g *authsome.Grant) *authority {
	s := as.now.Load()
	if g.Authority == "" {
		return s.all[0]
	}
	for _, a := range s.all {
		if a.id == g.Authority {
			return a
		}
	}
	return nil
}

// Leaf implements proxy.Issuer.
func (as *authorities) Leaf(g *authsome.Grant, host string) (*tls.Certificate, error) {
	a := as.of(g)
	if a == nil {
		return nil, authsome.E(authsome.NotReady, "issue a certificate for %s: the authority that this run trusts is gone", host)
	}
	return a.issuer.Leaf(host)
}

// due reports whether the current authority is to be replaced.
func (as *authorities) due() bool {
	a := as.current()
	left := time.Until(a.Expires())
	if a.root != nil {
		return left < renewInstalled
	}
	return left < renewAuthority
}

// tend replaces the current authority when its time has come, and removes former
// ones that no run's child trusts any more.
func (as *authorities) tend(ctx context.Context) error {
	as.mu.Lock()
	defer as.mu.Unlock()
	next := *as.now.Load()
	var ev []authsome.Event
	if as.due() {
		as.d.log.Info("the certificate authority is replaced before it expires", "expires", as.current().Expires())
		if err := next.rotate(); err != nil {
			return err
		}
		e := as.d.event(authsome.EventAuthorityRotated)
		e.Detail = "before it expires"
		ev = append(ev, e)
	}
	next.prune(as.d.broker.Runs())
	if len(next.all) == len(as.now.Load().all) && len(ev) == 0 {
		return nil
	}
	return as.save(ctx, &next, ev...)
}

// rotate puts a new authority in front.
func (s *authorityState) rotate() error {
	a, err := ca.New(time.Now())
	if err != nil {
		return authsome.E(authsome.Internal, "make a certificate authority: %w", err)
	}
	s.all = append([]*authority{newAuthority(a, nil)}, s.all...)
	return nil
}

// prune removes the former ones that no run was given.
func (s *authorityState) prune(runs []authsome.Grant) {
	s.all = slices.DeleteFunc(slices.Clone(s.all), func(a *authority) bool {
		return a != s.all[0] && !slices.ContainsFunc(runs, func(g authsome.Grant) bool { return g.Authority == a.id })
	})
}

// begin has f begin a grant under the current authority.
func (as *authorities) begin(ctx context.Context, f func(id string) error) error {
	if as.due() {
		// The sweep would do it within a minute; a machine that slept for weeks
		// may be asked before.
		if err := as.tend(ctx); err != nil {
			return err
		}
	}
	as.mu.RLock()
	defer as.mu.RUnlock()
	return f(as.current().id)
}

// repeat says why `ca install` is to be repeated; "" when nothing was installed,
// or it serves every host that is routed.
func (as *authorities) repeat(id authsome.Identity) string {
	s := as.now.Load()
	a := s.all[0]
	switch {
	case len(s.roots) == 0:
		return ""
	case a.root == nil:
		return "the installed root is of an earlier authority"
	}
	if missing := a.root.Missing(as.d.broker.Routed(id)); len(missing) > 0 {
		return "the installed root does not permit " + someOf(missing)
	}
	return ""
}

// someOf lists names for a sentence.
func someOf(names []string) string {
	if n := len(names) - maxListed; n > 0 {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}

// authority serves GET api.PathCA.
func (d *Daemon) authority(_ context.Context, c *call) (any, error) {
	return d.authorities.view(c.id), nil
}

func (as *authorities) view(id authsome.Identity) api.Authority {
	s := as.now.Load()
	as.publish(s) // somebody may have touched the file
	a := s.all[0]
	out := api.Authority{
		Path: as.file(), PEM: string(a.CertPEM()), Former: len(s.all) - 1, Routed: append([]string{}, as.d.broker.Routed(id)...),
		Roots: []string{}, Stale: a.stale(as.d.broker.Routed(id)), Repeat: as.repeat(id),
	}
	if a.root != nil {
		out.Root, out.Permitted = string(a.root.RootPEM()), a.root.Permitted()
	}
	for _, der := range s.roots {
		out.Roots = append(out.Roots, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	return out
}

// changeAuthority serves POST api.PathCA: what only a person outside a run may
// do, since it says what this machine trusts.
func (d *Daemon) changeAuthority(ctx context.Context, c *call) (any, error) {
	var req api.AuthorityChange
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	act, ok := authorityActs[req.Act]
	if !ok {
		return nil, authsome.E(authsome.Invalid, "change the certificate authority: there is no act of that name")
	}
	id := c.id
	if id.Run == "" && req.InsideRun {
		id.Run = unknownRun
	}
	if err := d.broker.OutsideRun(ctx, id, act.what); err != nil {
		return nil, err
	}
	as := d.authorities
	as.mu.Lock()
	defer as.mu.Unlock()
	next := *as.now.Load()
	detail, err := act.do(as, id, &next)
	if err != nil {
		return nil, err
	}
	if detail != "" {
		ev := d.event(act.event)
		ev.PID, ev.Program, ev.Detail = id.PID, id.Program, detail
		next.prune(d.broker.Runs())
		if err := as.save(ctx, &next, ev); err != nil {
			return nil, err
		}
	}
	return as.view(id), nil
}

// authorityAct changes a copy of the state and says for the record what it did;
// "" when nothing is to be stored.
type authorityAct struct {
	what  string
	event authsome.EventType
	do    func(as *authorities, id authsome.Identity, s *authorityState) (string, error)
}

var authorityActs = map[string]authorityAct{
	api.ActCheck: {"change what this machine trusts", "", func(*authorities, authsome.Identity, *authorityState) (string, error) {
		return "", nil
	}},
	api.ActRotate: {"replace the certificate authority", authsome.EventAuthorityRotated, func(_ *authorities, _ authsome.Identity, s *authorityState) (string, error) {
		return "by command", s.rotate()
	}},
	api.ActInstall: {"install the certificate authority", authsome.EventAuthorityInstalled, (*authorities).constrain},
	api.ActForget: {"uninstall the certificate authority", authsome.EventAuthorityUninstalled, func(_ *authorities, _ authsome.Identity, s *authorityState) (string, error) {
		if len(s.roots) == 0 {
			return "", nil
		}
		s.roots, s.all = nil, slices.Clone(s.all)
		for i, a := range s.all {
			s.all[i] = newAuthority(a.Authority, nil)
		}
		return "from all stores", nil
	}},
}

// stale reports whether another root than the one that there is would be
// installed for hosts.
func (a *authority) stale(hosts []string) bool {
	return a.root == nil || !a.root.Exactly(hosts) || time.Until(a.Expires()) < renewAuthority
}

// constrain makes the root to install for what is routed now, unless there is
// one that is for exactly that.
func (as *authorities) constrain(id authsome.Identity, s *authorityState) (string, error) {
	hosts := as.d.broker.Routed(id)
	if len(hosts) == 0 {
		return "", authsome.E(authsome.NotReady, "install the certificate authority: nothing is connected, and it is installed for the hosts of your connections only").
			WithHint("authsome login PROVIDER")
	}
	if !s.all[0].stale(hosts) {
		return "", nil
	}
	if time.Until(s.all[0].Expires()) < renewAuthority {
		if err := s.rotate(); err != nil {
			return "", err
		}
	}
	a := s.all[0]
	root, err := a.Constrain(time.Now(), hosts)
	if err != nil {
		return "", authsome.E(authsome.Internal, "make a root to install: %w", err)
	}
	s.all = slices.Clone(s.all)
	s.all[0] = newAuthority(a.Authority, root)
	der, _ := root.Marshal()
	s.roots = append(slices.Clone(s.roots), der)
	s.roots = s.roots[max(0, len(s.roots)-maxRoots):]
	return "for " + someOf(root.Permitted()), nil
}
