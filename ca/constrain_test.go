package ca

import (
	"bytes"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConstrain(t *testing.T) {
	a := newAuthority(t)
	c, err := a.Constrain(time.Now(), []string{
		"github.com", "api.github.com", "*.example.com", "git.example.com:8443", "10.1.2.3", "[2001:db8::1]:443", "notgithub.com", "github.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10.1.2.3", "2001:db8::1", "example.com", "github.com", "notgithub.com"}
	if got := c.Permitted(); !slices.Equal(got, want) {
		t.Errorf("permits %v, want %v", got, want)
	}
	for _, cert := range []struct {
		name string
		der  []byte
	}{{"root", c.root.Raw}, {"cross", c.cross.Raw}} {
		critical := false
		x := c.root
		if cert.name == "cross" {
			x = c.cross
		}
		for _, e := range x.Extensions {
			critical = critical || e.Id.String() == "2.5.29.30" && e.Critical
		}
		if !critical || !x.PermittedDNSDomainsCritical || len(x.PermittedDNSDomains) == 0 || !x.NotAfter.Equal(a.Expires()) || !x.IsCA {
			t.Errorf("%s: constraints %v (critical %t), until %s", cert.name, x.PermittedDNSDomains, critical, x.NotAfter)
		}
	}
	if bytes.Equal(c.root.RawSubject, a.cert.RawSubject) {
		t.Error("the root bears the authority's name, which would exempt it from the limits")
	}
	if !strings.HasPrefix(c.root.Subject.CommonName, "authsome root ") || len(c.root.Subject.CommonName) > maxCommonName {
		t.Errorf("the root is called %q", c.root.Subject.CommonName)
	}
	if bytes.Equal(c.root.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo) {
		t.Error("the root's key is the authority's, so who has that has an unlimited root")
	}
	block, rest := pem.Decode(c.RootPEM())
	if block == nil || len(rest) > 0 || !bytes.Equal(block.Bytes, c.root.Raw) {
		t.Error("RootPEM is not the root alone")
	}

	if got := c.Missing([]string{"github.com", "x.y.github.com", "evilgithub.com", "*.github.com", "com", "10.1.2.4", "10.1.2.3:8443", "::ffff:10.1.2.3", "api.openai.com:443"}); !slices.Equal(got, []string{"evilgithub.com", "com", "10.1.2.4", "api.openai.com:443"}) {
		t.Errorf("missing %v", got)
	}
	if !c.Exactly([]string{"notgithub.com", "github.com", "*.example.com", "10.1.2.3", "2001:db8::1"}) {
		t.Error("the same hosts in other words are not the same")
	}
	for _, other := range [][]string{{"github.com"}, {"github.com", "*.example.com", "10.1.2.3", "notgithub.com"}, {"notgithub.com", "github.com", "*.example.com", "10.1.2.3", "2001:db8::1", "x.com"}, {"a b"}} {
		if c.Exactly(other) {
			t.Errorf("%v is the same to it", other)
		}
	}
	for _, hosts := range [][]string{nil, {"a b"}, {"*"}, {""}, {"münchen.example"}, {"fe80::1%eth0"}} {
		if _, err := a.Constrain(time.Now(), hosts); err == nil {
			t.Errorf("a root for %q was made", hosts)
		}
	}
}

func TestConstrainedIsStored(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	c, err := a.Constrain(time.Now(), []string{"api.openai.com"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.Constrain(time.Now(), []string{"api.openai.com"})
	if err != nil {
		t.Fatal(err)
	}
	root, cross := c.Marshal()
	b, err := a.ParseConstrained(root, cross)
	if err != nil {
		t.Fatal(err)
	}
	if leaf := leafOf(t, NewIssuerUnder(a, b), "api.openai.com"); len(leaf.Certificate) != 2 || !bytes.Equal(leaf.Certificate[1], cross) {
		t.Error("the way to the installed root does not go with the leaf")
	}
	if leaf := leafOf(t, NewIssuerUnder(a, b), "api.github.com"); len(leaf.Certificate) != 1 {
		t.Error("something goes with a leaf that the installed root does not permit")
	}
	if leaf := leafOf(t, NewIssuer(a), "api.openai.com"); len(leaf.Certificate) != 1 {
		t.Error("something goes with a leaf although nothing is installed")
	}
	if _, err := other.ParseConstrained(root, cross); err == nil {
		t.Error("the root of another authority was accepted")
	}
	if otherRoot, _ := again.Marshal(); bytes.Equal(otherRoot, root) {
		t.Error("two roots are one")
	} else if _, err := a.ParseConstrained(otherRoot, cross); err == nil {
		t.Error("a certificate that another root signed was accepted")
	}
	if _, err := a.ParseConstrained(root, root); err == nil {
		t.Error("a root was accepted as what it signs")
	}
	if _, err := a.ParseConstrained(root[:10], cross); err == nil {
		t.Error("half a certificate was accepted")
	}
}
