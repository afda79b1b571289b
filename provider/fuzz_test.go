package provider

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/publicsuffix"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// FuzzParse: no file crashes the loader, and what it refuses it names. What it
// accepts says the same however it is written, and routes to hosts that it claims,
// in slots that can carry a credential.
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
	for _, refused := range []string{
		"", "[]", "{", `{"name":1}`, `{"name":"x"}`, `{"name":"a b","auth_type":"api_key"}`, `{"name":"x","name":"y"}`, `{"name":"x","Name":"y"}`, "{\n\"name\":\"x\",\n\"auth_type\":\"magic\"}",
		`{"name":"x","auth_type":"oauth2","flow":"pkce","oauth":{"token_url":"http://x"}}`, `{"name":"x","auth_type":"api_key","api_url":["a.example",{}]}`, `{"name":"x","auth_type":"api_key","api_url":"*.com"}`,
		`{"name":"x","auth_type":"api_key","routes":[{"host":"a.example","inject":[{"header":"Host","value":"{token}"}]}]}`, `{"name":"x","auth_type":"api_key","routes":[{"host":"a.example","path":"/..%2f","inject":[{}]}]}`,
		`{"name":"x","auth_type":"api_key","api_url":"regex:.*acme.*","export":{"PATH":"API_TOKEN"}}`, `{"name":"x","auth_type":"api_key","a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "}",
	} {
		f.Add([]byte(refused))
	}
	known := schemaNames(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("x.json", data)
		if err != nil {
			if authsome.CodeOf(err) != authsome.Invalid {
				t.Fatalf("%v has code %s", err, authsome.CodeOf(err))
			}
			checkNamed(t, err.Error(), data, known)
			return
		}
		var entries []route.Entry
		for _, r := range p.Routes {
			entries = append(entries, route.Entry{Provider: p.Name, Route: r})
			if len(r.Inject) == 0 {
				t.Fatal("a route without an injection")
			}
			for _, in := range r.Inject {
				why := unfitField(in.Slot, in.Name)
				if in.Slot == authsome.SlotHeader || in.Slot == authsome.SlotBasic {
					why = unfit(in.Name)
				}
				if in.Slot == authsome.SlotPath {
					if _, err := route.ParseTemplate(in.Name); err != nil {
						t.Fatalf("the path %q: %v", in.Name, err)
					}
				}
				if why != "" || strings.ContainsAny(in.Value, "\r\n\x00") {
					t.Fatalf("%q: %q is put on requests: %s", in.Name, in.Value, why)
				}
			}
		}
		if _, err := route.NewTable(entries); err != nil {
			t.Fatal(err)
		}
		checkClaimed(t, p)
		for _, e := range p.Env {
			if !isVariable(e.Name) || decides(e.Name) {
				t.Fatalf("the variable %q is set", e.Name)
			}
		}
		// What is kept is what was read: it says the same when it is read again, with
		// blanks, and with what JSONC allows.
		var wide bytes.Buffer
		if err := json.Indent(&wide, p.Definition, "\t", "  "); err != nil {
			t.Fatal(err)
		}
		jsonc := "// A comment.\n" + strings.Replace(string(p.Definition), "{", "{ /* and another */", 1)
		if len(p.Definition) > 2 {
			jsonc = strings.TrimSuffix(jsonc, "}") + ", }"
		}
		for _, text := range []string{string(p.Definition), wide.String(), "\xef\xbb\xbf" + jsonc} {
			again, err := Parse("x.json", []byte(text))
			if err != nil {
				t.Fatalf("%v, of %s", err, text)
			}
			if !reflect.DeepEqual(p, again) { // cmp is slower by far
				t.Fatal(cmp.Diff(p, again))
			}
		}
		if err := CheckRegistrable(p); err == nil {
			for _, r := range p.Routes {
				if _, err := netip.ParseAddr(r.Host); err == nil || !strings.Contains(strings.TrimPrefix(r.Host, "*."), ".") || strings.HasSuffix(r.Host, ".localhost") {
					t.Fatalf("%s may be registered", r.Host)
				}
			}
		}
	})
}

// schemaNames are the fields at the top of a definition, by its JSON Schema.
func schemaNames(t testing.TB) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(text, &schema); err != nil || len(schema.Properties) < 8 {
		t.Fatalf("%d fields, %v", len(schema.Properties), err)
	}
	names := map[string]bool{}
	for name := range maps.Keys(schema.Properties) {
		names[name] = true
	}
	return names
}

var refusalText = regexp.MustCompile(`^x\.json(?::(\d+))?: (.+)$`)

// checkNamed holds a refusal to its form: the file, a line that it has, the field,
// unless the whole file is no definition, and why.
func checkNamed(t *testing.T, text string, data []byte, known map[string]bool) {
	t.Helper()
	m := refusalText.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("the refusal %q", text)
	}
	if line, _ := strconv.Atoi(m[1]); m[1] != "" && (line < 1 || line > bytes.Count(data, []byte("\n"))+1) {
		t.Fatalf("the refusal %q of a file of %d lines", text, bytes.Count(data, []byte("\n"))+1)
	}
	for _, whole := range []string{"it is longer than 1 MiB", "it is nested more than 64 levels deep", "it is not valid JSON or JSONC", "it is not a JSON object"} {
		if m[2] == whole {
			return
		}
	}
	field, why, ok := strings.Cut(m[2], ": ")
	root, _, _ := strings.Cut(field, ".")
	if !ok || why == "" || !known[root] && !strings.HasSuffix(why, "is there twice") {
		t.Fatalf("the refusal %q names no field", text)
	}
}

// checkClaimed holds a provider's routes to the hosts that its file claims.
func checkClaimed(t *testing.T, p *authsome.Provider) {
	t.Helper()
	var written struct {
		APIURL any              `json:"api_url"`
		Routes []map[string]any `json:"routes"`
		OAuth  struct {
			Base string `json:"base_url"`
		} `json:"oauth"`
	}
	_ = json.Unmarshal(p.Definition, &written)
	claims := textsOf(written.APIURL)
	for _, r := range written.Routes {
		for name, v := range r {
			if strings.EqualFold(name, "host") {
				claims = append(claims, textsOf(v)...)
			}
		}
	}
	for _, r := range p.Routes {
		domain, wild := strings.CutPrefix(r.Host, "*.")
		if _, err := publicsuffix.EffectiveTLDPlusOne(domain); wild && err != nil && domain != "googleapis.com" && domain != "githubusercontent.com" {
			t.Fatalf("%s covers the hosts of strangers: %v", r.Host, err)
		}
		if !slices.ContainsFunc(claims, func(c string) bool { return isClaim(c, written.OAuth.Base, r.Host) }) {
			t.Fatalf("%s is routed, and claimed are %q", r.Host, claims)
		}
	}
}

func textsOf(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// isClaim reports whether one text of a definition is about a host.
func isClaim(claim, base, host string) bool {
	claim = strings.TrimSpace(claim)
	if expr, ok := strings.CutPrefix(claim, "regex:"); ok {
		return meant(expr, host)
	}
	claim = strings.ReplaceAll(claim, "{base_url}", strings.TrimRight(base, "/"))
	if !strings.Contains(claim, "://") {
		claim = "https://" + claim
	}
	u, err := url.Parse(claim)
	if err != nil {
		return false
	}
	rest, wild := strings.CutPrefix(u.Hostname(), "*.")
	normal, err := route.Host(rest)
	if wild {
		normal = "*." + normal
	}
	return err == nil && normal == host
}

// meant reports whether an expression is about a host, or the hosts of a pattern:
// whether it matches one of them, by package regexp. The table of docs/providers.md
// has the known expressions that are taken for less than they match.
func meant(expr, host string) bool {
	if bare := strings.TrimSuffix(strings.TrimPrefix(expr, "^"), "$"); host == "*.googleapis.com" || host == "*.githubusercontent.com" {
		return strings.Contains(bare, strings.TrimSuffix(host[2:], ".com"))
	}
	// As it is printed, because \Q without an \E would quote the parenthesis too.
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return false
	}
	re, err := regexp.Compile(`(?i)\A(?:` + parsed.String() + `)\z`)
	if err != nil {
		return false
	}
	domain, wild := strings.CutPrefix(host, "*.")
	for _, h := range []string{host, "a." + domain, "abc." + domain} {
		if wild == (h != host) && (re.MatchString(h) || re.MatchString(h+".")) {
			return true
		}
	}
	return false
}

// FuzzRegexp: an expression becomes patterns of one domain that is somebody's own,
// for hosts that it matches.
func FuzzRegexp(f *testing.F) {
	for _, expr := range []string{
		`.*\.linear\.app`, `^(api|www)\.acme\.example$`, `.*googleapis.*`, `^.*\.?githubusercontent\.com$`, `api\d?\.acme\.com`, `[a-z]+\.acme\.co\.uk`, `(?i)API\.acme\.com`,
		`.*\.github\.io`, `acme\.com|acme\.org`, `a^b\.acme\.com`, `(a$|b)\.acme\.com`, `.*acme\.com`, `[^.]+\.acme\.com`, `x{2}\.acme\.com`, `\Qapi.acme.com\E`, `(?:.+\.)?acme\.com`, `ａ\.acme\.com`, `K\.acme\.com`,
	} {
		f.Add(expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		hosts, why := fromRegexp(expr)
		if len(hosts) == 0 {
			if !strings.HasPrefix(why, "is not routed: ") {
				t.Fatalf("%q: no hosts, and why is %q", expr, why)
			}
			return
		}
		owner := ""
		for _, h := range hosts {
			p, err := route.ParsePattern(h)
			if err != nil || p.String() != h {
				t.Fatalf("%q: the pattern %q: %v", expr, h, err)
			}
			domain, wild := strings.CutPrefix(h, "*.")
			site, err := publicsuffix.EffectiveTLDPlusOne(domain)
			if domain == "googleapis.com" || domain == "githubusercontent.com" {
				site, err = domain, nil
			}
			if suffix, icann := publicsuffix.PublicSuffix(domain); err != nil || wild && !icann && strings.Contains(suffix, ".") && site != domain || owner != "" && owner != site {
				t.Fatalf("%q is routed to %q: more than one owner's (%v)", expr, hosts, err)
			}
			owner = site
			if isASCII(expr) && !meant(expr, h) {
				t.Fatalf("%q is routed to %s, which it does not match", expr, h)
			}
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
