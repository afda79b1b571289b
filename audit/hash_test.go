package audit_test

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
)

func TestNewID(t *testing.T) {
	form := regexp.MustCompile(`^audit_[0-9a-f]{32}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := audit.NewID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("the id %q", id)
		}
		seen[id] = true
	}
}

// TestChain pins the form of the chain: logs that were written must verify for
// ever.
func TestChain(t *testing.T) {
	first, err := audit.Encode(authsome.Event{
		Seq: 1, ID: "audit_0", Time: time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC), Type: authsome.EventLogin,
		Status: "ok", Provider: "github", Vault: "local",
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"seq":1,"event_id":"audit_0","timestamp":"2026-11-23T01:02:03.000004Z","event":"provider.login","status":"ok","provider":"github","vault":"local"}`; string(first) != want {
		t.Errorf("encoded\n%s, want\n%s", first, want)
	}
	start := audit.Start("local")
	one := audit.Hash(start, first)
	for name, test := range map[string]struct {
		got  []byte
		want string
	}{
		"start": {start, "f6793e48eb9331907a1e74bb0af5ce5efbf11a5d1937603f1266c912479e36d3"},
		"one":   {one, "f8bff7209f888cf647b45b65fd9a529778e0c72af2441237f0651d0ec6c21a9b"},
	} {
		if hex.EncodeToString(test.got) != test.want {
			t.Errorf("%s is %x, want %s", name, test.got, test.want)
		}
	}
	if bytes.Equal(audit.Start("team"), start) {
		t.Error("two vaults begin alike")
	}
	for i := range first {
		changed := bytes.Clone(first)
		changed[i] ^= 1
		if bytes.Equal(audit.Hash(start, changed), one) {
			t.Fatalf("a change at %d is not seen", i)
		}
	}
	if bytes.Equal(audit.Hash(audit.Start("team"), first), one) {
		t.Error("an event fits behind another")
	}
}
