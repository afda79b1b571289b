package authsome_test

import (
	"testing"

	"github.com/authsome/authsome"
)

func TestInjectionFits(t *testing.T) {
	secret := authsome.NewSecret("x")
	key := &authsome.Credential{Fields: map[string]authsome.Secret{"api_key": secret}}
	tokens := &authsome.Credential{Fields: map[string]authsome.Secret{"access_token": secret, "refresh_token": secret}}
	account := &authsome.Credential{Fields: map[string]authsome.Secret{"email": secret, "api_token": secret}}
	for value, want := range map[string][3]bool{
		"Bearer {token}":        {true, true, false},
		"{api_key}":             {true, false, false},
		"Bearer {access_token}": {false, true, false},
		"{email}:{api_token}":   {false, false, true},
		"{email}:{token}":       {false, false, false},
	} {
		in := authsome.Injection{Value: value}
		if got := [3]bool{in.Fits(key), in.Fits(tokens), in.Fits(account)}; got != want {
			t.Errorf("%s fits %v, want %v", value, got, want)
		}
	}
}
