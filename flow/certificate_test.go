package flow

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// issue makes a certificate that signs itself, and its key in three forms.
func issue(t *testing.T, ends time.Time) (cert, pkcs8, sec1, encrypted string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "canary"}, NotBefore: ends.AddDate(-1, 0, 0), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	new, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	old, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, headers map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der, Headers: headers}))
	}
	return block("CERTIFICATE", der, nil), block("PRIVATE KEY", new, nil), block("EC PRIVATE KEY", old, nil),
		block("EC PRIVATE KEY", old, map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"})
}

// TestClientCertificate: what a service could not be connected to with is refused
// at login, with the field that is wrong.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	p := &authsome.Provider{
		Name:   "bank",
		Routes: []authsome.Route{{Host: "api.bank.example", Inject: []authsome.Injection{{Slot: authsome.SlotCertificate, Value: "{certificate}{private_key}"}}}},
		Key: authsome.KeyForm{Fields: []authsome.KeyField{
			{Name: authsome.FieldCertificate, Label: "Certificate", Multiline: true}, {Name: authsome.FieldPrivateKey, Label: "Private key", Multiline: true},
		}},
	}
	cert, key, sec1, encrypted := issue(t, time.Now().Add(time.Hour))
	root, other, _, _ := issue(t, time.Now().Add(time.Hour))
	old, oldKey, _, _ := issue(t, time.Now().Add(-time.Hour))
	const junk = "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n"
	for name, tt := range map[string]struct{ cert, key, field, want string }{
		"a pair":                 {cert: cert, key: key},
		"with a chain":           {cert: cert + "\nissued by\n" + root, key: key},
		"from OpenSSL":           {cert: cert, key: "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + sec1},
		"from Windows":           {cert: strings.ReplaceAll(cert, "\n", "\r\n"), key: strings.ReplaceAll(key, "\n", "\r\n")},
		"another's key":          {cert, other, "private_key", "is not the certificate's"},
		"the chain upside down":  {root + cert, key, "private_key", "is not the certificate's"},
		"encrypted by PKCS #8":   {cert, strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE"), "private_key", "is encrypted"},
		"encrypted by OpenSSL":   {cert, encrypted, "private_key", "is encrypted"},
		"the other way round":    {key, cert, "certificate", "holds none in PEM"},
		"twice the certificate":  {cert, cert, "private_key", "is none in PEM"},
		"no PEM":                 {"canary", key, "certificate", "holds none in PEM"},
		"a key of no PEM":        {cert, "canary", "private_key", "is none in PEM"},
		"junk":                   {junk, key, "certificate", "cannot be read"},
		"a key of junk":          {cert, strings.ReplaceAll(junk, "CERTIFICATE", "PRIVATE KEY"), "private_key", "cannot be read"},
		"one that has ended":     {old, oldKey, "certificate", "has ended on "},
		"without a key":          {cert, "", "private_key", "is empty"},
		"a request, not the end": {strings.ReplaceAll(cert, "CERTIFICATE", "CERTIFICATE REQUEST"), key, "certificate", "holds none in PEM"},
	} {
		cred, err := Key(p, map[string]authsome.Secret{"certificate": authsome.NewSecret(tt.cert), "private_key": authsome.NewSecret(tt.key)})
		if tt.want == "" {
			if err != nil || cred.Get(authsome.FieldCertificate).IsZero() || cred.Get(authsome.FieldPrivateKey).IsZero() {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		e, ok := err.(*authsome.Error)
		if !ok || e.Code != authsome.Invalid || e.Field != tt.field || !strings.Contains(e.Message, tt.want) {
			t.Errorf("%s: %+v, want %q about %s", name, err, tt.want, tt.field)
			continue
		}
		if e.Hint == "" && tt.want != "is empty" || strings.Contains(e.Message+e.Hint, "canary") {
			t.Errorf("%s: %q, hint %q", name, e.Message, e.Hint)
		}
	}
	// A provider without such a slot may have fields of these names.
	p.Routes = nil
	if _, err := Key(p, map[string]authsome.Secret{"certificate": authsome.NewSecret("x"), "private_key": authsome.NewSecret("y")}); err != nil {
		t.Error(err)
	}
}
