package internet

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// MCP is an MCP server that wants a login, and the authorization server that it
// names, as the MCP specification's authorization chapter has them: RFC 9728,
// RFC 8414, RFC 7591 or a client's metadata document, RFC 8707, PKCE, and `iss`
// in the callback (RFC 9207).
type MCP struct {
	Host   string   // "mcp.example.com"
	Path   string   // "/mcp"; "" is the root
	Server string   // host of the authorization server; "" is "auth." and Host
	Scopes []string // nil is mcp:read and mcp:write
	// Tenant is a path in the issuer ("/tenant1"), which moves its metadata.
	Tenant string
	// OpenID serves the server's metadata as OpenID discovery only.
	OpenID bool
	// NoChallenge leaves resource_metadata out of the 401.
	NoChallenge bool
	// NoRegistration takes dynamic registration away; ClientDocuments lets the
	// address of a metadata document be a client id.
	NoRegistration  bool
	ClientDocuments bool

	// The following are for hostile servers: they change a document before it is
	// sent, or the challenge of the 401.
	Resource  func(doc map[string]any)
	Metadata  func(doc map[string]any)
	Challenge func(header string) string
}

// URL is the resource's address.
func (m MCP) URL() string { return "https://" + m.Host + m.Path }

// Issuer is the authorization server's identifier.
func (m MCP) Issuer() string { return "https://" + m.Server + m.Tenant }

// AddMCP adds the two hosts, and returns the authorization server, which has no
// app from the start unless registration is off.
func (n *Internet) AddMCP(m MCP) (MCP, *OAuth) {
	if m.Server == "" {
		m.Server = "auth." + m.Host
	}
	if m.Scopes == nil {
		m.Scopes = []string{"mcp:read", "mcp:write"}
	}
	o := newOAuth("Authorize · "+m.Server, rules{
		redirect: anyLoopbackPort,
		check: func(_ *App, p url.Values) (string, string) {
			switch {
			case p.Get("response_type") != "code":
				return "unsupported_response_type", "response_type must be code"
			case p.Get("code_challenge") == "" || p.Get("code_challenge_method") != "S256":
				return "invalid_request", "PKCE with S256 is required"
			case p.Get("resource") != m.URL():
				return "invalid_target", "resource must be " + m.URL()
			case slices.ContainsFunc(strings.Fields(p.Get("scope")), func(s string) bool { return !slices.Contains(m.Scopes, s) }):
				return "invalid_scope", "an unknown scope"
			}
			return "", ""
		},
		callback: func(q url.Values, _ *grant) { q.Set("iss", m.Issuer()) },
		denied:   url.Values{"iss": {m.Issuer()}},
	})
	if m.NoRegistration {
		o.AddApp(App{Secret: "canaryMCPClientSecret" + rand.Text()})
	}
	resource := n.mcpResource(m, o)
	server := n.mcpServer(m, o)
	n.Handle(m.Host, resource)
	if m.Server == m.Host {
		n.Handle(m.Host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == m.Path || strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
				resource.ServeHTTP(w, r)
				return
			}
			server.ServeHTTP(w, r)
		}))
	} else {
		n.Handle(m.Server, server)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.oauth[m.Server] = o
	return m, o
}

// mcpResource is the MCP server: enough of the streamable HTTP transport for a
// client to initialize, list one tool, and call it.
func (n *Internet) mcpResource(m MCP, o *OAuth) http.Handler {
	mux := http.NewServeMux()
	metadata := "/.well-known/oauth-protected-resource" + m.Path
	mux.HandleFunc("GET "+metadata, o.endpoint("metadata", func(c *call) {
		doc := map[string]any{
			"resource": m.URL(), "authorization_servers": []string{m.Issuer()}, "scopes_supported": m.Scopes, "bearer_methods_supported": []string{"header"},
		}
		if m.Resource != nil {
			m.Resource(doc)
		}
		writeJSON(c, 200, doc)
	}))
	path := m.Path
	if path == "" {
		path = "/{$}"
	}
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		t, ok := o.bearerOf(r)
		if !ok || t.Resource != m.URL() {
			challenge := "Bearer"
			if !m.NoChallenge {
				challenge += fmt.Sprintf(` resource_metadata="https://%s%s", scope="%s"`, m.Host, metadata, strings.Join(m.Scopes, " "))
			}
			if r.Header.Get("Authorization") != "" {
				challenge = strings.Replace(challenge, "Bearer", `Bearer error="invalid_token",`, 1)
			}
			if m.Challenge != nil {
				challenge = m.Challenge(challenge)
			}
			w.Header().Set("WWW-Authenticate", strings.TrimSuffix(challenge, ","))
			writeJSON(w, 401, map[string]any{"error": "invalid_token"})
			return
		}
		mcpAnswer(w, r, t)
	})
	return mux
}

// mcpAnswer answers one message of JSON-RPC.
func mcpAnswer(w http.ResponseWriter, r *http.Request, t Token) {
	var in struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&in); err != nil {
		writeJSON(w, 400, map[string]any{"jsonrpc": "2.0", "id": nil, "error": map[string]any{"code": -32700, "message": "not JSON"}})
		return
	}
	var result any
	switch in.Method {
	case "initialize":
		result = map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{"tools": map[string]any{}}, "serverInfo": map[string]any{"name": "fake", "version": "1"}}
	case "tools/list":
		result = map[string]any{"tools": []any{map[string]any{"name": "whoami", "description": "says who you are", "inputSchema": map[string]any{"type": "object"}}}}
	case "tools/call":
		result = map[string]any{"content": []any{map[string]any{"type": "text", "text": "You are " + t.Login + "."}}}
	default:
		if in.ID == nil { // a notification
			w.WriteHeader(http.StatusAccepted)
			return
		}
		writeJSON(w, 200, map[string]any{"jsonrpc": "2.0", "id": in.ID, "error": map[string]any{"code": -32601, "message": "no such method"}})
		return
	}
	writeJSON(w, 200, map[string]any{"jsonrpc": "2.0", "id": in.ID, "result": result})
}

// mcpServer is the authorization server.
func (n *Internet) mcpServer(m MCP, o *OAuth) http.Handler {
	mux := http.NewServeMux()
	base := m.Issuer()
	document := o.endpoint("metadata", func(c *call) {
		doc := map[string]any{
			"issuer": m.Issuer(), "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/token", "revocation_endpoint": base + "/revoke",
			"scopes_supported": m.Scopes, "response_types_supported": []string{"code"}, "grant_types_supported": []string{"authorization_code", "refresh_token"},
			"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none", "client_secret_post", "client_secret_basic"},
			"authorization_response_iss_parameter_supported": true,
		}
		if !m.NoRegistration {
			doc["registration_endpoint"] = base + "/register"
		}
		if m.ClientDocuments {
			doc["client_id_metadata_document_supported"] = true
		}
		if m.Metadata != nil {
			m.Metadata(doc)
		}
		writeJSON(c, 200, doc)
	})
	if m.OpenID {
		mux.HandleFunc("GET "+m.Tenant+"/.well-known/openid-configuration", document)
	} else {
		mux.HandleFunc("GET /.well-known/oauth-authorization-server"+m.Tenant, document)
	}
	authorize := o.authorize()
	mux.HandleFunc(m.Tenant+"/authorize", func(w http.ResponseWriter, r *http.Request) {
		if id := r.URL.Query().Get("client_id"); m.ClientDocuments && strings.HasPrefix(id, "https://") {
			n.learnClient(o, id)
		}
		authorize(w, r)
	})
	mux.HandleFunc("POST "+m.Tenant+"/token", o.mcpToken(m))
	mux.HandleFunc("POST "+m.Tenant+"/revoke", o.endpoint("revoke", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if app, ok := o.client(c); !ok {
			c.fails(401, "invalid_client", "no such client")
		} else {
			if t := o.tokens[c.p.Get("token")]; t != nil && t.Client == app.ID {
				o.endFamily(t.Family)
			}
			c.WriteHeader(200)
		}
	}))
	if !m.NoRegistration {
		mux.HandleFunc("POST "+m.Tenant+"/register", o.register())
	}
	return mux
}

// learnClient fetches a client's metadata document as an authorization server
// does.
func (n *Internet) learnClient(o *OAuth, id string) {
	resp, err := n.Client().Get(id)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	var doc struct {
		ID        string   `json:"client_id"`
		Redirects []string `json:"redirect_uris"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 5<<10)).Decode(&doc) == nil && doc.ID == id {
		o.AddApp(App{ID: id, Redirects: doc.Redirects})
	}
}

// register is dynamic registration (RFC 7591).
func (o *OAuth) register() http.HandlerFunc {
	return o.endpoint("register", func(c *call) {
		redirects := c.p["redirect_uris"]
		bad := slices.ContainsFunc(redirects, func(s string) bool {
			u, err := url.Parse(s)
			return err != nil || u.Fragment != "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u))
		})
		method := c.p.Get("token_endpoint_auth_method")
		switch {
		case c.x.Encoding != "json":
			c.fails(400, "invalid_client_metadata", "JSON is wanted")
			return
		case len(redirects) == 0 || bad:
			c.fails(400, "invalid_redirect_uri", "redirect_uris must be https or loopback")
			return
		case method != "" && method != "none" && method != "client_secret_post" && method != "client_secret_basic":
			c.fails(400, "invalid_client_metadata", "token_endpoint_auth_method")
			return
		}
		a := App{Redirects: redirects, Registered: true, Name: c.p.Get("client_name")}
		if method == "" {
			method = "client_secret_basic" // RFC 7591, section 2
		}
		if method != "none" {
			a.Secret = "canaryRegisteredSecret" + rand.Text()
		}
		a = o.AddApp(a)
		c.x.Client = a.ID
		m := map[string]any{
			"client_id": a.ID, "client_id_issued_at": time.Now().Unix(), "redirect_uris": redirects, "token_endpoint_auth_method": method,
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "client_name": a.Name,
		}
		if a.Secret != "" {
			m["client_secret"], m["client_secret_expires_at"] = a.Secret, 0
		}
		writeJSON(c, 201, m)
	})
}

// mcpToken is the token endpoint. Refresh tokens rotate; one that comes again
// ends its family.
func (o *OAuth) mcpToken(m MCP) http.HandlerFunc {
	return o.endpoint("token", func(c *call) {
		o.mu.Lock()
		defer o.mu.Unlock()
		app, ok := o.client(c)
		switch {
		case !ok:
			c.fails(401, "invalid_client", "The client is not known, or its secret is wrong.")
			return
		case c.x.Encoding != "form":
			c.fails(400, "invalid_request", "A form is wanted.")
			return
		case c.p.Get("resource") != m.URL():
			c.fails(400, "invalid_target", "resource must be "+m.URL())
			return
		}
		switch c.p.Get("grant_type") {
		case "authorization_code":
			g, problem := o.takeCode(app, c.p)
			if problem != "" {
				c.fails(400, "invalid_grant", problem)
				return
			}
			c.answers(o.mcpTokens(g))
		case "refresh_token":
			t := o.tokens[c.p.Get("refresh_token")]
			if t == nil || t.Kind != "refresh" || t.Client != app.ID || !t.Alive() {
				if t != nil && t.Used {
					o.endFamily(t.Family)
				}
				c.fails(400, "invalid_grant", "The refresh token is not good.")
				return
			}
			t.Used = true
			c.answers(o.mcpTokens(&grant{app: app, login: t.Login, scope: strings.Fields(t.Scope), resource: t.Resource, family: t.Family}))
		default:
			c.fails(400, "unsupported_grant_type", "")
		}
	})
}

func (o *OAuth) mcpTokens(g *grant) map[string]any {
	t := o.issue("access", "mcp_at_", g, time.Hour)
	r := o.issue("refresh", "mcp_rt_", g, 30*24*time.Hour)
	return map[string]any{"access_token": t.Value, "token_type": "Bearer", "expires_in": t.seconds(), "refresh_token": r.Value, "scope": t.Scope}
}
