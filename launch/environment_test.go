package launch

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/google/go-cmp/cmp"
)

const testToken = "s3cr3t-token"

func testSettings(environ ...string) Settings {
	return Settings{
		Environ: environ, OS: "linux", Proxy: Proxy{Port: 4242, Token: testToken},
		Trust: &Trust{dir: "/cache/authsome/trust/0123456789abcdef"},
		Hosts: []string{"api.openai.com", "*.linear.app", "10.1.2.3:8443"},
	}
}

func childOf(s Settings) map[string]string {
	env, _ := Environment(s)
	return toMap(env)
}

func toMap(env []string) map[string]string {
	m := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		m[name] = value
	}
	return m
}

// The whole block, in its order, over an empty parent.
func TestEnvironment(t *testing.T) {
	s := testSettings("HOME=/home/p", "PATH=/bin")
	s.Placeholders = map[string]string{"OPENAI_API_KEY": authsome.Placeholder, "CODEX_API_KEY": authsome.Placeholder, "LINEAR_URL": "https://api.linear.app"}
	got, _ := Environment(s)
	const (
		px     = "http://authsome:" + testToken + "@127.0.0.1:4242"
		local  = "localhost,127.0.0.1,::1,169.254.169.254"
		dir    = "/cache/authsome/trust/0123456789abcdef"
		bundle = dir + "/bundle.pem"
	)
	want := []string{
		"HOME=/home/p", "PATH=/bin",
		"CODEX_API_KEY=authsome-proxy-managed", "LINEAR_URL=https://api.linear.app", "OPENAI_API_KEY=authsome-proxy-managed",
		"HTTPS_PROXY=" + px, "HTTP_PROXY=" + px, "https_proxy=" + px, "http_proxy=" + px,
		"NO_PROXY=" + local, "no_proxy=" + local,
		"NODE_USE_ENV_PROXY=1", "PERL_LWP_ENV_PROXY=1",
		"SSL_CERT_FILE=" + bundle, "CODEX_CA_CERTIFICATE=" + bundle, "REQUESTS_CA_BUNDLE=" + bundle,
		"CURL_CA_BUNDLE=" + bundle, "GIT_SSL_CAINFO=" + bundle, "AWS_CA_BUNDLE=" + bundle, "PIP_CERT=" + bundle,
		"NPM_CONFIG_CAFILE=" + bundle, "CARGO_HTTP_CAINFO=" + bundle, "PERL_LWP_SSL_CA_FILE=" + bundle,
		"NIX_SSL_CERT_FILE=" + bundle, "HTTPLIB2_CA_CERTS=" + bundle, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=" + bundle,
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE=" + bundle,
		"NODE_EXTRA_CA_CERTS=" + dir + "/ca.pem", "DENO_CERT=" + dir + "/ca.pem",
		"WGETRC=" + dir + "/wgetrc", "PHP_INI_SCAN_DIR=:" + dir + "/php",
		`NODE_OPTIONS=--require "` + dir + `/node.cjs"`, "PYTHONPATH=" + dir + "/python",
		"AUTHSOME_PROXY_MODE=true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A machine that has set everything already, as company images do, gets the
// same block in place of its own.
func TestEnvironmentOverridesPresets(t *testing.T) {
	clean, _ := Environment(testSettings())
	var presets []string
	for _, kv := range clean {
		name, _, _ := strings.Cut(kv, "=")
		presets = append(presets, name+"=/preset/"+name)
	}
	for _, goos := range []string{"linux", "darwin", "windows"} {
		s := testSettings(presets...)
		s.OS = goos
		got := childOf(s)
		for _, kv := range clean {
			name, want, _ := strings.Cut(kv, "=")
			value := got[name]
			switch {
			case goos == "windows" && strings.ToUpper(name) != name:
				continue // the same variable as the upper one
			case strings.EqualFold(name, "no_proxy"): // a path is no host
			case name == "PHP_INI_SCAN_DIR":
				want = "/preset/PHP_INI_SCAN_DIR"
			case name == "NODE_OPTIONS":
				want = "/preset/NODE_OPTIONS " + want
			case strings.HasPrefix(value, "/preset"):
				t.Errorf("%s: %s stays %s", goos, name, value)
			}
			if !strings.HasPrefix(value, want) && goos != "windows" {
				t.Errorf("%s: %s=%s, want %s", goos, name, value, want)
			}
		}
	}
}

func TestEnvironmentRemoves(t *testing.T) {
	for _, name := range []string{
		"ALL_PROXY", "all_proxy", "All_Proxy", "SOCKS_PROXY", "wss_proxy", "grpc_proxy", "GRPC_PROXY", "Http_Proxy", "No_Proxy",
		"npm_config_proxy", "npm_config_https_proxy", "npm_config_noproxy", "NPM_CONFIG_HTTPS_PROXY", "npm_config_cafile",
		"CARGO_HTTP_PROXY", "CLOUDSDK_PROXY_ADDRESS", "HTTPS_CA_FILE",
		"AUTHSOME_MASTER_KEY", "AUTHSOME_MASTER_KEY_FILE", "AUTHSOME_IDENTITY_PRIVATE_KEY", "AUTHSOME_IDENTITY_PRIVATE_KEY_PEM",
		"AUTHSOME_UI_SESSION_KEY", "AUTHSOME_UI_SESSION_KEY_FILE",
	} {
		t.Run(name, func(t *testing.T) {
			env, changes := Environment(testSettings("A=1", name+"=theirs", "B=2"))
			if v, ok := toMap(env)[name]; ok {
				t.Errorf("it is still there: %q", v)
			}
			if !slices.ContainsFunc(changes, func(c Change) bool { return c.Name == name && c.Act == "removed" && c.Value == "" && c.Why != "" }) {
				t.Error("no change says so")
			}
			if env[0] != "A=1" || env[1] != "B=2" {
				t.Errorf("the others are %v", env[:2])
			}
		})
	}
}

// What the person needs and what is not ours to judge stays.
func TestEnvironmentKeeps(t *testing.T) {
	for _, kv := range []string{
		"SSL_CERT_DIR=/etc/ssl/certs", "AUTHSOME_HOME=/h", "AUTHSOME_LOG=debug", "JAVA_TOOL_OPTIONS=-Xmx1g",
		"EMPTY=", "MULTI=a\nb", "EQUALS=a=b=", "GIT_SSL_CAPATH=/x", "FTP_PROXY=http://ftp", "odd-name=1", "ÄÖÜ=1",
	} {
		name, value, _ := strings.Cut(kv, "=")
		if got, ok := childOf(testSettings(kv))[name]; !ok || got != value {
			t.Errorf("%s became %q, %v", kv, got, ok)
		}
	}
	if _, ok := childOf(testSettings())["JAVA_TOOL_OPTIONS"]; ok {
		t.Error("JAVA_TOOL_OPTIONS is set")
	}
}

func TestEnvironmentReplacesSecrets(t *testing.T) {
	const real = "sk-proj-REAL"
	s := testSettings("OPENAI_API_KEY="+real, "MY_COPY="+real, "OTHER=fine", "ALL_PROXY="+real)
	s.Placeholders = map[string]string{"OPENAI_API_KEY": authsome.Placeholder}
	s.Leaked = []string{"MY_COPY", "ALL_PROXY", "NOT_THERE"}
	env, changes := Environment(s)
	got := toMap(env)
	for name, want := range map[string]string{"OPENAI_API_KEY": authsome.Placeholder, "MY_COPY": authsome.Placeholder, "OTHER": "fine"} {
		if got[name] != want {
			t.Errorf("%s=%s, want %s", name, got[name], want)
		}
	}
	if _, ok := got["NOT_THERE"]; ok {
		t.Error("a variable that was not there is set")
	}
	for what, text := range map[string]string{"environment": strings.Join(env, "\n"), "changes": fmt.Sprint(changes)} {
		if strings.Contains(text, real) {
			t.Errorf("the real value is in the %s", what)
		}
	}
	if strings.Contains(fmt.Sprint(changes), testToken) {
		t.Error("the token is in the changes")
	}
}

// A definition cannot take the route or the trust over, nor put in what no
// environment can hold.
func TestEnvironmentPrecedence(t *testing.T) {
	s := testSettings()
	clean := childOf(s)
	s.Placeholders = map[string]string{"": "x", "A=B": "x", "NUL": "a\x00b"}
	for name := range clean {
		s.Placeholders[name] = "https://evil.example"
	}
	s.Plan = &Plan{Set: map[string]Setting{"HTTPS_PROXY": {"http://evil.example", "why"}}, Unset: map[string]string{"SSL_CERT_FILE": "why"}}
	if diff := cmp.Diff(clean, childOf(s)); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentAppliesTheProfile(t *testing.T) {
	s := testSettings("ANTHROPIC_API_KEY=sk-ant-real")
	s.Placeholders = map[string]string{"ANTHROPIC_API_KEY": authsome.Placeholder}
	s.Plan = Profile([]string{"claude"}, Facts{OS: "linux", Connected: []string{"anthropic"}})
	got := childOf(s)
	if _, ok := got["ANTHROPIC_API_KEY"]; ok || got["ANTHROPIC_AUTH_TOKEN"] != authsome.Placeholder {
		t.Errorf("ANTHROPIC_API_KEY=%q, ANTHROPIC_AUTH_TOKEN=%q", got["ANTHROPIC_API_KEY"], got["ANTHROPIC_AUTH_TOKEN"])
	}
}

func TestEnvironmentHasEachNameOnce(t *testing.T) {
	env, _ := Environment(testSettings("A=1", "HTTPS_PROXY=x", "A=2", "HTTPS_PROXY=y", "=nameless", "novalue", "B=\x00", "A=3"))
	seen := map[string]int{}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		seen[name]++
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s occurs %d times", name, n)
		}
	}
	if got := toMap(env); got["A"] != "3" || seen["novalue"] != 0 || seen[""] != 0 || seen["B"] != 0 {
		t.Errorf("A=%s of %v", got["A"], seen)
	}
	again, _ := Environment(testSettings("A=1", "HTTPS_PROXY=x", "A=2", "HTTPS_PROXY=y", "=nameless", "novalue", "B=\x00", "A=3"))
	if !slices.Equal(env, again) {
		t.Error("the same parent gives two environments")
	}
}

func TestEnvironmentOnWindows(t *testing.T) {
	s := testSettings(`=C:=C:\work`, "Path=C:\\bin", "https_proxy=http://corp", "All_Proxy=socks5://corp", "Openai_Api_Key=sk-real",
		"authsome_master_key=k", "No_Proxy=corp.example,api.openai.com", `PHP_INI_SCAN_DIR=C:\php`)
	s.OS = "windows"
	s.Placeholders = map[string]string{"OPENAI_API_KEY": authsome.Placeholder}
	env, _ := Environment(s)
	byName := map[string]string{}
	for _, kv := range env[1:] {
		name, value, _ := strings.Cut(kv, "=")
		if _, twice := byName[strings.ToUpper(name)]; twice {
			t.Errorf("%s occurs twice", name)
		}
		byName[strings.ToUpper(name)] = value
	}
	if env[0] != `=C:=C:\work` || byName["PATH"] != `C:\bin` {
		t.Errorf("the first are %q, PATH is %q", env[0], byName["PATH"])
	}
	for name, want := range map[string]string{
		"HTTPS_PROXY": s.Proxy.URL(), "OPENAI_API_KEY": authsome.Placeholder,
		"NO_PROXY": "corp.example,localhost,127.0.0.1,::1,169.254.169.254", "PHP_INI_SCAN_DIR": `C:\php;` + filepath.Join(s.Trust.dir, "php"),
	} {
		if byName[name] != want {
			t.Errorf("%s=%s, want %s", name, byName[name], want)
		}
	}
	for _, name := range []string{"ALL_PROXY", "AUTHSOME_MASTER_KEY"} {
		if v, ok := byName[name]; ok {
			t.Errorf("%s=%s", name, v)
		}
	}
}

// A run inside a run makes the same environment of the outer's.
func TestEnvironmentIsStable(t *testing.T) {
	s := testSettings("PHP_INI_SCAN_DIR=/p", "NO_PROXY=corp.example", "ALL_PROXY=x")
	s.Placeholders = map[string]string{"GH_TOKEN": authsome.Placeholder}
	outer, _ := Environment(s)
	s.Environ = outer
	inner, changes := Environment(s)
	slices.Sort(outer)
	slices.Sort(inner)
	if diff := cmp.Diff(outer, inner); diff != "" {
		t.Error(diff)
	}
	if len(changes) != 0 {
		t.Errorf("it changed %v", changes)
	}
}

func TestChangesAreExact(t *testing.T) {
	s := testSettings("OPENAI_API_KEY=authsome-proxy-managed", "NODE_USE_ENV_PROXY=0", "NO_PROXY=api.openai.com")
	s.Placeholders = map[string]string{"OPENAI_API_KEY": authsome.Placeholder}
	_, changes := Environment(s)
	by := map[string]Change{}
	for _, c := range changes {
		by[c.Name] = c
	}
	if c, ok := by["OPENAI_API_KEY"]; ok {
		t.Errorf("nothing changed, but %+v", c)
	}
	if c := by["NODE_USE_ENV_PROXY"]; c.Act != "replaced" || c.Value != "1" {
		t.Errorf("%+v", c)
	}
	if c := by["HTTPS_PROXY"]; c.Act != "set" || c.Value != "http://authsome:•••@127.0.0.1:4242" {
		t.Errorf("%+v", c)
	}
	if c := by["NO_PROXY"]; !strings.Contains(c.Why, "without api.openai.com") {
		t.Errorf("%+v", c)
	}
}
