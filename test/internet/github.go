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

// account finds whose token it is: a personal one, or one that o has issued.
func (n *Internet) account(o *OAuth, token string) (login, scopes string, ok bool) {
	if i := slices.Index(n.cred.GitHub, token); token != "" && i >= 0 && i < len(logins) {
		return logins[i], "repo, read:org", true
	}
	t, ok := o.Token(token)
	if !ok || !t.Alive() || t.Kind == "refresh" {
		return "", "", false
	}
	return t.Login, strings.ReplaceAll(t.Scope, " ", ", "), true
}

// gitHubAPI answers for api.github.com: 401 to everybody but a token's owner.
// prefix is that of every path.
func (n *Internet) gitHubAPI(o *OAuth, prefix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.gitHubAPIRoutes(o, prefix, w, r) {
			return
		}
		path := strings.TrimPrefix(r.URL.Path, prefix)
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		login, scopes, ok := n.account(o, token)
		if path == "/user" {
			o.userInfo(r, map[bool]int{true: 200, false: 401}[ok])
		}
		if !ok || !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token") {
			writeJSON(w, 401, map[string]any{"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest", "status": "401"})
			return
		}
		if t, _ := o.Token(token); t.Kind == "installation" {
			// An installation has no user.
			if path != "/installation/repositories" {
				writeJSON(w, 403, map[string]any{"message": "Resource not accessible by integration", "status": "403"})
				return
			}
			writeJSON(w, 200, map[string]any{"total_count": 1, "repositories": []any{map[string]any{"full_name": "acme/secret"}}})
			return
		}
		w.Header().Set("X-Oauth-Scopes", scopes)
		switch path {
		case "/user":
			writeJSON(w, 200, gitHubUser(login))
		case "/graphql":
			writeJSON(w, 200, map[string]any{"data": map[string]any{"viewer": map[string]any{"login": login}}})
		case "/":
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

// githubGit answers for github.com: the pages of OAuth, and what git over HTTPS
// finds, which is the real git-http-backend behind GitHub's rules.
func (n *Internet) githubGit(o *OAuth) http.Handler {
	mux := http.NewServeMux()
	gitHubPages(mux, o, "github.com")
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
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
		login, _, ok := n.account(n.OAuth("github.com"), pass)
		if !ok || user != "x-access-token" {
			// A wrong credential is refused even for what is public.
			if name == PrivateRepository || write || r.Header.Get("Authorization") != "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
				http.Error(w, "Authentication required", http.StatusUnauthorized)
				return
			}
		}
		if path, ok := strings.CutPrefix(tail, "info/lfs/"); ok {
			n.repos.lfs(w, r, name, path)
			return
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
	return mux
}

// BasicToken is the Authorization header that git over HTTPS needs.
func BasicToken(token string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+token))
}
