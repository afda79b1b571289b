package journey

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/oauthserver"
)

const (
	// crowd is how many requests a child makes at once.
	crowd = 200
	// rounds is how often its token comes to an end.
	rounds = 5
	// short is the life of the tokens, in seconds. They are replaced a quarter of
	// it before their end.
	short = 8
)

// asker is one child that makes requests by the crowd when it is told to.
type asker struct {
	t    *testing.T
	tell io.Writer
	said <-chan string
}

// asks starts one. It runs to the end of the test, so that its grant and its
// connections to the proxy live as long as an agent's.
func asks(t *testing.T, w *harness.World) *asker {
	t.Helper()
	cmd := w.Command("run", "--", "sh", "-c", `while read -r at; do
  "$0" -sS -m 60 -Z --parallel-immediate --parallel-max 300 -o /dev/null -w '%{http_code}\n' "$at?[1-`+fmt.Sprint(crowd)+`]"; echo "over $?"
done`, tool(t, "curl")).Cmd()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	return &asker{t, out, lines(t, cmd)}
}

// ask makes the requests and counts the answers.
func (a *asker) ask(address string) map[string]int {
	a.t.Helper()
	if _, err := fmt.Fprintln(a.tell, address); err != nil {
		a.t.Fatal(err)
	}
	got := map[string]int{}
	for limit := time.After(2 * patience); ; {
		select {
		case l, ok := <-a.said:
			switch {
			case !ok:
				a.t.Fatalf("the child has ended after %v", got)
			case l == "over 0":
				return got
			}
			got[l]++
		case <-limit:
			a.t.Fatalf("the requests do not end: %v", got)
		}
	}
}

// newJudged is a connected judge whose refresh tokens end the login when one comes
// twice.
func newJudged(t *testing.T, w *harness.World, name string, seconds int) *judge {
	t.Helper()
	j := newJudge(t, w, name, oauthserver.Config{
		Rotate: true, AccessSeconds: seconds,
		Clients: []oauthserver.Client{oauthserver.NewClient("app", "", "none", w.Redirect())},
	})
	define(t, w, name, fmt.Sprintf(`{
		"schema_version": 1, "name": %q, "auth_type": "oauth2", "flow": "pkce", "api_url": "https://api.%[1]s.example",
		"oauth": {"issuer": %q, "authorization_url": %q, "token_url": %q, "token_auth": "none", "scopes": ["read"]}
	}`, name, j.Issuer(), j.Endpoint("/auth"), j.Endpoint("/token")))
	must(t, w.Command("provider", "set-client", name, "--client-id", "app", "--public"))
	a := attempts(t, w, name)
	consents(t, w, a.visit())
	a.succeeds()
	return j
}

// TestRefreshInACrowd has a child make 200 requests at once, each time when its
// token is about to end: the server is asked for one new token, and every request
// is served. Then the service ends the token before its time.
func TestRefreshInACrowd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := newJudged(t, w, "long", 3600)
	loggedIn := time.Now()
	brief := newJudged(t, w, "brief", short)
	child := asks(t, w)
	all := map[string]int{"200": crowd}
	before := 0
	for round := range rounds {
		end := expires(t, w, "brief", "default")
		waitUntil(end.Add(-short * time.Second / 4))
		began := time.Now()
		if got := child.ask("https://api.brief.example/v1"); len(got) != 1 || got["200"] != crowd {
			t.Fatalf("round %d: the child gets %v, want %v", round, got, all)
		}
		// A machine that is slow enough comes to the end of the next token as well.
		most := 1 + int(time.Since(began)/(short*time.Second*3/4))
		now, _ := brief.stats().Count(oauthserver.GrantRefresh)
		if n := now - before; n < 1 || n > most {
			t.Fatalf("round %d: %d refreshes, want 1 (at most %d)", round, n, most)
		}
		before = now
	}
	brief.approves()
	st := brief.stats()
	if len(st.RevokedGrants) != 0 || st.Resource.OK != rounds*crowd {
		t.Errorf("%d grants were ended; %d requests have arrived, want %d", len(st.RevokedGrants), st.Resource.OK, rounds*crowd)
	}

	// A token that is not young any more is refused: one refresh, and no 401 gets to
	// the child. A younger one is refused for another reason, and stays.
	waitUntil(loggedIn.Add(31 * time.Second))
	if got := child.ask("https://api.long.example/v1"); got["200"] != crowd {
		t.Fatalf("the child gets %v", got)
	}
	if ok, _ := long.stats().Count(oauthserver.GrantRefresh); ok != 0 {
		t.Fatalf("%d refreshes of a token that works", ok)
	}
	if err := long.EndAccessTokens(); err != nil {
		t.Fatal(err)
	}
	if got := child.ask("https://api.long.example/v1"); len(got) != 1 || got["200"] != crowd {
		t.Errorf("after the token's early end the child gets %v", got)
	}
	st = long.stats()
	if ok, refused := st.Count(oauthserver.GrantRefresh); ok != 1 || refused != 0 || st.Reused != 0 || len(st.RevokedGrants) != 0 {
		t.Errorf("%d refreshes, %d of them refused; %d tokens came twice, %d grants were ended", ok+refused, refused, st.Reused, len(st.RevokedGrants))
	}
	// What cannot be repeated gets the service's own answer, and what is refused
	// although its token is new does.
	if err := long.EndAccessTokens(); err != nil {
		t.Fatal(err)
	}
	if got := child.ask("https://api.long.example/v1"); got["401"] != crowd {
		t.Errorf("with a young token the child gets %v", got)
	}
	if ok, _ := long.stats().Count(oauthserver.GrantRefresh); ok != 1 {
		t.Errorf("%d refreshes for a token that is refused while it is young", ok)
	}
	sweep(t, w, "", append(brief.secrets(), long.secrets()...)...)
}
