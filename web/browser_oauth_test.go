package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// vendor is an authorization server whose people always agree, and what it was
// asked.
func vendor(t *testing.T) (base string, referers *[]string) {
	t.Helper()
	referers = &[]string{}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/authorize" {
			http.NotFound(w, r)
			return
		}
		*referers = append(*referers, r.Referer())
		back := r.URL.Query().Get("redirect_uri") + "?" + url.Values{"code": {"code-canary"}, "state": {r.URL.Query().Get("state")}}.Encode()
		http.Redirect(w, r, back, http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, referers
}

// TestBrowserConsent goes from the question whether a server may be asked over
// the form for an OAuth app to the service and back, in one tab.
func TestBrowserConsent(t *testing.T) {
	b, base := served(t)
	service, referers := vendor(t)
	ctx := chromium(t, chromedp.Flag("ignore-certificate-errors", true))
	complaints := watch(t, ctx, base)
	legible := func() {
		t.Helper()
		if poor := js[[]string](t, ctx, contrasts); len(poor) > 0 {
			t.Errorf("hard to read: %v", poor)
		}
	}
	l := b.at(authsome.StepConfirm, "work")
	e := b.logins[l.ID]
	e.Form, e.RedirectURI, e.AppsURL = clientForm, base+callback, "https://github.com/settings/developers"
	e.AuthorizeURL = service + "/authorize?" + url.Values{"state": {e.state}, "redirect_uri": {base + callback}, "scope": {"a'b c"}}.Encode()

	b.then = authsome.StepClient
	do(t, ctx, chromedp.Navigate(base+link(l)), chromedp.WaitVisible(chromedp.CSS("button.quiet")))
	legible()
	if got := js[string](t, ctx, `document.activeElement.localName`); got != "body" {
		t.Error("the yes has the focus, so that any Enter presses it")
	}
	do(t, ctx, chromedp.Click(chromedp.CSS(`button[form="confirm"]`)), chromedp.WaitVisible(chromedp.CSS("#field-0")))
	legible()
	if got := get(t, ctx, chromedp.Value(chromedp.CSS("#redirect"))); got != base+callback {
		t.Errorf("the redirect URI to copy is %q", got)
	}
	// It can be marked, and not changed.
	do(t, ctx, chromedp.Focus(chromedp.CSS("#redirect")), chromedp.KeyEvent("x"))
	marked := js[string](t, ctx, `(() => { const i = document.getElementById("redirect"); i.select(); return i.value.slice(i.selectionStart, i.selectionEnd) })()`)
	if marked != base+callback {
		t.Errorf("what can be marked is %q", marked)
	}
	if got := js[string](t, ctx, `getComputedStyle(document.getElementById("field-2")).webkitTextSecurity`); got != "disc" {
		t.Errorf("the private key is shown while it is pasted: %q", got)
	}

	b.then = authsome.StepAuthorize
	do(t, ctx, chromedp.SendKeys(chromedp.CSS("#field-0"), "Iv1.abc"), chromedp.SendKeys(chromedp.CSS("#field-1"), "canary-secret"+kb.Enter),
		chromedp.WaitVisible(chromedp.CSS("h1.good")))
	if got := get(t, ctx, chromedp.Text(chromedp.CSS("main"))); !strings.HasPrefix(got, "GitHub (work) is connected") {
		t.Errorf("the end reads %q", got)
	}
	legible()
	if s, stored := b.state(l.ID); s != authsome.LoginCompleted || stored["client_secret"] != "canary-secret" || e.code != "code-canary" {
		t.Errorf("the login is %s with %d fields", s, len(stored))
	}
	if len(*referers) != 1 || (*referers)[0] != "" {
		t.Errorf("the service was asked by %q", *referers)
	}
	// Back does not lead to it again: the page that led there is not in the
	// history.
	for _, entry := range get(t, ctx, chromedp.NavigationEntries()).Entries {
		if strings.Contains(entry.URL, "ticket") || strings.HasPrefix(entry.URL, service) {
			t.Errorf("the history has %s", entry.URL)
		}
	}
	do(t, ctx, chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("h1.bad")))
	if got := get(t, ctx, chromedp.Text(chromedp.CSS("h1"))); got != "This login is not known" {
		t.Errorf("after a reload: %q", got)
	}
	for _, c := range complaints() {
		if !strings.HasPrefix(c, "request to "+service) {
			t.Errorf("Chromium complains: %q", c)
		}
	}
}

// TestBrowserContinues opens the link of a login that waits for consent.
func TestBrowserContinues(t *testing.T) {
	b, base := served(t)
	service, _ := vendor(t)
	ctx := chromium(t, chromedp.Flag("ignore-certificate-errors", true))
	l := b.at(authsome.StepAuthorize, "default")
	e := b.logins[l.ID]
	e.AuthorizeURL = service + "/authorize?" + url.Values{"state": {e.state}, "redirect_uri": {base + callback}}.Encode()
	do(t, ctx, chromedp.Navigate(base+link(l)), chromedp.WaitVisible(chromedp.CSS("h1.good")))
	if s, _ := b.state(l.ID); s != authsome.LoginCompleted {
		t.Errorf("the login is %s", s)
	}
}

// TestBrowserDevice waits on the page with the code until the login is done
// elsewhere.
func TestBrowserDevice(t *testing.T) {
	b, base := served(t)
	ctx := chromium(t)
	l := b.at(authsome.StepDevice, "work")
	do(t, ctx, chromedp.Navigate(base+link(l)), chromedp.WaitVisible(chromedp.CSS(".usercode")))
	if poor := js[[]string](t, ctx, contrasts); len(poor) > 0 {
		t.Errorf("hard to read: %v", poor)
	}
	if got := js[string](t, ctx, `(() => { getSelection().selectAllChildren(document.querySelector(".usercode")); return getSelection().toString().trim() })()`); got != "WDJB-MJHT" {
		t.Errorf("what is copied is %q", got)
	}
	b.change(func() { b.logins[l.ID].Step = authsome.StepWorking })
	do(t, ctx, chromedp.WaitNotPresent(chromedp.CSS(".usercode")), chromedp.WaitVisible(chromedp.CSS("h1")))
	b.change(func() { b.logins[l.ID].complete() })
	do(t, ctx, chromedp.WaitVisible(chromedp.CSS("h1.good")))
	if got := get(t, ctx, chromedp.Text(chromedp.CSS("h1"))); got != "GitHub (work) is connected" {
		t.Errorf("the end reads %q", got)
	}
}
