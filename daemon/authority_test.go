package daemon

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/ca"
)

func TestAuthorityIsKeptAndRenewed(t *testing.T) {
	home, port := newHome(t)
	ctx := context.Background()
	// start opens the home once, and lets look at it meanwhile.
	start := func(look func(d *Daemon)) string {
		t.Helper()
		d, err := open(ctx, Config{Home: home, Port: port})
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		cert := string(d.authority.CertPEM())
		if look != nil {
			look(d)
		}
		return cert
	}
	replace := func(made time.Time) func(d *Daemon) {
		return func(d *Daemon) {
			a, err := ca.New(made)
			if err != nil {
				t.Fatal(err)
			}
			_, version, err := d.store.Item(ctx, authsome.LocalVault, authorityKind, authorityName)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.saveAuthority(ctx, a, version+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := start(nil)
	if again := start(replace(time.Now().Add(-350 * 24 * time.Hour))); again != first {
		t.Error("a root that is good for a year was replaced")
	}
	// Near its end, but a run's child trusts it.
	var grantID string
	old := start(func(d *Daemon) {
		g, _, _, err := d.broker.StartGrant(ctx, authsome.Identity{Vault: authsome.LocalVault, User: authsome.LocalUser}, broker.GrantSpec{Program: "x"})
		if err != nil {
			t.Fatal(err)
		}
		grantID = g.ID
		replace(time.Now().Add(-350 * 24 * time.Hour))(d)
	})
	if old == first {
		t.Error("a root near its end was kept without a run")
	}
	kept := start(func(d *Daemon) {
		if left := time.Until(d.authority.Expires()); left > renewAuthority {
			t.Errorf("under a run, the root was replaced by one of %v", left)
		}
		if err := d.broker.EndGrant(ctx, grantID); err != nil {
			t.Fatal(err)
		}
	})
	if renewed := start(replace(time.Now().Add(-2 * 365 * 24 * time.Hour))); renewed == kept {
		t.Error("without a run, the root was not replaced")
	}
	start(func(d *Daemon) {
		if left := time.Until(d.authority.Expires()); left < renewAuthority {
			t.Errorf("an expired root was kept: %v", left)
		}
	})
	// It lies nowhere in the clear.
	searchFiles(t, filepath.Dir(home), []string{"PRIVATE KEY"})
}
