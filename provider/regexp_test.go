package provider

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/authsome/authsome/route"
)

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
		{`(.*\.)?example\.com`, "*.example.com example.com", false},
		{`(?:.+\.)?example\.com$`, "*.example.com example.com", false},
		{`[^.]+\.example\.com`, "*.example.com", false},
		{`(api|uploads)\.example\.com`, "api.example.com uploads.example.com", false},
		{`api[12]\.example\.com`, "api1.example.com api2.example.com", false},
		{`api\.example\.(com|org)`, "", true}, // two domains
		{`[0-9]+\.example\.com`, "", true},    // *.example.com would be more
		{`api-.*\.example\.com`, "", true},    // as above
		{`.*.example\.com`, "", true},         // evilexample.com
		{`(.*\.)*example\.com`, "", true},     // true, and too clever
		{`.*\.me\.github\.io`, "", true},      // under a private suffix: exact hosts only
		{`.*\.raw\.githubusercontent\.com`, "", true},
		{`.*\.googleapis\.com`, "*.googleapis.com", false},
		{`\*\.example\.com`, "", true},
		{`.*\.`, "", true},
		{`(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)\.example\.com`, "", true},
		{`[\x{0}-\x{10FFFF}]\.example\.com`, "", true},
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

// TestAdvice: a person is told what to write instead.
func TestAdvice(t *testing.T) {
	for expr, want := range map[string]string{
		`.*linear\.app`:   `write "*.linear.app" for the names under it, or "linear.app"`,
		`.*\.linear.app$`: `write "*.linear.app"`,
		`.*slack.*`:       `write a host, or a pattern such as "*.example.com"`,
		`.*\.github\.io`:  "write the exact host",
	} {
		if hosts, why := fromRegexp(expr); len(hosts) > 0 || !strings.Contains(why, want) {
			t.Errorf("%s: %v, %q, want %q", expr, hosts, why, want)
		}
	}
}
