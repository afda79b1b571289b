package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"golang.org/x/net/html"
)

// ours are the elements that the pages consist of, with the attributes that
// each may have.
var ours = map[string]string{
	"html": "lang", "head": "", "meta": "charset name content http-equiv", "title": "", "link": "rel href type", "body": "",
	"header": "", "img": "src alt width height", "main": "", "footer": "", "h1": "class", "p": "class id role tabindex", "dl": "", "div": "class id role",
	"dt": "", "dd": "", "bdi": "", "span": "class", "code": "", "pre": "tabindex", "a": "href rel target class", "label": "for",
	"ol": "", "li": "", "textarea": "id name rows class required autocomplete autocapitalize autocorrect spellcheck autofocus aria-invalid aria-describedby",
	"form":   "method action autocomplete id",
	"input":  "id name type value readonly required autocomplete autocapitalize autocorrect spellcheck autofocus aria-invalid aria-describedby",
	"button": "type form class",
}

// checkMarkup parses a page as a browser does, and fails on what the templates
// do not have. It returns the elements by name.
func checkMarkup(t *testing.T, page string) map[string][]*html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]*html.Node{}
	for n := range doc.Descendants() {
		if n.Data == "meta" && attr(n, "http-equiv") != "" {
			checkRefresh(t, attr(n, "content"))
		}
		if n.Type != html.ElementNode {
			continue
		}
		found[n.Data] = append(found[n.Data], n)
		allowed, ok := ours[n.Data]
		if !ok {
			t.Errorf("the page has a <%s>: %s", n.Data, page)
		}
		for _, a := range n.Attr {
			if !strings.Contains(" "+allowed+" ", " "+a.Key+" ") {
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			}
			leads := a.Key == "href" || a.Key == "src" || a.Key == "action"
			if leads && !strings.HasPrefix(a.Val, "/static/") && !strings.HasPrefix(a.Val, "/auth/sessions/") && !strings.HasPrefix(a.Val, "https://") {
				t.Errorf("<%s> leads to %q", n.Data, a.Val)
			}
		}
	}
	return found
}

// checkRefresh holds a page to load itself again, or to go to where its links
// may go.
func checkRefresh(t *testing.T, content string) {
	t.Helper()
	_, to, found := strings.Cut(content, "url=")
	if found && !strings.HasPrefix(to, "https://") && !strings.HasPrefix(to, "/auth/sessions/") {
		t.Errorf("the page goes to %q by itself", to)
	}
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// TestHostileDefinitions: whatever a definition says, the page keeps its form.
func TestHostileDefinitions(t *testing.T) {
	const tags = `</title></h1>"><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}`
	const evil = tags + "\u202e\u2066\x00\x1b\r\nSet-Cookie: a=b"
	b := newBench(t, host)
	p := &authsome.Provider{
		Name: "evil", DisplayName: evil, Source: authsome.Custom, DocsURL: "javascript:alert(1)",
		Routes: []authsome.Route{{Host: evil}, {Host: "moc.elpmaxe.\u202elive"}},
		Key: authsome.KeyForm{Fields: []authsome.KeyField{
			{Name: "form_token", Label: evil, Hint: evil, Public: true, Pattern: "x"},
			{Name: tags, Hint: evil, Pattern: "x"},
			{Name: "action", Label: strings.Repeat("long", 1000), Hint: strings.Repeat("long", 10000)},
		}},
	}
	l := b.begin(p, "default")
	l.Err = authsome.E(authsome.AuthFailed, "%s", evil)
	page, cookie, token := b.open(l)
	refused := b.send(l, cookie, token, "field.form_token", tags, "field."+tags, "canary", "field.action", "cancel")
	b.untouched(l)
	for _, a := range []answer{page, refused} {
		found := checkMarkup(t, a.body)
		if len(found["form"]) != 2 || len(found["input"]) != 6 || len(found["a"]) != 0 || len(found["img"]) != 1 {
			t.Errorf("the form changed its shape: %s", a.body)
		}
		if len(a.body) > 20_000 {
			t.Errorf("the page has %d bytes", len(a.body))
		}
		if strings.ContainsAny(a.body, "\x00\x1b\u202e\u2066") {
			t.Error("control or direction characters are in the page")
		}
		for _, in := range found["input"] {
			if name := attr(in, "name"); name == "form_token" && attr(in, "value") != token {
				t.Error("a field of the definition took the token's name")
			}
		}
	}
	b.want(refused, http.StatusUnprocessableEntity)
	for _, s := range []authsome.LoginStatus{authsome.LoginCompleted, authsome.LoginFailed, authsome.LoginExpired} {
		b.end(l.ID, s, l.Err)
		a := b.ask("GET", path(l), "", "Cookie", cookie)
		checkMarkup(t, a.body)
		if len(a.Cookies()) > 0 || strings.ContainsAny(a.body, "\x00\x1b\u202e") {
			t.Errorf("%s: %s", s, a.body)
		}
	}
}

func TestDocsLink(t *testing.T) {
	b := newBench(t, host)
	for docs, want := range map[string]string{
		"https://platform.openai.com/api-keys": "https://platform.openai.com/api-keys",
		"HTTPS://example.com/a b":              "https://example.com/a%20b",
		"":                                     "",
		"http://example.com":                   "",
		"javascript:alert(1)":                  "",
		"data:text/html,x":                     "",
		"//example.com":                        "",
		"/health":                              "",
		"https://":                             "",
		"https:example.com":                    "",
		"https://github.com@evil.example/":     "",
		" https://example.com":                 "",
		"https://exa\nmple.com":                "",
	} {
		p := openai()
		p.DocsURL = docs
		page, _, _ := b.open(b.begin(p, "default"))
		links := checkMarkup(t, page.body)["a"]
		got := ""
		if len(links) > 0 {
			got = attr(links[0], "href")
			if !strings.Contains(attr(links[0], "rel"), "noreferrer") {
				t.Errorf("%q: the link sends a referrer", docs)
			}
		}
		if got != want {
			t.Errorf("%q leads to %q, want %q", docs, got, want)
		}
	}
}

func TestNamelessProvider(t *testing.T) {
	b := newBench(t, host)
	p := openai()
	p.DisplayName, p.Key.Fields[0].Label, p.Key.Fields[0].Hint = "\u202e\n", "", ""
	page, _, _ := b.open(b.begin(p, "default"))
	b.want(page, 200, "<h1>Connect openai</h1>", ">api_key</label>")
	if strings.Contains(page.body, "aria-describedby") {
		t.Error("a field is described by a hint that is not there")
	}
	l := b.begin(p, "default")
	_, cookie, token := b.open(l)
	b.broken = authsome.E(authsome.Invalid, "no").WithHint("a key is longer")
	b.want(b.send(l, cookie, token, "field.api_key", badKey), 422, `id="field-0-problem">No.<`, `id="field-0-hint">a key is longer<`)
}
