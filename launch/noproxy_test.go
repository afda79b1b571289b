package launch

import (
	"slices"
	"strings"
	"testing"
)

func TestNoProxy(t *testing.T) {
	hosts := []string{"api.openai.com", "github.com", "*.linear.app", "10.1.2.3:8443", "xn--bcher-kva.example", "[2001:db8::1]:8443"}
	const ours = "localhost,127.0.0.1,::1,169.254.169.254"
	tests := []struct {
		name   string
		values []string
		keep   string // what stays of the person's own
	}{
		{"none", nil, ""},
		{"empty", []string{""}, ""},
		{"own kept in order", []string{"corp.example,.intra.example, *.lan"}, "corp.example,.intra.example,*.lan"},
		{"both spellings", []string{"one.example", "two.example,one.example"}, "one.example,two.example"},
		{"separators", []string{"b.example c.example;d.example\te.example,,"}, "b.example,c.example,d.example,e.example"},
		{"ours already", []string{"localhost,127.0.0.1,::1"}, ""},
		{"everything", []string{"*"}, ""},
		{"everything, otherwise", []string{"*.,.,**, *.*"}, ""},
		{"exact", []string{"api.openai.com"}, ""},
		{"upper case", []string{"API.OpenAI.com"}, ""},
		{"trailing dot", []string{"api.openai.com."}, ""},
		{"leading dot", []string{".api.openai.com"}, ""},
		{"port", []string{"api.openai.com:443,api.openai.com:8080"}, ""},
		{"parent", []string{"openai.com,.openai.com,*.openai.com,com,.com"}, ""},
		{"part of a label", []string{"hub.com,ithub.com,ai.com"}, ""},
		{"sibling stays", []string{"chat.openai.com,gist.github.com,evilgithub.com"}, "chat.openai.com,gist.github.com,evilgithub.com"},
		{"pattern inside", []string{"api.*.com,*openai*,a?i.openai.com,[a]pi.openai.com"}, ""},
		{"bad pattern", []string{"[api.openai.com", "x[.example"}, ""},
		{"wildcard itself", []string{"*.linear.app,linear.app,.app"}, ""},
		{"under a wildcard", []string{"api.linear.app,x.y.linear.app:443"}, ""},
		{"pattern may meet a wildcard", []string{"dev-*.example.com"}, ""},
		{"beside a wildcard", []string{"linear.apple.example"}, "linear.apple.example"},
		{"URL", []string{"https://api.openai.com/v1,http://user@github.com"}, ""},
		{"address", []string{"10.1.2.3,10.1.2.4"}, "10.1.2.4"},
		{"address with port", []string{"10.1.2.3:8443"}, ""},
		{"network", []string{"10.0.0.0/8,192.168.0.0/16"}, "192.168.0.0/16"},
		{"all networks", []string{"0.0.0.0/0,::/0"}, ""},
		{"address by prefix", []string{"10.,10.1.*"}, ""},
		{"mapped address", []string{"::ffff:10.1.2.3"}, ""},
		{"IPv6", []string{"2001:db8::1,[2001:db8::1]:8443,2001:db8::/32,2001:db9::1"}, "2001:db9::1"},
		{"not ASCII", []string{"bücher.example"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := ours
			if tt.keep != "" {
				want = tt.keep + "," + ours
			}
			got, dropped := noProxy(tt.values, hosts)
			if got != want {
				t.Errorf("got  %s\nwant %s\ndropped %v", got, want, dropped)
			}
		})
	}
	if got, _ := noProxy([]string{"bücher.example,api.*.com"}, []string{"github.com"}); got != "bücher.example,api.*.com,"+ours {
		t.Errorf("with another host routed: %s", got)
	}
}

// FuzzNoProxy checks what must hold for any entry: of what is kept, none is a
// routed host, a parent of one, or everything.
func FuzzNoProxy(f *testing.F) {
	for _, s := range []string{"*", "api.openai.com", ".COM", "a,b c", "[::1]:1", "10.0.0.0/8", "https://x/y", "*.linear.app:1", "[", "a\\", "%"} {
		f.Add(s)
	}
	hosts := []string{"api.openai.com", "*.linear.app", "10.1.2.3:8443"}
	f.Fuzz(func(t *testing.T, value string) {
		merged, dropped := noProxy([]string{value}, hosts)
		entries := strings.Split(merged, ",")
		if len(entries) < len(direct) || !slices.Equal(entries[len(entries)-len(direct):], direct) {
			t.Fatalf("%q: %q does not end in ours", value, merged)
		}
		for _, e := range entries[:len(entries)-len(direct)] {
			if e == "" || e == "*" || strings.ContainsAny(e, ", \t\r\n") {
				t.Errorf("%q: kept %q", value, e)
			}
			bare := strings.Trim(strings.TrimPrefix(strings.ToLower(e), "*"), ".")
			if host, port, ok := strings.Cut(bare, ":"); ok && !strings.Contains(port, ":") {
				bare = host
			}
			for _, h := range []string{"api.openai.com", "team.linear.app", "10.1.2.3"} {
				if bare == "" || h == bare || strings.HasSuffix(h, "."+bare) {
					t.Errorf("%q: kept %q, which covers %s", value, e, h)
				}
			}
			if slices.Contains(dropped, e) {
				t.Errorf("%q: %q is kept and dropped", value, e)
			}
		}
		again, more := noProxy([]string{merged}, hosts)
		if again != merged || len(more) != 0 {
			t.Errorf("%q: a second pass makes %q of %q", value, again, merged)
		}
	})
}
