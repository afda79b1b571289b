package scrub

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// survivors is the other side: who has the scrubbed text and the standard library's
// decoders, and looks for the secret. It knows nothing of forms. It says how it
// was found, "" when it was not.
func survivors(text, secret string) string {
	if strings.Contains(text, secret) {
		return "as it is"
	}
	for kinds := range 16 {
		if strings.Contains(unescape(text, kinds), secret) {
			return fmt.Sprintf("by undoing escapes %04b", kinds)
		}
	}
	for name, run := range fullyEscaped {
		for _, r := range run.FindAllString(text, -1) {
			if strings.Contains(decodeRun(name, r), secret) {
				return "in " + name
			}
		}
	}
	for _, run := range base64Run.FindAllString(unescape(text, 7), -1) {
		run = strings.NewReplacer("-", "+", "_", "/").Replace(run)
		for skip := range min(4, len(run)) {
			r := run[skip:]
			raw, err := base64.RawStdEncoding.DecodeString(r[:len(r)-map[bool]int{true: 1}[len(r)%4 == 1]])
			if err == nil && strings.Contains(string(raw), secret) {
				return "in Base64"
			}
		}
	}
	for _, run := range hexRun.FindAllString(text, -1) {
		for skip := range 2 {
			raw, _ := hex.DecodeString(run[skip : len(run)-(len(run)-skip)%2])
			if strings.Contains(string(raw), secret) {
				return "in hexadecimal"
			}
		}
	}
	return ""
}

var (
	base64Run    = regexp.MustCompile(`[A-Za-z0-9+/_-]{8,}`)
	hexRun       = regexp.MustCompile(`[0-9A-Fa-f]{8,}`)
	fullyEscaped = map[string]*regexp.Regexp{
		"escapes of URLs": regexp.MustCompile(`(?:%[0-9A-Fa-f]{2})+`),
		"escapes of JSON": regexp.MustCompile(`(?:\\[uU][0-9A-Fa-f]{4})+`),
		"escapes of HTML": regexp.MustCompile(`(?:&#[0-9]{1,7};)+|(?:&#[xX][0-9A-Fa-f]{1,6};)+`),
	}
)

// anyOf are the escapes of several kinds.
var anyOf = func() (all [16]*regexp.Regexp) {
	kinds := []string{`%[0-9A-Fa-f]{2}`, `(?s:\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|.))`, `&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});`, `\+`}
	for n := range all {
		var parts []string
		for i, k := range kinds {
			if n>>i&1 == 1 {
				parts = append(parts, k)
			}
		}
		all[n] = regexp.MustCompile(strings.Join(parts, "|"))
	}
	return all
}()

// unescape undoes the escapes of the kinds given (1 of URLs, 2 of JSON, 4 of HTML, 8 for the plus of forms),
// but for those of characters that nobody escapes, which are found only where all
// of the value is escaped.
func unescape(text string, kinds int) string {
	if kinds == 0 {
		return text
	}
	return anyOf[kinds].ReplaceAllStringFunc(text, func(e string) string {
		out := e
		switch {
		case e[0] == '+':
			return " "
		case e[0] == '%':
			out, _ = url.PathUnescape(e)
		case e[0] == '&':
			if out = html.UnescapeString(e); out >= "\x80" && e[1] != '#' {
				return e // names of ASCII alone are looked for
			}
		case len(e) > 2:
			n, _ := strconv.ParseUint(e[2:], 16, 32)
			if out = string(rune(n)); e[1] == 'x' {
				out = string([]byte{byte(n)})
			}
		default:
			if short := strings.IndexByte("0btnvfr", e[1]); short >= 0 {
				return string("\x00\b\t\n\v\f\r"[short])
			} else if c := e[1]; c <= ' ' || c >= 0x7f || unescaped.MatchString(e[1:]) {
				// Who undoes "\/" drops this backslash as well (JavaScript), or gives
				// up (JSON); who keeps it keeps both (Python).
				return "\ufffd" + e[1:]
			}
			return e[1:]
		}
		if unescaped.MatchString(out) {
			return e
		}
		return out
	})
}

var unescaped = regexp.MustCompile(`^[A-Za-z0-9_.-]$`)

func decodeRun(kind, run string) string {
	switch kind {
	case "escapes of URLs":
		out, _ := url.PathUnescape(run)
		return out
	case "escapes of JSON":
		out, _ := strconv.Unquote(`"` + strings.ToLower(run) + `"`)
		return out
	}
	return html.UnescapeString(run)
}

// secretOf is the part of a value that may not survive, if it is one that is looked
// for alone; else "". It is what docs/scrubbing.md says of the simple cases.
func secretOf(value string) string {
	if scheme, rest, ok := strings.Cut(value, " "); ok && scheme == "Bearer" && !strings.ContainsAny(rest, " =\t\r\n") {
		value = rest
	} else if ok {
		return ""
	}
	// What is overwritten of another value may complete one that has asterisks.
	if len(value) < 16 || strings.Contains(value, "*") {
		return ""
	}
	return value
}

func checkSurvivors(t *testing.T, scrubbed string, values ...string) {
	t.Helper()
	for _, v := range values {
		if secret := secretOf(v); secret != "" {
			if how := survivors(scrubbed, secret); how != "" {
				t.Fatalf("%q is found %s in %q", secret, how, scrubbed)
			}
		}
	}
}

// TestSurvivors: without a scrubber, the decoders find each form.
func TestSurvivors(t *testing.T) {
	const secret = `p@ss/w0rd+"&<q>é\1`
	for n, text := range []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), strconv.Quote(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("a%X0", secret),
		urlEscape(secret), strings.ToUpper(urlEscape(secret)), `p&commat;ss&#47;w0rd\x2B&quot;&#x026;%3cq>é\\1`,
		base64.StdEncoding.EncodeToString([]byte("x:" + secret)), base64.URLEncoding.EncodeToString([]byte("xy:" + secret + "\xff\xff\xff")), url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(secret + "+"))),
	} {
		if survivors("before "+text+" behind", secret) == "" {
			t.Errorf("%d: not found in %q", n, text)
		}
		if how := survivors(whole(New(secrets(secret)), "before "+text+" behind"), secret); how != "" {
			t.Errorf("%d: found %s after scrubbing %q", n, how, text)
		}
	}
}
