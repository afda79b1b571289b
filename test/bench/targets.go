package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// target is one way to the origin. It is started when it is first measured.
type target struct {
	name string
	// start returns where clients go and the process to watch, 0 for none.
	start func() (endpoint, int, error)
	stop  func()
	// fixed targets have one certificate, and cannot speak in the name of a host
	// that they have never seen.
	fixed bool
	// hosts is the name of the i-th never-seen host.
	hosts string

	to      endpoint
	pid     int
	started bool
}

// ensure starts a target.
func (t *target) ensure() error {
	if t.started {
		return nil
	}
	var err error
	if t.to, t.pid, err = t.start(); err != nil {
		return fmt.Errorf("start %s: %w", t.name, err)
	}
	t.started = true
	return nil
}

// halt stops a target; ensure starts it anew.
func (t *target) halt() {
	if t.started {
		t.stop()
	}
	t.started = false
}

// The columns of the tables.
const (
	nameDirect    = "direct"
	nameTunnel    = "blind tunnel"
	nameAuthsome  = "authsome"
	nameYardstick = "net/http Go"
	nameHAProxy   = "HAProxy"
	nameMitmproxy = "mitmproxy"
)

// targets are those that can be had on this machine, direct first, and the
// names of the programs that are missing. against are other builds of authsome.
func (l *lab) targets(against []string) (all []*target, missing []string) {
	var daemonUsers int
	var held *run
	// The blind tunnel and authsome are the same daemon and the same run.
	inDaemon := func(host, bearer string) (func() (endpoint, int, error), func()) {
		return func() (endpoint, int, error) {
				if l.world.daemon == nil {
					if err := l.world.start(); err != nil {
						return endpoint{}, 0, err
					}
				}
				if held == nil {
					var err error
					if held, err = l.world.open(); err != nil {
						return endpoint{}, 0, err
					}
				}
				daemonUsers++
				return l.world.endpoint(host, bearer, held), l.world.pid(), nil
			}, func() {
				if daemonUsers--; daemonUsers == 0 {
					held.close()
					held = nil
					_ = l.world.stop() // so that whatever comes next finds a fresh one
				}
			}
	}
	direct := &target{name: nameDirect, hosts: "n%d.elsewhere.example", stop: func() {}, start: func() (endpoint, int, error) {
		return endpoint{Doors: []door{{Addr: l.at}}, Host: blind, Bearer: credential, Roots: l.root.pem()}, 0, nil
	}}
	tunnel := &target{name: nameTunnel, hosts: "n%d.elsewhere.example"}
	tunnel.start, tunnel.stop = inDaemon(blind, credential)
	ours := &target{name: nameAuthsome, hosts: "n%d.bench.example"}
	ours.start, ours.stop = inDaemon(routed, placeholder)
	var measure *helper
	plain := &target{name: nameYardstick, hosts: "n%d.bench.example", stop: func() { measure.stop() }}
	plain.start = func() (endpoint, int, error) {
		key, err := l.root.keyPEM()
		if err != nil {
			return endpoint{}, 0, err
		}
		var ready originReady
		measure, err = startHelper("yardstick", yardstickConfig{l.at, credential, l.root.pem(), key}, &ready)
		if err != nil {
			return endpoint{}, 0, err
		}
		to := endpoint{Doors: []door{{Addr: ready.Addr}}, Connect: true, Host: routed, Bearer: placeholder, Roots: l.root.pem()}
		return to, measure.pid(), nil
	}
	all = append(all, direct, tunnel, ours)
	for _, binary := range against {
		all = append(all, l.otherBuild(binary))
	}
	all = append(all, plain)
	for _, p := range []struct {
		name, program string
		fixed         bool
		start         func(l *lab, path string, s *program) (endpoint, error)
	}{
		{nameHAProxy, "haproxy", true, (*lab).startHAProxy},
		{nameMitmproxy, "mitmdump", false, (*lab).startMitmproxy},
	} {
		path, err := find(p.program)
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s is left out: there is no program %s (%s)", p.name, p.program, "`make bench-tools` installs it on Debian"))
			continue
		}
		s := &program{}
		all = append(all, &target{name: p.name, fixed: p.fixed, hosts: "n%d.bench.example", stop: s.stop, start: func() (endpoint, int, error) {
			to, err := p.start(l, path, s)
			if err != nil {
				s.stop()
				return endpoint{}, 0, err
			}
			return to, s.cmd.Process.Pid, nil
		}})
	}
	return all, missing
}

// otherBuild is another build of authsome, to see what a change gains.
func (l *lab) otherBuild(binary string) *target {
	var w *world
	var held *run
	t := &target{name: filepath.Base(binary), hosts: "n%d.bench.example"}
	t.stop = func() {
		held.close()
		w.close()
	}
	t.start = func() (_ endpoint, _ int, err error) {
		if w == nil {
			if w, err = l.newWorld("home of "+t.name, binary); err == nil {
				err = w.login(provider, anyRouted, "")
			}
		} else {
			err = w.start()
		}
		if err != nil {
			return endpoint{}, 0, err
		}
		if held, err = w.open(); err != nil {
			return endpoint{}, 0, err
		}
		return w.endpoint(routed, placeholder, held), w.pid(), nil
	}
	return t
}

// find looks where daemons lie, too, which is not on everybody's PATH.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// program is a proxy that somebody else has made.
type program struct {
	cmd   *exec.Cmd
	ended chan error
}

// startMitmproxy runs mitmdump with a script that puts the credential on. It
// passes bulk and events on as they come, which is not its default: that is to
// hold every answer to its end.
func (l *lab) startMitmproxy(path string, s *program) (endpoint, error) {
	addr, err := freeAddr()
	if err != nil {
		return endpoint{}, err
	}
	host, port, _ := net.SplitHostPort(addr)
	dir, err := os.MkdirTemp(l.dir, "mitmproxy-")
	if err != nil {
		return endpoint{}, err
	}
	script := filepath.Join(dir, "credential.py")
	if err := os.WriteFile(script, []byte(`
def streamed(flow):
    return flow.request.path.startswith(("/bytes", "/sink", "/stream"))

def requestheaders(flow):
    flow.request.headers["Authorization"] = "Bearer `+credential+`"
    flow.request.stream = streamed(flow)

def responseheaders(flow):
    flow.response.stream = streamed(flow)
`), 0o600); err != nil {
		return endpoint{}, err
	}
	err = s.run(addr, path, "--quiet", "--mode", "upstream:http://"+l.at, "--listen-host", host, "--listen-port", port,
		"--set", "confdir="+dir, "--set", "ssl_verify_upstream_trusted_ca="+l.rootFile(), "--scripts", script)
	if err != nil {
		return endpoint{}, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "mitmproxy-ca-cert.pem"))
	return endpoint{Doors: []door{{Addr: addr}}, Connect: true, Host: routed, Bearer: placeholder, Roots: ca}, err
}

// startHAProxy runs HAProxy as what C can do: it ends TLS with a certificate for
// the one host and starts it anew towards the origin, over pooled connections.
// It is reached without a CONNECT, which it does not know.
func (l *lab) startHAProxy(path string, s *program) (endpoint, error) {
	addr, err := freeAddr()
	if err != nil {
		return endpoint{}, err
	}
	certificate, key, err := l.root.leaf(routed)
	if err != nil {
		return endpoint{}, err
	}
	dir, err := os.MkdirTemp(l.dir, "haproxy-")
	if err != nil {
		return endpoint{}, err
	}
	pair, config := filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(pair, append(certificate, key...), 0o600); err != nil {
		return endpoint{}, err
	}
	if err := os.WriteFile(config, []byte(`
global
    maxconn 8000
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-curves X25519
defaults
    mode http
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    http-reuse always
frontend front
    bind `+addr+` ssl crt `+pair+` alpn h2,http/1.1
    http-request set-header Authorization "Bearer `+credential+`"
    default_backend back
backend back
    server origin `+l.at+` ssl verify required ca-file `+l.rootFile()+` sni str(`+routed+`) verifyhost `+routed+`
`), 0o600); err != nil {
		return endpoint{}, err
	}
	err = s.run(addr, path, "-db", "-f", config)
	return endpoint{Doors: []door{{Addr: addr}}, Host: routed, Bearer: placeholder, Roots: l.root.pem()}, err
}

// run starts a program and waits until it listens.
func (s *program) run(addr, path string, args ...string) error {
	s.cmd, s.ended = exec.Command(path, args...), make(chan error, 1)
	log, err := os.CreateTemp("", "authsome-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(log.Name()); _ = log.Close() }()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	go func(cmd *exec.Cmd, ended chan<- error) { ended <- cmd.Wait() }(s.cmd, s.ended)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return conn.Close()
		}
		select {
		case err := <-s.ended:
			s.cmd = nil
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s ended: %w\n%s", filepath.Base(path), err, said)
		case <-time.After(time.Millisecond):
		}
	}
	return errors.New("it does not listen")
}

func (s *program) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	s.cmd = nil
}

// freeAddr is an address that nobody listens on.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}
