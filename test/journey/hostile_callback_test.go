package journey

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// markup is what nobody but us writes on our pages.
const markup = `<script>alert("canaryMarkup")</script><img src=x onerror=alert(1)>`

// theMCP is the server that the fake internet has from the start.
const (
	theMCP   = "https://mcp.example.com/mcp"
	theName  = "mcp.example.com"
	theOAuth = "mcp-auth.example.com"
)

// newMCPWorld is a world in which the MCP server's logins are on its own site, so
// that nobody has to confirm them.
func newMCPWorld(t *testing.T) (*harness.World, *internet.OAuth) {
	t.Helper()
	w := newWorld(t)
	return w, w.Internet.OAuth(theOAuth)
}

// query gives a callback's address with other parameters. A name without a value
// is taken away.
func query(callback *url.URL, pairs ...string) string {
	u := *callback
	q := u.Query()
	for i := 0; i < len(pairs); i += 2 {
		if q.Del(pairs[i]); pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// TestCallbackAbuse brings to the callback what no server has sent, while a login
// waits: it goes on waiting, and the true callback works, once.
func TestCallbackAbuse(t *testing.T) {
	w, o := newMCPWorld(t)
	a := attempts(t, w, theMCP)
	callback := returns(t, w, a.visit())
	code, state := callback.Query().Get("code"), callback.Query().Get("state")
	at := callback.String()
	bare := strings.SplitN(at, "?", 2)[0]
	flipped := "A" + state[1:]
	if flipped == state {
		flipped = "B" + state[1:]
	}
	for _, abuse := range []struct {
		name, method, at string
		header           http.Header
	}{
		{"nothing at all", "GET", bare, nil},
		{"no state", "GET", query(callback, "state", ""), nil},
		{"an empty state", "GET", query(callback, "state", "") + "&state=", nil},
		{"a forged state", "GET", query(callback, "state", flipped), nil},
		{"a state with markup", "GET", query(callback, "state", markup), nil},
		{"a state cut short", "GET", query(callback, "state", state[:len(state)-1]), nil},
		{"a state in capitals", "GET", query(callback, "state", strings.ToUpper(state)), nil},
		{"a state that is too long", "GET", query(callback, "state", state+"x"), nil},
		{"the state as something else", "GET", query(callback, "state", "", "State", state), nil},
		{"two states, the right one first", "GET", at + "&state=" + flipped, nil},
		{"two states, the right one last", "GET", bare + "?state=" + flipped + "&" + callback.RawQuery, nil},
		{"the right state twice", "GET", at + "&state=" + state, nil},
		{"two codes", "GET", at + "&code=another-code-0123456789", nil},
		{"two issuers", "GET", at + "&iss=https%3A%2F%2Fattacker.example", nil},
		{"an error for another state", "GET", query(callback, "code", "", "state", flipped, "error", "access_denied", "error_description", markup), nil},
		{"an error without a state", "GET", query(callback, "code", "", "state", "", "error", "access_denied", "error_description", markup), nil},
		{"a query that cannot be read", "GET", at + "&x=%zz", nil},
		{"a semicolon", "GET", strings.Replace(at, "&", ";", 1), nil},
		{"17 KB", "GET", at + "&x=" + strings.Repeat("x", 17<<10), nil},
		{"64 KB", "GET", at + "&x=" + strings.Repeat("x", 64<<10), nil},
		{"a POST", "POST", at, nil},
		{"a HEAD", "HEAD", at, nil},
		{"a PUT", "PUT", at, nil},
		{"OPTIONS", "OPTIONS", at, http.Header{"Origin": {"https://attacker.example"}, "Access-Control-Request-Method": {"GET"}}},
		{"the Host of a rebound name", "GET", at, http.Header{"Host": {"attacker.example"}}},
		{"the Host of a rebound name with the port", "GET", at, http.Header{"Host": {fmt.Sprintf("attacker.example:%d", w.Port())}}},
		{"another port in Host", "GET", at, http.Header{"Host": {"127.0.0.1:1"}}},
		{"another path", "GET", strings.Replace(at, "/oauth?", "/oauth/?", 1), nil},
		{"another path's case", "GET", strings.Replace(at, "/oauth?", "/OAuth?", 1), nil},
	} {
		status, page := visit(t, abuse.method, abuse.at, abuse.header)
		if status < 400 || status >= 500 {
			t.Errorf("%s: the page is %d", abuse.name, status)
		}
		lacks(t, page, "<script", "onerror=", "canaryMarkup", code, state, flipped)
		a.waits(abuse.name)
	}
	holds(t, w)
	if ok, refused := o.Count("token", ""); ok+refused != 0 {
		t.Fatalf("%d codes were sent to the server", ok+refused)
	}

	status, page := visit(t, "GET", at, nil)
	if status != http.StatusOK {
		t.Errorf("the true callback's page is %d: %s", status, page)
	}
	lacks(t, page, code, state)
	a.succeeds()
	status, page = visit(t, "GET", at, nil)
	if status < 400 || status >= 500 {
		t.Errorf("a replay's page is %d", status)
	}
	lacks(t, page, code, state)
	if ok, refused := o.Count("token", "authorization_code"); ok != 1 || refused != 0 {
		t.Errorf("the code was taken %d times and refused %d times", ok, refused)
	}
	holds(t, w, theName, theName+"/default connected")
	keepsQuiet(t, w, "", append(o.Secrets(), code)...)
	// The state may be seen, in the address that the person opens; the address is
	// in no log.
	contains(t, a.printed(), state)
	lacks(t, must(t, w.Command("daemon", "logs", "-n", "100000"))+must(t, w.Command("log", "--json", "-n", "100000")), state)
}

// TestCallbackSaysNo: what comes with the right state is the service's word. The
// command that waits is told at once.
func TestCallbackSaysNo(t *testing.T) {
	w, o := newMCPWorld(t)
	for _, no := range []struct {
		name  string
		pairs []string
		code  string
		says  string
	}{
		{"denied, in markup", []string{"code", "", "error", "access_denied", "error_description", "No " + markup}, "InputCancelled", "consent was denied"},
		{"denied, and a code", []string{"error", "access_denied"}, "InputCancelled", "consent was denied"},
		{"trouble", []string{"code", "", "error", "server_error"}, "EndpointUnreachable", "in trouble"},
		{"an error that is markup", []string{"code", "", "error", markup}, "AuthenticationFailed", ""},
		{"another server's answer", []string{"iss", "https://" + internet.Attacker}, "AuthenticationFailed", "another server"},
		{"nobody's answer", []string{"iss", ""}, "AuthenticationFailed", "which server"},
		{"neither code nor error", []string{"code", ""}, "AuthenticationFailed", "no code"},
		{"a code with a line break", []string{"code", "x\r\nX-Evil: 1"}, "AuthenticationFailed", "not valid"},
	} {
		a := attempts(t, w, theMCP)
		callback := returns(t, w, a.visit())
		code := callback.Query().Get("code")
		status, page := visit(t, "GET", query(callback, no.pairs...), nil)
		if status < 400 {
			t.Errorf("%s: the page is %d: %s", no.name, status, page)
		}
		lacks(t, page, "<script", "onerror=", code)
		if v := a.refused(); v.Error != no.code || !strings.Contains(v.Message, no.says) {
			t.Errorf("%s: %+v", no.name, v)
		}
		// It is over: the true answer comes too late.
		if status, _ := visit(t, "GET", callback.String(), nil); status < 400 || status >= 500 {
			t.Errorf("%s, and then the true answer: %d", no.name, status)
		}
		keepsQuiet(t, w, a.printed(), code)
	}
	if ok, refused := o.Count("token", ""); ok+refused != 0 {
		t.Errorf("%d codes were sent to the server", ok+refused)
	}
	holds(t, w)
}

// TestOldTab: consent that comes after the login's time is worth nothing.
func TestOldTab(t *testing.T) {
	w, o := newMCPWorld(t)
	a := attempts(t, w, theMCP, "--timeout", "2s")
	callback := returns(t, w, a.visit())
	if v := a.refused(); v.Error != "LoginTimedOut" {
		t.Errorf("the login that nobody finished: %+v", v)
	}
	if status, page := visit(t, "GET", callback.String(), nil); status < 400 || status >= 500 {
		t.Errorf("the old tab's page is %d: %s", status, page)
	}
	if ok, refused := o.Count("token", ""); ok+refused != 0 {
		t.Errorf("%d codes were sent to the server", ok+refused)
	}
	holds(t, w)
}

// appIsSet tells authsome of the OAuth app that GitHub knows.
func appIsSet(t *testing.T, w *harness.World, secret string) *internet.OAuth {
	t.Helper()
	o := w.Internet.OAuth("github.com")
	must(t, w.Command("provider", "set-client", "github", "--client-id", o.App().ID, "--secret-stdin").Input(secret))
	return o
}

// TestDeviceRefused: the person says no on the other device, or nobody says
// anything there.
func TestDeviceRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := appIsSet(t, w, w.Internet.OAuth("github.com").App().Secret)
	o.PollInterval(time.Second)
	denied := attempts(t, w, "github", "--flow", "device_code", "--connection", "denied")
	at, code := denied.visit(), denied.says("Code:")
	page, err := person(t, w, "octocat").DenyDevice(within(t), at, code)
	if err != nil {
		t.Fatal(err)
	}
	if v := denied.refused(); v.Error != "InputCancelled" {
		t.Errorf("after a no (%s): %+v", page.Text, v)
	}
	expired := attempts(t, w, "github", "--flow", "device_code", "--connection", "expired")
	expired.visit()
	o.ExpireDevices()
	if v := expired.refused(); v.Error != "LoginTimedOut" {
		t.Errorf("after the code's end: %+v", v)
	}
	// Who ends the waiting does not end the login.
	left := attempts(t, w, "github", "--flow", "device_code", "--connection", "left")
	at, code = left.visit(), left.says("Code:")
	if err := left.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := person(t, w, "octocat").Device(within(t), at, code); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the login ends well without its command", func() bool {
		return len(holdings(t, w)) == 1
	})
	holds(t, w, "github/left connected")
	keepsQuiet(t, w, denied.printed()+expired.printed()+left.printed(), o.Secrets()...)
}

// TestWrongClientSecret: the app's secret was mistyped, or renewed at the service.
func TestWrongClientSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const wrong = "canaryWrongClientSecret0123456789"
	o := appIsSet(t, w, wrong)
	a := attempts(t, w, "github", "--flow", "pkce")
	page := consents(t, w, a.visit())
	if page.Status < 400 || !strings.Contains(page.Text, "authsome provider set-client github") {
		t.Errorf("the page is %d: %s", page.Status, page.Text)
	}
	if v := a.refused(); v.Error != "AuthenticationFailed" || !strings.Contains(v.Hint, "authsome provider set-client github") {
		t.Errorf("%+v", v)
	}
	holds(t, w)
	// The page asks again once the wrong one is forgotten; the right one works.
	appIsSet(t, w, o.App().Secret)
	a = attempts(t, w, "github", "--flow", "pkce")
	consents(t, w, a.visit())
	a.succeeds()
	holds(t, w, "github/default connected")
	keepsQuiet(t, w, a.printed(), append(o.Secrets(), wrong)...)
}

// TestScopesRefused: the service knows no such scope.
func TestScopesRefused(t *testing.T) {
	t.Parallel()
	w, o := newMCPWorld(t)
	a := attempts(t, w, theMCP, "--scopes", "mcp:read,mcp:everything")
	page := consents(t, w, a.visit())
	v := a.refused()
	if page.Status < 400 || v.Error != "AuthenticationFailed" || !strings.Contains(v.Message, "invalid_scope") || !strings.Contains(v.Hint, "--scopes") {
		t.Errorf("the page is %d: %s; the command says %+v", page.Status, page.Text, v)
	}
	if ok, refused := o.Count("token", ""); ok+refused != 0 {
		t.Errorf("%d codes were sent to the server", ok+refused)
	}
	holds(t, w)
}
