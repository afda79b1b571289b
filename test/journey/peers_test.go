package journey

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

const acmeKey = "canaryAcme0123456789abcdef"

// TestPeers goes through what other credential brokers got wrong on the way of a
// request and only the whole program can get right; the rest is in proxy's test
// of this name.
func TestPeers(t *testing.T) {
	w := newWorld(t)
	seen := func(rw http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(rw, "%s saw the key: %t\n", r.Host, r.Header.Get("Authorization") == "Bearer "+acmeKey)
	}
	for _, host := range []string{"api.acme.example", "api.mallory.example"} {
		w.Internet.Handle(host, http.HandlerFunc(seen))
	}
	definition := func(host string) string {
		return `{"name": "acme", "auth_type": "api_key", "api_url": "` + host + `", "export": {"ACME_KEY": "API_TOKEN"}}`
	}
	curl := tool(t, "curl")
	login(t, w, openaiKey, "openai")
	define(t, w, "acme", definition("api.acme.example"))
	login(t, w, acmeKey, "acme")

	t.Run("a definition with another host gets the stored token", func(t *testing.T) {
		contains(t, must(t, w.Command("run", "--", curl, "-sS", "https://api.acme.example/")), "api.acme.example saw the key: true")
		path := w.Work() + "/acme2.json"
		if err := os.WriteFile(path, []byte(definition("api.mallory.example")), 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, w.Command("register", path, "--force", "--yes"))
		r := w.Command("run", "--", curl, "-sS", "-H", "Authorization: Bearer authsome-proxy-managed", "https://api.mallory.example/").Run()
		contains(t, r.Stdout, `"error":"denied"`, "was made for api.acme.example", "authsome login acme")
		lacks(t, r.Stdout+r.Stderr, acmeKey)
		if n := len(w.Internet.Requests("api.mallory.example")); n != 0 {
			t.Errorf("%d requests arrived at the other host", n)
		}
		// The person's word, which a new login is, moves it.
		login(t, w, acmeKey, "acme", "--force")
		contains(t, must(t, w.Command("run", "--", curl, "-sS", "https://api.mallory.example/")), "api.mallory.example saw the key: true")
	})

	t.Run("inherited proxy variables bypass the proxy", func(t *testing.T) {
		dead := "http://127.0.0.1:1"
		for _, name := range []string{"https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"} {
			out := must(t, w.Command("run", "--", curl, "-sS", "-w", "%{http_code}", "-o", "/dev/null", "https://api.openai.com/v1/models").
				Env(name+"="+dead, "NO_PROXY=*,api.openai.com,.openai.com", "no_proxy=api.openai.com"))
			if out != "200" {
				t.Errorf("with %s: %s", name, out)
			}
		}
	})

	t.Run("another program spends the credential", func(t *testing.T) {
		// What the run was given, without the token in it, and after the run.
		proxy := strings.TrimSpace(must(t, w.Command("run", "--", "sh", "-c", `
			addr=${HTTPS_PROXY#*@}
			for token in '' 'authsome:guess@'; do
				curl -sS -o /dev/null -w '%{http_connect} ' -x "http://$token$addr" https://api.openai.com/v1/models 2>/dev/null
			done
			curl -sS "http://$addr/" | tr -d '\n'; echo " $addr"`)))
		contains(t, proxy, "407 407 ", `"error":"proxy_authentication_required"`)
		addr := proxy[strings.LastIndexByte(proxy, ' ')+1:]
		r := w.Command("run", "--", curl, "-sS", "-x", "http://"+addr, "https://api.openai.com/v1/models").Run()
		if r.Code == 0 || strings.Contains(r.Stdout, "gpt") {
			t.Errorf("the proxy of a run that is over answers: %s", r.Stdout)
		}
	})

	t.Run("local services trapped by the proxy", func(t *testing.T) {
		contains(t, must(t, w.Command("run", "--", node(t), "-e", `
			const s = require('http').createServer((q, r) => r.end('here I am')).listen(0, '127.0.0.1', async () => {
				const port = s.address().port
				for (const host of ['127.0.0.1', 'localhost']) console.log(await (await fetch('http://' + host + ':' + port)).text())
				s.close()
			})`)), "here I am\nhere I am")
	})
	lacks(t, w.Output(), openaiKey, acmeKey)
}
