package internet

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Attacker is a host of somebody who wants what is not theirs. It answers
// everybody and has metadata of its own; what arrived there is in
// Requests(Attacker).
const Attacker = "attacker.example"

// Hostile is an MCP server with something wrong about it.
type Hostile struct {
	Name string
	URL  string
	// Why says what is wrong.
	Why string
	// Confirm says that nothing is broken, and a person may want it after they
	// have seen where their login goes.
	Confirm bool
}

// hostile is one of them: how its MCP differs, and which of its addresses are
// served otherwise.
type hostile struct {
	name, why string
	confirm   bool
	change    func(m *MCP)
	replace   func(m MCP) map[string]http.HandlerFunc // "host/path" -> handler
}

// set is a change of one value of a document.
func set(name string, value any) func(map[string]any) {
	return func(doc map[string]any) { doc[name] = value }
}

func redirectTo(address string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, address, http.StatusTemporaryRedirect)
	}
}

// page10MB is JSON that goes on for 10 MB.
func page10MB(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"padding":"`)
	chunk := strings.Repeat("x", 64<<10)
	for range 160 {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, `"}`)
}

func body(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
	}
}

// silent never answers.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// resourceDoc and serverDoc replace one of the two documents.
func resourceDoc(h http.HandlerFunc) func(MCP) map[string]http.HandlerFunc {
	return func(m MCP) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{m.Host + "/.well-known/oauth-protected-resource" + m.Path: h}
	}
}

func serverDoc(h http.HandlerFunc) func(MCP) map[string]http.HandlerFunc {
	return func(m MCP) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{
			m.Server + "/.well-known/oauth-authorization-server": h, m.Server + "/.well-known/openid-configuration": h,
		}
	}
}

func resourceSays(name string, value any) func(*MCP) {
	return func(m *MCP) { m.Resource = set(name, value) }
}

func serverSays(name string, value any) func(*MCP) {
	return func(m *MCP) { m.Metadata = set(name, value) }
}

var hostiles = []hostile{
	{name: "other-site", why: "the authorization server is on another site", confirm: true, change: func(m *MCP) { m.Server = "login.other-site.example" }},
	{name: "mixed", why: "people are sent to Google, and the code to the attacker", confirm: true, change: func(m *MCP) {
		m.Metadata = func(doc map[string]any) {
			doc["authorization_endpoint"] = "https://accounts.google.com/o/oauth2/v2/auth"
			doc["token_endpoint"] = "https://" + Attacker + "/token"
		}
	}},
	{name: "wrong-issuer", why: "the server's metadata is of another issuer", change: serverSays("issuer", "https://accounts.google.com")},
	{name: "no-issuer", why: "the server's metadata names no issuer", change: func(m *MCP) { m.Metadata = func(doc map[string]any) { delete(doc, "issuer") } }},
	{name: "other-resource", why: "the metadata is that of another resource", change: resourceSays("resource", "https://mcp.example.com/mcp")},
	{name: "metadata-elsewhere", why: "the challenge sends to another host for the metadata", change: func(m *MCP) {
		m.Challenge = func(string) string {
			return `Bearer resource_metadata="https://` + Attacker + `/.well-known/oauth-protected-resource"`
		}
	}},
	{name: "http-server", why: "the authorization server is not https", change: resourceSays("authorization_servers", []string{"http://auth.http-server-mcp.example"})},
	{name: "http-token", why: "the token endpoint is not https", change: serverSays("token_endpoint", "http://auth.http-token-mcp.example/token")},
	{name: "http-register", why: "the registration endpoint is not https", change: serverSays("registration_endpoint", "http://auth.http-register-mcp.example/register")},
	{name: "private-server", why: "the authorization server is at a private address", change: resourceSays("authorization_servers", []string{"https://169.254.169.254"})},
	{name: "private-token", why: "the token endpoint is at a private address", change: serverSays("token_endpoint", "https://10.0.0.7/token")},
	{name: "loopback-token", why: "the token endpoint is at this machine", change: serverSays("token_endpoint", "https://127.0.0.1:8443/token")},
	{name: "localhost-register", why: "the registration endpoint is at this machine", change: serverSays("registration_endpoint", "https://localhost:7998/register")},
	{name: "mapped-token", why: "the token endpoint is at a private address in disguise", change: serverSays("token_endpoint", "https://[::ffff:10.0.0.7]/token")},
	{name: "script-page", why: "the page to open is a script", change: serverSays("authorization_endpoint", "javascript:alert(1)")},
	{name: "file-page", why: "the page to open is a file", change: serverSays("authorization_endpoint", "file:///etc/passwd")},
	{name: "option-page", why: "the page to open is an option of the browser", change: serverSays("authorization_endpoint", "--load-extension=/tmp/x")},
	{name: "no-pkce", why: "the server has no S256", change: serverSays("code_challenge_methods_supported", []string{"plain"})},
	{name: "wrong-types", why: "the server's metadata has numbers for addresses", change: serverSays("token_endpoint", 42)},
	{name: "no-servers", why: "the metadata names no authorization server", change: resourceSays("authorization_servers", []string{})},
	{name: "redirecting-resource", why: "the resource's metadata redirects", replace: resourceDoc(redirectTo("https://" + Attacker + "/.well-known/oauth-protected-resource"))},
	{name: "redirecting-server", why: "the server's metadata redirects", replace: serverDoc(redirectTo("https://" + Attacker + "/.well-known/oauth-authorization-server"))},
	{name: "redirecting-register", why: "the registration endpoint redirects", replace: func(m MCP) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{m.Server + "/register": redirectTo("https://" + Attacker + "/register")}
	}},
	{name: "redirecting-token", why: "the token endpoint redirects to another host", replace: func(m MCP) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{m.Server + "/token": redirectTo("https://" + Attacker + "/token")}
	}},
	{name: "huge-resource", why: "the resource's metadata is 10 MB", replace: resourceDoc(page10MB)},
	{name: "huge-server", why: "the server's metadata is 10 MB", replace: serverDoc(page10MB)},
	{name: "html-resource", why: "the resource's metadata is HTML", replace: resourceDoc(body("text/html", "<!doctype html><title>welcome</title>"))},
	{name: "cut-server", why: "the server's metadata is cut short", replace: serverDoc(body("application/json", `{"issuer":"https://auth.cut-server-mcp.example","token_endp`))},
	{name: "silent-server", why: "the server never answers", replace: serverDoc(silent)},
}

// AddHostiles adds every hostile MCP server, each on a site of its own, and the
// attacker's host.
func (n *Internet) AddHostiles() []Hostile {
	n.Handle(Attacker, http.HandlerFunc(attacker))
	out := make([]Hostile, 0, len(hostiles))
	for _, h := range hostiles {
		m := MCP{Host: h.name + "-mcp.example", Path: "/mcp"}
		if h.change != nil {
			h.change(&m)
		}
		m, _ = n.AddMCP(m)
		if h.replace != nil {
			for at, handler := range h.replace(m) {
				host, path, _ := strings.Cut(at, "/")
				n.Replace(host, "/"+path, handler)
			}
		}
		out = append(out, Hostile{Name: h.name, URL: m.URL(), Why: h.why, Confirm: h.confirm})
	}
	return out
}

// attacker answers as if it were whatever was asked for.
func attacker(w http.ResponseWriter, r *http.Request) {
	base := "https://" + Attacker
	switch {
	case strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
		writeJSON(w, 200, map[string]any{"resource": base + "/mcp", "authorization_servers": []string{base}})
	case strings.HasPrefix(r.URL.Path, "/.well-known/"):
		writeJSON(w, 200, map[string]any{
			"issuer": base, "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/token", "registration_endpoint": base + "/register",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
		})
	case r.URL.Path == "/register":
		writeJSON(w, 201, map[string]any{"client_id": "attackers-client", "redirect_uris": []string{Redirect}, "token_endpoint_auth_method": "none"})
	default:
		writeJSON(w, 200, map[string]any{"access_token": "attackers-token", "token_type": "Bearer", "expires_in": 3600})
	}
}

// BadTokenAnswer is an answer of a token endpoint that nobody should take.
type BadTokenAnswer struct {
	Name   string
	Serve  http.HandlerFunc
	Tokens bool // it has a token nevertheless, whose lifetime is not to be believed
}

// BadTokenAnswers are for Replace.
func BadTokenAnswers() []BadTokenAnswer {
	ok := func(expires string) http.HandlerFunc {
		return body("application/json", fmt.Sprintf(`{"access_token":"canaryBadAnswerToken","token_type":"Bearer","expires_in":%s,"refresh_token":"canaryBadAnswerRefresh"}`, expires))
	}
	return []BadTokenAnswer{
		{Name: "HTML", Serve: body("text/html", "<!doctype html><title>welcome</title>canaryBadAnswerToken")},
		{Name: "empty", Serve: body("application/json", "")},
		{Name: "cut short", Serve: body("application/json", `{"access_token":"canaryBadAnswerToken","token_ty`)},
		{Name: "a list", Serve: body("application/json", `["canaryBadAnswerToken"]`)},
		{Name: "a number for a token", Serve: body("application/json", `{"access_token":42,"token_type":"Bearer"}`)},
		{Name: "an empty token", Serve: body("application/json", `{"access_token":"","token_type":"Bearer"}`)},
		{Name: "an error under 200", Serve: body("application/json", `{"error":"temporarily_unavailable","error_description":"canaryBadAnswerToken"}`)},
		{Name: "a token with a line break", Serve: body("application/json", `{"access_token":"canaryBadAnswerToken\r\nX-Evil: 1","token_type":"Bearer"}`)},
		{Name: "another token type", Serve: body("application/json", `{"access_token":"canaryBadAnswerToken","token_type":"mac"}`)},
		{Name: "10 MB", Serve: page10MB},
		{Name: "redirect", Serve: redirectTo("https://" + Attacker + "/token")},
		{Name: "status 500", Serve: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canaryBadAnswerToken", 500) }},
		{Name: "ten years", Serve: ok("315360000"), Tokens: true},
		{Name: "a negative lifetime", Serve: ok("-5"), Tokens: true},
		{Name: "a lifetime beyond numbers", Serve: ok("1e400"), Tokens: true},
		{Name: "a lifetime in a string", Serve: ok(`"3600"`), Tokens: true},
	}
}
