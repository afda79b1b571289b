package internet

import (
	"net/http"
	"net/url"
	"strings"
)

// newNotion is Notion's OAuth: there are no scopes, the client authenticates by
// Basic alone, and the body is JSON alone. Tokens name no lifetime; since 2025
// there is a refresh token, which rotates.
func newNotion() *OAuth {
	o := newOAuth("Notion", rules{
		check: func(_ *App, p url.Values) (string, string) {
			if p.Get("response_type") != "code" || p.Get("owner") != "user" {
				return "invalid_request", "response_type must be code, and owner must be user"
			}
			return "", ""
		},
		asked: func(url.Values) []string { return nil },
	})
	o.AddApp(App{ID: "3fcanary-0000-4000-8000-000000000001", Secret: "secret_canaryNotionClientSecret"})
	return o
}

func (n *Internet) notion(o *OAuth) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/oauth/authorize", o.authorize())
	mux.HandleFunc("POST /v1/oauth/token", o.endpoint("token", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		app, ok := o.client(c)
		switch {
		case c.x.Encoding != "json":
			notionError(c, 400, "invalid_json", "Error parsing JSON body.")
			return
		case c.x.Auth != "basic" || !ok:
			c.fails(401, "invalid_client", "Client authentication failed.")
			return
		}
		switch c.p.Get("grant_type") {
		case "authorization_code":
			g, problem := o.takeCode(app, c.p)
			if problem != "" {
				c.fails(400, "invalid_grant", "Invalid code.")
				return
			}
			c.answers(o.notionTokens(g))
		case "refresh_token":
			t := o.tokens[c.p.Get("refresh_token")]
			if t == nil || t.Kind != "refresh" || t.Client != app.ID || !t.Alive() {
				if t != nil && t.Used {
					o.endFamily(t.Family)
				}
				c.fails(400, "invalid_grant", "Invalid refresh token.")
				return
			}
			t.Used = true
			c.answers(o.notionTokens(&grant{app: app, login: t.Login, family: t.Family}))
		default:
			c.fails(400, "unsupported_grant_type", "The grant type is not supported.")
		}
	}))
	mux.HandleFunc("POST /v1/oauth/revoke", o.endpoint("revoke", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		_, ok := o.client(c)
		if c.x.Auth != "basic" || !ok || c.x.Encoding != "json" {
			c.fails(401, "invalid_client", "Client authentication failed.")
			return
		}
		if t := o.tokens[c.p.Get("token")]; t != nil {
			o.endFamily(t.Family)
		}
		c.answers(map[string]any{"request_id": "canary"})
	}))
	mux.HandleFunc("GET /v1/users/me", func(w http.ResponseWriter, r *http.Request) {
		t, ok := o.bearerOf(r)
		status := 200
		switch {
		case !ok:
			status = 401
			writeJSON(w, status, map[string]any{"object": "error", "status": status, "code": "unauthorized", "message": "API token is invalid."})
		case r.Header.Get("Notion-Version") == "":
			status = 400
			writeJSON(w, status, map[string]any{"object": "error", "status": status, "code": "missing_version", "message": "Notion-Version header should be defined."})
		default:
			writeJSON(w, status, map[string]any{
				"object": "user", "id": "bot-" + t.Login, "type": "bot",
				"bot": map[string]any{"owner": notionOwner(t.Login), "workspace_name": notionWorkspace(t.Login)},
			})
		}
		o.userInfo(r, status)
	})
	return mux
}

func notionError(c *call, status int, code, message string) {
	c.x.Error = code
	writeJSON(c, status, map[string]any{"object": "error", "status": status, "code": code, "message": message})
}

func notionOwner(login string) map[string]any {
	return map[string]any{"type": "user", "user": map[string]any{
		"object": "user", "id": "user-" + login, "type": "person", "name": login, "person": map[string]any{"email": login + "@example.com"},
	}}
}

func notionWorkspace(login string) string {
	return strings.ToUpper(login[:1]) + login[1:] + "'s Notion"
}

// notionTokens are what a consent gives. The lock is held.
func (o *OAuth) notionTokens(g *grant) map[string]any {
	t := o.issue("access", "ntn_", g, 0)
	r := o.issue("refresh", "nrt_", g, 0)
	return map[string]any{
		"access_token": t.Value, "token_type": "bearer", "refresh_token": r.Value, "bot_id": "bot-" + g.login,
		"workspace_id": "workspace-" + g.login, "workspace_name": notionWorkspace(g.login), "workspace_icon": nil,
		"owner": notionOwner(g.login), "duplicated_template_id": nil, "request_id": "canary",
	}
}
