package provider

import (
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// TestSigV4 reads AWS's slot and the denials of a route, and refuses what makes no
// sense; schema.json, as far as a schema can.
func TestSigV4(t *testing.T) {
	file := func(route string) string {
		return `{"name":"x","auth_type":"api_key","api_key":{"fields":[{"name":"access_key_id","public":true},{"name":"secret_access_key"},
			{"name":"session_token","optional":true},{"name":"other"}]},"routes":[{"host":"sts.us-east-1.amazonaws.com",` + route + `}]}`
	}
	signed := func(deny string) string { return file(`"inject":[{"sigv4":{}}],"deny":[` + deny + `]`) }
	plain := func(deny string) string {
		return file(`"inject":[{"header":"X","value":"{other}"}],"deny":[` + deny + `]`)
	}

	text := signed(`{"service":"sts","except":["GetCallerIdentity"]},{"service":"s3","query":"session","methods":["GET"]},{"path":"/V1/tokens/","name":"CreateToken"}`)
	if err := validate(t, []byte(text)); err != nil {
		t.Errorf("schema.json: %v", err)
	}
	p, err := Parse("x.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	in := p.Routes[0].Inject[0]
	both := &authsome.Credential{Fields: map[string]authsome.Secret{"access_key_id": authsome.NewSecret("a"), "secret_access_key": authsome.NewSecret("b")}}
	half := &authsome.Credential{Fields: map[string]authsome.Secret{"access_key_id": authsome.NewSecret("a")}}
	if in.Slot != authsome.SlotSigV4 || in.When != authsome.Always || !in.Fits(both) || in.Fits(half) {
		t.Errorf("%+v", in)
	}
	if f := p.Key.Fields; !f[2].Optional || f[1].Optional {
		t.Errorf("%+v", f)
	}
	deny := p.Routes[0].Deny
	if len(deny) != 3 || deny[1].Name != "GET session" || deny[2].Path != "/V1/tokens" || !deny[2].Covers("PUT", "/v1//Tokens/x") || deny[2].Covers("PUT", "/v1/tokensx") {
		t.Errorf("%+v", deny)
	}

	for _, tt := range []struct {
		text, want string
		lenient    bool // the schema cannot tell
	}{
		{file(`"inject":[{"sigv4":{},"header":"X","value":"{other}"}]`), "inject.0: has sigv4 and something else", false},
		{file(`"inject":[{"sigv4":{},"value":"{other}"}]`), "inject.0: has sigv4 and something else", true},
		{file(`"inject":[{"sigv4":{},"when":"challenge"}]`), "inject.0.when: is \"challenge\"", false},
		{file(`"inject":[{"sigv4":{}},{"header":"X","value":"{other}"}]`), "inject: has sigv4 and something else", true},
		{file(`"inject":[{"sigv4":{}},{"sigv4":{}}]`), "", true},
		{file(`"inject":[{"sigv4":7}]`), "must be an object", false},
		{strings.Replace(file(`"inject":[{"sigv4":{}}]`), "secret_access_key", "secret", 1), "needs the fields access_key_id and secret_access_key", true},
		{signed(`{}`), "deny.0: denies nothing", false},
		{signed(`{"actions":["A"]}`), "deny.0.service: is missing", false},
		{signed(`{"path":"/x","query":"a"}`), "deny.0.service: is missing", false},
		{signed(`{"service":"a b"}`), "deny.0.service: is \"a b\"", false},
		{plain(`{"service":"sts"}`), "deny.0.service: is \"sts\"", true},
		{signed(`{"service":"sts","actions":["A"],"except":["B"]}`), "deny.0.except: is there beside actions", false},
		{signed(`{"service":"sts","actions":["A B"]}`), "deny.0: names an action that is none", false},
		{signed(`{"service":"sts","actions":["A"],"path":"/x"}`), "deny.0: goes by the action", true},
		{signed(`{"service":"sts","query":"a b"}`), "deny.0.query", false},
		{signed(`{"service":"sts","methods":["get"]}`), "deny.0.methods.0: is \"get\"", false},
		{plain(`{"path":"x"}`), "deny.0.path", false},
		{plain(`{"path":"/"}`), "deny.0.path: is the whole", false},
		{plain(`{"path":"/..%2fx"}`), "deny.0.path: cannot be routed", true},
		{plain(`{"path":"/x","name":"` + strings.Repeat("a", 101) + `"}`), "deny.0.name", false},
	} {
		_, err := Parse("x.json", []byte(tt.text))
		if err == nil || authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\n%v, want %q", tt.text, err, tt.want)
		}
		if !tt.lenient && validate(t, []byte(tt.text)) == nil {
			t.Errorf("the schema accepts %s", tt.text)
		}
	}
}
