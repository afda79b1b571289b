package journey

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// connected is a world with everything logged in that the clients use.
func connected(t *testing.T) *harness.World {
	t.Helper()
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	login(t, w, anthropicKey, "anthropic")
	login(t, w, personalKey, "github", "--connection", "personal")
	login(t, w, workKey, "github", "--connection", "work")
	return w
}

// TestPlaceholders looks at what an agent sees of the environment.
func TestPlaceholders(t *testing.T) {
	t.Parallel()
	w := connected(t)
	out := must(t, w.Command("run", "--", "env").Env("OPENAI_API_KEY="+openaiKey, "MY_OWN_COPY="+openaiKey, "ALL_PROXY=http://elsewhere:1", "NO_PROXY=*,api.openai.com,intranet.example"))
	env := map[string]string{}
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[k] = v
	}
	for _, k := range []string{"OPENAI_API_KEY", "CODEX_API_KEY", "GITHUB_TOKEN", "GH_TOKEN", "ANTHROPIC_API_KEY", "MY_OWN_COPY"} {
		if env[k] != "authsome-proxy-managed" {
			t.Errorf("%s = %q", k, env[k])
		}
	}
	lacks(t, out, openaiKey, anthropicKey, personalKey, workKey)
	for _, k := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		if !strings.HasPrefix(env[k], "http://") || !strings.Contains(env[k], "@127.0.0.1:") {
			t.Errorf("%s is not the proxy", k)
		}
	}
	if _, ok := env["ALL_PROXY"]; ok {
		t.Error("an inherited ALL_PROXY goes round the proxy")
	}
	if env["NO_PROXY"] != env["no_proxy"] || strings.Contains(env["NO_PROXY"], "*") || strings.Contains(env["NO_PROXY"], "openai") {
		t.Errorf("NO_PROXY = %q, no_proxy = %q", env["NO_PROXY"], env["no_proxy"])
	}
	contains(t, env["NO_PROXY"], "intranet.example", "127.0.0.1", "localhost")
	if env["AUTHSOME_PROXY_MODE"] != "true" {
		t.Error("AUTHSOME_PROXY_MODE is not set")
	}
}

// TestClients runs one request of each real client; api.openai.com and
// api.github.com answer 401 to all but the real key.
func TestClients(t *testing.T) {
	t.Parallel()
	w := connected(t)
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		python = tool(t, "python3")
	}
	models := "https://api.openai.com/v1/models"
	npm, err := filepath.Abs("../npm")
	if err != nil {
		t.Fatal(err)
	}
	script := func(name, text string) string {
		path := filepath.Join(w.Work(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	js := func(name, text string) []string {
		return []string{node(t), script(name, "const require = (await import('module')).createRequire('"+npm+"/');\n"+text)}
	}
	tests := []struct {
		name string
		argv []string
		want string
	}{
		{"gh api user", []string{tool(t, "gh"), "api", "user"}, "octocat"},
		{"curl h2", []string{tool(t, "curl"), "-fsS", "--http2", "-w", "by HTTP/%{http_version}", models, "-H", "Authorization: Bearer authsome-proxy-managed"}, "by HTTP/2"},
		{"curl h1, no header of its own", []string{tool(t, "curl"), "-sS", "--http1.1", models}, "gpt-5"},
		{"wget", []string{tool(t, "wget"), "-qO-", models}, "gpt-5"},
		{"Python urllib", []string{python, "-c", "import urllib.request; print(urllib.request.urlopen('" + models + "').read().decode())"}, "gpt-5"},
		{"Python requests", []string{python, "-c", "import os, requests; print(requests.get('" + models + "', headers={'Authorization': 'Bearer ' + os.environ['OPENAI_API_KEY']}).text)"}, "gpt-5"},
		{"Python httpx", []string{python, "-c", "import httpx; print(httpx.get('" + models + "').text)"}, "gpt-5"},
		{"Python with an embedded loop", []string{python, "-c", "import requests\ns = requests.Session()\nprint([s.get('" + models + "').status_code for _ in range(5)])"}, "[200, 200, 200, 200, 200]"},
		{"Node fetch", js("fetch.mjs", "console.log(await (await fetch('"+models+"')).text())"), "gpt-5"},
		{"Node http to itself", js("loop.mjs", "const http = require('http'); const s = http.createServer((q, r) => r.end('loop')).listen(0, '127.0.0.1', () => http.get({port: s.address().port, host: '127.0.0.1'}, r => { r.pipe(process.stdout); s.close() }))"), "loop"},
		{"Node https", js("https.mjs", "const https = require('https'); https.get('"+models+"', r => r.pipe(process.stdout))"), "gpt-5"},
		{"axios", js("axios.mjs", "console.log(JSON.stringify((await require('axios').get('"+models+"')).data))"), "gpt-5"},
		{"axios on the system's Node", append([]string{installed(t, "node")}, js("axios.mjs", "console.log(JSON.stringify((await require('axios').get('"+models+"')).data))")[1:]...), "gpt-5"},
		{"openai SDK", js("sdk.mjs", "const OpenAI = require('openai').default; const r = await new OpenAI().chat.completions.create({model:'gpt-5', messages:[{role:'user',content:'hi'}]}); console.log(r.choices[0].message.content)"), "fake internet says hello"},
		{"openai SDK, streaming", js("sse.mjs", "const OpenAI = require('openai').default; for await (const c of await new OpenAI().chat.completions.create({model:'gpt-5', stream:true, messages:[]})) process.stdout.write(c.choices[0].delta.content ?? '')"), "fake internet says hello"},
		{"Anthropic by bearer placeholder", []string{tool(t, "curl"), "-sS", "https://api.anthropic.com/v1/messages", "-H", "Authorization: Bearer authsome-proxy-managed", "-d", "{}"}, "fake internet says hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := w.Command(append([]string{"run", "--"}, tt.argv...)...).Run()
			if r.Code != 0 || !strings.Contains(r.Stdout, tt.want) {
				t.Errorf("exit code %d, %q is not in\n%s\n%s", r.Code, tt.want, r.Stdout, r.Stderr)
			}
			lacks(t, r.Stdout+r.Stderr, openaiKey, personalKey, anthropicKey)
		})
	}
}

// TestAccounts chooses between two accounts: the default, the run's choice, and
// one that login --force moved the default to.
func TestAccounts(t *testing.T) {
	t.Parallel()
	gh := tool(t, "gh")
	w := connected(t)
	who := func(args ...string) string {
		return must(t, w.Command(append(append([]string{"run"}, args...), "--", gh, "api", "user")...))
	}
	contains(t, who(), "octocat")
	contains(t, who("--connection", "github=work"), "hubot")
	login(t, w, workKey, "github", "--connection", "work", "--force")
	contains(t, who(), "hubot")
	must(t, w.Command("set-default", "github", "personal"))
	contains(t, who(), "octocat")
	if r := w.Command("run", "--connection", "github=nobody", "--", "true").Run(); r.Code != 3 {
		t.Errorf("an unknown connection: exit code %d\n%s", r.Code, r.Stderr)
	}
}

// TestGit works on a private repository with the real git, and leaves a public
// one anonymous.
func TestGit(t *testing.T) {
	t.Parallel()
	git := tool(t, "git")
	w := connected(t)
	run := func(args ...string) string {
		t.Helper()
		return must(t, w.Command(append([]string{"run", "--", git}, args...)...))
	}
	private, public := "https://github.com/"+internet.PrivateRepository, "https://github.com/"+internet.PublicRepository
	contains(t, run("ls-remote", private), "refs/heads/main")
	run("clone", "-q", private, "secret")
	for name, size := range map[string]int{"small": 10, "large": 8 << 20} {
		if err := os.WriteFile(filepath.Join(w.Work(), "secret", name), []byte(strings.Repeat("x"+name, size/6)), 0o600); err != nil {
			t.Fatal(err)
		}
		run("-C", "secret", "add", ".")
		run("-C", "secret", "commit", "-q", "-m", name)
		run("-C", "secret", "-c", "http.postBuffer=65536", "push", "-q", "origin", "main")
	}
	for _, q := range w.Internet.Requests("github.com") {
		if a := q.Header.Get("Authorization"); a != "" && a != internet.BasicToken(personalKey) {
			t.Errorf("%s %s came with another credential", q.Method, q.Path)
		}
		if q.Method == "POST" && strings.HasSuffix(q.Path, "git-receive-pack") && q.Header.Get("Authorization") == "" {
			t.Error("a push went out without a credential though its repository had challenged")
		}
	}
	w.Internet.Forget()
	run("clone", "-q", public, "public")
	for _, q := range w.Internet.Requests("github.com") {
		if q.Header.Get("Authorization") != "" {
			t.Errorf("the public repository was fetched with a credential: %s", q.Path)
		}
	}
	if r := w.Command("run", "--", git, "ls-remote", "https://github.com/acme/missing").Run(); r.Code == 0 {
		t.Error("a repository that does not exist was listed")
	}
}

// TestExport is the way without a proxy: the key really reaches a child of the
// person's own shell.
func TestExport(t *testing.T) {
	t.Parallel()
	w := connected(t)
	sh := tool(t, "sh")
	script := `eval "$("$0" export openai --format "$1" 2>/dev/null)"; exec env`
	for _, format := range []string{"env", "shell"} {
		cmd := exec.Command(sh, "-c", script, binary, format)
		cmd.Env, cmd.Dir = w.Environ(), w.Work()
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		contains(t, string(out), "OPENAI_API_KEY="+openaiKey, "CODEX_API_KEY="+openaiKey)
	}
	contains(t, must(t, w.Command("export", "openai", "--format", "dotenv")), "OPENAI_API_KEY="+openaiKey+"\n")
	var doc struct{ Credentials map[string]string }
	if err := json.Unmarshal([]byte(must(t, w.Command("export", "--format", "json"))), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Credentials["OPENAI_API_KEY"] != openaiKey || doc.Credentials["GH_TOKEN"] != personalKey || doc.Credentials["GH_TOKEN_GITHUB_WORK"] != workKey {
		t.Error("export of everything lacks something")
	}

	// And Codex and Python work with it, the network as it is.
	codex := tool(t, "codex")
	cmd := exec.Command(sh, "-c", `eval "$("$0" export openai --format env)"; exec "$1" exec --skip-git-repo-check hello`, binary, codex)
	cmd.Env, cmd.Dir = w.Environ("HTTPS_PROXY="+w.Internet.Proxy(), "CODEX_CA_CERTIFICATE="+w.Root()), w.Work()
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "fake internet says hello") {
		t.Errorf("codex with the exported key: %v\n%s", err, out)
	}
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		python = tool(t, "python3")
	}
	cmd = exec.Command(sh, "-c", `eval "$("$0" export openai --format env)"; exec "$1" -c "
import os, requests
print(requests.get('https://api.openai.com/v1/models', headers={'Authorization': 'Bearer ' + os.environ['OPENAI_API_KEY']}).text)"`, binary, python)
	cmd.Env, cmd.Dir = w.Environ("HTTPS_PROXY="+w.Internet.Proxy(), "REQUESTS_CA_BUNDLE="+w.Root()), w.Work()
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), "gpt-5") {
		t.Errorf("Python with the exported key: %v\n%s", err, out)
	}
}

// TestInsideARun: what gives a person plaintext is refused to an agent.
func TestInsideARun(t *testing.T) {
	w := connected(t)
	definition := filepath.Join(w.Work(), "openai.json")
	if err := os.WriteFile(definition, []byte(`{"schema_version":1,"name":"openai","auth_type":"api_key","flow":"api_key","api_url":"evil.example.com"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"export", "openai"},
		{"export", "openai", "--format", "json"},
		{"get", "openai", "--show-secret"},
		{"register", definition, "--force", "--yes"},
		{"daemon", "stop"},
		{"daemon", "restart"},
	} {
		// Without the variables of the run, as an agent would try it.
		argv := append([]string{"run", "--", "env", "-u", "AUTHSOME_PROXY_MODE", "-u", "HTTPS_PROXY", binary}, args...)
		r := w.Command(argv...).Run()
		if r.Code == 0 {
			t.Errorf("authsome %s works inside a run", strings.Join(args, " "))
		}
		lacks(t, r.Stdout+r.Stderr, openaiKey)
	}
	// In the background, with its parent gone, it is still inside.
	out := filepath.Join(w.Work(), "orphan")
	must(t, w.Command("run", "--", "sh", "-c", "(setsid sh -c 'sleep 0.3; \""+binary+"\" export openai >"+out+" 2>&1; echo $? >>"+out+"' &) ; sleep 1.5"))
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(data), "\n4\n") {
		t.Errorf("an orphan inside a run: %s", data)
	}
	lacks(t, string(data), openaiKey)
	// Listing is fine.
	contains(t, must(t, w.Command("run", "--", binary, "list", "--json")), `"personal"`)
	log := must(t, w.Command("log", "--json", "-n", "100000"))
	contains(t, log, "operation.denied")
}
