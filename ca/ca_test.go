package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// hosts are the kinds of name that are asked for.
var hosts = []string{
	"api.openai.com",
	"under_score.example.com",
	"127.0.0.1",
	"::1",
	"xn--mnchen-3ya.example",
	strings.Repeat("a", 60) + ".a-name-longer-than-a-common-name-may-be.example.com",
}

func newAuthority(t *testing.T) *Authority {
	t.Helper()
	a, err := New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func leafOf(t *testing.T, i *Issuer, host string) *tls.Certificate {
	t.Helper()
	c, err := i.Leaf(host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAuthority(t *testing.T) {
	now := time.Now()
	a, err := New(now)
	if err != nil {
		t.Fatal(err)
	}
	c := a.cert
	if pub, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
		t.Error("the key is not P-256")
	}
	if c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || !c.IsCA || len(c.SubjectKeyId) == 0 {
		t.Error("keyUsage, basicConstraints or subject key identifier is wrong")
	}
	for _, e := range c.Extensions {
		switch e.Id.String() {
		case "2.5.29.15", "2.5.29.19":
			if !e.Critical {
				t.Errorf("extension %s is not critical", e.Id)
			}
		}
	}
	if !c.NotBefore.Before(now.Add(-time.Hour)) || a.Expires().Sub(now).Round(time.Hour) != 365*24*time.Hour {
		t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
	}
	cn := c.Subject.CommonName
	if !strings.HasPrefix(cn, "authsome ") || utf8.RuneCountInString(cn) > maxCommonName {
		t.Errorf("common name %q", cn)
	}
	block, rest := pem.Decode(a.CertPEM())
	if block == nil || len(rest) != 0 || !bytes.Equal(block.Bytes, c.Raw) || bytes.Contains(a.CertPEM(), []byte("PRIVATE")) {
		t.Error("CertPEM is not the certificate alone")
	}
}

func TestMarshalAndParse(t *testing.T) {
	a := newAuthority(t)
	cert, key, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.CertPEM(), a.CertPEM()) {
		t.Error("another certificate came back")
	}
	verify(t, a, leafOf(t, NewIssuer(b), "api.github.com"), "api.github.com")

	_, otherKey, err := newAuthority(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, NewIssuer(a), "example.com")
	leafKey, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][2][]byte{
		"key of another authority": {cert, otherKey},
		"a leaf":                   {leaf.Certificate[0], leafKey},
		"truncated certificate":    {cert[:len(cert)-1], key},
		"truncated key":            {cert, key[:len(key)-1]},
		"empty":                    {nil, nil},
	} {
		if _, err := Parse(in[0], in[1]); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestLeaf(t *testing.T) {
	a := newAuthority(t)
	i := NewIssuer(a)
	for _, host := range hosts {
		c := leafOf(t, i, host)
		verify(t, a, c, host)
		l := c.Leaf
		if n := len(l.DNSNames) + len(l.IPAddresses); n != 1 {
			t.Errorf("%s: %d names in the certificate", host, n)
		}
		if l.KeyUsage != x509.KeyUsageDigitalSignature || len(l.ExtKeyUsage) != 1 || l.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || l.IsCA {
			t.Errorf("%s: usages %v %v", host, l.KeyUsage, l.ExtKeyUsage)
		}
		if len(l.SubjectKeyId) == 0 || !bytes.Equal(l.AuthorityKeyId, a.cert.SubjectKeyId) {
			t.Errorf("%s: key identifiers are wrong", host)
		}
		if l.SerialNumber.BitLen() != 128 || l.SerialNumber.Sign() != 1 {
			t.Errorf("%s: serial number of %d bits", host, l.SerialNumber.BitLen())
		}
		if l.NotAfter.After(a.Expires()) || l.NotBefore.Before(a.cert.NotBefore) || !l.NotBefore.Before(time.Now().Add(-time.Hour)) {
			t.Errorf("%s: valid from %s to %s", host, l.NotBefore, l.NotAfter)
		}
	}
	x, y := leafOf(t, i, "a.example.com"), leafOf(t, i, "b.example.com")
	if !x.PrivateKey.(*ecdsa.PrivateKey).Equal(y.PrivateKey) {
		t.Error("leaves do not share their key")
	}
	if x.Leaf.SerialNumber.Cmp(y.Leaf.SerialNumber) == 0 {
		t.Error("two leaves have one serial number")
	}
	if x.PrivateKey.(*ecdsa.PrivateKey).Equal(a.key) {
		t.Error("leaves use the key of the authority")
	}
	if leafOf(t, i, "a.example.com") != x {
		t.Error("a leaf was made twice")
	}
}

func TestLeafRefuses(t *testing.T) {
	i := NewIssuer(newAuthority(t))
	for _, host := range []string{
		"", "*.example.com", "*", "a..b", ".example.com", "example.com.", "UPPER.example.com", "a b", "ex\x00ample.com",
		"münchen.example", "fe80::1%eth0", "[::1]", "example.com:443", strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 127) + "com",
	} {
		if _, err := i.Leaf(host); err == nil {
			t.Errorf("a certificate for %q was issued", host)
		}
	}
	if n := i.recent.Len() + len(i.leaves); n != 0 {
		t.Errorf("%d refused hosts stayed in the cache", n)
	}
}

// TestLeafOnce: a hundred clients that ask at once for a host cost one
// signature.
func TestLeafOnce(t *testing.T) {
	i := NewIssuer(newAuthority(t))
	var wg sync.WaitGroup
	got := make([]*tls.Certificate, 100)
	for n := range got {
		wg.Go(func() { got[n], _ = i.Leaf("api.openai.com") })
	}
	wg.Wait()
	for _, c := range got {
		if c == nil || c != got[0] {
			t.Fatal("not everybody got the same certificate")
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	i := NewIssuer(newAuthority(t))
	first := leafOf(t, i, "first.example.com")
	for n := range maxLeaves + 10 {
		leafOf(t, i, fmt.Sprintf("h%d.example.com", n))
		if n%100 == 0 && leafOf(t, i, "first.example.com") != first {
			t.Fatal("a host in use was dropped")
		}
	}
	if len(i.leaves) != maxLeaves || i.recent.Len() != maxLeaves {
		t.Errorf("%d and %d entries, want %d", len(i.leaves), i.recent.Len(), maxLeaves)
	}
	leafOf(t, i, "h0.example.com") // long gone, made anew
}

// TestLeafIsRenewed lets the clock run: a daemon lives for months.
func TestLeafIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		i := NewIssuer(a)
		first := leafOf(t, i, "api.openai.com")
		time.Sleep(5 * 24 * time.Hour)
		if leafOf(t, i, "api.openai.com") != first {
			t.Error("a leaf was replaced before its time")
		}
		time.Sleep(36 * time.Hour)
		second := leafOf(t, i, "api.openai.com")
		if second == first || time.Until(second.Leaf.NotAfter) < leafMargin {
			t.Error("a leaf close to its end was not replaced")
		}
		time.Sleep(time.Until(a.Expires()) - time.Hour)
		last := leafOf(t, i, "api.openai.com")
		if last.Leaf.NotAfter.After(a.Expires()) {
			t.Error("a leaf outlives the authority")
		}
		verify(t, a, last, "api.openai.com")
		time.Sleep(2 * time.Hour)
		if _, err := i.Leaf("other.example.com"); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("an expired authority issued a certificate, or gave a riddle: %v", err)
		}
	})
}

func verify(t *testing.T, a *Authority, c *tls.Certificate, host string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	name := host
	if strings.Contains(host, ":") {
		name = "[" + host + "]"
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		t.Errorf("%s: %v", host, err)
	}
	if err := c.Leaf.VerifyHostname("other.example.com"); err == nil {
		t.Errorf("%s: the certificate is good for another host too", host)
	}
}

func BenchmarkNeverSeenHost(b *testing.B) {
	a, err := New(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	i := NewIssuer(a)
	n := 0
	for b.Loop() {
		n++
		if _, err := i.Leaf(fmt.Sprintf("h%d.example.com", n)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKnownHost(b *testing.B) {
	a, err := New(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	i := NewIssuer(a)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := i.Leaf("api.openai.com"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestParseRefusesOtherKeys: an RSA or P-384 key in the vault is not ours.
func TestParseRefusesOtherKeys(t *testing.T) {
	cert, _, err := newAuthority(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(cert, der); err == nil {
		t.Error("a P-384 key was accepted")
	}
}
