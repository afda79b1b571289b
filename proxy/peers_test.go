package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// TestPeers goes through what other credential proxies got wrong on the way of a
// request, by name. Many are held by tests of a step of the proxy, and are called
// here.
func TestPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("most of it is run by itself as well")
	}
	t.Parallel()
	for _, line := range []struct {
		name  string
		tests []func(*testing.T)
	}{
		// Leaks and bypasses.
		{"look-alike hosts", run(lookAlikeHosts)},
		{"upper-case CONNECT host", run(TestUpperCaseHost)},
		{"path scope with dot segments", run(TestSmuggledPaths)},
		{"revoked token on an open tunnel", run(TestRevokedTokenOnOpenTunnels, TestRevokedTokenOnTheNextRequest)},
		{"Connection: authorization", run(TestSmuggledRequests, TestHopByHopHeaders)},
		{"SNI or inner Host retargets", run(TestSmuggledServerNames, TestSmuggledHosts, TestSmuggledHTTP2, TestResumptionStaysWithTheHost)},
		{"addresses that slip past private-address lists", run(TestDisguisedAddresses)},
		{"placeholder at another allowed host", run(TestPlaceholderAtAnotherHost)},
		{"plain HTTP skips the rules", run(TestPlainHTTP, TestDenyModeRefusesUnknownHosts)},
		{"a local caller or a web page spends the credential", run(TestNoTokenNoService, webPages)},
		{"a 401 is retried with the same stale token", run(TestRejectedToken)},
		// Breakage.
		{"uploads cut at 60 s, answers at 30 min", run(TestStreamsMayBeIdle)},
		{"clone cut at 100 MiB", run(moreThan100MiB)},
		{"events buffered or delayed", run(TestEventsAreNotHeldBack, TestSlowAnswerOfKnownLength)},
		{"a new upstream connection for almost every request", run(TestManyRequestsAtOnce)},
		{"HTTP/1.1 only on injected hosts", run(TestInjectsOverEveryPairOfProtocols)},
		{"Codex's WebSocket fails", run(TestCodexWebSocket, TestWebSocketRefused)},
		{"frames dropped after the 101", run(TestFramesAroundThe101)},
		{"host names with underscores", run(TestClientsOfEveryAge)},
		{"private upstream authorities", run(TestUntrustedUpstream)},
		{"corporate proxies lost", run(TestUpstreamProxy, TestUpstreamProxyOverTLS)},
		{"local services trapped by the proxy", run(TestLocalServices)},
		{"placeholder inside Base64 Basic", run(TestOnPlaceholder)},
		{"git gives up without a challenge", run(TestChallenge, TestGitAnswersTheChallengeOnTheSameConnection)},
		{"Set-Cookie stripped", run(cookiesOfTheService)},
		{"silent 429s", run(tooManyRequests)},
		// Asked for.
		{"method restrictions", run(methods)},
	} {
		t.Run(line.name, func(t *testing.T) {
			for _, test := range line.tests {
				name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
				t.Run(name[strings.LastIndexByte(name, '.')+1:], test)
			}
		})
	}
}

func run(tests ...func(*testing.T)) []func(*testing.T) { return tests }

// lookAlikeHosts: a name that merely begins, ends or looks like a routed one is
// another host, and its TLS is its own.
func lookAlikeHosts(t *testing.T) {
	w := newWorld(t)
	bearer := []authsome.Injection{{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"}}
	w.broker.routes(
		route.Entry{Provider: "openai", Route: authsome.Route{Host: "api.openai.com", Inject: bearer}},
		route.Entry{Provider: "github", Route: authsome.Route{Host: "*.githubusercontent.com", Inject: bearer}},
		route.Entry{Provider: "github", Route: authsome.Route{Host: "*.googleapis.com", Inject: bearer}},
	)
	for _, host := range []string{
		"googleapis.evil.example", "storage.googleapis.com.evil.example", "evilgoogleapis.com", "googleapis.com",
		"evilgithubusercontent.com", "raw.githubusercontent.com.evil.example", "githubusercontent.com",
		"api.openai.com.evil.example", "evil-api.openai.com", "xapi.openai.com", "api.openai.co", "openai.com", "api-openai.com",
		"аpi.openai.com", // with a Cyrillic а
	} {
		ascii, err := route.Host(host)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		w.serve(ascii, echo)
		raw, _ := w.connect(host + ":443")
		c := tls.Client(raw, &tls.Config{RootCAs: pool(w.theirs), ServerName: ascii, NextProtos: []string{http1}})
		s := sawOf(t, exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+ascii+"\r\n\r\n"))
		if s.Header.Get("Authorization") != "" {
			t.Errorf("%s got a credential", host)
		}
		_ = c.Close()
	}
	w.serve("raw.githubusercontent.com", echo)
	if s := sawOf(t, w.get(w.client(http1), "https://raw.githubusercontent.com/")); s.Header.Get("Authorization") != "Bearer "+githubToken {
		t.Errorf("the host that is meant saw %v", s.Header)
	}
	if asked, _ := w.broker.counts(); asked != 1 {
		t.Errorf("the broker was asked %d times", asked)
	}
}

// webPages: what a browser can be made to send to the proxy's port, by a page or
// after a name was rebound to this machine, carries no token and gets nothing.
func webPages(t *testing.T) {
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: " + w.addr + "\r\nOrigin: https://evil.example\r\nReferer: https://evil.example/\r\n",
		"POST /v1/x HTTP/1.1\r\nHost: api.openai.com\r\nOrigin: https://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n",
		"OPTIONS / HTTP/1.1\r\nHost: rebound.evil.example\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: proxy-authorization\r\n",
		"GET /chat HTTP/1.1\r\nHost: rebound.evil.example\r\nOrigin: https://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"GET https://api.openai.com/ HTTP/1.1\r\nHost: api.openai.com\r\nCookie: a=b\r\n",
	} {
		c := w.dialProxy()
		res := exchange(t, c, bufio.NewReader(c), raw+"\r\n")
		problem(t, res, 407, "proxy_authentication_required")
		for name := range res.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%q is answered with %s", raw, name)
			}
		}
		_ = c.Close()
	}
	if asked, _ := w.broker.counts(); asked != 0 || w.net.dialled("api.openai.com:443") != 0 {
		t.Error("something was asked for")
	}
}

// moreThan100MiB comes down and goes up, to where the length is not known
// either.
func moreThan100MiB(t *testing.T) {
	const size = 101 << 20
	w := newWorld(t)
	w.serve("github.com", func(rw http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			_, _ = fmt.Fprint(rw, n, err)
			return
		}
		_, _ = io.Copy(struct{ io.Writer }{rw}, &io.LimitedReader{R: tireless{}, N: size})
	})
	c := w.client(http1)
	if n, err := io.Copy(io.Discard, w.get(c, "https://github.com/me/big/info/refs").Body); n != size || err != nil {
		t.Errorf("%d bytes came down, %v", n, err)
	}
	res := w.do(c, http.MethodPost, "https://github.com/me/big/git-receive-pack", io.NopCloser(&io.LimitedReader{R: tireless{}, N: size}))
	if got := text(t, res); got != fmt.Sprint(size, nil) {
		t.Errorf("%s bytes went up", got)
	}
}

// cookiesOfTheService come through, each of its own.
func cookiesOfTheService(t *testing.T) {
	w := newWorld(t)
	sent := []string{"a=1; Secure; HttpOnly", "b=2, with a comma; Expires=Wed, 21 Oct 2026 07:28:00 GMT"}
	w.serve("api.openai.com", func(rw http.ResponseWriter, _ *http.Request) { rw.Header()["Set-Cookie"] = sent })
	for _, proto := range []string{http1, http2} {
		if got := w.get(w.client(proto), "https://api.openai.com/").Header["Set-Cookie"]; fmt.Sprint(got) != fmt.Sprint(sent) {
			t.Errorf("%s: %q", proto, got)
		}
	}
}

// tooManyRequests: what a service says about its limits is the program's to read,
// and is neither repeated nor changed on the way.
func tooManyRequests(t *testing.T) {
	w := newWorld(t)
	asked := 0
	w.serve("api.openai.com", func(rw http.ResponseWriter, _ *http.Request) {
		asked++
		rw.Header().Set("Retry-After", "17")
		rw.Header().Set("X-Ratelimit-Remaining", "0")
		rw.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(rw, `{"error":"slow down"}`)
	})
	res := w.get(w.client(http2), "https://api.openai.com/")
	if body := text(t, res); res.StatusCode != 429 || res.Header.Get("Retry-After") != "17" || res.Header.Get("X-Ratelimit-Remaining") != "0" || body != `{"error":"slow down"}` || asked != 1 {
		t.Errorf("%s %v %q, asked %d times", res.Status, res.Header, body, asked)
	}
}

// methods: a route that names some is for those alone.
func methods(t *testing.T) {
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	w.broker.routes(route.Entry{Provider: "openai", Route: authsome.Route{Host: "api.openai.com", Methods: []string{"GET", "HEAD"}, Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})
	for method, want := range map[string]string{"GET": "Bearer " + openaiKey, "POST": "", "DELETE": "", "PATCH": ""} {
		s := sawOf(t, w.raw("api.openai.com", method+" / HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: 0\r\n\r\n"))
		if s.Method != method || s.Header.Get("Authorization") != want {
			t.Errorf("%s: the service saw %s with %q", method, s.Method, s.Header.Get("Authorization"))
		}
	}
	// Services differ in whether that is the route's.
	problem(t, w.raw("api.openai.com", "get / HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: 0\r\n\r\n"), 400, "bad_request")
	problem(t, w.raw("api.openai.com", "POST / HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: 0\r\nAuthorization: Bearer "+authsome.Placeholder+"\r\n\r\n"), 403, "placeholder_misplaced")
}
