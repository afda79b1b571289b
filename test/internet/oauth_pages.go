package internet

import (
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// authorize is the page at which a person consents: GET shows it, POST is the
// person's answer.
func (o *OAuth) authorize() http.HandlerFunc {
	return o.endpoint("authorize", func(c *call) {
		if c.r.Method == http.MethodPost {
			o.answer(c)
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		app := o.apps[c.p.Get("client_id")]
		redirect := c.p.Get("redirect_uri")
		switch {
		case app == nil:
			c.problem("invalid_client", "There is no such app.")
			return
		case !o.mayRedirect(app, redirect):
			// Nobody is sent to an address that is not the app's.
			c.problem("redirect_uri_mismatch", "The redirect_uri is not registered for this app.")
			return
		}
		if o.rules.check != nil {
			if code, description := o.rules.check(app, c.p); code != "" {
				c.x.Error = code
				v := url.Values{"error": {code}, "error_description": {description}}
				if iss := o.rules.denied.Get("iss"); iss != "" { // in errors too (RFC 9207, section 2)
					v.Set("iss", iss)
				}
				c.back(redirect, v)
				return
			}
		}
		o.ask(c, &request{app: app, params: c.p})
	})
}

func (o *OAuth) mayRedirect(app *App, uri string) bool {
	if o.rules.redirect != nil {
		return o.rules.redirect(app, uri)
	}
	return slices.Contains(app.Redirects, uri)
}

// anyLoopbackPort is the rule of RFC 8252, section 7.3.
func anyLoopbackPort(app *App, uri string) bool {
	got, err := url.Parse(uri)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(app.Redirects, func(r string) bool {
		want, err := url.Parse(r)
		if err != nil || uri == r {
			return err == nil
		}
		return loopback(want) && got.Scheme == want.Scheme && got.Hostname() == want.Hostname() && got.EscapedPath() == want.EscapedPath() && got.RawQuery == want.RawQuery
	})
}

// problem is a page that says why there is nothing to consent to.
func (c *call) problem(code, text string) {
	c.x.Error = code
	c.page(http.StatusBadRequest, "Error", fmt.Sprintf(`<p id="problem">%s: %s</p>`, code, html.EscapeString(text)))
}

func (c *call) page(status int, title, body string) {
	c.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.Header().Set("Cache-Control", "no-store")
	c.WriteHeader(status)
	_, _ = fmt.Fprintf(c, `<!doctype html><html lang="en"><meta charset="utf-8"><title>%[1]s</title><body><h1>%[1]s</h1>%[2]s</body></html>`, html.EscapeString(title), body)
}

// ask shows the page of consent. The lock is held.
func (o *OAuth) ask(c *call, q *request) {
	id := rand.Text()
	o.pending[id] = q
	c.page(http.StatusOK, o.name, fmt.Sprintf(
		`<p>The app <b>%s</b> asks for <code id="scopes">%s</code></p><form method="post" action="%s"><input type="hidden" name="request" value="%s">`+
			`<label>Login <input id="login" name="login" value="octocat"></label>`+
			`<button id="consent" name="answer" value="allow">Authorize</button><button id="deny" name="answer" value="deny">Cancel</button></form>`,
		html.EscapeString(q.app.ID), html.EscapeString(strings.Join(o.scopesAsked(q), " ")), html.EscapeString(c.r.URL.Path), id))
}

func (o *OAuth) scopesAsked(q *request) []string {
	if q.device != nil {
		return q.device.scope
	}
	if o.rules.asked != nil {
		return o.rules.asked(q.params)
	}
	return strings.Fields(q.params.Get("scope"))
}

// answer is what the person chose.
func (o *OAuth) answer(c *call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.pending[c.p.Get("request")]
	if q == nil {
		c.problem("invalid_request", "This page was answered already.")
		return
	}
	delete(o.pending, c.p.Get("request"))
	if c.p.Get("answer") != "allow" {
		c.x.Error = "access_denied"
		if q.device != nil {
			q.device.denied = true
			c.page(http.StatusOK, o.name, `<p id="done">Nothing was connected.</p>`)
			return
		}
		v := url.Values{"error": {"access_denied"}}
		for k := range o.rules.denied {
			v[k] = o.rules.denied[k]
		}
		o.send(c, q, v)
		return
	}
	login := c.p.Get("login")
	if login == "" {
		login = "octocat"
	}
	scope := o.scopesAsked(q)
	if o.narrow != nil {
		scope = slices.DeleteFunc(slices.Clone(scope), func(s string) bool { return !slices.Contains(o.narrow, s) })
	}
	o.family++
	who := q.app.ID + " " + login
	_, again := o.consents[who]
	g := &grant{
		app: q.app, login: login, scope: scope, redirect: q.params.Get("redirect_uri"), challenge: q.params.Get("code_challenge"),
		resource: q.params.Get("resource"), params: q.params, family: o.family, expires: time.Now().Add(10 * time.Minute), first: !again,
	}
	o.consents[who] = scope
	if q.device != nil {
		g.resource = q.device.resource
		q.device.grant = g
		c.page(http.StatusOK, o.name, `<p id="done">Your device is connected.</p>`)
		return
	}
	code := rand.Text()
	o.codes[code] = g
	v := url.Values{"code": {code}}
	if o.rules.callback != nil {
		o.rules.callback(v, g)
	}
	o.send(c, q, v)
}

// send sends the person to the app with parameters.
func (o *OAuth) send(c *call, q *request, v url.Values) {
	if s := q.params.Get("state"); s != "" {
		v.Set("state", s)
	}
	redirect := q.params.Get("redirect_uri")
	if redirect == "" { // where the vendor lets an app leave it out
		redirect = q.app.Redirects[0]
	}
	c.back(redirect, v)
}

func (c *call) back(redirect string, v url.Values) {
	if s := c.p.Get("state"); s != "" {
		v.Set("state", s)
	}
	u, err := url.Parse(redirect)
	if err != nil {
		c.problem("invalid_request", "The redirect_uri is no address.")
		return
	}
	q := u.Query()
	for k := range v {
		q[k] = v[k]
	}
	u.RawQuery = q.Encode()
	http.Redirect(c, c.r, u.String(), http.StatusFound)
}

// devicePage is where a person types the code that a device shows.
func (o *OAuth) devicePage() http.HandlerFunc {
	return o.endpoint("device page", func(c *call) {
		if c.p.Get("request") != "" {
			o.answer(c)
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		typed := strings.ToUpper(strings.TrimSpace(c.p.Get("user_code")))
		for _, d := range o.devices {
			if typed == d.userCode && d.grant == nil && !d.denied && time.Now().Before(d.expires) {
				o.ask(c, &request{app: d.app, params: url.Values{}, device: d})
				return
			}
		}
		problem := ""
		if typed != "" {
			problem = `<p id="problem">This code is not known.</p>`
		}
		c.page(http.StatusOK, o.name, problem+fmt.Sprintf(
			`<form method="post" action="%s"><label>Code <input id="user_code" name="user_code"></label><button id="continue">Continue</button></form>`, html.EscapeString(c.r.URL.Path)))
	})
}

// bearerOf finds the token that a request to an API carries, if it is alive.
func (o *OAuth) bearerOf(r *http.Request) (Token, bool) {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return Token{}, false
	}
	t, ok := o.Token(value)
	return t, ok && t.Alive() && t.Kind != "refresh"
}

// number is the id of an account, always the same for a login.
func number(login string) int {
	if login == "octocat" {
		return 583231
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(login))
	return int(h.Sum32() & 0x7fffff)
}

// userInfo records a request that asks who an account is.
func (o *OAuth) userInfo(r *http.Request, status int) {
	x := Exchange{Time: time.Now(), Endpoint: "userinfo", Method: r.Method, Path: r.URL.Path, Encoding: "query", Accept: r.Header.Get("Accept"), Status: status}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log = append(o.log, x)
}
