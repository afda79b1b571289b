package scrub

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const (
	token    = "sk-proj-Zq3xV9mTb7WcY2LkP0aRs8NdHfJg4UeQi6TzXo1B"
	awkward  = `p@ss w0rd/+"\<&>'%=~é€😀`
	stars48  = "************************************************"
	someText = `{"error": "no such key", "hint": "see https://example.com/docs?q=a%20b&amp;c=\u00e9"}`
)

// TestForms hides values in what the encoders of other programs make of them.
func TestForms(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	marshal := func(v string) string {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(j[1 : len(j)-1])
	}
	escape := func(format string) func(string) string {
		return func(v string) string {
			var b strings.Builder
			for _, r := range v {
				fmt.Fprintf(&b, format, r)
			}
			return b.String()
		}
	}
	// JavaScript's, which leaves more alone than Go's.
	component := func(v string) string {
		e := strings.ReplaceAll(url.QueryEscape(v), "+", "%20")
		for _, c := range "!'()*~" {
			e = strings.ReplaceAll(e, url.QueryEscape(string(c)), string(c))
		}
		return e
	}
	encoders := map[string]func(string) string{
		"as it is":                 func(v string) string { return v },
		"base64":                   func(v string) string { return b64([]byte(v)) },
		"base64 for URLs":          func(v string) string { return base64.URLEncoding.EncodeToString([]byte(v)) },
		"base64 without padding":   func(v string) string { return base64.RawStdEncoding.EncodeToString([]byte(v)) },
		"query":                    url.QueryEscape,
		"query, small letters":     func(v string) string { return lowerEscapes(url.QueryEscape(v)) },
		"path":                     url.PathEscape,
		"URI component":            component,
		"every byte for a URL":     urlEscape,
		"EVERY BYTE FOR A URL":     func(v string) string { return strings.ToUpper(urlEscape(v)) },
		"JSON of Go":               marshal,
		"JSON of PHP":              func(v string) string { return strings.ReplaceAll(marshal(v), "/", `\/`) },
		"JSON in ASCII":            func(v string) string { return asciiJSON(marshal(v)) },
		"every character for JSON": func(v string) string { return everyJSON(v) },
		"JSON IN CAPITALS":         func(v string) string { return strings.ReplaceAll(strings.ToUpper(everyJSON(v)), `\U`, `\u`) },
		"JavaScript of Go":         template.JSEscapeString,
		"HTML":                     html.EscapeString,
		"HTML of Go's templates":   template.HTMLEscapeString,
		"HTML with names":          func(v string) string { return namedHTML(v) },
		"every character for HTML": escape("&#%d;"),
		"the same in hexadecimal":  escape("&#x%x;"),
		"THE SAME IN CAPITALS":     escape("&#X%X;"),
		"hexadecimal":              func(v string) string { return hex.EncodeToString([]byte(v)) },
		"HEXADECIMAL":              func(v string) string { return strings.ToUpper(hex.EncodeToString([]byte(v))) },
		"base64 in a URL":          func(v string) string { return url.QueryEscape(b64([]byte(v))) },
		"base64 in PHP's JSON":     func(v string) string { return strings.ReplaceAll(b64([]byte(v)), "/", `\/`) },
		"base64 in HTML": func(v string) string {
			return strings.ReplaceAll(strings.ReplaceAll(b64([]byte(v)), "+", "&#43;"), "=", "&#61;")
		},
	}
	for _, value := range []string{token, awkward, strings.Repeat(awkward, 20), "????>>>>", "abcdefg1", "-----BEGIN KEY-----\nMIIEvQ/+\n"} {
		s := New(secrets(value))
		for name, encode := range encoders {
			t.Run(name, func(t *testing.T) {
				encoded := encode(value)
				text := someText + "\n" + encoded + "\n" + someText
				got := whole(s, text)
				middle := got[len(someText)+1 : len(got)-len(someText)-1]
				// Padding tells nothing, and is not the value's.
				padding := strings.Count(middle, "=") + strings.Count(middle, "%3D")*3 + strings.Count(middle, "&#61;")*5
				if want := len(encoded) - padding; strings.Count(middle, "*") < want {
					t.Errorf("%s became %s", encoded, middle)
				}
				if got[:len(someText)] != someText || got[len(got)-len(someText):] != someText {
					t.Errorf("the text around it became %s", got)
				}
			})
		}
	}
}

// TestDocumentedForms are the examples of docs/scrubbing.md.
func TestDocumentedForms(t *testing.T) {
	s := New(secrets("p@ss/w0rd"))
	for _, text := range []string{
		"p@ss/w0rd", "p%40ss%2Fw0rd", "p%40ss%2fw0rd", "%70%40%73%73%2f%77%30%72%64", `p@ss\/w0rd`, `p\u0040ss\x2fw0rd`,
		`\u0070\u0040\u0073\u0073\u002f\u0077\u0030\u0072\u0064`, "p&commat;ss&#47;w0rd", "p&#x40;ss/w0rd",
		"&#112;&#64;&#115;&#115;&#47;&#119;&#48;&#114;&#100;", "cEBzcy93MHJk", "704073732f77307264",
	} {
		if got := whole(s, "<"+text+">"); got != "<"+strings.Repeat("*", len(text))+">" {
			t.Errorf("%s became %s", text, got)
		}
	}
	if got := whole(s, "dXNlcjpwQHNzL3cwcmQ="); got != "dXNlcjp************=" {
		t.Error(got)
	}
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '%' {
			copy(b[i:], strings.ToLower(string(b[i:i+3])))
		}
	}
	return string(b)
}

func everyJSON(v string) string {
	s := ""
	for _, r := range v {
		s += jsonEscape(r)
	}
	return s
}

// asciiJSON is what Python's json.dumps makes.
func asciiJSON(v string) string {
	s := ""
	for _, r := range v {
		if r < 0x80 {
			s += string(r)
		} else {
			s += jsonEscape(r)
		}
	}
	return s
}

func namedHTML(v string) string {
	s := ""
	for _, r := range v {
		if names := entities[byte(r)]; r < 0x80 && names != nil && r != '\n' {
			s += "&" + names[0] + ";"
		} else {
			s += string(r)
		}
	}
	return s
}

// TestBase64InsideText puts a value at every place of a group of three, with what
// surrounds it.
func TestBase64InsideText(t *testing.T) {
	for _, value := range []string{token, awkward, "abcdefg1", "1\xff\xfe\xfd\xfc\xfb\xfa\xf9"} {
		s := New(secrets(value))
		for before := range 7 {
			for after := range 7 {
				plain := strings.Repeat("<", before) + value + strings.Repeat("?", after)
				for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
					encoded := enc.EncodeToString([]byte(plain))
					got := whole(s, "x="+encoded+"&y=1")
					// What stays must be of the bytes around it, but for four bits.
					kept := got[2 : len(got)-len("&y=1")]
					first, last := strings.IndexByte(kept, '*'), strings.LastIndexByte(kept, '*')
					if first < 0 || strings.Count(kept, "*") != last+1-first {
						t.Fatalf("%s became %s", encoded, kept)
					}
					if 6*first > 8*before+4 {
						t.Errorf("%d before: %d characters stay in front", before, first)
					}
					if 6*(last+1) < 8*(before+len(value)) {
						t.Errorf("%d before, %d after: the value's end stays: %s", before, after, kept)
					}
					if strings.TrimRight(kept[last+1:], "=") != strings.TrimRight(encoded[last+1:], "=") || kept[:first] != encoded[:first] {
						t.Errorf("%s became %s", encoded, kept)
					}
				}
			}
		}
	}
}

// TestNear leaves alone what is almost a value.
func TestNear(t *testing.T) {
	s := New(secrets(token, awkward))
	for _, text := range []string{
		token[:len(token)-1], token[1:], token[:20] + "x" + token[21:], strings.ToLower(token), strings.ToUpper(token),
		"sk-proj-", token[:len(token)-1] + "%42x"[:3], "%", "&#", `\u`, "&#x73;", "&#115", "%73%6b%2",
		base64.StdEncoding.EncodeToString([]byte(token[:len(token)-2])), base64.StdEncoding.EncodeToString([]byte(token[2:])),
		strings.Replace(url.QueryEscape(awkward), "%2F", "%2G", 1), strings.Replace(html.EscapeString(awkward), "&lt;", "&lt", 1),
		stars48, "",
	} {
		if got := whole(s, text); got != text {
			t.Errorf("%q became %q", text, got)
		}
		if got := inParts(s, text, ones(len(text))); got != text {
			t.Errorf("%q became %q, byte by byte", text, got)
		}
	}
}

func TestEntitiesAreHTML(t *testing.T) {
	for b, names := range entities {
		for _, name := range names {
			if !named(b, name) {
				t.Errorf("&%s; is not %q in HTML", name, b)
			}
		}
	}
}

func TestTargets(t *testing.T) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, tt := range []struct {
		name, value string
		strong      bool
		want        []string // the texts looked for
	}{
		{"a token", token, true, []string{token}},
		{"bearer", "Bearer " + token, true, []string{token}},
		{"small letters", "bearer " + token, true, []string{token}},
		{"a scheme of its own", "SSWS " + token, true, []string{token, "SSWS " + token}},
		{"a parameter", `Token token="` + token + `"`, true, []string{token}},
		{"a passphrase", "correct horse battery staple", true, []string{"correct horse battery staple"}},
		{"two words", "correct horsebattery9", true, []string{"horsebattery9", "correct horsebattery9"}},
		{"git", basic("x-access-token:" + token), true, []string{basic("x-access-token:" + token)[6:], strings.TrimRight(basic("x-access-token:" + token)[6:], "="), token}},
		{"the key is the user", basic(token + ":"), true, []string{basic(token + ":")[6:], strings.TrimRight(basic(token + ":")[6:], "="), token}},
		{"with a fixed word", basic(token + ":api_token"), true, []string{basic(token + ":api_token")[6:], strings.TrimRight(basic(token + ":api_token")[6:], "="), token}},
		{"an account and its key", basic("AC0123456789:" + token), true, []string{basic("AC0123456789:" + token)[6:], strings.TrimRight(basic("AC0123456789:" + token)[6:], "="), token}},
		{"a weak password", basic("admin:secret"), false, []string{basic("admin:secret")[6:], "admin:secret"}},
		{"not Base64", "Basic !!!!" + token, true, []string{"!!!!" + token}},
		{"empty", "", false, nil},
		{"one byte", "a", false, nil},
		{"seven bytes", "a1b2c3d", false, nil},
		{"eight bytes", "a1b2c3d4", true, []string{"a1b2c3d4"}},
		{"a word", "password", false, nil},
		{"words", "not-a-secret", false, nil},
		{"a date", "2026-11-24", false, nil},
		{"a number", "123456789012345", false, nil},
		{"a word as injected", "Bearer password", false, nil},
		{"a word with its scheme", "Bearer password1", true, []string{"password1"}},
		{"stars", stars48, false, nil},
		{"sixteen digits", "1234567890123456", true, []string{"1234567890123456"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			targets, strong := targetsOf(tt.value)
			var got []string
			for _, x := range targets {
				if !slices.Contains(got, x.text) {
					got = append(got, x.text)
				}
			}
			want := slices.Compact(tt.want)
			if strong != tt.strong || !slices.Equal(got, want) {
				t.Errorf("got %v, %q; want %v, %q", strong, got, tt.strong, want)
			}
			if s := New(secrets(token, tt.value)); (len(s.Weak()) == 1) == tt.strong {
				t.Errorf("weak: %v", s.Weak())
			}
		})
	}
}
