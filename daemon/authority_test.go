package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/ca"
)

// opened opens a home once, and lets look at it meanwhile.
func opened(t *testing.T, home string, port int, look func(d *Daemon)) {
	t.Helper()
	d, err := open(context.Background(), Config{Home: home, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	look(d)
}

// aged stores an authority that was made at another time as the only one.
func aged(t *testing.T, d *Daemon, made time.Time) {
	t.Helper()
	a, err := ca.New(made)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.authorities.save(context.Background(), &authorityState{all: []*authority{newAuthority(a, nil)}}); err != nil {
		t.Fatal(err)
	}
}

// startRun begins a grant as the API does.
func startRun(t *testing.T, d *Daemon) (g *authsome.Grant, token, secret authsome.Secret) {
	t.Helper()
	err := d.authorities.begin(context.Background(), func(id string) (err error) {
		g, token, secret, err = d.broker.StartGrant(context.Background(), localIdentity, broker.GrantSpec{Program: "x", Authority: id})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return g, token, secret
}

// postCall is a request of whoever id is.
func postCall(t *testing.T, body any, id authsome.Identity) *call {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return &call{httptest.NewRequest("POST", "/", bytes.NewReader(data)), id}
}

// trusted reports whether a leaf for a run verifies under a root in PEM.
func trusted(t *testing.T, d *Daemon, g *authsome.Grant, root string) bool {
	t.Helper()
	leaf, err := d.authorities.Leaf(g, "api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(root)) {
		t.Fatalf("no certificate: %q", root)
	}
	for _, der := range leaf.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
	}
	_, err = leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "api.openai.com", Roots: roots, Intermediates: between})
	return err == nil
}

// TestAuthorityIsRenewed: it is kept until its time has come, over restarts;
// then new runs get another, and those that live keep theirs to their end.
func TestAuthorityIsRenewed(t *testing.T) {
	home, port := newHome(t)
	ctx := context.Background()
	var first, old, renewed string
	opened(t, home, port, func(d *Daemon) { first = string(d.authorities.current().CertPEM()) })
	opened(t, home, port, func(d *Daemon) {
		if string(d.authorities.current().CertPEM()) != first {
			t.Error("a root that is good for a year was replaced")
		}
		aged(t, d, time.Now().Add(-300*24*time.Hour))
		old = string(d.authorities.current().CertPEM())
	})
	var g *authsome.Grant
	var token, secret authsome.Secret
	opened(t, home, port, func(d *Daemon) {
		if string(d.authorities.current().CertPEM()) != old {
			t.Error("a root was replaced 65 days before its end")
		}
		g, token, secret = startRun(t, d)
	})
	opened(t, home, port, func(d *Daemon) {
		// 40 days later, as a daemon sees it that lives as long.
		var err error
		if g, err = d.broker.ResumeGrant(ctx, localIdentity, g.ID, token, secret); err != nil {
			t.Fatal(err)
		}
		later := *d.authorities.now.Load()
		a, err := ca.New(time.Now().Add(-340 * 24 * time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		g.Authority, old = a.Fingerprint(), string(a.CertPEM())
		later.all = []*authority{newAuthority(a, nil)}
		if err := d.authorities.save(ctx, &later); err != nil {
			t.Fatal(err)
		}
		if err := d.authorities.tend(ctx); err != nil {
			t.Fatal(err)
		}
		renewed = string(d.authorities.current().CertPEM())
		if renewed == old || len(d.authorities.now.Load().all) != 2 {
			t.Fatal("a root near its end was not replaced, or went at once")
		}
		if !trusted(t, d, g, old) || trusted(t, d, g, renewed) {
			t.Error("the living run's certificates are not its authority's any more")
		}
		fresh, _, _ := startRun(t, d)
		if !trusted(t, d, fresh, renewed) || trusted(t, d, fresh, old) {
			t.Error("the new run's certificates are not the new authority's")
		}
		if data, err := os.ReadFile(d.authorities.file()); err != nil || string(data) != renewed+old {
			t.Errorf("%s holds %q, %v", d.authorities.file(), data, err)
		}
		if err := d.authorities.tend(ctx); err != nil || len(d.authorities.now.Load().all) != 2 {
			t.Errorf("the next look changed it: %v", err)
		}
		// The run ends, and its authority with it.
		if err := d.broker.EndGrant(ctx, g.ID); err != nil {
			t.Fatal(err)
		}
		if err := d.authorities.tend(ctx); err != nil || len(d.authorities.now.Load().all) != 1 {
			t.Errorf("the last run is over, and the former authority is still there: %v", err)
		}
		if _, err := d.authorities.Leaf(g, "api.openai.com"); err == nil {
			t.Error("a certificate was issued for a run whose authority is gone")
		}
		if data, err := os.ReadFile(d.authorities.file()); err != nil || string(data) != renewed {
			t.Errorf("%s holds %q, %v", d.authorities.file(), data, err)
		}
		aged(t, d, time.Now().Add(-2*365*24*time.Hour))
	})
	opened(t, home, port, func(d *Daemon) {
		if left := time.Until(d.authorities.current().Expires()); left < renewAuthority {
			t.Errorf("an expired root was kept: %v", left)
		}
	})
	// They lie nowhere in the clear.
	searchFiles(t, filepath.Dir(home), []string{"PRIVATE KEY"})
}

// TestAuthorityOutlivesADaemon: a rotation and a restart later, a run that was
// begun before goes on under the authority that its child trusts.
func TestAuthorityOutlivesADaemon(t *testing.T) {
	home, port := newHome(t)
	ctx := context.Background()
	var g *authsome.Grant
	var token, secret authsome.Secret
	var old string
	opened(t, home, port, func(d *Daemon) {
		old = string(d.authorities.current().CertPEM())
		g, token, secret = startRun(t, d)
		if _, err := d.changeAuthority(ctx, postCall(t, api.AuthorityChange{Act: api.ActRotate}, localIdentity)); err != nil {
			t.Fatal(err)
		}
		if !trusted(t, d, g, old) {
			t.Error("the living run lost its authority by a rotation")
		}
	})
	opened(t, home, port, func(d *Daemon) {
		g, err := d.broker.ResumeGrant(ctx, localIdentity, g.ID, token, secret)
		if err != nil {
			t.Fatal(err)
		}
		if !trusted(t, d, g, old) {
			t.Error("the living run lost its authority by a restart")
		}
		if info := d.grantInfo(&run{grant: g, token: token}); info.CA != old {
			t.Error("a process inside the run is given another authority")
		}
		if fresh, _, _ := startRun(t, d); trusted(t, d, fresh, old) {
			t.Error("a new run has the old authority")
		}
	})
}

// TestAuthorityOfVersion1 opens the record of an earlier daemon.
func TestAuthorityOfVersion1(t *testing.T) {
	home, port := newHome(t)
	ctx := context.Background()
	a, err := ca.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	opened(t, home, port, func(d *Daemon) {
		cert, key, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for version, want := range map[int]bool{1: true, 3: false} {
			plain, err := json.Marshal(map[string]any{"v": version, "cert": cert, "key": key})
			if err != nil {
				t.Fatal(err)
			}
			v := d.authorities.version + 1
			sealed, err := d.vault.Seal(authorityBinding(v), plain)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.store.SaveItem(ctx, authsome.LocalVault, authorityKind, authorityName, sealed, v); err != nil {
				t.Fatal(err)
			}
			as, err := d.openAuthorities(ctx)
			if (err == nil) != want || want && !bytes.Equal(as.current().CertPEM(), a.CertPEM()) {
				t.Errorf("version %d: %v", version, err)
			}
		}
	})
}

// TestInstalledRoot: it is for what is routed when it is made, goes with the
// certificates that it permits, and what is routed later is said to be missing.
func TestInstalledRoot(t *testing.T) {
	d, c := inProcess(t)
	ctx := context.Background()
	info, err := c.Authority(ctx)
	if err != nil || info.Root != "" || len(info.Roots) != 0 || info.Repeat != "" || info.Path != filepath.Join(d.home, "ca.pem") {
		t.Fatalf("at first: %+v, %v", info, err)
	}
	_, err = c.ChangeAuthority(ctx, api.AuthorityChange{Act: api.ActInstall})
	if authsome.CodeOf(err) != authsome.NotReady {
		t.Errorf("with nothing connected: %v", err)
	}
	_, err = c.ChangeAuthority(ctx, api.AuthorityChange{Act: "steal"})
	if authsome.CodeOf(err) != authsome.Invalid {
		t.Errorf("an unknown act: %v", err)
	}
	login(t, c, "openai", "", openaiKey)
	install := func() api.Authority {
		t.Helper()
		info, err := c.ChangeAuthority(ctx, api.AuthorityChange{Act: api.ActInstall})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := install()
	if !slices.Contains(first.Permitted, "api.openai.com") || !slices.Equal(first.Roots, []string{first.Root}) || first.Repeat != "" {
		t.Fatalf("installed: %+v", first)
	}
	if again := install(); again.Root != first.Root {
		t.Error("the same root was made twice")
	}
	g, _, _ := startRun(t, d)
	if !trusted(t, d, g, first.Root) || !trusted(t, d, g, first.PEM) {
		t.Error("a certificate for a permitted host is not trusted")
	}

	// A login to another host says so, as do the others who are asked.
	begun, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "github", Flow: string(authsome.FlowAPIKey)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.SubmitLogin(ctx, begun.ID, map[string]authsome.Secret{begun.Fields[0].Name: authsome.NewSecret("ghp_canary0123456789abcdefghijklmnopqrst")})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Notes) == 0 || !strings.Contains(l.Notes[len(l.Notes)-1], "github.com") || !strings.Contains(l.Notes[len(l.Notes)-1], "authsome ca install") {
		t.Errorf("the login says %q", l.Notes)
	}
	if info, err = c.Authority(ctx); err != nil || !strings.Contains(info.Repeat, "github.com") {
		t.Errorf("after a login: %+v, %v", info, err)
	}
	if check := checkNamed(t, c, "ca"); !check.Warn || check.Fix != "authsome ca install" || !strings.Contains(check.Text, "does not permit") {
		t.Errorf("doctor: %+v", check)
	}
	second := install()
	if second.Root == first.Root || !slices.Contains(second.Permitted, "github.com") || len(second.Roots) != 2 || second.Repeat != "" {
		t.Errorf("installed again: %+v", second)
	}
	if trusted(t, d, g, first.Root) {
		t.Error("two roots are served at once")
	}
	if check := checkNamed(t, c, "ca"); !check.OK || check.Warn || !strings.Contains(check.Text, "permits") {
		t.Errorf("doctor: %+v", check)
	}

	// A new authority is not what was installed.
	rotated, err := c.ChangeAuthority(ctx, api.AuthorityChange{Act: api.ActRotate})
	if err != nil || rotated.PEM == second.PEM || rotated.Root != "" || rotated.Repeat == "" || len(rotated.Roots) != 2 || rotated.Former != 1 {
		t.Errorf("rotated: %+v, %v", rotated, err)
	}
	if !trusted(t, d, g, second.Root) {
		t.Error("the living run lost its installed root")
	}
	if check := checkNamed(t, c, "ca"); !check.Warn || !strings.Contains(check.Text, "earlier authority") {
		t.Errorf("doctor: %+v", check)
	}
	if _, err = c.ChangeAuthority(ctx, api.AuthorityChange{Act: api.ActForget}); err != nil {
		t.Fatal(err)
	}
	if info, err = c.Authority(ctx); err != nil || len(info.Roots) != 0 || info.Root != "" || info.Repeat != "" {
		t.Errorf("uninstalled: %+v, %v", info, err)
	}
	if trusted(t, d, g, second.Root) {
		t.Error("the way to an uninstalled root is still sent")
	}
	events, err := d.store.LastEvents(ctx, authsome.LocalVault, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []authsome.EventType{authsome.EventAuthorityInstalled, authsome.EventAuthorityRotated, authsome.EventAuthorityUninstalled} {
		if !slices.ContainsFunc(events, func(ev authsome.Event) bool { return ev.Type == typ }) {
			t.Errorf("no %s in the audit", typ)
		}
	}
}

// TestRunsDoNotChangeTrust: every act is refused to a run's descendant, and
// recorded.
func TestRunsDoNotChangeTrust(t *testing.T) {
	d, c := inProcess(t)
	ctx := context.Background()
	before := string(d.authorities.current().CertPEM())
	inside := localIdentity
	inside.Run = "run_x"
	for act := range authorityActs {
		_, err := d.changeAuthority(ctx, postCall(t, api.AuthorityChange{Act: act}, inside))
		if authsome.CodeOf(err) != authsome.Forbidden {
			t.Errorf("%s: %v", act, err)
		}
		// By what the environment says, where processes cannot be told apart.
		_, err = c.ChangeAuthority(ctx, api.AuthorityChange{Act: act, InsideRun: true})
		if authsome.CodeOf(err) != authsome.Forbidden {
			t.Errorf("%s: %v", act, err)
		}
	}
	if string(d.authorities.current().CertPEM()) != before {
		t.Error("it was rotated")
	}
	events, err := d.store.LastEvents(ctx, authsome.LocalVault, 100)
	if err != nil {
		t.Fatal(err)
	}
	denied := 0
	for _, ev := range events {
		if ev.Type == authsome.EventDenied {
			denied++
		}
	}
	if denied != 2*len(authorityActs) {
		t.Errorf("%d refusals are recorded", denied)
	}
}

// TestAuthorityFileIsPutRight: whoever asks where the file is gets one that
// holds what it should.
func TestAuthorityFileIsPutRight(t *testing.T) {
	d, c := inProcess(t)
	if err := os.WriteFile(d.authorities.file(), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := c.Authority(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(info.Path)
	if err != nil || string(data) != info.PEM {
		t.Errorf("%s holds %q, %v", info.Path, data, err)
	}
	if block, _ := pem.Decode(data); block == nil || block.Type != "CERTIFICATE" {
		t.Error("it is no certificate")
	}
	if fi, err := os.Stat(info.Path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func checkNamed(t *testing.T, c *api.Client, name string) api.Check {
	t.Helper()
	got, err := c.Doctor(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range got.Checks {
		if x.Name == name {
			return x
		}
	}
	t.Fatalf("doctor has no check %q: %+v", name, got)
	return api.Check{}
}

// TestRenewalWaitsForThePerson: where a root is installed, its authority is
// replaced late, since what is installed is worthless then; the person is told
// from the usual time on, and `ca install` does not wait.
func TestRenewalWaitsForThePerson(t *testing.T) {
	d, c := inProcess(t)
	ctx := context.Background()
	login(t, c, "openai", "", openaiKey)
	as := d.authorities
	left := func(days int, installed bool) {
		t.Helper()
		a, err := ca.New(time.Now().Add(-time.Duration(365-days) * 24 * time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		one := newAuthority(a, nil)
		next := &authorityState{all: []*authority{one}}
		if installed {
			root, err := a.Constrain(time.Now(), []string{"api.openai.com"})
			if err != nil {
				t.Fatal(err)
			}
			der, _ := root.Marshal()
			next.all[0], next.roots = newAuthority(a, root), [][]byte{der}
		}
		as.mu.Lock()
		defer as.mu.Unlock()
		if err := as.save(ctx, next); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		days      int
		installed bool
		due       bool
	}{{31, false, false}, {29, false, true}, {31, true, false}, {29, true, false}, {8, true, false}, {6, true, true}} {
		left(tt.days, tt.installed)
		if as.due() != tt.due {
			t.Errorf("%d days before its end, installed %t: due %t", tt.days, tt.installed, as.due())
		}
	}
	left(29, true)
	if check := checkNamed(t, c, "ca"); !check.Warn || check.Fix != "authsome ca install" || !strings.Contains(check.Text, "ends then") {
		t.Errorf("doctor: %+v", check)
	}
	before := as.current().id
	info, err := c.ChangeAuthority(ctx, api.AuthorityChange{Act: api.ActInstall})
	if err != nil || as.current().id == before || len(info.Roots) != 2 || info.Stale || info.Repeat != "" {
		t.Errorf("installed again: %+v, %v", info, err)
	}
	if check := checkNamed(t, c, "ca"); !check.OK || check.Warn {
		t.Errorf("doctor: %+v", check)
	}

	// A run that is the first to ask after a long sleep of the machine.
	left(1, false)
	before = as.current().id
	if g, _, _ := startRun(t, d); g.Authority == before || g.Authority != as.current().id {
		t.Error("a new run was given an authority that is about to end")
	}
}
