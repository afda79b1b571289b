package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// The hosts. The provider's names are routed: their requests are intercepted
// and get the credential. The others are nobody's, and go through a blind
// tunnel.
const (
	routed      = "api.bench.example"
	anyRouted   = "*.bench.example"
	blind       = "api.elsewhere.example"
	anyBlind    = "*.elsewhere.example"
	provider    = "bench"
	credential  = "bench-key-0123456789abcdef"
	placeholder = authsome.Placeholder
)

// lab is what all measurements share.
type lab struct {
	binary string
	dir    string // everything lies below it
	root   *root
	origin *helper
	at     string // the origin's address
	load   *helper
	world  *world
}

// world is one home with its daemon.
type world struct {
	lab    *lab
	binary string // of its daemon
	dir    string
	client *api.Client
	port   int
	daemon *exec.Cmd
	ended  chan error
	output bytes.Buffer // the daemon's; read after it has ended
}

// newLab starts the origin and the load, and makes a home with a daemon that is
// logged in to the provider.
func newLab(binary string) (*lab, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	// Sockets have short paths.
	dir, err := os.MkdirTemp("", "authsome-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{binary: binary, dir: dir}
	if err := l.setUp(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) setUp() error {
	var err error
	if l.root, err = newRoot(); err != nil {
		return err
	}
	if err := os.WriteFile(l.rootFile(), l.root.pem(), 0o600); err != nil {
		return err
	}
	// Where the sockets of all daemons lie; package api asks the environment.
	if err := os.Mkdir(l.runtime(), 0o700); err != nil {
		return err
	}
	if err := os.Setenv("XDG_RUNTIME_DIR", l.runtime()); err != nil {
		return err
	}
	certificate, key, err := l.root.leaf(anyRouted, anyBlind)
	if err != nil {
		return err
	}
	var ready originReady
	if l.origin, err = startHelper("origin", originConfig{certificate, key, credential}, &ready); err != nil {
		return err
	}
	l.at = ready.Addr
	if l.load, err = startHelper("load", struct{}{}, &struct{}{}); err != nil {
		return err
	}
	l.world, err = l.newWorld("home", l.binary)
	if err != nil {
		return err
	}
	return l.world.login(provider, anyRouted, "")
}

func (l *lab) rootFile() string { return filepath.Join(l.dir, "root.pem") }
func (l *lab) runtime() string  { return filepath.Join(l.dir, "run") }

func (l *lab) close() {
	if l.world != nil {
		l.world.close()
	}
	for _, h := range []*helper{l.load, l.origin} {
		if h != nil {
			h.stop()
		}
	}
	_ = os.RemoveAll(l.dir)
}

// newWorld makes a home with a daemon in front of the origin.
func (l *lab) newWorld(name, binary string) (*world, error) {
	w := &world{lab: l, binary: binary, dir: filepath.Join(l.dir, name)}
	if err := os.MkdirAll(w.work(), 0o700); err != nil {
		return nil, err
	}
	w.client = &api.Client{Home: w.home()}
	// A free port, so that the real one of this machine is left alone.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.port = ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close()
	return w, w.start()
}

func (w *world) home() string { return filepath.Join(w.dir, ".authsome") }
func (w *world) work() string { return filepath.Join(w.dir, "work") }

// environ is a person's environment, whose company's proxy is the origin.
func (w *world) environ() []string {
	return []string{
		"HOME=" + w.dir, "XDG_RUNTIME_DIR=" + w.lab.runtime(), "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8",
		fmt.Sprintf("AUTHSOME_PORT=%d", w.port), "AUTHSOME_KEYRING=off", "SSL_CERT_FILE=" + w.lab.rootFile(),
	}
}

// launch starts the daemon and does not wait for it.
func (w *world) launch() error {
	w.output.Reset()
	cmd := exec.Command(w.binary, "daemon", "serve")
	cmd.Env = append(w.environ(), "HTTPS_PROXY=http://"+w.lab.at)
	cmd.Dir = w.work()
	cmd.Stdout, cmd.Stderr = &w.output, &w.output
	if err := cmd.Start(); err != nil {
		return err
	}
	w.daemon, w.ended = cmd, make(chan error, 1)
	go func(ended chan<- error) { ended <- cmd.Wait() }(w.ended)
	return nil
}

// start starts the daemon and waits until it answers.
func (w *world) start() error {
	if err := w.launch(); err != nil {
		return err
	}
	return w.await(func() error { _, err := w.client.Health(context.Background()); return err })
}

// await tries something until it works.
func (w *world) await(try func() error) error {
	for deadline := time.Now().Add(patience); ; {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case end := <-w.ended:
			w.daemon = nil
			return fmt.Errorf("the daemon ended: %w\n%s", end, w.output.Bytes())
		case <-time.After(time.Millisecond / 2):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the daemon does not answer: %w", err)
		}
	}
}

// stop ends the daemon as `authsome daemon stop` would, and waits for its end.
func (w *world) stop() error {
	if w.daemon == nil {
		return nil
	}
	_ = w.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-w.ended:
		w.daemon = nil
		w.client.Close()
		return err
	case <-time.After(patience):
		return errors.New("the daemon does not end")
	}
}

func (w *world) close() {
	if w.stop() != nil && w.daemon != nil {
		_ = w.daemon.Process.Kill()
		<-w.ended
	}
}

func (w *world) pid() int { return w.daemon.Process.Pid }

// register adds a provider whose key goes to hosts.
func (w *world) register(name, hosts string) error {
	definition, err := json.Marshal(map[string]any{
		"schema_version": 1, "name": name, "auth_type": "api_key", "flow": "api_key", "api_url": hosts,
	})
	if err != nil {
		return err
	}
	_, err = w.client.Register(context.Background(), api.Registration{Filename: name + ".json", Definition: string(definition)})
	return err
}

// connect logs in to a provider.
func (w *world) connect(name, connection string) error {
	ctx := context.Background()
	in, err := w.client.BeginLogin(ctx, api.LoginRequest{Provider: name, Connection: connection})
	if err != nil {
		return err
	}
	if len(in.Fields) != 1 {
		return fmt.Errorf("log in to %s: it asks for %d things", name, len(in.Fields))
	}
	_, err = w.client.SubmitLogin(ctx, in.ID, map[string]authsome.Secret{in.Fields[0].Name: authsome.NewSecret(credential)})
	return err
}

// login does both.
func (w *world) login(name, hosts, connection string) error {
	if err := w.register(name, hosts); err != nil {
		return err
	}
	return w.connect(name, connection)
}

// run is a run without a child: this process holds it as `authsome run` would.
type run struct {
	door
	ca       []byte
	listener *net.TCPListener
	grant    *api.GrantConn
}

// open starts a run.
func (w *world) open() (*run, error) {
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	grant, info, err := w.client.OpenGrant(context.Background(), ln, api.GrantRequest{Program: "bench"})
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	return &run{door{ln.Addr().String(), info.Token}, []byte(info.CA), ln, grant}, nil
}

func (r *run) close() {
	_ = r.grant.Close()
	_ = r.listener.Close()
}

// openMany starts n runs.
func (w *world) openMany(n int) ([]*run, error) {
	runs := make([]*run, n)
	err := parallel(n, 4, func(i int) error {
		var err error
		runs[i], err = w.open()
		return err
	})
	if err != nil {
		closeAll(runs)
		return nil, err
	}
	return runs, nil
}

func closeAll(runs []*run) {
	for _, r := range runs {
		if r != nil {
			r.close()
		}
	}
}

// endpoint is how clients reach host by way of runs.
func (w *world) endpoint(host, bearer string, runs ...*run) endpoint {
	to := endpoint{Connect: true, Host: host, Bearer: bearer, Roots: w.lab.root.pem()}
	for _, r := range runs {
		to.Doors = append(to.Doors, r.door)
	}
	if len(runs) > 0 {
		to.Roots = append(to.Roots, runs[0].ca...)
	}
	return to
}
