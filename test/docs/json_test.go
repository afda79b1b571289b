package docs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeysDocumented runs the commands with --json and looks up every key of
// the document under the command's heading in docs/cli.md.
func TestKeysDocumented(t *testing.T) {
	w := newWorld(t)
	definition := filepath.Join(w.Work(), "own.json")
	if err := os.WriteFile(definition, []byte(`{"schema_version":1,"name":"own","auth_type":"api_key","flow":"api_key","api_url":"api.own.example","api_key":{},"export":{"OWN_KEY":"API_TOKEN"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	page := read(t, "docs/cli.md")
	for _, part := range strings.Split(page, "\n### ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		for _, m := range inCode.FindAllStringSubmatch(title, -1) {
			sections[m[1]] = body
		}
	}
	for _, args := range [][]string{
		{"login", "openai", "--stdin"},
		{"login", "openai", "--stdin"}, // again: it exists
		{"login", "openai", "--stdin", "--force"},
		{"login", "github", "--no-wait"},
		{"list"},
		{"get", "openai"},
		{"connections", "inspect", "openai"},
		{"connections", "list"},
		{"set-default", "openai", "default"},
		{"connections", "set-default", "openai", "default"},
		{"run", "--explain", "--", "true"},
		{"export", "openai"},
		{"log"},
		{"doctor"},
		{"whoami"},
		{"version"},
		{"register", definition},
		{"remove", "own"},
		{"provider", "register", definition, "--force"},
		{"provider", "list"},
		{"provider", "remove", "own"},
		{"logout", "openai"},
		{"revoke", "openai"},
		{"provider", "revoke", "openai"},
		{"daemon", "status"},
		{"daemon", "logs"},
		{"daemon", "start"},
		{"daemon", "restart"},
		{"daemon", "stop"},
		{"daemon", "status"}, // of one that does not run
	} {
		path := "authsome " + args[0]
		if sections[path] == "" || args[0] == "daemon" || args[0] == "provider" || args[0] == "connections" {
			path += " " + args[1]
		}
		out := w.Command(append([]string{"--json"}, args...)...).Input(keys["openai"] + "\n").Run()
		var document map[string]json.RawMessage
		if err := json.Unmarshal([]byte(out.Stdout), &document); out.Code != 0 || err != nil {
			t.Errorf("%q: exit code %d, %v\n%s%s", args, out.Code, err, out.Stdout, out.Stderr)
			continue
		}
		for key := range document {
			if key != "v" && !strings.Contains(sections[path], "`"+key+"`") {
				t.Errorf("docs/cli.md does not name the key %s of `%s --json`", key, path)
			}
		}
	}
}
