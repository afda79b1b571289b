package flow

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/authsome/authsome"
)

// skew is how far a server's clock may be behind ours: an assertion from its
// future is refused like one that is worthless.
const skew = time.Minute

// clientAssertion proves the client by its private key (RFC 7523, section 2.2;
// OpenID Connect Core, section 9). The audience is the issuer, as the RFC's
// revision wants it: no other server can be named so and then use the assertion.
// Where the issuer is not known it is the token endpoint, which every server
// accepted before.
func (c *Client) clientAssertion(s Server) (authsome.Secret, error) {
	now := c.cfg.Now()
	audience := s.Issuer
	if audience == "" {
		audience = s.TokenURL
	}
	return sign(s.App.Key, "", jwt.Claims{
		Issuer: s.App.ID, Subject: s.App.ID, Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now.Add(-skew)), Expiry: jwt.NewNumericDate(now.Add(5 * time.Minute)),
	})
}

// serviceAccount is Google's key file.
type serviceAccount struct {
	Type         string `json:"type"`
	ClientEmail  string `json:"client_email"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	TokenURI     string `json:"token_uri"`
}

// ServiceAccount gets a token with Google's key file (RFC 7523, section 2.1). A
// key file that cannot be used gives an error of code Invalid.
func (c *Client) ServiceAccount(ctx context.Context, s Server, key authsome.Secret, scopes []string) (*Token, error) {
	const doing = "get a token from "
	bad := func(why, hint string) error {
		return request{doing: doing + hostOf(s.TokenURL)}.fail(authsome.Invalid, why, nil).WithHint("%s", hint)
	}
	const whole = "paste the whole JSON file that was downloaded for the service account"
	var file serviceAccount
	if err := json.Unmarshal([]byte(key.Reveal()), &file); err != nil {
		return nil, bad("the key file is not JSON", whole)
	}
	switch {
	case file.Type != "service_account":
		return nil, bad("the key file is not that of a service account", whole)
	case file.ClientEmail == "" || file.PrivateKey == "":
		return nil, bad("the key file holds no client_email or no private_key", whole)
	case file.TokenURI != "" && file.TokenURI != s.TokenURL:
		// A key file must not be able to send its assertion elsewhere.
		return nil, bad("the key file names another token_uri than "+s.TokenURL, "make a new key for the service account")
	case len(scopes) == 0:
		return nil, bad("no scopes are named, and a service account has none by itself", "name them with --scopes")
	}
	issued := c.cfg.Now().Add(-skew)
	assertion, err := sign(authsome.NewSecret(file.PrivateKey), file.PrivateKeyID, jwt.Claims{
		Issuer: file.ClientEmail, Audience: jwt.Audience{s.TokenURL},
		IssuedAt: jwt.NewNumericDate(issued), Expiry: jwt.NewNumericDate(issued.Add(time.Hour)), // Google takes no more
	}, struct {
		Scope string `json:"scope"`
	}{strings.Join(scopes, " ")})
	if err != nil {
		return nil, bad(err.Error(), whole)
	}
	r := request{doing: doing + hostOf(s.TokenURL), method: "POST", url: s.TokenURL, private: s.Private, header: map[string][]string{}}
	r.secrets = []authsome.Secret{assertion, authsome.NewSecret(file.PrivateKey)}
	r.setBody(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion.Reveal()}}, authsome.EncodeForm)
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := r.readToken(a, s.Answer)
	if err != nil {
		return nil, err
	}
	email := clean(file.ClientEmail, 128)
	token.Account = authsome.Account{ID: email, Label: email}
	return token, nil
}

// sign makes a signed JWT. The algorithm follows from the key. The error's text
// quotes nothing of the key.
func sign(key authsome.Secret, id string, claims ...any) (authsome.Secret, error) {
	none := authsome.Secret{}
	private, err := privateKey(key)
	if err != nil {
		return none, err
	}
	var alg jose.SignatureAlgorithm
	switch k := private.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return none, errors.New("the private key is shorter than 2048 bits")
		}
		alg = jose.RS256
	case *ecdsa.PrivateKey:
		alg = map[elliptic.Curve]jose.SignatureAlgorithm{elliptic.P256(): jose.ES256, elliptic.P384(): jose.ES384, elliptic.P521(): jose.ES512}[k.Curve]
	case ed25519.PrivateKey:
		alg = jose.EdDSA
	}
	if alg == "" {
		return none, errors.New("the private key is of a kind that no server accepts")
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if id != "" {
		options = options.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: private}, options)
	if err != nil {
		return none, errors.New("the private key cannot be used to sign")
	}
	builder := jwt.Signed(signer)
	for _, c := range claims {
		builder = builder.Claims(c)
	}
	token, err := builder.Serialize()
	if err != nil {
		return none, errors.New("the private key cannot be used to sign")
	}
	return authsome.NewSecret(token), nil
}

// privateKey reads a key in PEM: PKCS #8, or the older forms of RSA and EC.
func privateKey(key authsome.Secret) (crypto.PrivateKey, error) {
	block, _ := pem.Decode(bytes.TrimSpace([]byte(key.Reveal())))
	if block == nil {
		return nil, errors.New("the private key is not PEM")
	}
	if strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the private key is encrypted with a passphrase")
	}
	for _, parse := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
		func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
	} {
		if k, err := parse(block.Bytes); err == nil {
			return k, nil
		}
	}
	return nil, errors.New("the PEM text holds no private key")
}
