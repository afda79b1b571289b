package broker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

// bankDefinition has a route of each kind that concerns the connection.
const bankDefinition = `{"name":"bank","auth_type":"api_key",
	"api_key":{"fields":[{"name":"certificate","public":true},{"name":"private_key"},{"name":"api_key"}]},
	"routes":[
		{"host":"api.bank.example","inject":[{"certificate":{}}]},
		{"host":"chat.bank.example","inject":[{"message":"key {api_key}","at":"auth.key"}]},
		{"host":"both.bank.example","inject":[{"certificate":{}},{"message":"{api_key}"},{"header":"X-Key","value":"{api_key}"}]}]}`

// pair makes a certificate and its key, in PEM.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// TestConnectionSlots: a certificate goes with every request of its route, a
// message with those that open a WebSocket; each is recorded before it leaves.
func TestConnectionSlots(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	if _, err := w.Register(ctx, me, "bank.json", []byte(bankDefinition), false, false); err != nil {
		t.Fatal(err)
	}
	cert, key := pair(t)
	otherCert, _ := pair(t)
	l := w.begin(authsome.LoginRequest{Provider: "bank", Connection: "work"})
	_, err := w.SubmitFields(ctx, me, l.ID, fields("certificate", otherCert, "private_key", key, "api_key", "k1"))
	wantCode(t, err, authsome.Invalid)
	if _, err := w.SubmitFields(ctx, me, l.ID, fields("certificate", cert, "private_key", key, "api_key", "k1")); err != nil {
		t.Fatalf("the login does not wait for a pair that fits: %v", err)
	}
	g := w.grant(broker.GrantSpec{})

	res, err := w.Resolve(ctx, g, request("api.bank.example", "/"))
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(res.Certificate.Reveal())
	if got, err := tls.X509KeyPair(text, text); err != nil || got.Leaf == nil || res.Verdict != authsome.Inject || res.Connection != "work" || res.Message != nil || len(res.Set) != 0 {
		t.Errorf("resolved as %+v, %v", res, err)
	}
	plain := request("chat.bank.example", "/")
	if res, err := w.Resolve(ctx, g, plain); err != nil || res.Verdict != authsome.Forward || res.Message != nil {
		t.Errorf("a request that opens no stream: %+v, %v", res, err)
	}
	for upgrade, want := range map[string]string{"websocket": "key k1", "WebSocket": "key k1", "other": ""} {
		req := request("chat.bank.example", "/")
		req.Upgrade = upgrade
		res, err := w.Resolve(ctx, g, req)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Message; (want == "") != (got == nil) || got != nil && (got.At != "auth.key" || got.Value.Reveal() != want || res.Verdict != authsome.Inject || !res.Certificate.IsZero()) {
			t.Errorf("upgrade to %s: %+v", upgrade, res)
		}
	}
	both := request("both.bank.example", "/")
	both.Upgrade = "websocket"
	res, err = w.Resolve(ctx, g, both)
	if err != nil || res.Certificate.IsZero() || res.Message == nil || set(res, "X-Key") != "k1" {
		t.Errorf("resolved as %+v, %v", res, err)
	}
	if !w.recorded(authsome.EventInjected, "started") {
		t.Error("nothing was recorded before the credential left")
	}
}
