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

	"github.com/authsome/authsome"
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
