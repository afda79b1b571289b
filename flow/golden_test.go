package flow

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/provider"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden holds every bundled provider that has OAuth to the exact requests
// that its definition makes: go test ./flow -run Golden -update
func TestGolden(t *testing.T) {
	catalog := provider.NewCatalog()
	dir := filepath.Join("testdata", "golden")
	var names []string
	for _, p := range catalog.All() {
		if p.OAuth == nil {
			continue
		}
		name := p.Name + ".txt"
		names = append(names, name)
		t.Run(p.Name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			got := golden(t, p)
			if *update {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("requests differ from %s (-want +got):\n%s", file, diff)
			}
		})
	}
	if len(names) < 40 {
		t.Errorf("%d providers have OAuth, want 40 at least", len(names))
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if slices.Contains(names, filepath.Base(file)) {
			continue
		}
		if !*update {
			t.Errorf("%s is of no provider", file)
		} else if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

// The values of the golden files.
const (
	goldenClient = "CLIENT-ID"
	goldenToken  = "ACCESS-TOKEN"
)

// golden runs every flow of a provider against a network that answers all of
// them, and writes down what arrived.
func golden(t *testing.T, p *authsome.Provider) string {
	t.Helper()
	o, err := At(p.OAuth, "")
	if err != nil {
		t.Fatal(err)
	}
	s := Server{OAuth: o, App: authsome.OAuthClient{ID: goldenClient}, RedirectURI: "http://127.0.0.1:7998/auth/callback/oauth"}
	if o.RedirectURI != "" {
		s.RedirectURI = o.RedirectURI
	}
	switch form := ClientForm(&o); {
	case o.ClientID != "":
		s.App.ID = o.ClientID
	case o.TokenAuth == authsome.ClientJWT:
		s.App.Key = pkcs8(t, rsaKey())
	case p.Flows[0] != authsome.FlowDCR && slices.ContainsFunc(form, func(f authsome.KeyField) bool { return f.Name == authsome.FieldClientSecret }):
		s.App.Secret = authsome.NewSecret("CLIENT-SECRET")
	}
	f := newFake(t)
	answer := goldenAnswer(o)
	addresses := []string{o.TokenURL, o.DeviceURL, o.RegistrationURL, o.RevocationURL}
	if o.UserInfo != nil {
		addresses = append(addresses, o.UserInfo.URL)
	}
	for _, a := range addresses {
		if u, err := url.Parse(a); err == nil && u.Host != "" {
			f.handle(u.Host, saysJSON(200, answer))
		}
	}
	c := f.client()
	secret := authsome.NewSecret
	var b strings.Builder
	step := func(name string, do func() error) {
		t.Helper()
		err := do()
		fmt.Fprintf(&b, "== %s\n", name)
		for _, r := range f.requests() {
			writeRequest(t, &b, r)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, flow := range p.Flows {
		switch flow {
		case authsome.FlowDCR, authsome.FlowPKCE:
			if flow == authsome.FlowDCR && o.RegistrationURL != "" {
				step("register", func() error {
					_, err := c.Register(t.Context(), s, "authsome ("+p.DisplayName+")", o.Scopes)
					return err
				})
			}
			address, err := s.AuthorizeURL(Authorization{State: secret("STATE"), Verifier: secret("VERIFIER"), Scopes: o.Scopes})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "== authorize\n%s\n", address)
			step("token", func() error { _, err := c.Exchange(t.Context(), s, secret("CODE"), secret("VERIFIER")); return err })
		case authsome.FlowDeviceCode:
			step("device", func() error { _, err := c.StartDevice(t.Context(), s, o.Scopes); return err })
			step("device token", func() error {
				_, err := c.pollDevice(t.Context(), s, &Device{Code: secret("DEVICE-CODE")})
				return err
			})
		case authsome.FlowClientCredentials:
			step("client credentials", func() error { _, err := c.ClientCredentials(t.Context(), s, o.Scopes); return err })
		case authsome.FlowServiceAccount:
			file := keyFile(t, func(m map[string]any) { m["token_uri"] = o.TokenURL })
			step("service account", func() error {
				_, err := c.ServiceAccount(t.Context(), s, file, append([]string{"SCOPE"}, o.Scopes...))
				return err
			})
		case authsome.FlowGitHubApp:
			step("GitHub App", func() error { _, err := c.GitHubApp(t.Context(), s, "APP-ID", "42", pkcs8(t, rsaKey())); return err })
		}
	}
	if p.Accepts(authsome.FlowPKCE) || p.Accepts(authsome.FlowDCR) || p.Accepts(authsome.FlowDeviceCode) {
		step("refresh", func() error { _, err := c.Refresh(t.Context(), s, secret("REFRESH-TOKEN"), nil); return err })
	}
	if o.RevocationURL != "" {
		step("revoke", func() error { return c.Revoke(t.Context(), s, secret(goldenToken), "access_token") })
	}
	if o.UserInfo != nil {
		step("account", func() error { _, err := c.Account(t.Context(), s, secret(goldenToken)); return err })
	}
	fmt.Fprintf(&b, "== inject\n%s", injected(p))
	return b.String()
}

// goldenAnswer is an answer to everything.
func goldenAnswer(o authsome.OAuth) string {
	m := map[string]any{
		"ok": true, "device_code": "DEVICE-CODE", "user_code": "USER-CODE", "verification_uri": "https://example.com/device", "expires_in": 900,
		"client_id": goldenClient, "client_secret": "CLIENT-SECRET", "token": goldenToken, "access_token": goldenToken,
	}
	put := func(path string, value any) {
		if path == "" {
			return
		}
		// Lists are answered as objects with numbers for names, which read alike.
		at := m
		steps := strings.Split(path, ".")
		for _, s := range steps[:len(steps)-1] {
			next, ok := at[s].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[s] = next
			}
			at = next
		}
		at[steps[len(steps)-1]] = value
	}
	put(o.Answer.AccessToken, goldenToken)
	put(o.Answer.RefreshToken, "REFRESH-TOKEN")
	put(o.Answer.AccountID, "ACCOUNT")
	if o.UserInfo != nil {
		put(o.UserInfo.ID, "ACCOUNT")
		for _, path := range o.UserInfo.Label {
			put(path, "LABEL")
		}
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// writeRequest writes a request without what every request has. Assertions,
// which differ each time, are shown as what they say.
func writeRequest(t *testing.T, b *strings.Builder, r seen) {
	t.Helper()
	fmt.Fprintf(b, "%s %s\n", r.method, r.url)
	var names []string
	for name := range r.header {
		if !slices.Contains([]string{"Accept-Encoding", "Connection", "Content-Length", "User-Agent"}, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		value := r.header.Get(name)
		if jwt, ok := strings.CutPrefix(value, "Bearer ey"); ok {
			value = "Bearer JWT " + said(t, "ey"+jwt)
		}
		fmt.Fprintf(b, "%s: %s\n", name, value)
	}
	if r.body == "" {
		return
	}
	body := r.body
	if form := r.form(); r.header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		for _, name := range []string{"assertion", "client_assertion"} {
			if form.Has(name) {
				body = strings.ReplaceAll(body, form.Get(name), "JWT "+said(t, form.Get(name)))
			}
		}
	}
	fmt.Fprintf(b, "\n%s\n", body)
}

// said is what a JWT says, without its random id.
func said(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWT: %d parts", len(parts))
	}
	var out []string
	for _, p := range parts[:2] {
		text, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		if m["jti"] != nil {
			m["jti"] = "JTI"
		}
		text, _ = json.Marshal(m)
		out = append(out, string(text))
	}
	return strings.Join(out, ".")
}

// injected is what the provider's first route puts on a request.
func injected(p *authsome.Provider) string {
	if len(p.Routes) == 0 {
		return "nothing is routed\n"
	}
	cred := &authsome.Credential{Fields: map[string]authsome.Secret{authsome.FieldAccessToken: authsome.NewSecret(goldenToken)}}
	route := p.Routes[0]
	var b strings.Builder
	fmt.Fprintf(&b, "https://%s%s\n", route.Host, route.Path)
	for _, in := range route.Inject {
		if !in.Fits(cred) {
			continue
		}
		value := strings.NewReplacer("{token}", goldenToken, "{access_token}", goldenToken).Replace(in.Value)
		if in.Slot == authsome.SlotBasic {
			value = "Basic " + base64.StdEncoding.EncodeToString([]byte(value))
		}
		fmt.Fprintf(&b, "%s: %s\n", http.CanonicalHeaderKey(in.Name), value)
	}
	return b.String()
}
