package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

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
