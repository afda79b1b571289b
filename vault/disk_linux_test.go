package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/mountns"
)

// TestHomeThatTakesNoKey makes a vault on a full and on a read-only disk: a
// clear error, and neither a key nor a header.
func TestHomeThatTakesNoKey(t *testing.T) {
	if !mountns.Alone(t) {
		return
	}
	for said, prepare := range map[string]func(t *testing.T, home string) func(){
		"no space left": func(t *testing.T, home string) func() {
			fill := mountns.Fill(t, home)
			return func() { _ = os.Remove(fill) }
		},
		"read-only file system": func(t *testing.T, home string) func() {
			mountns.ReadOnly(t, home)
			return nil
		},
	} {
		home := t.TempDir()
		mountns.Tmpfs(t, home, "64k")
		undo := prepare(t, home)
		c := Config{Home: home, Getenv: env(), Headers: headers{}}
		_, err := Open(t.Context(), c)
		if authsome.CodeOf(err) != authsome.VaultFailed || !strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), filepath.Join(home, KeyFile)) ||
			!strings.Contains(authsome.HintOf(err), "AUTHSOME_HOME") {
			t.Errorf("the error is %v, hint %q, want %q", err, authsome.HintOf(err), said)
		}
		if found, err := filepath.Glob(filepath.Join(home, "*.key*")); err != nil || len(found) != 0 || len(c.Headers.(headers)) != 0 {
			t.Errorf("it leaves %v, %v, %d headers", found, err, len(c.Headers.(headers)))
		}
		if undo != nil {
			undo()
			open(t, c)
		}
	}
}
