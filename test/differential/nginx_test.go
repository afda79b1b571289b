package differential

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
)

// The hosts: of an nginx that says what it reads, of one that passes the body to a server
// behind it, and of net/http with its ServeMux.
const (
	nginxHost = "nginx.example.com"
	echoHost  = "echo-nginx.example.com"
	muxHost   = "mux.example.com"
)

// reading is how a server reads a request.
type reading struct {
	Method, Target, Path, Host, Length string
	Key                                string // the credential, "" for none
	X, Y                               string // of two headers
	Mux                                string // which handler net/http's ServeMux has chosen
	Body                               string
}

// The configuration of nginx, with its defaults for what matters here: it merges slashes,
// and leaves headers with underscores out.
const nginxConf = `daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 256; }
http {
	access_log off;
	large_client_header_buffers 8 64k;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 100000;
	server {
		listen 127.0.0.1:%[2]d;
		location / {
			return 200 "$request_method\n$request_uri\n$uri\n$host\n$content_length\n$http_x_key\n$http_x\n$http_y";
		}
	}
	server {
		listen 127.0.0.1:%[3]d;
		client_max_body_size 0;
		location / {
			proxy_pass http://%[4]s/;
			proxy_http_version 1.1;
			proxy_set_header Host $host;
			proxy_set_header Nginx-Length $content_length;
			proxy_set_header Nginx-Target $request_uri;
			proxy_set_header Nginx-Path $uri;
		}
	}
}
`

// serveNginx puts the two nginx hosts and net/http's into the world's internet.
func serveNginx(t *testing.T, w *harness.World) {
	t.Helper()
	nginx := tool(t, "nginx", "/usr/sbin/nginx")
	behind := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_ = json.NewEncoder(rw).Encode(reading{
			Method: r.Method, Target: r.Header.Get("Nginx-Target"), Path: r.Header.Get("Nginx-Path"), Host: r.Host, Length: r.Header.Get("Nginx-Length"),
			Key: r.Header.Get("X-Key"), X: r.Header.Get("X"), Y: r.Header.Get("Y"), Body: string(body),
		})
	}))
	t.Cleanup(behind.Close)
	dir, err := os.MkdirTemp("", "authsome-nginx-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ports := []int{free(t), free(t)}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, ports[0], ports[1], strings.TrimPrefix(behind.URL, "http://")), 0o600); err != nil {
		t.Fatal(err)
	}
	// "user" is for root alone: the workers' own would not get into the directory.
	as := ""
	if os.Geteuid() == 0 {
		as = "user root;"
	}
	cmd := exec.Command(nginx, "-p", dir, "-c", conf, "-g", as, "-e", filepath.Join(dir, "error.log"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-exited
	})
	for i, host := range []string{nginxHost, echoHost} {
		at := fmt.Sprintf("127.0.0.1:%d", ports[i])
		awaitNginx(t, at, exited, &out, filepath.Join(dir, "error.log"))
		w.Internet.HandleRaw(host, func(c net.Conn) { splice(c, at) })
	}
	serveMux(w)
}

// awaitNginx waits until it listens.
func awaitNginx(t *testing.T, at string, exited chan error, out fmt.Stringer, log string) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", at)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-exited:
			exited <- err
			text, _ := os.ReadFile(log)
			t.Fatalf("nginx ended: %v\n%s%s", err, out, text)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("nginx does not listen")
		}
	}
}

func free(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// splice joins a connection with one to at.
func splice(c net.Conn, at string) {
	up, err := net.Dial("tcp", at)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, up)
	_ = c.Close()
	<-done
}

// serveMux puts net/http with a ServeMux at its host.
func serveMux(w *harness.World) {
	mux := http.NewServeMux()
	say := func(which string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			_ = json.NewEncoder(rw).Encode(reading{
				Method: r.Method, Target: r.RequestURI, Path: r.URL.Path, Host: r.Host, Length: fmt.Sprint(r.ContentLength), Key: r.Header.Get("X-Key"),
				X: strings.Join(r.Header["X"], ", "), Y: r.Header.Get("Y"), Mux: which, Body: string(body),
			})
		}
	}
	for _, name := range []string{"allowed", "other"} {
		mux.Handle("/v1/"+name, say(name))
		mux.Handle("/v1/"+name+"/", say(name))
	}
	mux.Handle("/", say("none"))
	w.Internet.Handle(muxHost, mux)
}

// readNginx reads what the first nginx host answers.
func readNginx(t *testing.T, body string) reading {
	t.Helper()
	part := strings.Split(body, "\n")
	if len(part) != 8 {
		t.Fatalf("nginx says %q", body)
	}
	return reading{Method: part[0], Target: part[1], Path: part[2], Host: part[3], Length: part[4], Key: part[5], X: part[6], Y: part[7]}
}

// readJSON reads what the other two answer.
func readJSON(t *testing.T, body string) (r reading) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("the service says %q: %v", body, err)
	}
	return r
}

// under is the provider whose path a server has resolved a request to.
func under(path string) string {
	for _, name := range []string{"allowed", "other"} {
		if rest, ok := strings.CutPrefix(path, "/v1/"+name); ok && (rest == "" || rest[0] == '/') {
			return name
		}
	}
	return ""
}

var keyOf = map[string]string{"allowed": allowedKey, "other": otherKey, "": ""}
