package internet

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// gitHubDocs are where the errors below point to, as GitHub's do.
const gitHubDocs = "https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors"

// newGitHub is GitHub's OAuth as its documentation has it: answers are
// form-encoded unless JSON is asked for, errors come under status 200, and an
// OAuth app's tokens neither expire nor refresh. A Rotating app is a GitHub App
// with expiring user tokens: 8 hours, and refresh tokens that rotate.
//
// A loopback redirect URI may have any port. Unknown scopes are ignored.
func newGitHub(host string) *OAuth {
	o := newOAuth("Authorize · "+host, rules{
		redirect: func(app *App, uri string) bool { return uri == "" || anyLoopbackPort(app, uri) },
		asked:    func(p url.Values) []string { return scopesOf(p.Get("scope")) },
		check: func(_ *App, p url.Values) (string, string) {
			if m := p.Get("code_challenge_method"); p.Has("code_challenge") && m != "S256" {
				return "invalid_request", "Only S256 is supported."
			}
			return "", ""
		},
		denied: url.Values{
			"error_description": {"The user has denied your application access."},
			"error_uri":         {"https://docs.github.com/apps/troubleshooting-authorization-request-errors/#access-denied"},
		},
	})
	o.AddApp(App{ID: "Ov23liCanaryGitHubApp", Secret: "canaryGitHubClientSecret0123456789abcdef"})
	return o
}

// gitHubAnswer writes an answer of github.com: a form unless the request
// accepts JSON, and always under 200.
func gitHubAnswer(c *call, m map[string]any) {
	if code, ok := m["error"]; ok {
		c.x.Error = fmt.Sprint(code)
	}
	if strings.Contains(c.r.Header.Get("Accept"), "application/json") {
		writeJSON(c, http.StatusOK, m)
		return
	}
	v := url.Values{}
	for k, e := range m {
		v.Set(k, fmt.Sprint(e))
	}
	c.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	_, _ = fmt.Fprint(c, v.Encode())
}

func gitHubError(c *call, code, description string) {
	gitHubAnswer(c, map[string]any{"error": code, "error_description": description, "error_uri": gitHubDocs + "/#" + strings.ReplaceAll(code, "_", "-")})
}

// gitHubToken is POST /login/oauth/access_token.
func (o *OAuth) gitHubToken() http.HandlerFunc {
	return o.endpoint("token", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if c.r.Method != http.MethodPost {
			http.Error(c, "Not Found", http.StatusNotFound)
			return
		}
		if c.p.Get("grant_type") == "urn:ietf:params:oauth:grant-type:device_code" {
			o.gitHubPoll(c)
			return
		}
		app, ok := o.client(c)
		if !ok {
			gitHubError(c, "incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
			return
		}
		if c.p.Get("grant_type") == "refresh_token" {
			o.gitHubRefresh(c, app)
			return
		}
		g, problem := o.takeCode(app, c.p)
		switch problem {
		case "":
			gitHubAnswer(c, o.gitHubTokens(g))
		case "redirect_uri":
			gitHubError(c, "redirect_uri_mismatch", "The redirect_uri MUST match the registered callback URL for this application.")
		default:
			gitHubError(c, "bad_verification_code", "The code passed is incorrect or expired.")
		}
	})
}

// gitHubTokens are what a consent gives. The lock is held.
func (o *OAuth) gitHubTokens(g *grant) map[string]any {
	m := map[string]any{"token_type": "bearer", "scope": strings.Join(g.scope, ",")}
	if !g.app.Rotating {
		m["access_token"] = o.issue("access", "gho_", g, 0).Value
		return m
	}
	m["scope"] = "" // a GitHub App has permissions instead
	t := o.issue("access", "ghu_", g, 8*time.Hour)
	r := o.issue("refresh", "ghr_", g, 184*24*time.Hour)
	m["access_token"], m["expires_in"] = t.Value, t.seconds()
	m["refresh_token"], m["refresh_token_expires_in"] = r.Value, r.seconds()
	return m
}

func (o *OAuth) gitHubRefresh(c *call, app *App) {
	t := o.tokens[c.p.Get("refresh_token")]
	if t == nil || t.Kind != "refresh" || t.Client != app.ID || !t.Alive() {
		if t != nil && t.Used {
			o.endFamily(t.Family)
		}
		gitHubError(c, "bad_refresh_token", "The refresh token passed is incorrect or expired.")
		return
	}
	t.Used = true
	for _, other := range o.tokens {
		if other.Family == t.Family && other.Kind == "access" {
			other.Revoked = true // the old access token ends with the refresh
		}
	}
	gitHubAnswer(c, o.gitHubTokens(&grant{app: app, login: t.Login, scope: strings.Fields(t.Scope), family: t.Family}))
}

// gitHubDevice is POST /login/device/code.
func (o *OAuth) gitHubDevice(host string) http.HandlerFunc {
	return o.endpoint("device", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		app := o.apps[c.id]
		if app == nil || c.r.Method != http.MethodPost {
			c.x.Error = "Not Found"
			writeJSON(c, http.StatusNotFound, map[string]any{"error": "Not Found"})
			return
		}
		d := o.startDevice(app, scopesOf(c.p.Get("scope")), "", 15*time.Minute)
		gitHubAnswer(c, map[string]any{
			"device_code": d.code, "user_code": d.userCode, "verification_uri": "https://" + host + "/login/device",
			"expires_in": 900, "interval": int(d.interval / time.Second),
		})
	})
}

func (o *OAuth) gitHubPoll(c *call) {
	app := o.apps[c.id]
	if app == nil {
		gitHubError(c, "incorrect_client_credentials", "The client_id passed is incorrect.")
		return
	}
	g, d, problem := o.poll(app, c.p.Get("device_code"))
	switch problem {
	case "":
		gitHubAnswer(c, o.gitHubTokens(g))
	case "slow_down":
		// The new interval is in the answer.
		gitHubAnswer(c, map[string]any{
			"error": problem, "error_description": "Too many requests have been made in the same timeframe.", "interval": int(d.interval / time.Second),
			"error_uri": gitHubDocs,
		})
	case "invalid_grant":
		gitHubError(c, "incorrect_device_code", "The device_code provided is not valid.")
	case "authorization_pending":
		gitHubError(c, problem, "The authorization request is still pending.")
	default:
		gitHubError(c, problem, "The device code is no longer good.")
	}
}

// gitHubAPIRoutes are the parts of the API that deal with tokens; false leaves
// a request to others. prefix is that of the API ("" or "/api/v3").
func (n *Internet) gitHubAPIRoutes(o *OAuth, prefix string, w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimPrefix(r.URL.Path, prefix)
	if id, ok := strings.CutPrefix(path, "/applications/"); ok {
		if id, ok = strings.CutSuffix(id, "/token"); ok {
			o.gitHubRevoke(id)(w, r)
			return true
		}
	}
	if id, ok := strings.CutPrefix(path, "/app/installations/"); ok {
		if id, ok = strings.CutSuffix(id, "/access_tokens"); ok {
			n.installationToken(id, w, r)
			return true
		}
	}
	return false
}

// gitHubRevoke is DELETE /applications/{client_id}/token.
func (o *OAuth) gitHubRevoke(id string) http.HandlerFunc {
	return o.endpoint("revoke", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		app, ok := o.client(c)
		t := o.tokens[c.p.Get("access_token")]
		switch {
		case c.x.Auth != "basic" || !ok || app.ID != id:
			c.x.Error = "Not Found" // GitHub does not tell whether the app exists
			writeJSON(c, http.StatusNotFound, map[string]any{"message": "Not Found", "status": "404"})
		case c.r.Method != http.MethodDelete:
			c.x.Error = "method"
			c.WriteHeader(http.StatusMethodNotAllowed)
		case t == nil || t.Client != id || !t.Alive():
			c.x.Error = "Validation Failed"
			writeJSON(c, http.StatusUnprocessableEntity, map[string]any{"message": "Validation Failed", "status": "422"})
		default:
			t.Revoked = true
			c.WriteHeader(http.StatusNoContent)
		}
	})
}

// GitHubApp is a GitHub App that is installed once.
type GitHubApp struct {
	AppID          string
	ClientID       string
	InstallationID string
	PrivateKey     string // PEM, as GitHub's settings give it out
}

// gitHubApp is what the server knows of it.
type gitHubApp struct {
	GitHubApp
	signer *signer
	life   time.Duration
}

// GitHubApp makes the app on first use.
func (n *Internet) GitHubApp() (GitHubApp, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.app == nil {
		s, err := newSigner("RSA PRIVATE KEY")
		if err != nil {
			return GitHubApp{}, err
		}
		n.app = &gitHubApp{
			GitHubApp: GitHubApp{AppID: "123456", ClientID: "Iv23liCanaryInstalled", InstallationID: "4567890", PrivateKey: s.pem},
			signer:    s, life: time.Hour,
		}
	}
	return n.app.GitHubApp, nil
}

// InstallationLifetime sets how long the tokens of GitHubApp live; an hour
// otherwise.
func (n *Internet) InstallationLifetime(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.app.life = d
}

// installationToken is POST /app/installations/{id}/access_tokens. The JWT is
// of RS256, its issuer the app's id or client id, and its time at most ten
// minutes.
func (n *Internet) installationToken(id string, w http.ResponseWriter, r *http.Request) {
	o := n.OAuth("github.com")
	n.mu.Lock()
	app := n.app
	n.mu.Unlock()
	o.endpoint("installation", func(c *call) {
		refuse := func(status int, message string) {
			c.x.Error = message
			writeJSON(c, status, map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest", "status": fmt.Sprint(status)})
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if app == nil || !strings.EqualFold(scheme, "bearer") || r.Method != http.MethodPost {
			refuse(401, "A JSON web token could not be decoded")
			return
		}
		cl, err := app.signer.verify(token)
		if err != nil {
			refuse(401, "A JSON web token could not be decoded")
			return
		}
		issuer := fmt.Sprint(cl.Issuer)
		if f, ok := cl.Issuer.(float64); ok {
			issuer = fmt.Sprintf("%.0f", f)
		}
		now := time.Now().Unix()
		switch {
		case issuer != app.AppID && issuer != app.ClientID:
			refuse(404, "Integration not found")
		case cl.Issued == 0 || cl.Issued > now:
			refuse(401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
		case cl.Expires <= now:
			refuse(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
		case cl.Expires > now+600:
			refuse(401, "'Expiration time' claim ('exp') is too far in the future")
		case id != app.InstallationID:
			refuse(404, "Not Found")
		default:
			o.mu.Lock()
			defer o.mu.Unlock()
			o.family++
			life := app.life
			t := o.issue("installation", "ghs_", &grant{app: &App{ID: app.ClientID}, login: "acme", family: o.family}, life)
			writeJSON(c, http.StatusCreated, map[string]any{
				"token": t.Value, "expires_at": t.Expires.UTC().Format(time.RFC3339),
				"permissions": map[string]any{"contents": "read", "metadata": "read"}, "repository_selection": "all",
			})
		}
	})(w, r)
}

// gitHubEnterprise is a GitHub of a company's own, all on one host.
func (n *Internet) gitHubEnterprise(o *OAuth, host string) http.Handler {
	mux := http.NewServeMux()
	gitHubPages(mux, o, host)
	mux.Handle("/api/v3/", n.gitHubAPI(o, "/api/v3"))
	return mux
}

// gitHubPages are the addresses under /login.
func gitHubPages(mux *http.ServeMux, o *OAuth, host string) {
	mux.HandleFunc("/login/oauth/authorize", o.authorize())
	mux.HandleFunc("/login/oauth/access_token", o.gitHubToken())
	mux.HandleFunc("/login/device/code", o.gitHubDevice(host))
	mux.HandleFunc("/login/device", o.devicePage())
}

// gitHubUser is the account behind a token.
func gitHubUser(login string) map[string]any {
	return map[string]any{"login": login, "id": number(login), "type": "User", "name": login, "email": login + "@example.com"}
}
