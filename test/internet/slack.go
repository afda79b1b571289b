package internet

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// newSlack is Slack's OAuth: scopes are separated by commas, those of the bot
// in scope and those of the person in user_scope; a person's token is under
// authed_user; and an error is ok:false under status 200. A Rotating app's
// tokens live 12 hours and refresh.
func newSlack() *OAuth {
	o := newOAuth("Slack", rules{
		check: func(_ *App, p url.Values) (string, string) {
			if p.Get("scope") == "" && p.Get("user_scope") == "" {
				return "invalid_scope", "no scopes"
			}
			if strings.Contains(p.Get("scope")+p.Get("user_scope"), " ") {
				return "invalid_scope", "scopes are separated by commas"
			}
			return "", ""
		},
		asked: func(p url.Values) []string { return scopesOf(p.Get("scope") + "," + p.Get("user_scope")) },
	})
	o.AddApp(App{ID: "2141029472.canary", Secret: "canarySlackClientSecret0123456789"})
	return o
}

// slackError is the shape of all errors of Slack.
func slackError(c *call, code string) {
	c.x.Error = code
	writeJSON(c, http.StatusOK, map[string]any{"ok": false, "error": code})
}

func (n *Internet) slack(o *OAuth) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/oauth/v2/authorize", o.authorize())
	mux.HandleFunc("/api/oauth.v2.access", o.endpoint("token", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		app := o.apps[c.id]
		if app == nil {
			slackError(c, "invalid_client_id")
			return
		}
		if _, ok := o.client(c); !ok {
			slackError(c, "bad_client_secret")
			return
		}
		if c.x.Encoding == "json" {
			slackError(c, "invalid_arguments") // this method takes forms only
			return
		}
		if c.p.Get("grant_type") == "refresh_token" {
			t := o.tokens[c.p.Get("refresh_token")]
			if t == nil || t.Kind != "refresh" || t.Client != app.ID || !t.Alive() {
				slackError(c, "invalid_refresh_token")
				return
			}
			t.Used = true
			c.answers(o.slackRefreshed(app, t))
			return
		}
		g, problem := o.takeCode(app, c.p)
		switch problem {
		case "":
			c.answers(o.slackTokens(g))
		case "redirect_uri":
			slackError(c, "bad_redirect_uri")
		case "code used again":
			slackError(c, "code_already_used")
		case "code_verifier":
			slackError(c, "invalid_code_verifier")
		default:
			slackError(c, "invalid_code")
		}
	}))
	mux.HandleFunc("POST /api/auth.revoke", o.endpoint("revoke", func(c *call) {
		t, ok := o.bearerOf(c.r)
		if !ok {
			slackError(c, "invalid_auth")
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.tokens[t.Value].Revoked = true
		c.answers(map[string]any{"ok": true, "revoked": true})
	}))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		t, ok := o.bearerOf(r)
		if r.URL.Path == "/api/auth.test" {
			o.userInfo(r, 200)
		}
		if !ok {
			writeJSON(w, 200, map[string]any{"ok": false, "error": "invalid_auth"})
			return
		}
		writeJSON(w, 200, map[string]any{
			"ok": true, "url": "https://acme.slack.com/", "team": "Acme", "team_id": "T0CANARY", "user": t.Login, "user_id": "U" + strings.ToUpper(t.Login),
		})
	})
	return mux
}

// slackTokens are what a consent gives: the bot's token at the top, the
// person's under authed_user. The lock is held.
func (o *OAuth) slackTokens(g *grant) map[string]any {
	user := map[string]any{"id": "U" + strings.ToUpper(g.login)}
	m := map[string]any{
		"ok": true, "app_id": "A0CANARY", "authed_user": user, "team": map[string]any{"id": "T0CANARY", "name": "Acme"},
		"enterprise": nil, "is_enterprise_install": false,
	}
	// What was consented to, of what was asked for in each parameter.
	granted := func(name string) []string {
		var out []string
		for _, s := range scopesOf(g.params.Get(name)) {
			for _, have := range g.scope {
				if have == s {
					out = append(out, s)
				}
			}
		}
		return out
	}
	if scopes := granted("scope"); len(scopes) > 0 {
		o.slackToken(m, g, "bot", scopes)
		m["bot_user_id"] = "U0BOT"
	}
	if scopes := granted("user_scope"); len(scopes) > 0 {
		o.slackToken(user, g, "user", scopes)
	}
	return m
}

// slackToken puts a token of one type into an answer; the type is the token's
// Resource.
func (o *OAuth) slackToken(m map[string]any, g *grant, kind string, scopes []string) {
	of := *g
	of.scope, of.resource = scopes, kind
	prefix := map[string]string{"bot": "xoxb-", "user": "xoxp-"}[kind]
	life := time.Duration(0)
	if g.app.Rotating {
		prefix, life = "xoxe."+prefix, 12*time.Hour
	}
	t := o.issue("access", prefix, &of, life)
	m["access_token"], m["scope"], m["token_type"] = t.Value, strings.Join(scopes, ","), kind
	if g.app.Rotating {
		m["refresh_token"], m["expires_in"] = o.issue("refresh", "xoxe-1-", &of, 0).Value, t.seconds()
	}
}

// slackRefreshed has the new token at the top, whosever it is.
func (o *OAuth) slackRefreshed(app *App, t *Token) map[string]any {
	m := map[string]any{"ok": true, "app_id": "A0CANARY", "team": map[string]any{"id": "T0CANARY", "name": "Acme"}}
	o.slackToken(m, &grant{app: app, login: t.Login, family: t.Family}, t.Resource, strings.Fields(t.Scope))
	return m
}
