package internet

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"time"
)

// signer is a key that somebody gets as a file, and whose signatures the server
// knows.
type signer struct {
	key *rsa.PrivateKey
	pem string
}

func newSigner(kind string) (*signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der := x509.MarshalPKCS1PrivateKey(key)
	if kind == "PRIVATE KEY" {
		if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return nil, err
		}
	}
	return &signer{key, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))}, nil
}

// claims are those of the JWTs that vendors take. A missing time is 0.
type claims struct {
	Issuer   any    `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Scope    string `json:"scope"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

// verify checks that a JWT is signed RS256 by the key and returns its claims.
// Times are the caller's to judge.
func (s *signer) verify(token string) (claims, error) {
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("a JWT has three parts")
	}
	var header struct {
		Alg string `json:"alg"`
		Typ string `json:"typ"`
	}
	if err := decodePart(parts[0], &header); err != nil {
		return c, err
	}
	if header.Alg != "RS256" {
		return c, errors.New("the algorithm is not RS256")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return c, err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, sum[:], sig); err != nil {
		return c, err
	}
	return c, decodePart(parts[1], &c)
}

func decodePart(part string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// within says whether now lies between the claims' times, give or take a
// minute, and these are no more than limit apart.
func (c claims) within(limit time.Duration) (valid, short bool) {
	now := time.Now().Unix()
	return c.Issued <= now+60 && c.Expires > now-60, c.Expires-c.Issued <= int64(limit/time.Second)
}
