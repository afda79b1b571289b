package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// definition is one provider's; %s is the port of the browser.
const keyDefinition = `{
  "schema_version": 1, "name": "soak", "auth_type": "api_key",
  "routes": [
    {"host": "api.soak.example", "inject": [{"header": "Authorization", "value": "Bearer {api_key}"}]},
    {"host": "basic.soak.example", "inject": [{"basic": "soak:{api_key}"}]},
    {"host": "query.soak.example", "inject": [{"query": "key", "value": "{api_key}"}]}
  ]
}`

const oauthDefinition = `{
  "schema_version": 1, "name": "soakauth", "auth_type": "oauth2", "flow": "pkce", "api_url": "https://api.soakauth.example",
  "oauth": {"authorization_url": "https://login.soakauth.example/authorize", "token_url": "https://login.soakauth.example/token", "token_auth": "none", "scopes": ["read"]}
}`

// otherDefinition comes and goes, and changes the routing table by that.
const otherDefinition = `{"schema_version": 1, "name": "passing", "auth_type": "api_key", "flow": "api_key", "api_url": "api.passing.example"}`

// define registers a provider.
func (s *soak) define(name, text string) error {
	path := filepath.Join(s.world.Work(), name+".json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	_, err := s.command("", "register", path, "--yes", "--force")
	return err
}

// slow is what a command takes that is worth a line.
const slow = 5 * time.Second

// command runs a command that has to succeed.
func (s *soak) command(input string, args ...string) (string, error) {
	began := time.Now()
	out, err := s.world.Command(args...).Input(input).Output()
	if took := time.Since(began); took > slow {
		s.logf("  authsome %s took %s", strings.Join(args, " "), took.Round(time.Millisecond))
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(out))
	}
	return out, nil
}

// login connects an account with a new key; the one before counts no more.
func (s *soak) login(account string) error {
	w := s.judge.expect(window{
		why: "another key", provider: providerKey, account: account, byDefault: s.roster.lately(account), classes: []string{brokeOff, "denied"},
	})
	defer s.judge.done(w)
	was := s.current[account]
	value := s.keys.mint(providerKey, account)
	is := func() {}
	if was != "" || len(s.current) == 0 {
		is = s.roster.willBeDefault(account)
	}
	args := []string{"login", providerKey, "--connection", account, "--stdin"}
	if was != "" {
		args = append(args, "--force")
	}
	if _, err := s.command(value+"\n", args...); err != nil {
		return err
	}
	is()
	if was != "" || len(s.current) == 0 {
		s.byDefault = account
	}
	s.current[account] = value
	s.keys.retire(was)
	s.count("logins", 1)
	return nil
}

// logout takes an account's key away.
func (s *soak) logout(account string) error {
	if _, err := s.command("", "logout", providerKey, "--connection", account); err != nil {
		return err
	}
	s.keys.retire(s.current[account])
	delete(s.current, account)
	s.count("logouts", 1)
	return nil
}

// setDefault makes an account the default.
func (s *soak) setDefault(account string) error {
	is := s.roster.willBeDefault(account)
	if _, err := s.command("", "set-default", providerKey, account); err != nil {
		return err
	}
	is()
	s.byDefault = account
	return nil
}

// consent connects an account by OAuth.
func (s *soak) consent(ctx context.Context, account string) error {
	s.auth.expect(account)
	out, err := s.command("", "login", providerOAuth, "--connection", account, "--flow", "pkce", "--force", "--no-wait", "--json")
	if err != nil {
		return err
	}
	var in struct {
		AuthURL string `json:"auth_url"`
		Session string `json:"session_id"`
	}
	if err := json.Unmarshal([]byte(out), &in); err != nil || in.AuthURL == "" {
		return fmt.Errorf("log in to %s: no address in %q", providerOAuth, out)
	}
	person, err := s.world.Internet.Person("")
	if err != nil {
		return err
	}
	page, err := person.Consent(ctx, in.AuthURL)
	if err != nil {
		return fmt.Errorf("consent for %s: %w", account, err)
	}
	status, err := s.command("", "login", "--status", in.Session, "--json")
	if err != nil || !strings.Contains(status, `"completed"`) {
		return fmt.Errorf("the consent for %s has come to %d %q: %s %w", account, page.Status, page.Text, status, err)
	}
	s.count("logins by OAuth", 1)
	return nil
}

// mend logs in again where the authorization server has ended a login. That it has
// is an error, unless it was told to, or a refresh token came twice because the
// daemon was killed between the server's answer and storing it.
func (s *soak) mend(ctx context.Context, told string) error {
	for _, account := range s.auth.dead() {
		w := s.judge.expect(window{
			why: "an ended login", provider: providerOAuth, account: account,
			classes: []string{brokeOff, "denied", "reauthentication_required", unauthorized},
		})
		if !s.deadSince.IsZero() {
			w.from = s.deadSince
		}
		if account != told {
			_, reuses := s.auth.history()
			last := reuse{}
			for _, r := range reuses {
				if r.account == account {
					last = r
				}
			}
			if last.account == "" || !s.judge.killedWithin(last.first.Add(-patience/30), last.first.Add(patience/6)) {
				s.judge.violate("the login of %s was ended: its refresh token came twice, at %s and at %s, and no daemon was killed in between", account, clock(last.first), clock(last.at))
			}
			w.from = last.first
			s.count("logins lost by a kill during a refresh", 1)
		}
		err := s.consent(ctx, account)
		s.judge.done(w)
		if err != nil {
			return err
		}
	}
	return nil
}
