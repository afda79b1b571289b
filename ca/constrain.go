package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Constrained is what may be installed in a trust store in place of the
// authority: a root whose key does not exist any more. It has signed exactly
// one certificate, the authority's key again, which may sign for some hosts and
// no others:
//
//	root   self-signed, installed; its key was thrown away
//	  └── cross   subject and key of the authority, signed by root, limited
//	        └── leaf   the same leaf that verifies under the authority itself
//
// So a stolen authority is worth those hosts to a machine that trusts root, and
// nothing else. The limits stand in cross because those of a trust anchor itself
// need not be heeded (RFC 5280, section 6.1.1), and Java heeds none; they stand
// in root as well, where whoever looks at a store can see them.
type Constrained struct {
	root, cross *x509.Certificate
}

// Constrain makes a Constrained for the authority that permits hosts: exact
// names, "*.example.com", addresses, each with or without a port. A name permits
// all below it too, for there is no narrower form (RFC 5280, section 4.2.1.10).
// It is valid for as long as the authority is.
func (a *Authority) Constrain(now time.Time, hosts []string) (*Constrained, error) {
	names, addrs, err := subtrees(hosts)
	if err != nil {
		return nil, err
	}
	if len(names)+len(addrs) == 0 {
		return nil, errors.New("limit a certificate authority: no host is given that it would be for")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of a root: %w", err)
	}
	keyID, err := keyIdentifier(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	// A name of its own: stores and their tools tell roots apart by it, and a
	// certificate that bears its issuer's name is exempt from the issuer's limits
	// (section 6.1.3, b).
	number := serial()
	subject := pkix.Name{Organization: a.cert.Subject.Organization, CommonName: commonName("authsome root " + hex.EncodeToString(number.Bytes()[:4]))}
	limited := func(c *x509.Certificate) *x509.Certificate {
		c.NotBefore, c.NotAfter = now.Add(-skew).UTC().Truncate(time.Second), a.cert.NotAfter
		if c.NotBefore.Before(a.cert.NotBefore) {
			c.NotBefore = a.cert.NotBefore
		}
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		c.BasicConstraintsValid, c.IsCA = true, true
		c.PermittedDNSDomainsCritical = true // of the whole extension
		c.PermittedDNSDomains = names
		if len(names) == 0 {
			// A kind of name that is not mentioned would not be limited.
			c.ExcludedDNSDomains = []string{""}
		}
		c.PermittedIPRanges = ranges(addrs)
		if len(addrs) == 0 {
			c.ExcludedIPRanges = ranges([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
		}
		return c
	}
	root := limited(&x509.Certificate{
		SerialNumber: number, Subject: subject, SubjectKeyId: keyID, MaxPathLen: 1,
	})
	var out Constrained
	if out.root, err = sign(root, root, &key.PublicKey, key); err != nil {
		return nil, err
	}
	cross := limited(&x509.Certificate{
		SerialNumber: serial(), RawSubject: a.cert.RawSubject, SubjectKeyId: a.cert.SubjectKeyId, AuthorityKeyId: keyID,
		MaxPathLenZero: true,
		// For servers, and not for mail or programs (section 4.2.1.12 by the practice
		// of all that verify chains).
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if out.cross, err = sign(cross, out.root, a.cert.PublicKey, key); err != nil {
		return nil, err
	}
	return &out, nil
}

func sign(tmpl, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back a certificate authority: %w", err)
	}
	return cert, nil
}

// ParseConstrained reads what Marshal gave. It refuses what does not belong to
// the authority.
func (a *Authority) ParseConstrained(rootDER, crossDER []byte) (*Constrained, error) {
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, fmt.Errorf("read the installed root: %w", err)
	}
	cross, err := x509.ParseCertificate(crossDER)
	if err != nil {
		return nil, fmt.Errorf("read the installed root: %w", err)
	}
	if err := cross.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("read the installed root: it has not signed what belongs to it: %w", err)
	}
	if !bytes.Equal(cross.RawSubject, a.cert.RawSubject) || !bytes.Equal(cross.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo) {
		return nil, errors.New("read the installed root: it is of another certificate authority")
	}
	return &Constrained{root, cross}, nil
}

// Marshal gives both certificates as DER. Neither is a secret.
func (c *Constrained) Marshal() (rootDER, crossDER []byte) {
	return slices.Clone(c.root.Raw), slices.Clone(c.cross.Raw)
}

// RootPEM is what is installed.
func (c *Constrained) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.root.Raw})
}

// Permitted are the names and addresses that it is limited to, sorted.
func (c *Constrained) Permitted() []string {
	out := slices.Clone(c.cross.PermittedDNSDomains)
	for _, n := range c.cross.PermittedIPRanges {
		out = append(out, n.IP.String())
	}
	slices.Sort(out)
	return out
}

// Missing are those of hosts, in the forms of Constrain, that it does not
// permit.
func (c *Constrained) Missing(hosts []string) []string {
	var out []string
	for _, h := range hosts {
		if name, addr, err := subtree(h); err != nil || !c.permits(name, addr) {
			out = append(out, h)
		}
	}
	return out
}

// Exactly reports whether it permits hosts and nothing more.
func (c *Constrained) Exactly(hosts []string) bool {
	names, addrs, err := subtrees(hosts)
	if err != nil || len(addrs) != len(c.cross.PermittedIPRanges) {
		return false
	}
	return len(c.Missing(hosts)) == 0 && slices.Equal(names, c.cross.PermittedDNSDomains)
}

// permits reports whether a leaf for a host would be accepted under it.
func (c *Constrained) permits(name string, addr netip.Addr) bool {
	if addr.IsValid() {
		return slices.ContainsFunc(c.cross.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(addr.AsSlice()) })
	}
	return slices.ContainsFunc(c.cross.PermittedDNSDomains, func(d string) bool { return below(name, d) })
}

// below reports whether a name is a domain or one under it.
func below(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// subtrees are the permitted names and addresses for hosts: sorted, each once,
// without the names that are below another.
func subtrees(hosts []string) (names []string, addrs []netip.Prefix, err error) {
	for _, h := range hosts {
		name, addr, err := subtree(h)
		switch {
		case err != nil:
			return nil, nil, err
		case addr.IsValid():
			addrs = append(addrs, netip.PrefixFrom(addr, addr.BitLen()))
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	all := slices.Clone(names)
	names = slices.DeleteFunc(names, func(n string) bool {
		return slices.ContainsFunc(all, func(d string) bool { return n != d && below(n, d) })
	})
	slices.SortFunc(addrs, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return names, slices.Compact(addrs), nil
}

// subtree is what must be permitted for one host.
func subtree(host string) (string, netip.Addr, error) {
	bare := strings.TrimPrefix(host, "*.")
	if h, _, err := net.SplitHostPort(bare); err == nil {
		bare = h
	}
	if addr, err := netip.ParseAddr(bare); err == nil && addr.Zone() == "" {
		return "", addr.Unmap(), nil
	}
	if !validName(bare) {
		return "", netip.Addr{}, fmt.Errorf("limit a certificate authority to %q: not a host name", host)
	}
	return bare, netip.Addr{}, nil
}

func ranges(prefixes []netip.Prefix) []*net.IPNet {
	var out []*net.IPNet
	for _, p := range prefixes {
		out = append(out, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return out
}
