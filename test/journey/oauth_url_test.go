package journey

import (
	"strings"
	"testing"

	"github.com/authsome/authsome/test/internet"
)

// tools is what a client asks an MCP server for.
var tools = []string{"-H", "Content-Type: application/json", "-d", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami"}}`}

// TestLoginByURL logs in to MCP servers by their addresses, and gives each what is
// its own and nobody else anything.
func TestLoginByURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.Internet.OAuth(theOAuth)
	var printed strings.Builder
	login := func(login string, args ...string) {
		t.Helper()
		a := attempts(t, w, args...)
		page, err := person(t, w, login).Consent(within(t), a.visit())
		if err != nil || page.Status != 200 {
			t.Fatalf("%v; the page is %d: %s", err, page.Status, page.Text)
		}
		a.succeeds()
		printed.WriteString(a.printed())
	}
	registered := func() int {
		ok, refused := o.Count("register", "")
		if refused != 0 {
			t.Errorf("%d registrations were refused", refused)
		}
		return ok
	}
	last := func(o *internet.OAuth) internet.Token {
		t.Helper()
		all := o.Tokens()
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].Kind == "access" {
				return all[i]
			}
		}
		t.Fatal("no token was given out")
		return internet.Token{}
	}

	login("octocat", theMCP)
	holds(t, w, theName, theName+"/default connected")
	contains(t, must(t, w.Command("list")), theName)
	token := last(o)
	if token.Login != "octocat" || token.Resource != theMCP {
		t.Errorf("the token is %+v", token)
	}
	code, body := status(t, w, nil, append(tools, theMCP)...)
	contains(t, code+body, "200", "You are octocat.")
	bearer(t, w, theName, "/mcp", token.Value)

	// Nobody else gets it: not another path of the host, however it is written, not
	// its authorization server, nor another host.
	for _, at := range []string{
		"https://mcp.example.com/", "https://mcp.example.com/mcpx", "https://mcp.example.com/other/mcp", "https://mcp.example.com/MCP",
		"https://mcp.example.com/mcp/../other", "https://mcp-auth.example.com/mcp", "https://mcp-auth.example.com/token", "https://echo.example.com/mcp",
	} {
		w.Internet.Forget()
		status(t, w, nil, append([]string{"--path-as-is"}, append(tools, at)...)...)
		host := strings.Split(at, "/")[2]
		arrived := w.Internet.Requests(host)
		if len(arrived) > 1 || len(arrived) == 0 && !strings.Contains(at, "..") {
			t.Errorf("%s: %d requests have arrived", at, len(arrived))
		}
		for _, r := range arrived {
			if r.Header.Get("Authorization") != "" {
				t.Errorf("%s: %s %s carries a credential", at, r.Method, r.Path)
			}
		}
	}

	// Another account is the same client. A second provider would take the first
	// one's requests away, so there is none.
	login("hubot", theMCP, "--connection", "work")
	twice := attempts(t, w, theMCP, "--name", "docs")
	if v := twice.refused(); v.Code != 7 || !strings.Contains(v.Hint, "authsome login "+theName) {
		t.Errorf("the same address under another name: %+v", v)
	}
	printed.WriteString(twice.printed())
	if n := registered(); n != 1 {
		t.Errorf("%d registrations for two logins", n)
	}
	// One that the server has forgotten is registered anew.
	first := o.Exchanges()[0]
	for _, x := range o.Exchanges() {
		if x.Endpoint == "register" {
			first = x
		}
	}
	o.ForgetApp(first.Client)
	login("octocat", theMCP, "--force")
	if n := registered(); n != 2 || last(o).Client == first.Client {
		t.Errorf("%d registrations; the client is %s again", n, last(o).Client)
	}
	code, body = status(t, w, []string{"--connection", theName + "=default"}, append(tools, theMCP)...)
	contains(t, code+body, "200", "You are octocat.")

	// A server whose logins are at somebody else's: the person is asked, and before
	// that nobody is told anything.
	m, other := w.Internet.AddMCP(internet.MCP{Host: "tools.widgets.example", Path: "/v1/mcp", Server: "id.elsewhere.example"})
	s := onTerminal(t, w.Command("login", m.URL(), "--name", "widgets").Env(ssh...).Cmd())
	s.sees("Log in to tools.widgets.example at id.elsewhere.example? [y/N] ")
	if n := len(other.Exchanges()); n != 2 { // the two documents
		t.Errorf("%d requests before the person has said yes", n)
	}
	s.typed("y\r")
	at := "https:" + s.line("Visit: https:")
	consents(t, w, at)
	s.ends(0, "Logged in to widgets (default).")
	printed.WriteString(s.text())
	code, body = status(t, w, nil, append(tools, m.URL())...)
	contains(t, code+body, "200", "You are octocat.")
	bearer(t, w, m.Host, m.Path, last(other).Value)

	holds(t, w, theName, theName+"/default connected", theName+"/work connected", "widgets", "widgets/default connected")
	sweep(t, w, printed.String(), append(o.Secrets(), other.Secrets()...)...)
}
