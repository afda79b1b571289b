package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
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

// TestHeaderTricks: nothing that a child does with its headers takes the
// credential off, doubles it, or keeps its own.
func TestHeaderTricks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	w.serve("api.anthropic.com", echo)
	for name, headers := range map[string]string{
		"Connection: authorization": "Connection: close, authorization\r\nAuthorization: Bearer mine\r\n",
		"mixed case":                "aUTHORIZATION: Bearer mine\r\n",
		"duplicated":                "Authorization: Bearer one\r\nauthorization: Bearer two\r\n",
		"empty":                     "Authorization:\r\n",
		"placeholder":               "Authorization: Bearer " + authsome.Placeholder + "\r\n",
		"placeholder with account":  "Authorization: Bearer " + authsome.Placeholder + ".work\r\n",
	} {
		s := sawOf(t, w.raw("api.openai.com", "GET / HTTP/1.1\r\nHost: api.openai.com\r\n"+headers+"\r\n"))
		if got := s.Header["Authorization"]; !slices.Equal(got, []string{"Bearer " + openaiKey}) {
			t.Errorf("%s: the service saw %q", name, got)
		}
	}
	// A service's other slots are emptied.
	s := sawOf(t, w.raw("api.anthropic.com", "GET / HTTP/1.1\r\nHost: api.anthropic.com\r\nAuthorization: Bearer mine\r\nx-api-key: mine\r\n\r\n"))
	if s.Header.Get("Authorization") != "" || !slices.Equal(s.Header["X-Api-Key"], []string{anthropic}) {
		t.Errorf("the service saw %v", s.Header)
	}
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

// TestInnerHostMismatch: the tunnel's host is the only one, however the other
// is named.
func TestInnerHostMismatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: api.openai.com.evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: api.openai.com:444\r\n\r\n",
		"GET https://evil.example/ HTTP/1.1\r\nHost: api.openai.com\r\n\r\n",
	} {
		problem(t, w.raw("api.openai.com", request), 421, "misdirected")
	}
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: api.openai.com\r\nHost: evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: api.openai.com@evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET http://api.openai.com/ HTTP/1.1\r\nHost: api.openai.com\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: api.openai.com\r\n\r\n",
		"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n",
		"TRACE / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n",
		"GET /a#b HTTP/1.1\r\nHost: api.openai.com\r\n\r\n",
		"GET /a\\..\\b HTTP/1.1\r\nHost: api.openai.com\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
	} {
		res := w.raw("api.openai.com", request)
		if res.StatusCode < 400 {
			t.Errorf("%q: %s", request, res.Status)
		}
	}
	if n := w.net.dialled("api.openai.com:443"); n != 0 {
		t.Errorf("%d dials for refused requests", n)
	}
	asked, _ := w.broker.counts()
	if asked != 0 {
		t.Errorf("the broker was asked %d times", asked)
	}
	if ends := w.broker.ends(4); ends[0].res != nil || ends[0].out.Status != 421 {
		t.Errorf("audited as %+v", ends[0])
	}
	// What is equal but spelt otherwise goes through.
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: API.OPENAI.COM.:443\r\n\r\n",
		"GET https://api.openai.com/ HTTP/1.1\r\nHost: ignored.example\r\n\r\n",
	} {
		if s := sawOf(t, w.raw("api.openai.com", request)); s.Host != "api.openai.com" || s.URI != "/" {
			t.Errorf("%q: the service saw %+v", request, s)
		}
	}
}

// TestInnerHostMismatchHTTP2: a second host on one HTTP/2 connection, which is
// what coalescing clients do.
func TestInnerHostMismatchHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	c := w.client(http2)
	req, err := http.NewRequest(http.MethodGet, "https://api.openai.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "api.github.com"
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	problem(t, res, 421, "misdirected")
	sawOf(t, w.get(c, "https://api.openai.com/"))
}

// TestPathTricks: a scope on a path holds for what the service will read, and
// what is routed on is what is forwarded.
func TestPathTricks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("paths.example.com", echo)
	for _, tt := range []struct {
		sent, seen string
		injected   bool
	}{
		{"/public/x", "/public/x", true},
		{"/public/../admin", "/admin", false},
		{"/public/%2e%2e/admin", "/admin", false},
		{"/public/.%2E/admin?a=/public", "/admin?a=/public", false},
		{"/admin/../public/x", "/public/x", true},
		{"/publicity", "/publicity", false},
		{"/%70ublic/x", "/public/x", true},
		{"/public/a%2fb?q=%2e%2e&c=a%20b", "/public/a%2Fb?q=%2e%2e&c=a%20b", true},
		{"/public?", "/public?", true},
		{"//public/x", "https://paths.example.com//public/x", false},
		{"https://paths.example.com/public/../admin", "/admin", false},
	} {
		s := sawOf(t, w.raw("paths.example.com", "GET "+tt.sent+" HTTP/1.1\r\nHost: paths.example.com\r\n\r\n"))
		if s.URI != tt.seen || (s.Header.Get("Authorization") != "") != tt.injected {
			t.Errorf("%s: the service saw %s, credential %v", tt.sent, s.URI, s.Header.Get("Authorization") != "")
		}
	}
	for _, path := range []string{"/public/..%2fadmin", "/public/%2e%2e%2fadmin", "/public/..;/admin", "/public/%00", "/public/..%5cadmin"} {
		problem(t, w.raw("paths.example.com", "GET "+path+" HTTP/1.1\r\nHost: paths.example.com\r\n\r\n"), 400, "bad_request")
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

// gitService answers 401 to all but the right Basic credential, except for
// public repositories.
func gitService(requests *[]string) http.HandlerFunc {
	want := "Basic " + b64("x-access-token:"+githubToken)
	return func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*requests = append(*requests, fmt.Sprintf("%s %s %q %d", r.Method, r.URL.Path, strings.Replace(r.Header.Get("Authorization"), want, "ours", 1), len(body)))
		if !strings.HasPrefix(r.URL.Path, "/public/") && r.Header.Get("Authorization") != want {
			rw.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
			rw.WriteHeader(401)
			return
		}
		_, _ = rw.Write(body)
	}
}

// TestChallenge: git's first request is anonymous; a 401 brings the credential,
// and the repository is remembered.
func TestChallenge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var requests []string
	w.serve("github.com", gitService(&requests))
	c := w.client(http1)
	small, large := strings.Repeat("s", 1000), strings.Repeat("L", 70<<10)
	steps := []struct {
		method, path, body, header string
		status                     int
		want                       []string
	}{
		{"GET", "/public/repo.git/info/refs", "", "", 200, []string{`GET /public/repo.git/info/refs "" 0`}},
		{"GET", "/me/private.git/info/refs", "", "", 200, []string{`GET /me/private.git/info/refs "" 0`, `GET /me/private.git/info/refs "ours" 0`}},
		{"POST", "/me/private.git/git-upload-pack", small, "", 200, []string{`POST /me/private.git/git-upload-pack "ours" 1000`}},
		{"POST", "/me/private/git-receive-pack", large, "", 200, []string{`POST /me/private/git-receive-pack "ours" 71680`}},
		{"POST", "/me/second.git/info/lfs/objects/batch", small, "", 200, []string{
			`POST /me/second.git/info/lfs/objects/batch "" 1000`, `POST /me/second.git/info/lfs/objects/batch "ours" 1000`,
		}},
		// Too large to be sent again: the 401 is passed on, and the next one is right.
		{"POST", "/me/third.git/git-receive-pack", large, "", 401, []string{`POST /me/third.git/git-receive-pack "" 71680`}},
		{"POST", "/me/third.git/git-receive-pack", large, "", 200, []string{`POST /me/third.git/git-receive-pack "ours" 71680`}},
		// The placeholder inside Basic, where git puts it.
		{"GET", "/me/fourth.git/info/refs", "", "Authorization: Basic " + b64("x-access-token:"+authsome.Placeholder), 200, []string{`GET /me/fourth.git/info/refs "ours" 0`}},
	}
	for _, step := range steps {
		requests = nil
		var body io.Reader
		if step.body != "" {
			body = strings.NewReader(step.body)
		}
		var headers []string
		if step.header != "" {
			headers = append(headers, step.header)
		}
		res := w.do(c, step.method, "https://github.com"+step.path, body, headers...)
		got := text(t, res)
		if res.StatusCode != step.status || !slices.Equal(requests, step.want) {
			t.Errorf("%s %s: %d, the service saw %q", step.method, step.path, res.StatusCode, requests)
		}
		if res.StatusCode == 200 && got != step.body {
			t.Errorf("%s: the body came back with %d bytes", step.path, len(got))
		}
		if res.StatusCode == 401 && res.Header.Get("WWW-Authenticate") == "" {
			t.Error("the challenge was lost: git would give up")
		}
	}
	ends := w.broker.ends(len(steps))
	if len(ends) != len(steps) {
		t.Errorf("%d requests, %d finished", len(steps), len(ends))
	}
	if e := ends[5]; e.out.Status != 401 || e.out.Err == "" || e.res.Verdict != authsome.Inject {
		t.Errorf("a credential that was not sent is audited as %+v", e.out)
	}
	if ends[1].req.Repository != "/me/private" || ends[4].req.Repository != "/me/second" {
		t.Errorf("repositories %q, %q", ends[1].req.Repository, ends[4].req.Repository)
	}
}

// TestRealGit clones and pushes a private repository with git itself.
func TestRealGit(t *testing.T) {
	t.Parallel()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	backend, err := exec.Command(git, "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := append(slices.DeleteFunc(os.Environ(), func(s string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(s), "=")
		return strings.HasPrefix(name, "GIT_") || strings.HasSuffix(name, "_PROXY")
	}), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	run := func(where string, args ...string) string {
		t.Helper()
		cmd := exec.Command(git, args...)
		cmd.Dir, cmd.Env = where, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	repos := filepath.Join(dir, "repos")
	run(dir, "init", "-q", "--bare", filepath.Join(repos, "me", "private.git"))
	run(dir, "-C", filepath.Join(repos, "me", "private.git"), "config", "http.receivepack", "true")

	w := newWorld(t)
	handler := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(backend)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + repos, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=me", "HOME=" + dir},
	}
	want := "Basic " + b64("x-access-token:"+githubToken)
	w.serve("github.com", func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			rw.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
			rw.WriteHeader(401)
			return
		}
		handler.ServeHTTP(rw, r)
	})
	pem := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(pem, w.ours.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	env = append(env, "HTTPS_PROXY=http://authsome:"+token+"@"+w.addr, "https_proxy=http://authsome:"+token+"@"+w.addr, "GIT_SSL_CAINFO="+pem)
	run(dir, "clone", "-q", "https://github.com/me/private.git", "work")
	work := filepath.Join(dir, "work")
	big := make([]byte, 3<<20) // over http.postBuffer, so that it is sent in chunks
	for i := range big {
		big[i] = byte(i * 2654435761 >> 13)
	}
	if err := os.WriteFile(filepath.Join(work, "file"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	run(work, "add", "file")
	run(work, "commit", "-q", "-m", "first")
	run(work, "push", "-q", "origin", "HEAD:main")
	if got := run(dir, "ls-remote", "https://github.com/me/private.git"); !strings.Contains(got, "refs/heads/main") {
		t.Errorf("ls-remote: %s", got)
	}
	run(dir, "clone", "-q", "-b", "main", "https://github.com/me/private.git", "again")
	if got, err := os.ReadFile(filepath.Join(dir, "again", "file")); err != nil || !bytes.Equal(got, big) {
		t.Errorf("another file came back: %v", err)
	}
}

// TestTrailersBothWays, over every pair of protocols, announced and not.
func TestTrailersBothWays(t *testing.T) {
	t.Parallel()
	for _, child := range []string{http1, http2} {
		for _, upstream := range []string{http1, http2} {
			w := newWorld(t)
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Trailer", "Grpc-Status")
				body, _ := io.ReadAll(r.Body)
				_, _ = rw.Write(body)
				rw.Header().Set("Grpc-Status", r.Trailer.Get("X-Checksum"))
				rw.Header().Set(http.TrailerPrefix+"X-Late", "yes")
				rw.Header().Set(http.TrailerPrefix+"Authorization", "never")
			}, only(upstream))
			req, err := http.NewRequest(http.MethodPost, "https://api.openai.com/", io.NopCloser(strings.NewReader("body")))
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = http.Header{"X-Checksum": {"17"}}
			res, err := w.client(child).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body := text(t, res)
			_ = res.Body.Close()
			if body != "body" || res.Trailer.Get("Grpc-Status") != "17" || res.Trailer.Get("X-Late") != "yes" || res.Trailer.Get("Authorization") != "" {
				t.Errorf("%s to %s: body %q, trailers %v", child, upstream, body, res.Trailer)
			}
		}
	}
}

// TestGRPC: its content type makes the upstream speak HTTP/2, TE passes, and
// messages go both ways while the request is open.
func TestGRPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("X-Proto", r.Proto)
		rw.Header().Set("X-Te", r.Header.Get("Te"))
		rw.Header().Set("Trailer", "Grpc-Status")
		_ = http.NewResponseController(rw).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = rw.Write(bytes.ToUpper(buf[:n]))
			_ = http.NewResponseController(rw).Flush()
			if err != nil {
				break
			}
		}
		rw.Header().Set("Grpc-Status", "0")
	})
	pr, pw := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "https://api.openai.com/svc/Method", pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	req.Header.Set("Te", "trailers")
	res, err := w.client(http2).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.Header.Get("X-Proto") != "HTTP/2.0" || res.Header.Get("X-Te") != "trailers" {
		t.Errorf("the service saw %s, TE %q", res.Header.Get("X-Proto"), res.Header.Get("X-Te"))
	}
	for _, message := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(pw, message); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != strings.ToUpper(message) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	_ = pw.Close()
	_, _ = io.ReadAll(res.Body)
	if res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("trailers %v", res.Trailer)
	}
}

// TestInformationalAnswers: 103 is passed on with its headers, 100 comes only
// when the service wants the body, and not when it does not.
func TestInformationalAnswers(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{http1, http2} {
		w := newWorld(t)
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Link", "</style.css>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			rw.Header().Del("Link")
			if r.URL.Path == "/refuse" {
				rw.WriteHeader(http.StatusExpectationFailed)
				return
			}
			_, _ = io.Copy(rw, r.Body)
		}, only(http1))
		var hints, continued []string
		trace := &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints {
					hints = append(hints, h.Get("Link"))
				}
				return nil
			},
			Got100Continue: func() { continued = append(continued, "yes") },
		}
		for path, status := range map[string]int{"/accept": 200, "/refuse": 417} {
			hints, continued = nil, nil
			c := w.client(proto)
			c.Transport.(*http.Transport).ExpectContinueTimeout = 1 << 40
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodPut, "https://api.openai.com"+path, strings.NewReader("upload"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Expect", "100-continue")
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body := text(t, res)
			_ = res.Body.Close()
			// Over HTTP/2 a hint that comes before the body is dropped, see interim.
			if res.StatusCode != status || proto == http1 && len(hints) != 1 || len(hints) > 0 && hints[0] == "" || res.Header.Get("Link") != "" {
				t.Errorf("%s %s: %d, hints %q, header %v", proto, path, res.StatusCode, hints, res.Header)
			}
			// net/http hides from a handler that an HTTP/2 client expects a 100, so
			// there it is always told to go on.
			if accepted := path == "/accept"; proto == http1 && accepted != (len(continued) == 1) || accepted && body != "upload" {
				t.Errorf("%s %s: continued %q, body %q", proto, path, continued, body)
			}
		}
	}
}

// TestEndlessInformationalAnswers: a service that never comes to the point is
// given up on.
func TestEndlessInformationalAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		_, _ = http.ReadRequest(br)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"); err != nil {
				return
			}
		}
	})
	problem(t, w.get(w.client(http1), "https://api.openai.com/"), 502, "upstream_unreachable")
}

// TestAnswersWithoutABody keep their headers.
func TestAnswersWithoutABody(t *testing.T) {
	t.Parallel()
	for _, child := range []string{http1, http2} {
		for _, upstream := range []string{http1, http2} {
			w := newWorld(t)
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Etag", `"x"`)
				switch r.URL.Path {
				case "/204":
					rw.WriteHeader(http.StatusNoContent)
				case "/304":
					rw.WriteHeader(http.StatusNotModified)
				case "/head":
					rw.Header().Set("Content-Length", "12345")
				case "/empty":
					rw.Header().Set("Content-Length", "0")
				}
			}, only(upstream))
			c := w.client(child)
			for _, tt := range []struct {
				method, path string
				status       int
				length       int64
			}{{"GET", "/204", 204, 0}, {"GET", "/304", 304, 0}, {"HEAD", "/head", 200, 12345}, {"GET", "/empty", 200, 0}, {"DELETE", "/204", 204, 0}} {
				res := w.do(c, tt.method, "https://api.openai.com"+tt.path, nil)
				if res.StatusCode != tt.status || res.ContentLength != tt.length || res.Header.Get("Etag") != `"x"` || text(t, res) != "" {
					t.Errorf("%s to %s: %s %s: %d, length %d", child, upstream, tt.method, tt.path, res.StatusCode, res.ContentLength)
				}
			}
		}
	}
}

// TestLengthsArePreserved: a known length stays known, a stream a stream, and a
// POST without a body says so.
func TestLengthsArePreserved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(rw, "%d %v %q %d", r.ContentLength, r.TransferEncoding, r.Header["Content-Length"], n)
	}, only(http1))
	for _, tt := range []struct {
		body func() io.Reader
		want string
	}{
		{func() io.Reader { return strings.NewReader("abc") }, `3 [] ["3"] 3`},
		{func() io.Reader { return io.NopCloser(strings.NewReader("abc")) }, `-1 [chunked] [] 3`},
		{func() io.Reader { return http.NoBody }, `0 [] ["0"] 0`},
	} {
		for _, proto := range []string{http1, http2} {
			res := w.do(w.client(proto), http.MethodPost, "https://api.openai.com/", tt.body())
			if got := text(t, res); got != tt.want {
				t.Errorf("%s: the service saw %s, want %s", proto, got, tt.want)
			}
			if res.ContentLength != int64(len(tt.want)) {
				t.Errorf("%s: the answer's length is %d", proto, res.ContentLength)
			}
		}
	}
}

// serveRaw puts a hand-made TLS service at host:443.
func (w *world) serveRaw(host string, handle func(*tls.Conn, *bufio.Reader)) {
	w.t.Helper()
	leaf, err := w.upstream.Leaf(host)
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				handle(c.(*tls.Conn), bufio.NewReader(c))
			}()
		}
	}()
	w.t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	w.net.add(net.JoinHostPort(host, "443"), ln.Addr().String())
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
	if n := w.net.dialled("api.openai.com:443"); n > 2*workers {
		t.Errorf("%d upstream connections for %d requests, %d at once", n, workers*each, workers)
	}
	if asked, finished := w.broker.counts(); asked != workers*each || len(w.broker.ends(asked)) != asked {
		t.Errorf("%d resolved, %d finished", asked, finished)
	}
}
