package provider

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/tailscale/hujson"

	"github.com/authsome/authsome"
)

// validate holds a definition to schema.json.
func validate(t *testing.T, text []byte) error {
	t.Helper()
	data, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	standard, err := hujson.Standardize(text)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(standard, &v); err != nil {
		t.Fatal(err)
	}
	return resolved.Validate(v)
}

// TestSchema: the bundled definitions and the files of the tests are what
// schema.json describes, and it refuses what Parse refuses, as far as a schema
// can.
func TestSchema(t *testing.T) {
	files, _ := filepath.Glob("defs/*.jsonc")
	more, _ := filepath.Glob("testdata/files/*")
	for _, f := range append(files, more...) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, data); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	for _, bad := range []string{
		`{}`, `{"name":"x"}`, `{"name":"x","auth_type":"magic"}`, `{"name":"a b","auth_type":"api_key"}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h"}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"header":"X"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"header":"X","value":"fixed"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"query":"a b","value":"{token}"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"query":"a","header":"X","value":"{token}"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"query":"a"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"cookie":"a;b","value":"{token}"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"path":"/bot"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"path":"/bot{token}","value":"{token}"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"json":"a..b","value":"{token}"}]}]}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"h","inject":[{"form":"a&b","value":"{token}"}]}]}`,
		`{"name":"x","auth_type":"api_key","api_url":7}`,
		`{"name":"x","auth_type":"api_key","flows":["telepathy"]}`,
		`{"name":"x","auth_type":"api_key","export":{"A":7}}`,
		`{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{"token_url":"http://x"}}`,
		`{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{"authorization_url":"https://x.example/a","token_url":"https://x.example/t","token_auth":"mtls"}}`,
		`{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{"authorization_url":"https://x.example/a","token_url":"https://x.example/t","token_params":{"a":1}}}`,
		`{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{"authorization_url":"https://x.example/a","token_url":"https://x.example/t","user_info":{"label":"a"}}}`,
		`{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{"authorization_url":"https://x.example/a","token_url":"https://x.example/t","redirect_uri":"https://x.example"}}`,
		`{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{"base_url":"https://x.example","authorization_url":"{base_url}/a","token_url":"{base_url}/t"},
			"self_managed":{"routes":[{"host":"y.example","inject":[{"basic":"u:{token}"}]}]}}`,
	} {
		if validate(t, []byte(bad)) == nil {
			t.Errorf("the schema accepts %s", bad)
		}
		if _, err := Parse("x.json", []byte(bad)); err == nil {
			t.Errorf("Parse accepts %s", bad)
		}
	}
}

func parseFile(t *testing.T, name string) *authsome.Provider {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "files", name))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func hosts(p *authsome.Provider) (out []string) {
	for _, r := range p.Routes {
		h := r.Host
		if r.Port != 0 {
			h = fmt.Sprintf("%s:%d", h, r.Port)
		}
		out = append(out, h+r.Path)
	}
	return out
}

// TestVersion1 loads files as the Python authsome's users have them.
func TestVersion1(t *testing.T) {
	p := parseFile(t, "v1-key.json")
	if want := (authsome.Injection{Slot: authsome.SlotHeader, Name: "X-Acme-Key", Value: "{token}", When: authsome.Always}); p.Routes[0].Inject[0] != want {
		t.Errorf("injection %+v", p.Routes[0].Inject[0])
	}
	if !slices.Equal(hosts(p), []string{"api.acme.example/v2"}) || p.Key.Fields[0].Pattern != "^ak_[a-z0-9]+$" {
		t.Errorf("routes %v, key %+v", hosts(p), p.Key)
	}
	if want := []authsome.EnvVar{{Name: "ACME_KEY", Field: authsome.FieldToken}, {Name: "ACME_URL", URL: "https://api.acme.example/v2"}}; !slices.Equal(p.Env, want) {
		t.Errorf("environment %+v", p.Env)
	}
	if !strings.Contains(string(p.Definition), `"x_unknown":{"kept":true}`) {
		t.Errorf("an unknown field is lost: %s", p.Definition)
	}

	p = parseFile(t, "v1-oauth.json")
	if !slices.Equal(p.Flows, []authsome.Flow{authsome.FlowPKCE}) || p.AuthType != authsome.AuthOAuth2 {
		t.Errorf("flows %v", p.Flows)
	}
	if want := (&authsome.OAuth{
		BaseURL: "https://git.acme.example", AuthorizationURL: "{base_url}/oauth/authorize", TokenURL: "{base_url}/oauth/token",
		Scopes: []string{"read", "write"}, PKCE: true,
	}); cmp.Diff(want, p.OAuth) != "" {
		t.Error(cmp.Diff(want, p.OAuth))
	}
	// What is written with {base_url} is at the person's own service, too.
	if len(p.SelfManaged) != 1 || p.SelfManaged[0].Host != "{host}" || p.SelfManaged[0].Path != "/api" || len(p.SelfManaged[0].Inject) != 1 {
		t.Errorf("self-managed %+v", p.SelfManaged)
	}
	if !slices.Equal(hosts(p), []string{"git.acme.example/api", "*.acme.example"}) {
		t.Errorf("routes %v", hosts(p))
	}
	// Host and path must both be the OAuth endpoint's.
	if !slices.Contains(p.Routes[0].Except, "/oauth/token") || !slices.Contains(p.Routes[1].Except, "/oauth/token") {
		t.Errorf("exceptions %v", p.Routes)
	}
	if want := []authsome.EnvVar{{Name: "ACME_ACCESS_TOKEN", Field: authsome.FieldToken}, {Name: "ACME_BASE", URL: "https://git.acme.example"}}; !slices.Equal(p.Env, want) {
		t.Errorf("environment %+v: the older form of export is misread, or a refresh token is exported", p.Env)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "*.example.com") {
		t.Errorf("warnings %v", p.Warnings)
	}
}

func TestEverything(t *testing.T) {
	p := parseFile(t, "everything.jsonc")
	want := []authsome.Route{
		{
			Host: "api.everything.example", Path: "/v1", Methods: []string{"GET", "POST"}, Strip: []string{"X-Other-Key"},
			Inject: []authsome.Injection{
				{Slot: authsome.SlotHeader, Name: "X-Key", Value: "{api_key}", When: authsome.Always},
				{Slot: authsome.SlotHeader, Name: "X-App", Value: "app {app_key}", When: authsome.OnPlaceholder},
			},
		},
		{
			Host: "*.git.everything.example", Port: 8443,
			Inject: []authsome.Injection{{Slot: authsome.SlotBasic, Name: "Authorization", Value: "{account}:{api_key}", When: authsome.OnChallenge}},
		},
		{
			Host: "git.everything.example", Port: 8443,
			Inject: []authsome.Injection{{Slot: authsome.SlotBasic, Name: "Authorization", Value: "{account}:{api_key}", When: authsome.OnChallenge}},
		},
	}
	if diff := cmp.Diff(want, p.Routes); diff != "" {
		t.Error(diff)
	}
	if len(p.Key.Fields) != 3 || !p.Key.Fields[0].Public || p.Key.Fields[1].Public {
		t.Errorf("fields %+v", p.Key.Fields)
	}
}

// TestForms: the spellings that files of either generation use.
func TestForms(t *testing.T) {
	const key = `"name":"acme-1","auth_type":"api_key"`
	tests := []struct {
		name, text  string
		hosts, env  string
		value, warn string // of the first injection; a part of the warnings
	}{
		{"the least", `{` + key + `}`, "", "ACME_1_API_KEY=token", "", "no api_url"},
		{"null everywhere", `{` + key + `,"schema_version":null,"display_name":null,"flow":null,"flows":null,"api_url":null,"oauth":null,
			"api_key":null,"registration":null,"export":null,"routes":null,"docs_url":null}`, "", "ACME_1_API_KEY=token", "", "no api_url"},
		{"null inside", `{` + key + `,"api_url":["a.example.com",null],"api_key":{"header_name":null,"header_prefix":null,"key_pattern":null,
			"key_pattern_hint":null,"env_var":null,"fields":null},"export":{"A":null,"B":"API_TOKEN"}}`, "a.example.com", "B=token", "{token}", ""},
		{"empty prefix", `{` + key + `,"api_url":"a.example.com","api_key":{"header_prefix":""}}`, "a.example.com", "ACME_1_API_KEY=token", "{token}", ""},
		{"no prefix given", `{` + key + `,"api_url":"a.example.com","api_key":{"header_name":"X-Key"}}`, "a.example.com", "ACME_1_API_KEY=token", "Bearer {token}", ""},
		{"host with port", `{` + key + `,"api_url":"A.Example.com.:8443"}`, "a.example.com:8443", "ACME_1_API_KEY=token", "Bearer {token}", ""},
		{"usual port", `{` + key + `,"api_url":"https://a.example.com:443/"}`, "a.example.com", "ACME_1_API_KEY=token", "Bearer {token}", ""},
		{"prefix with a star", `{` + key + `,"api_url":"a.example.com/api/*"}`, "a.example.com/api", "ACME_1_API_KEY=token", "Bearer {token}", ""},
		{"wildcard with path", `{` + key + `,"api_url":"https://*.example.com/api/0/"}`, "*.example.com/api/0", "ACME_1_API_KEY=token", "Bearer {token}", ""},
		{"international", `{` + key + `,"api_url":"https://münchen.example/ä"}`, "xn--mnchen-3ya.example/%C3%A4", "ACME_1_API_KEY=token", "Bearer {token}", ""},
		{
			"export, older", `{` + key + `,"api_url":"a.example.com","export":{"env":{"api_key":"K","refresh_token":"R","access_token":null}}}`,
			"a.example.com", "K=token", "Bearer {token}", "",
		},
		{
			"export of addresses", `{` + key + `,"api_url":"https://a.example.com:8443/v1","export":{"U":"API_URL","B":"BASE_URL"}}`,
			"a.example.com:8443/v1", "U=https://a.example.com:8443/v1 B=https://a.example.com:8443/v1", "Bearer {token}", "",
		},
		{
			"export of what is not there", `{` + key + `,"api_url":"a.example.com","export":{"K":"API_TOKEN","X":"SOMETHING"}}`,
			"a.example.com", "K=token", "Bearer {token}", "export of X",
		},
		{
			"refresh tokens stay inside", `{` + key + `,"api_url":"a.example.com","export":{"K":"API_TOKEN","R":"REFRESH_TOKEN"}}`,
			"a.example.com", "K=token", "Bearer {token}", "",
		},
		{"env_var", `{` + key + `,"api_url":"a.example.com","api_key":{"env_var":"SCANNED"}}`, "a.example.com", "SCANNED=token", "Bearer {token}", ""},
		{
			"several keys", `{` + key + `,"api_key":{"fields":[{"name":"a"},{"name":"api_key"}]},"api_url":"a.example.com"}`,
			"a.example.com", "ACME_1_A=a ACME_1_API_KEY=api_key", "Bearer {token}", "",
		},
		{
			"base_url missing", `{"name":"ghe","auth_type":"oauth2","flow":"pkce","api_url":"{base_url}/api","oauth":{"authorization_url":"{base_url}/a","token_url":"{base_url}/t"}}`,
			"", "GHE_ACCESS_TOKEN=token", "", "base_url is missing",
		},
		{
			"routes before api_url", `{` + key + `,"api_url":"a.example.com","routes":[{"host":"b.example.com","path":"/","port":443,"inject":[{"header":"X","value":"{token}"}]}]}`,
			"b.example.com", "ACME_1_API_KEY=token", "{token}", "",
		},
		{
			"token or OAuth", `{"name":"both","auth_type":"oauth2","flow":"pkce","api_url":"a.example.com","api_key":{},"oauth":{"authorization_url":"https://x.example.com/a","token_url":"https://x.example.com/t"}}`,
			"a.example.com", "BOTH_ACCESS_TOKEN=token", "Bearer {token}", "",
		},
		{
			"browser", `{"name":"b","auth_type":"browser","flow":"browser","api_url":"a.example.com","browser":{"domains":["x"]}}`,
			"a.example.com", "B_ACCESS_TOKEN=token", "Bearer {token}", "no way to log in",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse("x.jsonc", []byte("\xef\xbb\xbf// a comment\n"+tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(t, []byte(tt.text)); err != nil {
				t.Errorf("schema.json: %v", err)
			}
			var env []string
			for _, e := range p.Env {
				env = append(env, e.Name+"="+e.Field+e.URL)
			}
			if got := strings.Join(hosts(p), " "); got != tt.hosts {
				t.Errorf("hosts %q, want %q", got, tt.hosts)
			}
			if got := strings.Join(env, " "); got != tt.env && tt.name != "browser" {
				t.Errorf("variables %q, want %q", got, tt.env)
			}
			if len(p.Routes) > 0 && p.Routes[0].Inject[0].Value != tt.value {
				t.Errorf("value %q, want %q", p.Routes[0].Inject[0].Value, tt.value)
			}
			if got := strings.Join(p.Warnings, "; "); !strings.Contains(got, tt.warn) || tt.warn == "" && got != "" {
				t.Errorf("warnings %q, want %q", got, tt.warn)
			}
		})
	}
	p, err := Parse("x.json", []byte(`{"name":"both","auth_type":"oauth2","flow":"pkce","api_key":{},"oauth":{"authorization_url":"https://x.example.com/a","token_url":"https://x.example.com/t"}}`))
	if err != nil || !slices.Equal(p.Flows, []authsome.Flow{authsome.FlowPKCE, authsome.FlowAPIKey}) || p.AuthType != authsome.AuthOAuth2 {
		t.Errorf("a token beside OAuth: flows %v, %s, %v", p.Flows, p.AuthType, err)
	}
}

// TestPlaces: every kind of place, as a definition writes it.
func TestPlaces(t *testing.T) {
	for text, want := range map[string]authsome.Injection{
		`{"header":"X-Key","value":"k {token}"}`:                        {Slot: authsome.SlotHeader, Name: "X-Key", Value: "k {token}"},
		`{"basic":"{token}:"}`:                                          {Slot: authsome.SlotBasic, Name: "Authorization", Value: "{token}:"},
		`{"basic":"x-access-token:{token}","when":"challenge"}`:         {Slot: authsome.SlotBasic, Name: "Authorization", Value: "x-access-token:{token}", When: authsome.OnChallenge},
		`{"query":"$api_key.v-1~","value":"{token}"}`:                   {Slot: authsome.SlotQuery, Name: "$api_key.v-1~", Value: "{token}"},
		`{"query":"key","value":"{token}","when":"challenge"}`:          {Slot: authsome.SlotQuery, Name: "key", Value: "{token}", When: authsome.OnChallenge},
		`{"path":"/bot{token}"}`:                                        {Slot: authsome.SlotPath, Name: "/bot{}", Value: "{token}"},
		`{"path":"/v1/k-{user}:{token}.json","when":"placeholder"}`:     {Slot: authsome.SlotPath, Name: "/v1/k-{}.json", Value: "{user}:{token}", When: authsome.OnPlaceholder},
		`{"cookie":"__Host-session","value":"v1.{token}"}`:              {Slot: authsome.SlotCookie, Name: "__Host-session", Value: "v1.{token}"},
		`{"json":"auth.@key","value":"{token}","when":"placeholder"}`:   {Slot: authsome.SlotJSON, Name: "auth.@key", Value: "{token}", When: authsome.OnPlaceholder},
		`{"form":"api_key","value":"{user}/{token}","when":"always"}`:   {Slot: authsome.SlotForm, Name: "api_key", Value: "{user}/{token}"},
		`{"form":"api_key","value":"{token}","when":"placeholder"}`:     {Slot: authsome.SlotForm, Name: "api_key", Value: "{token}", When: authsome.OnPlaceholder},
		`{"header":"Cookie","value":"session={token}","when":"always"}`: {Slot: authsome.SlotHeader, Name: "Cookie", Value: "session={token}"},
		`{"cookie":"session","value":"{token}","when":"challenge"}`:     {Slot: authsome.SlotCookie, Name: "session", Value: "{token}", When: authsome.OnChallenge},
		`{"header":"Authorization","value":"Bearer {token}","when":""}`: {Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	} {
		def := `{"name":"x","auth_type":"api_key","api_key":{"fields":[{"name":"user"},{"name":"token"}]},"routes":[{"host":"a.example.com","inject":[` + text + `]}]}`
		if want.When == "" {
			want.When = authsome.Always
		}
		p, err := Parse("x.json", []byte(def))
		if err != nil || p.Routes[0].Inject[0] != want {
			t.Errorf("%s: %v, %+v", text, err, p)
		}
		if err := validate(t, []byte(def)); err != nil {
			t.Errorf("%s: the schema says %v", text, err)
		}
	}
}

// TestBroken: what is wrong is named with file, line and field.
func TestBroken(t *testing.T) {
	key := func(more string) string { return `{"name":"x","auth_type":"api_key",` + more + `}` }
	oauth := func(more string) string {
		return "{\"name\":\"x\",\"auth_type\":\"oauth2\",\"flow\":\"pkce\",\"oauth\":{\n\"authorization_url\":\"https://a.example.com/a\",\n" + more + "}}"
	}
	inject := func(in string) string { return key(`"routes":[{"host":"a.example.com","inject":[` + in + `]}]`) }
	tests := []struct{ text, want string }{
		{"", "x.json:1: it is not valid JSON"},
		{"{\n\"name\": }", "x.json:2: it is not valid JSON"},
		{"[]", "x.json:1: it is not a JSON object"},
		{"null", "not a JSON object"},
		{strings.Repeat("[", maxFile), "x.json:1: it is nested more than 64"},
		{strings.Repeat(`{"a":`, maxFile/8), "nested"},
		{`{"a":` + strings.Repeat(`["]","\"]",/*]*/`, maxFile/32), "nested"},
		{`{"name":"x","auth_type":"api_key",` + "\n" + `"name":"y"}`, "x.json:2: name: is there twice"},
		{`{"name":"x","auth_type":"api_key","api_url":"a.example.com","API_URL":"b.example.com"}`, "API_URL: is there twice"},
		{`{"name":"x","auth_type":"api_key","routes":null,"route\u017f":null}`, "is there twice"},
		{key(`"export":{"A":"API_TOKEN","A":"API_URL"}`), "export.A: is there twice"},
		{key(`"x":[{},{"a":1,"\u0061":2}]`), "x.1.a: is there twice"},
		{`{"auth_type":"api_key"}`, "x.json:1: name: is missing"},
		{`{"name":"x"}`, "auth_type: is missing"},
		{`{"name":"../x","auth_type":"api_key"}`, "name: is"},
		{`{"name":"a..b","auth_type":"api_key"}`, "name: is"},
		{`{"name":"` + strings.Repeat("a", 65) + `","auth_type":"api_key"}`, "name: is"},
		{`{"name":"x\ny","auth_type":"api_key"}`, "name: is"},
		{`{"schema_version":9,"name":"x","auth_type":"api_key"}`, "schema_version: is 9"},
		{`{"name":"x","auth_type":"magic"}`, "auth_type: is \"magic\""},
		{key(`"flow":"pkce"`), "flow: is \"pkce\", which does not go with auth_type api_key"},
		{key(`"flow":"telepathy"`), "flow: is \"telepathy\", which is no flow"},
		{key(`"flows":["api_key","api_key"]`), "flows.1: names api_key a second time"},
		{key(`"flow":"pkce","flows":["api_key"]`), "flow: is \"pkce\", but the first of flows"},
		{key(`"flows":["api_key","telepathy"]`), "flows.1: is \"telepathy\""},
		{`{"name":"x","auth_type":"oauth2"}`, "flow: is missing"},
		{`{"name":"x","auth_type":"oauth2","flow":"pkce"}`, "oauth: is missing"},
		{`{"name":"x","auth_type":"oauth2","flow":"api_key"}`, "flow: is api_key"},
		{oauth(`"token_url":"http://a.example.com/t"`), "x.json:3: oauth.token_url: must be https"},
		{oauth(`"token_url":"a.example.com/t"`), "x.json:3: oauth.token_url: is no address"},
		{oauth(`"token_url":"https://user:pw@a.example.com/t"`), "oauth.token_url: is no address"},
		{oauth(`"token_url":"https://0x7f.1/t"`), "oauth.token_url: has no usable host"},
		{oauth(`"token_url":"https://a.example.com/t","revocation_url":"http://a.example.com"`), "oauth.revocation_url: must be https"},
		{oauth(`"scopes":[]`), "x.json:1: oauth.token_url: is missing"},
		{`{"name":"x","auth_type":"oauth2","flow":"dcr_pkce","oauth":{},"registration":{"registration_endpoint":"http://a.example.com"}}`, "registration.registration_endpoint: must be https"},
		{oauth(`"base_url":"http://a.example.com","token_url":"{base_url}/t"`), "oauth.base_url: must be https"},
		{oauth(`"token_url":7`), "x.json:3: oauth.token_url: must be a text, not a number"},
		{"{\"name\":\"x\",\n\"auth_type\":\"api_key\",\n\"api_url\":\"http://api.example.com\"}", "x.json:3: api_url: begins with http://"},
		{key(`"api_url":["api.example.com","*.com"]`), "api_url.1: cannot be routed"},
		{key(`"api_url":"*.github.io"`), "anybody can have a name under github.io"},
		{key(`"api_url":"*.co.uk"`), "api_url: cannot be routed"},
		{key(`"api_url":"*"`), "api_url: cannot be routed"},
		{key(`"api_url":"https://user:pw@api.example.com"`), "api_url: is no address"},
		{key(`"api_url":"https://api.example.com?x=1"`), "api_url: is no address"},
		{key(`"api_url":"api.example.com:99999"`), "api_url: cannot be routed"},
		{key(`"api_url":"https://api.example.com/..%2fx"`), "api_url: cannot be routed"},
		{key(`"api_url":"https://0x7f.1/"`), "api_url: cannot be routed"},
		{key(`"api_url":7`), "api_url: must be a text or a list of texts"},
		{key(`"api_url":["a.example.com",7]`), "api_url: must be a text or a list of texts"},
		{`{"name":7,"auth_type":"api_key"}`, "x.json:1: name: must be a text, not a number"},
		{key("\n\"api_key\":{\n\"header_name\":{}}"), "x.json:3: api_key.header_name: must be a text, not an object"},
		{key(`"api_key":{"key_pattern":"("}`), "api_key.key_pattern: is no regular expression"},
		{key(`"api_key":{"key_pattern":"(?=x)"}`), "api_key.key_pattern: is no regular expression"},
		{key(`"api_key":{"key_pattern":"a)(b"}`), "api_key.key_pattern: is no regular expression"},
		{key(`"api_key":{"key_pattern":"` + strings.Repeat("a", 1001) + `"}`), "api_key.key_pattern: is no regular expression"},
		{key(`"api_key":{"key_pattern_hint":"\u001b[2J"}`), "api_key.key_pattern_hint: is longer"},
		{key(`"api_url":"a.example.com","api_key":{"header_name":"Host"}`), "api_key.header_name: names Host"},
		{key(`"api_url":"a.example.com","api_key":{"header_name":"content-length"}`), "framing"},
		{key(`"api_url":"a.example.com","api_key":{"header_name":"Proxy-Anything"}`), "framing"},
		{key(`"api_url":"a.example.com","api_key":{"header_name":"X Y"}`), "no header"},
		{key(`"api_url":"a.example.com","api_key":{"header_prefix":"a\r\nX: y"}`), "no header may have"},
		{key(`"api_url":"a.example.com","api_key":{"header_prefix":"{account}"}`), "api_key.header_prefix: holds braces"},
		{key(`"api_url":"a.example.com","api_key":{"fields":[{"name":"a"},{"name":"b"}]}`), "api_key: gives one header to several keys"},
		{key(`"routes":[{"host":"a.example.com"}]`), "routes.0.inject: is missing"},
		{key(`"routes":[{"inject":[{"basic":"u:{token}"}]}]`), "routes.0.host: is missing"},
		{key(`"routes":[{"host":["a.example.com","*.co.uk"],"inject":[{"basic":"u:{token}"}]}]`), "routes.0.host.1: cannot be routed"},
		{key(`"routes":[{"host":"a.example.com","port":70000,"inject":[{"basic":"u:{token}"}]}]`), "routes.0.port"},
		{key(`"routes":[{"host":"a.example.com","path":"v1","inject":[{"basic":"u:{token}"}]}]`), "routes.0.path"},
		{key(`"routes":[{"host":"a.example.com","path":"/x/..%2fv1","inject":[{"basic":"u:{token}"}]}]`), "routes.0.path"},
		{key(`"routes":[{"host":"a.example.com","strip":["Content-Length"],"inject":[{"basic":"u:{token}"}]}]`), "routes.0.strip.0: names Content-Length"},
		{key(`"routes":[{"host":"a.example.com","strip":["A B"],"inject":[{"basic":"u:{token}"}]}]`), "routes.0.strip.0"},
		{key(`"routes":[{"host":"a.example.com","methods":["get"],"inject":[{"basic":"u:{token}"}]}]`), "routes.0.methods.0"},
		{inject(`{"header":"X","value":"fixed"}`), "routes.0.inject.0.value: does not say where"},
		{inject(`{"header":"X","value":"{nothing}"}`), "routes.0.inject.0.value: uses {nothing}"},
		{inject(`{"header":"X","value":"{access_token}"}`), "uses {access_token}"},
		{inject(`{"header":"X","value":"{token} }"}`), "braces"},
		{inject(`{"header":"X","value":"{token}\u0000"}`), "no header may have"},
		{inject(`{"header":"Transfer-Encoding","value":"{token}"}`), "routes.0.inject.0.header: names Transfer-Encoding"},
		{inject(`{"header":"X","value":"{token}"},{"header":"x","value":"a {token}"}`), "routes.0.inject.1: fills x"},
		{inject(`{"header":"X"}`), "routes.0.inject.0: needs either"},
		{inject(`{"basic":"{token}"}`), "routes.0.inject.0.basic: has no colon"},
		{inject(`{"basic":"u:{token}","when":"never"}`), "routes.0.inject.0.when"},
		{inject(`{"header":"Host","value":"{token}"}`), "inject.0.header: names Host, which is part of the message's framing"},
		{inject(`{"header":"host","value":"{token}"}`), "framing"},
		{inject(`{"header":"Content-Length","value":"{token}"}`), "names Content-Length"},
		{inject(`{"header":"CONNECTION","value":"{token}"}`), "names CONNECTION"},
		{inject(`{"header":"Keep-Alive","value":"{token}"}`), "names Keep-Alive"},
		{inject(`{"header":"TE","value":"{token}"}`), "names TE"},
		{inject(`{"header":"Trailer","value":"{token}"}`), "names Trailer"},
		{inject(`{"header":"Upgrade","value":"{token}"}`), "names Upgrade"},
		{inject(`{"header":"HTTP2-Settings","value":"{token}"}`), "names HTTP2-Settings"},
		{inject(`{"header":"Proxy-Authorization","value":"{token}"}`), "names Proxy-Authorization"},
		{inject(`{"header":"Proxy-Connection","value":"{token}"}`), "names Proxy-Connection"},
		{inject(`{"header":"Authsome-Connection","value":"{token}"}`), "names Authsome-Connection"},
		{inject(`{"header":"Content-Encoding","value":"{token}"}`), "names Content-Encoding"},
		{inject(`{"header":"Expect","value":"{token}"}`), "names Expect"},
		{inject(`{"header":":authority","value":"{token}"}`), "no header"},
		{inject(`{"header":":path","value":"{token}"}`), "no header"},
		{inject(`{"header":"X\r\nY","value":"{token}"}`), "no header"},
		{inject(`{"header":"X","query":"y","value":"{token}"}`), "routes.0.inject.0: needs either"},
		{inject(`{"basic":"u:{token}","value":"{token}"}`), "needs either"},
		{inject(`{"path":"/x{token}","value":"{token}"}`), "needs either"},
		{inject(`{"query":"key"}`), "needs either"},
		{inject(`{"value":"{token}"}`), "needs either"},
		{inject(`{"query":"a b","value":"{token}"}`), `inject.0.query: is "a b", which names no query slot`},
		{inject(`{"query":"a&b","value":"{token}"}`), "no query slot"},
		{inject(`{"query":"a=b","value":"{token}"}`), "no query slot"},
		{inject(`{"query":"a;b","value":"{token}"}`), "no query slot"},
		{inject(`{"query":"a%20b","value":"{token}"}`), "no query slot"},
		{inject(`{"query":"key[]","value":"{token}"}`), "no query slot"},
		{inject(`{"query":"` + strings.Repeat("a", 101) + `","value":"{token}"}`), "no query slot"},
		{inject(`{"query":"key","value":"{token}"},{"query":"key","value":"x{token}"}`), "routes.0.inject.1: fills key"},
		{inject(`{"query":"key","value":"{other}"}`), "inject.0.value: uses {other}"},
		{inject(`{"query":"key","value":"fixed"}`), "does not say where"},
		{inject(`{"cookie":"a b","value":"{token}"}`), "no cookie slot"},
		{inject(`{"cookie":"a;b","value":"{token}"}`), "no cookie slot"},
		{inject(`{"cookie":"a=b","value":"{token}"}`), "no cookie slot"},
		{inject(`{"cookie":"a","value":"x; {token}"}`), "no cookie may have"},
		{inject(`{"cookie":"a","value":"{token}"},{"header":"Cookie","value":"b={token}"}`), "the whole header Cookie"},
		{key(`"routes":[{"host":"a.example.com","strip_cookies":["a"],"inject":[{"header":"cookie","value":"b={token}"}]}]`), "the whole header Cookie"},
		{key(`"routes":[{"host":"a.example.com","strip_cookies":["a b"],"inject":[{"basic":"u:{token}"}]}]`), "routes.0.strip_cookies.0"},
		{key(`"routes":[{"host":"a.example.com","strip_query":["ok","a&b"],"inject":[{"basic":"u:{token}"}]}]`), "routes.0.strip_query.1"},
		{inject(`{"json":"a..b","value":"{token}"}`), "no json slot"},
		{inject(`{"json":".a","value":"{token}"}`), "no json slot"},
		{inject(`{"json":"a b","value":"{token}"}`), "no json slot"},
		{inject(`{"json":"a\"b","value":"{token}"}`), "no json slot"},
		{inject(`{"json":"a","value":"{token}"},{"json":"a.b","value":"{token}"}`), "inject.1.json: is a.b, and another element's a"},
		{inject(`{"json":"a","value":"{token}","when":"challenge"}`), "inject.0.when: is challenge, which a json slot cannot be"},
		{inject(`{"form":"a","value":"{token}","when":"challenge"}`), "a form slot cannot be"},
		{inject(`{"form":"a[b]","value":"{token}"}`), "no form slot"},
		{inject(`{"path":"/bot{token}","when":"challenge"}`), "a path slot cannot be"},
		{inject(`{"path":"/bot"}`), "inject.0.path: does not say where"},
		{inject(`{"path":"bot{token}"}`), "must be a normal path"},
		{inject(`{"path":"/bot{token}/getMe"}`), "must be a normal path"},
		{inject(`{"path":"/{token}/{token}"}`), "must be a normal path"},
		{inject(`{"path":"/../{token}"}`), "must be a normal path"},
		{inject(`{"path":"/a?b={token}"}`), "must be a normal path"},
		{inject(`{"path":"/a%2e{token}"}`), "must be a normal path"},
		{inject(`{"path":"/bot{other}"}`), "uses {other}"},
		{inject(`{"path":"/bot{token}x}"}`), "braces"},
		{key(`"routes":[{"host":"a.example.com","path":"/api","inject":[{"path":"/bot{token}"}]}]`), "inject.0.path: is outside the path of its route, /api"},
		{key(`"export":{"LD_PRELOAD":"API_TOKEN"}`), "export.LD_PRELOAD: names the variable LD_PRELOAD"},
		{key(`"export":{"https_proxy":"BASE_URL"}`), "export.https_proxy"},
		{key(`"export":{"AUTHSOME_HOME":"API_TOKEN"}`), "export.AUTHSOME_HOME"},
		{key(`"export":{"A B":"API_TOKEN"}`), "export.A B: names the variable"},
		{key(`"export":{"A":7}`), "export.A: must be the name of a field"},
		{key(`"export":{"env":{"api_key":7}}`), "export.env.api_key: must be the name of a variable"},
		{key(`"export":[]`), "export: must be an object"},
		{key(`"api_key":{"fields":[{"name":"a"},{"name":"a"}]}`), "api_key.fields.1.name: is a, as another"},
		{key(`"api_key":{"fields":[{"name":"a-b"}]}`), "api_key.fields.0.name"},
		{key(`"api_key":{"fields":[{"name":"refresh_token"}]}`), "api_key.fields.0.name"},
		{key(`"api_key":{"fields":[{"name":"a","pattern":"["}]}`), "api_key.fields.0.pattern"},
		{key(`"api_key":{"key_pattern":"a","fields":[{"name":"a"}]}`), "api_key.key_pattern: is for a single key"},
		{key(`"display_name":"a\u0000b"`), "display_name: is longer"},
		{key(`"display_name":"a\u202eb"`), "display_name: is longer"},
		{`{"name":"` + strings.Repeat("x", maxFile) + `"}`, "x.json: it is longer than 1 MiB"},
	}
	for _, tt := range tests {
		_, err := Parse("x.json", []byte(tt.text))
		if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "x.json:") {
			t.Errorf("%.120s: error %v, want one that names x.json and %q", tt.text, err, tt.want)
		}
		if err != nil && (authsome.HintOf(err) == "" || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\x1b")) {
			t.Errorf("%.80s: no hint, or an error that fills the screen: %q", tt.text, err)
		}
	}
}

func TestCheckRegistrable(t *testing.T) {
	for _, bad := range []string{"127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "localhost", "x.localhost", "localhost.localdomain", "intranet", "self-check.authsome.invalid", "*.github.io"} {
		err := CheckRegistrable(&authsome.Provider{Name: "x", Routes: []authsome.Route{{Host: bad}}})
		if authsome.CodeOf(err) != authsome.Invalid || authsome.HintOf(err) == "" || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, good := range []string{"api.example.com", "*.example.com", "me.github.io", "*.googleapis.com"} {
		if err := CheckRegistrable(&authsome.Provider{Name: "x", Routes: []authsome.Route{{Host: good}}}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	// Secrets go to the addresses of OAuth, too.
	for address, want := range map[string]string{
		"https://accounts.example.com/token": "",
		"https://localhost/token":            "oauth.token_url: localhost is this machine itself",
		"https://127.0.0.1:8443/token":       "oauth.token_url: 127.0.0.1 is a bare IP address",
		"https://[::1]/token":                "oauth.token_url: ::1 is a bare IP address",
		"https://auth/token":                 "oauth.token_url: auth is a short name",
	} {
		p, err := Parse("x.json", []byte(`{"name":"x","auth_type":"oauth2","flow":"pkce","api_url":"api.example.com",
			"oauth":{"authorization_url":"https://accounts.example.com/a","token_url":"`+address+`"}}`))
		if err != nil {
			t.Fatal(err)
		}
		switch err := CheckRegistrable(p); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", address, err)
		case want != "" && (authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

// TestDocumentation: what docs/providers.md shows is what Parse accepts.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "providers.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```jsonc? file=(\\S+)\n(.*?)^```$").FindAllSubmatch(text, -1)
	if len(blocks) < 3 {
		t.Fatalf("only %d definitions were found", len(blocks))
	}
	for _, b := range blocks {
		name, data := string(b[1]), b[2]
		p, err := Parse(name, data)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(p.Warnings) > 0 || len(p.Routes) == 0 {
			t.Errorf("%s: %d routes, warnings %v", name, len(p.Routes), p.Warnings)
		}
		if err := CheckRegistrable(p); err != nil {
			t.Error(err)
		}
		if err := validate(t, data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The table of expressions.
	rows := regexp.MustCompile("(?m)^\\| `regex:(\\S+)` \\| (.*) \\|$").FindAllSubmatch(text, -1)
	if len(rows) < 6 {
		t.Fatalf("only %d expressions were found", len(rows))
	}
	for _, r := range rows {
		hosts, _ := fromRegexp(strings.ReplaceAll(string(r[1]), `\|`, "|"))
		claimed, _, _ := strings.Cut(strings.TrimPrefix(string(r[2]), "nothing"), ":")
		for _, h := range hosts {
			if !strings.Contains(claimed, "`"+h+"`") {
				t.Errorf("%s is routed as %v", r[1], hosts)
			}
		}
		if (len(hosts) == 0) != strings.HasPrefix(string(r[2]), "nothing") {
			t.Errorf("%s is routed as %v, which the table does not say", r[1], hosts)
		}
	}
}
