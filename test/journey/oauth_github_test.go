package journey

import (
	"strings"
	"testing"

	"github.com/authsome/authsome/test/internet"
)

// TestGitHubLogin is the first page of the documentation: a person on a desktop
// logs in to GitHub, by way of an app that was never entered before, and works
// with curl, gh and git; then as somebody else, and by mistake as the same once
// more.
func TestGitHubLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := newDesktop(t, w)
	b := chromium(t, w)
	o := w.Internet.OAuth("github.com")
	app := o.App()
	var printed strings.Builder

	// The form for the app leads on to GitHub and back, in one tab.
	s := onTerminal(t, w.Command("login", "github").Env(d.env...).Cmd())
	form := d.next()
	shown, err := b.Open(within(t), form)
	if err != nil || !strings.Contains(shown.Text, "Create an OAuth app at github.com") {
		t.Errorf("%v; the form reads %q", err, shown.Text)
	}
	page, err := b.Form(within(t), form, map[string]string{"client_id": app.ID, "client_secret": app.Secret})
	if err != nil || !strings.HasPrefix(page.Text, "authsome GitHub is connected as octocat You can close this tab.") {
		t.Errorf("%v; the page is %s: %q", err, page.URL, page.Text)
	}
	s.ends(0, "Logged in to github (default) as octocat.")
	printed.WriteString(s.text() + page.Text)
	if at := s.line("Visit: https:"); !strings.HasPrefix(at, "//github.com/login/oauth/authorize?") {
		t.Errorf("the address that is shown is %s", at)
	}

	// Another person, and then by mistake the first one under a third name. Nobody
	// is asked for the app again.
	b.Login = "hubot"
	for _, tt := range []struct{ name, login, says string }{
		{"work", "hubot", "Logged in to github (work) as hubot."},
		{"spare", "octocat", "this is the same account as default (octocat)"},
	} {
		b.Login = tt.login
		s := onTerminal(t, w.Command("login", "github", "--connection", tt.name).Env(d.env...).Cmd())
		page, err := b.Consent(within(t), d.next())
		if err != nil || !strings.Contains(page.Text, "GitHub ("+tt.name+") is connected as "+tt.login) {
			t.Errorf("%v; the page is %s: %q", err, page.URL, page.Text)
		}
		s.ends(0, tt.says)
		printed.WriteString(s.text() + page.Text)
	}
	holds(t, w, "github/default connected", "github/work connected", "github/spare connected")
	list := must(t, w.Command("list"))
	for _, row := range [][]string{{"default (default)", "octocat"}, {"work", "hubot"}, {"spare", "octocat"}} {
		found := false
		for l := range strings.Lines(list) {
			found = found || strings.Contains(l, "[github]") && strings.Contains(l, row[0]) && strings.Contains(l, row[1])
		}
		if !found {
			t.Errorf("list has no row with %q:\n%s", row, list)
		}
	}

	// What GitHub saw of it.
	tokens := o.Tokens()
	if len(tokens) != 3 || tokens[0].Login != "octocat" || tokens[1].Login != "hubot" || tokens[0].Scope != "repo read:user" {
		t.Fatalf("GitHub has given out %+v", tokens)
	}
	asked := map[string]int{}
	for _, x := range o.Exchanges() {
		asked[x.Endpoint]++
		switch {
		case x.Error != "" || x.Status >= 400:
			t.Errorf("GitHub has refused %s %s: %d %s", x.Method, x.Path, x.Status, x.Error)
		case x.Endpoint == "authorize" && x.Method == "GET":
			if x.Params["code_challenge_method"] != "S256" || len(x.Params["code_challenge"]) != 43 || len(x.Params["state"]) < 43 || x.Params["redirect_uri"] != w.Redirect() {
				t.Errorf("the authorization request has %v", x.Params)
			}
		case x.Endpoint == "token":
			if x.Client != app.ID || x.Accept != "application/json" || x.Params["code_verifier"] == "" || x.Params["redirect_uri"] != w.Redirect() {
				t.Errorf("the token request is %+v", x)
			}
		}
	}
	if asked["token"] != 3 || asked["userinfo"] != 3 {
		t.Errorf("GitHub was asked %v", asked)
	}

	// The work: one account by default, the other where it is asked for.
	code, body := status(t, w, nil, "https://api.github.com/user")
	contains(t, code+body, "200", `"login":"octocat"`)
	bearer(t, w, "api.github.com", "/user", tokens[0].Value)
	code, body = status(t, w, []string{"--connection", "github=work"}, "https://api.github.com/user")
	contains(t, code+body, "200", `"login":"hubot"`)
	bearer(t, w, "api.github.com", "/user", tokens[1].Value)
	contains(t, must(t, w.Command("run", "--", tool(t, "gh"), "api", "user")), "octocat")
	must(t, w.Command("run", "--", tool(t, "git"), "clone", "-q", "https://github.com/"+internet.PrivateRepository, "cloned"))
	pulled := 0
	for _, r := range w.Internet.Requests("github.com") {
		if strings.HasPrefix(r.Path, "/"+internet.PrivateRepository) && r.Status == 200 {
			if pulled++; r.Header.Get("Authorization") != internet.BasicToken(tokens[0].Value) {
				t.Errorf("%s %s came with another credential", r.Method, r.Path)
			}
		}
	}
	if pulled == 0 {
		t.Error("git has asked for nothing")
	}
	sweep(t, w, printed.String(), o.Secrets()...)
}
