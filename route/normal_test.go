package route

import (
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	tests := []struct{ in, want string }{ // want "" is a refusal
		{"api.github.com", "api.github.com"},
		{"API.GITHUB.COM", "api.github.com"},
		{"api.github.com.", "api.github.com"},
		{"under_score.example.com", "under_score.example.com"},
		{"münchen.example", "xn--mnchen-3ya.example"},
		{"MÜNCHEN.example", "xn--mnchen-3ya.example"},
		{"xn--mnchen-3ya.example", "xn--mnchen-3ya.example"},
		{"ｇｉｔｈｕｂ.com", "github.com"},        // full-width letters are mapped
		{"github。com", "github.com"},        // ideographic full stop
		{"gіthub.com", "xn--gthub-n2e.com"}, // Cyrillic і is another host
		{"127.0.0.1", "127.0.0.1"},
		{"[::1]", "::1"},
		{"::1", "::1"},
		{"[2001:DB8:0:0::1]", "2001:db8::1"},
		{"::ffff:127.0.0.1", "127.0.0.1"},
		{"[::ffff:127.0.0.1]", "127.0.0.1"},
		{"[::FFFF:7f00:1]", "127.0.0.1"},
		{"R3---SN.example.com", "r3---sn.example.com"}, // IDNA alone would refuse it
		{"192.168.0.10", "192.168.0.10"},
		{"localhost", "localhost"},

		{"", ""},
		{".", ""},
		{"a..b", ""},
		{".a", ""},
		{"a b", ""},
		{"a\x00b", ""},
		{"a\nb", ""},
		{"user@host", ""},
		{"host:443", ""},
		{"host/path", ""},
		{"host\\x", ""},
		{"host?x", ""},
		{"host#x", ""},
		{"ho%73t", ""},
		{"0x7f.1", ""},
		{"0x7f000001", ""},
		{"017700000001", ""},
		{"127.1", ""},
		{"2130706433", ""},
		{"127.0.0.1.", ""},
		{"1.2.3.4.5", ""},
		{"01.2.3.4", ""},
		{"１２７.1", ""}, // full-width digits
		{"api.0xA", ""},
		{"*.example.com", ""},
		{strings.Repeat("a.", 126) + "ab", ""},
		{"[::1", ""},
		{"[127.0.0.1]", ""},
		{"fe80::1%eth0", ""},
		{"[fe80::1%25eth0]", ""},
		{strings.Repeat("a", 64) + ".com", ""},
		{strings.Repeat("a.", 130) + "com", ""},
		{"xn--", ""},
		{"a\u200db.com", ""},
	}
	for _, tt := range tests {
		got, err := Host(tt.in)
		if (err != nil) != (tt.want == "") || got != tt.want {
			t.Errorf("Host(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestPath(t *testing.T) {
	tests := []struct{ in, want string }{ // want "" is a refusal
		{"", "/"},
		{"/", "/"},
		{"/v1/models", "/v1/models"},
		{"/a/./b", "/a/b"},
		{"/a/../b", "/b"},
		{"/../../x", "/x"},
		{"/a/b/..", "/a/"},
		{"/a/.", "/a/"},
		{"/public/%2e%2e/admin", "/admin"},
		{"/public/%2E./admin", "/admin"},
		{"/public/.%2e", "/"},
		{"/%61%62", "/ab"},
		{"/a%2fb", "/a%2Fb"},
		// GitLab's project ids hold a slash.
		{"/api/v4/projects/group%2Fproject/issues", "/api/v4/projects/group%2Fproject/issues"},
		{"/api/v4/projects/a%2Fb%2Fc/repository/files/lib%2Fx%2Ego/raw", "/api/v4/projects/a%2Fb%2Fc/repository/files/lib%2Fx.go/raw"},
		{"/a//b", "/a//b"},
		{"/a//../b", "/a/b"},
		{"//v1", "//v1"},
		{"/https://example.com/x", "/https://example.com/x"},
		{"/%C3%A9%c3%a9", "/%C3%A9%C3%A9"},
		{"/repos/a/b/compare/v1...v2", "/repos/a/b/compare/v1...v2"},
		{"/repos/a/b/compare/v1..v2", "/repos/a/b/compare/v1..v2"},
		{"/%2Fx", "/%2Fx"},
		{"/100%25", "/100%25"},
		{"/a/;v=1/b", "/a/;v=1/b"},
		{"/caf\xc3\xa9", "/caf%C3%A9"},
		{"/a%20b", "/a%20b"},
		{`/a"b`, "/a%22b"},
		{"/...", "/..."},
		{"/.git/x", "/.git/x"},
		{"/a..b/c", "/a..b/c"},

		{"x", ""},
		{"*", ""},
		{"/a%", ""},
		{"/a%2", ""},
		{"/a%zz", ""},
		{"/a b", ""},
		{"/a\x00", ""},
		{"/a%00", ""},
		{"/a%0d%0aX:1", ""},
		{`/a\..\b`, ""},
		{"/a%5c..%5cb", ""},
		{"/a?x", ""},
		{"/a#x", ""},
		{"/public/..%2fadmin", ""},
		{"/public/x%2f..%2fadmin", ""},
		{"/public/%252e%252e/admin", ""},
		{"/public/%252e/admin", ""},
		{"/public/..;x=1/admin", ""},
		{"/public/%2e%2e%3bx/admin", ""},
		{"/public/%25252e%25252e/admin", ""},
		{"/%25252525252e", ""},
		{"/public/%c0%ae%c0%ae/admin", ""},
		{"/public/..%c0%afadmin", ""},
		{"/public/%e0%80%ae./admin", ""},
		{"/public/.%2f./admin", ""},
	}
	for _, tt := range tests {
		got, err := Path(tt.in)
		if (err != nil) != (tt.want == "") || got != tt.want {
			t.Errorf("Path(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

// TestAllocations: the usual host and path are taken as they are, without a
// copy, since both are looked at for every request.
func TestAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		_, _ = Host("api.openai.com")
		_, _ = Path("/v1/chat/completions")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
