package flow

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// presentsCertificate reports whether a provider's credential is, among others, a
// client certificate.
func presentsCertificate(p *authsome.Provider) bool {
	return slices.ContainsFunc(slices.Concat(p.Routes, p.SelfManaged), func(r authsome.Route) bool {
		return slices.ContainsFunc(r.Inject, func(in authsome.Injection) bool { return in.Slot == authsome.SlotCertificate })
	})
}

// checkCertificate holds a client certificate and its key to what a connection
// needs, so that what cannot work is refused here and not at the first request.
// The errors quote nothing of either.
func checkCertificate(provider string, fields map[string]authsome.Secret, now time.Time) error {
	bad := func(field, hint, why string, args ...any) error {
		e := authsome.E(authsome.Invalid, "log in to "+clip(provider)+": "+why, args...).WithHint("%s", hint)
		e.Field = field
		return e
	}
	const (
		certHint = "give the certificate in PEM, from -----BEGIN CERTIFICATE----- on, with the certificates that it was issued by behind it"
		keyHint  = "give the certificate's private key in PEM: `openssl pkey -in KEY -out PLAIN.pem` makes it of other forms, and asks for the passphrase"
	)
	cert, key := []byte(fields[authsome.FieldCertificate].Reveal()), []byte(fields[authsome.FieldPrivateKey].Reveal())
	defer clear(key)
	chain, _ := blocks(cert)
	if !slices.Contains(chain, "CERTIFICATE") {
		return bad(authsome.FieldCertificate, certHint, "the certificate holds none in PEM")
	}
	kinds, encrypted := blocks(key)
	switch {
	case encrypted:
		return bad(authsome.FieldPrivateKey, keyHint, "the private key is encrypted, and there is nobody to type its passphrase at each request")
	case !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasSuffix(k, "PRIVATE KEY") }):
		return bad(authsome.FieldPrivateKey, keyHint, "the private key is none in PEM")
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// Which of the two it is can be told by the certificate alone.
		if _, err := leafOf(cert); err != nil {
			return bad(authsome.FieldCertificate, certHint, "the certificate cannot be read")
		}
		return bad(authsome.FieldPrivateKey, keyHint, "the private key cannot be read, or is not the certificate's")
	}
	leaf := pair.Leaf
	if now.After(leaf.NotAfter) {
		return bad(authsome.FieldCertificate, "get a new certificate from the service", "the certificate has ended on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

// blocks are the types of the PEM blocks in a text (RFC 7468), and whether one of
// them is an encrypted key, in the form of RFC 5958 or in that of OpenSSL.
func blocks(text []byte) (types []string, encrypted bool) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return types, encrypted
		}
		types = append(types, block.Type)
		encrypted = encrypted || block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
		clear(block.Bytes)
		text = bytes.TrimSpace(rest)
	}
}

func leafOf(text []byte) (*x509.Certificate, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, x509.ErrUnsupportedAlgorithm
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
		text = rest
	}
}
