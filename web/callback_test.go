package web_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/web"
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

// FuzzCallback sends any query, alone and around the answer of the server: a login
// is finished by its state and one code alone, and once. The page and the log are
// the same whatever came, so that nothing of it is in them.
func FuzzCallback(f *testing.F) {
	for i, query := range []string{
		"state=x&code=y&iss=z", "error=access_denied&error_description=%3Cscript%3E", "%zz&;;==&&state", "", "state", "%73tate=x", "code=%0d%0aSet-Cookie:x", "STATE=x&code=y",
		"error=<b>&iss=javascript:alert(1)", "x=%00%ff", "state=&code=", "scope=a+b&session_state=1", "iss=https://github.com", "a=b;state=c", "code[]=x&state[0]=y",
	} {
		for where := range uint8(4) {
			f.Add(query, where, i%2 == 0)
		}
	}
	var usual map[string]bool
	f.Fuzz(func(t *testing.T, query string, where uint8, escaped bool) {
		if usual == nil {
			usual = usualPages(t)
		}
		if strings.Contains(query, "canary") {
			return // that is how secrets are told from the rest
		}
		if escaped {
			query = url.PathEscape(query)
		}
		b := newBench(t, host)
		l := b.at(authsome.StepAuthorize, "default")
		state := b.logins[l.ID].state
		raw := query
		if where&3 > 0 {
			answer := "state=" + state + "&code=code-canary"
			raw = []string{"", answer + "&" + query, query + "&" + answer, "state=" + state + "&" + query + "&code=code-canary"}[where&3]
		}
		// A second reader: what it takes for one state and one code, and nothing else.
		values, err := url.ParseQuery(raw)
		one := func(name, want string) bool { return len(values[name]) == 1 && values[name][0] == want }
		good := err == nil && one("state", state) && len(values["code"]) < 2 && len(values["iss"]) < 2 && len(values["error"]) < 2
		denied := good && values.Get("error") == "access_denied"

		first := b.callBack(raw)
		status, stored := b.state(l.ID)
		switch {
		case denied && status == authsome.LoginCancelled && first.StatusCode == http.StatusBadRequest:
		case good && !denied && status == authsome.LoginCompleted && b.logins[l.ID].code == values.Get("code") && first.StatusCode == http.StatusOK:
		case !good && status == authsome.LoginWaiting && stored == nil && first.StatusCode == http.StatusBadRequest:
		default:
			t.Fatalf("%q: status %d, and the login is %s", raw, first.StatusCode, status)
		}
		again := b.callBack(raw)
		if now, _ := b.state(l.ID); again.StatusCode != http.StatusBadRequest || now != status {
			t.Fatalf("%q a second time: status %d, and the login is %s after %s", raw, again.StatusCode, now, status)
		}
		for _, a := range []answer{first, again} {
			checkMarkup(t, a.body)
			if !usual[a.body] || strings.Contains(a.body, "canary") || len(a.Cookies()) > 0 || a.Header.Get("Location") != "" {
				t.Fatalf("%q is answered with a page of its own: %v %s", raw, a.Header, a.body)
			}
		}
		for line := range strings.Lines(b.logged()) {
			if !redirectLogged.MatchString(line) {
				t.Fatalf("%q is logged as %q", raw, line)
			}
		}
	})
}

var redirectLogged = regexp.MustCompile(`^time=\S+ level=INFO msg="a redirect was refused" code=(ConnectionNotFound|InputCancelled)\n$`)

// callBack sends a query as it is, which httptest would refuse to.
func (b *bench) callBack(raw string) answer {
	r := httptest.NewRequest(http.MethodGet, callback, nil)
	r.Host, r.URL.RawQuery, r.RequestURI = host, raw, callback+"?"+raw
	w := httptest.NewRecorder()
	b.pages.ServeHTTP(w, r)
	return answer{w.Result(), w.Body.String()}
}

// usualPages are all pages that a redirect is answered with.
func usualPages(t *testing.T) map[string]bool {
	b := newBench(t, host)
	pages := map[string]bool{}
	for _, raw := range []string{"state=%s&code=x", "state=%s&error=access_denied", "%%zz%s", "state=x%s"} {
		l := b.at(authsome.StepAuthorize, "default")
		pages[b.callBack(fmt.Sprintf(raw, url.QueryEscape(b.logins[l.ID].state))).body] = true
	}
	return pages
}

// endless are logins whose service never answers.
type endless struct{ web.Logins }

func (endless) Callback(ctx context.Context, _ url.Values) (*authsome.Login, *authsome.Provider, error) {
	<-ctx.Done()
	return nil, nil, authsome.E(authsome.Internal, "exchange the code: %w", ctx.Err())
}

// TestCallbackWithoutEnd: a person does not look at a loading tab for longer than a
// minute, and one who closes it ends nothing.
func TestCallbackWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, host)
		b.pages = web.New(web.Config{Logins: endless{}, Host: func() string { return host }, Logger: slog.New(slog.DiscardHandler)})
		gone, leave := context.WithCancel(t.Context())
		leave()
		r := httptest.NewRequestWithContext(gone, http.MethodGet, callback+"?state=x&code=y", nil)
		r.Host = host
		w, begin := httptest.NewRecorder(), time.Now()
		b.pages.ServeHTTP(w, r)
		if after := time.Since(begin); after != time.Minute || w.Code < 400 || !strings.Contains(w.Body.String(), "nothing was stored") {
			t.Errorf("%d after %v: %s", w.Code, after, w.Body)
		}
	})
}
