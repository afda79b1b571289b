package broker_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

// TestGuardAtLoginEndpoints: what a program sends to a provider's login endpoint
// is its own, and what comes back must not be ours.
func TestGuardAtLoginEndpoints(t *testing.T) {
	w := newWorld(t)
	const key = "ghp_canary0123456789abcdefghijklmnopqrst"
	w.login("github", "", key, false)
	w.login("github", "work", key+"2", false)
	req := request("github.com", "/login/oauth/access_token")
	req.Method = http.MethodPost
	res, err := w.Resolve(context.Background(), w.grant(broker.GrantSpec{}), req)
	if err != nil || res.Verdict != authsome.Forward || len(res.Set) > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	for _, want := range []string{key, key + "2"} {
		if !slices.ContainsFunc(res.Guard, func(s authsome.Secret) bool { return s.Reveal() == want }) {
			t.Error("the answer may hold a secret of a connection")
		}
	}
}

// TestScrubbingIsRecorded, with the number and never the value.
func TestScrubbingIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.login("openai", "", openaiKey, false)
	g := w.grant(broker.GrantSpec{Unscrubbed: true})
	if !g.Unscrubbed {
		t.Error("the run's wish is lost")
	}
	req := request("api.openai.com", "/v1/responses")
	res, err := w.Resolve(context.Background(), g, req)
	if err != nil {
		t.Fatal(err)
	}
	w.Finish(g, req, res, authsome.Outcome{Status: 200, Scrubbed: 3, Unseen: true})
	var scrubbed, seen bool
	for _, ev := range w.events() {
		switch {
		case ev.Type == authsome.EventScrubbed:
			scrubbed = ev.Provider == "openai" && ev.Connection == "default" && ev.Run == g.ID && strings.HasSuffix(ev.Detail, ": 3")
		case ev.Type == authsome.EventInjected && ev.Status == "ok":
			seen = strings.Contains(ev.Detail, "could not be seen")
		}
		w.noCanary(ev.Detail)
	}
	if !scrubbed || !seen {
		t.Errorf("recorded %+v", w.events())
	}
}
