// Package conformance runs package flow against an authorization server that its
// authors did not write: zitadel's, in process.
package conformance

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
)

const (
	redirect = "http://127.0.0.1:7998/auth/callback/oauth"
	public   = "public-client"
	web      = "web-client"
	device   = "device-client"
	signing  = "signing-client"
	secret   = "canaryWebClientSecret-9Xk2"
)

// TestMain keeps what the server says about each request out of the way.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	m.Run()
}

// server is the authorization server with its storage, the one of zitadel's
// example, to which a client that signs is added.
type server struct {
	*storage.Storage
	key *rsa.PrivateKey

	t    *testing.T
	http *httptest.Server
	back func(context.Context, string) string
}

// signingClient proves itself by its key.
type signingClient struct{ op.Client }

func (signingClient) GetID() string               { return signing }
func (signingClient) AuthMethod() oidc.AuthMethod { return oidc.AuthMethodPrivateKeyJWT }

func (s *server) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	if id == signing {
		c, err := s.Storage.GetClientByClientID(ctx, web)
		return signingClient{c}, err
	}
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		err = oidc.ErrInvalidClient().WithParent(err) // the example's would be a server's error
	}
	return c, err
}

func (s *server) GetKeyByIDAndClientID(_ context.Context, _, client string) (*jose.JSONWebKey, error) {
	if client != signing {
		return nil, errors.New("no such key")
	}
	return &jose.JSONWebKey{Key: &s.key.PublicKey, Use: "sig"}, nil
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, http: httptest.NewUnstartedServer(nil)}
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	s.Storage = storage.NewStorageWithClients(storage.NewUserStore(s.http.URL), map[string]*storage.Client{
		public: storage.NativeClient(public, redirect), web: storage.WebClient(web, secret, redirect), device: storage.DeviceClient(device, secret),
	})
	var err error
	if s.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	p, err := op.NewProvider(&op.Config{
		CryptoKey: sha256.Sum256([]byte(t.Name())), CryptoKeyId: "1", CodeMethodS256: true, AuthMethodPost: true, AuthMethodPrivateKeyJWT: true, GrantTypeRefreshToken: true,
		DeviceAuthorization: op.DeviceAuthorizationConfig{Lifetime: time.Minute, PollInterval: time.Second, UserFormPath: "/device", UserCode: op.UserCodeBase20},
	}, s, op.StaticIssuer(s.http.URL))
	if err != nil {
		t.Fatal(err)
	}
	s.back = op.AuthCallbackURL(p)
	mux := http.NewServeMux()
	mux.Handle("/", p)
	mux.Handle("POST /login/username", op.NewIssuerInterceptor(p.IssuerFromRequest).HandlerFunc(s.login))
	s.http.Config.Handler = mux
	return s
}

// login is what the page behind the form does.
func (s *server) login(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("authRequestID")
	if err := s.CheckUsernamePassword("test-user@127.0.0.1", "verysecure", id); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	http.Redirect(w, r, s.back(r.Context(), id), http.StatusFound)
}

// client trusts the server's certificate.
func (s *server) client() *flow.Client {
	return flow.New(flow.Config{Roots: s.http.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
}

// consent goes through the pages as a browser does, up to the callback.
func (s *server) consent(address string) url.Values {
	s.t.Helper()
	browser := s.http.Client()
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	do := func(method, address string) string {
		s.t.Helper()
		req, err := http.NewRequestWithContext(s.t.Context(), method, address, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := browser.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		to, err := res.Location()
		if err != nil {
			body, _ := io.ReadAll(res.Body)
			s.t.Fatalf("%s %s: %s: %s", method, address, res.Status, body)
		}
		return to.String()
	}
	to := do("GET", address)
	for range 5 {
		if rest, ok := strings.CutPrefix(to, redirect); ok {
			q, err := url.ParseQuery(strings.TrimPrefix(rest, "?"))
			if err != nil {
				s.t.Fatal(err)
			}
			return q
		}
		method := "GET"
		if strings.Contains(to, "/login/username") {
			method = "POST"
		}
		to = do(method, to)
	}
	s.t.Fatalf("the pages lead to %s", to)
	return nil
}

// found is the server as discovery describes it.
func (s *server) found(c *flow.Client) authsome.OAuth {
	s.t.Helper()
	o, err := c.Complete(s.t.Context(), authsome.OAuth{Issuer: s.http.URL, PKCE: true}, true)
	if err != nil {
		s.t.Fatal(err)
	}
	if o.AuthorizationURL == "" || o.TokenURL == "" || o.DeviceURL == "" || o.RevocationURL == "" {
		s.t.Fatalf("discovery leaves out addresses: %+v", o)
	}
	o.UserInfo = &authsome.UserInfo{URL: s.http.URL + "/userinfo", ID: "sub", Label: []string{"email", "preferred_username"}}
	return o
}

func wants(t *testing.T, err error, code authsome.Code, cause error) {
	t.Helper()
	if authsome.CodeOf(err) != code || !errors.Is(err, cause) {
		t.Errorf("error %v of code %s, want %s and %v", err, authsome.CodeOf(err), code, cause)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the secret is in %q", err)
	}
}

// TestCode goes from consent to revocation, with each way in which a client
// proves itself.
func TestCode(t *testing.T) {
	srv := newServer(t)
	c := srv.client()
	o := srv.found(c)
	der, err := x509.MarshalPKCS8PrivateKey(srv.key)
	if err != nil {
		t.Fatal(err)
	}
	key := authsome.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	for _, app := range []authsome.OAuthClient{
		{ID: public, Auth: authsome.ClientNone},
		{ID: web, Auth: authsome.ClientBasic, Secret: authsome.NewSecret(secret)},
		{ID: web, Auth: authsome.ClientBody, Secret: authsome.NewSecret(secret)},
		{ID: signing, Auth: authsome.ClientJWT, Key: key},
	} {
		t.Run(app.ID+" "+string(app.Auth), func(t *testing.T) {
			s := flow.Server{OAuth: o, App: app, RedirectURI: redirect, Private: true}
			begin := func() (authsome.Secret, authsome.Secret) {
				t.Helper()
				state, verifier := authsome.NewSecret(rand.Text()), flow.NewVerifier()
				address, err := s.AuthorizeURL(flow.Authorization{State: state, Verifier: verifier, Scopes: []string{"openid", "email", "offline_access"}})
				if err != nil {
					t.Fatal(err)
				}
				code, err := s.Callback(srv.consent(address), state)
				if err != nil {
					t.Fatal(err)
				}
				return code, verifier
			}
			code, _ := begin()
			_, err := c.Exchange(t.Context(), s, code, flow.NewVerifier())
			wants(t, err, authsome.AuthFailed, flow.ErrInvalidGrant)

			code, verifier := begin()
			token, err := c.Exchange(t.Context(), s, code, verifier)
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(token.ExpiresAt); token.Refresh.IsZero() || token.Type != "Bearer" || left <= 0 || left > 5*time.Minute {
				t.Errorf("token %+v", token)
			}
			_, err = c.Exchange(t.Context(), s, code, verifier)
			wants(t, err, authsome.AuthFailed, flow.ErrInvalidGrant)

			who, err := c.Account(t.Context(), s, token.Access)
			if err != nil || who != (authsome.Account{ID: "id1", Label: "test-user@zitadel.ch"}) {
				t.Errorf("account %+v, %v", who, err)
			}

			next, err := c.Refresh(t.Context(), s, token.Refresh, nil)
			if err != nil {
				t.Fatal(err)
			}
			if next.Refresh.IsZero() || next.Refresh.Equal(token.Refresh) || next.Access.Equal(token.Access) {
				t.Error("the tokens were not rotated")
			}
			_, err = c.Refresh(t.Context(), s, token.Refresh, nil)
			wants(t, err, authsome.TokenExpired, flow.ErrInvalidGrant)

			if err := c.Revoke(t.Context(), s, next.Refresh, "refresh_token"); err != nil {
				t.Fatal(err)
			}
			_, err = c.Refresh(t.Context(), s, next.Refresh, nil)
			wants(t, err, authsome.TokenExpired, flow.ErrInvalidGrant)
			if err := c.Revoke(t.Context(), s, next.Access, "access_token"); err != nil {
				t.Error(err)
			}
			if _, err := c.Account(t.Context(), s, next.Access); authsome.CodeOf(err) != authsome.AuthFailed {
				t.Errorf("a revoked token: %v", err)
			}
			if !c.Knows(t.Context(), s) {
				t.Error("the client is not known")
			}
		})
	}
	wrong := flow.Server{OAuth: o, App: authsome.OAuthClient{ID: web, Secret: authsome.NewSecret("canaryWrong"), Auth: authsome.ClientBasic}, RedirectURI: redirect, Private: true}
	_, err = c.Refresh(t.Context(), wrong, authsome.NewSecret("x"), nil)
	wants(t, err, authsome.AuthFailed, flow.ErrInvalidClient)
	wrong.App = authsome.OAuthClient{ID: "forgotten", Auth: authsome.ClientNone}
	if c.Knows(t.Context(), wrong) {
		t.Error("a client that was never there is known")
	}
}

// TestDevice waits while nobody has typed the code, and ends when somebody has.
func TestDevice(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	c := srv.client()
	s := flow.Server{OAuth: srv.found(c), App: authsome.OAuthClient{ID: device, Secret: authsome.NewSecret(secret), Auth: authsome.ClientBasic}, Private: true}
	start := func() *flow.Device {
		t.Helper()
		d, err := c.StartDevice(t.Context(), s, []string{"openid", "email"})
		if err != nil {
			t.Fatal(err)
		}
		if d.UserCode == "" || !strings.HasPrefix(d.VerificationURL, srv.http.URL) || !strings.Contains(d.VerificationURLComplete, d.UserCode) || d.Interval != time.Second {
			t.Errorf("device %+v", d)
		}
		return d
	}
	d := start()
	type result struct {
		token *flow.Token
		err   error
	}
	done := make(chan result, 1)
	go func() {
		token, err := c.AwaitDevice(t.Context(), s, d)
		done <- result{token, err}
	}()
	select {
	case r := <-done:
		t.Fatalf("granted before anybody agreed: %v", r.err)
	case <-time.After(1500 * time.Millisecond):
	}
	if err := srv.CompleteDeviceAuthorization(t.Context(), d.UserCode, "id1"); err != nil {
		t.Fatal(err)
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	if who, err := c.Account(t.Context(), s, r.token.Access); err != nil || who.ID != "id1" {
		t.Errorf("account %+v, %v", who, err)
	}
	d = start()
	if err := srv.DenyDeviceAuthorization(t.Context(), d.UserCode); err != nil {
		t.Fatal(err)
	}
	_, err := c.AwaitDevice(t.Context(), s, d)
	wants(t, err, authsome.Cancelled, flow.ErrDenied)
}

// TestClientCredentials gets a token for the app itself.
func TestClientCredentials(t *testing.T) {
	srv := newServer(t)
	c := srv.client()
	for _, auth := range []authsome.ClientAuth{authsome.ClientBasic, authsome.ClientBody} {
		// The one that zitadel's example has.
		s := flow.Server{OAuth: srv.found(c), App: authsome.OAuthClient{ID: "sid1", Secret: authsome.NewSecret("verysecret"), Auth: auth}, Private: true}
		token, err := c.ClientCredentials(t.Context(), s, []string{"openid"})
		if err != nil || token.Access.IsZero() || !token.Refresh.IsZero() || token.Scopes != nil && !slices.Equal(token.Scopes, []string{"openid"}) {
			t.Errorf("%s: %+v, %v", auth, token, err)
		}
		s.App.Secret = authsome.NewSecret("canaryWrong")
		_, err = c.ClientCredentials(t.Context(), s, []string{"openid"})
		wants(t, err, authsome.AuthFailed, flow.ErrInvalidClient)
	}
}
