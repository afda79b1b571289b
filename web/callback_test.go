package web_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

const callback = authsome.CallbackPath

// redirect is what a server that was asked for consent sends the browser to.
func (b *bench) redirect(l *authsome.Login, more ...string) string {
	q := url.Values{"state": {b.logins[l.ID].state}, "code": {"code-canary"}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return callback + "?" + q.Encode()
}

func TestCallback(t *testing.T) {
	b := newBench(t, host)
	other, l := b.at(authsome.StepAuthorize, "default"), b.at(authsome.StepAuthorize, "work")
	b.logins[l.ID].Account.Label = "octocat"
	target := b.redirect(l, "iss", "https://github.com", "scope", "<canary>")
	// A browser that comes from another site brings no cookie, and says so.
	a := b.ask("GET", target, "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Referer", "https://github.com/")
	b.want(a, http.StatusOK, "<title>GitHub (work) is connected as octocat · authsome</title>", "You can close this tab.",
		"authsome run --connection github=work -- codex")
	checkMarkup(t, a.body)
	if s, _ := b.state(l.ID); s != authsome.LoginCompleted || b.logins[l.ID].code != "code-canary" {
		t.Errorf("the login is %s", s)
	}
	if len(a.Cookies()) > 0 || a.Header.Get("Referrer-Policy") != "no-referrer" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("what came may go elsewhere: %v", a.Header)
	}
	b.untouched(other)

	// A replay, as by reloading the tab.
	a = b.ask("GET", target, "")
	b.want(a, http.StatusBadRequest, "This login is not known", "Nothing was stored now", "authsome list")
	if strings.Contains(b.logged(), "code-") {
		t.Errorf("the log has the code: %s", b.logged())
	}

	// Another home's daemon finished it: little is known about the provider.
	l = b.at(authsome.StepAuthorize, "default")
	b.logins[l.ID].provider = &authsome.Provider{Name: "github", DisplayName: "github"}
	a = b.ask("GET", b.redirect(l), "")
	b.want(a, http.StatusOK, "github is connected", "authsome run -- codex")
}

// TestCallbackRefused: an old tab, a forged state, a no.
func TestCallbackRefused(t *testing.T) {
	b := newBench(t, host)
	l := b.at(authsome.StepAuthorize, "default")
	forged := callback + "?code=code-canary&state=" + strings.Repeat("canary", 10)
	b.want(b.ask("GET", forged, ""), http.StatusBadRequest, "This login is not known")
	b.want(b.ask("GET", callback, ""), http.StatusBadRequest, "This login is not known")
	b.untouched(l)

	a := b.ask("GET", b.redirect(l, "error", "access_denied", "error_description", "<canary>"), "")
	b.want(a, http.StatusBadRequest, "This login was cancelled", "You said no there.", "Nothing was stored.", "<code>authsome login github</code>")
	if s, stored := b.state(l.ID); s != authsome.LoginCancelled || stored != nil {
		t.Errorf("the login is %s", s)
	}
	b.want(b.ask("GET", b.redirect(l), ""), http.StatusBadRequest, "This login is not known")

	l = b.at(authsome.StepAuthorize, "default")
	for _, tt := range []struct {
		err    error
		status int
		texts  []string
	}{
		{authsome.E(authsome.Invalid, "log in to github: the answer comes from another issuer"), 400, []string{"This login did not succeed", "the answer comes from another issuer.", "authsome login PROVIDER"}},
		{authsome.E(authsome.AuthFailed, "log in to github: the client is not known <b>there</b>").WithHint("authsome provider set-client github"), 400, []string{"&lt;b&gt;there&lt;/b&gt;", "<code>authsome provider set-client github</code>"}},
		{authsome.E(authsome.Unreachable, "log in to github: github.com does not answer").WithHint("look at the <network>"), 400, []string{"does not answer", "Look at the &lt;network&gt;."}},
		{authsome.E(authsome.TimedOut, "log in to github: nobody finished the login in time"), 400, []string{"nobody finished"}},
		{authsome.E(authsome.StoreFailed, "write /home/me/db: disk full"), 500, []string{"Something went wrong", "authsome doctor"}},
		{errors.New("dial 10.0.0.1"), 500, []string{"Something went wrong"}},
		{authsome.E(authsome.ProviderNotFound, "gone"), 410, []string{"This service was removed"}},
	} {
		b.broken = tt.err
		a := b.ask("GET", b.redirect(l), "")
		b.want(a, tt.status, tt.texts...)
		checkMarkup(t, a.body)
		if strings.Contains(a.body, "/home/me") || strings.Contains(a.body, "10.0.0.1") {
			t.Errorf("the page tells about this machine: %s", a.body)
		}
		b.untouched(l)
	}
}

// TestCallbackQueries: what no server sends never reaches the logins.
func TestCallbackQueries(t *testing.T) {
	b := newBench(t, host)
	l := b.at(authsome.StepAuthorize, "default")
	good := b.redirect(l)
	start := good + "&x="
	for name, target := range map[string]string{
		"state twice":         good + "&state=x",
		"the same state":      good + "&state=" + b.logins[l.ID].state,
		"code twice":          good + "&code=x",
		"an empty code more":  good + "&code",
		"iss twice":           good + "&iss=a&iss=a",
		"error twice":         good + "&error=a&error=b",
		"error under escapes": good + "&error=a&%65rror=b",
		"a broken escape":     good + "&x=%zz",
		"a semicolon":         good + ";x=y",
		"a byte too many":     start + strings.Repeat("a", 16<<10-len(start)+len(callback)+2),
		"a megabyte":          start + strings.Repeat("a", 1<<20),
	} {
		before := b.calls
		a := b.ask("GET", target, "")
		b.want(a, http.StatusBadRequest, "This address did not arrive whole", "Nothing was stored")
		if b.calls != before {
			t.Errorf("%s: it reached the logins", name)
		}
		b.untouched(l)
	}
	before := b.calls
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		a := b.ask(method, good, "")
		b.want(a, http.StatusMethodNotAllowed)
		if got := a.Header.Get("Allow"); got != "GET" {
			t.Errorf("%s: Allow is %q", method, got)
		}
	}
	b.want(b.ask("POST", callback, strings.TrimPrefix(good, callback+"?"), "Origin", "https://github.com"), http.StatusMethodNotAllowed)
	b.want(b.ask("GET", good, "", "Host", "evil.example"), http.StatusMisdirectedRequest)
	b.want(b.ask("GET", callback+"/"+strings.TrimPrefix(good, callback), ""), http.StatusNotFound)
	if b.calls != before {
		t.Error("another method, host or path reached the logins")
	}
	b.untouched(l)
	// Just short enough.
	b.want(b.ask("GET", start+strings.Repeat("a", 16<<10-len(start)+len(callback)+1), ""), http.StatusOK)
}

// FuzzCallback sends any query: it never breaks, never finishes a login whose
// state it does not have, and is never shown.
func FuzzCallback(f *testing.F) {
	f.Add("state=x&code=y&iss=z")
	f.Add("error=access_denied&error_description=%3Cscript%3E")
	f.Add("%zz&;;==&&state")
	f.Fuzz(func(t *testing.T, query string) {
		b := newBench(t, host)
		l := b.at(authsome.StepAuthorize, "default")
		a := b.ask("GET", callback+"?"+url.PathEscape(query), "")
		if a.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", a.StatusCode)
		}
		b.untouched(l)
		checkMarkup(t, a.body)
	})
}
