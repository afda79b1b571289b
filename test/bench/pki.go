package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

// root signs the certificates of the origin, of HAProxy and of the yardstick.
// All keys are P-256, as authsome's are.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newRoot() (*root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := template("bench root")
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &root{cert, key}, err
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // cannot fail: crypto/rand does not
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
	}
}

// pem is the root's certificate.
func (r *root) pem() []byte { return pemOf("CERTIFICATE", r.cert.Raw) }

// keyPEM is the root's key.
func (r *root) keyPEM() ([]byte, error) { return keyPEM(r.key) }

// leaf makes a certificate and its key for hosts, PEM.
func (r *root) leaf(hosts ...string) (certificate, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := r.sign(&k.PublicKey, hosts...)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(k)
	return pemOf("CERTIFICATE", der), key, err
}

// sign makes a certificate for hosts, DER.
func (r *root) sign(public *ecdsa.PublicKey, hosts ...string) ([]byte, error) {
	tmpl := template(hosts[0])
	tmpl.DNSNames, tmpl.KeyUsage = hosts, x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return x509.CreateCertificate(rand.Reader, tmpl, r.cert, public, r.key)
}

func keyPEM(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pemOf("PRIVATE KEY", der), nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
