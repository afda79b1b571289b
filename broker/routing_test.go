package broker_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

// TestGrantIsLimitedToProviders: what a limited run may not use is to it as if
// nobody had logged in there, in every mode and after a restart of the daemon.
func TestGrantIsLimitedToProviders(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("openai", "", openaiKey, false)
	w.login("github", "", githubKey, false)
	for mode, others := range map[authsome.Mode]authsome.HostVerdict{
		authsome.ConnectedAllow: authsome.Tunnel, authsome.ConfiguredAllow: authsome.Tunnel,
		authsome.ConnectedDeny: authsome.Refuse, authsome.ConfiguredDeny: authsome.Refuse,
	} {
		g, token, secret, err := w.StartGrant(ctx, me, broker.GrantSpec{Mode: mode, Providers: []string{"openai", "groq", "openai"}})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(g.Providers, []string{"groq", "openai"}) {
			t.Errorf("limited to %v", g.Providers)
		}
		look := func(when string) {
			t.Helper()
			if v := w.Host(g, "api.openai.com", 443); v != authsome.Intercept {
				t.Errorf("%s, %s: api.openai.com: %s", mode, when, v)
			}
			if v := w.Host(g, "api.github.com", 443); v != others {
				t.Errorf("%s, %s: api.github.com: %s", mode, when, v)
			}
			groq := others
			if mode.Configured() {
				groq = authsome.Intercept
			}
			if v := w.Host(g, "api.groq.com", 443); v != groq {
				t.Errorf("%s, %s: api.groq.com, which is named but not connected: %s", mode, when, v)
			}
			if v := w.Host(g, "api.anthropic.com", 443); v != others {
				t.Errorf("%s, %s: api.anthropic.com, which is neither: %s", mode, when, v)
			}
			// Should a request get as far as this, it gets nothing either.
			res, err := w.Resolve(ctx, g, request("api.github.com", "/user", "Authorization", "token "+authsome.Placeholder))
			if mode.Denies() {
				wantCode(t, err, authsome.Forbidden)
			} else if err != nil || res.Verdict != authsome.Forward || len(res.Set) > 0 {
				t.Errorf("%s, %s: a request to GitHub: %+v, %v", mode, when, res, err)
			}
			env, hosts, providers := w.Placeholders(g)
			if env["OPENAI_API_KEY"] != authsome.Placeholder || env["GH_TOKEN"] != "" || len(providers) != 1 || providers["openai"] != "default" {
				t.Errorf("%s, %s: the child would get %v of %v", mode, when, slices.Sorted(maps.Keys(env)), providers)
			}
			if !slices.Contains(hosts, "api.openai.com") || slices.ContainsFunc(hosts, func(h string) bool { return strings.Contains(h, "github") }) {
				t.Errorf("%s, %s: hosts %v", mode, when, hosts)
			}
		}
		look("at first")
		w.restart()
		if g, err = w.ResumeGrant(ctx, me, g.ID, token, secret); err != nil {
			t.Fatal(err)
		}
		look("after a restart")
		// What is connected later is routed as the list says.
		w.login("groq", "", "gsk_canary0123456789abcdefghijklmnop", false)
		if v := w.Host(g, "api.groq.com", 443); v != authsome.Intercept {
			t.Errorf("%s: a named provider, after its login: %s", mode, v)
		}
		if _, err := w.Logout(ctx, me, "groq", ""); err != nil {
			t.Fatal(err)
		}
	}
	// Others have their own limits, or none.
	if v := w.Host(w.grant(broker.GrantSpec{}), "api.github.com", 443); v != authsome.Intercept {
		t.Errorf("a run without a limit: %s", v)
	}
	if v := w.Host(w.grant(broker.GrantSpec{Providers: []string{"github"}}), "api.github.com", 443); v != authsome.Intercept {
		t.Errorf("a run with another limit: %s", v)
	}
}

func TestLimitsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("github", "work", workKey, false)
	_, _, _, err := w.StartGrant(ctx, me, broker.GrantSpec{Providers: []string{"github", "opnai"}})
	wantCode(t, err, authsome.ProviderNotFound)
	var e *authsome.Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint, "openai") {
		t.Errorf("the hint for a misspelt provider: %+v", e)
	}
	_, _, _, err = w.StartGrant(ctx, me, broker.GrantSpec{Providers: []string{""}})
	wantCode(t, err, authsome.ProviderNotFound)
	_, _, _, err = w.StartGrant(ctx, me, broker.GrantSpec{Providers: []string{"openai"}, Choices: map[string]string{"github": "work"}})
	wantCode(t, err, authsome.Usage)
	if _, _, _, err = w.StartGrant(ctx, me, broker.GrantSpec{Providers: []string{"github"}, Choices: map[string]string{"github": "work"}}); err != nil {
		t.Error(err)
	}
}

// TestLimitFreesWhatWasClaimed: two providers claim a host, so that neither gets
// it, or the closer one does. A run limited to one of them has no such question.
func TestLimitFreesWhatWasClaimed(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.login("openai", "", openaiKey, false)
	if _, err := w.Register(ctx, me, "acme.json", []byte(acme("api.openai.com")), false, false); err != nil {
		t.Fatal(err)
	}
	w.login("acme", "", "k-0123456789", false)
	if res, err := w.Resolve(ctx, w.grant(broker.GrantSpec{}), request("api.openai.com", "/v1/models")); err != nil || res.Verdict != authsome.Forward {
		t.Errorf("without a limit: %+v, %v", res, err)
	}
	for _, p := range []string{"openai", "acme"} {
		res, err := w.Resolve(ctx, w.grant(broker.GrantSpec{Providers: []string{p}}), request("api.openai.com", "/v1/models"))
		if err != nil || res.Verdict != authsome.Inject || res.Provider != p {
			t.Errorf("limited to %s: %+v, %v", p, res, err)
		}
	}
}
