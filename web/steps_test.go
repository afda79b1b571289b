package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/google/go-cmp/cmp"
)

// pem is a text of several lines, as a form sends it.
const pem = "-----BEGIN PRIVATE KEY-----\r\ncanary\r\n-----END PRIVATE KEY-----\r\n"

func TestClientForm(t *testing.T) {
	b := newBench(t, host)
	l := b.at(authsome.StepClient, "work")
	page, cookie, token := b.open(l)
	b.want(page, 200, "<title>Connect GitHub · authsome</title>", "lets a program log in only by way of an OAuth app",
		`readonly value="http://127.0.0.1:7998/auth/callback/oauth"`,
		`<a href="https://github.com/settings/developers" rel="noreferrer noopener" target="_blank">Create an OAuth app at github.com</a>`,
		`name="field.client_id" type="text"`, `name="field.client_secret" type="password" autocomplete="off"`,
		`name="field.private_key" rows="6" class="secret" autocomplete="off"`, ">Continue</button>",
		"<dt>Logs in at</dt><dd><code><bdi>github.com</bdi>", "<dt>Token is sent to</dt><dd><code><bdi>api.github.com</bdi>")
	if strings.Contains(page.body, "autofocus") {
		t.Error("the focus scrolls past what has to be read first")
	}
	if strings.Contains(page.body, "device flow") || strings.Count(page.body, "optional") != 2 || strings.Count(page.body, " required") != 1 {
		t.Errorf("the form asks for other things than it should: %s", page.body)
	}

	// What is wrong is said; the secret does not come back.
	a := b.send(l, cookie, token, "field.client_id", "", "field.client_secret", "canary")
	b.want(a, http.StatusUnprocessableEntity, `id="field-0-problem">The client id does not look right.`)
	b.untouched(l)

	b.then = authsome.StepAuthorize
	b.logins[l.ID].AuthorizeURL = consent
	a = b.send(l, cookie, token, "field.client_id", " Iv1.abc ", "field.client_secret", "", "field.private_key", pem, "field.redirect", "x")
	b.want(a, http.StatusSeeOther)
	if got := a.Header.Get("Location"); got != path(l) {
		t.Errorf("the form leads to %q: to another site it would be blocked", got)
	}
	_, stored := b.state(l.ID)
	want := map[string]string{"client_id": "Iv1.abc", "private_key": strings.ReplaceAll(strings.TrimSpace(pem), "\r", "")}
	if diff := cmp.Diff(want, stored); diff != "" {
		t.Error(diff)
	}
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), 200, "Continue at github.com")
	// The form of the step before is still open in another tab.
	b.want(b.send(l, cookie, token, "field.client_id", "other"), http.StatusSeeOther)
	if _, stored := b.state(l.ID); stored["client_id"] != "Iv1.abc" {
		t.Error("a form that is over was taken")
	}

	// A service of the person's own, and the device flow, which has no redirect.
	l = b.at(authsome.StepClient, "default")
	l.BaseURL, l.RedirectURI, l.AppsURL = "https://git.corp.example", "", ""
	page, _, _ = b.open(l)
	b.want(page, 200, "<bdi>git.corp.example</bdi>", "Allow it the device flow.", "https://docs.github.com/apps")
	if strings.Contains(page.body, "readonly") || strings.Contains(page.body, "api.github.com") {
		t.Errorf("the form shows the vendor's hosts, or a redirect URI: %s", page.body)
	}
	l = b.at(authsome.StepClient, "default")
	l.AppsURL = "http://github.com/settings"
	page, _, _ = b.open(l)
	b.want(page, 200, "Create an OAuth app at GitHub")
}

func TestConfirm(t *testing.T) {
	b := newBench(t, host)
	b.then = authsome.StepAuthorize
	l := b.at(authsome.StepConfirm, "default")
	l.AuthorizeURL = consent
	page, cookie, token := b.open(l)
	b.want(page, 200, "<h1>Is this right?</h1>", "<bdi>mcp.example.com</bdi>", "<bdi>auth.elsewhere.example</bdi>",
		`form="confirm">Log in at auth.elsewhere.example</button>`, `form="cancel" class="quiet">Cancel</button>`)
	if got := page.Header.Get("Referrer-Policy"); got != "same-origin" {
		t.Errorf("the form would be sent without an origin: %s", got)
	}
	forged := []struct {
		name, cookie, token string
		header              []string
	}{
		{"another site", cookie, token, []string{"Sec-Fetch-Site", "cross-site"}},
		{"no cookie", "", token, nil},
		{"no token", cookie, "", nil},
		{"the token of another login", cookie, strings.Repeat("0", 64), nil},
	}
	for _, tt := range forged {
		header := tt.header
		if tt.cookie != "" {
			header = append([]string{"Cookie", tt.cookie}, header...)
		}
		b.want(b.ask("POST", path(l), "action=confirm&form_token="+tt.token, header...), http.StatusForbidden)
		if b.logins[l.ID].Step != authsome.StepConfirm {
			t.Fatalf("%s: it was confirmed", tt.name)
		}
	}
	// A GET confirms nothing.
	b.want(b.ask("GET", path(l)+"?action=confirm&form_token="+token, "", "Cookie", cookie), 200, "Is this right?")
	// Neither does another form.
	b.want(b.send(l, cookie, token, "field.client_id", "x"), http.StatusSeeOther)
	if b.logins[l.ID].Step != authsome.StepConfirm {
		t.Fatal("it was confirmed")
	}

	b.want(b.send(l, cookie, token, "action", "confirm"), http.StatusSeeOther)
	if b.logins[l.ID].Step != authsome.StepAuthorize {
		t.Error("it was not confirmed")
	}
	// Twice is once.
	b.want(b.send(l, cookie, token, "action", "confirm"), http.StatusSeeOther)

	// The other button.
	l = b.at(authsome.StepConfirm, "default")
	_, cookie, token = b.open(l)
	b.want(b.send(l, cookie, token, "action", "cancel"), http.StatusSeeOther)
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusGone, "This login was cancelled")

	// The server refuses, so that the login is over.
	l = b.at(authsome.StepConfirm, "default")
	_, cookie, token = b.open(l)
	b.meanwhile = func(l *authsome.Login) {
		l.Status, l.Err = authsome.LoginFailed, authsome.E(authsome.AuthFailed, "log in to github: it takes no registrations").WithHint("authsome provider set-client github")
	}
	b.want(b.send(l, cookie, token, "action", "confirm"), http.StatusSeeOther)
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusGone, "This login failed", "It takes no registrations.", "<code>authsome provider set-client github</code>")
	b.meanwhile = nil

	// Something is wrong inside.
	l = b.at(authsome.StepConfirm, "default")
	_, cookie, token = b.open(l)
	b.broken = authsome.E(authsome.StoreFailed, "write /home/me/db: disk full")
	a := b.send(l, cookie, token, "action", "confirm")
	b.want(a, http.StatusInternalServerError, "Something went wrong")
	if strings.Contains(a.body, "/home/me") {
		t.Error("the page tells about files")
	}
}

func TestAuthorize(t *testing.T) {
	b := newBench(t, host)
	l := b.at(authsome.StepAuthorize, "work")
	page, _ := b.page(l)
	b.want(page, 200, "<h1>Continue at github.com</h1>", "asks you there whether authsome may use your account")
	found := checkMarkup(t, page.body)
	if got := attr(found["a"][0], "href"); got != strings.ReplaceAll(consent, "'", "%27") {
		t.Errorf("the link leads to %q", got)
	}
	to := ""
	for _, m := range found["meta"] {
		if attr(m, "http-equiv") == "refresh" {
			to = attr(m, "content")
		}
	}
	if to != "0; url="+consent {
		t.Errorf("the page goes to %q", to)
	}
	if got := page.Header.Get("Referrer-Policy"); got != "no-referrer" {
		t.Errorf("the other site learns where people come from: %s", got)
	}
	if page.Header.Get("Location") != "" {
		t.Error("a redirect would be blocked after a form")
	}

	// Whoever says where people are to go, it is a plain https address.
	for _, bad := range []string{
		"", "http://github.com/x", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//github.com/x", "/health", "https:github.com",
		"https://", "https://github.com@evil.example/", "https://user:canary@github.com/", "https://gıthub.com/", "https://github.com\u202e/", "HTTPS\x00://x",
		"https://git\nhub.com", " https://github.com", "ms-settings:x", "https://x/" + strings.Repeat("a", 9000), "https://%zz/",
	} {
		l := b.at(authsome.StepAuthorize, "default")
		l.AuthorizeURL = bad
		page, _ := b.page(l)
		b.want(page, http.StatusConflict, "Not a safe address", "authsome inspect github")
		if found := checkMarkup(t, page.body); len(found["a"]) > 0 || strings.Contains(page.body, "refresh") {
			t.Errorf("%q: the page leads there: %s", bad, page.body)
		}
	}
}

func TestDevice(t *testing.T) {
	b := newBench(t, host)
	l := b.at(authsome.StepDevice, "work")
	page, cookie, _ := b.open(l)
	b.want(page, 200, `<p class="usercode" tabindex="0"><code>WDJB-MJHT</code></p>`, `<meta http-equiv="refresh" content="5">`,
		`<a href="https://github.com/login/device?user_code=WDJB-MJHT" class="button"`, ">github.com/login/device</a>", "<bdi>work</bdi>")
	b.logins[l.ID].complete()
	b.logins[l.ID].Account.Label = "octocat"
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), 200, "GitHub (work) is connected as octocat")

	l = b.at(authsome.StepDevice, "default")
	_, cookie, token := b.open(l)
	b.want(b.send(l, cookie, token, "action", "cancel"), http.StatusSeeOther)
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusGone, "This login was cancelled")

	for _, tt := range []struct{ code, plain, complete, leads string }{
		{"A", "https://github.com/d", "", "https://github.com/d"},
		{"A", "https://github.com/d", "http://github.com/d?c=A", "https://github.com/d"},
		{"A", "https://github.com/d", "https://evil.example/d?c=A", "https://github.com/d"},
		{"A", "https://github.com/d", "javascript:alert(1)", "https://github.com/d"},
		{"A", "http://github.com/d", "", ""},
		{"A", "", "https://github.com/d?c=A", ""},
		{"", "https://github.com/d", "", ""},
		{`"><script>`, "https://github.com/d", "", "https://github.com/d"},
	} {
		l := b.at(authsome.StepDevice, "default")
		l.UserCode, l.VerificationURL, l.VerificationURLComplete = tt.code, tt.plain, tt.complete
		page, _ := b.page(l)
		got := ""
		if a := checkMarkup(t, page.body)["a"]; len(a) > 0 {
			got = attr(a[0], "href")
		}
		if got != tt.leads || (got == "") != (page.StatusCode == http.StatusConflict) {
			t.Errorf("%+v leads to %q, status %d", tt, got, page.StatusCode)
		}
	}
}

func TestWorking(t *testing.T) {
	b := newBench(t, host)
	page, _ := b.page(b.at(authsome.StepWorking, "default"))
	b.want(page, 200, "GitHub is being asked", `<meta http-equiv="refresh" content="2">`)
}

// TestNotes: what a login found out stands on its last page.
func TestNotes(t *testing.T) {
	b := newBench(t, host)
	l := b.at(authsome.StepWorking, "default")
	_, cookie := b.page(l)
	e := b.logins[l.ID]
	e.complete()
	e.Account = authsome.Account{ID: "1", Label: "<b>octo\u202ecat"}
	e.Notes = []string{"this is the same account as work", "the service granted less than was asked for; missing: <repo>"}
	for range 20 {
		e.Notes = append(e.Notes, strings.Repeat("note ", 200))
	}
	page := b.ask("GET", path(l), "", "Cookie", cookie)
	b.want(page, 200, "GitHub is connected as &lt;b&gt;octocat", "never see a token",
		`<p class="notice">This is the same account as work.</p>`, `missing: &lt;repo&gt;.</p>`)
	checkMarkup(t, page.body)
	if len(page.body) > 6000 {
		t.Errorf("the page has %d bytes", len(page.body))
	}
	b.want(b.ask("GET", link(l), ""), http.StatusGone, "This login is already finished", "This is the same account as work.")
}

// TestHostileSteps: whatever a server or a definition says, the pages keep their
// shape.
func TestHostileSteps(t *testing.T) {
	const evil = `</title></code>"><script>alert(1)</script><form action=https://evil.example>{{.}}` + "\u202e\x00\x1b\r\n"
	b := newBench(t, host)
	for _, step := range []authsome.LoginStep{
		authsome.StepKey, authsome.StepClient, authsome.StepConfirm, authsome.StepAuthorize, authsome.StepDevice, authsome.StepWorking, evil,
	} {
		l := b.at(step, "default")
		e := b.logins[l.ID]
		p := github()
		p.DisplayName, p.OAuth.TokenURL, p.Routes[0].Host = evil, "https://"+evil, evil
		e.provider = p
		l.Resource, l.Server, l.RedirectURI, l.AppsURL, l.UserCode = evil, evil, evil, "https://x.example/"+evil, evil
		if step == authsome.StepKey || step == authsome.StepClient {
			l.Form = []authsome.KeyField{{Name: strings.TrimRight(evil, "\u202e\x00\x1b\r\n"), Label: evil, Hint: evil, Multiline: true}, {Name: "action", Label: evil, Public: true, Multiline: true}}
		}
		page, _ := b.page(l)
		if found := checkMarkup(t, page.body); len(found["form"]) > 2 || strings.ContainsAny(page.body, "\x00\x1b\u202e") {
			t.Errorf("%s: %s", step, page.body)
		}
		e.Status, e.Err = authsome.LoginFailed, authsome.E(authsome.AuthFailed, "log in to github: %s", evil).WithHint("authsome %s", evil)
		over := b.ask("GET", link(l), "")
		checkMarkup(t, over.body)
		if over.StatusCode != http.StatusGone || strings.ContainsAny(over.body, "\x00\x1b\u202e") {
			t.Errorf("%s: %s", step, fmt.Sprint(over.body))
		}
	}
}
