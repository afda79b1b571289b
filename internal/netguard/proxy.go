package netguard

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// dialTime bounds the whole way: the connection to the proxy, TLS with it, and
// its own dialling.
const dialTime = 30 * time.Second

// usualPorts are those of the schemes that Dial knows. The proxy resolves the
// names, except for socks5, which as with curl means that this machine does;
// socks5h leaves it to the proxy.
var usualPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// ProxyError is a failure of the upstream proxy, or one that it reports. Its text
// holds no part of the user name and the password of the proxy's URL.
type ProxyError struct {
	Proxy   string // host:port, never the URL, which may hold a password
	Cause   string
	Timeout bool
	// Denied says that it wants a user name and a password, or others.
	Denied bool
	// Exhausted says that this process has no descriptor left to ask it with.
	Exhausted bool
	// target is set when the proxy works and the target does not, so that
	// another of the target's addresses may.
	target bool
}

func (e *ProxyError) Error() string { return "the upstream proxy " + e.Proxy + ": " + e.Cause }

// Exhausted reports whether an error says that the process, or the system, has no
// descriptor left.
func Exhausted(err error) bool {
	var pe *ProxyError
	return errors.As(err, &pe) && pe.Exhausted || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// ProxyDialer says how the proxy is reached, and what it may be asked for. The zero
// value does for a person's own destinations.
type ProxyDialer struct {
	// Roots verify https proxies; nil means the system's.
	Roots *x509.CertPool
	// Public refuses targets on private addresses, with ErrPrivate, as
	// far as that can be known: of names that the proxy resolves, it cannot.
	Public bool
}

// CheckProxy reports whether Dial can do something with the URL of a proxy. The
// error quotes no part of it.
func CheckProxy(via *url.URL) error {
	switch {
	case usualPorts[via.Scheme] == "":
		return errors.New("its scheme is none of http, https, socks5 and socks5h")
	case via.Hostname() == "" || via.Opaque != "":
		return errors.New("it names no host")
	case via.Port() != "":
		if n, err := strconv.ParseUint(via.Port(), 10, 16); err != nil || n == 0 {
			return errors.New("its port is none")
		}
	}
	if via.User != nil && (via.Scheme == "socks5" || via.Scheme == "socks5h") {
		// RFC 1929, section 2: one byte for the length of each.
		password, _ := via.User.Password()
		if n := len(via.User.Username()); n == 0 || n > 255 || password == "" || len(password) > 255 {
			return errors.New("its user name and password must have 1 to 255 bytes each")
		}
	}
	return nil
}

// Dial connects to host:port through the proxy. The error is an *ProxyError,
// ErrPrivate, or ctx's.
func (d ProxyDialer) Dial(ctx context.Context, via *url.URL, host string, port int) (net.Conn, error) {
	if err := CheckProxy(via); err != nil {
		return nil, &ProxyError{Proxy: via.Host, Cause: err.Error()}
	}
	if d.Public && HostIsPrivate(host) {
		return nil, ErrPrivate
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if via.Scheme != "socks5" {
		return d.dial(ctx, via, host, port)
	}
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		if errors.Is(err, ErrPrivate) {
			return nil, err
		}
		return nil, &ProxyError{Proxy: via.Host, Cause: "to ask it for " + host + ": " + Cause(err), Timeout: isTimeout(err)}
	}
	var first error
	for _, a := range addrs {
		conn, err := d.dial(ctx, via, a.String(), port)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if e := (*ProxyError)(nil); !errors.As(err, &e) || !e.target || ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// maxAddresses bounds how many addresses of a name are tried.
const maxAddresses = 4

// resolve looks a name up on this machine.
func (d ProxyDialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !d.Public || !IsPrivate(a) {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil, ErrPrivate
	}
	return addrs[:min(len(addrs), maxAddresses)], nil
}

// dial connects to the proxy and has it connect to the target.
func (d ProxyDialer) dial(ctx context.Context, via *url.URL, host string, port int) (net.Conn, error) {
	fail := func(err error) error {
		var e *ProxyError
		if errors.As(err, &e) {
			return e
		}
		return &ProxyError{Proxy: via.Host, Cause: Cause(err), Timeout: isTimeout(err), Exhausted: Exhausted(err)}
	}
	at := via.Port()
	if at == "" {
		at = usualPorts[via.Scheme]
	}
	nd := net.Dialer{KeepAlive: 30 * time.Second}
	raw, err := nd.DialContext(ctx, "tcp", net.JoinHostPort(via.Hostname(), at))
	if err != nil {
		return nil, fail(err)
	}
	// The conversation with the proxy has no other means of being given up.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	var conn net.Conn
	if via.Scheme == "socks5" || via.Scheme == "socks5h" {
		conn, err = socks(raw, via, host, port)
	} else {
		conn, err = d.connect(ctx, raw, via, host, port)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close()
		return nil, fail(err)
	}
	return conn, nil
}
