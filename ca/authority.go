// Package ca is the private certificate authority of one installation: a root
// that only this machine's user trusts, and the leaf certificates with which
// the proxy answers in the name of a routed host.
//
// The certificates keep to what the strictest clients ask for: Python 3.13
// with VERIFY_X509_STRICT, GnuTLS, rustls, Go and Java all verify them without
// a special case (RFC 5280, sections 4.1 and 4.2).
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/user"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// rootLife is how long a root is valid: short enough that a leaked key dies
	// by itself, long enough that nobody has to look after it.
	rootLife = 365 * 24 * time.Hour
	// skew is how far certificates are backdated: containers and virtual
	// machines that slept have clocks that are hours behind.
	skew = 24 * time.Hour
	// maxCommonName is ub-common-name of RFC 5280, appendix A.1.
	maxCommonName = 64
)

// Authority is a root certificate and its private key. It is not changed after
// it was made and may be used from any goroutine.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes a root that is valid for a year from now, named after the product
// and the person, so that it is recognised wherever certificates are listed, and
// after its key, since clients that look issuers up by name must not take the
// root before it for this one.
func New(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the certificate authority: %w", err)
	}
	keyID, err := keyIdentifier(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"authsome"}, CommonName: commonName("authsome " + hex.EncodeToString(keyID[:4]))},
		NotBefore:    now.Add(-skew).UTC().Truncate(time.Second),
		NotAfter:     now.Add(rootLife).UTC().Truncate(time.Second),
		// A root without keyUsage is refused by Python 3.13; crypto/x509 marks
		// keyUsage and basicConstraints critical.
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // signs leaves only
		SubjectKeyId:          keyID,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back the certificate authority: %w", err)
	}
	return &Authority{cert, key}, nil
}

// Parse reads what Marshal gave. It refuses a certificate that is no P-256
// root of ours or that does not belong to the key, but not one that has
// expired: see Expires.
func Parse(certDER, keyDER []byte) (*Authority, error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		// The parser's own error may describe the key, so it is left out.
		return nil, errors.New("read the key of the certificate authority: not a PKCS #8 key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	switch {
	case !ok || key.Curve != elliptic.P256():
		return nil, errors.New("read the key of the certificate authority: not an ECDSA P-256 key")
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, errors.New("read the certificate authority: certificate and key do not belong together")
	case !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 || len(cert.SubjectKeyId) == 0:
		return nil, errors.New("read the certificate authority: the certificate is not one that may sign others")
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, fmt.Errorf("read the certificate authority: not signed by itself: %w", err)
	}
	return &Authority{cert, key}, nil
}

// Marshal gives the certificate and the key (PKCS #8) as DER. The key is a
// secret: it goes nowhere but into the vault.
func (a *Authority) Marshal() (certDER, keyDER []byte, err error) {
	keyDER, err = x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key of the certificate authority: %w", err)
	}
	return append([]byte(nil), a.cert.Raw...), keyDER, nil
}

// CertPEM is the root certificate for a bundle. It holds no secret.
func (a *Authority) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Fingerprint is the SHA-256 of the root certificate, in lower-case hex.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Expires is when the root stops being valid.
func (a *Authority) Expires() time.Time { return a.cert.NotAfter }

// commonName names a root and the person: "authsome 1f2e3d4c (ada@laptop)".
func commonName(what string) string {
	who := "unknown user"
	if u, err := user.Current(); err == nil && u.Username != "" {
		who = u.Username
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		who += "@" + host
	}
	who = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, who)
	for utf8.RuneCountInString(who) > maxCommonName-len(what+" ()") {
		_, size := utf8.DecodeLastRuneInString(who)
		who = who[:len(who)-size]
	}
	return what + " (" + who + ")"
}

// serial is a positive random number of 128 bits: unique without a counter to
// keep, and unguessable as CA/Browser baseline requirement 7.1 asks.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	b[0] |= 0x80           // always 128 bits, never zero
	return new(big.Int).SetBytes(b[:])
}

// keyIdentifier is method 1 of RFC 7093: the leftmost 160 bits of the SHA-256
// of the public key's bits. RFC 5280 names SHA-1, which FIPS builds refuse.
func keyIdentifier(pub *ecdsa.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode a public key: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, fmt.Errorf("encode a public key: %w", err)
	}
	sum := sha256.Sum256(info.Bits.Bytes)
	return sum[:20], nil
}
