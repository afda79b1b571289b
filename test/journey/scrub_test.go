package journey

import (
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const echoDefinition = `{
  "name": "echo", "auth_type": "api_key",
  "routes": [{"host": "api.echo.example", "inject": [{"header": "Authorization", "value": "Bearer {token}"}]}]
}`

// TestAnswersDoNotTellTheKey: a service that echoes requests tells real clients
// nothing, and it is on record that it tried; a run that wants everything gets
// it.
func TestAnswersDoNotTellTheKey(t *testing.T) {
	const key = "canaryEcho-0123456789/abc+def="
	w := newWorld(t)
	w.Internet.Handle("api.echo.example", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		if auth != "Bearer "+key {
			http.Error(rw, "no key", http.StatusUnauthorized)
			return
		}
		rw.Header().Set("X-Saw", auth)
		text := fmt.Sprintf("you sent %s, or %s", auth, base64.StdEncoding.EncodeToString([]byte("user:"+key)))
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			_, _ = z.Write([]byte(text))
			_ = z.Close()
			return
		}
		_, _ = rw.Write([]byte(text))
	}))
	define(t, w, "echo", echoDefinition)
	login(t, w, key, "echo")
	curl, python := tool(t, "curl"), tool(t, "python3")
	for _, args := range [][]string{
		{curl, "-sSi", "https://api.echo.example/"},
		{curl, "-sSi", "--compressed", "https://api.echo.example/"},
		{curl, "-sSi", "--http1.1", "https://api.echo.example/"},
		{python, "-c", "import urllib.request as u; r = u.urlopen('https://api.echo.example/'); print(r.headers, r.read())"},
	} {
		r := w.Command(append([]string{"run", "--"}, args...)...).Run()
		contains(t, r.Stdout, "you sent Bearer ******************************, or ")
		lacks(t, r.Stdout+r.Stderr, "canaryEcho", base64.StdEncoding.EncodeToString([]byte("user:" + key))[8:40])
	}
	r := w.Command("log", "--json", "-n", "100000").Run()
	contains(t, r.Stdout, "proxy.scrubbed", "the answer held the credential")
	lacks(t, r.Stdout, "canaryEcho")

	r = w.Command("run", "--no-scrub", "--", curl, "-sS", "https://api.echo.example/").Run()
	contains(t, r.Stdout, "you sent Bearer "+key)
}
