package journey

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome/test/internet"
)

// badSite is an MCP server whose authorization server gives one bad answer.
type badSite struct {
	internet.BadTokenAnswer
	mcp   internet.MCP
	oauth *internet.OAuth
	asked *atomic.Int32 // how often the bad answer was given
}

func (b badSite) name() string { return b.mcp.Host }

// badSites makes one for each bad answer, which is not given yet.
func badSites(n *internet.Internet, kind string) []badSite {
	var out []badSite
	for i, bad := range internet.BadTokenAnswers() {
		m, o := n.AddMCP(internet.MCP{Host: fmt.Sprintf("mcp.%s%d.example", kind, i), Path: "/mcp"})
		out = append(out, badSite{bad, m, o, &atomic.Int32{}})
	}
	return out
}

// goesBad has the token endpoint give its bad answer from now on.
func (b badSite) goesBad(n *internet.Internet) {
	n.Replace(b.mcp.Server, "/token", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		_ = r.ParseForm() // so that what came is in the record of requests
		b.Serve(w, r)
	}))
}

// badSecrets are what the bad answers have in them, and all that the servers gave
// out or were told, codes and verifiers included.
func badSecrets(n *internet.Internet, sites []badSite) []string {
	out := []string{"canaryBadAnswerToken", "canaryBadAnswerRefresh"}
	for _, s := range sites {
		out = append(out, s.oauth.Secrets()...)
		for _, r := range n.Requests(s.mcp.Server) {
			if r.Path == "/token" {
				out = append(out, formSecrets(string(r.Body))...)
			}
		}
	}
	return out
}

// TestBadTokenAnswersAtLogin: the code was exchanged, and nonsense came back.
func TestBadTokenAnswersAtLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sites := badSites(w.Internet, "login")
	w.Internet.Handle(internet.Attacker, http.NotFoundHandler())
	started := make([]*attempt, len(sites))
	for i, s := range sites {
		s.goesBad(w.Internet)
		started[i] = attempts(t, w, s.mcp.URL())
	}
	var printed string
	var connected []string
	for i, s := range sites {
		a := started[i]
		page := consents(t, w, a.visit())
		if s.Tokens {
			a.succeeds()
			if page.Status != http.StatusOK {
				t.Errorf("%s: the page is %d: %s", s.Name, page.Status, page.Text)
			}
			connected = append(connected, s.name(), s.name()+"/default connected")
		} else {
			v := a.refused()
			if page.Status < 400 || !strings.Contains(page.Text, "authsome login "+s.mcp.URL()) {
				t.Errorf("%s: the page is %d: %s", s.Name, page.Status, page.Text)
			}
			if !strings.Contains(v.Hint, "authsome login "+s.mcp.URL()) {
				t.Errorf("%s: %q; the hint is %q", s.Name, v.Message, v.Hint)
			}
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("%s: the code was sent %d times", s.Name, n)
		}
		printed += a.printed() + page.Text
	}
	holds(t, w, connected...)
	for _, s := range sites {
		if !s.Tokens {
			continue
		}
		var conn struct {
			ExpiresAt *time.Time `json:"expires_at"`
		}
		text := must(t, w.Command("get", s.name(), "--json"))
		if err := json.Unmarshal([]byte(text), &conn); err != nil {
			t.Fatal(err)
		}
		if e := conn.ExpiresAt; e != nil && (e.Before(time.Now()) || e.After(time.Now().AddDate(1, 0, 1))) {
			t.Errorf("%s: it is believed to end at %s", s.Name, e)
		}
	}
	if n := len(w.Internet.Requests(internet.Attacker)); n != 0 {
		t.Errorf("%d requests followed a redirect to the attacker", n)
	}
	keepsQuiet(t, w, printed, badSecrets(w.Internet, sites)...)
}

// askAll is a child that asks each MCP server once, and prints one line for each:
// the status and the body.
const askAll = `for at; do curl -sS -m 60 -w ' %{http_code}\n' -H 'Content-Type: application/json' -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' "$at" | tr '\n' ' '; echo; done`

// TestBadTokenAnswersAtRefresh: a connection that has worked gets nonsense when
// its token is to be renewed. The child is told what to do; once the server is
// well again, the same connection works, and nobody had to log in.
func TestBadTokenAnswersAtRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sites := badSites(w.Internet, "refresh")
	w.Internet.Handle(internet.Attacker, http.NotFoundHandler())
	started := make([]*attempt, len(sites))
	for i, s := range sites {
		s.oauth.Lifetime(time.Second)
		started[i] = attempts(t, w, s.mcp.URL())
	}
	var printed string
	var all []string
	child := []string{"run", "--", "sh", "-c", askAll, "sh"}
	for i, s := range sites {
		consents(t, w, started[i].visit())
		started[i].succeeds()
		printed += started[i].printed()
		s.goesBad(w.Internet)
		all = append(all, s.name(), s.name()+"/default connected")
		child = append(child, s.mcp.URL())
	}
	for _, s := range sites {
		tokens := s.oauth.Tokens()
		until(t, patience, "the token ends", func() bool { return !s.oauth.Alive(tokens[0].Value) })
	}
	answers := strings.Split(strings.TrimSpace(must(t, w.Command(child...))), "\n")
	if len(answers) != len(sites) {
		t.Fatalf("%d answers for %d requests:\n%s", len(answers), len(sites), answers)
	}
	for i, s := range sites {
		if s.asked.Load() == 0 {
			t.Errorf("%s: nobody has asked for a new token", s.Name)
		}
		if s.Tokens {
			continue // a token, if one that this server refuses
		}
		var body struct {
			Error    string `json:"error"`
			Message  string `json:"message"`
			Provider string `json:"provider"`
			Fix      string `json:"fix"`
		}
		text, ok := strings.CutSuffix(strings.TrimSpace(answers[i]), " 401")
		if err := json.Unmarshal([]byte(text), &body); !ok || err != nil {
			t.Errorf("%s: the child gets %q (%v)", s.Name, answers[i], err)
			continue
		}
		if body.Error != "reauthentication_required" || body.Provider != s.name() || !strings.Contains(body.Fix, "authsome login "+s.name()) || body.Message == "" {
			t.Errorf("%s: the child gets %+v", s.Name, body)
		}
		var conn struct {
			Status  string    `json:"status"`
			Tried   time.Time `json:"last_refresh_at"`
			Problem string    `json:"last_refresh_error"`
		}
		if err := json.Unmarshal([]byte(must(t, w.Command("get", s.name(), "--json"))), &conn); err != nil {
			t.Fatal(err)
		}
		if conn.Problem == "" || conn.Tried.IsZero() || conn.Status != "expired" {
			t.Errorf("%s: the connection is %+v", s.Name, conn)
		}
	}

	// The servers are well again. Nothing of the nonsense was stored.
	for _, s := range sites {
		w.Internet.Replace(s.mcp.Server, "/token", nil)
		s.oauth.Lifetime(time.Hour)
	}
	answers = strings.Split(strings.TrimSpace(must(t, w.Command(child...))), "\n")
	for i, s := range sites {
		if !s.Tokens && !strings.Contains(answers[i], "whoami") {
			t.Errorf("%s: once the server is well, the child gets %q", s.Name, answers[i])
		}
	}
	holds(t, w, all...)
	if n := len(w.Internet.Requests(internet.Attacker)); n != 0 {
		t.Errorf("%d requests followed a redirect to the attacker", n)
	}
	keepsQuiet(t, w, printed, badSecrets(w.Internet, sites)...)
}
