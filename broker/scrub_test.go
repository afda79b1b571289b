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

// TestGuardOfWhatTemplatesAreFilledWith: a service that is sent "ID:KEY" repeats KEY
// alone. What is public may come back.
func TestGuardOfWhatTemplatesAreFilledWith(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const definition = `{"name":"pairs","auth_type":"api_key","api_key":{"fields":[{"name":"id","public":true},{"name":"key"},{"name":"other"}]},"routes":[
		{"host":"api.pairs.example","inject":[{"header":"Authorization","value":"{id}:{key}"},{"query":"k","value":"v1={other}"}]},
		{"host":"chat.pairs.example","inject":[{"message":"{id}/{key}"}]},
		{"host":"basic.pairs.example","inject":[{"basic":"{other}:{key}"}]}]}`
	if _, err := w.Register(ctx, me, "pairs.json", []byte(definition), false, false); err != nil {
		t.Fatal(err)
	}
	l := w.begin(authsome.LoginRequest{Provider: "pairs"})
	if _, err := w.SubmitFields(ctx, me, l.ID, fields("id", "public0123", "key", "canary-key0123", "other", "canary-other0123")); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string][]string{"api": {"canary-key0123", "canary-other0123"}, "chat": {"canary-key0123"}, "basic": nil} {
		req := request(host+".pairs.example", "/")
		req.Upgrade = "websocket"
		req.Inspection = &authsome.Inspection{Found: []authsome.Found{{Place: authsome.Place{Slot: authsome.SlotQuery, Name: "k"}}}}
		res, err := w.Resolve(ctx, w.grant(broker.GrantSpec{}), req)
		if err != nil || res.Verdict != authsome.Inject {
			t.Fatalf("%s: %+v, %v", host, res, err)
		}
		if !slices.EqualFunc(res.Guard, want, func(s authsome.Secret, text string) bool { return s.Reveal() == text }) {
			t.Errorf("%s: %d secrets are looked for, not %d, or others", host, len(res.Guard), len(want))
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
