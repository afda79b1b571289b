package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
	"golang.org/x/net/dns/dnsmessage"
)

// disguised are addresses that are no public hosts, of every kind and in every spelling
// that CONNECT takes; TestSmuggledConnect has those that it does not. Package netguard has
// the table of all blocks, and where they come from.
var disguised = []string{
	"0.0.0.0", "127.0.0.1", "127.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "255.255.255.255",
	"[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]",
	"[64:ff9b:1::808:808]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[2606:4700::5efe:10.0.0.1]", "[2606:4700::200:5efe:a00:1]", "[fe80::1]", "[fec0::1]", "[fc00::1]", "[fd12:3456::1]",
	"[ff02::1]", "[2001:db8::1]", "[100::1]", "[200::1]", "[5f00::1]",
}

// metadataHosts are the hosts at which clouds tell a machine its credentials, by address and by
// name.
var metadataHosts = []string{
	"169.254.169.254", "169.254.170.2", "[fd00:ec2::254]", "[fd20:ce::254]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "100.100.100.200", "168.63.129.16", "192.0.0.192",
	"metadata.google.internal", "METADATA.google.internal.", "instance-data.ec2.internal",
}

// TestDisguisedAddresses: in whatever form an address is written, one that is no public
// host gets no credential, and is not dialled, directly or by way of a proxy.
func TestDisguisedAddresses(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]option{"directly": {direct}, "by way of a proxy": nil} {
		for _, host := range append(append([]string{}, disguised...), metadataHosts...) {
			if name == "directly" && strings.Contains(host, "nal") {
				continue // what its name says is TestPrivateNames'
			}
			t.Run(name+" "+host, func(t *testing.T) {
				w := newWorld(t, opts...)
				normal, err := route.Host(host)
				if err != nil {
					t.Fatal(err)
				}
				local(w, normal, 8443)
				w.broker.set("openai", &account{secret: openaiKey})
				c, _ := w.connect(host + ":8443")
				inner := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
				got := problem(t, exchange(t, inner, bufio.NewReader(inner), "GET / HTTP/1.1\r\nHost: "+host+":8443\r\n\r\n"), 403, "private_address")
				if got["provider"] != "openai" || !strings.Contains(got["fix"].(string), "--allow-private") {
					t.Errorf("%v", got)
				}
				if n := w.net.dialled(net.JoinHostPort(normal, "8443")); n != 0 {
					t.Error("dialled")
				}
			})
		}
	}
}

// TestDeniedAddresses: where the run denies what no provider is for, that is so of these
// as well, in a tunnel and as http://.
func TestDeniedAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.broker.grants[token].Mode = authsome.ConnectedDeny
	for _, host := range append(append([]string{"localhost", "127.0.0.1.nip.io"}, disguised...), metadataHosts...) {
		c := w.dialProxy()
		res := exchange(t, c, bufio.NewReader(c), "CONNECT "+host+":80 HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n")
		problem(t, res, 403, "denied")
		_ = c.Close()
		c = w.dialProxy()
		res = exchange(t, c, bufio.NewReader(c), "GET http://"+host+"/latest/meta-data/ HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n")
		problem(t, res, 403, "denied")
		_ = c.Close()
		if normal, err := route.Host(host); err != nil || w.net.dialled(net.JoinHostPort(normal, "80"))+w.net.dialled(normal) != 0 {
			t.Errorf("%s was dialled (%v)", host, err)
		}
	}
}

// names answers the questions of the process, each by its own list, in turns.
type names struct {
	mu      sync.Mutex
	answers map[string][][]string // by name: the addresses of the first look-up, of the second, and so on
}

// resolve has the process ask these names, until the end of the test.
func (n *names) resolve(t *testing.T) {
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerDNS(there, n.of)
		return here, nil
	}}
}

// of gives the addresses of a name, of the type that was asked for. The last list stays.
func (n *names) of(name string, kind dnsmessage.Type) (found []dnsmessage.ResourceBody) {
	n.mu.Lock()
	defer n.mu.Unlock()
	lists := n.answers[strings.TrimSuffix(name, ".")]
	if len(lists) == 0 {
		return nil
	}
	for _, s := range lists[0] {
		switch ip := net.ParseIP(s); {
		case kind == dnsmessage.TypeA && !strings.Contains(s, ":"):
			found = append(found, &dnsmessage.AResource{A: [4]byte(ip.To4())})
		case kind == dnsmessage.TypeAAAA && strings.Contains(s, ":"):
			found = append(found, &dnsmessage.AAAAResource{AAAA: [16]byte(ip.To16())})
		}
	}
	return found
}

// next goes on to the next list of a name.
func (n *names) next(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[name] = n.answers[name][1:]
}

// atLoopback is a world whose proxy dials by itself, with a service of a name on this
// machine, which nobody has approved.
func atLoopback(t *testing.T, name string) (w *world, srv *httptest.Server, port string, reached *atomic.Int32) {
	t.Helper()
	w, reached = newWorld(t, direct), new(atomic.Int32)
	srv = w.serve(name, func(rw http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		echo(rw, r)
	})
	_, port, _ = net.SplitHostPort(srv.Listener.Addr().String())
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	local(w, name, number)
	w.broker.set("openai", &account{secret: openaiKey})
	return w, srv, port, reached
}

// TestPrivateNames: what a name says is looked at when it is dialled, each time: names
// that spell an address, that a hostile DNS has changed meanwhile, or that have a private
// address among public ones.
func TestPrivateNames(t *testing.T) { // not parallel: the resolver is the process's
	n := &names{answers: map[string][][]string{
		"127.0.0.1.nip.io":         {{"127.0.0.1"}},
		"a9fea9fe.nip.io":          {{"169.254.169.254"}},
		"metadata.google.internal": {{"169.254.169.254"}},
		"six.example.com":          {{"::1"}},
		"mapped.example.com":       {{"::ffff:127.0.0.1"}},
		"nat64.example.com":        {{"64:ff9b::7f00:1"}},
		"both.example.com":         {{"127.0.0.1", "::1", "10.0.0.1"}},
	}}
	n.resolve(t)
	for name := range n.answers {
		t.Run(name, func(t *testing.T) {
			w, _, port, reached := atLoopback(t, name)
			problem(t, w.get(w.client(http1), "https://"+net.JoinHostPort(name, port)+"/"), 403, "private_address")
			if reached.Load() != 0 {
				t.Error("the host was reached")
			}
		})
	}
	// Approved, a name is what it says; and without approval, the connection that is
	// kept is nobody's.
	const rebound = "rebound.example.com"
	n.answers[rebound] = [][]string{{"127.0.0.1"}, {"127.0.0.2"}, {"127.0.0.1"}}
	t.Run(rebound, func(t *testing.T) {
		w, srv, port, reached := atLoopback(t, rebound)
		url := "https://" + net.JoinHostPort(rebound, port) + "/"
		c := w.client(http1)
		w.broker.set("openai", &account{secret: openaiKey, private: true})
		if s := sawOf(t, w.get(c, url)); s.Header.Get("Authorization") != "Bearer "+openaiKey {
			t.Errorf("the service saw %+v", s)
		}
		w.broker.set("openai", &account{secret: openaiKey})
		for range 3 {
			problem(t, w.get(c, url), 403, "private_address")
		}
		n.next(rebound)
		srv.CloseClientConnections()
		problem(t, w.get(c, url), 403, "private_address")
		if reached.Load() != 1 {
			t.Errorf("the host was reached %d times", reached.Load())
		}
	})
	// First public, then private: the address that is dialled is the one that is looked
	// at. Nobody has the public one.
	const turned = "turned.example.com"
	n.answers[turned] = [][]string{{"2000::1"}, {"127.0.0.1"}}
	t.Run(turned, func(t *testing.T) {
		w, _, port, reached := atLoopback(t, turned)
		url := "https://" + net.JoinHostPort(turned, port) + "/"
		c := w.client(http1)
		c.Timeout = 3 * time.Second // where packets to nowhere are lost
		if res, err := c.Get(url); err == nil {
			if res.StatusCode < 500 {
				t.Errorf("at the public address: %s", res.Status)
			}
			_ = res.Body.Close()
		}
		n.next(turned)
		problem(t, w.get(w.client(http1), url), 403, "private_address")
		if reached.Load() != 0 {
			t.Error("the host was reached")
		}
	})
}
