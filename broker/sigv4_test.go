package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

const (
	awsID    = "AKIACANARY0000000001"
	awsKey   = "canary/Secret+Access+Key/0123456789abcde"
	awsToken = "canary-session-token//+=="
)

func (w *world) loginAWS(connection string, kv ...string) {
	w.t.Helper()
	l := w.begin(authsome.LoginRequest{Provider: "aws", Connection: connection, Flow: authsome.FlowAPIKey})
	done, err := w.SubmitFields(context.Background(), me, l.ID, fields(kv...))
	if err != nil || done.Status != authsome.LoginCompleted {
		w.t.Fatalf("login: %v, %v", done, err)
	}
}

// TestSigV4: keys leave for what is signed, and for nothing else, and never for a
// call that would hand out more of them.
func TestSigV4(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.loginAWS("", "access_key_id", awsID, "secret_access_key", awsKey)
	w.loginAWS("session", "access_key_id", "ASIACANARY0000000002", "secret_access_key", awsKey, "session_token", awsToken)
	g := w.grant(broker.GrantSpec{})

	const host = "sts.eu-west-1.amazonaws.com"
	res, err := w.Resolve(ctx, g, request(host, "/"))
	if err != nil || res.Verdict != authsome.Inspect || !slices.Contains(res.Look, authsome.Place{Slot: authsome.SlotSigV4}) || len(res.Deny) == 0 {
		t.Fatalf("first: %+v, %v", res, err)
	}
	signed := func(connection string) *authsome.Request {
		r := request(host, "/")
		r.Inspection = &authsome.Inspection{Path: "/", Found: []authsome.Found{{Place: authsome.Place{Slot: authsome.SlotSigV4}, Placeholder: true, Connection: connection}}}
		return r
	}
	res, err = w.Resolve(ctx, g, signed(""))
	if err != nil || res.Verdict != authsome.Inject || res.Sign == nil || res.Rewrite != nil || len(res.Set) > 0 || res.Renewable ||
		res.Sign.AccessKeyID.Reveal() != awsID || res.Sign.SecretAccessKey.Reveal() != awsKey || !res.Sign.SessionToken.IsZero() {
		t.Fatalf("signed: %+v, %v", res, err)
	}
	if res, err = w.Resolve(ctx, g, signed("session")); err != nil || res.Connection != "session" || res.Sign.SessionToken.Reveal() != awsToken {
		t.Errorf("with a session's keys: %+v, %v", res, err)
	}

	unsigned := request(host, "/")
	unsigned.Inspection = &authsome.Inspection{Path: "/"}
	if res, err = w.Resolve(ctx, g, unsigned); err != nil || res.Verdict != authsome.Forward || res.Sign != nil {
		t.Errorf("unsigned: %+v, %v", res, err)
	}

	call := signed("")
	call.Inspection.Denied = "sts:AssumeRole"
	_, err = w.Resolve(ctx, g, call)
	if authsome.CodeOf(err) != authsome.Forbidden || !strings.Contains(err.Error(), "sts:AssumeRole is denied") || !strings.Contains(authsome.HintOf(err), "authsome login aws") {
		t.Errorf("a call for credentials: %v", err)
	}
	events := w.events()
	if last := events[len(events)-1]; last.Type != authsome.EventProxyDenied || last.Connection != "default" || !strings.Contains(last.Detail, "sts:AssumeRole") {
		t.Errorf("the audit says %+v", last)
	}
	odd := signed("")
	odd.Inspection = &authsome.Inspection{Path: "/", Refused: authsome.E(authsome.Invalid, "signed in another way").WithHint("sign it")}
	if _, err = w.Resolve(ctx, g, odd); authsome.CodeOf(err) != authsome.Invalid || authsome.HintOf(err) != "sign it" {
		t.Errorf("what cannot be signed: %v", err)
	}

	// A program that nobody has logged in for keeps its own.
	other := w.grant(broker.GrantSpec{Mode: authsome.ConfiguredAllow, Choices: map[string]string{}})
	if _, err := w.Logout(ctx, me, "aws", "default"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Logout(ctx, me, "aws", "session"); err != nil {
		t.Fatal(err)
	}
	own := request(host, "/")
	own.Inspection = &authsome.Inspection{Path: "/", Denied: "sts:AssumeRole", Refused: authsome.E(authsome.Invalid, "x")}
	if res, err = w.Resolve(ctx, other, own); err != nil || res.Verdict != authsome.Forward {
		t.Errorf("without a login: %+v, %v", res, err)
	}
}

// TestSigV4Environment: the access key id is no secret, and a placeholder all the
// same; a session's token is there for keys that have one.
func TestSigV4Environment(t *testing.T) {
	w := newWorld(t)
	w.loginAWS("", "access_key_id", awsID, "secret_access_key", awsKey)
	w.loginAWS("session", "access_key_id", "ASIACANARY0000000002", "secret_access_key", awsKey, "session_token", awsToken)
	for connection, token := range map[string]string{"default": "", "session": authsome.Placeholder} {
		env, hosts, _ := w.Placeholders(w.grant(broker.GrantSpec{Choices: map[string]string{"aws": connection}}))
		if env["AWS_ACCESS_KEY_ID"] != authsome.Placeholder || env["AWS_SECRET_ACCESS_KEY"] != authsome.Placeholder || env["AWS_SESSION_TOKEN"] != token {
			t.Errorf("%s: %v", connection, env)
		}
		if !slices.Contains(hosts, "*.amazonaws.com") {
			t.Errorf("%s: %v", connection, hosts)
		}
	}
}

// TestDeniedPath: any provider may have calls that are denied by their path.
func TestDeniedPath(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	definition := `{"name":"acme","auth_type":"api_key","routes":[{"host":"api.acme.example","inject":[{"header":"X-Key","value":"{token}"}],
		"deny":[{"methods":["POST"],"path":"/v1/orgs/*/keys","name":"CreateKey"}]}]}`
	if _, err := w.Register(ctx, me, "acme.json", []byte(definition), false, false); err != nil {
		t.Fatal(err)
	}
	w.login("acme", "", "the-key", false)
	g := w.grant(broker.GrantSpec{})
	for path, want := range map[string]authsome.Code{"/v1/orgs/1/keys": authsome.Forbidden, "/v1/orgs/1//Keys/x": authsome.Forbidden, "/v1/orgs;a/1/keys;b": authsome.Forbidden, "/v1/orgs/1": "", "/v1/orgs/1/keysets": ""} {
		r := request("api.acme.example", path)
		r.Method = "POST"
		if _, err := w.Resolve(ctx, g, r); authsome.CodeOf(err) != want || want != "" && !strings.Contains(err.Error(), "CreateKey is denied") {
			t.Errorf("%s: %v", path, err)
		}
		// As a server reads it that knows no case, or takes the method from a header.
		for _, r.Method = range []string{"post", "GET"} {
			r.Overrides = []string{"POST"}
			if _, err := w.Resolve(ctx, g, r); authsome.CodeOf(err) != want {
				t.Errorf("%s %s: %v", r.Method, path, err)
			}
		}
		r.Overrides = nil
		if res, err := w.Resolve(ctx, g, r); err != nil || res.Verdict != authsome.Inject {
			t.Errorf("GET %s: %v", path, err)
		}
	}
}
