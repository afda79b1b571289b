package provider

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/tailscale/hujson"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden is what is compared of a provider.
type golden struct {
	Flows    []authsome.Flow
	Routes   []authsome.Route
	Key      authsome.KeyForm
	Env      []authsome.EnvVar
	Warnings []string `json:",omitempty"`
}

// TestBundled compares every bundled definition, as it is understood, with a
// golden file, so that no change of the loader moves a credential unseen.
func TestBundled(t *testing.T) {
	c, err := NewCatalog()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range c.All() {
		seen[p.Name+".json"] = true
		t.Run(p.Name, func(t *testing.T) {
			if len(p.Routes) == 0 || len(p.Env) == 0 || len(p.Flows) == 0 || len(p.Warnings) != 0 {
				t.Errorf("it cannot be used: %d routes, %d variables, flows %v, warnings %v", len(p.Routes), len(p.Env), p.Flows, p.Warnings)
			}
			got, err := json.MarshalIndent(golden{p.Flows, p.Routes, p.Key, p.Env, p.Warnings}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "golden", p.Name+".json")
			if *update {
				if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; go test ./provider -update writes it", err)
			}
			if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
				t.Errorf("it is understood differently (-want +got):\n%s", diff)
			}
			if err := CheckRegistrable(p); err != nil {
				t.Errorf("it could not be registered: %v", err)
			}
		})
	}
	files, _ := os.ReadDir(filepath.Join("testdata", "golden"))
	for _, f := range files {
		if !seen[f.Name()] {
			t.Errorf("%s belongs to no definition", f.Name())
		}
	}
	for _, must := range strings.Fields("openai anthropic gemini github gitlab openrouter groq mistral huggingface linear notion slack stripe sentry vercel cloudflare resend sendgrid twilio tavily exa firecrawl") {
		if _, ok := c.Get(must); !ok {
			t.Errorf("%s is missing", must)
		}
	}
}

// TestSchema holds the bundled definitions, and the example of the
// documentation, to schema.json.
func TestSchema(t *testing.T) {
	var schema jsonschema.Schema
	data, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, data []byte) error {
		standard, err := hujson.Standardize(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var v any
		if err := json.Unmarshal(standard, &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return resolved.Validate(v)
	}
	files, _ := filepath.Glob("defs/*.jsonc")
	files = append(files, "testdata/files/everything.jsonc", "testdata/files/v1-oauth.json", "testdata/files/v1-key.json")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(f, data); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	for _, bad := range []string{`{}`, `{"name":"x"}`, `{"name":"x","auth_type":"magic"}`, `{"name":"a b","auth_type":"api_key"}`, `{"name":"x","auth_type":"api_key","routes":[{"host":"h"}]}`} {
		if check("bad", []byte(bad)) == nil {
			t.Errorf("the schema accepts %s", bad)
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
		out = append(out, r.Host+r.Path)
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
	if len(p.Flows) != 0 || p.AuthType != authsome.AuthOAuth2 {
		t.Errorf("flows %v", p.Flows)
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
	}
	if diff := cmp.Diff(want, p.Routes); diff != "" {
		t.Error(diff)
	}
	if len(p.Key.Fields) != 3 || !p.Key.Fields[0].Public || p.Key.Fields[1].Public {
		t.Errorf("fields %+v", p.Key.Fields)
	}
}

// TestRegexp: an expression is routed only where it is proven to stay inside
// one domain.
func TestRegexp(t *testing.T) {
	tests := []struct {
		expr, want string // want "" is no route
		warn       bool
	}{
		{`.*\.linear\.app`, "*.linear.app", false},
		{`^.*\.linear\.app$`, "*.linear.app", false},
		{`[a-z0-9-]+\.example\.com`, "*.example.com", false},
		{`api\.example\.com`, "api.example.com", false},
		{`.*googleapis.*`, "*.googleapis.com", true},
		{`.*githubusercontent\.com$`, "*.githubusercontent.com", true},
		{`.*linear\.app`, "", true},      // evillinear.app
		{`.*\.linear.app`, "", true},     // x.linearxapp
		{`.*\.(a|b)\.example`, "", true}, // not understood, so not proven
		{`.*`, "", true},
		{`.*\.com`, "", true},
		{`.*\.co\.uk`, "", true},
		{`.*\.github\.io`, "", true}, // tenants run code there
		{`mine\.github\.io`, "mine.github.io", false},
		{`(`, "", true},
		{`.*\.example\.com|evil\.test`, "", true},
		{`(?i).*\.example\.com`, "*.example.com", false},
		{strings.Repeat("(", 2000), "", true},
	}
	for _, tt := range tests {
		data, _ := json.Marshal(map[string]any{"name": "x", "auth_type": "api_key", "api_url": "regex:" + tt.expr})
		p, err := Parse("x.json", data)
		if err != nil {
			t.Errorf("%.40s: %v", tt.expr, err)
			continue
		}
		if got := strings.Join(hosts(p), " "); got != tt.want || (len(p.Warnings) > 0) != tt.warn {
			t.Errorf("regex:%.40s is routed to %q with warnings %v, want %q", tt.expr, got, p.Warnings, tt.want)
		}
		for _, stranger := range []string{"googleapis.evil.example", "evilgithubusercontent.com", "evillinear.app", "api.example.com.evil.test"} {
			for _, r := range p.Routes {
				if pt, err := route.ParsePattern(r.Host); err != nil || pt.Match(stranger) {
					t.Errorf("regex:%.40s gives %s a credential", tt.expr, stranger)
				}
			}
		}
	}
}

// TestBroken: what is wrong is named with file, line and field.
func TestBroken(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "x.json"},
		{"{", "not valid JSON"},
		{"[]", "not a JSON object"},
		{"null", "not a JSON object"},
		{`{"name":"x"}`, "auth_type"},
		{`{"name":"../x","auth_type":"api_key"}`, "name"},
		{`{"name":"a..b","auth_type":"api_key"}`, "name"},
		{`{"schema_version":9,"name":"x","auth_type":"api_key"}`, "schema_version"},
		{`{"name":"x","auth_type":"api_key","flow":"pkce"}`, "flow"},
		{`{"name":"x","auth_type":"oauth2","flow":"pkce"}`, "oauth"},
		{"{\"name\":\"x\",\n\"auth_type\":\"api_key\",\n\"api_url\":\"http://api.example.com\"}", "x.json:3: api_url"},
		{`{"name":"x","auth_type":"api_key","api_url":["api.example.com","*.com"]}`, "api_url.1"},
		{`{"name":"x","auth_type":"api_key","api_url":"https://user:pw@api.example.com"}`, "api_url"},
		{`{"name":"x","auth_type":"api_key","api_url":"api.example.com:99999"}`, "api_url"},
		{`{"name":"x","auth_type":"api_key","api_url":"https://api.example.com/..%2fx"}`, "api_url"},
		{`{"name":"x","auth_type":"api_key","api_url":7}`, "api_url"},
		{`{"name":7,"auth_type":"api_key"}`, "name"},
		{`{"name":"x","auth_type":"api_key","api_key":{"key_pattern":"("}}`, "pattern"},
		{`{"name":"x","auth_type":"api_key","api_url":"a.example.com","api_key":{"header_name":"Host"}}`, "Host"},
		{`{"name":"x","auth_type":"api_key","api_url":"a.example.com","api_key":{"header_name":"content-length"}}`, "framing"},
		{`{"name":"x","auth_type":"api_key","api_url":"a.example.com","api_key":{"header_name":"X Y"}}`, "no header"},
		{`{"name":"x","auth_type":"api_key","api_url":"a.example.com","api_key":{"header_prefix":"a\r\nX: y"}}`, "no header may have"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example.com"}]}`, "inject"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example.com","inject":[{"header":"X","value":"fixed"}]}]}`, "{token}"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example.com","inject":[{"header":"X","value":"{nothing}"}]}]}`, "no field"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example.com","inject":[{"header":"X","value":"{token} }"}]}]}`, "braces"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example.com","inject":[{"basic":"{token}"}]}]}`, "colon"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example.com","inject":[{"basic":"u:{token}","when":"never"}]}]}`, "when"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"*.co.uk","inject":[{"basic":"u:{token}"}]}]}`, "host"},
		{`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example.com","methods":["get"],"inject":[{"basic":"u:{token}"}]}]}`, "methods"},
		{`{"name":"x","auth_type":"api_key","export":{"LD_PRELOAD":"API_TOKEN"}}`, "LD_PRELOAD"},
		{`{"name":"x","auth_type":"api_key","export":{"A B":"API_TOKEN"}}`, "variable"},
		{`{"name":"x","auth_type":"api_key","export":[]}`, "export"},
		{`{"name":"x","auth_type":"api_key","api_key":{"fields":[{"name":"a"},{"name":"a"}]}}`, "fields"},
		{`{"name":"x","display_name":"a\u0000b","auth_type":"api_key"}`, "display_name"},
		{`{"name":"` + strings.Repeat("x", maxFile) + `"}`, "1 MiB"},
	}
	for _, tt := range tests {
		_, err := Parse("x.json", []byte(tt.text))
		if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "x.json") {
			t.Errorf("%.120s: error %v, want one that names x.json and %q", tt.text, err, tt.want)
		}
		if err != nil && authsome.HintOf(err) == "" {
			t.Errorf("%.80s: no hint", tt.text)
		}
	}
}

func TestCatalog(t *testing.T) {
	c, err := NewCatalog()
	if err != nil {
		t.Fatal(err)
	}
	n := len(c.All())
	own := &authsome.Provider{Name: "openai", Source: authsome.Custom}
	c.SetCustom(own)
	c.SetCustom(&authsome.Provider{Name: "zzz", Source: authsome.Custom})
	if p, _ := c.Get("openai"); p != own || len(c.All()) != n+1 || !c.Bundled("openai") || c.Bundled("zzz") {
		t.Error("a registered definition is not in front of the bundled one")
	}
	if !c.RemoveCustom("openai") || c.RemoveCustom("openai") {
		t.Error("RemoveCustom")
	}
	if p, _ := c.Get("openai"); p == own {
		t.Error("the bundled definition does not come back")
	}
	if !slices.IsSortedFunc(c.All(), func(a, b *authsome.Provider) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("All is not sorted")
	}
	for in, want := range map[string]string{"opnai": "openai", "githbu": "github", "OpenAI": "openai", "brave": "brave-search"} {
		if near := c.Nearest(in); len(near) == 0 || near[0] != want {
			t.Errorf("nearest to %s: %v, want %s first", in, near, want)
		}
	}
	if near := c.Nearest("sk-proj-0123456789abcdefghij"); len(near) != 0 {
		t.Errorf("nearest to a key: %v", near)
	}
}

func TestCheckRegistrable(t *testing.T) {
	for _, bad := range []string{"127.0.0.1", "::1", "10.0.0.1", "localhost", "x.localhost"} {
		if err := CheckRegistrable(&authsome.Provider{Name: "x", Routes: []authsome.Route{{Host: bad}}}); authsome.CodeOf(err) != authsome.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := CheckRegistrable(&authsome.Provider{Name: "x"}); authsome.CodeOf(err) != authsome.Invalid {
		t.Errorf("no routes: %v", err)
	}
	if err := CheckRegistrable(&authsome.Provider{Name: "x", Routes: []authsome.Route{{Host: "api.example.com"}}}); err != nil {
		t.Error(err)
	}
}

// FuzzParse: no file crashes the loader, and what it accepts is routed to
// patterns that parse.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("defs/*.jsonc")
	more, _ := filepath.Glob("testdata/files/*")
	for _, name := range append(files, more...) {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("x.json", data)
		if err != nil {
			if authsome.CodeOf(err) != authsome.Invalid {
				t.Fatalf("%v has code %s", err, authsome.CodeOf(err))
			}
			return
		}
		for _, r := range p.Routes {
			if _, err := route.ParsePattern(r.Host); err != nil {
				t.Fatal(err)
			}
		}
		if !json.Valid(p.Definition) {
			t.Fatal("the definition is not kept as JSON")
		}
	})
}

func BenchmarkBundled(b *testing.B) {
	entries, _ := defs.ReadDir("defs")
	for b.Loop() {
		for _, e := range entries {
			data, _ := defs.ReadFile("defs/" + e.Name())
			if _, err := Parse(e.Name(), data); err != nil {
				b.Fatal(err)
			}
		}
	}
}
