package journey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const botToken = "MTE5canaryDiscord0123456789.Gabcde.abcdefghijklmnopqrstuvwxyz0123456789ab"

// discordGateway speaks as much of Discord's gateway as a bot needs to become ready,
// and keeps what it was sent.
type discordGateway struct {
	mu       sync.Mutex
	messages []string
	offered  []string // Sec-WebSocket-Extensions
}

func (g *discordGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	g.mu.Lock()
	g.offered = append(g.offered, r.Header["Sec-Websocket-Extensions"]...)
	g.mu.Unlock()
	write := func(text string) bool { return c.Write(r.Context(), websocket.MessageText, []byte(text)) == nil }
	if !write(`{"op":10,"d":{"heartbeat_interval":41250}}`) {
		return
	}
	for {
		_, text, err := c.Read(r.Context())
		if err != nil {
			return
		}
		g.mu.Lock()
		g.messages = append(g.messages, string(text))
		g.mu.Unlock()
		var m struct {
			Op int
			D  json.RawMessage
		}
		if json.Unmarshal(text, &m) != nil {
			_ = c.Close(4002, "Decode error")
			return
		}
		switch m.Op {
		case 2:
			var d struct{ Token string }
			if json.Unmarshal(m.D, &d) != nil || d.Token != botToken {
				_ = c.Close(4004, "Authentication failed.")
				return
			}
			write(`{"op":0,"t":"READY","d":{"user":{"username":"canary bot"}}}`)
		case 3:
			write(`{"op":0,"t":"PRESENCE_UPDATE","d":{}}`)
		}
	}
}

// bot names itself to the gateway with what stands in its environment, then shows
// the same word to everybody, and then names another account.
const bot = `
const token = process.env.DISCORD_BOT_TOKEN
const ws = new WebSocket('wss://gateway.discord.gg/?v=10&encoding=json')
ws.onmessage = e => {
  const m = JSON.parse(e.data)
  if (m.op === 10) ws.send(JSON.stringify({op: 2, d: {token, intents: 513, properties: {os: 'linux'}}}))
  if (m.t === 'READY') {
    console.log('ready as', m.d.user.username)
    ws.send(JSON.stringify({op: 3, d: {activities: [{name: token, type: 0}]}}))
  }
  if (m.t === 'PRESENCE_UPDATE') ws.send(JSON.stringify({op: 2, d: {token: token + '.other'}}))
}
ws.onclose = e => console.log('closed with', e.code, e.reason)
ws.onerror = e => console.log('error', e.message)
`

// TestDiscordBot: a real client becomes ready at a chat gateway whose token goes
// into a message, and can neither show the token to others nor take another
// account's.
func TestDiscordBot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := &discordGateway{}
	w.Internet.Handle("gateway.discord.gg", g)
	login(t, w, botToken, "discord")
	script := filepath.Join(w.Work(), "bot.mjs")
	if err := os.WriteFile(script, []byte(bot), 0o600); err != nil {
		t.Fatal(err)
	}
	out := must(t, w.Command("run", "--", node(t), script))
	contains(t, out, "ready as canary bot", "closed with 1008 authsome: the placeholder names another connection")
	lacks(t, out, botToken)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.messages) != 2 || !strings.Contains(g.messages[0], botToken) || strings.Contains(g.messages[1], botToken) || !strings.Contains(g.messages[1], "authsome-proxy-managed") {
		t.Errorf("the gateway read %q", strings.ReplaceAll(fmt.Sprint(g.messages), botToken, "TOKEN"))
	}
	if len(g.offered) != 0 {
		t.Errorf("extensions were offered: %q", g.offered)
	}
	contains(t, must(t, w.Command("log")), "gateway.discord.gg")
	lacks(t, w.Output(), botToken)
}

// TestClientCertificate: a certificate and its key are handed over together, and
// the service sees the certificate of each login on requests of its own.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Internet.Handle("api.bank.example", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if certs := r.TLS.PeerCertificates; len(certs) > 0 {
			name = certs[0].Subject.CommonName
		}
		_, _ = fmt.Fprintf(rw, "hello %s, whose key is right: %t\n", name, r.Header.Get("X-Api-Key") == "canaryBankKey-"+name)
	}))
	define(t, w, "bank", `{"name": "bank", "auth_type": "api_key",
		"api_key": {"fields": [{"name": "certificate", "public": true}, {"name": "private_key"}, {"name": "api_key"}]},
		"routes": [{"host": "api.bank.example", "inject": [{"certificate": {}}, {"header": "X-Api-Key", "value": "{api_key}"}]}]}`)
	cert, key := clientPair(t, "Alice")
	otherCert, otherKey := clientPair(t, "Bob")
	r := w.Command("login", "bank", "--stdin").Input(cert + otherKey + "canaryBankKey-Alice\n").Run()
	if r.Code == 0 {
		t.Error("the key of another certificate was taken")
	}
	contains(t, r.Stderr, "the private key cannot be read, or is not the certificate's")
	encrypted := strings.ReplaceAll(key, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
	r = w.Command("login", "bank", "--stdin").Input(cert + encrypted + "canaryBankKey-Alice\n").Run()
	contains(t, r.Stderr, "is encrypted", "openssl pkey")
	login(t, w, cert+key+"canaryBankKey-Alice", "bank")
	login(t, w, otherCert+otherKey+"canaryBankKey-Bob", "bank", "--connection", "bob")

	curl := func(args ...string) string {
		return must(t, w.Command(append(append([]string{"run"}, args...), "--", tool(t, "curl"), "-fsS", "https://api.bank.example/")...))
	}
	for _, tt := range []struct {
		args []string
		want string
	}{{nil, "hello Alice, whose key is right: true"}, {[]string{"--connection", "bank=bob"}, "hello Bob, whose key is right: true"}, {nil, "hello Alice, whose key is right: true"}} {
		contains(t, curl(tt.args...), tt.want)
	}
	lacks(t, w.Output(), strings.Split(key, "\n")[1], strings.Split(otherKey, "\n")[1])
}

// clientPair makes a certificate that signs itself, and its key, in PEM.
func clientPair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}
