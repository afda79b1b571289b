package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	return Entry{Provider: provider, Route: authsome.Route{Host: host, Path: path, Methods: methods}}
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
	for _, bad := range []Entry{entry("x", "*.com", ""), entry("x", "", ""), entry("x", "a.example", "v1"), entry("x", "a.example", "/..%2fv1")} {
		if _, err := NewTable([]Entry{bad}); err == nil {
			t.Errorf("a table with %+v", bad.Route)
		}
	}
}

// TestOrder: what is asked of a table does not depend on the order in which
// providers were listed.
func TestOrder(t *testing.T) {
	entries := []Entry{
		entry("a", "*.example.com", "/v1"), entry("b", "api.example.com", "/v1"), entry("c", "*.api.example.com", ""),
		entry("d", "api.example.com", "/v1", "GET"), entry("e", "*.example.com", "/v1/x"), entry("f", "*.example.com", "/v1/x"),
		entry("g", "api.example.com", "/v1/x"), entry("b", "api.example.com", "/v1"),
	}
	type question struct{ host, method, path string }
	want := map[question]string{
		{"api.example.com", "GET", "/v1/y"}:    "d 1 []",
		{"api.example.com", "POST", "/v1/y"}:   "b 1 []",
		{"api.example.com", "GET", "/v1/x/y"}:  "g 1 []",
		{"b.example.com", "GET", "/v1/x"}:      "3 [e f]",
		{"b.example.com", "GET", "/v1"}:        "a 1 []",
		{"x.api.example.com", "GET", "/other"}: "c 1 []",
		{"x.api.example.com", "GET", "/v1/xy"}: "a 1 []",
		{"api.example.com", "GET", "//v2/y"}:   "None",
	}
	for seed := range 20 {
		rand.New(rand.NewPCG(uint64(seed), 1)).Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		tb := table(t, entries...)
		for q, want := range want {
			e, r := tb.Match(q.host, 443, q.method, q.path)
			got := fmt.Sprint(e.Provider, " ", int(r), " ", tb.Candidates(q.host, 443, q.method, q.path))
			switch r {
			case None:
				got = "None"
			case Ambiguous:
				_, got, _ = strings.Cut(got, " ")
			}
			if got != want {
				t.Errorf("%v: %s, want %s, in the order %v", q, got, want, entries)
			}
		}
	}
}

// TestUnclear: a path that some servers read as another route's is nobody's, and one
// that some take for a login endpoint gets nothing.
func TestUnclear(t *testing.T) {
	guarded := entry("notion", "api.notion.com", "")
	guarded.Route.Except = []string{"/v1/oauth/token"}
	odd := entry("odd", "odd.example", "/a%2Fb;c//d")
	tb := table(t, entry("scoped", "api.example.com", "/v1/allowed"), entry("deeper", "api.example.com", "/v1/allowed/deeper"),
		entry("reader", "api.example.com", "/v2", "GET"), guarded, odd)
	for path, want := range map[string]Result{
		"/v1/allowed/x": Matched, "/v1/allowed/a%2Fb": Matched, "/v1/allowed//x": Matched, "/v1/allowed/x;y=1": Matched, "/v1/allowed/%3Fx": Matched,
		"/v1/allowed/deeper/x;y": Matched, "/v1/other//x": None, "/v1/other%2Fx": None, "/v1%2Fother": None, "/": None, "//": None, "/;": None, "/%2F": None,

		"//v1/allowed/x": Unclear, "/v1//allowed": Unclear, "/v1%2Fallowed": Unclear, "/v1/allowed%2Fx": Unclear, "/v1/allowed;x/y": Unclear, "/v1;x/allowed": Unclear,
		"/v1/allowed%3Fx": Unclear, "/v1/allowed%23x": Unclear, "/v1/allowed%3Bx": Unclear, "/v1%252Fallowed": Unclear, "/v1/%2561llowed": Unclear, "/v1/allowed%2500": Unclear,
		"/;/v1/allowed": Unclear, "/%2F/v1/allowed": Unclear, "/v1%C0%AFallowed": Unclear,
		"/v1/allowed//deeper": Unclear, "/v1/allowed%2Fdeeper": Unclear, "/v1/allowed/deeper;x": Unclear,
	} {
		if e, r := tb.Match("api.example.com", 443, "GET", path); r != want {
			t.Errorf("%s: %s, %d; want %d", path, e.Provider, r, want)
		}
	}
	for path, want := range map[string]Result{
		"/v1/oauth/token": Excepted, "/v1/oauth/token/": Excepted, "/v1//oauth/token": Excepted, "/v1/oauth%2Ftoken": Excepted, "/v1/oauth/token;x": Excepted, "//v1/oauth/token": Excepted,
		"/v1/oauth/%2574oken": Excepted, "/v1/oauth/tokens": Matched, "/v1/oauth//tokens": Matched, "/v1/a%2Fb": Matched, "//": Matched, "/": Matched,
	} {
		if e, r := tb.Match("api.notion.com", 443, "GET", path); r != want {
			t.Errorf("%s: %s, %d; want %d", path, e.Provider, r, want)
		}
	}
	for path, want := range map[string]Result{"/a%2Fb;c//d": Matched, "/a%2Fb;c//d/e": Matched, "/a/b/d": None, "/a%2Fb/d": Unclear, "/a//b/d": Unclear} {
		if e, r := tb.Match("odd.example", 443, "GET", path); r != want {
			t.Errorf("%s: %s, %d; want %d", path, e.Provider, r, want)
		}
	}
	if !tb.Same("api.example.com", 443, "POST", "DELETE", "/v1/allowed") || tb.Same("api.example.com", 443, "GET", "DELETE", "/v2") || tb.Same("api.example.com", 443, "DELETE", "GET", "/v2") {
		t.Error("methods are told apart where no route does, or are not where one does")
	}
	tb = table(t, entry("all", "api.example.com", ""), entry("one", "api.example.com", "/v1/x", "DELETE"))
	if !tb.Same("api.example.com", 443, "GET", "PUT", "/v1//x") || tb.Same("api.example.com", 443, "GET", "DELETE", "/v1//x") {
		t.Error("methods are not told apart as a server does that takes doubled slashes for one")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	tb := table(t, entry("a", "api.example.com", "/v1"), entry("b", "*.example.com", ""))
	if n := testing.AllocsPerRun(100, func() {
		tb.Match("api.example.com", 443, "GET", "/v1/models")
		tb.Match("x.y.example.com", 443, "GET", "/v1/models")
		tb.Host("unknown.example.org", 443)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
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
