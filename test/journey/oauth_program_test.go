package journey

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/oauthserver"
)

// TestProgramsAccounts logs in with what belongs to programs: a client's own
// secret, a service account's key file, a GitHub App's key. When the token ends
// the next request gets another, and the key itself goes nowhere.
func TestProgramsAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const secret = "canaryRobotClientSecret0123456789"
	j := newJudge(t, w, "robots", oauthserver.Config{
		ClientCredentials: true, AccessSeconds: 2,
		Clients: []oauthserver.Client{oauthserver.NewClient("robot", secret, "").Grants(oauthserver.GrantClient).With("response_types", []string{}).With("redirect_uris", []string{})},
	})
	define(t, w, "robots", fmt.Sprintf(`{
		"schema_version": 1, "name": "robots", "auth_type": "oauth2", "flow": "client_credentials", "api_url": "https://api.robots.example",
		"oauth": {"token_url": %q, "scopes": ["read"]}
	}`, j.Endpoint("/token")))
	must(t, w.Command("login", "robots", "--flow", "client_credentials", "--stdin").Input("robot\n"+secret+"\n"))

	// The key file is pasted into the form; the GitHub App's key comes by
	// standard input.
	google, github := w.Internet.OAuth("accounts.google.com"), w.Internet.OAuth("github.com")
	w.Internet.Handle("storage.googleapis.com", w.Internet.Handler("www.googleapis.com"))
	google.Lifetime(2 * time.Second)
	file, err := w.Internet.ServiceAccount()
	if err != nil {
		t.Fatal(err)
	}
	app, err := w.Internet.GitHubApp()
	if err != nil {
		t.Fatal(err)
	}
	w.Internet.InstallationLifetime(2 * time.Second)
	d := newDesktop(t, w)
	s := onTerminal(t, w.Command("login", "google-cloud").Env(d.env...).Cmd())
	page, err := chromium(t, w).Form(within(t), d.next(), map[string]string{"service_account": string(file)})
	if err != nil || !strings.Contains(page.Text, "Google Cloud is connected") {
		t.Errorf("%v; the page is %s: %q", err, page.URL, page.Text)
	}
	s.ends(0, "Logged in to google-cloud (default)")
	must(t, w.Command("login", "github-app", "--flow", "github_app", "--stdin").Input(app.AppID+"\n"+app.InstallationID+"\n"+app.PrivateKey))
	holds(t, w, "robots", "robots/default connected", "google-cloud/default connected", "github-app/default connected")

	for _, tt := range []struct {
		name, host, path, says string
		tokens                 func() []string
	}{
		{"robots", "api.robots.example", "/v1/jobs", `"client_id":"robot"`, func() []string {
			var out []string
			for _, tok := range j.tokens() {
				out = append(out, tok.Value)
			}
			return out
		}},
		{"google-cloud", "storage.googleapis.com", "/storage/v1/b", "{}", func() []string {
			var out []string
			for _, tok := range google.Tokens() {
				out = append(out, tok.Value)
			}
			return out
		}},
		{"github-app", "api.github.com", "/installation/repositories", "acme/secret", func() []string {
			var out []string
			for _, tok := range github.Tokens() {
				out = append(out, tok.Value)
			}
			return out
		}},
	} {
		for range 2 {
			had := len(tt.tokens())
			waitUntil(expires(t, w, tt.name, "default"))
			code, body := status(t, w, nil, "https://"+tt.host+tt.path)
			contains(t, code+body, "200", tt.says)
			now := tt.tokens()
			if len(now) != had+1 {
				t.Errorf("%s: %d new tokens", tt.name, len(now)-had)
			}
			bearer(t, w, tt.host, tt.path, now[len(now)-1])
		}
	}
	j.approves()
	for _, o := range []string{"accounts.google.com", "github.com"} {
		for _, x := range w.Internet.OAuth(o).Exchanges() {
			if x.Error != "" {
				t.Errorf("%s has refused %s: %s", o, x.Path, x.Error)
			}
		}
	}

	// A key that the service does not know is refused on the spot.
	r := w.Command("login", "robots", "--flow", "client_credentials", "--connection", "wrong", "--stdin").Input("robot\ncanaryWrongRobotSecret0123456789\n").Run()
	if r.Code != 2 || !strings.Contains(r.Stderr, "Hint: ") {
		t.Errorf("a wrong secret: exit code %d\n%s", r.Code, r.Stderr)
	}
	secrets := append(j.secrets(), secret, "canaryWrongRobotSecret0123456789")
	secrets = append(secrets, google.Secrets()...)
	secrets = append(secrets, github.Secrets()...)
	for _, pem := range [][]byte{file, []byte(app.PrivateKey)} {
		// Any line of the key is the key.
		for _, l := range bytes.Split(bytes.ReplaceAll(pem, []byte(`\n`), []byte("\n")), []byte("\n")) {
			if len(l) == 64 {
				secrets = append(secrets, string(l))
			}
		}
	}
	sweep(t, w, s.text()+page.Text, secrets...)
}
