package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	hostLogin = "login.soakauth.example"
	// tokenLife is how long access tokens are said to live: so short that they
	// are replaced all the time.
	tokenLife = 12 * time.Second
	// leeway is how much longer they do, for requests that are on their way.
	leeway = 10 * time.Second
)

// authServer is an authorization server whose refresh tokens work once. One that
// comes a second time ends the login that it belongs to, as RFC 9700, section
// 4.14.2 has it.
type authServer struct {
	mu        sync.Mutex
	next      string // the account that the next consent is for
	codes     map[string]*family
	access    map[string]issued
	refresh   map[string]*family
	used      map[string]usedToken
	refreshes []refresh
	reuses    []reuse
	trouble   string // what becomes of token requests: "", "error" or "reset"
	families  map[string]*family
}

// family is all that came of one consent.
type family struct {
	account string
	dead    bool
}

type issued struct {
	family  *family
	expires time.Time
}

// usedToken is a refresh token that was used, and when.
type usedToken struct {
	family *family
	at     time.Time
}

// refresh is one that the server granted; reuse is a refresh token that came a
// second time.
type refresh struct {
	account string
	at      time.Time
}

type reuse struct {
	account   string
	first, at time.Time
}

func newAuthServer() *authServer {
	return &authServer{
		codes: map[string]*family{}, access: map[string]issued{}, refresh: map[string]*family{}, used: map[string]usedToken{}, families: map[string]*family{},
	}
}

// who says whose access token a value is.
func (a *authServer) who(value string) (key, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.access[value]
	if !ok || t.family.dead || time.Now().After(t.expires) {
		return key{}, false
	}
	return key{value: value, provider: providerOAuth, account: t.family.account}, true
}

// expect says whose consent comes next.
func (a *authServer) expect(account string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = account
}

// end takes an account's consent back, as its owner does in the service's settings.
func (a *authServer) end(account string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.families[account]; f != nil {
		f.dead = true
	}
}

// dead are the accounts whose login the server has ended.
func (a *authServer) dead() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for name, f := range a.families {
		if f.dead {
			out = append(out, name)
		}
	}
	return out
}

// setTrouble says what becomes of token requests.
func (a *authServer) setTrouble(how string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trouble = how
}

func (a *authServer) history() (refreshes []refresh, reuses []reuse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]refresh(nil), a.refreshes...), append([]reuse(nil), a.reuses...)
}

func (a *authServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/authorize":
		a.authorize(w, r)
	case "/token":
		a.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

// authorize consents at once.
func (a *authServer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	to, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || to.Hostname() != "127.0.0.1" {
		http.Error(w, "redirect_uri", http.StatusBadRequest)
		return
	}
	code := canary + "-code-" + rand.Text()
	a.mu.Lock()
	a.codes[code] = &family{account: a.next}
	a.mu.Unlock()
	to.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
	http.Redirect(w, r, to.String(), http.StatusFound)
}

// token acts first and then takes a moment to answer, so that a daemon that is
// killed is sometimes killed in between.
func (a *authServer) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		return
	}
	a.mu.Lock()
	trouble := a.trouble
	a.mu.Unlock()
	switch trouble {
	case "error":
		http.Error(w, "one moment", http.StatusServiceUnavailable)
		return
	case "reset":
		reset(w)
		return
	}
	answer, problem := a.grant(r.PostForm)
	time.Sleep(30 * time.Millisecond)
	w.Header().Set("Content-Type", "application/json")
	if problem != "" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": problem})
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *authServer) grant(p url.Values) (answer map[string]any, problem string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	var f *family
	switch p.Get("grant_type") {
	case "authorization_code":
		f = a.codes[p.Get("code")]
		delete(a.codes, p.Get("code"))
		if f == nil {
			return nil, "invalid_grant"
		}
		a.families[f.account] = f
	case "refresh_token":
		value := p.Get("refresh_token")
		if u, again := a.used[value]; again {
			if !u.family.dead {
				a.reuses = append(a.reuses, reuse{u.family.account, u.at, now})
			}
			u.family.dead = true
			return nil, "invalid_grant"
		}
		if f = a.refresh[value]; f == nil || f.dead {
			return nil, "invalid_grant"
		}
		delete(a.refresh, value)
		a.used[value] = usedToken{f, now}
		a.refreshes = append(a.refreshes, refresh{f.account, now})
	default:
		return nil, "unsupported_grant_type"
	}
	for v, t := range a.access {
		if now.After(t.expires) {
			delete(a.access, v)
		}
	}
	access, again := fmt.Sprintf("%s-access-%s-%s", canary, f.account, rand.Text()), fmt.Sprintf("%s-refresh-%s-%s", canary, f.account, rand.Text())
	a.access[access] = issued{f, now.Add(tokenLife + leeway)}
	a.refresh[again] = f
	return map[string]any{"access_token": access, "refresh_token": again, "token_type": "Bearer", "expires_in": int(tokenLife / time.Second)}, ""
}
