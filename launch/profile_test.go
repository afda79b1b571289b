package launch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/google/go-cmp/cmp"
)

const modelProvider = `model_providers.authsome={name="OpenAI via authsome",base_url="https://api.openai.com/v1",env_key="OPENAI_API_KEY",wire_api="responses"}`

var (
	noDaemon = []string{"--no-daemon"}
	signIn   = []string{"-c", `model_provider="authsome"`, "-c", modelProvider}
	tui      = slices.Concat(noDaemon, signIn)
)

// What Codex gets, by how it is started.
func TestCodexProfile(t *testing.T) {
	// added stands where the additions go.
	const added = "\x00"
	tests := []struct {
		name string
		argv []string
		want []string // what is added
	}{
		{"alone", []string{"codex", added}, tui},
		{"by path", []string{"/opt/bin/codex", added}, tui},
		{"on Windows", []string{`C:\npm\codex.cmd`, added}, tui},
		{"the executable", []string{"codex.exe", added}, tui},
		{"with a prompt", []string{"codex", added, "fix the tests"}, tui},
		{"with a prompt that is a word", []string{"codex", added, "hello"}, tui},
		{"with options and a prompt", []string{"codex", added, "-m", "gpt", "-s", "read-only", "-C", "exec", "do it"}, tui},
		{"with images", []string{"codex", added, "-i", "exec", "review", "--search"}, tui},
		{"prompt after dashes", []string{"codex", added, "--", "exec"}, tui},
		{"resume", []string{"codex", added, "resume", "--last"}, tui},
		{"fork", []string{"codex", added, "fork"}, tui},
		{"agents", []string{"codex", added, "agents"}, tui},
		{"exec", []string{"codex", "exec", "hi"}, nil},
		{"exec by its alias", []string{"codex", "e", "hi"}, nil},
		{"exec after options", []string{"codex", "-m", "resume", "--search", "exec", "resume"}, nil},
		{"login", []string{"codex", "login", "status"}, nil},
		{"mcp", []string{"codex", "mcp", "list"}, nil},
		{"app-server", []string{"codex", "app-server"}, nil},
		{"has it", []string{"codex", added, "--no-daemon"}, signIn},
		{"has it behind the subcommand", []string{"codex", added, "resume", "--no-daemon"}, signIn},
		{"has it as a prompt only", []string{"codex", added, "--", "--no-daemon"}, tui},
		{"remote", []string{"codex", "--remote", "unix://"}, nil},
		{"remote with equals", []string{"codex", "--remote=unix://"}, nil},
		{"own provider", []string{"codex", added, "-c", `model_provider="azure"`}, noDaemon},
		{"own provider, long", []string{"codex", added, "--config=model_provider=azure"}, noDaemon},
		{"own provider, short", []string{"codex", added, "-cmodel_provider=azure", "resume"}, noDaemon},
		{"other configuration", []string{"codex", added, "-c", `model="o3"`, "-c", "model_providers.x.name=x"}, tui},
		{"own profile", []string{"codex", added, "-p", "work"}, noDaemon},
		{"local models", []string{"codex", added, "--oss"}, noDaemon},
		{"npx", []string{"npx", "codex", added, "resume"}, tui},
		{"npx by package", []string{"npx", "-y", "@openai/codex", added}, tui},
		{"npx with a version", []string{"npx", "@openai/codex@latest", added, "hi"}, tui},
		{"npx with an old version", []string{"npx", "@openai/codex@0.155.0", added}, signIn},
		{"npx with the first version", []string{"npx", "@openai/codex@0.156.0", added}, tui},
		{"npx of a package's command", []string{"npx", "-p", "@openai/codex", "codex"}, nil},
		{"pnpm dlx", []string{"pnpm", "dlx", "@openai/codex", added}, tui},
		{"bunx", []string{"bunx", "@openai/codex", added}, tui},
		{"script", []string{"node", "/usr/lib/node_modules/@openai/codex/bin/codex.js", added, "hi"}, tui},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var argv, want []string
			for _, w := range tt.argv {
				if w == added {
					want = append(want, tt.want...)
					continue
				}
				argv, want = append(argv, w), append(want, w)
			}
			given := slices.Clone(argv)
			plan := Profile(argv, Facts{Environ: []string{"HOME=" + t.TempDir()}, OS: "linux", Connected: []string{"openai"}})
			if plan == nil {
				if len(tt.want) > 0 {
					t.Fatal("no profile")
				}
				return
			}
			if diff := cmp.Diff(want, plan.Argv); diff != "" {
				t.Error(diff)
			}
			if !slices.Equal(argv, given) {
				t.Error("the command that was given has changed")
			}
			var listed []string
			for _, a := range plan.Added {
				if a.Why == "" {
					t.Errorf("no reason for %v", a.Arguments)
				}
				listed = append(listed, a.Arguments...)
			}
			if !slices.Equal(listed, tt.want) {
				t.Errorf("it says that it adds %v", listed)
			}
			if plan.Set["CODEX_API_KEY"].Value != authsome.Placeholder || len(plan.Notes) > 0 {
				t.Errorf("sets %v, notes %v", plan.Set, plan.Notes)
			}
		})
	}
}

func TestNoProfile(t *testing.T) {
	for _, argv := range [][]string{
		nil,
		{""},
		{"env"},
		{"codex-wrapper"},
		{"mycodex"},
		{"npx"},
		{"npx", "-y"},
		{"npx", "other"},
		{"npx", "@evil/codex"},
		{"node"},
		{"node", "server.js"},
		{"pnpm", "codex"},
		{"sh", "-c", "codex"},
		{"codex/"},
		{"npm", "exec", "@openai/codex"},
	} {
		if plan := Profile(argv, Facts{OS: "linux", Connected: []string{"openai"}}); plan != nil {
			t.Errorf("%q: %+v", argv, plan)
		}
	}
}

// Without openai there is nothing to sign in with, but the background server is
// in the way of every other connection all the same.
func TestCodexWithoutOpenAI(t *testing.T) {
	plan := Profile([]string{"codex"}, Facts{OS: "linux", Connected: []string{"github"}})
	if !slices.Equal(plan.Argv, []string{"codex", "--no-daemon"}) || len(plan.Set) > 0 {
		t.Errorf("%v, sets %v", plan.Argv, plan.Set)
	}
}

// Somebody who is past the sign-in screen, or has a provider of their own, is
// left as they are.
func TestCodexWithAHomeOfItsOwn(t *testing.T) {
	tests := []struct {
		name, file, text string
		want             []string
	}{
		{"key", "auth.json", `{"auth_mode":"apikey","OPENAI_API_KEY": "sk-real"}`, noDaemon},
		{"placeholder", "auth.json", "{\n  \"OPENAI_API_KEY\": \"authsome-proxy-managed\"\n}", noDaemon},
		{"ChatGPT", "auth.json", `{"OPENAI_API_KEY":null,"tokens":{"access_token":"x"}}`, tui},
		{"empty key", "auth.json", `{"OPENAI_API_KEY":""}`, tui},
		{"not JSON", "auth.json", "\x00\xff", tui},
		{"provider", "config.toml", "model = \"x\"\nmodel_provider = \"azure\"\n", noDaemon},
		{"providers only", "config.toml", "[model_providers.azure]\nname = \"x\"\n# model_provider = \"azure\"\n", tui},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			dir := filepath.Join(home, ".codex")
			if err := slicesErr(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o600)); err != nil {
				t.Fatal(err)
			}
			for name, env := range map[string][]string{"HOME": {"HOME=" + home}, "CODEX_HOME": {"HOME=/nowhere", "CODEX_HOME=" + dir}} {
				plan := Profile([]string{"codex"}, Facts{Environ: env, OS: "linux", Connected: []string{"openai"}})
				if !slices.Equal(plan.Argv[1:], tt.want) {
					t.Errorf("%s: %v", name, plan.Argv)
				}
			}
			// Another CODEX_HOME is another Codex.
			plan := Profile([]string{"codex"}, Facts{Environ: []string{"HOME=" + home, "CODEX_HOME=" + t.TempDir()}, OS: "linux", Connected: []string{"openai"}})
			if !slices.Equal(plan.Argv[1:], tui) {
				t.Errorf("with another CODEX_HOME: %v", plan.Argv)
			}
		})
	}
}

// Codex's sandbox has no network; who has something to reach there is told.
func TestCodexSandboxNote(t *testing.T) {
	both := []string{"github", "openai"}
	tests := []struct {
		name      string
		args      []string
		connected []string
		config    string
		want      bool
	}{
		{"exec", []string{"exec", "x"}, both, "", true},
		{"terminal", nil, both, "", true},
		{"nothing else connected", []string{"exec", "x"}, []string{"openai"}, "", false},
		{"login", []string{"login"}, both, "", false},
		{"network on", []string{"exec", "-s", "workspace-write", "-c", "sandbox_workspace_write.network_access=true", "x"}, both, "", false},
		{"no sandbox", []string{"exec", "--sandbox=danger-full-access", "x"}, both, "", false},
		{"no sandbox, otherwise", []string{"--dangerously-bypass-approvals-and-sandbox"}, both, "", false},
		{"network on in the configuration", []string{"exec", "x"}, both, "[sandbox_workspace_write]\nnetwork_access = true\n", false},
		{"in the prompt only", []string{"exec", "say network_access=true"}, both, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			plan := Profile(append([]string{"codex"}, tt.args...), Facts{Environ: []string{"CODEX_HOME=" + home}, OS: "linux", Connected: tt.connected})
			if got := len(plan.Notes) == 1 && strings.Contains(plan.Notes[0], "network_access=true"); got != tt.want {
				t.Errorf("notes: %q", plan.Notes)
			}
		})
	}
}

func TestClaudeProfile(t *testing.T) {
	for _, argv := range [][]string{{"claude"}, {"claude", "-p", "hi"}, {"npx", "@anthropic-ai/claude-code", "-p"}} {
		plan := Profile(argv, Facts{OS: "linux", Connected: []string{"anthropic"}})
		if plan == nil || !slices.Equal(plan.Argv, argv) || plan.Set["ANTHROPIC_AUTH_TOKEN"].Value != authsome.Placeholder || plan.Unset["ANTHROPIC_API_KEY"] == "" {
			t.Errorf("%v: %+v", argv, plan)
		}
		plan = Profile(argv, Facts{OS: "linux", Connected: []string{"openai"}})
		if len(plan.Set)+len(plan.Unset) > 0 {
			t.Errorf("%v without anthropic: %+v", argv, plan)
		}
	}
}

// The version is seen without starting the program.
// What Gemini CLI and OpenCode get, and that it is never in place of what the
// person has said.
func TestGeminiAndOpenCodeProfiles(t *testing.T) {
	home := t.TempDir()
	distrusts := t.TempDir()
	if err := os.MkdirAll(filepath.Join(distrusts, ".gemini"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(distrusts, ".gemini", "trustedFolders.json"), []byte(`{"/x":"DO_NOT_TRUST"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const trust, sdk = "GEMINI_CLI_TRUST_WORKSPACE=true", "GOOGLE_GENERATIVE_AI_API_KEY=authsome-proxy-managed"
	tests := []struct {
		name    string
		argv    []string
		environ []string
		other   bool // another provider is connected
		want    []string
		note    bool
	}{
		{"screen", []string{"gemini"}, nil, false, nil, false},
		{"screen with a question", []string{"gemini", "-m", "-p", "hi"}, nil, false, nil, false},
		{"-p", []string{"gemini", "-p", "hi"}, nil, false, []string{trust}, true},
		{"--prompt=", []string{"gemini", "-m", "flash", "--prompt=hi"}, nil, false, []string{trust}, true},
		{"by npx", []string{"npx", "@google/gemini-cli", "-p", "hi"}, nil, false, []string{trust}, true},
		{"-p with its flag", []string{"gemini", "--skip-trust", "-p", "hi"}, nil, false, nil, false},
		{"-p, said no", []string{"gemini", "-p", "hi"}, []string{"GEMINI_CLI_TRUST_WORKSPACE=false"}, false, nil, false},
		{"-p, restricted", []string{"gemini", "-p", "hi"}, []string{"GEMINI_RESTRICTED_MODE=true"}, false, nil, false},
		{"-p, folder distrusted", []string{"gemini", "-p", "hi"}, []string{"HOME=" + distrusts}, false, nil, false},
		{"not connected", []string{"gemini", "-p", "hi"}, nil, true, nil, false},
		{"opencode", []string{"opencode"}, nil, false, []string{sdk}, false},
		{"opencode, not connected", []string{"opencode", "run", "hi"}, nil, true, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			facts := Facts{OS: "linux", Environ: append([]string{"HOME=" + home}, tt.environ...), Connected: []string{"gemini"}}
			if tt.other {
				facts.Connected = []string{"openai"}
			}
			plan := Profile(tt.argv, facts)
			if plan == nil || !slices.Equal(plan.Argv, tt.argv) {
				t.Fatalf("%+v", plan)
			}
			var got []string
			for name, s := range plan.Set {
				got = append(got, name+"="+s.Value)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if (len(plan.Notes) > 0) != tt.note {
				t.Errorf("notes: %q", plan.Notes)
			}
		})
	}
}

func TestVersionOf(t *testing.T) {
	dir := t.TempDir()
	put := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := slicesErr(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("npm/@openai/codex/package.json", `{"name":"@openai/codex","version":"0.150.2"}`)
	script := put("npm/@openai/codex/bin/codex.js", "")
	link := filepath.Join(dir, "codex")
	if err := os.Symlink(script, link); err != nil {
		t.Fatal(err)
	}
	put("other/package.json", `{"name":"other","version":"0.1.0"}`)
	put("bad/package.json", `{"name":`)
	p := profile{Packages: []string{"@openai/codex"}}
	for path, want := range map[string]string{
		link: "0.150.2",
		put("Cellar/codex/0.151.0/bin/codex", ""):                       "0.151.0",
		put("releases/0.152.0-x86_64-unknown-linux-musl/bin/codex", ""): "0.152.0",
		put("other/bin/codex", ""):                                      "",
		put("bad/bin/codex", ""):                                        "",
		put("bin/codex", ""):                                            "",
		filepath.Join(dir, "none"):                                      "",
	} {
		if got := p.versionOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for _, tt := range []struct {
		version string
		want    []string
	}{{"0.155.9", signIn}, {"0.156.0", tui}, {"1.0.0", tui}, {"nightly", tui}} {
		put("npm/@openai/codex/package.json", `{"name":"@openai/codex","version":"`+tt.version+`"}`)
		plan := Profile([]string{"codex"}, Facts{OS: "linux", Path: link, Connected: []string{"openai"}})
		if !slices.Equal(plan.Argv[1:], tt.want) {
			t.Errorf("%s: %v", tt.version, plan.Argv)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"0.9.0", "0.10.0", true},
		{"0.10.0", "0.9.0", false},
		{"1.0.0", "1.0.0", false},
		{"0.169.0-alpha.1", "0.170.0", true},
		{"", "1.0.0", false},
		{"latest", "1.0.0", false},
		{"v1.2.3", "1.2.4", true},
	} {
		if got := older(tt.a, tt.b); got != tt.want {
			t.Errorf("older(%q, %q) is %v", tt.a, tt.b, got)
		}
	}
}

// Every file of profiles/ is what the code takes it for.
func TestProfilesAreSound(t *testing.T) {
	list, err := profiles("")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range list {
		if p.Name == "" || len(p.Commands) == 0 || len(p.Rules) == 0 {
			t.Errorf("%+v is empty", p)
		}
		for _, c := range p.Commands {
			if names[c] {
				t.Errorf("%s is in two profiles", c)
			}
			names[c] = true
		}
		for i, r := range p.Rules {
			for _, v := range []string{r.Since, r.Before} {
				if v != "" && versionInPath().FindString(v) == "" {
					t.Errorf("%s: rule %d: %q is no version", p.Name, i, v)
				}
			}
			for _, s := range r.Subcommands {
				if s != "" && !slices.Contains(p.Subcommands, s) {
					t.Errorf("%s: rule %d: %q is no subcommand", p.Name, i, s)
				}
			}
			for _, re := range slices.Concat(r.WithArguments, r.UnlessArguments) {
				if _, err := regexp.Compile(re); err != nil {
					t.Errorf("%s: rule %d: %v", p.Name, i, err)
				}
			}
			for _, m := range r.UnlessFiles {
				if _, err := regexp.Compile(m.Matches); err != nil {
					t.Errorf("%s: rule %d: %v", p.Name, i, err)
				}
			}
			if len(r.Set)+len(r.Unset)+len(r.Arguments) > 0 && r.Why == "" {
				t.Errorf("%s: rule %d says no reason", p.Name, i)
			}
			if len(r.Set)+len(r.Unset)+len(r.Arguments)+len(r.Note) == 0 {
				t.Errorf("%s: rule %d does nothing", p.Name, i)
			}
		}
	}
	if !names["codex"] || !names["claude"] || !names["gemini"] || !names["opencode"] {
		t.Errorf("there are profiles for %v", names)
	}
	for name, text := range map[string]string{"unknown field": `{"name":"x","colour":1}`, "no JSON": `{`} {
		if _, err := parseProfile([]byte(text)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
