package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// slot is a place for a run: when one ends, the next takes it.
type slot struct {
	n       int
	account string // "" goes by the default
	streams int
	times   int
	run     *liveRun
}

// liveRun is an `authsome run` whose child is the load.
type liveRun struct {
	name   string
	cmd    *exec.Cmd
	tell   io.WriteCloser
	hello  chan hello
	first  hello
	rested chan struct{}
	ended  chan struct{}
	stderr lockedText
	since  time.Time
}

// lockedText is what a process prints, up to a limit.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() < 16<<10 {
		l.b.Write(b)
	}
	return len(b), nil
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts the run of a slot; its child rests.
func (s *soak) start(sl *slot) error {
	sl.times++
	r := &liveRun{
		name: fmt.Sprintf("r%d.%d", sl.n, sl.times), hello: make(chan hello, 1), rested: make(chan struct{}, 1), ended: make(chan struct{}), since: time.Now(),
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	what, err := json.Marshal(order{Run: r.name, Account: sl.account, Streams: sl.streams, Seed: s.o.seed + uint64(1000*sl.n+sl.times), Pause: s.o.pause})
	if err != nil {
		return err
	}
	args := []string{"run", "--no-shims"}
	if sl.account != "" {
		args = append(args, "--connection", providerKey+"="+sl.account, "--connection", providerOAuth+"="+sl.account)
	}
	r.cmd = s.world.Command(append(args, "--", self)...).Env(childVariable + "=" + string(what)).Cmd()
	r.cmd.Stdin = nil
	if r.tell, err = r.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	r.cmd.Stderr = &r.stderr
	s.roster.add(r.name, sl.account)
	if err := r.cmd.Start(); err != nil {
		return err
	}
	s.count("runs", 1)
	go s.listen(r, out)
	select {
	case r.first = <-r.hello:
		sl.run = r
		return nil
	case <-r.ended:
		return fmt.Errorf("run %s ended at once: %s", r.name, r.stderr.String())
	case <-time.After(2 * patience):
		_ = r.cmd.Process.Kill()
		return fmt.Errorf("the child of run %s says nothing: %s", r.name, r.stderr.String())
	}
}

// listen takes what the child says, and waits for the end of the run.
func (s *soak) listen(r *liveRun, out io.Reader) {
	for dec := json.NewDecoder(bufio.NewReaderSize(out, 64<<10)); ; {
		var m message
		if err := dec.Decode(&m); err != nil {
			// A run that is killed may be cut off in the middle of a line.
			_, _ = io.Copy(io.Discard, out)
			break
		}
		switch {
		case m.Hello != nil:
			r.hello <- *m.Hello
		case m.Failed != nil:
			s.judge.failed(*m.Failed)
		case m.Broken != "":
			s.judge.violate("%s: %s", r.name, m.Broken)
		case m.Rested:
			for name, n := range m.Counts {
				s.count(name, n)
			}
			r.rested <- struct{}{}
		}
	}
	_ = r.cmd.Wait()
	close(r.ended)
}

func (r *liveRun) say(word string) { _, _ = io.WriteString(r.tell, word+"\n") }

// end ends the run of a slot in one of several ways, with all that it has open.
// Streams of processes that have left the run, and go on with its token, have to
// end with it, and the token is worth nothing from then on.
func (s *soak) end(ctx context.Context, sl *slot, how string) {
	r := sl.run
	sl.run = nil
	away := s.stowaways(ctx, r)
	switch how {
	case "child ends":
		_ = r.tell.Close()
	case "child is killed":
		_ = syscall.Kill(r.first.PID, syscall.SIGKILL)
	case "run is killed":
		_ = r.cmd.Process.Kill()
	case "run is ended":
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-r.ended:
	case <-time.After(2 * patience):
		s.judge.violate("run %s does not end (%s): %s", r.name, how, r.stderr.String())
		_ = r.cmd.Process.Kill()
		<-r.ended
	}
	_ = r.tell.Close()
	s.roster.end(r.name)
	s.finished = append(s.finished, endedRun{r.name, r.since, time.Now()})
	if !eventually(func() bool { return gone(r.first.PID) }) {
		s.judge.violate("the child of run %s is still there after its run (%s)", r.name, how)
		_ = syscall.Kill(r.first.PID, syscall.SIGKILL)
	}
	limit, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	for _, a := range away {
		select {
		case <-a.ended:
			s.count("streams ended with their run", 1)
		case <-limit.Done():
			s.judge.violate("%s goes on after the end of its run %s (%s)", a.what, r.name, how)
			a.cancel()
		}
	}
	if !eventually(func() bool { return !tokenWorks(r.first.Proxy) }) {
		s.judge.violate("the token of %s works after its end", r.name)
	}
}

// stowaway is a stream of a process that is not the child.
type stowaway struct {
	what   string
	cancel context.CancelFunc
	ended  chan struct{}
}

// stowaways opens streams with the token of a run, from this process. The run
// would take its own child with it, and so prove nothing.
func (s *soak) stowaways(ctx context.Context, r *liveRun) []*stowaway {
	var out []*stowaway
	for _, at := range []struct {
		what, host string
		http2      bool
	}{{"a stream over HTTP/1.1", hostBearer, false}, {"a stream over HTTP/2", hostBasic, true}, {"a blind tunnel", hostBlind, false}} {
		client, err := through(r.first, at.http2)
		if err != nil {
			s.judge.violate("the proxy of run %s: %v", r.name, err)
			return nil
		}
		cctx, cancel := context.WithCancel(ctx)
		c := &call{host: at.host, nonce: fmt.Sprintf("%s-stowaway%d", r.name, len(out)), q: url.Values{"n": {"100000"}, "every": {"500"}}}
		req, err := c.request(cctx, http.MethodGet, "events", nil)
		if err != nil {
			cancel()
			continue
		}
		resp, err := client.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			// A host whose certificate is wrong for the moment, or an account that
			// is logged out.
			if err == nil {
				_ = resp.Body.Close()
			}
			cancel()
			client.CloseIdleConnections()
			continue
		}
		a := &stowaway{at.what, cancel, make(chan struct{})}
		out = append(out, a)
		go func() {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			client.CloseIdleConnections()
			cancel()
			close(a.ended)
		}()
	}
	return out
}

// through is a client that uses a run's proxy from outside of it.
func through(h hello, http2 bool) (*http.Client, error) {
	proxy, err := url.Parse(h.Proxy)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(h.Roots)) {
		return nil, errors.New("no root certificates")
	}
	c := newClient(http2, true)
	t := c.Transport.(*http.Transport)
	t.Proxy, t.TLSClientConfig = http.ProxyURL(proxy), &tls.Config{RootCAs: roots}
	return c, nil
}

// tokenWorks says whether anybody opens a tunnel for a token.
func tokenWorks(proxy string) bool {
	u, err := url.Parse(proxy)
	if err != nil {
		return true
	}
	conn, err := net.DialTimeout("tcp", u.Host, patience)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	req := &http.Request{Method: http.MethodConnect, Host: hostBlind + ":443", URL: &url.URL{Opaque: hostBlind + ":443"}, Header: http.Header{}}
	password, _ := u.User.Password()
	req.SetBasicAuth(u.User.Username(), password)
	req.Header.Set("Proxy-Authorization", req.Header.Get("Authorization"))
	req.Header.Del("Authorization")
	if err := req.Write(conn); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	return err == nil && resp.StatusCode == http.StatusOK
}

// eventually tries something for as long as patience lasts.
func eventually(is func() bool) bool {
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// tellAll tells every child a word. With rest, it waits until all do.
func (s *soak) tellAll(word string) {
	for _, sl := range s.slots {
		sl.run.say(word)
	}
	if word != "rest" {
		return
	}
	for _, sl := range s.slots {
		select {
		case <-sl.run.rested:
		case <-sl.run.ended:
			s.judge.violate("run %s has ended by itself: %s", sl.run.name, sl.run.stderr.String())
		case <-time.After(requestTime + 3*patience):
			s.judge.violate("the child of %s does not come to rest", sl.run.name)
		}
	}
}

// hold stops all runs, but not their children, or lets them go on. While they are
// held, no run starts a daemon, which would not be one in front of our services.
func (s *soak) hold(sig syscall.Signal) {
	for _, sl := range s.slots {
		if sl.run != nil {
			_ = sl.run.cmd.Process.Signal(sig)
		}
	}
}
