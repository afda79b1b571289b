package ca

import (
	"container/list"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// leafLife is how long a leaf is valid from now on.
	leafLife = 7 * 24 * time.Hour
	// leafMargin is how long before its end a leaf is replaced, so that no
	// connection starts with one that is about to expire.
	leafMargin = 24 * time.Hour
	// maxLeaves bounds the cache: about 2 KB each. A person's routes name some
	// hundred hosts; wildcard routes can be made to ask for any number.
	maxLeaves = 2048
)

// Issuer mints leaf certificates and keeps the recent ones. It may be used
// from any goroutine.
//
// All leaves share one key: a key of its own for each would double the cost of
// a host that was never seen, and would protect nothing, since all of them
// would lie in the memory of the same process.
type Issuer struct {
	authority *Authority
	under     *Constrained // nil: nothing is installed
	once      sync.Once
	key       *ecdsa.PrivateKey
	keyID     []byte
	keyErr    error

	mu     sync.Mutex
	leaves map[string]*list.Element // of *leaf
	recent list.List                // most recently used in front
}

// leaf is one certificate, made at most once.
type leaf struct {
	host string
	once sync.Once
	cert *tls.Certificate
	err  error
	// renew is when the leaf is replaced, Unix seconds. It is set with the
	// entry, before the certificate exists, so that it needs no lock of its own.
	renew int64
}

// NewIssuer makes an Issuer that has made nothing yet.
func NewIssuer(a *Authority) *Issuer {
	return &Issuer{authority: a, leaves: map[string]*list.Element{}}
}

// NewIssuerUnder is NewIssuer for an authority whose installed root is c: with
// the leaves that it permits goes the certificate that leads to it. Who trusts
// the authority itself does not need that, and is not kept by it.
func NewIssuerUnder(a *Authority, c *Constrained) *Issuer {
	i := NewIssuer(a)
	i.under = c
	return i
}

// Leaf returns a certificate for exactly host: a lower-case DNS name (also one
// with underscores) or an IP literal without brackets, never a wildcard. Callers
// that ask at once for the same host get the same certificate.
func (i *Issuer) Leaf(host string) (*tls.Certificate, error) {
	now := time.Now()
	l := i.entry(host, now)
	l.once.Do(func() { l.cert, l.err = i.mint(host, now) })
	if l.err != nil {
		i.forget(l)
		return nil, l.err
	}
	return l.cert, nil
}

// entry finds or makes the cache's entry for host.
func (i *Issuer) entry(host string, now time.Time) *leaf {
	i.mu.Lock()
	defer i.mu.Unlock()
	if e, ok := i.leaves[host]; ok {
		l := e.Value.(*leaf)
		if now.Unix() < l.renew {
			i.recent.MoveToFront(e)
			return l
		}
		i.recent.Remove(e)
	}
	l := &leaf{host: host, renew: i.notAfter(now).Add(-leafMargin).Unix()}
	i.leaves[host] = i.recent.PushFront(l)
	for i.recent.Len() > maxLeaves {
		oldest := i.recent.Back()
		i.recent.Remove(oldest)
		delete(i.leaves, oldest.Value.(*leaf).host)
	}
	return l
}

// forget drops an entry that could not be minted.
func (i *Issuer) forget(l *leaf) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if e, ok := i.leaves[l.host]; ok && e.Value.(*leaf) == l {
		i.recent.Remove(e)
		delete(i.leaves, l.host)
	}
}

// notAfter is the end of a leaf that is made now: never after the root's.
func (i *Issuer) notAfter(now time.Time) time.Time {
	if end := now.Add(leafLife); end.Before(i.authority.cert.NotAfter) {
		return end.UTC().Truncate(time.Second)
	}
	return i.authority.cert.NotAfter
}

// mint makes a certificate.
func (i *Issuer) mint(host string, now time.Time) (*tls.Certificate, error) {
	root := i.authority.cert
	if !now.Before(root.NotAfter) {
		return nil, fmt.Errorf("issue a certificate for %s: the certificate authority expired on %s",
			host, root.NotAfter.Format(time.DateOnly))
	}
	i.once.Do(func() {
		if i.key, i.keyErr = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); i.keyErr == nil {
			i.keyID, i.keyErr = keyIdentifier(&i.key.PublicKey)
		}
	})
	if i.keyErr != nil {
		return nil, fmt.Errorf("make the key of the certificates: %w", i.keyErr)
	}
	notBefore := now.Add(-skew).UTC().Truncate(time.Second)
	if notBefore.Before(root.NotBefore) {
		notBefore = root.NotBefore
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"authsome"}},
		NotBefore:             notBefore,
		NotAfter:              i.notAfter(now),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          i.keyID,
		AuthorityKeyId:        root.SubjectKeyId,
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		// Without a common name: OpenSSL would take it for a DNS name, and hold it to
		// what an installed root permits of those.
		tmpl.IPAddresses = []net.IP{addr.AsSlice()}
	} else if validName(host) {
		tmpl.DNSNames = []string{host}
		if len(host) <= maxCommonName {
			tmpl.Subject.CommonName = host
		}
	} else {
		return nil, fmt.Errorf("issue a certificate for %q: not a host name", host)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root, &i.key.PublicKey, i.authority.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", host, err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", host, err)
	}
	// The root itself is not sent: whoever trusts it has it.
	chain := [][]byte{der}
	if i.under != nil && len(i.under.Missing([]string{host})) == 0 {
		chain = append(chain, i.under.cross.Raw)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: i.key, Leaf: parsed}, nil
}

// validName accepts the names that DNS carries, with the underscores that
// RFC 952 forbids and that services use all the same. A wildcard is refused:
// with one, a client that coalesces HTTP/2 connections (RFC 9113, section
// 9.1.1) would send requests for other hosts through this host's tunnel.
func validName(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
