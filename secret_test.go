package authsome

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestSecretNeverPrints goes through every way in which a value is put into
// text, with the secret bare, in a struct, behind a pointer and in a map.
func TestSecretNeverPrints(t *testing.T) {
	const canary = "canary-5f2d91"
	s := NewSecret(canary)
	type holder struct {
		S Secret
		P *Secret
		M map[string]Secret
	}
	h := holder{s, &s, map[string]Secret{"k": s}}
	hex := fmt.Sprintf("%x", canary)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v", "%10.3s", "%t", "%b"} {
		for _, v := range []any{s, &s, h, &h, []Secret{s}, [1]Secret{s}} {
			text := fmt.Sprintf(strings.Replace(verb, "%T %v", "%v", 1), v)
			if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), hex) {
				t.Errorf("%s of %T prints the secret", verb, v)
			}
		}
	}
	j, err := json.Marshal(h)
	if err != nil || bytes.Contains(j, []byte(canary)) || !bytes.Contains(j, []byte("•••")) {
		t.Errorf("JSON: %s, %v", j, err)
	}
	var log bytes.Buffer
	for _, hd := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(hd)
		l.Info("x", "s", s, "p", &s, "h", h)
		l.With("s", s).Error("y", "err", fmt.Errorf("with %v", s))
	}
	if strings.Contains(log.String(), canary) {
		t.Errorf("slog prints the secret: %s", log.String())
	}
	if e := E(Internal, "with %s and %w", s, errors.New("cause")); strings.Contains(e.Error(), canary) {
		t.Error("an Error prints the secret")
	}
}

func TestSecret(t *testing.T) {
	var zero Secret
	if !zero.IsZero() || zero.String() != "" || zero.Len() != 0 {
		t.Error("the zero Secret is not empty")
	}
	a, b := NewSecret("one"), NewSecret("two")
	if a.Equal(b) || !a.Equal(NewSecret("one")) || a.Reveal() != "one" || a.Len() != 3 {
		t.Error("Equal, Reveal or Len is wrong")
	}
	if err := json.Unmarshal([]byte(`"•••"`), &a); err == nil {
		t.Error("a Secret was read back from what it prints")
	}
	if err := json.Unmarshal([]byte(`""`), &zero); err != nil || !zero.IsZero() {
		t.Errorf("the empty Secret: %v", err)
	}
}

func TestError(t *testing.T) {
	cause := errors.New("disk on fire")
	e := E(StoreFailed, "save %s: %w", "github", cause).WithHint("authsome %s", "doctor")
	wrapped := fmt.Errorf("outer: %w", e)
	if e.Error() != "save github: disk on fire" || !errors.Is(wrapped, cause) {
		t.Errorf("message %q, cause lost: %v", e.Error(), wrapped)
	}
	if CodeOf(wrapped) != StoreFailed || HintOf(wrapped) != "authsome doctor" {
		t.Errorf("code %q, hint %q", CodeOf(wrapped), HintOf(wrapped))
	}
	if CodeOf(nil) != "" || CodeOf(cause) != Internal || HintOf(cause) != "" {
		t.Error("codes of nil and of foreign errors")
	}
}

func TestCredentialGet(t *testing.T) {
	s := func(kv ...string) *Credential {
		c := &Credential{Fields: map[string]Secret{}}
		for i := 0; i < len(kv); i += 2 {
			c.Fields[kv[i]] = NewSecret(kv[i+1])
		}
		return c
	}
	tests := []struct {
		name string
		c    *Credential
		want string
	}{
		{"access token before key", s(FieldAccessToken, "at", FieldAPIKey, "key"), "at"},
		{"key", s(FieldAPIKey, "key", "other", "x"), "key"},
		{"only field", s("auth_token", "x"), "x"},
		{"two unknown fields", s("a", "1", "b", "2"), ""},
		{"none", s(), ""},
	}
	for _, tt := range tests {
		if got := tt.c.Get(FieldToken).Reveal(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
