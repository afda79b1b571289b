package flow

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/netguard"
)

func TestAt(t *testing.T) {
	github := &authsome.OAuth{
		BaseURL: "https://github.com", AuthorizationURL: "{base_url}/login/oauth/authorize", TokenURL: "{base_url}/login/oauth/access_token",
		DeviceURL: "{base_url}/login/device/code", RevocationURL: "https://api.github.com/applications/{client_id}/token",
		UserInfo: &authsome.UserInfo{URL: "https://api.github.com/user", ID: "id"}, ClientID: "vendors", AppsURL: "{base_url}/settings/developers",
		SelfManaged: &authsome.SelfManagedOAuth{RevocationURL: "{base_url}/api/v3/applications/{client_id}/token", UserInfoURL: "{base_url}/api/v3/user"},
	}
	vendors, err := At(github, "")
	if err != nil || vendors.TokenURL != "https://github.com/login/oauth/access_token" || vendors.UserInfo.URL != "https://api.github.com/user" || vendors.ClientID != "vendors" {
		t.Errorf("%+v, %v", vendors, err)
	}
	if same, err := At(github, " https://github.com/ "); err != nil || same.RevocationURL != github.RevocationURL {
		t.Errorf("the vendor's own address: %+v, %v", same, err)
	}
	own, err := At(github, "https://GitHub.Corp.example:8443/")
	if err != nil {
		t.Fatal(err)
	}
	for want, got := range map[string]string{
		"https://github.corp.example:8443/login/oauth/authorize":                 own.AuthorizationURL,
		"https://github.corp.example:8443/login/device/code":                     own.DeviceURL,
		"https://github.corp.example:8443/api/v3/applications/{client_id}/token": own.RevocationURL,
		"https://github.corp.example:8443/api/v3/user":                           own.UserInfo.URL,
		"https://github.corp.example:8443/settings/developers":                   own.AppsURL,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if own.ClientID != "" {
		t.Error("the vendor's client is used at another server")
	}
	if github.UserInfo.URL != "https://api.github.com/user" || github.TokenURL != "{base_url}/login/oauth/access_token" {
		t.Error("the definition was changed")
	}
	// Without a replacement, what is the vendor's gets nothing.
	bare := *github
	bare.SelfManaged = nil
	own, err = At(&bare, "https://github.corp.example")
	if err != nil || own.UserInfo != nil || own.RevocationURL != "" {
		t.Errorf("a token of somebody's own service would go to %v and %q (%v)", own.UserInfo, own.RevocationURL, err)
	}
	for name, tt := range map[string]struct {
		o    authsome.OAuth
		base string
	}{
		"not self-managed":        {authsome.OAuth{TokenURL: "https://a.example/token"}, "https://b.example"},
		"a login at the vendor's": {authsome.OAuth{BaseURL: "https://a.example", TokenURL: "https://a.example/token"}, "https://b.example"},
		"no base":                 {authsome.OAuth{TokenURL: "{base_url}/token"}, ""},
		"http":                    {*github, "http://github.corp.example"},
		"user":                    {*github, "https://me:pw@github.corp.example"},
		"query":                   {*github, "https://github.corp.example/?x=1"},
		"empty query":             {*github, "https://github.corp.example?"},
		"fragment":                {*github, "https://github.corp.example/#x"},
		"no scheme":               {*github, "github.corp.example"},
		"nothing":                 {*github, "https://"},
		"braces":                  {*github, "https://{base_url}"},
	} {
		_, err := At(&tt.o, tt.base)
		if authsome.CodeOf(err) != authsome.Invalid || authsome.HintOf(err) == "" || strings.Contains(err.Error(), "pw@") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSameSite(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"https://mcp.example.com/mcp", "https://auth.example.com", true},
		{"https://MCP.example.com.", "https://mcp.example.com:8443/x", true},
		{"https://example.com", "https://example.org", false},
		{"https://evilexample.com", "https://example.com", false},
		{"https://a.co.uk", "https://b.co.uk", false},
		{"https://a.github.io", "https://b.github.io", false},
		{"https://one.workers.dev", "https://two.workers.dev", false},
		{"https://x.one.workers.dev", "https://one.workers.dev", true},
		{"https://10.0.0.7", "https://10.1.0.7", false},
		{"https://1.2.3.4", "https://1.2.3.4:1", true},
		{"https://[2001:db8::1]", "https://[2001:db8::2]", false},
		{"https://localhost", "https://other", false},
		{"", "", false},
		{"https://", "https://", false},
		{"%", "https://a.example", false},
	}
	for _, tt := range tests {
		if SameSite(tt.a, tt.b) != tt.want || SameSite(tt.b, tt.a) != tt.want {
			t.Errorf("SameSite(%q, %q) is not %v", tt.a, tt.b, tt.want)
		}
	}
}

// TestPrivateAddresses holds requests back from this machine and the networks
// around it.
func TestPrivateAddresses(t *testing.T) {
	asked := 0
	there := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; saysJSON(200, goodAnswer)(w, r) }))
	defer there.Close()
	c := New(Config{Roots: there.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	s := server()
	s.TokenURL = there.URL
	_, err := c.Exchange(t.Context(), s, code(), verifier())
	wantError(t, err, authsome.Invalid, nil, "private address")
	// A name that resolves to a private address is seen when it is dialled.
	req, _ := http.NewRequest("GET", there.URL, nil)
	if res, err := c.public.RoundTrip(req); err == nil || !strings.Contains(err.Error(), netguard.ErrPrivate.Error()) {
		t.Errorf("dialled: %v, %v", res, err)
	}
	if asked != 0 {
		t.Fatal("the server was asked")
	}
	s.Private = true
	if _, err := c.Exchange(t.Context(), s, code(), verifier()); err != nil || asked != 1 {
		t.Errorf("an approved address: %v", err)
	}
	// Behind an upstream proxy, literals and names of this machine are seen.
	f := newFake(t)
	f.handle("10.0.0.7", saysJSON(200, goodAnswer))
	for _, host := range []string{
		"10.0.0.7", "[::1]", "[::ffff:10.0.0.7]", "169.254.169.254", "localhost", "LOCALHOST.", "a.localhost:7998", "0x7f.1", "2130706433", "127.1", "[fe80::1]", "0",
	} {
		s.TokenURL, s.Private = "https://"+host+"/token", false
		_, err := f.client().Exchange(t.Context(), s, code(), verifier())
		wantError(t, err, authsome.Invalid, nil, "private address")
	}
	if got := f.requests(); len(got) != 0 {
		t.Errorf("asked: %v", got)
	}
	s.TokenURL, s.Private = "https://10.0.0.7/token", true
	if _, err := f.client().Exchange(t.Context(), s, code(), verifier()); err != nil {
		t.Errorf("an approved address behind the proxy: %v", err)
	}
	for _, public := range []string{"example.com", "0x.example", "1.example", "9.9.9.9", "2606:4700::1111"} {
		if netguard.HostIsPrivate(public) {
			t.Errorf("%s is private", public)
		}
	}
	if !netguard.IsPrivate(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// TestUnreachable names what is wrong on the way, and shows nothing of what was
// sent.
func TestUnreachable(t *testing.T) {
	there := httptest.NewTLSServer(http.HandlerFunc(saysJSON(200, goodAnswer)))
	plain := httptest.NewServer(http.HandlerFunc(saysJSON(200, goodAnswer)))
	defer there.Close()
	defer plain.Close()
	gone := httptest.NewTLSServer(http.HandlerFunc(saysJSON(200, goodAnswer)))
	gone.Close()
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, canaryAccess, http.StatusProxyAuthRequired)
	}))
	defer refuses.Close()
	for _, tt := range []struct {
		name, address, want string
		proxy               string
	}{
		{name: "unknown certificate", address: there.URL, want: "certificate was refused"},
		{name: "no TLS", address: strings.Replace(plain.URL, "http:", "https:", 1), want: "does not speak TLS"},
		{name: "refused", address: gone.URL, want: "connection refused"},
		{name: "no such name", address: "https://nothing.invalid", want: "name"},
		{name: "a proxy that refuses", address: "https://auth.example.com", proxy: refuses.URL, want: "the upstream proxy 127.0.0.1:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{}
			if tt.proxy != "" {
				cfg.Proxy = func(*url.URL) (*url.URL, error) { return url.Parse(tt.proxy) }
			}
			s := server()
			s.TokenURL, s.Private = tt.address, true
			_, err := New(cfg).Exchange(t.Context(), s, code(), verifier())
			wantError(t, err, authsome.Unreachable, nil, tt.want)
		})
	}
	for _, address := range []string{"", "http://auth.example.com", "https://", "ftp://x", "https://a:b@auth.example.com/", "https://auth.example.com/#x", "https://auth.example.com/{x}", "https://１２７.0.0.1/token", "https://%EF%BC%91.1.1.1/", ":", "https://auth.example.com/\x00"} {
		s := server()
		s.TokenURL = address
		_, err := New(Config{}).Exchange(t.Context(), s, code(), verifier())
		wantError(t, err, authsome.Invalid, nil)
	}
}
