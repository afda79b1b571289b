package internet

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// newGoogle is Google's OAuth: a refresh token only with access_type=offline,
// and then only at a person's first consent or with prompt=consent; refresh
// tokens stay as they are; one revocation ends the whole consent. The app is a
// desktop app, whose loopback redirect URI may have any port, and which has a
// secret nevertheless.
func newGoogle() *OAuth {
	o := newOAuth("Sign in with Google", rules{
		redirect: anyLoopbackPort,
		check: func(_ *App, p url.Values) (string, string) {
			switch {
			case p.Get("response_type") != "code":
				return "unsupported_response_type", "response_type"
			case p.Get("scope") == "":
				return "invalid_request", "Missing required parameter: scope"
			}
			for s := range strings.FieldsSeq(p.Get("scope")) {
				if !googleScope(s) {
					return "invalid_scope", "Some requested scopes were invalid."
				}
			}
			return "", ""
		},
		callback: func(q url.Values, g *grant) {
			q.Set("scope", strings.Join(g.scope, " "))
			q.Set("authuser", "0")
		},
	})
	o.AddApp(App{ID: "1234567890-canary.apps.googleusercontent.com", Secret: "GOCSPX-canaryGoogleClientSecret"})
	return o
}

func googleScope(s string) bool {
	return s == "openid" || s == "email" || s == "profile" || strings.HasPrefix(s, "https://www.googleapis.com/auth/") || s == "https://mail.google.com/"
}

// googleHosts adds the hosts of Google.
func (n *Internet) googleHosts(o *OAuth) {
	pages := http.NewServeMux()
	pages.HandleFunc("/o/oauth2/v2/auth", o.authorize())
	pages.HandleFunc("/o/oauth2/auth", o.authorize())
	pages.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 200, map[string]any{
			"issuer": "https://accounts.google.com", "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
			"token_endpoint": "https://oauth2.googleapis.com/token", "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
			"device_authorization_endpoint": "https://oauth2.googleapis.com/device/code", "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"plain", "S256"},
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		})
	})
	n.hosts["accounts.google.com"] = pages

	tokens := http.NewServeMux()
	tokens.HandleFunc("POST /token", n.googleToken(o))
	tokens.HandleFunc("POST /revoke", o.googleRevoke())
	tokens.HandleFunc("POST /device/code", o.googleDevice())
	n.hosts["oauth2.googleapis.com"] = tokens

	device := http.NewServeMux()
	device.HandleFunc("/device", o.devicePage())
	n.hosts["www.google.com"] = device

	n.hosts["openidconnect.googleapis.com"] = o.googleAPI()
	n.hosts["www.googleapis.com"] = o.googleAPI()
	n.hosts["gmail.googleapis.com"] = o.googleAPI()
}

// googleToken is the token endpoint for every grant.
func (n *Internet) googleToken(o *OAuth) http.HandlerFunc {
	return o.endpoint("token", func(c *call) {
		if c.p.Get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			n.serviceAccountToken(o, c)
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		app := o.apps[c.id]
		if app == nil {
			c.fails(401, "invalid_client", "The OAuth client was not found.")
			return
		}
		if _, ok := o.client(c); !ok {
			c.fails(401, "invalid_client", "Unauthorized")
			return
		}
		switch c.p.Get("grant_type") {
		case "authorization_code":
			g, problem := o.takeCode(app, c.p)
			switch problem {
			case "":
				c.answers(o.googleTokens(g))
			case "redirect_uri":
				c.fails(400, "redirect_uri_mismatch", "Bad Request")
			default:
				c.fails(400, "invalid_grant", "Bad Request")
			}
		case "refresh_token":
			t := o.tokens[c.p.Get("refresh_token")]
			if t == nil || t.Kind != "refresh" || t.Client != app.ID || !t.Alive() {
				c.fails(400, "invalid_grant", "Token has been expired or revoked.")
				return
			}
			a := o.issue("access", "ya29.", &grant{app: app, login: t.Login, scope: strings.Fields(t.Scope), family: t.Family}, time.Hour-time.Second)
			c.answers(map[string]any{"access_token": a.Value, "expires_in": a.seconds(), "scope": t.Scope, "token_type": "Bearer"})
		case "urn:ietf:params:oauth:grant-type:device_code":
			g, _, problem := o.poll(app, c.p.Get("device_code"))
			switch problem {
			case "":
				g.params = url.Values{"access_type": {"offline"}, "prompt": {"consent"}} // devices always get a refresh token
				c.answers(o.googleTokens(g))
			case "authorization_pending":
				c.fails(428, problem, "Precondition Required")
			case "slow_down", "access_denied":
				c.fails(403, problem, "Forbidden")
			default:
				c.fails(400, problem, "Bad Request")
			}
		default:
			c.fails(400, "unsupported_grant_type", "Invalid grant_type: "+c.p.Get("grant_type"))
		}
	})
}

// googleTokens are what a consent gives. The lock is held.
func (o *OAuth) googleTokens(g *grant) map[string]any {
	t := o.issue("access", "ya29.", g, time.Hour-time.Second)
	m := map[string]any{"access_token": t.Value, "expires_in": t.seconds(), "scope": t.Scope, "token_type": "Bearer"}
	if g.params.Get("access_type") == "offline" && (g.first || slices.Contains(strings.Fields(g.params.Get("prompt")), "consent")) {
		m["refresh_token"] = o.issue("refresh", "1//0", g, 0).Value
	}
	return m
}

func (o *OAuth) googleRevoke() http.HandlerFunc {
	return o.endpoint("revoke", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		t := o.tokens[c.p.Get("token")]
		if t == nil || !t.Alive() {
			c.fails(400, "invalid_token", "Token expired or revoked")
			return
		}
		o.endFamily(t.Family)
		delete(o.consents, t.Client+" "+t.Login)
		c.answers(map[string]any{})
	})
}

// googleDevice calls its address verification_url, unlike RFC 8628.
func (o *OAuth) googleDevice() http.HandlerFunc {
	return o.endpoint("device", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		app := o.apps[c.id]
		if app == nil {
			c.fails(401, "invalid_client", "The OAuth client was not found.")
			return
		}
		d := o.startDevice(app, strings.Fields(c.p.Get("scope")), "", 30*time.Minute)
		c.answers(map[string]any{
			"device_code": d.code, "user_code": d.userCode, "verification_url": "https://www.google.com/device",
			"expires_in": 1800, "interval": int(d.interval / time.Second),
		})
	})
}

// googleAPI says who somebody is; everything else is an empty success.
func (o *OAuth) googleAPI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, ok := o.bearerOf(r)
		info := strings.HasSuffix(r.URL.Path, "/userinfo")
		if info {
			o.userInfo(r, map[bool]int{true: 200, false: 401}[ok])
		}
		if !ok {
			writeJSON(w, 401, map[string]any{"error": map[string]any{
				"code": 401, "message": "Request had invalid authentication credentials.", "status": "UNAUTHENTICATED",
			}})
			return
		}
		switch {
		case info:
			writeJSON(w, 200, map[string]any{"sub": number(t.Login), "name": t.Login, "email": t.Login + "@example.com", "email_verified": true})
		case strings.HasSuffix(r.URL.Path, "/profile"):
			writeJSON(w, 200, map[string]any{"emailAddress": t.Login + "@example.com", "messagesTotal": 1})
		default:
			writeJSON(w, 200, map[string]any{})
		}
	})
}

// serviceAccount is a service account's name.
const serviceAccount = "robot@canary-project.iam.gserviceaccount.com"

// ServiceAccount is the JSON file of a service account's key, made on first use.
func (n *Internet) ServiceAccount() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.robot == nil {
		var err error
		if n.robot, err = newSigner("PRIVATE KEY"); err != nil {
			return nil, err
		}
	}
	return json.MarshalIndent(map[string]any{
		"type": "service_account", "project_id": "canary-project", "private_key_id": "canary-key", "private_key": n.robot.pem,
		"client_email": serviceAccount, "client_id": "112233445566778899", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
		"token_uri": "https://oauth2.googleapis.com/token",
	}, "", "  ")
}

// serviceAccountToken takes a JWT of RS256 for the token endpoint itself, of at
// most an hour (RFC 7523).
func (n *Internet) serviceAccountToken(o *OAuth, c *call) {
	n.mu.Lock()
	robot := n.robot
	n.mu.Unlock()
	if robot == nil {
		c.fails(400, "invalid_grant", "Invalid grant: account not found")
		return
	}
	cl, err := robot.verify(c.p.Get("assertion"))
	if err != nil {
		c.fails(400, "invalid_grant", "Invalid JWT Signature.")
		return
	}
	c.x.Auth, c.x.Client = "jwt", serviceAccount
	valid, short := cl.within(time.Hour)
	switch {
	case cl.Issuer != serviceAccount:
		c.fails(400, "invalid_grant", "Invalid grant: account not found")
	case cl.Audience != "https://oauth2.googleapis.com/token":
		c.fails(400, "invalid_grant", "Invalid JWT: Failed audience check.")
	case !valid || !short:
		c.fails(400, "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
	case cl.Scope == "" || slices.ContainsFunc(strings.Fields(cl.Scope), func(s string) bool { return !googleScope(s) }):
		c.fails(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
	default:
		login := serviceAccount
		if cl.Subject != "" {
			login = cl.Subject
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.family++
		t := o.issue("access", "ya29.c.", &grant{app: &App{ID: serviceAccount}, login: login, scope: strings.Fields(cl.Scope), family: o.family}, time.Hour-time.Second)
		c.answers(map[string]any{"access_token": t.Value, "expires_in": t.seconds(), "token_type": "Bearer"})
	}
}
