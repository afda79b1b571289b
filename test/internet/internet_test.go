package internet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const (
	testKey   = "sk-internet-test-0123456789"
	testToken = "ghp_internetTest0123456789"
)

func start(t *testing.T) *Internet {
	t.Helper()
	n, err := Start(t.TempDir(), Credentials{OpenAI: testKey, Anthropic: "sk-ant-1", GitHub: []string{testToken}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// client goes through the internet's proxy and trusts its root.
func client(t *testing.T, n *Internet, h2 bool) *http.Client {
	t.Helper()
	proxy, err := url.Parse(n.Proxy())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(n.RootPEM())
	tr := &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots},
		DisableCompression: true, Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t *testing.T, c *http.Client, address string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// Everything that the journeys conclude rests on these refusals.
func TestServicesRefuseAllButTheCredential(t *testing.T) {
	n := start(t)
	for _, tt := range []struct {
		name, url string
		header    []string
		status    int
		body      string
	}{
		{"OpenAI, nothing", "https://api.openai.com/v1/models", nil, 401, `"invalid_api_key"`},
		{"OpenAI, a placeholder", "https://api.openai.com/v1/models", []string{"Authorization", "Bearer authsome-proxy-managed"}, 401, `"error"`},
		{"OpenAI, the key under another scheme", "https://api.openai.com/v1/models", []string{"Authorization", "token " + testKey}, 401, `"error"`},
		{"OpenAI, the key", "https://api.openai.com/v1/models", []string{"Authorization", "Bearer " + testKey}, 200, `"gpt-5"`},
		{"GitHub, nothing", "https://api.github.com/user", nil, 401, "Bad credentials"},
		{"GitHub, another token", "https://api.github.com/user", []string{"Authorization", "token " + testToken + "x"}, 401, "Bad credentials"},
		{"GitHub, as gh sends it", "https://api.github.com/user", []string{"Authorization", "token " + testToken}, 200, "octocat"},
		{"GitHub, as others send it", "https://api.github.com/user", []string{"Authorization", "Bearer " + testToken}, 200, "octocat"},
		{"git, a private repository", "https://github.com/acme/secret/info/refs?service=git-upload-pack", nil, 401, ""},
		{"git, a bearer", "https://github.com/acme/secret/info/refs?service=git-upload-pack", []string{"Authorization", "Bearer " + testToken}, 401, ""},
		{"git, the token", "https://github.com/acme/secret/info/refs?service=git-upload-pack", []string{"Authorization", BasicToken(testToken)}, 200, "refs/heads/main"},
		{"git, a public repository", "https://github.com/acme/public/info/refs?service=git-upload-pack", nil, 200, "refs/heads/main"},
		{"git, a push to it", "https://github.com/acme/public/info/refs?service=git-receive-pack", nil, 401, ""},
		{"git, a wrong token for it", "https://github.com/acme/public/info/refs?service=git-upload-pack", []string{"Authorization", BasicToken("x")}, 401, ""},
		{"ChatGPT", "https://chatgpt.com/backend-api/codex/models", nil, 403, ""},
	} {
		for _, h2 := range []bool{false, true} {
			if _, err := exec.LookPath("git"); err != nil && strings.HasPrefix(tt.name, "git,") {
				continue
			}
			resp, body := get(t, client(t, n, h2), tt.url, tt.header...)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.body) {
				t.Errorf("%s, HTTP/2 %t: %d\n%s", tt.name, h2, resp.StatusCode, body)
			}
			if (resp.ProtoMajor == 2) != h2 {
				t.Errorf("%s: came by %s", tt.name, resp.Proto)
			}
			if strings.HasPrefix(tt.name, "git,") && tt.status == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("%s: no challenge, without which git gives up", tt.name)
			}
		}
	}
}

func TestUnknownHostsDoNotExist(t *testing.T) {
	n := start(t)
	if _, err := client(t, n, false).Get("https://example.org/"); err == nil || !strings.Contains(err.Error(), "Bad Gateway") {
		t.Errorf("CONNECT to an unknown host: %v", err)
	}
	if resp, _ := get(t, client(t, n, false), "http://example.org/"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("plain http to an unknown host: %d", resp.StatusCode)
	}
	if got := n.Dialled(); len(got) != 1 || got[0] != "example.org" {
		t.Errorf("Dialled() = %q", got)
	}
	if resp, body := get(t, client(t, n, false), "http://echo.example.com/small"); resp.StatusCode != 200 || !strings.Contains(body, "world") {
		t.Errorf("plain http to a host: %d %s", resp.StatusCode, body)
	}
}

// TestResponsesSocket speaks as Codex does: compression offered, a prewarm that
// generates nothing, then a question.
func TestResponsesSocket(t *testing.T) {
	n := start(t)
	n.Say("Said over a socket.")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dial := func(key string) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(ctx, "wss://api.openai.com/v1/responses", &websocket.DialOptions{
			HTTPClient: client(t, n, false), CompressionMode: websocket.CompressionContextTakeover,
			HTTPHeader: http.Header{"Authorization": {"Bearer " + key}},
		})
	}
	if _, resp, err := dial("authsome-proxy-managed"); err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("a placeholder was accepted: %v", err)
	}
	c, resp, err := dial(testKey)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if ext := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(ext, "permessage-deflate") {
		t.Errorf("extensions %q: the frames are not compressed", ext)
	}
	ask := func(message string) string {
		t.Helper()
		if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for {
			_, b, err := c.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var ev struct{ Type string }
			if err := json.Unmarshal(b, &ev); err != nil {
				t.Fatal(err)
			}
			all.Write(b)
			if ev.Type == "response.completed" {
				return all.String()
			}
		}
	}
	if got := ask(`{"type":"response.create","generate":false}`); strings.Contains(got, "Said over") {
		t.Error("a prewarm was answered with text")
	}
	if got := ask(`{"type":"response.create","input":[]}`); !strings.Contains(got, "Said over a socket.") {
		t.Errorf("no answer in %s", got)
	}
	_ = c.Close(websocket.StatusNormalClosure, "")
	seen, err := n.WaitFor(ctx, "api.openai.com", func(r Request) bool { return r.Status == http.StatusSwitchingProtocols })
	if err != nil {
		t.Fatal(err)
	}
	if seen.Header.Get("Authorization") != "Bearer "+testKey || seen.Path != "/v1/responses" {
		t.Errorf("recorded %s %s", seen.Method, seen.Path)
	}
}

// TestKeyedServicesRefuseAllElse: as for the others, what the journeys conclude
// rests on it.
func TestKeyedServicesRefuseAllElse(t *testing.T) {
	n := start(t)
	n.AddKeyed(Keyed{TelegramToken: "1:a", DatadogKey: "k", DatadogID: "a", TwilioSID: "s", TwilioKey: "t", TrelloKey: "k", TrelloID: "t", AshbyKey: "a", Places: "p"})
	c := client(t, n, true)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, tt := range []struct {
		url    string
		header []string
		status int
	}{
		{"https://api.telegram.org/bot1:a/getMe", nil, 200},
		{"https://api.telegram.org/bot1:a/getMe/", nil, 301},
		{"https://api.telegram.org/bot1:b/getMe", nil, 401},
		{"https://api.telegram.org/bot/getMe", nil, 401},
		{"https://api.datadoghq.com/", []string{"DD-API-KEY", "k", "DD-APPLICATION-KEY", "a"}, 200},
		{"https://api.datadoghq.com/", []string{"DD-API-KEY", "k"}, 401},
		{"https://api.twilio.com/", []string{"Authorization", "Basic czp0"}, 200},
		{"https://api.twilio.com/", []string{"Authorization", "Basic czo="}, 401},
		{"https://api.trello.com/?key=k&token=t", nil, 200},
		{"https://api.trello.com/?key=k&token=t&token=x", nil, 401},
		{"https://api.trello.com/?key=k&token=t", []string{"Authorization", "x"}, 401},
		{"https://api.ashbyhq.com/", []string{"Authorization", "Basic YTo="}, 200},
		{"https://api.ashbyhq.com/", []string{"Authorization", "Basic YQ=="}, 401},
		{"https://" + PlacesHost + "/", []string{"Cookie", "a=1; session=p"}, 200},
		{"https://" + PlacesHost + "/", []string{"Cookie", "session=x; session=p"}, 401},
		{"https://" + PlacesHost + "/", nil, 401},
	} {
		if resp, body := get(t, c, tt.url, tt.header...); resp.StatusCode != tt.status {
			t.Errorf("%s %v: %d %s, want %d", tt.url, tt.header, resp.StatusCode, body, tt.status)
		}
	}
}
