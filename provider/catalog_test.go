package provider

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden is what is compared of a provider.
type golden struct {
	Flows       []authsome.Flow
	Routes      []authsome.Route
	SelfManaged []authsome.Route `json:",omitempty"`
	Key         []goldenField    `json:",omitempty"`
	OAuth       *authsome.OAuth  `json:",omitempty"`
	Env         []authsome.EnvVar
	Warnings    []string `json:",omitempty"`
}

type goldenField struct {
	Name, Label         string
	Pattern, Hint       string `json:",omitempty"`
	Public              bool   `json:",omitempty"`
	Optional, Multiline bool   `json:",omitempty"`
}

// TestBundled compares every bundled definition, as it is understood, with a
// golden file, so that no change of the loader moves a credential unseen.
func TestBundled(t *testing.T) {
	entries, err := defs.ReadDir("defs")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := defs.ReadFile("defs/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		// The catalog would leave it out.
		if p, err := Parse(e.Name(), data); err != nil || p.Name+".jsonc" != e.Name() {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
	c := NewCatalog()
	if len(c.All()) != len(entries) {
		t.Errorf("%d definitions in %d files", len(c.All()), len(entries))
	}
	seen := map[string]bool{}
	for _, p := range c.All() {
		seen[p.Name+".json"] = true
		t.Run(p.Name, func(t *testing.T) {
			if len(p.Routes) == 0 || len(p.Env) == 0 || len(p.Flows) == 0 || len(p.Warnings) != 0 {
				t.Errorf("it cannot be used: %d routes, %d variables, flows %v, warnings %v", len(p.Routes), len(p.Env), p.Flows, p.Warnings)
			}
			var key []goldenField
			for _, f := range p.Key.Fields {
				key = append(key, goldenField(f))
			}
			got, err := json.MarshalIndent(golden{p.Flows, p.Routes, p.SelfManaged, key, p.OAuth, p.Env, p.Warnings}, "", "  ")
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
	for _, must := range strings.Fields("openai anthropic gemini github gitlab openrouter groq mistral huggingface linear notion slack stripe sentry vercel cloudflare resend sendgrid twilio tavily exa firecrawl google google-drive google-gmail microsoft atlassian jira discord hubspot x postiz dropbox zoom reddit spotify github-app google-cloud mongodb-atlas notion-mcp linear-mcp telegram trello datadog semrush") {
		if _, ok := c.Get(must); !ok {
			t.Errorf("%s is missing", must)
		}
	}
}

// TestBundledApart: no two bundled providers claim the same requests or the
// same variable, so that a login to one never takes something from another.
func TestBundledApart(t *testing.T) {
	c := NewCatalog()
	var entries []route.Entry
	variables := map[string]string{}
	for _, p := range c.All() {
		for _, r := range p.Routes {
			entries = append(entries, route.Entry{Provider: p.Name, Route: r})
		}
		for _, e := range p.Env {
			// gh and git take an app's token as they take a person's, and the routes
			// say whose it is.
			if other := variables[e.Name]; other != "" && (p.Name != "github-app" || other != "github") && (p.Name != "github" || other != "github-app") {
				t.Errorf("%s and %s both set %s", p.Name, other, e.Name)
			}
			variables[e.Name] = p.Name
		}
	}
	table, err := route.NewTable(entries)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		host := strings.Replace(e.Route.Host, "*", "some-name", 1)
		// A route that names methods goes before one that takes all of them.
		method := "PROPFIND"
		if len(e.Route.Methods) > 0 {
			method = e.Route.Methods[0]
		}
		if got, result := table.Match(host, 443, method, e.Route.Path+"/x"); result != route.Matched || got.Provider != e.Provider {
			t.Errorf("%s%s is a route of %s, and goes to %s (%d)", host, e.Route.Path, e.Provider, got.Provider, result)
		}
	}
	// Where real requests go, and where none of ours may.
	for target, want := range map[string]string{
		"api.openai.com/v1/responses":                                      "openai",
		"chatgpt.com/backend-api/codex/models":                             "",
		"api.anthropic.com/v1/messages":                                    "anthropic",
		"claude.ai/api":                                                    "",
		"api.github.com/user":                                              "github",
		"github.com/o/r.git/info/refs":                                     "github",
		"objects.githubusercontent.com/x":                                  "",
		"gitlab.com/api/v4/projects/group%2Fproject":                       "gitlab",
		"generativelanguage.googleapis.com/v1beta/openai/chat/completions": "gemini",
		"www.googleapis.com/drive/v3/files":                                "google-drive",
		"www.googleapis.com/calendar/v3/calendars/primary/events":          "google-calendar",
		"www.googleapis.com/upload/youtube/v3/videos":                      "google-youtube",
		"www.googleapis.com/oauth2/v3/userinfo":                            "google",
		"gmail.googleapis.com/gmail/v1/users/me/messages":                  "google-gmail",
		"storage.googleapis.com/x":                                         "google-cloud",
		"iamcredentials.googleapis.com/v1/x:generateAccessToken":           "google",
		"googleapis.com/x":                                                 "",
		"graph.microsoft.com/v1.0/me":                                      "microsoft",
		"graph.microsoft.com/v1.0/me/messages/1":                           "microsoft-outlook",
		"api.atlassian.com/ex/jira/cloud/rest/api/3/myself":                "jira",
		"api.atlassian.com/ex/confluence/cloud/wiki/rest/api/content":      "confluence",
		"api.atlassian.com/me":                                             "atlassian",
		"mcp.linear.app/mcp":                                               "linear-mcp",
		"acme.my.salesforce.com/services/data":                             "salesforce",
		"login.salesforce.com/services/oauth2/token":                       "",
		"us.sentry.io/api/0/projects/":                                     "sentry",
		"o1.ingest.sentry.io/api/1/envelope/":                              "",
		"slack.com/api/chat.postMessage":                                   "slack",
		"slack.com/signin":                                                 "",
		"us21.api.mailchimp.com/3.0/ping":                                  "mailchimp",
		"mailchimp.com/":                                                   "",
		"acme.atlassian.net/rest/api/3/myself":                             "jira",
		"verify.twilio.com/v2/Services":                                    "twilio",
		"api.telegram.org/bot1:x/getMe":                                    "telegram",
		"telegram.org/":                                                    "",
		"api.trello.com/1/members/me":                                      "trello",
		"trello.com/1/authorize":                                           "",
		"www.twilio.com/":                                                  "",
		"openrouter.ai/api/v1/chat/completions":                            "openrouter",
		"openrouter.ai/docs":                                               "",
	} {
		host, path, _ := strings.Cut(target, "/")
		if got, _ := table.Match(host, 443, "GET", "/"+path); got.Provider != want {
			t.Errorf("%s goes to %q, want %q", target, got.Provider, want)
		}
	}
}

// TestKeyPatterns: keys of every shape that the vendors have given out are
// taken, and what people paste by mistake is not.
func TestKeyPatterns(t *testing.T) {
	c := NewCatalog()
	x := func(n int) string { return strings.Repeat("aB3", n/3+1)[:n] }
	tests := map[string]struct{ good, bad []string }{
		"openai":      {[]string{"sk-" + x(48), "sk-proj-" + x(60) + "_-" + x(80), "sk-svcacct-" + x(100), "sk-admin-" + x(60)}, []string{"sk-", "pk-" + x(48), "Bearer sk-" + x(48)}},
		"anthropic":   {[]string{"sk-ant-api03-" + x(86) + "-_AA", "sk-ant-oat01-" + x(90)}, []string{"sk-" + x(48)}},
		"gemini":      {[]string{"AIza" + x(35), "AQ." + x(50)}, []string{"AIza", x(20) + " " + x(20)}},
		"github":      {[]string{"ghp_" + x(36), "gho_" + x(36), "ghu_" + x(36), "ghs_" + x(40) + "." + x(60) + "." + x(40), "github_pat_" + x(22) + "_" + x(59), strings.Repeat("0a", 20)}, []string{"ghp_", "octocat", strings.Repeat("0G", 20)}},
		"groq":        {[]string{"gsk_" + x(52)}, []string{"sk-" + x(48)}},
		"huggingface": {[]string{"hf_" + x(34), "api_org_" + x(34)}, []string{"hf_"}},
		"linear":      {[]string{"lin_api_" + x(40)}, []string{"lin_oauth_" + x(40)}},
		"openrouter":  {[]string{"sk-or-v1-" + strings.Repeat("0a", 32)}, []string{"sk-" + x(48)}},
		"perplexity":  {[]string{"pplx-" + x(48)}, []string{x(48)}},
		"resend":      {[]string{"re_" + x(8) + "_" + x(24)}, []string{x(30)}},
		"sendgrid":    {[]string{"SG." + x(22) + "." + x(43)}, []string{"SG" + x(60)}},
		"slack":       {[]string{"xoxb-123-456-" + x(24), "xoxp-1-2-3-" + x(32), "xoxe.xoxp-1-" + x(100), "xapp-1-A0-1-" + x(64)}, []string{"https://hooks.slack.com/services/T/B/x"}},
		"stripe":      {[]string{"sk_live_" + x(24), "rk_test_" + x(90), "sk_org_live_" + x(40)}, []string{"pk_live_" + x(24), "whsec_" + x(32)}},
		"tavily":      {[]string{"tvly-" + x(32), "tvly-dev-" + x(32)}, []string{x(32)}},
		"firecrawl":   {[]string{"fc-" + strings.Repeat("0a", 16)}, []string{x(32)}},
		"telegram":    {[]string{"110201543:" + x(35), "7:" + x(33) + "-_"}, []string{x(35), "bot110201543:" + x(35), "110201543:", "110201543/" + x(35)}},
		"twilio":      {[]string{"AC" + strings.Repeat("0a", 16), "SK" + strings.Repeat("0a", 16)}, []string{"AC", "+15550100"}},
	}
	for name, tt := range tests {
		p, ok := c.Get(name)
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		re := regexp.MustCompile(`\A(?:` + p.Key.Fields[0].Pattern + `)\z`)
		for _, k := range tt.good {
			if !re.MatchString(k) {
				t.Errorf("%s refuses %s", name, k)
			}
		}
		for _, k := range tt.bad {
			if re.MatchString(k) {
				t.Errorf("%s takes %s", name, k)
			}
		}
	}
	for _, p := range c.All() {
		for _, f := range p.Key.Fields {
			if (f.Pattern == "") != (f.Hint == "") {
				t.Errorf("%s: %s has a pattern or a hint without the other", p.Name, f.Name)
			}
		}
	}
}

func TestCatalog(t *testing.T) {
	c := NewCatalog()
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
