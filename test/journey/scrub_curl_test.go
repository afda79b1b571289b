package journey

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// tellKey is the key of a service that tells it in every part of its answers.
const tellKey = "sk-canary-tell-0123456789abcdef"

// teller is that service. What a child asks for is the path, and the parameter
// coding of its query.
type teller struct {
	t     *testing.T
	acked chan struct{} // of events
}

// inCoding encodes a text of less than 64 KB. For br and zstd it is one block that is
// not compressed: RFC 7932, section 9.2, and RFC 8878, section 3.1.1.
func inCoding(coding, text string) []byte {
	var b bytes.Buffer
	n := len(text)
	switch coding {
	case "gzip":
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
	case "deflate":
		z := zlib.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
	case "br": // a window of 64 KB; not the last; four nibbles of length; uncompressed; then an empty last one
		head := (n-1)<<4 | 1<<20
		_, _ = b.Write([]byte{byte(head), byte(head >> 8), byte(head >> 16)})
		_, _ = b.WriteString(text + "\x03")
	case "zstd": // a window of 64 KB; the last block, raw
		head := n<<3 | 1
		_, _ = b.WriteString("\x28\xb5\x2f\xfd\x00\x30")
		_, _ = b.Write([]byte{byte(head), byte(head >> 8), byte(head >> 16)})
		_, _ = b.WriteString(text)
	default:
		_, _ = b.WriteString(text)
	}
	return b.Bytes()
}

func (s *teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if key != tellKey {
		http.Error(w, "no key", http.StatusUnauthorized)
		return
	}
	text := fmt.Sprintf("you sent %s, or %s", key, base64.StdEncoding.EncodeToString([]byte("user:"+key)))
	switch r.URL.Path {
	case "/coding":
		if coding := r.URL.Query().Get("coding"); coding != "identity" {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), coding) {
				s.t.Errorf("the service was not asked for %s: %q", coding, r.Header["Accept-Encoding"])
			}
			w.Header().Set("Content-Encoding", coding)
		}
		w.Header().Set("Etag", `"1"`)
		_, _ = w.Write(inCoding(r.URL.Query().Get("coding"), text))
	case "/line": // what net/http does not say
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			s.t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = fmt.Fprintf(c, "HTTP/1.1 103 Hints\r\nLink: <%[1]s>\r\n\r\nHTTP/1.1 202 %[1]s\r\nX-Saw: Bearer %[1]s\r\nX-%[1]s: a name\r\nTrailer: X-Last\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"a\r\n%.10[1]s\r\n%[2]x\r\n%[3]s\r\n0\r\nX-Last: %[1]s\r\n\r\n", key, len(key)-10, key[10:])
	case "/part":
		if r.Header.Get("Range") == "" || strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && !s.unscrubbed(r) {
			s.t.Errorf("Range %q, Accept-Encoding %q", r.Header["Range"], r.Header["Accept-Encoding"])
		}
		http.ServeContent(w, r, "part.txt", time.Unix(0, 0), strings.NewReader("0123456789"+text))
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d %s\n\n", i, key)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-s.acked: // only then goes the next one
			case <-r.Context().Done():
				return
			}
		}
	case "/ack":
		s.acked <- struct{}{}
	case "/socket":
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		m, _ := c.Writer(r.Context(), websocket.MessageText)
		_, _ = io.WriteString(m, "offered "+r.Header.Get("Sec-Websocket-Extensions")+"; you sent "+key[:9])
		_, _ = io.WriteString(m, key[9:])
		_ = m.Close()
		_ = c.Close(4001, "bad key "+key)
	}
}

// unscrubbed reports whether a request says that its run has everything.
func (s *teller) unscrubbed(r *http.Request) bool { return r.Header.Get("X-Run") == "unscrubbed" }

const listener = `
const ws = new WebSocket('wss://api.tell.example/socket')
ws.onmessage = e => console.log('message', e.data)
ws.onclose = e => console.log('closed', e.code, e.reason)
ws.onerror = e => console.log('error', e.message)
`

// TestCurlIsToldNothing: curl asks a service that tells the key in its status line,
// headers, trailers, early hints, bodies in every coding, events and parts, over either
// protocol, and node over a WebSocket. With --no-scrub the same programs get all of it.
func TestCurlIsToldNothing(t *testing.T) {
	w := newWorld(t)
	s := &teller{t: t, acked: make(chan struct{})}
	w.Internet.Handle("api.tell.example", s)
	define(t, w, "tell", strings.NewReplacer(`"echo"`, `"tell"`, "api.echo.example", "api.tell.example").Replace(echoDefinition))
	login(t, w, tellKey, "tell")
	curl := tool(t, "curl")
	script := filepath.Join(w.Work(), "listener.mjs")
	if err := os.WriteFile(script, []byte(listener), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := `set -e
get() { ` + curl + ` -sSi --compressed -H "X-Run: $1" $2 "$3" $4 $5; echo; }
for protocol in --http1.1 --http2; do
	for coding in identity gzip deflate br zstd; do get $1 $protocol "https://api.tell.example/coding?coding=$coding"; done
	get $1 $protocol https://api.tell.example/line
	get $1 $protocol https://api.tell.example/part -r 10-
	` + curl + ` -sSN $protocol https://api.tell.example/events | while read -r line; do
		echo "$line"
		case $line in data:*) ` + curl + ` -sS $protocol https://api.tell.example/ack;; esac
	done
done
` + node(t) + ` ` + script
	stars := strings.Repeat("*", len(tellKey))
	encoded := base64.StdEncoding.EncodeToString([]byte("user:" + tellKey))

	r := w.Command("run", "--", "sh", "-c", commands, "sh", "scrubbed").Run()
	if r.Code != 0 {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
	lacks(t, r.Stdout+r.Stderr, tellKey, "sk-canary", "Sk-Canary", "canary-tell", encoded[8:40])
	lacks(t, strings.ToLower(r.Stdout), "content-encoding")
	for what, n := range map[string]int{
		"you sent " + stars + ", or ": 2 * 6, `W/"1"`: 2 * 4, "\n" + stars: 2, "aw: Bearer " + stars: 2, "<" + stars + ">": 2, "ast: " + stars: 2,
		"data: 0 " + stars + "\n": 2, "data: 2 " + stars + "\n": 2, "206": 2, "message offered ; you sent " + stars: 1, "closed 4001 bad key " + stars: 1,
	} {
		if got := strings.Count(r.Stdout, what); got != n {
			t.Errorf("%q is there %d times, want %d", what, got, n)
		}
	}
	if n := strings.Count(strings.ToLower(r.Stdout), "x-"+stars+": a name"); n != 2 {
		t.Errorf("the name of a header is there %d times", n)
	}
	contains(t, must(t, w.Command("log", "--json", "-n", "100000")), "proxy.scrubbed", "/coding", "/line", "/part", "/events", "/socket")
	if t.Failed() {
		t.Log(r.Stdout)
	}

	r = w.Command("run", "--no-scrub", "--", "sh", "-c", commands, "sh", "unscrubbed").Run()
	for what, n := range map[string]int{
		"you sent " + tellKey + ", or " + encoded: 2 * 6, "ontent-encoding: br": 1, "ontent-Encoding: zstd": 1, "data: 2 " + tellKey: 2,
		"message offered permessage-deflate": 1, "; you sent " + tellKey: 1, "closed 4001 bad key " + tellKey: 1,
	} {
		if got := strings.Count(r.Stdout, what); got != n {
			t.Errorf("--no-scrub: %q is there %d times, want %d", what, got, n)
		}
	}
	if t.Failed() {
		t.Log(r.Stdout, r.Stderr)
	}
}

// TestTokenEndpointTellsNothing: a child that talks to a provider's token endpoint
// itself, with what it has guessed, gets nothing of what the logins hold.
func TestTokenEndpointTellsNothing(t *testing.T) {
	w := newWorld(t)
	login(t, w, personalKey, "github")
	login(t, w, workKey, "github", "--connection", "work")
	w.Internet.Replace("github.com", "/login/oauth/access_token", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"authorization":%q,"access_token":%q,"refresh_token":%q}`, r.Header["Authorization"], personalKey, workKey)
	}))
	curl := tool(t, "curl")
	for _, protocol := range []string{"--http1.1", "--http2"} {
		ask := []string{"run", "--", curl, "-sS", protocol, "-d", "grant_type=refresh_token", "https://github.com/login/oauth/access_token"}
		want := fmt.Sprintf(`{"authorization":[],"access_token":"%s","refresh_token":"%s"}`, strings.Repeat("*", len(personalKey)), strings.Repeat("*", len(workKey)))
		if got := must(t, w.Command(ask...)); got != want {
			t.Errorf("%s: %s", protocol, got)
		}
		ask = append([]string{"run", "--no-scrub"}, ask[1:]...)
		contains(t, must(t, w.Command(ask...)), personalKey, workKey)
	}
	contains(t, must(t, w.Command("log", "--json", "-n", "100000")), "proxy.scrubbed", "/login/oauth/access_token")
}
