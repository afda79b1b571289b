package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/google/go-cmp/cmp"
)

func TestTicketBecomesCookie(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	for _, site := range []string{"", "none", "same-origin", "same-site"} {
		a := b.ask("GET", link(l)+"&x=y", "", "Sec-Fetch-Site", site)
		b.want(a, http.StatusSeeOther)
		if got := a.Header.Get("Location"); got != path(l) {
			t.Errorf("the link leads to %q", got)
		}
		want := "authsome_" + l.ID + "=" + l.Ticket.Reveal() + "; Path=" + path(l) + "; HttpOnly; SameSite=Strict"
		if diff := cmp.Diff([]string{want}, a.Header.Values("Set-Cookie")); diff != "" {
			t.Error(diff)
		}
		if got := a.Header.Get("Referrer-Policy"); got != "no-referrer" {
			t.Errorf("the ticket may go out in a Referer: %q", got)
		}
	}
	// From another site, a redirect would leave the Strict cookie at home.
	a := b.ask("GET", link(l), "", "Sec-Fetch-Site", "cross-site")
	b.want(a, http.StatusOK, `<meta http-equiv="refresh" content="0; url=`+path(l)+`">`, `<a href="`+path(l)+`"`)
	if len(a.Cookies()) != 1 {
		t.Error("a link from another site gives no cookie")
	}
}

func TestWrongTicket(t *testing.T) {
	b := newBench(t, host)
	l, other := b.begin(openai(), "default"), b.begin(openai(), "work")
	for _, q := range []string{
		"?ticket=", "?ticket", "?ticket=wrong", "?ticket=" + other.Ticket.Reveal(), "?ticket=" + l.Ticket.Reveal() + "x",
		"?ticket=a%3Bb", "?ticket=a%0d%0ab", "?ticket=%ff", "?ticket=" + strings.Repeat("a", 5000), "?ticket=wrong&ticket=" + l.Ticket.Reveal(),
	} {
		a := b.ask("GET", path(l)+q, "")
		b.want(a, http.StatusNotFound, "This login is not known", "authsome login PROVIDER")
		if len(a.Cookies()) > 0 {
			t.Errorf("%s gives a cookie", q)
		}
	}
	a := b.ask("GET", "/auth/sessions/sess_unknown/input?ticket="+l.Ticket.Reveal(), "")
	b.want(a, http.StatusNotFound, "This login is not known")
	// Without a ticket or a cookie nothing is said about any login.
	known, unknown := b.ask("GET", path(l), ""), b.ask("GET", "/auth/sessions/sess_unknown/input", "")
	b.want(known, http.StatusForbidden, "not open in this browser")
	if known.body != unknown.body {
		t.Error("a page tells which logins exist")
	}
	// The link of one login opens no form of another, whatever the cookies.
	_, cookie, _ := b.open(l)
	renamed := strings.Replace(cookie, l.ID, other.ID, 1)
	b.want(b.ask("GET", path(other), "", "Cookie", cookie), http.StatusForbidden)
	b.want(b.ask("GET", path(other), "", "Cookie", renamed), http.StatusNotFound)
	b.want(b.ask("GET", path(l), "", "Cookie", "authsome_"+l.ID+"=\"bad;value"), http.StatusForbidden)
}

func TestForm(t *testing.T) {
	b := newBench(t, host)
	page, _, token := b.open(b.begin(openai(), "work"))
	b.want(page, 200,
		"<title>Connect OpenAI · authsome</title>", "<h1>Connect OpenAI</h1>", "<bdi>work</bdi>",
		"<bdi>api.openai.com</bdi>", "<bdi>eu.api.openai.com:8443</bdi>",
		`<label for="field-0">API key</label>`, `aria-describedby="field-0-hint"`,
		`type="password" required autocomplete="off" autocapitalize="none" autocorrect="off" spellcheck="false" autofocus`,
		`<p class="hint" id="field-0-hint">OpenAI API keys start with sk-.</p>`,
		`<a href="https://platform.openai.com/api-keys" rel="noreferrer noopener" target="_blank">`, `lang="en"`, "This form closes at ",
	)
	if strings.Count(page.body, "<bdi>api.openai.com</bdi>") != 1 {
		t.Error("a host of two routes is listed twice")
	}
	for _, word := range []string{"replaces", "registered on this machine", "private addresses", "aria-invalid", "role=\"alert\"", "<script"} {
		if strings.Contains(page.body, word) {
			t.Errorf("the form has %q", word)
		}
	}
	if again, _, other := b.open(b.begin(openai(), "work")); other == token {
		t.Errorf("two logins have one token: %s", again.body)
	}

	two, _, _ := b.open(b.begin(twilio(), "default"))
	b.want(two, 200, `name="field.account_sid" type="text" value=""`, `name="field.auth_token" type="password"`)
	if strings.Count(two.body, "autofocus") != 1 || strings.Contains(two.body, "<a ") {
		t.Errorf("two fields have the focus, or a link leads nowhere: %s", two.body)
	}

	custom := openai()
	custom.Source, custom.Routes = authsome.Custom, nil
	l := b.begin(custom, "default")
	l.Replaced, l.AllowPrivate = true, true
	page, _, _ = b.open(l)
	b.want(page, 200, "<code>openai</code>", "registered on this machine", "replaces the key", "no host", "private addresses")

	many := openai()
	for _, h := range strings.Split(strings.Repeat("h", 20), "") {
		many.Routes = append(many.Routes, authsome.Route{Host: strings.Repeat(h, len(many.Routes)) + ".example"})
	}
	page, _, _ = b.open(b.begin(many, "default"))
	b.want(page, 200, "and 10 more")
}

func TestNoForm(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	_, cookie, _ := b.open(l)
	b.logins[l.ID].Step = "one of a later version"
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusConflict, "OpenAI takes nothing here")
	empty := openai()
	empty.Key = authsome.KeyForm{}
	l = b.begin(empty, "default")
	c := b.ask("GET", link(l), "").Cookies()[0]
	b.want(b.ask("GET", path(l), "", "Cookie", c.Name+"="+c.Value), http.StatusConflict, "authsome inspect openai")
}

func TestConnect(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	_, cookie, token := b.open(l)
	a := b.send(l, cookie, token, "field.api_key", " \t"+goodKey+"\r\n ")
	b.want(a, http.StatusSeeOther)
	if got := a.Header.Get("Location"); got != path(l) {
		t.Fatalf("the form leads to %q", got)
	}
	s, stored := b.state(l.ID)
	if s != authsome.LoginCompleted || stored["api_key"] != goodKey || len(stored) != 1 {
		t.Errorf("the login is %s with %d fields, or the key is not the one without white space", s, len(stored))
	}
	done := b.ask("GET", path(l), "", "Cookie", cookie)
	b.want(done, http.StatusOK, "OpenAI is connected", "You can close this tab.", "<code>authsome run -- codex</code>")
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusOK, "OpenAI is connected")

	l = b.begin(twilio(), "work")
	_, cookie, token = b.open(l)
	b.want(b.send(l, cookie, token, "field.account_sid", "AC00ff", "field.auth_token", "canary-token", "field.other", "x"), http.StatusSeeOther)
	if _, stored := b.state(l.ID); !cmp.Equal(stored, map[string]string{"account_sid": "AC00ff", "auth_token": "canary-token"}) {
		t.Error("the two fields are mixed up, or an unknown one is stored")
	}
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusOK, "Twilio (work) is connected",
		"authsome run --connection twilio=work -- codex")

	bare := openai()
	bare.Routes = nil
	l = b.begin(bare, "default")
	_, cookie, token = b.open(l)
	b.want(b.send(l, cookie, token, "field.api_key", goodKey), http.StatusSeeOther)
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusOK, "authsome export openai")
}

func TestWrongKey(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	_, cookie, token := b.open(l)
	for _, key := range []string{badKey, "", "   ", goodKey + " canary", goodKey + "\r\nX-Canary: 1"} {
		a := b.send(l, cookie, token, "field.api_key", key)
		b.want(a, http.StatusUnprocessableEntity, "<title>Try again: Connect OpenAI",
			`<p class="wrong" role="alert" id="field-0-problem">The api key does not look right.</p>`,
			`autofocus aria-invalid="true" aria-describedby="field-0-problem field-0-hint"`, "OpenAI API keys start with sk-.", token)
		if strings.Contains(a.body, `id="problem"`) {
			t.Error("the problem is shown twice")
		}
		b.untouched(l)
	}
	b.want(b.send(l, cookie, token, "field.api_key", goodKey), http.StatusSeeOther)

	l = b.begin(twilio(), "default")
	_, cookie, token = b.open(l)
	// The second is wrong: it has the focus, and the public first stays filled in.
	a := b.send(l, cookie, token, "field.account_sid", "AC00ff", "field.auth_token", "CANARY canary")
	b.want(a, http.StatusUnprocessableEntity, `value="AC00ff"`, `id="field-1-problem">The auth token does not look right.`)
	if strings.Count(a.body, "autofocus") != 1 || strings.Count(a.body, "aria-invalid") != 1 || strings.Contains(a.body, "CANARY") ||
		strings.Index(a.body, "autofocus") < strings.Index(a.body, "field-1") {
		t.Errorf("focus or mark is not on the second field alone, or the secret is there: %s", a.body)
	}
	// The first is wrong: it comes back escaped, and the secret does not.
	a = b.send(l, cookie, token, "field.account_sid", `"><script>alert(1)</script>`, "field.auth_token", "canary-token")
	b.want(a, http.StatusUnprocessableEntity, `value="&#34;&gt;&lt;script&gt;`, `id="field-0-problem"`)
	if strings.Contains(a.body, "<script") {
		t.Error("a public value is not escaped")
	}
	b.untouched(l)

	// A refusal that names no field stands above the fields.
	b.broken = authsome.E(authsome.Invalid, "log in to twilio: the two do not belong together").WithHint("take both from one account")
	a = b.send(l, cookie, token, "field.account_sid", "AC00ff", "field.auth_token", "canary-token")
	b.want(a, http.StatusUnprocessableEntity, `role="alert" id="problem"><p>The two do not belong together.</p><p>take both from one account</p>`)
	if strings.Contains(a.body, "aria-invalid") {
		t.Error("a field is marked although none was named")
	}
}

func TestForgedForms(t *testing.T) {
	b := newBench(t, host)
	l, mine := b.begin(openai(), "default"), b.begin(openai(), "attacker")
	_, cookie, token := b.open(l)
	_, myCookie, myToken := b.open(mine)
	renamed := strings.Replace(myCookie, mine.ID, l.ID, 1)
	tests := []struct {
		name, cookie, token string
		header              []string
		status              int
		text                string
	}{
		{"another site", cookie, token, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403, "sent by a page that is not authsome"},
		{"another port of this machine", cookie, token, []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:3000"}, 403, "sent by a page that is not authsome"},
		{"an old browser, another site", cookie, token, []string{"Origin", "https://evil.example"}, 403, "sent by a page that is not authsome"},
		{"an old browser, another port", cookie, token, []string{"Origin", "http://127.0.0.1:3000"}, 403, "sent by a page that is not authsome"},
		{"an old browser, a sandboxed frame", cookie, token, []string{"Origin", "null"}, 403, "sent by a page that is not authsome"},
		{"another site says its origin is ours", cookie, token, []string{"Sec-Fetch-Site", "cross-site", "Origin", "http://" + host}, 403, "sent by a page that is not authsome"},
		{"no cookie", "", token, nil, 403, "not open in this browser"},
		{"the cookie of another login", myCookie, token, nil, 403, "not open in this browser"},
		{"the ticket of another login", renamed, token, nil, 403, "does not belong to this login"},
		{"all of another login", renamed, myToken, nil, 403, "does not belong to this login"},
		{"the token of another login", cookie, myToken, nil, 403, "does not belong to this login"},
		{"no token", cookie, "", nil, 403, "does not belong to this login"},
		{"half a token", cookie, token[:32], nil, 403, "does not belong to this login"},
		{"the ticket as token", cookie, l.Ticket.Reveal(), nil, 403, "does not belong to this login"},
	}
	for _, tt := range tests {
		for _, action := range []string{"", "cancel"} {
			t.Run(tt.name+" "+action, func(t *testing.T) {
				header := tt.header
				if tt.cookie != "" {
					header = append([]string{"Cookie", tt.cookie}, header...)
				}
				form := url.Values{"form_token": {tt.token}, "field.api_key": {goodKey}, "action": {action}}
				a := b.ask("POST", path(l), form.Encode(), header...)
				b.want(a, tt.status, tt.text)
				b.untouched(l)
				// The ticket in the URL does not stand in for the cookie.
				a = b.ask("POST", link(l), form.Encode(), header...)
				b.want(a, tt.status, tt.text)
				b.untouched(l)
			})
		}
	}
	// A token is not one of the query's.
	form := url.Values{"field.api_key": {goodKey}}
	b.want(b.ask("POST", path(l)+"?form_token="+token, form.Encode(), "Cookie", cookie), 403)
	b.untouched(l)
	// A browser that sends no Sec-Fetch-Site but its origin, which is ours.
	form.Set("form_token", token)
	b.want(b.ask("POST", path(l), form.Encode(), "Cookie", cookie, "Origin", "http://"+host), http.StatusSeeOther)
	if s, _ := b.state(mine.ID); s != authsome.LoginWaiting {
		t.Error("the other login is over")
	}
}

func TestCancel(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "work")
	page, cookie, token := b.open(l)
	b.want(page, 200, `<input type="hidden" name="action" value="cancel">`, `form="cancel"`)
	b.want(b.send(l, cookie, token, "action", "cancel", "field.api_key", goodKey), http.StatusSeeOther)
	if s, stored := b.state(l.ID); s != authsome.LoginCancelled || stored != nil {
		t.Errorf("the login is %s", s)
	}
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusGone, "This login was cancelled", "authsome login openai --connection work")

	// What is finished stays so.
	l = b.begin(openai(), "default")
	_, cookie, token = b.open(l)
	b.want(b.send(l, cookie, token, "field.api_key", goodKey), http.StatusSeeOther)
	b.want(b.send(l, cookie, token, "action", "cancel"), http.StatusSeeOther)
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusOK, "OpenAI is connected")
}

// TestEnds: a login that is over opens no form, from whichever side.
func TestEnds(t *testing.T) {
	failure := authsome.E(authsome.AuthFailed, "log in to openai: the service refused <b>it</b>")
	tests := []struct {
		status authsome.LoginStatus
		force  bool
		err    *authsome.Error
		texts  []string
	}{
		{authsome.LoginCompleted, false, nil, []string{"This login is already finished", "OpenAI (work) is connected", "authsome list"}},
		{authsome.LoginExpired, false, nil, []string{"This login took too long", "<code>authsome login openai --connection work</code>"}},
		{authsome.LoginCancelled, true, nil, []string{"This login was cancelled", "<code>authsome login openai --connection work --force</code>"}},
		{authsome.LoginFailed, false, failure, []string{"This login failed", "The service refused &lt;b&gt;it&lt;/b&gt;.", "authsome login openai"}},
		{authsome.LoginFailed, false, nil, []string{"This login failed", "authsome login openai"}},
	}
	for _, tt := range tests {
		t.Run(string(tt.status), func(t *testing.T) {
			b := newBench(t, host)
			l := b.begin(openai(), "work")
			_, cookie, token := b.open(l)
			l.Force = tt.force
			b.end(l.ID, tt.status, tt.err)
			again := b.ask("GET", link(l), "")
			b.want(again, http.StatusGone, tt.texts...)
			if len(again.Cookies()) > 0 {
				t.Error("the ticket of an ended login gives a cookie")
			}
			b.want(b.send(l, cookie, token, "field.api_key", goodKey), http.StatusGone, tt.texts...)
			if s, stored := b.state(l.ID); s != tt.status || stored != nil {
				t.Error("an ended login took a key")
			}
			if tt.status != authsome.LoginCompleted {
				b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusGone, tt.texts...)
			}
		})
	}
}

// TestEndsMeanwhile: the login ends after the form was read and before the key
// is taken.
func TestEndsMeanwhile(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	_, cookie, token := b.open(l)
	b.meanwhile = func(l *authsome.Login) { l.Status = authsome.LoginExpired }
	b.want(b.send(l, cookie, token, "field.api_key", goodKey), http.StatusGone, "This login took too long")

	l = b.begin(openai(), "default")
	_, cookie, token = b.open(l)
	b.logins[l.ID].provider = nil
	b.want(b.send(l, cookie, token, "field.api_key", goodKey), http.StatusGone, "This service was removed")
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusGone, "This service was removed")

	// The daemon has forgotten it.
	delete(b.logins, l.ID)
	b.want(b.ask("GET", path(l), "", "Cookie", cookie), http.StatusNotFound, "This login is not known")
	b.want(b.send(l, cookie, token, "field.api_key", goodKey), http.StatusNotFound, "This login is not known")
	b.want(b.send(l, cookie, token, "action", "cancel"), http.StatusNotFound, "This login is not known")
}

// TestInternals: what is wrong inside is for the log alone.
func TestInternals(t *testing.T) {
	for _, broken := range []error{
		authsome.E(authsome.StoreFailed, "write /home/me/.authsome/server/authsome.db: disk I/O error"),
		io.ErrUnexpectedEOF,
	} {
		b := newBench(t, host)
		l := b.begin(openai(), "default")
		_, cookie, token := b.open(l)
		b.broken = broken
		a := b.send(l, cookie, token, "field.api_key", goodKey)
		b.want(a, http.StatusInternalServerError, "Something went wrong", "authsome doctor")
		if strings.Contains(a.body, "/home/me") || strings.Contains(a.body, "EOF") || !strings.Contains(b.logged(), broken.Error()) {
			t.Errorf("the page says too much, or the log too little: %s", b.logged())
		}
		b.untouched(l)
	}
}

func TestBodies(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	_, cookie, token := b.open(l)
	start := "form_token=" + token + "&field.api_key="
	const urlencoded = "application/x-www-form-urlencoded"
	tests := []struct {
		name, kind, body string
		status           int
	}{
		{"64 KiB", urlencoded, start + strings.Repeat("!", 64<<10-len(start)), 422},
		{"a byte more", urlencoded, start + strings.Repeat("!", 64<<10-len(start)+1), 413},
		{"a megabyte", urlencoded, start + strings.Repeat("a", 1<<20), 413},
		{"a charset", urlencoded + "; charset=UTF-8", start + badKey, 422},
		{"JSON", "application/json", `{"form_token":"` + token + `"}`, 415},
		{"text", "text/plain", start + goodKey, 415},
		{"multipart", "multipart/form-data; boundary=x", "--x--", 415},
		{"no type", "", start + goodKey, 415},
		{"a broken type", ";;", start + goodKey, 415},
		{"a broken escape", urlencoded, start + "canary%zz", 400},
		{"a semicolon", urlencoded, start + "a;b=c", 400},
		{"a field twice", urlencoded, start + goodKey + "&field.api_key=" + goodKey, 400},
		{"a token twice", urlencoded, start + goodKey + "&form_token=" + token, 400},
		{"nothing", urlencoded, "", 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := b.ask("POST", path(l), tt.body, "Cookie", cookie, "Content-Type", tt.kind)
			b.want(a, tt.status, "<title>")
			b.untouched(l)
		})
	}
}

// TestEndlessBody: a body without a length, over a real connection, is not read
// to its end, which never comes.
func TestEndlessBody(t *testing.T) {
	var b *bench
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.pages.ServeHTTP(w, r) }))
	defer srv.Close()
	b = newBench(t, srv.Listener.Addr().String())
	l := b.begin(openai(), "default")
	r, w := io.Pipe()
	go func() {
		for {
			if _, err := w.Write([]byte(strings.Repeat("a", 4096))); err != nil {
				return
			}
		}
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+path(l), r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Cookie", "authsome_"+l.ID+"="+l.Ticket.Reveal())
	client := &http.Client{Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
	_ = r.Close()
	b.untouched(l)
}

// FuzzForm sends any body with a good cookie: it never finishes the login
// without the token, never breaks, and never gets its bytes shown unescaped.
func FuzzForm(f *testing.F) {
	f.Add("form_token=x&field.api_key=" + goodKey)
	f.Add("field.account_sid=%22%3E%3Cscript%3E&field.auth_token=y&action=cancel")
	f.Add("%zz&;;==&&form_token")
	f.Add("form_token=&form_token=")
	f.Fuzz(func(t *testing.T, body string) {
		b := newBench(t, host)
		l := b.begin(twilio(), "default")
		_, cookie, token := b.open(l)
		a := b.ask("POST", path(l), body+"x", "Cookie", cookie)
		if a.StatusCode < 400 || a.StatusCode >= 500 {
			t.Errorf("status %d", a.StatusCode)
		}
		b.untouched(l)
		// With the token, a refused value comes back inside its attribute.
		a = b.send(l, cookie, token, "field.account_sid", body, "field.auth_token", body)
		if a.StatusCode == http.StatusUnprocessableEntity {
			checkMarkup(t, a.body)
		}
	})
}
