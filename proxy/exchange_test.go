package proxy_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// raw sends one hand-written request in a tunnel and returns what the service
// saw.
func (w *world) raw(host, request string) *http.Response {
	w.t.Helper()
	c, br := w.tunnel(host+":443", host)
	return exchange(w.t, c, br, request)
}

// TestHopByHopHeaders: what concerns one connection stays on it, both ways, and
// nothing is added.
func TestHopByHopHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header()["Connection"] = []string{"X-Hop-Down"}
		rw.Header().Set("X-Hop-Down", "1")
		rw.Header().Set("Keep-Alive", "timeout=5")
		rw.Header().Set("Proxy-Authenticate", "Basic")
		rw.Header().Set("Authsome-Error", "login_required")
		rw.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		rw.Header()["Date"] = nil
		rw.Header()["Content-Type"] = nil
		var names []string
		for k := range r.Header {
			names = append(names, k)
		}
		slices.Sort(names)
		_, _ = io.WriteString(rw, strings.Join(names, " "))
	}, only(http1))
	res := w.raw("api.openai.com", "GET / HTTP/1.1\r\nHost: api.openai.com\r\nConnection: keep-alive, x-hop\r\nConnection: x-other\r\n"+
		"X-Hop: 1\r\nX-Other: 1\r\nKeep-Alive: 1\r\nProxy-Connection: 1\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers, deflate\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Stays: 1\r\n\r\n")
	if got := text(t, res); got != "Authorization Te X-Stays" {
		t.Errorf("the service saw the headers %s", got)
	}
	for _, name := range []string{"Connection", "X-Hop-Down", "Keep-Alive", "Proxy-Authenticate", "Authsome-Error", "Date", "Content-Type", "Via", "X-Forwarded-For"} {
		if v, ok := res.Header[name]; ok {
			t.Errorf("the child got %s: %q", name, v)
		}
	}
	if got := res.Header["Set-Cookie"]; !slices.Equal(got, []string{"a=1", "b=2"}) {
		t.Errorf("cookies: %q", got)
	}
}

// TestPlaceholderAtAnotherHost: a placeholder that is not replaced does not
// leave: that is what exfiltration looks like.
func TestPlaceholderAtAnotherHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, host := range []string{"api.openai.com", "paths.example.com", "api.anthropic.com"} {
		w.serve(host, echo)
	}
	for _, request := range []string{
		"https://api.openai.com/ X-Api-Key: " + authsome.Placeholder,
		"https://api.openai.com/ Cookie: k=" + authsome.Placeholder,
		"https://paths.example.com/private Authorization: Bearer " + authsome.Placeholder,
		"https://paths.example.com/private Authorization: Basic " + b64("x-access-token:"+authsome.Placeholder),
		"https://paths.example.com/private Authorization: bASIC  " + strings.TrimRight(b64("u:"+authsome.Placeholder), "="),
		"https://api.anthropic.com/ User-Agent: " + authsome.Placeholder,
	} {
		url, header, _ := strings.Cut(request, " ")
		got := problem(t, w.get(w.client(http1), url, header), 403, "placeholder_misplaced")
		if name, _, _ := strings.Cut(header, ":"); !strings.Contains(got["message"].(string), name) {
			t.Errorf("the answer does not name the header: %v", got)
		}
	}
	ends := w.broker.ends(6)
	for _, e := range ends {
		if e.res != nil || e.out.Status != 403 || e.out.Err == "" {
			t.Errorf("audited as %+v", e)
		}
	}
	if asked, _ := w.broker.counts(); len(ends) != asked {
		t.Errorf("%d resolved, %d finished", asked, len(ends))
	}
	for _, host := range []string{"api.openai.com:443", "paths.example.com:443"} {
		if w.net.dialled(host) != 0 {
			t.Errorf("%s was dialled", host)
		}
	}
}

// TestOnPlaceholder: a slot that is filled only where ours was found.
func TestOnPlaceholder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("when.example.com", echo)
	for sent, want := range map[string]string{
		"Bearer " + authsome.Placeholder: "Bearer " + openaiKey, "Bearer mine": "Bearer mine",
		"Basic " + b64("x:"+authsome.Placeholder): "Bearer " + openaiKey,
	} {
		if s := sawOf(t, w.get(w.client(http2), "https://when.example.com/", "Authorization: "+sent)); s.Header.Get("Authorization") != want {
			t.Errorf("%q became %q", sent, s.Header.Get("Authorization"))
		}
	}
}

// TestRefusalsOfTheBroker: an agent can act on each.
func TestRefusalsOfTheBroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := problem(t, w.get(w.client(http2), "https://api.nobody.example/"), 401, "login_required")
	if got["provider"] != "nobody" || got["fix"] != "authsome login nobody" {
		t.Errorf("%v", got)
	}
	w.broker.set("openai", &account{secret: openaiKey, expired: true})
	got = problem(t, w.get(w.client(http1), "https://api.openai.com/"), 401, "reauthentication_required")
	if got["fix"] != "authsome login openai --force" {
		t.Errorf("%v", got)
	}
	if _, n := w.broker.counts(); n != 0 {
		t.Errorf("%d refused requests were finished as well", n)
	}
	if n := w.net.dialled("api.nobody.example:443"); n != 0 {
		t.Errorf("%d dials", n)
	}
}

// TestUpstreamThatIsNotHTTP: named as such, and nothing that it said is quoted,
// since it may have said our own header.
func TestUpstreamThatIsNotHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err == nil {
			_, _ = io.WriteString(c, "echo "+req.Header.Get("Authorization")+"\r\n\r\n")
		}
	})
	got := problem(t, w.get(w.client(http1), "https://api.openai.com/"), 502, "upstream_unreachable")
	w.raw("api.openai.com", "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
	if s := fmt.Sprint(got, w.log.String()); strings.Contains(s, openaiKey) {
		t.Errorf("the secret was shown: %s", s)
	}
	if e := w.broker.ends(2)[0]; e.out.Err == "" || strings.Contains(e.out.Err, openaiKey) {
		t.Errorf("audited as %+v", e.out)
	}
}

// TestManyRequestsAtOnce use few upstream connections: with net/http's default
// of two idle ones, almost every request would open a new one.
func TestManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	const workers, each = 32, 30
	errs := make(chan error, workers)
	c := w.client(http1)
	c.Transport.(*http.Transport).MaxIdleConnsPerHost = workers
	for range workers {
		go func() {
			for range each {
				res, err := c.Get("https://api.openai.com/")
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
					if res.StatusCode != 200 {
						err = errors.New(res.Status)
					}
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := w.net.dialled("api.openai.com:443"); n > 4*workers {
		t.Errorf("%d upstream connections for %d requests, %d at once", n, workers*each, workers)
	}
	if asked, finished := w.broker.counts(); asked != workers*each || len(w.broker.ends(asked)) != asked {
		t.Errorf("%d resolved, %d finished", asked, finished)
	}
}
