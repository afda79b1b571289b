package internet

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// OAuth is one vendor's authorization server in this internet: the pages that
// people see, the endpoints that programs call, and what came of both. What all
// have in common is here; what one vendor does differently is in a file of its
// own (github_oauth.go, google.go, …), after the vendor's documentation.
//
// Every page has the ids that Person describes.
type OAuth struct {
	name  string
	rules rules

	mu       sync.Mutex
	apps     map[string]*App
	first    string // id of the app that is there from the start
	pending  map[string]*request
	codes    map[string]*grant
	tokens   map[string]*Token
	order    []string // of tokens' values, as issued
	devices  map[string]*device
	consents map[string][]string // app and login -> scopes
	log      []Exchange
	family   int
	lifetime time.Duration // of access tokens; 0 is what the vendor does
	interval time.Duration // between a device's polls
	narrow   []string
}

// rules are what a vendor's authorization endpoint does differently.
type rules struct {
	// redirect says whether an app may send people to an address; nil wants one
	// that is registered, to the letter.
	redirect func(app *App, uri string) bool
	// check refuses an authorization request by an error code for the callback.
	check func(app *App, p url.Values) (code, description string)
	// asked are the scopes of an authorization request; nil splits "scope" at
	// spaces.
	asked func(p url.Values) []string
	// callback adds parameters to the callback with a code; nil adds none.
	callback func(q url.Values, g *grant)
	// denied are the parameters of a callback after a no.
	denied url.Values
}

// App is a client of an authorization server.
type App struct {
	ID        string
	Secret    string // "" for a public client
	Redirects []string
	// Rotating gives the app's users tokens that expire and rotate, where the
	// vendor leaves that to the app (GitHub, Slack).
	Rotating bool
	// Registered says that it came by dynamic registration.
	Registered bool
	Name       string
}

// Token is one that was issued.
type Token struct {
	Value    string
	Kind     string // "access", "refresh", "bot" (Slack), "installation" (GitHub)
	Client   string
	Login    string
	Scope    string // separated by spaces, whatever the vendor uses
	Resource string // RFC 8707
	Family   int    // one consent is one family
	Issued   time.Time
	Expires  time.Time // zero is never
	Used     bool      // a refresh token that was rotated
	Revoked  bool
}

// Alive says whether the server would accept it.
func (t Token) Alive() bool {
	return !t.Revoked && !t.Used && (t.Expires.IsZero() || time.Now().Before(t.Expires))
}

// Exchange is one request to one of the server's endpoints.
type Exchange struct {
	Time     time.Time
	Endpoint string // "authorize", "token", "device", "revoke", "register", "metadata", "userinfo"
	Method   string
	Path     string // without the query
	Client   string // its id, if it gave one
	Auth     string // "basic", "body", "jwt", "none"
	Encoding string // "query", "form", "json"
	Accept   string
	// Params are the request's; the value of a secret one is "•••".
	Params map[string]string
	Status int
	Error  string // the code in the answer, also under status 200; "" is success
}

// secretParams are parameters whose values no record keeps.
var secretParams = []string{
	"client_secret", "code", "code_verifier", "refresh_token", "access_token", "token", "assertion", "client_assertion", "device_code",
}

// request is an authorization request that waits for a person's answer.
type request struct {
	app    *App
	params url.Values
	device *device
}

// grant is what a person consented to: an authorization code.
type grant struct {
	app       *App
	login     string
	scope     []string
	redirect  string
	challenge string
	resource  string
	params    url.Values
	family    int
	expires   time.Time
	used      bool
	first     bool // this person never consented to this app before
}

// device is one that waits for a person (RFC 8628).
type device struct {
	code, userCode string
	app            *App
	scope          []string
	resource       string
	expires        time.Time
	interval       time.Duration
	polled         time.Time
	grant          *grant // once consented
	denied, used   bool
}

func newOAuth(name string, r rules) *OAuth {
	return &OAuth{
		name: name, rules: r, apps: map[string]*App{}, pending: map[string]*request{}, codes: map[string]*grant{}, tokens: map[string]*Token{},
		devices: map[string]*device{}, consents: map[string][]string{}, interval: 5 * time.Second,
	}
}

// OAuth finds a vendor's server by the host that people are sent to:
// "github.com", "ghe.example.com", "accounts.google.com", "api.notion.com",
// "slack.com", "mcp-auth.example.com" (which https://mcp.example.com/mcp names) and
// those of AddMCP. It panics for
// another.
func (n *Internet) OAuth(host string) *OAuth {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.oauth[host]
	if o == nil {
		panic("no authorization server at " + host)
	}
	return o
}

// AllowRedirect registers a redirect URI with the apps that every server knows
// from the start.
func (n *Internet) AllowRedirect(uri string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.oauth {
		o.AllowRedirect(uri)
	}
}

// Redirect is what the apps that are there from the start have registered.
const Redirect = "http://127.0.0.1:7998/auth/callback/oauth"

// App is the one that is there from the start.
func (o *OAuth) App() App {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a := o.apps[o.first]; a != nil {
		return *a
	}
	return App{}
}

// AddApp makes the server know an app. A missing ID or Redirects is made up.
func (o *OAuth) AddApp(a App) App {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.ID == "" {
		a.ID = "app-" + rand.Text()
	}
	if a.Redirects == nil {
		a.Redirects = []string{Redirect}
	}
	a.Redirects = slices.Clone(a.Redirects)
	if o.first == "" {
		o.first = a.ID
	}
	o.apps[a.ID] = &a
	return a
}

// ForgetApp makes the server know nothing of an app any more.
func (o *OAuth) ForgetApp(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.apps, id)
}

// SetSecret gives an app another secret.
func (o *OAuth) SetSecret(id, secret string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.apps[id].Secret = secret
}

// AllowRedirect registers a redirect URI with the app that is there from the
// start.
func (o *OAuth) AllowRedirect(uri string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a := o.apps[o.first]; a != nil {
		a.Redirects = append(a.Redirects, uri)
	}
}

// Lifetime sets how long access tokens live from now on, also where the
// vendor's live for ever.
func (o *OAuth) Lifetime(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lifetime = d
}

// PollInterval sets what devices are told to wait between polls, in whole
// seconds. It is 5 s otherwise.
func (o *OAuth) PollInterval(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.interval = d
}

// GrantOnly has people consent to no other scopes than these.
func (o *OAuth) GrantOnly(scopes ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.narrow = scopes
}

// Exchanges are the requests that arrived so far.
func (o *OAuth) Exchanges() []Exchange {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.log)
}

// Count counts the requests to an endpoint, "" for all, with a grant_type, ""
// for any: those that succeeded, and those that were refused.
func (o *OAuth) Count(endpoint, grantType string) (ok, refused int) {
	for _, x := range o.Exchanges() {
		switch {
		case endpoint != "" && x.Endpoint != endpoint, grantType != "" && x.Params["grant_type"] != grantType:
		case x.Error == "" && x.Status < 400:
			ok++
		default:
			refused++
		}
	}
	return ok, refused
}

// Tokens are all that were ever issued, in that order.
func (o *OAuth) Tokens() []Token {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]Token, 0, len(o.order))
	for _, v := range o.order {
		out = append(out, *o.tokens[v])
	}
	return out
}

// Token finds one by its value.
func (o *OAuth) Token(value string) (Token, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.tokens[value]
	if t == nil {
		return Token{}, false
	}
	return *t, true
}

// Alive says whether a token would be accepted now.
func (o *OAuth) Alive(value string) bool {
	t, ok := o.Token(value)
	return ok && t.Alive()
}

// End ends one token; its family goes on.
func (o *OAuth) End(value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.tokens[value]; t != nil {
		t.Revoked = true
	}
}

// EndAll takes every consent back, as a person does in the service's settings.
func (o *OAuth) EndAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.tokens {
		t.Revoked = true
	}
	clear(o.consents)
}

// Secrets are all that the server ever gave out or was told: tokens, and the
// secrets of apps. Tests look for them where they do not belong.
func (o *OAuth) Secrets() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := slices.Clone(o.order)
	for _, a := range o.apps {
		if a.Secret != "" {
			out = append(out, a.Secret)
		}
	}
	return out
}

// issue makes a token. The lock is held.
func (o *OAuth) issue(kind, prefix string, g *grant, lifetime time.Duration) *Token {
	if o.lifetime != 0 && kind != "refresh" {
		lifetime = o.lifetime
	}
	now := time.Now()
	t := &Token{
		Value: prefix + rand.Text() + rand.Text()[:10], Kind: kind, Client: g.app.ID, Login: g.login, Scope: strings.Join(g.scope, " "),
		Resource: g.resource, Family: g.family, Issued: now,
	}
	if lifetime > 0 {
		t.Expires = now.Add(lifetime)
	}
	o.tokens[t.Value] = t
	o.order = append(o.order, t.Value)
	return t
}

// endFamily ends all that came of one consent. The lock is held.
func (o *OAuth) endFamily(family int) {
	for _, t := range o.tokens {
		if t.Family == family {
			t.Revoked = true
		}
	}
}

// seconds until a token expires, as expires_in has it.
func (t *Token) seconds() int { return int(t.Expires.Sub(t.Issued).Round(time.Second) / time.Second) }

// takeCode finds what a code stands for, once. A second use ends what the first
// gave (RFC 6749, section 4.1.2). The lock is held.
func (o *OAuth) takeCode(app *App, p url.Values) (g *grant, problem string) {
	g = o.codes[p.Get("code")]
	switch {
	case g == nil || p.Get("code") == "":
		return nil, "unknown code"
	case g.app.ID != app.ID:
		return nil, "code of another client"
	case g.used:
		o.endFamily(g.family)
		return nil, "code used again"
	case time.Now().After(g.expires):
		return nil, "code expired"
	}
	g.used = true
	switch {
	case g.redirect != p.Get("redirect_uri"):
		return nil, "redirect_uri"
	case g.challenge != "" && !proves(p.Get("code_verifier"), g.challenge):
		return nil, "code_verifier"
	case g.challenge == "" && p.Get("code_verifier") != "":
		// RFC 9700, section 4.8.2: a sign of a downgrade.
		return nil, "code_verifier without a challenge"
	}
	return g, ""
}

func proves(verifier, challenge string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return len(verifier) >= 43 && base64.RawURLEncoding.EncodeToString(sum[:]) == challenge
}

// poll is one poll of a device (RFC 8628, section 3.5); problem is its error
// code. The lock is held.
func (o *OAuth) poll(app *App, code string) (g *grant, d *device, problem string) {
	d = o.devices[code]
	now := time.Now()
	switch {
	case d == nil || code == "" || d.app.ID != app.ID || d.used:
		return nil, nil, "invalid_grant"
	case now.After(d.expires):
		return nil, d, "expired_token"
	case d.denied:
		return nil, d, "access_denied"
	}
	early := now.Sub(d.polled) < d.interval-100*time.Millisecond
	d.polled = now
	switch {
	case early:
		d.interval += 5 * time.Second
		return nil, d, "slow_down"
	case d.grant == nil:
		return nil, d, "authorization_pending"
	}
	d.used = true
	return d.grant, d, ""
}

// startDevice makes a device wait. The lock is held.
func (o *OAuth) startDevice(app *App, scope []string, resource string, lifetime time.Duration) *device {
	letters := rand.Text()
	d := &device{
		code: rand.Text() + rand.Text()[:14], userCode: letters[:4] + "-" + letters[4:8], app: app, scope: scope, resource: resource,
		expires: time.Now().Add(lifetime), interval: o.interval, polled: time.Now().Add(-o.interval),
	}
	o.devices[d.code] = d
	return d
}

// ExpireDevices ends the time of every device that waits.
func (o *OAuth) ExpireDevices() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.devices {
		d.expires = time.Now()
	}
}
