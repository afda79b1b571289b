package journey

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// open answers everybody, and says by its body whether a credential came.
func open(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "credential: %v", r.Header["Authorization"] != nil || r.Header["X-Key"] != nil)
}

// TestModes: each mode, for hosts of every kind, http://, loopback, other ports,
// methods and requests that two providers claim. "pass" is the answer of the
// service to a request without a credential, "with" to one that had it, and a
// code is the proxy's.
func TestModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, host := range []string{"api.groq.com", "two.example.com", "some.example.com", "api.openai.com"} {
		w.Internet.Handle(host, http.HandlerFunc(open))
	}
	local := httptest.NewServer(http.HandlerFunc(open))
	defer local.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(open))
	defer secure.Close()
	login(t, w, openaiKey, "openai")
	for _, name := range []string{"one", "two"} {
		define(t, w, name, `{"name":"`+name+`","auth_type":"api_key","routes":[{"host":"two.example.com","inject":[{"header":"X-Key","value":"{token}"}]}]}`)
		login(t, w, "canary-"+name+"-0123456789abcdef", name)
	}
	define(t, w, "reader", `{"name":"reader","auth_type":"api_key","routes":[{"host":"some.example.com","path":"/v1","methods":["GET"],"inject":[{"header":"X-Key","value":"{token}"}]}]}`)
	login(t, w, "canary-reader-0123456789abcdef", "reader")

	const allow, deny, all, allDeny = "connected_allow", "connected_deny", "configured_allow", "configured_deny"
	tests := []struct{ name, request, allow, deny, all, allDeny string }{
		{"a provider with a login", "https://api.openai.com/v1/models", "with", "with", "with", "with"},
		{"a provider without one", "https://api.groq.com/openai/v1/models", "pass", "denied", "pass", "login_required"},
		{"nobody's host", "https://echo.example.com/small", "pass", "denied", "pass", "denied"},
		{"nobody's path of a routed host", "https://some.example.com/v2/x", "pass", "denied", "pass", "denied"},
		{"a method that the route names", "https://some.example.com/v1/x", "with", "with", "with", "with"},
		{"one that it does not", "-X DELETE https://some.example.com/v1/x", "pass", "denied", "pass", "denied"},
		{"two providers' request", "https://two.example.com/", "pass", "ambiguous", "pass", "ambiguous"},
		{"http", "http://" + local.Listener.Addr().String() + "/", "pass", "denied", "pass", "denied"},
		{"http, with a placeholder", `-H "X-Key: authsome-proxy-managed" http://` + local.Listener.Addr().String() + "/", "placeholder_misplaced", "denied", "placeholder_misplaced", "denied"},
		{"loopback", "-k " + secure.URL + "/", "pass", "denied", "pass", "denied"},
	}
	for _, mode := range []string{allow, deny, all, allDeny} {
		var script strings.Builder
		for _, tt := range tests {
			// Through the proxy, where NO_PROXY would have it go round it.
			fmt.Fprintf(&script, "curl -sS -m 20 --noproxy '' -x \"$HTTPS_PROXY\" -w '\\n' -D - %s 2>&1; echo; echo =====\n", tt.request)
		}
		answers := strings.Split(must(t, w.Command("run", "--mode", mode, "--", "sh", "-c", script.String())), "=====\n")
		for i, tt := range tests {
			answer := answers[i]
			want := map[string]string{allow: tt.allow, deny: tt.deny, all: tt.all, allDeny: tt.allDeny}[mode]
			switch want {
			case "with":
				contains(t, answer, "credential: true")
			case "pass":
				lacks(t, answer, "Authsome-Error", "credential: true")
				if !strings.Contains(answer, "credential: false") && !strings.Contains(answer, `"hello"`) {
					t.Errorf("%s, %s: %s", mode, tt.name, answer)
				}
			default:
				contains(t, strings.ToLower(answer), "authsome-error: "+want)
			}
			if t.Failed() {
				t.Fatalf("%s, %s: want %s:\n%s", mode, tt.name, want, answer)
			}
		}
	}
	// A port that is no route's is refused as a host that is nobody's.
	for mode, want := range map[string]string{allow: "502", deny: "403", all: "502", allDeny: "403"} {
		r := w.Command("run", "--mode", mode, "--", "curl", "-sS", "-w", "%{http_connect}", "https://api.openai.com:8443/").Run()
		contains(t, r.Stdout, want)
	}
	contains(t, must(t, w.Command("log", "--json", "-n", "100000")), "one and two claim two.example.com/ alike")
}

// TestRevocationEndsStreams: what a run has open with a credential ends with the
// login, with the provider, or with the run, and what it has open without one
// goes on as long as the run does.
func TestRevocationEndsStreams(t *testing.T) {
	w := newWorld(t)
	gone := map[string]chan struct{}{}
	for _, host := range []string{"one.example.com", "two.example.com", "three.example.com", "free.example.com"} {
		ended := make(chan struct{}, 1)
		gone[host] = ended
		w.Internet.Handle(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = rw.Write([]byte("begun\n"))
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
			ended <- struct{}{}
		}))
		if host == "free.example.com" {
			continue
		}
		name, _, _ := strings.Cut(host, ".")
		define(t, w, name, `{"name":"`+name+`","auth_type":"api_key","routes":[{"host":"`+host+`","inject":[{"query":"key","value":"{token}"},{"header":"X-Key","value":"{token}"}]}]}`)
		login(t, w, "canary-"+name+"-0123456789abcdef", name)
	}
	must(t, w.Command("login", "one", "--connection", "other", "--stdin").Input("canary-other-0123456789abcdef\n"))
	cmd := w.Command("run", "--", "sh", "-c", `
		for h in one two three free; do curl -sSN https://$h.example.com/ & done
		wait`).Cmd()
	out := lines(t, cmd)
	for range 4 {
		next(t, out, "begun")
	}
	stays := func(hosts ...string) {
		t.Helper()
		for _, h := range hosts {
			if len(gone[h]) > 0 {
				t.Errorf("the stream of %s ended too", h)
			}
		}
	}
	ends := func(host string, since time.Time) {
		t.Helper()
		select {
		case <-gone[host]:
			t.Logf("%s ended after %v", host, time.Since(since))
		case <-time.After(patience):
			t.Fatalf("the stream of %s goes on", host)
		}
	}
	must(t, w.Command("logout", "one", "--connection", "other"))
	stays("one.example.com", "two.example.com")
	now := time.Now()
	must(t, w.Command("logout", "one", "--connection", "default"))
	ends("one.example.com", now)
	stays("two.example.com", "three.example.com", "free.example.com")
	now = time.Now()
	must(t, w.Command("revoke", "two"))
	ends("two.example.com", now)
	now = time.Now()
	must(t, w.Command("remove", "three"))
	ends("three.example.com", now)
	stays("free.example.com")
	now = time.Now()
	_ = cmd.Process.Kill() // the run itself: its child goes with it, and so does the grant
	ends("free.example.com", now)
}
