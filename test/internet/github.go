package internet

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// logins are the accounts behind Credentials.GitHub.
var logins = []string{"octocat", "hubot"}

// account finds whose token it is.
func (n *Internet) account(token string) (string, bool) {
	i := slices.Index(n.cred.GitHub, token)
	if token == "" || i < 0 || i >= len(logins) {
		return "", false
	}
	return logins[i], true
}

// githubAPI answers for api.github.com: 401 to everybody but a token's owner.
func (n *Internet) githubAPI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		login, ok := n.account(token)
		if !ok || !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token") {
			writeJSON(w, 401, map[string]any{"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest", "status": "401"})
			return
		}
		w.Header().Set("X-Oauth-Scopes", "repo, read:org")
		switch {
		case r.URL.Path == "/user":
			writeJSON(w, 200, map[string]any{"login": login, "id": 583231, "type": "User", "name": login})
		case r.URL.Path == "/graphql":
			writeJSON(w, 200, map[string]any{"data": map[string]any{"viewer": map[string]any{"login": login}}})
		case r.URL.Path == "/":
			writeJSON(w, 200, map[string]any{"current_user_url": "https://api.github.com/user"})
		default:
			writeJSON(w, 404, map[string]any{"message": "Not Found", "status": "404"})
		}
	})
}

// repositories are the git repositories of github.com: one private, one
// public.
type repositories struct {
	dir  string
	http string // path of git-http-backend
}

const (
	// PrivateRepository answers 401 to everybody but a token's owner.
	PrivateRepository = "acme/secret"
	// PublicRepository is for everybody to read.
	PublicRepository = "acme/public"
)

// makeRepositories makes both with one commit each. Without git there are
// none, and github.com answers 404.
func makeRepositories(dir string) (*repositories, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return &repositories{}, nil
	}
	out, err := exec.Command(git, "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("find git's programs: %w", err)
	}
	r := &repositories{dir: filepath.Join(dir, "repositories"), http: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")}
	for _, name := range []string{PrivateRepository, PublicRepository} {
		bare := filepath.Join(r.dir, name+".git")
		work := filepath.Join(dir, "work", name)
		env := append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		if err := os.MkdirAll(work, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(work, "README"), []byte(name+"\n"), 0o600); err != nil {
			return nil, err
		}
		for _, args := range [][]string{
			{"init", "-q", "-b", "main", work},
			{"-C", work, "add", "."},
			{"-C", work, "commit", "-q", "-m", "first"},
			{"clone", "-q", "--bare", work, bare},
			{"-C", bare, "config", "http.receivepack", "true"},
		} {
			cmd := exec.Command(git, args...)
			cmd.Env = env
			if out, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("git %s: %w: %s", args[0], err, out)
			}
		}
	}
	return r, nil
}

// githubGit answers for github.com as git over HTTPS finds it: the real
// git-http-backend behind GitHub's rules.
func (n *Internet) githubGit() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.repos.dir == "" {
			http.NotFound(w, r)
			return
		}
		owner, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		repo, tail, _ := strings.Cut(rest, "/")
		name := owner + "/" + strings.TrimSuffix(repo, ".git")
		if name != PrivateRepository && name != PublicRepository {
			http.NotFound(w, r)
			return
		}
		write := strings.Contains(r.URL.RawQuery, "git-receive-pack") || tail == "git-receive-pack"
		user, pass, _ := r.BasicAuth()
		login, ok := n.account(pass)
		if !ok || user != "x-access-token" {
			// A wrong credential is refused even for what is public.
			if name == PrivateRepository || write || r.Header.Get("Authorization") != "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
				http.Error(w, "Authentication required", http.StatusUnauthorized)
				return
			}
		}
		h := &cgi.Handler{
			Path: n.repos.http, Dir: n.repos.dir,
			Env: []string{
				"GIT_PROJECT_ROOT=" + n.repos.dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + login,
				"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
			},
			InheritEnv: []string{"PATH"},
		}
		if p := r.Header.Get("Git-Protocol"); p != "" {
			h.Env = append(h.Env, "GIT_PROTOCOL="+p)
		}
		r2 := r.Clone(r.Context())
		r2.URL.Path = "/" + name + ".git/" + tail
		r2.Header.Del("Authorization")
		if len(r2.TransferEncoding) > 0 || r2.ContentLength < 0 {
			// CGI hands the body's length on, so a chunked one is gathered.
			body, err := io.ReadAll(io.LimitReader(r.Body, 256<<20))
			if err != nil {
				return
			}
			r2.TransferEncoding, r2.ContentLength, r2.Body = nil, int64(len(body)), io.NopCloser(bytes.NewReader(body))
		}
		h.ServeHTTP(w, r2)
	})
}

// BasicToken is the Authorization header that git over HTTPS needs.
func BasicToken(token string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+token))
}
