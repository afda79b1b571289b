//go:build linux

package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// granter is a server of both grant protocols, whose proxy echoes.
type granter struct {
	t       *testing.T
	mu      sync.Mutex
	streams map[string]*api.StreamListener
	conns   []net.Conn
	errs    chan error            // what AcceptGrant said
	reqs    chan api.GrantRequest // what it read
	ended   chan struct{}         // one for each grant that is over
	refuse  *api.Failure
}

func init() { granting = func() http.Handler { return newGranter(nil) } }

func newGranter(t *testing.T) *granter {
	return &granter{
		t: t, streams: map[string]*api.StreamListener{},
		errs: make(chan error, 100), reqs: make(chan api.GrantRequest, 100), ended: make(chan struct{}, 100),
	}
}

func (g *granter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/stream") {
		conn, err := api.Upgrade(w, r, api.StreamProtocol)
		if err != nil {
			g.t.Error(err)
			return
		}
		g.mu.Lock()
		ln := g.streams["run_1"]
		g.mu.Unlock()
		if !ln.Offer(conn) {
			_ = conn.Close()
		}
		return
	}
	conn, err := api.Upgrade(w, r, api.GrantProtocol)
	if errors.Is(err, http.ErrHijacked) {
		return
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(api.FailureOf(err))
		return
	}
	defer func() { _ = conn.Close(); g.ended <- struct{}{} }()
	g.mu.Lock()
	g.conns = append(g.conns, conn)
	g.mu.Unlock()
	req, ln, err := api.AcceptGrant(conn)
	g.errs <- err
	if err != nil {
		_ = api.SendGrantInfo(conn, api.GrantInfo{Error: api.FailureOf(err)})
		return
	}
	g.reqs <- req
	if g.refuse != nil {
		if ln != nil {
			_ = ln.Close()
		}
		_ = api.SendGrantInfo(conn, api.GrantInfo{Error: g.refuse})
		return
	}
	if ln == nil {
		sl := api.NewStreamListener(req.ProxyPort)
		g.mu.Lock()
		g.streams["run_1"] = sl
		g.mu.Unlock()
		ln = sl
	}
	var work sync.WaitGroup
	work.Add(1)
	go func() {
		defer work.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Add(1)
			go func() {
				defer work.Done()
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	if err := api.SendGrantInfo(conn, api.GrantInfo{ID: "run_1", Token: "t"}); err != nil {
		g.t.Error(err)
	}
	api.WaitClosed(conn)
	_ = ln.Close()
	work.Wait()
}

// die closes the daemon's end of every grant.
func (g *granter) die() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
}

// echo says something to the proxy and expects it back.
func echo(t *testing.T, ln net.Listener, what string) {
	t.Helper()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echoOn(t, conn, what)
}

func echoOn(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, what); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != what {
		t.Fatalf("heard %d bytes, want %d: %v", len(got), len(what), err)
	}
}

type opener func(c *api.Client, ctx context.Context, ln *net.TCPListener, req api.GrantRequest) (*api.GrantConn, api.GrantInfo, error)

// openers are the two ways to the proxy; a run must not notice which it has.
var openers = map[string]opener{
	"handed over": (*api.Client).OpenGrant,
	"relayed":     (*api.Client).OpenRelayedGrant,
}

func TestGrant(t *testing.T) {
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			g := newGranter(t)
			c := &api.Client{Home: serve(t, g)}
			ln := loopback(t)
			env := map[string]string{}
			for i := range 3000 { // a line longer than one read
				env[fmt.Sprintf("VARIABLE_%d", i)] = strings.Repeat("0", 64)
			}
			gc, info, err := open(c, context.Background(), ln, api.GrantRequest{Program: "env", Salt: "s", Env: env})
			if err != nil {
				t.Fatal(err)
			}
			if info.ID != "run_1" || info.Token != "t" {
				t.Errorf("info is %+v", info)
			}
			if err := <-g.errs; err != nil {
				t.Error(err)
			}
			req := <-g.reqs
			if req.Program != "env" || len(req.Env) != 3000 || req.ProxyPort != ln.Addr().(*net.TCPAddr).Port {
				t.Errorf("the daemon read %s, %d variables, port %d", req.Program, len(req.Env), req.ProxyPort)
			}
			echo(t, ln, "hello")
			echo(t, ln, strings.Repeat("long", 1<<20))
			if err := gc.Close(); err != nil {
				t.Error(err)
			}
			<-gc.Done()
			<-g.ended // the run's end closes: the grant is over
			_ = gc.Close()
		})
	}
}

// What a child asks for while its daemon is dead waits in the backlog.
func TestGrantIsRenewedWithTheSameSocket(t *testing.T) {
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			g := newGranter(t)
			c := &api.Client{Home: serve(t, g)}
			ln := loopback(t)
			first, _, err := open(c, context.Background(), ln, api.GrantRequest{Program: "x"})
			if err != nil {
				t.Fatal(err)
			}
			echo(t, ln, "before")
			g.die()
			<-first.Done()
			<-g.ended
			waiting, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer waiting.Close()
			renewal := &api.Renewal{ID: "run_1", Token: "t", Secret: "s"}
			second, _, err := open(c, context.Background(), ln, api.GrantRequest{Program: "x", Renew: renewal})
			if err != nil {
				t.Fatal(err)
			}
			<-g.reqs
			if req := <-g.reqs; req.Renew == nil || *req.Renew != *renewal {
				t.Errorf("the daemon read %+v", req.Renew)
			}
			echoOn(t, waiting, "asked while it was dead")
			_ = second.Close()
			<-g.ended
		})
	}
}

// A run's first grant takes one connection where the daemon is right, and else
// all that Connect does.
func TestConnectGrant(t *testing.T) {
	prepared := func(t *testing.T, ln *net.TCPListener) func() (*net.TCPListener, api.GrantRequest, error) {
		calls := 0
		return func() (*net.TCPListener, api.GrantRequest, error) {
			if calls++; calls > 1 {
				t.Error("prepare was called again")
			}
			return ln, api.GrantRequest{Program: "x"}, nil
		}
	}
	works := func(t *testing.T, o api.Options) {
		t.Helper()
		ln := loopback(t)
		c, gc, info, err := api.ConnectGrant(context.Background(), o, prepared(t, ln))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if info.ID != "run_1" {
			t.Errorf("info is %+v", info)
		}
		echo(t, ln, "hello")
		_ = gc.Close()
	}
	t.Run("right at once", func(t *testing.T) {
		home := serve(t, newGranter(t)) // answers no question of who it is
		works(t, options(home, authsome.Version))
	})
	t.Run("another version", func(t *testing.T) {
		home := newHome(t)
		g := newGranter(t)
		// It would grant, but is not asked to.
		gone := serveUntilStopped(t, home, authsome.Version, g)
		c, gc, _, err := api.ConnectGrant(context.Background(), options(home, "v9"), prepared(t, loopback(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer gc.Close()
		if h := health(t, c); h.Version != "v9" {
			t.Errorf("it was granted by %+v", h)
		}
		<-gone
		if n := len(g.reqs); n != 0 {
			t.Errorf("the old daemon was asked for %d grants", n)
		}
	})
	t.Run("none", func(t *testing.T) {
		home := newHome(t)
		works(t, options(home, "v1"))
		if n := len(starts(t, home)); n != 1 {
			t.Errorf("%d daemons were started", n)
		}
	})
	t.Run("refused", func(t *testing.T) {
		g := newGranter(t)
		g.refuse = &api.Failure{Error: "ConnectionNotFound", Message: "github has no connection"}
		c, _, _, err := api.ConnectGrant(context.Background(), options(serve(t, g), authsome.Version), prepared(t, loopback(t)))
		if authsome.CodeOf(err) != authsome.ConnectionNotFound || c == nil {
			t.Errorf("got %v, client %v", err, c)
		}
	})
	t.Run("on its way out", func(t *testing.T) {
		home := newHome(t)
		g := newGranter(t)
		g.refuse = api.FailureOf(authsome.E(authsome.DaemonUnavailable, "start a run: the daemon is stopping"))
		gone := serveUntilStopped(t, home, "old", g) // as it is once it has refused
		works(t, options(home, authsome.Version))
		<-gone
	})
	t.Run("deaf", func(t *testing.T) {
		home := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		_, _, _, err := api.ConnectGrant(context.Background(), options(home, "v1"), prepared(t, loopback(t)))
		if authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(err.Error(), "does not answer") || authsome.HintOf(err) != "authsome daemon restart" {
			t.Errorf("got %v, hint %q", err, authsome.HintOf(err))
		}
	})
	t.Run("nothing to listen on", func(t *testing.T) {
		_, _, _, err := api.ConnectGrant(context.Background(), options(serve(t, newGranter(t)), authsome.Version), func() (*net.TCPListener, api.GrantRequest, error) {
			return nil, api.GrantRequest{}, authsome.E(authsome.Internal, "no port is left")
		})
		if err == nil || err.Error() != "no port is left" {
			t.Errorf("got %v", err)
		}
	})
}

// serveUntilStopped is a daemon of a version in this process. The channel is
// closed when it has been stopped.
func serveUntilStopped(t *testing.T, home, version string, grants http.Handler) <-chan struct{} {
	t.Helper()
	if err := api.EnsureHome(home); err != nil {
		t.Fatal(err)
	}
	lock := flock.New(filepath.Join(home, api.LockFile))
	if ok, err := lock.TryLock(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	ln, err := api.Listen(home)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	mux := http.NewServeMux()
	srv := &http.Server{Handler: mux}
	mux.Handle(api.PathGrants, grants)
	mux.HandleFunc(api.PathHealth, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Health{Status: "ok", Version: version})
	})
	mux.HandleFunc(api.PathStop, func(w http.ResponseWriter, _ *http.Request) {
		go func() {
			_ = srv.Shutdown(context.Background())
			_ = lock.Unlock()
			close(gone)
		}()
	})
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return gone
}

func TestGrantRefused(t *testing.T) {
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			g := newGranter(t)
			g.refuse = &api.Failure{Error: "ConnectionNotFound", Message: "github has no connection", Hint: "authsome login github"}
			c := &api.Client{Home: serve(t, g)}
			_, _, err := open(c, context.Background(), loopback(t), api.GrantRequest{})
			if authsome.CodeOf(err) != authsome.ConnectionNotFound || authsome.HintOf(err) != "authsome login github" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestGrantBeforeTheUpgrade(t *testing.T) {
	c := &api.Client{Home: serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(api.Failure{Error: "OperationNotAllowed", Message: "not inside a run"})
	}))}
	_, _, err := c.OpenGrant(context.Background(), loopback(t), api.GrantRequest{})
	if authsome.CodeOf(err) != authsome.Forbidden {
		t.Errorf("got %v", err)
	}
	// A daemon that never answers holds nobody for ever.
	c = &api.Client{Home: serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, _, err := c.OpenGrant(ctx, loopback(t), api.GrantRequest{}); authsome.CodeOf(err) != authsome.DaemonUnavailable {
		t.Errorf("a silent daemon: got %v", err)
	}
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4zero})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, _, err := c.OpenGrant(context.Background(), ln, api.GrantRequest{}); authsome.CodeOf(err) != authsome.Internal {
		t.Errorf("a proxy that is open to the network: got %v", err)
	}
}

// Whatever is handed over, only a listening TCP socket on the named port of
// 127.0.0.1 is taken, and nothing stays open.
func TestHostileGrants(t *testing.T) {
	g := newGranter(t)
	home := serve(t, g)
	socket := func(domain, typ int) int {
		fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	bound := func(fd int, sa unix.Sockaddr, listen bool) int {
		if err := unix.Bind(fd, sa); err != nil {
			t.Fatal(err)
		}
		if listen {
			if err := unix.Listen(fd, 1); err != nil {
				t.Fatal(err)
			}
		}
		return fd
	}
	port := func(fd int) int {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			return sa.Port
		case *unix.SockaddrInet6:
			return sa.Port
		}
		return 80
	}
	local := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	good := bound(socket(unix.AF_INET, unix.SOCK_STREAM), local, true)
	deaf := bound(socket(unix.AF_INET, unix.SOCK_STREAM), local, false)
	udp := bound(socket(unix.AF_INET, unix.SOCK_DGRAM), local, false)
	all := bound(socket(unix.AF_INET, unix.SOCK_STREAM), &unix.SockaddrInet4{}, true)
	loop2 := bound(socket(unix.AF_INET, unix.SOCK_STREAM), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}}, true)
	v6 := bound(socket(unix.AF_INET6, unix.SOCK_STREAM), &unix.SockaddrInet6{Addr: [16]byte{15: 1}}, true)
	local2 := socket(unix.AF_UNIX, unix.SOCK_STREAM)
	connected := socket(unix.AF_INET, unix.SOCK_STREAM)
	if err := unix.Connect(connected, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port(good)}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	line := func(port int) string { return fmt.Sprintf(`{"program":"x","proxy_port":%d}`+"\n", port) }

	tests := []struct {
		name string
		line string
		fds  []int
	}{
		{"no socket", line(port(good)), nil},
		{"another port", line(1), []int{good}},
		{"no port", "{}\n", []int{good}},
		{"port out of range", `{"proxy_port":70000}` + "\n", []int{good}},
		{"two sockets", line(port(good)), []int{good, good}},
		{"more than are received", line(port(good)), []int{good, good, good, good, good, good, good, good, good, good, good, good}},
		{"not listening", line(port(deaf)), []int{deaf}},
		{"connected", line(port(connected)), []int{connected}},
		{"UDP", line(port(udp)), []int{udp}},
		{"all addresses", line(port(all)), []int{all}},
		{"another loopback address", line(port(loop2)), []int{loop2}},
		{"IPv6", line(port(v6)), []int{v6}},
		{"unix socket", line(80), []int{local2}},
		{"file", line(80), []int{int(file.Fd())}},
		{"relayed with a socket", `{"proxy_port":80,"relay":true}` + "\n", []int{good}},
		{"no JSON", "hello\n", []int{good}},
		{"JSON of another type", `{"proxy_port":"x"}` + "\n", []int{good}},
		{"more than a line", line(port(good)) + "x", []int{good}},
		{"line without an end", `{"program":"` + strings.Repeat("x", 5<<20), []int{good}},
		{"nothing", "", nil},
	}
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := open()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := upgraded(t, home)
			if tt.line != "" {
				n, _, err := conn.WriteMsgUnix([]byte(tt.line), unix.UnixRights(tt.fds...), nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(conn, tt.line[n:]) // refused half-way, where it is too long
			}
			_ = conn.CloseWrite()
			err := <-g.errs
			if authsome.CodeOf(err) != authsome.Invalid {
				t.Errorf("got %v", err)
			}
			<-g.ended
			_ = conn.Close()
		})
	}
	deadline := time.Now().Add(5 * time.Second)
	for open() > before && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors were open before, %d are now", before, after)
	}
}

// upgraded is a connection on which the daemon waits for a GrantRequest.
func upgraded(t *testing.T, home string) *net.UnixConn {
	t.Helper()
	path, err := api.SocketPath(home)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", api.PathGrants, api.Host, api.GrantProtocol)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v %v", resp, err)
	}
	return conn
}

func TestUpgradeRefusals(t *testing.T) {
	g := newGranter(t)
	home := serve(t, g)
	path, err := api.SocketPath(home)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"another protocol": "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"none":             "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, text, api.PathGrants, api.Host)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v %v", name, resp, err)
		}
		_ = conn.Close()
	}
	// One that does not wait for the 101 would lose its descriptor.
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n{}\n", api.PathGrants, api.Host, api.GrantProtocol)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	answer, err := io.ReadAll(conn)
	if err != nil || strings.Contains(string(answer), "101") {
		t.Errorf("%q, %v", answer, err)
	}
}
