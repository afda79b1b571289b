package flow

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/authsome/authsome"
)

// rsaKey is made once: it takes a while.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func pkcs8(t *testing.T, key any) authsome.Secret {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return authsome.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// verified reads a JWT with the public key.
func verified(t *testing.T, token string, key crypto.PublicKey, alg jose.SignatureAlgorithm) (claims map[string]any, id string) {
	t.Helper()
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.Claims(key, &claims); err != nil {
		t.Fatal(err)
	}
	return claims, parsed.Headers[0].KeyID
}

// material is the part of a PEM text that is the key.
func material(pem string) string { return strings.Split(pem, "-----")[2] }

func keyFile(t *testing.T, change func(map[string]any)) authsome.Secret {
	t.Helper()
	m := map[string]any{
		"type": "service_account", "project_id": "p", "private_key_id": "kid-1", "private_key": pkcs8(t, rsaKey()).Reveal(),
		"client_email": "robot@p.iam.gserviceaccount.com", "token_uri": "https://auth.example.com/token", "universe_domain": "googleapis.com",
	}
	if change != nil {
		change(m)
	}
	b, _ := json.Marshal(m)
	return authsome.NewSecret(string(b))
}

func TestServiceAccount(t *testing.T) {
	f := newFake(t)
	f.handle("auth.example.com/token", saysJSON(200, `{"access_token":"`+canaryAccess+`","expires_in":3599,"token_type":"Bearer"}`))
	s := server()
	s.App = authsome.OAuthClient{}
	token, err := f.client().ServiceAccount(t.Context(), s, keyFile(t, nil), []string{"scope-a", "scope-b"})
	if err != nil {
		t.Fatal(err)
	}
	if token.Access.Reveal() != canaryAccess || token.Account.Label != "robot@p.iam.gserviceaccount.com" || !token.ExpiresAt.Equal(testNow.Add(3599*time.Second)) {
		t.Errorf("%+v", token)
	}
	got := f.only().form()
	if got.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || len(got) != 2 {
		t.Errorf("sent %v", got)
	}
	claims, id := verified(t, got.Get("assertion"), &rsaKey().PublicKey, jose.RS256)
	for name, want := range map[string]any{
		"iss": "robot@p.iam.gserviceaccount.com", "aud": "https://auth.example.com/token", "scope": "scope-a scope-b",
		"iat": float64(testNow.Add(-skew).Unix()), "exp": float64(testNow.Add(time.Hour - skew).Unix()),
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	if id != "kid-1" {
		t.Errorf("kid %q", id)
	}

	f.handle("auth.example.com/token", saysJSON(400, `{"error":"invalid_grant","error_description":"Invalid grant: account not found"}`))
	_, err = f.client().ServiceAccount(t.Context(), s, keyFile(t, nil), []string{"a"})
	wantError(t, err, authsome.AuthFailed, ErrInvalidGrant, "account not found")
	f.requests()

	short, _ := rsa.GenerateKey(rand.Reader, 1024)
	secret := pkcs8(t, rsaKey()).Reveal()
	for name, tt := range map[string]struct {
		key  authsome.Secret
		want string
	}{
		"not JSON":           {authsome.NewSecret(secret), "not JSON"},
		"a list":             {authsome.NewSecret("[]"), "not JSON"},
		"a user's file":      {keyFile(t, func(m map[string]any) { m["type"] = "authorized_user" }), "not that of a service account"},
		"no key":             {keyFile(t, func(m map[string]any) { delete(m, "private_key") }), "no private_key"},
		"a number for a key": {keyFile(t, func(m map[string]any) { m["private_key"] = 7 }), "not JSON"},
		"sent elsewhere":     {keyFile(t, func(m map[string]any) { m["token_uri"] = "https://attacker.example/token" }), "another token_uri"},
		"not PEM":            {keyFile(t, func(m map[string]any) { m["private_key"] = "canaryKeyMaterial123" }), "not PEM"},
		"a broken key": {keyFile(t, func(m map[string]any) {
			m["private_key"] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
		}), "holds no private key"},
		"encrypted": {keyFile(t, func(m map[string]any) {
			m["private_key"] = strings.ReplaceAll(secret, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
		}), "passphrase"},
		"a short key": {keyFile(t, func(m map[string]any) { m["private_key"] = pkcs8(t, short).Reveal() }), "shorter than 2048"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.client().ServiceAccount(t.Context(), s, tt.key, []string{"a"})
			wantError(t, err, authsome.Invalid, nil, tt.want)
			secretFree(t, err, material(secret), "canaryKeyMaterial123")
		})
	}
	if got := f.requests(); slices.ContainsFunc(got, func(s seen) bool { return !strings.HasPrefix(s.url, "https://auth.example.com/token") }) {
		t.Errorf("asked: %v", got)
	}
	_, err = f.client().ServiceAccount(t.Context(), s, keyFile(t, nil), nil)
	wantError(t, err, authsome.Invalid, nil, "no scopes", "--scopes")
}

func TestGitHubApp(t *testing.T) {
	f := newFake(t)
	c := f.client()
	key := authsome.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey())})))
	for _, tokenURL := range []string{"https://api.github.com", "https://api.github.com/app/installations/{installation_id}/access_tokens"} {
		f.handle("api.github.com/app/installations/42/access_tokens", saysJSON(201, `{"token":"`+canaryAccess+`","expires_at":"2026-11-23T13:00:00Z","permissions":{"metadata":"read","contents":"write"},"repository_selection":"selected"}`))
		s := Server{OAuth: authsome.OAuth{TokenURL: tokenURL}}
		token, err := c.GitHubApp(t.Context(), s, "12345", "42", key)
		if err != nil {
			t.Fatal(err)
		}
		if token.Access.Reveal() != canaryAccess || !token.ExpiresAt.Equal(testNow.Add(time.Hour)) || !slices.Equal(token.Scopes, []string{"contents:write", "metadata:read"}) || token.Account.ID == "" {
			t.Errorf("%+v", token)
		}
		got := f.only()
		claims, _ := verified(t, strings.TrimPrefix(got.header.Get("Authorization"), "Bearer "), &rsaKey().PublicKey, jose.RS256)
		if iat, exp := claims["iat"].(float64), claims["exp"].(float64); got.method != "POST" || claims["iss"] != "12345" || iat != float64(testNow.Unix()-60) || exp-iat > 600 || exp <= float64(testNow.Unix()) {
			t.Errorf("%s with %v", got.method, claims)
		}
		for status, cause := range map[int]error{401: ErrInvalidGrant, 404: ErrInvalidGrant, 403: nil} {
			f.handle("api.github.com/app/installations/42/access_tokens", saysJSON(status, `{"message":"A JSON web token could not be decoded"}`))
			_, err = c.GitHubApp(t.Context(), s, "12345", "42", key)
			wantError(t, err, authsome.AuthFailed, cause, "A JSON web token could not be decoded")
		}
		for _, bad := range [][2]string{{"1/2", "42"}, {"", "42"}, {"1", "42/../43"}, {"1", ""}} {
			f.requests()
			_, err = c.GitHubApp(t.Context(), s, bad[0], bad[1], key)
			wantError(t, err, authsome.Invalid, nil)
			if got := f.requests(); len(got) != 0 {
				t.Errorf("asked %v", got)
			}
		}
		_, err = c.GitHubApp(t.Context(), s, "1", "42", authsome.NewSecret("x"))
		wantError(t, err, authsome.Invalid, nil, "not PEM", ".pem")
		for _, answer := range []string{`{}`, `{"token":7}`} {
			f.handle("api.github.com/app/installations/42/access_tokens", saysJSON(201, answer))
			_, err = c.GitHubApp(t.Context(), s, "1", "42", key)
			wantError(t, err, authsome.AuthFailed, nil, "the token in its answer")
		}
		f.requests()
	}
}

func TestClientAssertion(t *testing.T) {
	f := newFake(t)
	f.handle("auth.example.com/token", saysJSON(200, goodAnswer))
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	sec1, _ := x509.MarshalECPrivateKey(p256)
	for i, tt := range []struct {
		key    authsome.Secret
		public crypto.PublicKey
		alg    jose.SignatureAlgorithm
	}{
		{pkcs8(t, rsaKey()), &rsaKey().PublicKey, jose.RS256},
		{pkcs8(t, p384), &p384.PublicKey, jose.ES384},
		{pkcs8(t, ed), ed.Public(), jose.EdDSA},
		{authsome.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))), &p256.PublicKey, jose.ES256},
	} {
		s := server()
		s.TokenAuth, s.App = authsome.ClientJWT, authsome.OAuthClient{ID: "the-client", Key: tt.key}
		audience := s.Issuer
		if i == 0 {
			s.Issuer, audience = "", s.TokenURL
		}
		var ids []any
		for range 2 {
			if _, err := f.client().ClientCredentials(t.Context(), s, nil); err != nil {
				t.Fatal(err)
			}
			got := f.only().form()
			if got.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || got.Has("client_secret") {
				t.Errorf("sent %v", got)
			}
			claims, _ := verified(t, got.Get("client_assertion"), tt.public, tt.alg)
			if claims["iss"] != "the-client" || claims["sub"] != "the-client" || claims["aud"] != audience || claims["exp"] != float64(testNow.Add(5*time.Minute).Unix()) {
				t.Errorf("claims %v", claims)
			}
			ids = append(ids, claims["jti"])
		}
		if ids[0] == ids[1] || ids[0] == "" {
			t.Errorf("ids %v", ids)
		}
	}
	s := server()
	s.TokenAuth = authsome.ClientJWT
	_, err := f.client().ClientCredentials(t.Context(), s, nil)
	wantError(t, err, authsome.Invalid, nil, "not PEM")
}
