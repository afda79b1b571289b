package route

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/idna"
)

// FuzzHost: every spelling of a host is the same host, and what is no address
// here is none to browsers either.
func FuzzHost(f *testing.F) {
	for _, s := range []string{
		"api.github.com", "API.GITHUB.COM.", "münchen.example", "[::1]", "0x7f.1", "127.1", "xn--a", "a_b.c", "::ffff:1.2.3.4", "r3---sn.example.com",
		"ｅｘａｍｐｌｅ。com", "faß.example", "1.2.3.4", "a.0x", "xn--mnchen-3ya.example", "a\u200d.com", "09.0.0.1", "ⅷ.example",
	} {
		f.Add(s, uint64(0x9e3779b97f4a7c15))
	}
	f.Fuzz(func(t *testing.T, s string, bits uint64) {
		h, err := Host(s)
		if err != nil {
			return
		}
		if again, err := Host(h); err != nil || again != h {
			t.Fatalf("Host(%q) = %q, but Host of that is %q, %v", s, h, again, err)
		}
		for _, spelling := range hostSpellings(h, bits) {
			// A spelling may be refused, but is never another host.
			if again, err := Host(spelling.text); again != h && (err == nil || spelling.usual) {
				t.Fatalf("Host(%q) = %q, but Host(%q) is %q, %v", s, h, spelling.text, again, err)
			}
		}
		addr, err := netip.ParseAddr(h)
		if err == nil {
			if addr.Is4In6() || addr.Zone() != "" || addr.String() != h {
				t.Fatalf("Host(%q) = %q is no address in its one form", s, h)
			}
		} else if !hostName.MatchString(h) || len(h) > 253 {
			t.Fatalf("Host(%q) = %q is no name", s, h)
		}
		if number, ok := browserIPv4(h); number && (!ok.IsValid() || ok != addr) {
			t.Fatalf("Host(%q) = %q, which browsers take for the address %v", s, h, ok)
		}
		if u, err := url.Parse("https://" + bracketed(h) + "/"); err != nil || u.Hostname() != h || u.Port() != "" {
			t.Fatalf("Host(%q) = %q, which is %v in a URL, %v", s, h, u, err)
		}
		// The profile that browsers look names up with, where it has an opinion.
		if looked, err := idna.Lookup.ToASCII(strings.TrimSuffix(s, ".")); err == nil && addr == (netip.Addr{}) && strings.TrimSuffix(looked, ".") != h {
			t.Fatalf("Host(%q) = %q, and by IDNA's lookup %q", s, h, looked)
		}
	})
}

// spelling is another way to write a host. A usual one must be understood.
type spelling struct {
	text  string
	usual bool
}

// hostSpellings are those of a normal host; bits choose which characters differ.
func hostSpellings(h string, bits uint64) []spelling {
	out := []spelling{{h, true}, {strings.ToUpper(h), true}, {someOf(h, bits, strings.ToUpper), true}}
	if addr, err := netip.ParseAddr(h); err == nil {
		if addr.Is4() {
			six := netip.AddrFrom16(addr.As16())
			return append(out, spelling{six.String(), true}, spelling{"[" + six.StringExpanded() + "]", true}, spelling{h + ".", false})
		}
		return append(out, spelling{"[" + h + "]", true}, spelling{"[" + strings.ToUpper(addr.StringExpanded()) + "]", true})
	}
	// Full-width forms and other full stops are mapped by UTS #46.
	wide := someOf(h, bits, func(c string) string {
		switch {
		case c == ".":
			return "。"
		case c == "-" || c == "_":
			return c
		}
		return string(rune(c[0]) + 0xfee0)
	})
	unicode, _ := idna.ToUnicode(h)
	return append(out, spelling{h + ".", true}, spelling{wide, false}, spelling{unicode, false}, spelling{strings.ToUpper(unicode), false}, spelling{unicode + "．", false})
}

// someOf changes the bytes of an ASCII text that bits choose.
func someOf(s string, bits uint64, change func(string) string) string {
	var sb strings.Builder
	for i := range len(s) {
		if bits>>(i%64)&1 == 1 {
			sb.WriteString(change(s[i : i+1]))
		} else {
			sb.WriteByte(s[i])
		}
	}
	return sb.String()
}

func bracketed(h string) string {
	if strings.Contains(h, ":") {
		return "[" + h + "]"
	}
	return h
}

// browserIPv4 is the URL standard's: whether a host "ends in a number", and then
// which address that is; the zero Addr is a failure.
// https://url.spec.whatwg.org/#ends-in-a-number-checker
func browserIPv4(h string) (number bool, addr netip.Addr) {
	if strings.Contains(h, ":") {
		return false, addr
	}
	parts := strings.Split(strings.TrimSuffix(h, "."), ".")
	last := parts[len(parts)-1]
	digits := last != "" && strings.Trim(last, "0123456789") == ""
	if _, ok := browserNumber(last); !ok && !digits {
		return false, addr
	}
	if len(parts) > 4 {
		return true, addr
	}
	var value uint64
	for i, part := range parts {
		n, ok := browserNumber(part)
		room := uint64(math.MaxUint8)
		if i == len(parts)-1 {
			room = 1<<(8*(5-len(parts))) - 1
		}
		if !ok || n > room {
			return true, addr
		}
		if i == len(parts)-1 {
			value += n
		} else {
			value += n << (8 * (3 - i))
		}
	}
	return true, netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)})
}

func browserNumber(s string) (uint64, bool) {
	base := 10
	switch {
	case s == "":
		return 0, false
	case len(s) > 1 && strings.EqualFold(s[:2], "0x"):
		if s, base = s[2:], 16; s == "" {
			return 0, true
		}
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil && !strings.ContainsAny(s, "+-_")
}

// FuzzPath: the normal form is that of RFC 3986, every spelling of a path comes
// to it, net/url and path.Clean find nothing to change in it, and no server that
// decodes more than once, or worse than UTF-8 allows, finds a dot segment.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/v1/models", "/a/../b", "/%2e%2e/x", "/..%2fx", "/a%252e", "/;x/..;y", "//", "/%2F", "/a//../b", "/%c0%ae/", "/%25%32%65", "/[::1]/x|y",
		"/a/%2e%2E/./b/..", "/%e0%80%af../", "/x%2541", "/é/%7Euser", "/..;/", "/.%2e;a=b/c", "/a%5c..%5cb", "/%252525252e",
	} {
		f.Add(s, uint64(0x9e3779b97f4a7c15))
	}
	f.Fuzz(func(t *testing.T, s string, bits uint64) {
		p, err := Path(s)
		if err != nil {
			return
		}
		if want := rfcPath(s); s != "" && p != want {
			t.Fatalf("Path(%q) = %q, and by RFC 3986 %q", s, p, want)
		}
		for _, other := range pathSpellings(p, bits) {
			if again, err := Path(other); err != nil || again != p {
				t.Fatalf("Path(%q) = %q, but Path(%q) is %q, %v", s, p, other, again, err)
			}
		}
		u, err := url.ParseRequestURI(p)
		if err != nil || u.EscapedPath() != p || u.RawQuery != "" || u.Host != "" {
			t.Fatalf("Path(%q) = %q, which net/url reads as %#v, %v", s, p, u, err)
		}
		once := u.Path
		for strings.Contains(once, "//") { // path.Clean takes them for one
			once = strings.ReplaceAll(once, "//", "/")
		}
		if cleaned := path.Clean(once); cleaned != once && cleaned != strings.TrimSuffix(once, "/") {
			t.Fatalf("Path(%q) = %q, and path.Clean makes %q of it", s, p, cleaned)
		}
		for range 3 {
			for seg := range strings.SplitSeq(strings.ReplaceAll(lenient(p), `\`, "/"), "/") {
				if seg, _, _ = strings.Cut(seg, ";"); seg == ".." || seg == "." {
					t.Fatalf("Path(%q) = %q hides a dot segment", s, p)
				}
			}
			next, err := url.PathUnescape(p)
			if err != nil {
				return
			}
			p = next
		}
	})
}

var (
	hostName     = regexp.MustCompile(`^([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$`)
	notInPaths   = regexp.MustCompile(`(?s)%..|[^A-Za-z0-9._~!$&'()*+,;=:@/\[\]-]`)
	oneOfDecoded = regexp.MustCompile(`^[A-Za-z0-9._~-]$`)
)

// rfcPath is the normal form of an absolute path, by RFC 3986 to the letter:
// escapes by section 6.2.2, dot segments by the two buffers of section 5.2.4.
func rfcPath(s string) string {
	in := notInPaths.ReplaceAllStringFunc(s, func(c string) string {
		raw, err := url.PathUnescape(c)
		if err == nil && len(c) == 3 && c[0] == '%' && oneOfDecoded.MatchString(raw) {
			return raw
		}
		return strings.ToUpper(fmt.Sprintf("%%%x", raw[0])) + strings.ToUpper(eachByte(raw[1:]))
	})
	out := ""
	for in != "" {
		switch {
		case strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"), in == "/..":
			in = "/" + in[min(len(in), 4):]
			out = out[:max(strings.LastIndexByte(out, '/'), 0)]
		default:
			end := strings.IndexByte(in[1:], '/') + 1
			if end == 0 {
				end = len(in)
			}
			out, in = out+in[:end], in[end:]
		}
	}
	return out
}

func eachByte(s string) (out string) {
	for i := range len(s) {
		out += fmt.Sprintf("%%%02x", s[i])
	}
	return out
}

// pathSpellings are ways to write a normal path; bits choose which.
func pathSpellings(p string, bits uint64) []string {
	var escaped, longer strings.Builder
	for i, n := 0, 0; i < len(p); i, n = i+1, n+1 {
		chosen, lower := bits>>(n%64)&1 == 1, bits>>((n+7)%64)&1 == 1
		c := p[i : i+1]
		if p[i] == '%' {
			c = p[i : i+3]
			i += 2
		} else if chosen && unreserved(p[i]) {
			c = fmt.Sprintf("%%%02X", p[i])
		}
		if len(c) == 3 && lower {
			c = strings.ToLower(c)
		}
		escaped.WriteString(c)
		if c == "/" && chosen {
			longer.WriteString([]string{"/.", "/%2e", "/x/..", "/x/%2E.", "/x/./.%2e"}[n%5])
		}
		longer.WriteString(c)
	}
	return []string{p, escaped.String(), longer.String(), "/.." + p, "/%2e" + p}
}

// lenient reads UTF-8 as old decoders did, overlong sequences and all.
func lenient(s string) string {
	var out []rune
	for i := 0; i < len(s); {
		more, r := 0, rune(s[i])
		switch {
		case s[i]>>5 == 0b110:
			more, r = 1, r&0x1f
		case s[i]>>4 == 0b1110:
			more, r = 2, r&0x0f
		case s[i]>>3 == 0b11110:
			more, r = 3, r&0x07
		}
		for k := 1; k <= more; k++ {
			if i+k == len(s) || s[i+k]>>6 != 0b10 {
				// Cut short, it is no character to anybody.
				more, r = 0, rune(s[i])
				break
			}
			r = r<<6 | rune(s[i+k]&0x3f)
		}
		out = append(out, r)
		i += 1 + more
	}
	return string(out)
}

// FuzzMatch builds tables of several providers, and holds them to a judge that
// is slow and written from the documentation: who gets a request does not depend
// on the order of the table, on how its hosts and paths were spelt, nor on how the
// request is, and nobody gets one for a host outside of the pattern.
func FuzzMatch(f *testing.F) {
	hosts := []string{"api.example.com", "evilexample.com", "API.EXAMPLE.COM.", "x.githubusercontent.com", "[::ffff:10.0.0.1]", "a.b.api.example.com", "münchen.example"}
	for i := range 10 * len(hosts) {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		recipe := make([]byte, 4*(2+i%20))
		for k := range recipe {
			recipe[k] = byte(r.Uint32())
		}
		f.Add(recipe, hosts[i%len(hosts)], []string{"/v1/../v1/x", "/%761/y", "/v1x", "/v1/xy/z", "/"}[i%5], []string{"GET", "POST", "HEAD"}[i%3], r.Uint64())
	}
	f.Fuzz(func(t *testing.T, recipe []byte, host, path, method string, bits uint64) {
		h, err := Host(host)
		if err != nil {
			return
		}
		p, err := Path(path)
		if err != nil || len(recipe) > 200 {
			return
		}
		entries := entriesOf(recipe, h, p)
		for _, e := range entries {
			if pattern, err := ParsePattern(e.Route.Host); err != nil || pattern.Match(h) != covered(e.Route.Host, h) {
				t.Fatalf("%s covers %s: %v, %v", e.Route.Host, h, pattern.Match(h), err)
			}
		}
		tb, err := NewTable(entries)
		if err != nil {
			t.Fatal(err)
		}
		shuffled := slices.Clone(entries)
		rand.New(rand.NewPCG(bits, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		mirror := table(t, shuffled...)
		for _, port := range []int{443, 8443} {
			want, known := judge(entries, h, port, method, p)
			// Where servers may differ nobody gets a credential, however it is spelt.
			e, result := tb.Match(h, port, method, p)
			if verdict(tb, e, result, h, port, method, p) == unclear && (strings.ContainsAny(p, "%;") || strings.Contains(p, "//")) {
				want = unclear
			}
			for _, tb := range []*Table{tb, mirror} {
				e, result := tb.Match(h, port, method, p)
				if got := verdict(tb, e, result, h, port, method, p); got != want || tb.Host(h, port) != known {
					t.Fatalf("%s %s:%d%s: %s, known %v; by the judge %s, %v, of %+v", method, h, port, p, got, tb.Host(h, port), want, known, entries)
				}
				if result == Matched && !covered(e.Route.Host, h) {
					t.Fatalf("%s was routed to %s", h, e.Route.Host)
				}
			}
			for _, s := range hostSpellings(h, bits) {
				for _, other := range pathSpellings(p, bits) {
					h2, err := Host(s.text)
					p2, err2 := Path(other)
					if err != nil || err2 != nil {
						continue
					}
					e, result := tb.Match(h2, port, method, p2)
					if got := verdict(tb, e, result, h2, port, method, p2); got != want {
						t.Fatalf("%s%s goes to %s, and spelt %s%s to %s", h, p, want, s.text, other, got)
					}
				}
			}
		}
	})
}

// entriesOf makes routes near a host and a path: four bytes for each.
func entriesOf(recipe []byte, host, path string) (entries []Entry) {
	parent, _ := parent(host)
	// Most are about the host itself, so that there are ties.
	hosts := []string{
		host, host, host, strings.ToUpper(host) + ".", "*." + parent, "*." + parent, "*." + strings.ToUpper(parent) + ".", "*." + host, "evil" + host, host + ".evil.example",
		"*." + strings.TrimLeft(parent, "abcdefghij."), "api.example.com", "*.Example.COM.", "*.api.example.com", "münchen.example", "*.githubusercontent.com",
	}
	first, _, _ := strings.Cut(path[1:], "/")
	paths := []string{"", "/", "/v1", "/v1/", "/%761", "/v1/x", "/" + first, path, path + "/", path + "x", path[:len(path)-1], path[:1+len(path)/2], "/V1"}
	for ; len(recipe) >= 4; recipe = recipe[4:] {
		e := entry("p"+strconv.Itoa(int(recipe[0]&3)), hosts[recipe[1]&15], paths[int(recipe[2])%len(paths)], [][]string{nil, {"GET"}, {"POST"}, {"GET", "HEAD"}}[recipe[3]&3]...)
		e.Route.Port = []int{0, 443, 8443, 0}[recipe[3]>>2&3]
		if e.Provider == "p3" {
			e.Route.Except = []string{path}
		}
		_, err := ParsePattern(e.Route.Host)
		if _, err2 := Path(e.Route.Path); err == nil && err2 == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// unclear is the verdict on a path that servers read in more than one way.
const unclear = "unclear"

func verdict(tb *Table, e Entry, r Result, host string, port int, method, path string) string {
	switch r {
	case None:
		return "nobody"
	case Ambiguous:
		return fmt.Sprint("a tie of ", tb.Candidates(host, port, method, path))
	case Excepted:
		return e.Provider + ", but for its login"
	case Unclear:
		return unclear
	}
	return e.Provider
}

// covered reports whether a pattern covers a host, label by label and without
// Pattern's own code.
func covered(pattern, host string) bool {
	rest, wild := strings.CutPrefix(pattern, "*.")
	normal, _ := Host(rest)
	want, have := strings.Split(normal, "."), strings.Split(host, ".")
	if !wild {
		return slices.Equal(want, have)
	}
	return len(have) > len(want) && slices.Equal(want, have[len(have)-len(want):]) && !slices.Contains(have, "")
}

// judge decides on a request as docs/proxy.md says: the longest path, then a
// route that names the method, then the exact host, then the longer wildcard. A
// tie of two providers goes to nobody.
func judge(entries []Entry, host string, port int, method, path string) (verdict string, known bool) {
	var best []int
	var winners []Entry
	for _, e := range entries {
		if e.Route.Port != port && (e.Route.Port != 0 || port != 443) || !covered(e.Route.Host, host) {
			continue
		}
		known = true
		prefix := strings.TrimSuffix(rfcPath("/"+strings.TrimPrefix(e.Route.Path, "/")), "/")
		if !strings.HasPrefix(path+"/", prefix+"/") || len(e.Route.Methods) > 0 && !slices.Contains(e.Route.Methods, method) {
			continue
		}
		rank := []int{len(prefix), min(len(e.Route.Methods), 1), 1000}
		if wild, ok := strings.CutPrefix(e.Route.Host, "*."); ok {
			domain, _ := Host(wild)
			rank[2] = len(domain)
		}
		switch slices.Compare(rank, best) {
		case 1:
			best, winners = rank, []Entry{e}
		case 0:
			winners = append(winners, e)
		}
	}
	var names []string
	for _, e := range winners {
		names = append(names, e.Provider)
	}
	slices.Sort(names)
	switch names = slices.Compact(names); {
	case len(names) == 0:
		return "nobody", known
	case len(names) > 1:
		return fmt.Sprint("a tie of ", names), known
	case slices.Contains(winners[0].Route.Except, path):
		return names[0] + ", but for its login", known
	}
	return names[0], known
}
