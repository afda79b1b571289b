package route

import (
	"fmt"
	"slices"
	"testing"

	"github.com/authsome/authsome"
)

func TestPattern(t *testing.T) {
	tests := []struct {
		pattern, host string
		want          bool
	}{
		{"api.github.com", "api.github.com", true},
		{"API.github.com.", "api.github.com", true},
		{"api.github.com", "xapi.github.com", false},
		{"api.github.com", "api.github.com.evil.example", false},
		{"*.linear.app", "api.linear.app", true},
		{"*.linear.app", "a.b.linear.app", true},
		{"*.linear.app", "linear.app", false},
		{"*.linear.app", "evillinear.app", false},
		{"*.linear.app", ".linear.app", false},
		{"*.googleapis.com", "googleapis.evil.example", false},
		{"127.0.0.1", "127.0.0.1", true},
	}
	for _, tt := range tests {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Errorf("ParsePattern(%q): %v", tt.pattern, err)
		} else if got := p.Match(tt.host); got != tt.want {
			t.Errorf("%s matches %s: %v, want %v", p, tt.host, got, tt.want)
		}
	}
	for _, bad := range []string{"", "*", "*.", "*.com", "*.127.0.0.1", "*.*.com", "a.*.com", "*a.com", "a b", "http://x"} {
		if p, err := ParsePattern(bad); err == nil {
			t.Errorf("ParsePattern(%q) = %s", bad, p)
		}
	}
}

func table(t testing.TB, entries ...Entry) *Table {
	t.Helper()
	tb, err := NewTable(entries)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func entry(provider, host, path string, methods ...string) Entry {
	return Entry{provider, authsome.Route{Host: host, Path: path, Methods: methods}}
}

func TestMatch(t *testing.T) {
	oauth := entry("notion", "api.notion.com", "")
	oauth.Route.Except = []string{"/v1/oauth/token"}
	ported := entry("onprem", "git.example.com", "")
	ported.Route.Port = 8443
	tb := table(t,
		entry("github", "api.github.com", ""),
		entry("mcp", "api.github.com", "/mcp"),
		entry("reader", "api.github.com", "/repos", "GET", "HEAD"),
		entry("writer", "api.github.com", "/repos"),
		entry("wild", "*.example.com", ""),
		entry("wilder", "*.a.example.com", ""),
		entry("exact", "x.a.example.com", ""),
		entry("one", "tie.example.org", "/v1"), entry("two", "tie.example.org", "/v1/"),
		entry("one", "tie.example.org", "/v1/x"),
		oauth, ported,
	)
	tests := []struct {
		host         string
		port         int
		method, path string
		provider     string
		result       Result
	}{
		{"api.github.com", 443, "GET", "/user", "github", Matched},
		{"api.github.com", 443, "GET", "/mcp", "mcp", Matched},
		{"api.github.com", 443, "GET", "/mcp/x", "mcp", Matched},
		{"api.github.com", 443, "GET", "/mcpx", "github", Matched},
		{"api.github.com", 443, "GET", "/repos/a", "reader", Matched},
		{"api.github.com", 443, "POST", "/repos/a", "writer", Matched},
		{"api.github.com", 8443, "GET", "/user", "", None},
		{"github.com", 443, "GET", "/", "", None},
		{"b.example.com", 443, "GET", "/", "wild", Matched},
		{"b.a.example.com", 443, "GET", "/", "wilder", Matched},
		{"x.a.example.com", 443, "GET", "/", "exact", Matched},
		{"example.com", 443, "GET", "/", "", None},
		{"tie.example.org", 443, "GET", "/v1/y", "", Ambiguous},
		{"tie.example.org", 443, "GET", "/v1/x", "one", Matched},
		{"tie.example.org", 443, "GET", "/v2", "", None},
		{"api.notion.com", 443, "POST", "/v1/oauth/token", "notion", Excepted},
		{"api.notion.com", 443, "POST", "/v1/oauth/token/x", "notion", Matched},
		{"git.example.com", 8443, "GET", "/", "onprem", Matched},
		{"git.example.com", 443, "GET", "/", "wild", Matched},
	}
	for _, tt := range tests {
		e, r := tb.Match(tt.host, tt.port, tt.method, tt.path)
		if r != tt.result || tt.provider != "" && e.Provider != tt.provider {
			t.Errorf("%s %s:%d%s: %s, %d; want %s, %d", tt.method, tt.host, tt.port, tt.path, e.Provider, r, tt.provider, tt.result)
		}
		if got := tb.Host(tt.host, tt.port); got != (tt.result != None || tt.host == "tie.example.org") {
			t.Errorf("Host(%s, %d) = %v", tt.host, tt.port, got)
		}
	}
	if got := tb.Candidates("tie.example.org", 443, "GET", "/v1/y"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the tie is between %v", got)
	}
	for _, bad := range []Entry{entry("x", "*.com", ""), entry("x", "", ""), entry("x", "a.example", "v1")} {
		if _, err := NewTable([]Entry{bad}); err == nil {
			t.Errorf("a table with %+v", bad.Route)
		}
	}
}

// FuzzMatch: a credential goes to a host that its pattern covers and to no
// other, and two spellings of one request route alike.
func FuzzMatch(f *testing.F) {
	tb := table(f, entry("a", "api.example.com", "/v1"), entry("b", "*.example.com", ""), entry("c", "*.githubusercontent.com", ""))
	for _, s := range []string{"api.example.com", "evilexample.com", "API.EXAMPLE.COM.", "x.githubusercontent.com", "evilgithubusercontent.com"} {
		f.Add(s, "/v1/../v1/x")
	}
	f.Fuzz(func(t *testing.T, host, path string) {
		h, err := Host(host)
		if err != nil {
			return
		}
		p, err := Path(path)
		if err != nil {
			return
		}
		e, r := tb.Match(h, 443, "GET", p)
		if r == None {
			return
		}
		pat, err := ParsePattern(e.Route.Host)
		if err != nil || !pat.Match(h) {
			t.Fatalf("%s was routed to %s", h, e.Route.Host)
		}
		h2, _ := Host(h + ".")
		if h2 != "" {
			if e2, r2 := tb.Match(h2, 443, "GET", p); r2 != r || e2.Provider != e.Provider {
				t.Fatalf("%s and %s. route apart", h, h)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000} {
		var entries []Entry
		for i := range n {
			entries = append(entries, entry(fmt.Sprint("p", i), fmt.Sprintf("api%d.example.com", i), "/v1"), entry(fmt.Sprint("w", i), fmt.Sprintf("*.w%d.example.com", i), ""))
		}
		tb := table(b, entries...)
		b.Run(fmt.Sprint(n, " providers"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tb.Match("api7.example.com", 443, "GET", "/v1/models")
				tb.Match("x.w7.example.com", 443, "GET", "/v1/models")
				tb.Host("unknown.example.org", 443)
			}
		})
	}
}
