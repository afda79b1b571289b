package flow

import (
	"errors"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

func openai() *authsome.Provider {
	return &authsome.Provider{Name: "openai", Key: authsome.KeyForm{Fields: []authsome.KeyField{{
		Name: "api_key", Label: "API key", Pattern: "^sk-[A-Za-z0-9_-]{20,}$", Hint: "keys start with sk-",
	}}}}
}

func TestKey(t *testing.T) {
	const good = "sk-abcdefghijklmnopqrstuvwxyz"
	tests := []struct {
		name, value, want string // want is a part of the error, "" for success
	}{
		{"good", good, ""},
		{"pasted with white space", " \t" + good + "\r\n", ""},
		{"empty", "", "is empty"},
		{"only white space", " \n", "is empty"},
		{"pattern", "pk-abcdefghijklmnopqrstuvwxyz", "does not look right"},
		{"pattern is a full match", good + "!", "does not look right"},
		{"header injection", good + "\r\nX-Evil: 1", "line break"},
		{"NUL", good + "\x00", "control character"},
		{"not UTF-8", good + "\xff", "UTF-8"},
		{"huge", "sk-" + strings.Repeat("a", MaxFieldBytes), "longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cred, err := Key(openai(), map[string]authsome.Secret{"api_key": authsome.NewSecret(tt.value)})
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := cred.Get(authsome.FieldToken).Reveal(); got != good {
					t.Error("the stored key is not the one that was typed")
				}
				return
			}
			if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error = %v, want one of code Invalid with %q", err, tt.want)
			}
			if !strings.Contains(err.Error(), "the API key ") {
				t.Errorf("error %q does not name the field", err)
			}
			if v := strings.TrimSpace(tt.value); v != "" && strings.Contains(err.Error()+authsome.HintOf(err), v) {
				t.Error("the error quotes the value")
			}
		})
	}
}

func TestKeySeveralFields(t *testing.T) {
	twilio := &authsome.Provider{Name: "twilio", Key: authsome.KeyForm{Fields: []authsome.KeyField{
		{Name: "account_sid", Label: "Account SID", Public: true}, {Name: "auth_token", Label: "Auth token"},
	}}}
	in := map[string]authsome.Secret{"account_sid": authsome.NewSecret("AC1")}
	_, err := Key(twilio, in)
	var refused *authsome.Error
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "auth token is empty") || refused.Field != "auth_token" {
		t.Errorf("one of two fields: %v", err)
	}
	in["auth_token"] = authsome.NewSecret("t0k")
	cred, err := Key(twilio, in)
	if err != nil {
		t.Fatal(err)
	}
	if cred.Get("account_sid").Reveal() != "AC1" || cred.Get("auth_token").Reveal() != "t0k" {
		t.Error("fields are mixed up")
	}
	in["other"] = authsome.NewSecret("x")
	if _, err := Key(twilio, in); err == nil || !strings.Contains(err.Error(), `no field "other"`) {
		t.Errorf("unknown field: %v", err)
	}
}

func TestKeyBrokenPattern(t *testing.T) {
	p := openai()
	p.Key.Fields[0].Pattern = "("
	_, err := Key(p, map[string]authsome.Secret{"api_key": authsome.NewSecret("sk-secretvalue")})
	var e *authsome.Error
	if !errors.As(err, &e) || strings.Contains(err.Error(), "secretvalue") {
		t.Errorf("error = %v", err)
	}
}
