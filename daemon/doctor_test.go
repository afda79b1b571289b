//go:build unix

package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/ca"
)

func TestDoctorIsContent(t *testing.T) {
	_, c := inProcess(t)
	got, err := c.Doctor(context.Background())
	if err != nil || len(got.Checks) != len(checks) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, x := range got.Checks {
		if !x.OK || x.Warn || x.Text == "" {
			t.Errorf("%+v", x)
		}
	}
}

// Each check is broken, named, and says what to do; and is content again when
// it is mended.
func TestDoctorNamesWhatIsBroken(t *testing.T) {
	chmod := func(t *testing.T, path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		check, name string
		breakIt     func(t *testing.T, d *Daemon) (mend func())
		want        string // in the text
	}{
		{"home", "open directory", func(t *testing.T, d *Daemon) func() {
			chmod(t, d.home, 0o755)
			return func() { chmod(t, d.home, 0o700) }
		}, "mode 0755"},
		{"home", "open file", func(t *testing.T, d *Daemon) func() {
			path := filepath.Join(d.home, databaseFile)
			chmod(t, path, 0o640)
			return func() { chmod(t, path, 0o600) }
		}, databaseFile + " has mode 0640"},
		{"clock", "database from the future", func(t *testing.T, d *Daemon) func() {
			path := filepath.Join(d.home, databaseFile)
			later := time.Now().Add(time.Hour)
			if err := os.Chtimes(path, later, later); err != nil {
				t.Fatal(err)
			}
			return func() {
				now := time.Now()
				if err := os.Chtimes(path, now, now); err != nil {
					t.Fatal(err)
				}
			}
		}, "the database was written"},
		{"clock", "root from the future", func(t *testing.T, d *Daemon) func() {
			return replaceAuthority(t, d, time.Now().Add(72*time.Hour))
		}, "valid from"},
		{"ca", "expired root", func(t *testing.T, d *Daemon) func() {
			return replaceAuthority(t, d, time.Now().Add(-2*365*24*time.Hour))
		}, "expired"},
		{"ca", "leaf of another root", func(t *testing.T, d *Daemon) func() {
			other, err := ca.New(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return useAuthority(d, func(a *authority) { a.issuer = ca.NewIssuer(other) })
		}, "does not verify"},
		{"proxy", "untrusted root", func(t *testing.T, d *Daemon) func() {
			return replaceRoot(t, d)
		}, "a request through the proxy fails"},
		{"proxy", "no token", func(t *testing.T, d *Daemon) func() {
			token := d.self.token
			d.self.token = authsome.NewSecret("")
			return func() { d.self.token = token }
		}, "a request through the proxy fails"},
		{"clock", "event from the future", func(t *testing.T, d *Daemon) func() {
			ev := d.event(authsome.EventDaemonStarted)
			ev.Time = time.Now().Add(time.Hour).UTC()
			if err := d.store.Append(context.Background(), ev); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := d.store.Append(context.Background(), d.event(authsome.EventDaemonStarted)); err != nil {
					t.Fatal(err)
				}
			}
		}, "the newest event"},
		{"providers", "definition that cannot be read", func(t *testing.T, d *Daemon) func() {
			row := authsome.DefinitionRow{Vault: authsome.LocalVault, Name: "acme", Definition: []byte("{")}
			if err := d.store.SaveDefinition(context.Background(), row, d.event(authsome.EventRegistered)); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := d.store.DeleteDefinition(context.Background(), authsome.LocalVault, "acme", d.event(authsome.EventDeleted)); err != nil {
					t.Fatal(err)
				}
			}
		}, "acme"},
	}
	for _, tt := range tests {
		t.Run(tt.check+"/"+tt.name, func(t *testing.T) {
			d, c := inProcess(t)
			if got := checkNamed(t, c, tt.check); !got.OK {
				t.Fatalf("before: %+v", got)
			}
			mend := tt.breakIt(t, d)
			got := checkNamed(t, c, tt.check)
			if got.OK || !strings.Contains(got.Text, tt.want) || got.Fix == "" {
				t.Errorf("broken: %+v, want %q", got, tt.want)
			}
			if ok, answer := d.publicReady(context.Background()); ok || strings.Contains(strings.Join(answer.(api.Ready).Issues, " "), d.home) {
				t.Errorf("/ready says %v: %+v", ok, answer)
			}
			mend()
			if got := checkNamed(t, c, tt.check); !got.OK {
				t.Errorf("mended: %+v", got)
			}
		})
	}
}

// replaceAuthority gives the daemon a root that was made at another time.
func replaceAuthority(t *testing.T, d *Daemon, made time.Time) func() {
	t.Helper()
	a, err := ca.New(made)
	if err != nil {
		t.Fatal(err)
	}
	return useAuthority(d, func(x *authority) { *x = *newAuthority(a, nil) })
}

// useAuthority changes the current authority in memory.
func useAuthority(d *Daemon, change func(*authority)) (mend func()) {
	was := d.authorities.now.Load()
	a := *was.all[0]
	change(&a)
	d.authorities.now.Store(&authorityState{all: []*authority{&a}, roots: was.roots})
	return func() { d.authorities.now.Store(was) }
}

// replaceRoot makes children trust another root than the one that issues.
func replaceRoot(t *testing.T, d *Daemon) func() {
	t.Helper()
	a, err := ca.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return useAuthority(d, func(x *authority) { x.Authority = a })
}

// The daemon's own token opens nothing but the check.
func TestSelfCheckReachesNothingElse(t *testing.T) {
	d, _ := inProcess(t)
	g, ok := d.self.Grant(d.self.tokenText())
	if !ok {
		t.Fatal("its token is unknown")
	}
	for _, host := range []string{"api.openai.com", "example.com", "127.0.0.1"} {
		if v := d.self.Host(g, host, 443); v != authsome.Refuse {
			t.Errorf("%s: %s", host, v)
		}
	}
	if _, err := d.self.Resolve(context.Background(), g, &authsome.Request{Host: "api.openai.com", Port: 443, Method: "GET", Path: "/v1/models"}); authsome.CodeOf(err) != authsome.Forbidden {
		t.Errorf("resolve: %v", err)
	}
	if _, ok := d.self.Grant("x"); ok {
		t.Error("any token opens it")
	}
}

// TestDoctorNamesWeakCredentials to the person, and to nobody else on the machine.
func TestDoctorNamesWeakCredentials(t *testing.T) {
	d, c := inProcess(t)
	ctx := context.Background()
	l, err := c.BeginLogin(ctx, api.LoginRequest{Provider: "brevo", Flow: string(authsome.FlowAPIKey)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SubmitLogin(ctx, l.ID, map[string]authsome.Secret{"api_key": authsome.NewSecret("password")}); err != nil {
		t.Fatal(err)
	}
	got := checkNamed(t, c, "credentials")
	if !got.OK || !got.Warn || !strings.Contains(got.Text, "brevo (default)") || got.Fix != "authsome login brevo --connection default --force" {
		t.Errorf("%+v", got)
	}
	_, ready := d.publicReady(ctx)
	if text := fmt.Sprint(ready); strings.Contains(text, "brevo") || !strings.Contains(text, "credentials: authsome doctor") {
		t.Errorf("the browser's port tells %s", text)
	}
}

// TestDoctorShowsLimits, and warns of a system that permits few files.
func TestDoctorShowsLimits(t *testing.T) {
	d, c := inProcess(t)
	got := checkNamed(t, c, "limits")
	// The connection by which the proxy was tried may not have ended yet.
	if !got.OK || got.Warn || !strings.HasPrefix(got.Text, "connections 0 of ") && !strings.HasPrefix(got.Text, "connections 1 of ") {
		t.Errorf("%+v", got)
	}
	d.limits = d.limits.ForDescriptors(512)
	if got := checkNamed(t, c, "limits"); !got.OK || !got.Warn || !strings.Contains(got.Fix, "ulimit") {
		t.Errorf("%+v", got)
	}
}
