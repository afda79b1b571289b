package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// how a client gets to its host through the proxy.
type how string

const (
	byVariables how = "variables"
	byProfile   how = "profile"
	byShim      how = "shim"
	bySetting   how = "setting"
	notReached  how = "no"
)

// client is one row of docs/clients.md, or one cell of the table for Node.
type client struct {
	group string // a heading of the page; "" for what is not on it
	name  string
	node  string // the column, in the table for Node
	lean  bool   // with what other tests install anyway

	from    string // where it comes from: "Debian's curl", "npm's axios"
	version []string
	argv    []string
	env     []string
	screen  *screen // of an agent on a terminal
	host    string  // where its key must arrive; "" is api.openai.com
	want    string  // in its output; "" is "gpt-5"

	expect how
	shim   string   // the one that could be needed
	with   []string // for bySetting: what works
	set    string   // for the page: what that is
	note   string   // for the page
}

// Groups are the headings of the page, in its order. The one for Node has a
// table of its own form.
const (
	agents  = "Agents"
	tools   = "Command-line tools"
	python  = "Python"
	nodejs  = "Node"
	runtime = "Other runtimes"
)

var groups = []string{agents, tools, python, nodejs, runtime}

// The words in braces are replaced by resolve.
const (
	debianPython = "{python}"
	privateURL   = "https://github.com/" + internet.PrivateRepository
)

func table() []client {
	rows := []client{
		{
			group: agents, name: "Codex, `codex exec`", from: "npm's @openai/codex", lean: true, version: []string{"{npm}/codex", "--version"},
			argv: []string{"{npm}/codex", "exec", "--skip-git-repo-check", "hello"}, want: "fake internet says hello", expect: byVariables,
			note: "by WebSocket",
		},
		{
			group: agents, name: "Codex, its screen", from: "npm's @openai/codex", version: []string{"{npm}/codex", "--version"},
			argv: []string{"{npm}/codex"}, screen: codexScreen, want: "fake internet says hello", expect: byProfile,
		},
		{
			group: agents, name: "Claude Code, `claude -p`", from: "npm's @anthropic-ai/claude-code", version: []string{"{clients}/claude", "--version"},
			argv: []string{"{clients}/claude", "-p", "hello"}, host: "api.anthropic.com", want: "fake internet says hello", expect: byVariables,
		},
		{
			group: agents, name: "Claude Code, its screen", from: "npm's @anthropic-ai/claude-code", version: []string{"{clients}/claude", "--version"},
			argv: []string{"{clients}/claude"}, screen: claudeScreen, host: "api.anthropic.com", want: "fake internet says hello", expect: byProfile,
		},
		{
			group: agents, name: "Gemini CLI, `gemini -p`", from: "npm's @google/gemini-cli", version: []string{"{clients}/gemini", "--version"},
			argv: []string{"{clients}/gemini", "-p", "hello"}, host: "generativelanguage.googleapis.com", want: "fake internet says hello", expect: byProfile,
		},
		{
			group: agents, name: "Gemini CLI, its screen", from: "npm's @google/gemini-cli", version: []string{"{clients}/gemini", "--version"},
			argv: []string{"{clients}/gemini"}, screen: geminiScreen, host: "generativelanguage.googleapis.com", want: "fake internet says hello", expect: bySetting, set: "Enter twice at its first start: *Use Gemini API Key* is marked, and the placeholder stands in the field",
		},
		{
			group: agents, name: "OpenCode, `opencode run`", from: "npm's opencode-ai", version: []string{"{clients}/opencode", "--version"},
			argv: []string{"{clients}/opencode", "run", "-m", "openai/gpt-5", "hello"}, want: "fake internet says hello", expect: byVariables,
		},
		{
			group: agents, name: "OpenCode with Anthropic", from: "npm's opencode-ai", version: []string{"{clients}/opencode", "--version"},
			argv: []string{"{clients}/opencode", "run", "-m", "anthropic/claude-sonnet-4-5", "hello"}, host: "api.anthropic.com", want: "fake internet says hello", expect: byVariables,
		},
		{
			group: agents, name: "OpenCode with Gemini", from: "npm's opencode-ai", version: []string{"{clients}/opencode", "--version"},
			argv: []string{"{clients}/opencode", "run", "-m", "google/gemini-2.5-flash", "hello"}, host: "generativelanguage.googleapis.com", want: "fake internet says hello", expect: byProfile,
		},
		{
			group: agents, name: "OpenCode, its screen", from: "npm's opencode-ai", version: []string{"{clients}/opencode", "--version"},
			argv: []string{"{clients}/opencode", "-m", "openai/gpt-5"}, screen: openCodeScreen, want: "fake internet says hello", expect: byVariables,
		},

		{
			group: tools, name: "curl", from: "Debian's curl", lean: true, version: []string{"curl", "--version"},
			argv: []string{"curl", "-fsS", "https://api.openai.com/v1/models", "-H", "Authorization: Bearer authsome-proxy-managed"}, expect: byVariables,
		},
		{
			group: tools, name: "wget", from: "Debian's wget", lean: true, version: []string{"wget", "--version"},
			argv: []string{"wget", "-qO-", "https://api.openai.com/v1/models"}, expect: byVariables,
		},
		{
			group: tools, name: "HTTPie", from: "Debian's httpie", version: []string{"/usr/bin/http", "--version"},
			argv: []string{"/usr/bin/http", "--ignore-stdin", "--body", "https://api.openai.com/v1/models"}, expect: byVariables,
		},
		{
			group: tools, name: "gh", from: "Debian's gh", lean: true, version: []string{"gh", "--version"},
			argv: []string{"gh", "api", "user"}, host: "api.github.com", want: "octocat", expect: byVariables,
		},
		{
			group: tools, name: "git: clone, fetch, push", from: "Debian's git", lean: true, version: []string{"git", "--version"},
			argv: []string{"sh", "-e", "-c", `rm -rf clone; git clone -q ` + privateURL + ` clone; cd clone; date +%N >file; git add file; git commit -qm change; git push -q origin main; git fetch; git log -1 origin/main`},
			host: "github.com", want: "change", expect: byVariables,
		},
		{
			group: tools, name: "Git LFS", from: "Debian's git-lfs", version: []string{"git", "lfs", "--version"},
			argv: []string{"sh", "-e", "-c", `rm -rf lfs again; git clone -q ` + privateURL + ` lfs; cd lfs; git lfs install --local >/dev/null; git lfs track '*.bin' >/dev/null; head -c 20000000 /dev/urandom >a.bin; git add .; git commit -qm large; git push -q origin main; cd ..; GIT_LFS_SKIP_SMUDGE=1 git clone -q ` + privateURL + ` again; cd again; git lfs install --local >/dev/null; git lfs pull; cmp a.bin ../lfs/a.bin && echo the same`},
			host: "github.com", want: "the same", expect: byVariables,
		},
		{
			group: tools, name: "AWS CLI", from: "Debian's awscli", version: []string{"/usr/bin/aws", "--version"}, env: []string{"AWS_DEFAULT_REGION=eu-west-1"},
			argv: []string{"/usr/bin/aws", "sts", "get-caller-identity"}, host: awsHost, want: "user/canary", expect: byVariables, note: "signed again on the way",
		},
		{
			group: tools, name: "pip", from: "Debian's python3-pip", version: []string{debianPython, "-m", "pip", "--version"},
			argv: []string{debianPython, "-m", "pip", "download", "--no-cache-dir", "--no-deps", "-d", "wheels", "--index-url", "https://" + internet.PackagesHost + "/simple/", "hello"},
			host: internet.PackagesHost, want: "Successfully downloaded hello", expect: byVariables, note: "a company's index",
		},
		{
			group: tools, name: "npm", from: "npm", lean: true, version: []string{"npm", "--version"},
			argv: []string{"npm", "view", "hello", "version", "--registry", "https://" + internet.PackagesHost + "/npm/"},
			host: internet.PackagesHost, want: "1.0.0", expect: byVariables, shim: "node", note: "a company's registry",
		},
		{
			group: tools, name: "cargo", from: "Debian's cargo-web", version: []string{"cargo", "--version"}, env: []string{"{rustup}", "CARGO_REGISTRIES_COMPANY_INDEX=sparse+https://" + internet.PackagesHost + "/crates/"},
			argv: []string{"sh", "-e", "-c", `rm -rf crate; mkdir -p crate/src; cd crate; : >src/lib.rs; printf '[package]\nname="a"\n[dependencies]\nhello={version="1",registry="company"}\n' >Cargo.toml; cargo -q generate-lockfile; cat Cargo.lock`},
			host: internet.PackagesHost, want: "checksum", expect: byVariables, note: "a company's registry",
		},
		{
			group: tools, name: "go", from: "Go", lean: true, version: []string{"go", "version"}, env: []string{"GOPROXY=https://" + internet.PackagesHost + "/go", "GONOSUMDB=*", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local"},
			argv: []string{"go", "mod", "download", "-json", "example.com/hello@v1.0.0"},
			host: internet.PackagesHost, want: "v1.0.0", expect: byVariables, note: "a company's module proxy",
		},
	}

	for _, p := range []struct {
		name, from, script, module string
		lean                       bool
		expect                     how
		note                       string
	}{
		{"urllib.request", "Debian's python3", "urllib_request", "", true, byVariables, ""},
		{"http.client", "Debian's python3", "http_client", "", true, byShim, ""},
		{"requests", "Debian's python3-requests", "requests_get", "requests", true, byVariables, ""},
		{"httpx", "Debian's python3-httpx", "httpx_get", "httpx", true, byVariables, ""},
		{"httpx, asynchronous, HTTP/2", "Debian's python3-httpx, python3-h2", "httpx_async", "httpx", false, byVariables, ""},
		{"urllib3", "Debian's python3-urllib3", "urllib3_pool", "urllib3", false, byShim, "`PoolManager`"},
		{"aiohttp", "Debian's python3-aiohttp", "aiohttp_get", "aiohttp", false, byShim, ""},
		{"aiohttp, WebSocket", "Debian's python3-aiohttp", "aiohttp_ws", "aiohttp", false, byShim, ""},
		{"websockets", "Debian's python3-websockets", "websockets_connect", "websockets", false, byShim, ""},
		{"boto3", "Debian's python3-boto3", "boto3_sts", "boto3", false, byVariables, "signed again on the way"},
		{"httplib2", "Debian's python3-httplib2", "httplib2_get", "httplib2", false, byVariables, ""},
		{"PycURL", "Debian's python3-pycurl", "pycurl_get", "pycurl", false, bySetting, ""},
	} {
		ask := []string{debianPython, "-c", "import " + p.module + " as m; print(getattr(m, '__version__', None) or m.version)"}
		if p.module == "" {
			ask = []string{debianPython, "--version"}
		}
		c := client{
			group: python, name: p.name, from: p.from, lean: p.lean, version: ask,
			argv: []string{debianPython, "py/" + p.script + ".py"}, expect: p.expect, shim: "python", note: p.note,
		}
		if p.module == "boto3" {
			c.host, c.want = awsHost, "user/canary"
		}
		if p.expect == bySetting {
			c.with, c.set = append(slices.Clone(c.argv), "set"), "`CAINFO` to `SSL_CERT_FILE`: Debian's is built with GnuTLS, which reads no variable"
		}
		rows = append(rows, c)
	}

	rows = append(rows, nodeRows()...)

	java, javaSet := "{java}", "a `ProxySelector` and an `Authenticator` made of `HTTPS_PROXY`, and `-Djdk.http.auth.tunneling.disabledSchemes=`"
	rows = append(rows,
		client{
			group: runtime, name: "Go net/http", from: "Go", lean: true, version: []string{"go", "version"},
			argv: []string{"{go:other/get.go}"}, expect: byVariables,
		},
		client{
			group: runtime, name: "Bun fetch", from: "npm's bun", version: []string{"{clients}/bun", "--version"},
			argv: []string{"{clients}/bun", "js/fetch.mjs"}, expect: byVariables,
		},
		client{
			group: runtime, name: "Bun https", from: "npm's bun", version: []string{"{clients}/bun", "--version"},
			argv: []string{"{clients}/bun", "js/https.mjs"}, expect: byVariables, shim: "node",
		},
		client{
			group: runtime, name: "Bun WebSocket", from: "npm's bun", version: []string{"{clients}/bun", "--version"},
			argv: []string{"{clients}/bun", "js/websocket.mjs"}, want: "response.completed", expect: bySetting,
			with: []string{"{clients}/bun", "js/websocket.mjs", "set"}, set: "the constructor's option `proxy` to `HTTPS_PROXY`",
		},
		client{
			group: runtime, name: "Deno fetch", from: "npm's deno", version: []string{"{clients}/deno", "--version"},
			argv: []string{"{clients}/deno", "run", "-A", "js/deno.mjs"}, expect: byVariables,
		},
		client{
			group: runtime, name: "Deno WebSocket", from: "npm's deno", version: []string{"{clients}/deno", "--version"},
			argv: []string{"{clients}/deno", "run", "-A", "js/websocket.mjs"}, want: "response.completed", expect: byVariables,
		},
		client{
			group: runtime, name: "Deno node:https", from: "npm's deno", version: []string{"{clients}/deno", "--version"},
			argv: []string{"{clients}/deno", "run", "-A", "js/https.mjs"}, expect: byVariables, shim: "node",
		},
		client{
			group: runtime, name: "Ruby net/http", from: "Debian's ruby", version: []string{"ruby", "--version"},
			argv: []string{"ruby", "other/net_http.rb"}, expect: byVariables,
		},
		client{
			group: runtime, name: "PHP curl", from: "Debian's php-curl", version: []string{"php", "--version"},
			argv: []string{"php", "other/curl.php"}, expect: byVariables,
		},
		client{
			group: runtime, name: "PHP streams", from: "Debian's php-cli", version: []string{"php", "--version"},
			argv: []string{"php", "other/streams.php"}, with: []string{"php", "other/streams.php", "set"}, expect: bySetting,
			set: "`proxy` and a header `Proxy-Authorization` in the stream's context, made of `HTTPS_PROXY`",
		},
		client{
			group: runtime, name: "Perl LWP", from: "Debian's libwww-perl", version: []string{"perl", "-MLWP", "-e", "print LWP->VERSION"},
			argv: []string{"perl", "other/lwp.pl"}, expect: byVariables,
		},
		client{
			group: runtime, name: "Perl HTTP::Tiny", from: "Debian's perl", version: []string{"perl", "-MHTTP::Tiny", "-e", "print HTTP::Tiny->VERSION"},
			argv: []string{"perl", "other/tiny.pl"}, expect: byVariables,
		},
		client{
			group: runtime, name: "Java HttpClient", from: "Debian's default-jdk-headless", version: []string{java, "-version"},
			argv: []string{java, "java/Client.java"}, with: []string{java, "-Djdk.http.auth.tunneling.disabledSchemes=", "java/Client.java", "set"}, expect: bySetting, shim: "java", set: javaSet,
		},
		client{
			group: runtime, name: "Java HttpURLConnection", from: "Debian's default-jdk-headless", version: []string{java, "-version"},
			argv: []string{java, "java/Connection.java"}, with: []string{java, "-Djdk.http.auth.tunneling.disabledSchemes=", "java/Connection.java", "set"}, expect: bySetting, shim: "java", set: "the same",
		},
	)
	for i := range rows {
		if rows[i].host == "" {
			rows[i].host = "api.openai.com"
		}
		if rows[i].want == "" {
			rows[i].want = "gpt-5"
		}
	}
	return rows
}

// nodes are the columns of the table for Node: the package that holds the
// program, and the version.
var nodes = []struct{ pkg, version string }{
	{"node18", "18.20.8"}, {"node20", "20.20.2"}, {"node22-20", "22.20.0"}, {"node22", "22.23.3"}, {"node", "24.21.0"}, {"node25", "25.9.0"},
}

// nodeRows are the scripts of testdata/js on every Node.
func nodeRows() []client {
	scripts := []struct {
		name, script string
		host, want   string
		from         int  // the first major version that has it
		lean         bool // the library is in npm, too
		// Which versions need the shim: those without NODE_USE_ENV_PROXY, all, or
		// none.
		need how
		all  bool
	}{
		{name: "fetch", script: "fetch", lean: true, need: byShim},
		{name: "fetch with a stream, an abort, and 20 at once", script: "fetch-post", want: "all of them", lean: true, need: byShim},
		{name: "https", script: "https", lean: true, need: byShim},
		{name: "https, named imports", script: "https-named", lean: true, need: byShim},
		{name: "https, an agent of the program's own", script: "https-agent", lean: true, need: byShim, all: true},
		{name: "WebSocket", script: "websocket", want: "response.completed", from: 22, lean: true, need: byShim},
		{name: "http2", script: "http2", lean: true, need: notReached, all: true},
		{name: "axios", script: "axios", lean: true, need: byVariables},
		{name: "undici 6", script: "undici6", need: byShim},
		{name: "undici 7", script: "undici", from: 20, need: byShim},
		{name: "undici 8", script: "undici8", from: 22, need: byShim, all: true},
		{name: "got", script: "got", from: 20, need: byShim},
		{name: "ws", script: "ws", want: "response.completed", need: byShim, all: true},
		{name: "node-fetch", script: "node-fetch", need: byShim},
		{name: "openai", script: "openai", want: "fake internet says hello", lean: true, need: byShim},
		{name: "@anthropic-ai/sdk", script: "anthropic", host: "api.anthropic.com", want: "fake internet says hello", need: byShim},
		{name: "@google/genai", script: "genai", host: "generativelanguage.googleapis.com", want: "fake internet says hello", from: 20, need: byShim},
		{name: "@octokit/rest", script: "octokit", host: "api.github.com", want: "octocat", from: 20, need: byShim},
	}
	var rows []client
	for _, s := range scripts {
		for i, n := range nodes {
			if major(n.version) < s.from {
				continue
			}
			native := i >= 3
			c := client{
				group: nodejs, name: s.name, node: n.version, host: s.host, want: s.want, shim: "node",
				version: []string{"{npm-clients:" + n.pkg + "}", "--version"},
				argv:    []string{"{npm-clients:" + n.pkg + "}", "js/" + s.script + ".mjs"}, expect: s.need,
			}
			if native && !s.all && s.need == byShim {
				c.expect = byVariables
			}
			if s.lean {
				c.argv[1] = "lean/" + s.script + ".mjs"
			}
			if n.pkg == "node" {
				c.lean = s.lean
				c.argv[0], c.version[0] = "{npm}/node", "{npm}/node"
				if s.script == "undici8" {
					c.expect = byVariables // its own undici uses the same name
				}
			}
			rows = append(rows, c)
		}
		if s.lean && s.from == 0 && s.need != notReached {
			// Whatever Node the machine has: it works, and that is all.
			rows = append(rows, client{name: "the system's Node, " + s.name, lean: true, want: s.want, argv: []string{"node", "lean/" + s.script + ".mjs"}, expect: byVariables})
		}
	}
	return rows
}

// major is the first number of a version.
func major(version string) (n int) {
	for _, c := range version {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// resolve replaces the words in braces:
//
//	{npm}/NAME, {clients}/NAME  a program of test/npm, of test/npm-clients
//	{npm-clients:PACKAGE}       a Node of its own package there
//	{python}, {java}            Debian's
//	{rustup}                    what a cargo of rustup's needs
//	{go:FILE}                   a program of testdata, built
//
// What is missing fails the test: test/install.sh installs it.
func (c client) resolve(t *testing.T, w *harness.World) client {
	t.Helper()
	abs := func(path string) string {
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := func(word string) string {
		switch {
		case strings.HasPrefix(word, "{npm}/"):
			return abs("../npm/node_modules/.bin/" + word[len("{npm}/"):])
		case strings.HasPrefix(word, "{clients}/"):
			return abs("../npm-clients/node_modules/.bin/" + word[len("{clients}/"):])
		case strings.HasPrefix(word, "{npm-clients:"):
			return abs("../npm-clients/node_modules/" + strings.TrimSuffix(word[len("{npm-clients:"):], "}") + "/bin/node")
		case word == "{python}":
			if _, err := os.Stat("/usr/bin/python3"); err == nil {
				return "/usr/bin/python3"
			}
			return "python3"
		case word == "{java}":
			return "java"
		case word == "{rustup}":
			if home, err := os.UserHomeDir(); err == nil {
				return "RUSTUP_HOME=" + filepath.Join(home, ".rustup")
			}
			return "RUSTUP_HOME="
		case strings.HasPrefix(word, "{go:"):
			source := strings.TrimSuffix(word[len("{go:"):], "}")
			program := filepath.Join(w.Dir, strings.TrimSuffix(filepath.Base(source), ".go"))
			build := exec.Command("go", "build", "-o", program, abs(filepath.Join("testdata", source)))
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return program
		}
		return word
	}
	words := func(list []string) []string {
		list = slices.Clone(list)
		for i := range list {
			list[i] = one(list[i])
		}
		return list
	}
	c.argv, c.with, c.version, c.env = words(c.argv), words(c.with), words(c.version), words(c.env)
	if len(c.argv) > 0 {
		if _, err := exec.LookPath(c.argv[0]); err != nil {
			if _, derr := os.Stat("/etc/debian_version"); derr == nil {
				t.Fatalf("%s, from %s, is missing: run test/install.sh --clients", c.argv[0], c.from)
			}
			t.Skipf("%s is missing", c.argv[0])
		}
	}
	return c
}
