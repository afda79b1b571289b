package provider

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/publicsuffix"

	"github.com/authsome/authsome"
)

func TestOAuthEverything(t *testing.T) {
	p := parseFile(t, "everything-oauth.jsonc")
	want := &authsome.OAuth{
		BaseURL: "https://forge.example", Issuer: "https://forge.example", IssuerInCallback: true,
		AuthorizationURL: "{base_url}/oauth/authorize?theme=dark", TokenURL: "{base_url}/oauth/token", DeviceURL: "{base_url}/oauth/device",
		RegistrationURL: "{base_url}/oauth/register", RevocationURL: "https://api.forge.example/applications/{client_id}/token",
		Resource: "https://api.forge.example/v1",
		Scopes:   []string{"repo", "https://forge.example/auth/user", "a.b", "b.c"}, ScopeSeparator: ",", ScopeParam: "user_scope",
		AuthorizeParams: []authsome.Param{{Name: "prompt", Value: "consent"}, {Name: "access_type", Value: "offline"}},
		TokenParams:     []authsome.Param{{Name: "audience", Value: "forge"}},
		TokenAuth:       authsome.ClientJWT, TokenBody: authsome.EncodeJSON, DeviceBody: authsome.EncodeJSON,
		TokenHeaders: []authsome.Param{{Name: "Forge-Version", Value: "2022-06-28"}},
		Answer: authsome.TokenAnswer{
			AccessToken: "authed_user.access_token", RefreshToken: "authed_user.refresh_token", ExpiresIn: "authed_user.expires_in",
			Scope: "authed_user.scope", AccountID: "authed_user.id", AccountLabel: "team.name",
		},
		Revocation: authsome.RevokeGitHub,
		UserInfo: &authsome.UserInfo{
			URL: "https://api.forge.example/graphql?x=1", Method: "POST", Body: `{"query":"{ viewer { id } }"}`,
			Headers: []authsome.Param{{Name: "Forge-Version", Value: "2022-06-28"}},
			ID:      "data.viewer.id", Label: []string{"data.viewer.emails.0", "data.viewer.name"},
		},
		RedirectURI: "http://localhost:7998/auth/callback/oauth", ClientID: "forge-cli", AppsURL: "https://forge.example/settings/apps",
		SelfManaged: &authsome.SelfManagedOAuth{
			RevocationURL: "{base_url}/api/v3/applications/{client_id}/token", UserInfoURL: "{base_url}/api/v3/graphql",
		},
	}
	if diff := cmp.Diff(want, p.OAuth); diff != "" {
		t.Error(diff)
	}
	flows := []authsome.Flow{"pkce", "device_code", "dcr_pkce", "client_credentials", "service_account", "github_app", "api_key"}
	if !slices.Equal(p.Flows, flows) || p.AuthType != authsome.AuthOAuth2 || len(p.Warnings) != 0 {
		t.Errorf("flows %v, %s, warnings %v", p.Flows, p.AuthType, p.Warnings)
	}
	// The key and the token go into different headers, and neither onto the
	// endpoints of the login.
	header := func(name, value string) authsome.Injection {
		return authsome.Injection{Slot: authsome.SlotHeader, Name: name, Value: value, When: authsome.Always}
	}
	both := []authsome.Injection{header("Authorization", "Bearer {access_token}"), header("X-Forge-Key", "{api_key}")}
	routes := []authsome.Route{{Host: "api.forge.example", Inject: both}, {
		Host: "forge.example", Path: "/api", Inject: both,
		Except: []string{"/oauth/authorize", "/oauth/token", "/oauth/device", "/oauth/register"},
	}}
	if diff := cmp.Diff(routes, p.Routes); diff != "" {
		t.Error(diff)
	}
	own := []authsome.Route{
		{Host: "{host}", Path: "/api/v3", Inject: []authsome.Injection{header("Authorization", "Bearer {token}")}},
		{Host: "{host}", Inject: []authsome.Injection{{Slot: authsome.SlotBasic, Name: "Authorization", Value: "x:{token}", When: authsome.OnChallenge}}},
	}
	if diff := cmp.Diff(own, p.SelfManaged); diff != "" {
		t.Error(diff)
	}
}

// TestOAuthForms: spellings of both generations, and which flows they give.
func TestOAuthForms(t *testing.T) {
	const endpoints = `"authorization_url":"https://a.example.com/a","token_url":"https://a.example.com/t"`
	tests := []struct {
		name, fields, oauth string
		flows               string
		authType            authsome.AuthType
		check               func(*authsome.OAuth) bool
		warn                string
	}{
		{
			"the least", `"auth_type":"oauth2","flow":"pkce"`, endpoints, "pkce", "oauth2",
			func(o *authsome.OAuth) bool {
				return cmp.Equal(o, &authsome.OAuth{AuthorizationURL: "https://a.example.com/a", TokenURL: "https://a.example.com/t", PKCE: true})
			}, "",
		},
		{
			"newer authsome", `"auth_type":"oauth2","flow":"pkce"`, endpoints + `,"authorization_method":"basic","authorization_params":{"duration":"permanent"}`,
			"pkce", "oauth2", func(o *authsome.OAuth) bool {
				return o.TokenAuth == authsome.ClientBasic && slices.Equal(o.AuthorizeParams, []authsome.Param{{Name: "duration", Value: "permanent"}})
			}, "",
		},
		{
			"null everywhere", `"auth_type":"oauth2","flow":"pkce","self_managed":null`, endpoints + `,"revocation_url":null,"device_authorization_url":null,
				"device_token_request":null,"scopes":null,"pkce":null,"base_url":null,"authorization_method":null,"authorization_params":null,"issuer":null,
				"resource":null,"scope_separator":null,"scope_param":null,"token_auth":null,"token_body":null,"token_headers":null,"token_params":null,
				"token_answer":null,"revocation":null,"user_info":null,"redirect_uri":null,"client_id":null,"apps_url":null,"supports_device_code":null`,
			"pkce", "oauth2", func(o *authsome.OAuth) bool { return o.PKCE && o.UserInfo == nil && o.AuthorizeParams == nil }, "",
		},
		{
			"another device will do", `"auth_type":"oauth2","flow":"pkce"`, endpoints + `,"device_authorization_url":"https://a.example.com/d","supports_device_code":true`,
			"pkce device_code", "oauth2", func(o *authsome.OAuth) bool { return o.DeviceURL != "" && o.DeviceBody == "" }, "",
		},
		{
			"another device is not said to do", `"auth_type":"oauth2","flow":"pkce"`, endpoints + `,"device_authorization_url":"https://a.example.com/d"`,
			"pkce", "oauth2", nil, "",
		},
		{
			"key first", `"auth_type":"api_key","flows":["api_key","pkce"]`, endpoints, "api_key pkce", "api_key",
			func(o *authsome.OAuth) bool { return o.TokenURL != "" }, "",
		},
		{"a section without its flow", `"auth_type":"api_key"`, endpoints, "api_key", "api_key", nil, ""},
		{
			"device alone", `"auth_type":"oauth2","flow":"device_code"`, `"device_authorization_url":"https://a.example.com/d","token_url":"https://a.example.com/t","device_token_request":"oauth2_form"`,
			"device_code", "oauth2", func(o *authsome.OAuth) bool { return o.DeviceBody == "" && o.AuthorizationURL == "" }, "",
		},
		{
			"what the login sets itself", `"auth_type":"oauth2","flow":"pkce"`, endpoints + `,"authorization_params":{"State":"x","code_challenge_method":"S256","prompt":"login"},"token_params":{"client_id":"x"}`,
			"pkce", "oauth2", func(o *authsome.OAuth) bool { return len(o.AuthorizeParams) == 1 && o.TokenParams == nil },
			"oauth.authorization_params.State is left out",
		},
		{
			"space is the usual", `"auth_type":"oauth2","flow":"pkce"`, endpoints + `,"scope_separator":" ","scopes":["a b","a",""]`,
			"pkce", "oauth2", func(o *authsome.OAuth) bool {
				return o.ScopeSeparator == "" && slices.Equal(o.Scopes, []string{"a", "b"})
			}, "",
		},
		{
			"apps_url that is none", `"auth_type":"oauth2","flow":"pkce"`, endpoints + `,"apps_url":"http://a.example.com"`,
			"pkce", "oauth2", func(o *authsome.OAuth) bool { return o.AppsURL == "" }, "oauth.apps_url is left out",
		},
		{
			"a body as text", `"auth_type":"oauth2","flow":"pkce"`, endpoints + `,"user_info":{"url":"https://a.example.com/me","method":"POST","body":"null","label":"name"}`,
			"pkce", "oauth2", func(o *authsome.OAuth) bool {
				return o.UserInfo.Body == "null" && slices.Equal(o.UserInfo.Label, []string{"name"})
			}, "",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := `{"name":"x",` + tt.fields + `,"api_url":"api.example.com","oauth":{` + tt.oauth + `}}`
			p, err := Parse("x.json", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(t, []byte(text)); err != nil && tt.warn == "" {
				t.Errorf("schema.json: %v", err)
			}
			if got := strings.Trim(fmt.Sprint(p.Flows), "[]"); got != tt.flows || p.AuthType != tt.authType {
				t.Errorf("flows %s, %s; want %s, %s", got, p.AuthType, tt.flows, tt.authType)
			}
			switch {
			case (p.OAuth != nil) != strings.Contains(tt.flows, "c"): // of pkce and device_code
				t.Errorf("OAuth is %+v", p.OAuth)
			case tt.check != nil && !tt.check(p.OAuth):
				t.Errorf("OAuth is read as %+v", p.OAuth)
			}
			if got := strings.Join(p.Warnings, "; "); !strings.Contains(got, tt.warn) || tt.warn == "" && got != "" {
				t.Errorf("warnings %q, want %q", got, tt.warn)
			}
		})
	}
}

// TestOAuthBroken: what is wrong is named with file, line and field.
func TestOAuthBroken(t *testing.T) {
	const endpoints = `"authorization_url":"https://a.example.com/a","token_url":"https://a.example.com/t"`
	// Each is put into line 3.
	section := func(more string) string {
		return "{\"name\":\"x\",\"auth_type\":\"oauth2\",\"flow\":\"pkce\",\"oauth\":{\n" + endpoints + ",\n" + more + "}}"
	}
	withFlow := func(flow, oauth string) string {
		return `{"name":"x","auth_type":"oauth2","flow":"` + flow + `","oauth":{` + oauth + `}}`
	}
	userInfo := func(more string) string {
		return section(`"user_info":{"url":"https://a.example.com/me",` + more + `}`)
	}
	own := func(base, more string) string {
		return `{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{` + base + endpoints + `},"self_managed":{` + more + `}}`
	}
	mixed := func(inject string) string {
		return `{"name":"x","auth_type":"oauth2","flows":["pkce","api_key"],"api_key":{"fields":[{"name":"email"},{"name":"pat"}]},
			"oauth":{` + endpoints + `},"routes":[{"host":"a.example.com","inject":[` + inject + `]}]}`
	}
	const base = `"base_url":"https://a.example.com",`
	tests := []struct{ text, want string }{
		{withFlow("device_code", `"token_url":"https://a.example.com/t"`), "oauth.device_authorization_url: is missing"},
		{withFlow("device_code", `"device_authorization_url":"https://a.example.com/t"`), "oauth.token_url: is missing"},
		{withFlow("dcr_pkce", `"token_url":"https://a.example.com/t"`), "oauth.authorization_url: is missing"},
		{withFlow("client_credentials", ``), "oauth.token_url: is missing"},
		{withFlow("service_account", ``), "oauth.token_url: is missing"},
		{withFlow("github_app", ``), "oauth.token_url: is missing"},
		{`{"name":"x","auth_type":"api_key","flows":["api_key","pkce"]}`, "oauth: is missing, which the flow pkce needs"},
		{`{"name":"x","auth_type":"api_key","flows":["pkce","api_key"],"oauth":{}}`, "flows.0: is \"pkce\", which does not go with auth_type api_key"},
		{section(`"device_authorization_url":"http://a.example.com"`), "x.json:3: oauth.device_authorization_url: must be https"},
		{section(`"revocation_url":"https://u:p@a.example.com"`), "x.json:3: oauth.revocation_url: is no address"},
		{section(`"revocation_url":"https://a.example.com#x"`), "oauth.revocation_url: is no address"},
		{section(`"revocation_url":"https://a.example.com/{tenant}"`), "oauth.revocation_url: has braces"},
		{section(`"revocation_url":"https://{client_id}.example.com/"`), "oauth.revocation_url: has braces"},
		{section(`"issuer":"http://a.example.com"`), "oauth.issuer: must be https"},
		{section(`"issuer":"https://a.example.com?x=1"`), "oauth.issuer: must not have a query"},
		{section(`"base_url":"https://a.example.com?"`), "oauth.base_url: must not have a query"},
		{section(`"base_url":"https://a.example.com","resource":"https://b.example.com/{base_url}"`), "oauth.resource: has braces"},
		{section(`"resource":"urn:thing"`), "oauth.resource: is no address"},
		{section(`"resource":"https://` + strings.Repeat("a", 2000) + `"`), "oauth.resource: is no address"},
		{section(`"scopes":["a\"b"]`), "x.json:3: oauth.scopes.0: is \"a\\\"b\", which is no scope"},
		{section(`"scopes":["a\u0000b"]`), "oauth.scopes.0"},
		{section(`"scopes":["ä"]`), "oauth.scopes.0"},
		{section(`"scopes":["` + strings.Repeat("x", 301) + `"]`), "oauth.scopes.0"},
		{section(`"scopes":["a,b"],"scope_separator":","`), "oauth.scopes.0: is \"a,b\", which holds the separator"},
		{section(`"scopes":["` + strings.Repeat("a1b2 ", 1) + strings.Join(manyScopes(300), " ") + `"]`), "oauth.scopes: are more than 256"},
		{section(`"scopes":"read"`), "oauth.scopes: must be a list, not a text"},
		{section(`"scope_separator":"&"`), "oauth.scope_separator: is \"&\""},
		{section(`"scope_param":"state"`), "oauth.scope_param: is \"state\""},
		{section(`"scope_param":"a b"`), "oauth.scope_param"},
		{section(`"pkce":"yes"`), "x.json:3: oauth.pkce: must be true or false, not a text"},
		{section(`"authorization_method":"digest"`), "oauth.authorization_method: is \"digest\""},
		{section(`"token_auth":"mtls"`), "oauth.token_auth: is \"mtls\""},
		{section(`"token_auth":"body","authorization_method":"basic"`), "oauth.authorization_method: is \"basic\", and token_auth"},
		{section(`"token_body":"xml"`), "oauth.token_body: is \"xml\""},
		{section(`"device_token_request":"xml"`), "oauth.device_token_request: is \"xml\""},
		{section(`"revocation":"nuke","revocation_url":"https://a.example.com/r"`), "oauth.revocation: is \"nuke\""},
		{section(`"revocation":"bearer"`), "oauth.revocation_url: is missing"},
		{section(`"authorization_params":["a"]`), "oauth.authorization_params: must be an object"},
		{section(`"authorization_params":{"a":1}`), "oauth.authorization_params.a: must be a text"},
		{section(`"authorization_params":{"a b":"c"}`), "oauth.authorization_params.a b: is no parameter's name"},
		{section(`"authorization_params":{"":"c"}`), "is no parameter's name"},
		{section(`"authorization_params":{"a":"\u001b[2J"}`), "oauth.authorization_params.a: is longer"},
		{section(`"token_params":{"a":"` + strings.Repeat("x", 1001) + `"}`), "oauth.token_params.a: is longer"},
		{section(`"token_params":{` + strings.TrimSuffix(manyPairs(33), ",") + `}`), "oauth.token_params: has more than 32"},
		{section(`"token_headers":{"A B":"x"}`), "oauth.token_headers.A B: names \"A B\", which is no header"},
		{section(`"token_headers":{"A\r\nB":"x"}`), "which is no header"},
		{section(`"token_headers":{"A":"x\r\nB: y"}`), "oauth.token_headers.A: gives a value"},
		{section(`"token_headers":{"A":"x\u0000"}`), "oauth.token_headers.A: gives a value"},
		{section(`"token_headers":{"Content-Length":"1"}`), "framing"},
		{section(`"token_headers":{"Host":"b.example.com"}`), "framing"},
		{section(`"token_headers":{"authorization":"Basic x"}`), "oauth.token_headers.authorization: names authorization, which is the login's own"},
		{section(`"token_headers":{"A":"1","a":"2"}`), "oauth.token_headers.a: is there twice"},
		{section(`"token_answer":{"access_token":"a..b"}`), "oauth.token_answer.access_token: is \"a..b\""},
		{section(`"token_answer":{"account_label":"a b"}`), "oauth.token_answer.account_label"},
		{section(`"token_answer":"access"`), "oauth.token_answer: must be an object, not a text"},
		{section(`"user_info":{"label":"name"}`), "oauth.user_info.url: is missing"},
		{section(`"user_info":{"url":"http://a.example.com","label":"name"}`), "oauth.user_info.url: must be https"},
		{userInfo(`"id":""`), "oauth.user_info.label: is missing"},
		{userInfo(`"id":"a b"`), "oauth.user_info.id: is \"a b\""},
		{userInfo(`"label":["a",".b"]`), "oauth.user_info.label.1: is \".b\""},
		{userInfo(`"label":7`), "oauth.user_info.label: must be a text or a list"},
		{userInfo(`"label":"a","method":"DELETE"`), "oauth.user_info.method: is \"DELETE\""},
		{userInfo(`"label":"a","body":{}`), "oauth.user_info.body: needs the method POST"},
		{userInfo(`"label":"a","method":"POST","body":"{"`), "oauth.user_info.body: is neither JSON"},
		{userInfo(`"label":"a","method":"POST","body":["` + strings.Repeat("x", 5000) + `"]`), "oauth.user_info.body: is longer"},
		{userInfo(`"label":"a","headers":{"Cookie":"a=b"}`), "oauth.user_info.headers.Cookie"},
		{section(`"redirect_uri":"https://evil.example/auth/callback/oauth"`), "oauth.redirect_uri: may be"},
		{section(`"redirect_uri":"http://localhost:7998.evil.example/auth/callback/oauth"`), "oauth.redirect_uri: may be"},
		{section(`"redirect_uri":"http://localhost:80/auth/callback/oauth"`), "oauth.redirect_uri: may be"},
		{section(`"client_id":"a b"`), "oauth.client_id: is no client id"},
		{section(`"client_id":"a\u0000"`), "oauth.client_id: is no client id"},
		{`{"name":"x","auth_type":"api_key","self_managed":{"routes":[]}}`, "self_managed: needs oauth.base_url"},
		{own("", `"routes":[]`), "self_managed: needs oauth.base_url"},
		{own(base, `"routes":[{"host":"b.example.com","inject":[{"basic":"u:{token}"}]}]`), "self_managed.routes.0.host: must be {host}"},
		{own(base, `"routes":[{"host":"*.{host}","inject":[{"basic":"u:{token}"}]}]`), "self_managed.routes.0.host: must be {host}"},
		{own(base, `"routes":[{"host":["{host}"],"inject":[{"basic":"u:{token}"}]}]`), "self_managed.routes.0.host: must be {host}"},
		{own(base, `"routes":[{"host":"{host}","port":8443,"inject":[{"basic":"u:{token}"}]}]`), "self_managed.routes.0.port"},
		{own(base, `"routes":[{"host":"{host}"}]`), "self_managed.routes.0.inject: is missing"},
		{own(base, `"revocation_url":"https://b.example.com/revoke"`), "self_managed.revocation_url: must begin with {base_url}"},
		{own(base, `"user_info_url":"{base_url}/me"`), "self_managed.user_info_url: needs oauth.user_info"},
		{own(base, `"revocation_url":"{base_url}.evil.example/"`), "self_managed.revocation_url: must have a slash after {base_url}"},
		{section(base + `"revocation_url":"{base_url}@evil.example/"`), "oauth.revocation_url: must have a slash after {base_url}"},
		{section(`"revocation_url":"{base_url}.evil.example/"`), "oauth.revocation_url: must have a slash after {base_url}"},
		{`{"name":"x","auth_type":"oauth2","flow":"pkce","api_url":"{base_url}.evil.example","oauth":{` + base + endpoints + `}}`, "api_url: must have a slash after {base_url}"},
		{mixed(`{"header":"X","value":"{email} {access_token}"}`), "uses fields of keys and of access tokens together"},
		{mixed(`{"header":"X","value":"{nothing}"}`), "uses {nothing}"},
		{mixed(`{"basic":"{email}:{pat}"},{"header":"authorization","value":"Basic {pat}"}`), "routes.0.inject.1: fills authorization"},
		{mixed(`{"header":"X","value":"{token}"},{"header":"X","value":"Bearer {access_token}"}`), "routes.0.inject.1: fills X"},
	}
	for _, tt := range tests {
		_, err := Parse("x.json", []byte(tt.text))
		if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "x.json:") {
			t.Errorf("%.200s: error %v, want one that names x.json and %q", tt.text, err, tt.want)
		}
		if err != nil && (authsome.HintOf(err) == "" || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\r\n\x1b")) {
			t.Errorf("%.80s: no hint, or an error that fills the screen: %q", tt.text, err)
		}
	}
	// One header for each kind of credential is no clash.
	p, err := Parse("x.json", []byte(mixed(`{"basic":"{email}:{pat}"},{"header":"Authorization","value":"Bearer {access_token}"}`)))
	if err != nil || len(p.Routes[0].Inject) != 2 {
		t.Errorf("a key and a token in the same header: %v", err)
	}
}

func manyScopes(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("s", i))
	}
	return out
}

func manyPairs(n int) string {
	var sb strings.Builder
	for i := range n {
		fmt.Fprintf(&sb, `"p%d":"v",`, i)
	}
	return sb.String()
}

// TestOAuthJSON: what is sealed with a connection comes back as it was.
func TestOAuthJSON(t *testing.T) {
	p := parseFile(t, "everything-oauth.jsonc")
	text, err := json.Marshal(p.OAuth)
	if err != nil {
		t.Fatal(err)
	}
	var again authsome.OAuth
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.OAuth, &again); diff != "" {
		t.Error(diff)
	}
}

// TestCheckRegistrableOAuth: the addresses of a login that secrets go to name a
// service for sure.
func TestCheckRegistrableOAuth(t *testing.T) {
	const endpoints = `"base_url":"https://a.example.com","authorization_url":"https://a.example.com/a","token_url":"https://a.example.com/t"`
	for more, want := range map[string]string{
		`"revocation_url":"https://127.0.0.1/r"`:                              "oauth.revocation_url: 127.0.0.1 is a bare IP address",
		`"device_authorization_url":"https://localhost/d"`:                    "oauth.device_authorization_url: localhost is this machine",
		`"user_info":{"url":"https://169.254.169.254/latest","label":"name"}`: "oauth.user_info.url: 169.254.169.254 is a bare IP address",
		`"user_info":{"url":"{base_url}/me","label":"name"}`:                  "",
		`"revocation_url":"https://api.a.example.com/{client_id}/token"`:      "",
	} {
		p, err := Parse("x.json", []byte(`{"name":"x","auth_type":"oauth2","flow":"pkce","api_url":"api.example.com","oauth":{`+endpoints+`,`+more+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		switch err := CheckRegistrable(p); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", more, err)
		case want != "" && (authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", more, err, want)
		}
	}
}

// TestBundledOAuth: the bundled definitions can be logged in to by each of their
// flows, and what a login yields goes somewhere.
func TestBundledOAuth(t *testing.T) {
	c := NewCatalog()
	n := 0
	site := func(address string) string {
		u, err := url.Parse(strings.Replace(address, baseURL, "https://base.example", 1))
		if err != nil {
			t.Fatal(err)
		}
		for _, owner := range answeredByOwner {
			if strings.HasSuffix("."+u.Hostname(), "."+owner) {
				return owner
			}
		}
		domain, err := publicsuffix.EffectiveTLDPlusOne(u.Hostname())
		if err != nil {
			t.Fatal(err)
		}
		return domain
	}
	for _, p := range c.All() {
		if hasOAuth(p) != (p.OAuth != nil) {
			t.Errorf("%s: flows %v, but OAuth is %v", p.Name, p.Flows, p.OAuth)
		}
		if p.OAuth == nil {
			continue
		}
		n++
		var key, tokens bool
		for _, r := range append(slices.Clone(p.Routes), p.SelfManaged...) {
			for _, in := range r.Inject {
				k, o := fits(p, in)
				key, tokens = key || k, tokens || o
			}
		}
		if !tokens || p.Accepts(authsome.FlowAPIKey) && !key {
			t.Errorf("%s: no route takes its access tokens (%v) or its keys (%v)", p.Name, tokens, key)
		}
		o := p.OAuth
		if (o.BaseURL == "") != (len(p.SelfManaged) == 0) {
			t.Errorf("%s: base_url %q with %d routes for services of one's own", p.Name, o.BaseURL, len(p.SelfManaged))
		}
		if o.AppsURL == "" && !p.Accepts(authsome.FlowDCR) && !slices.Contains([]string{"fathom", "postiz", "ramp"}, p.Name) {
			t.Errorf("%s does not say where OAuth apps are created", p.Name)
		}
		if p.DocsURL == "" {
			t.Errorf("%s has no docs_url, where its facts are from", p.Name)
		}
		// The token is shown to nobody but the service.
		if u := o.UserInfo; u != nil {
			sites := []string{site(o.TokenURL)}
			for _, r := range p.Routes {
				sites = append(sites, site("https://"+strings.TrimPrefix(r.Host, "*.")))
			}
			if !slices.Contains(sites, site(u.URL)) {
				t.Errorf("%s: its user-info request goes to %s, and nothing else of it does", p.Name, u.URL)
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d services have OAuth", n)
	}
	// What vendors do differently.
	for name, holds := range map[string]func(*authsome.OAuth) bool{
		"google": func(o *authsome.OAuth) bool {
			return slices.Equal(o.AuthorizeParams, []authsome.Param{{Name: "access_type", Value: "offline"}, {Name: "prompt", Value: "consent"}})
		},
		"atlassian": func(o *authsome.OAuth) bool {
			return slices.Equal(o.AuthorizeParams, []authsome.Param{{Name: "audience", Value: "api.atlassian.com"}, {Name: "prompt", Value: "consent"}}) && o.TokenBody == authsome.EncodeJSON
		},
		"notion": func(o *authsome.OAuth) bool {
			return o.TokenAuth == authsome.ClientBasic && o.TokenBody == authsome.EncodeJSON && len(o.TokenHeaders) == 1
		},
		"slack": func(o *authsome.OAuth) bool {
			return o.ScopeSeparator == "," && o.ScopeParam == "user_scope" && o.Answer.AccessToken == "authed_user.access_token" && !o.PKCE
		},
		"dropbox": func(o *authsome.OAuth) bool {
			return slices.Contains(o.AuthorizeParams, authsome.Param{Name: "token_access_type", Value: "offline"})
		},
		"reddit": func(o *authsome.OAuth) bool {
			return slices.Contains(o.AuthorizeParams, authsome.Param{Name: "duration", Value: "permanent"}) && o.TokenAuth == authsome.ClientBasic
		},
		"github": func(o *authsome.OAuth) bool {
			return o.Revocation == authsome.RevokeGitHub && o.SelfManaged != nil && o.DeviceURL != ""
		},
		"x": func(o *authsome.OAuth) bool {
			return o.TokenAuth == authsome.ClientBasic && slices.Contains(o.Scopes, "offline.access")
		},
		"postiz": func(o *authsome.OAuth) bool { return o.DeviceBody == authsome.EncodeJSON },
	} {
		if p, ok := c.Get(name); !ok || p.OAuth == nil || !holds(p.OAuth) {
			t.Errorf("%s is not as its vendor wants it", name)
		}
	}
	if p, _ := c.Get("zoho-crm"); p == nil || p.Routes[0].Inject[0].Value != "Zoho-oauthtoken {token}" {
		t.Error("Zoho's tokens are no bearers")
	}
	// One consent screen app serves the whole family: the addresses by which a
	// client is stored are the same.
	for family, first := range map[string]string{"google-": "google", "microsoft-": "microsoft"} {
		a, _ := c.Get(first)
		for _, p := range c.All() {
			if !strings.HasPrefix(p.Name, family) || p.Name == "google-cloud" {
				continue
			}
			if o := p.OAuth; o.Issuer != a.OAuth.Issuer || o.AuthorizationURL != a.OAuth.AuthorizationURL || o.TokenURL != a.OAuth.TokenURL ||
				o.DeviceURL != a.OAuth.DeviceURL || o.RevocationURL != a.OAuth.RevocationURL || o.Resource != a.OAuth.Resource {
				t.Errorf("%s would ask for another OAuth app than %s", p.Name, first)
			}
		}
	}
}

// TestFieldsAreDescribed: every field that the loader reads is in schema.json
// and in docs/providers.md, there also in an example.
func TestFieldsAreDescribed(t *testing.T) {
	schema, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	prose, examples := string(page), ""
	for _, b := range regexp.MustCompile("(?ms)^```jsonc? .*?^```$").FindAllString(prose, -1) {
		examples += b
		prose = strings.Replace(prose, b, "", 1)
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			field := typ.Field(i)
			name := field.Tag.Get("json")
			if !strings.Contains(string(schema), `"`+name+`": {`) {
				t.Errorf("schema.json does not have %s", name)
			}
			if !regexp.MustCompile("\\b" + name + "\\b").MatchString(prose) {
				t.Errorf("docs/providers.md does not explain %s", name)
			}
			// Those of the older name, of single flows, and of the scanner.
			if !slices.Contains([]string{"authorization_method", "supports_device_code", "env_var"}, name) && !strings.Contains(examples, `"`+name+`":`) {
				t.Errorf("docs/providers.md has no example of %s", name)
			}
			walk(field.Type)
		}
	}
	walk(reflect.TypeFor[file]())
}
