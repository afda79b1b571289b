// Package differential sends odd but legal HTTP through the built authsome to servers
// that others have written, and holds what they read to what authsome has routed on; and
// it has curl read odd but legal answers, once directly and once through authsome.
//
//	main_test.go      builds the program, and opens tunnels in a run
//	nginx_test.go     an nginx that says how it reads a request, and net/http beside it
//	requests_test.go  a corpus of requests for both
//	generated_test.go some thousand requests out of a grammar of tricks
//	curl_test.go      a corpus of answers for curl
package differential

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// The keys of the two providers, each for a path of its own.
const (
	allowedKey = "canaryAllowed0123456789abcdef"
	otherKey   = "canaryOther0123456789abcdefgh"
)

// binary is the program under test: built once, or the one that
// AUTHSOME_TEST_BINARY names.
var binary string

func TestMain(m *testing.M) { os.Exit(harness.Main(&binary, m.Run)) }

// newWorld is a fresh home with the daemon up.
func newWorld(t *testing.T) *harness.World {
	t.Helper()
	w, err := harness.Start(binary, internet.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(w.AuthsomeHome(), "daemon.log"))
			t.Logf("everything that was printed:\n%s\nthe daemon's log:\n%s", w.Output(), log)
		}
		w.Close()
	})
	return w
}

// connect defines two providers on the same hosts, one for /v1/allowed and one for
// /v1/other, and logs in to them. Nothing else of the hosts gets a key.
func connect(t *testing.T, w *harness.World, hosts ...string) {
	t.Helper()
	for name, key := range map[string]string{"allowed": allowedKey, "other": otherKey} {
		var routes []string
		for _, h := range hosts {
			routes = append(routes, fmt.Sprintf(`{"host":%q,"path":"/v1/%s","inject":[{"header":"X-Key","value":"{token}"}]}`, h, name))
		}
		file := filepath.Join(w.Work(), name+".json")
		definition := fmt.Sprintf(`{"name":%q,"auth_type":"api_key","routes":[%s]}`, name, strings.Join(routes, ","))
		if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*harness.Command{w.Command("register", file, "--yes"), w.Command("login", "--stdin", name).Input(key + "\n")} {
			if out, err := c.Output(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
}

// run is a living `authsome run`, whose proxy the test uses itself, to send what no
// client would.
type run struct {
	t     *testing.T
	proxy *url.URL
	roots *x509.CertPool
	file  string // the bundle
}

func startRun(t *testing.T, w *harness.World) *run {
	t.Helper()
	// The services of these tests say what they were sent.
	cmd := w.Command("run", "--no-scrub", "--", "sh", "-c", `echo "$HTTPS_PROXY $SSL_CERT_FILE"; cat`).Cmd()
	cmd.Stdin = nil
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the run said nothing: %v", err)
	}
	address, file, _ := strings.Cut(strings.TrimSpace(line), " ")
	r := &run{t: t, roots: x509.NewCertPool(), file: file}
	if r.proxy, err = url.Parse(address); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(file)
	if err != nil || !r.roots.AppendCertsFromPEM(pem) {
		t.Fatalf("the bundle %s: %v", file, err)
	}
	return r
}

// tunnel is a connection to a host through the run's proxy.
type tunnel struct {
	net.Conn
	br *bufio.Reader
}

func (r *run) tunnel(host string) *tunnel {
	r.t.Helper()
	raw, err := net.Dial("tcp", r.proxy.Host)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(2 * time.Minute))
	password, _ := r.proxy.User.Password()
	auth := base64.StdEncoding.EncodeToString([]byte(r.proxy.User.Username() + ":" + password))
	_, _ = fmt.Fprintf(raw, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nProxy-Authorization: Basic %s\r\n\r\n", host, host, auth)
	res, err := http.ReadResponse(bufio.NewReader(raw), &http.Request{Method: http.MethodConnect})
	if err != nil || res.StatusCode != 200 {
		r.t.Fatalf("CONNECT %s: %v, %v", host, res, err)
	}
	c := tls.Client(raw, &tls.Config{RootCAs: r.roots, ServerName: host, NextProtos: []string{"http/1.1"}})
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	return &tunnel{c, bufio.NewReader(c)}
}

// ask sends a request as it is and reads the answer; open is false when the connection
// ends with it.
func (c *tunnel) ask(t *testing.T, raw string) (status int, code, body string, open bool) {
	t.Helper()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = io.WriteString(c, raw)
	}()
	method, _, _ := strings.Cut(raw, " ")
	for {
		res, err := http.ReadResponse(c.br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q: no answer: %v", raw, err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if res.StatusCode >= 200 {
			<-wrote
			return res.StatusCode, res.Header.Get("Authsome-Error"), string(b), !res.Close
		}
	}
}

// tool finds a program that make test installs. On Debian a missing one is a failure;
// elsewhere the test is skipped.
func tool(t *testing.T, name string, elsewhere ...string) string {
	t.Helper()
	for _, at := range append([]string{name}, elsewhere...) {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	if _, err := os.Stat("/etc/debian_version"); err == nil {
		t.Fatalf("%s is missing: run test/install.sh", name)
	}
	t.Skipf("%s is missing", name)
	return ""
}
