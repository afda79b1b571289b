package launch

import (
	"maps"
	"slices"
	"strings"

	"github.com/authsome/authsome"
)

// Settings are what a child's environment is made of.
type Settings struct {
	Environ []string // the parent's, as os.Environ gives it
	OS      string   // runtime.GOOS; on Windows names are folded
	Proxy   Proxy
	Trust   *Trust
	// Placeholders are the variables of the connected providers with their
	// values, none of which is a secret.
	Placeholders map[string]string
	// Leaked are the variables of the parent that hold a stored secret.
	Leaked []string
	// Hosts are the routed host patterns, with ":port" where it is not 443.
	Hosts []string
	// Plan is what the agent's profile adds; nil for none.
	Plan *Plan
	// WithoutShims are the names of those that are switched off.
	WithoutShims []string
}

// Change is one difference between the parent's environment and the child's,
// for people.
type Change struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"` // the token is masked; "" when removed
	Act   string `json:"act"`             // "set", "replaced" or "removed"
	Why   string `json:"why"`
}

// routeNames are read by clients to find their proxy. Both spellings are
// needed: wget and curl (for http) read the lower one only, others the upper.
var routeNames = []string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"}

var noProxyNames = []string{"NO_PROXY", "no_proxy"}

// switches make clients look at the variables above that otherwise do not.
// NODE_USE_ENV_PROXY works from Node 22.21 and does no harm before;
// NODE_OPTIONS=--use-env-proxy is no alternative, since an older Node ends at
// once.
var switches = []string{"NODE_USE_ENV_PROXY", "PERL_LWP_ENV_PROXY"}

// bypasses are names, in lower case, of variables that outrank the proxy
// variables in some client, or that carry schemes of their own round them. A
// person who has them set means their own way out, which for a routed host is
// the daemon's business now. They are removed in every spelling.
var bypasses = map[string]bool{
	// ALL_PROXY is what curl, Codex, axios and Python fall back to; together
	// with the others it wins for schemes that those do not name (wss, socks).
	"all_proxy": true, "socks_proxy": true, "socks5_proxy": true, "ws_proxy": true, "wss_proxy": true,
	// gRPC's C core looks at these first.
	"grpc_proxy": true, "no_grpc_proxy": true,
	// npm and what it starts, axios among them, prefer npm's own settings.
	"npm_config_proxy": true, "npm_config_http_proxy": true, "npm_config_https_proxy": true,
	"npm_config_noproxy": true, "npm_config_no_proxy": true,
	"yarn_proxy": true, "yarn_http_proxy": true, "yarn_https_proxy": true,
	"global_agent_http_proxy": true, "global_agent_https_proxy": true, "global_agent_no_proxy": true,
	"cargo_http_proxy": true, "pip_proxy": true,
	"cloudsdk_proxy_address": true, "cloudsdk_proxy_port": true, "cloudsdk_proxy_type": true,
	"cloudsdk_proxy_username": true, "cloudsdk_proxy_password": true,
}

// replacing name a file that takes the place of a client's own roots, so it
// holds those as well.
var replacing = []string{
	"SSL_CERT_FILE",                      // OpenSSL, Go, rustls, Bun, Ruby, httpx
	"CODEX_CA_CERTIFICATE",               // Codex, before SSL_CERT_FILE
	"REQUESTS_CA_BUNDLE",                 // Python's requests, botocore, pip
	"CURL_CA_BUNDLE",                     // curl, requests
	"GIT_SSL_CAINFO",                     // git, whose libcurl reads no other
	"AWS_CA_BUNDLE",                      // aws, boto3
	"PIP_CERT",                           // pip
	"NPM_CONFIG_CAFILE",                  // npm, also where an npmrc has a cafile
	"CARGO_HTTP_CAINFO",                  // cargo
	"PERL_LWP_SSL_CA_FILE",               // LWP, which does not read SSL_CERT_FILE
	"NIX_SSL_CERT_FILE",                  // programs from Nix
	"HTTPLIB2_CA_CERTS",                  // httplib2
	"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",   // gRPC's C core
	"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", // gcloud
}

// appending name a file that a client reads beside its own roots.
var appending = []string{
	"NODE_EXTRA_CA_CERTS", // Node, Bun, Claude Code
	"DENO_CERT",           // Deno
}

// otherSpellings are presets under names that are read in any case, or that a
// client falls back to. Their certificates are taken over and they are removed,
// so that they cannot outrank ours.
var otherSpellings = []string{"npm_config_cafile", "HTTPS_CA_FILE"}

// kept secret from the child by prefix: who has the master key can open the
// vault, and who has an identity key can be the person.
var ownSecrets = []string{"AUTHSOME_MASTER_KEY", "AUTHSOME_IDENTITY_PRIVATE_KEY", "AUTHSOME_UI_SESSION_KEY"}

// proxyModeName tells a program that it is inside a run. The Python authsome
// sets it, so scripts look for it.
const proxyModeName = "AUTHSOME_PROXY_MODE"

// Environment makes the child's environment and says what it changed.
//
// The order is fixed: first what the parent has and the child keeps, in the
// parent's order; then the placeholders by name, what the profile sets by name,
// the route, the trust, and the mark of a run. Later ones win, so that no
// provider definition and no profile can move the route or the trust. No name
// occurs twice.
func Environment(s Settings) ([]string, []Change) {
	parent := parse(s.Environ, s.OS)
	c := &changes{child: parse(s.Environ, s.OS), parent: parent}

	c.child.each(func(name, _ string) {
		lower := strings.ToLower(name)
		switch {
		case hasOwnSecret(name, parent.fold):
			c.remove(name, "a key of authsome's own")
		case bypasses[lower]:
			c.remove(name, "would lead some clients round the proxy")
		case isRouteName(lower) && !slices.Contains(routeNames, name) && !slices.Contains(noProxyNames, name):
			c.remove(name, "another spelling of a proxy variable")
		case lower == "npm_config_cafile" && name != "NPM_CONFIG_CAFILE" || name == "HTTPS_CA_FILE":
			c.remove(name, "its certificates are in the bundle")
		}
	})

	for _, name := range slices.Sorted(slices.Values(s.Leaked)) {
		if _, ok := c.child.get(name); ok {
			c.set(name, authsome.Placeholder, "held a secret that authsome stores")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Placeholders)) {
		if usable(name, s.Placeholders[name]) {
			c.set(name, s.Placeholders[name], "stands for a connection")
		}
	}
	if p := s.Plan; p != nil {
		for _, name := range slices.Sorted(maps.Keys(p.Set)) {
			c.set(name, p.Set[name].Value, p.Set[name].Why)
		}
		for _, name := range slices.Sorted(maps.Keys(p.Unset)) {
			c.remove(name, p.Unset[name])
		}
	}

	for _, name := range routeNames {
		c.setMasked(name, s.Proxy.URL(), s.Proxy.String(), "the proxy of this run")
	}
	var theirs []string
	for _, name := range noProxyNames {
		if v, ok := parent.get(name); ok && !slices.Contains(theirs, v) {
			theirs = append(theirs, v)
		}
	}
	merged, dropped := noProxy(theirs, s.Hosts)
	why := "what stays on this machine"
	if len(dropped) > 0 {
		why += "; without " + strings.Join(dropped, ", ") + ", which would go round the proxy"
	}
	for _, name := range noProxyNames {
		c.set(name, merged, why)
	}
	for _, name := range switches {
		c.set(name, "1", "makes the proxy variables count")
	}

	if t := s.Trust; t != nil {
		for _, name := range replacing {
			c.set(name, t.Bundle(), "your roots and this installation's")
		}
		for _, name := range appending {
			c.set(name, t.Authority(), "this installation's root, beside the client's own")
		}
		c.set("WGETRC", t.Wgetrc(), "wget reads no variable for roots")
		dirs, _ := parent.get("PHP_INI_SCAN_DIR")
		c.set("PHP_INI_SCAN_DIR", phpDirs(dirs, t.PHP(), s.OS), "PHP's curl reads no variable for roots")
	}
	c.shims(s)
	c.set(proxyModeName, "true", "marks what is inside a run")
	return c.child.environ(), c.list(s.Proxy)
}

// isRouteName takes a name in lower case.
func isRouteName(lower string) bool {
	return lower == "http_proxy" || lower == "https_proxy" || lower == "no_proxy"
}

func hasOwnSecret(name string, fold bool) bool {
	if fold {
		name = strings.ToUpper(name)
	}
	return slices.ContainsFunc(ownSecrets, func(p string) bool { return strings.HasPrefix(name, p) })
}

// usable keeps out of the environment what the system would not take, or take
// for something else.
func usable(name, value string) bool {
	return name != "" && !strings.ContainsAny(name, "=\x00") && !strings.Contains(value, "\x00")
}

// phpDirs adds our directory to PHP_INI_SCAN_DIR. An empty element, which an
// unset variable amounts to, stands for the directory that was compiled in.
func phpDirs(preset, ours, goos string) string {
	sep := string(listSeparator(goos))
	dirs := strings.Split(preset, sep)
	dirs = slices.DeleteFunc(dirs, func(d string) bool {
		// One of an outer run, or of one that is over.
		return d == ours || inTrust(d, phpDir)
	})
	if len(dirs) == 0 {
		dirs = []string{""}
	}
	return strings.Join(append(dirs, ours), sep)
}

// changes records what is done to the child's environment.
type changes struct {
	parent *variables
	child  *variables
	why    map[string]string // by key
	masked map[string]string // by key
	order  []string          // keys, as they were first touched
}

func (c *changes) note(name, why string) {
	if c.why == nil {
		c.why, c.masked = map[string]string{}, map[string]string{}
	}
	k := c.child.key(name)
	if _, ok := c.why[k]; !ok {
		c.order = append(c.order, k)
	}
	c.why[k] = why
	delete(c.masked, k)
}

func (c *changes) set(name, value, why string) {
	c.child.move(name, value)
	c.note(name, why)
}

func (c *changes) setMasked(name, value, shown, why string) {
	c.set(name, value, why)
	c.masked[c.child.key(name)] = shown
}

func (c *changes) remove(name, why string) {
	if _, ok := c.child.get(name); ok {
		c.child.remove(name)
		c.note(name, why)
	}
}

// list gives the differences that remain: a variable that had its value before
// is none.
func (c *changes) list(proxy Proxy) []Change {
	var out []Change
	for _, k := range c.order {
		was, had := c.parent.values[k]
		is, has := c.child.values[k]
		if had == has && was == is {
			continue
		}
		ch := Change{Name: c.child.names[k], Value: is, Act: "set", Why: c.why[k]}
		if shown, ok := c.masked[k]; ok {
			ch.Value = shown
		}
		if proxy.Token != "" {
			// A person's own value (NO_PROXY) is merged, not chosen, by us.
			ch.Value = strings.ReplaceAll(ch.Value, proxy.Token, "•••")
		}
		switch {
		case !has:
			ch.Name, ch.Act = c.parent.names[k], "removed"
		case had:
			ch.Act = "replaced"
		}
		out = append(out, ch)
	}
	return out
}
