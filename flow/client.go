package flow

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/netguard"
)

const (
	// requestTime bounds one request to an authorization server, answer
	// included.
	requestTime = 30 * time.Second
	// metadataTime bounds one request for a public document, of which Discover
	// makes several.
	metadataTime = 10 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes. Metadata documents
	// and token answers have a few thousand.
	maxAnswer = 1 << 20
)

// Config says how the outside is reached.
type Config struct {
	Proxy func(*url.URL) (*url.URL, error) // upstream proxy; nil: none
	Roots *x509.CertPool                   // nil: the system's
	Now   func() time.Time                 // nil: time.Now
}

// Client speaks with authorization servers. It keeps nothing between calls and
// may be used from any goroutine.
type Client struct {
	cfg                 Config
	public, every       http.RoundTripper
	viaPublic, viaEvery http.RoundTripper // through the upstream proxy; nil without one
}

// New makes a client.
func New(cfg Config) *Client {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	transport := func(control func(*net.Dialer)) *http.Transport {
		d := &net.Dialer{Timeout: requestTime}
		control(d)
		return &http.Transport{
			DialContext:     d.DialContext,
			TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
			// Each request has a connection of its own: one that the server has
			// just closed would leave a refresh in doubt, which with rotation
			// means a lost login, and a request per hour gains nothing from reuse.
			DisableKeepAlives:      true,
			TLSHandshakeTimeout:    15 * time.Second,
			MaxResponseHeaderBytes: 256 << 10,
		}
	}
	c := &Client{
		cfg:    cfg,
		public: transport(func(d *net.Dialer) { d.Control = netguard.PublicOnly }),
		every:  transport(func(*net.Dialer) {}),
	}
	if cfg.Proxy != nil {
		through := func(public bool) *http.Transport {
			t := transport(func(*net.Dialer) {})
			t.DialContext = cfg.dialVia(public)
			return t
		}
		c.viaPublic, c.viaEvery = through(true), through(false)
	}
	return c
}

// dialVia makes connections through the upstream proxy, which may itself well
// be on a private address.
func (cfg Config) dialVia(public bool) func(context.Context, string, string) (net.Conn, error) {
	d := netguard.ProxyDialer{Roots: cfg.Roots, Public: public}
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, digits, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		port, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return nil, err
		}
		via, err := cfg.Proxy(&url.URL{Scheme: "https", Host: addr})
		if err != nil || via == nil { // not what do was told a moment ago
			return nil, &netguard.ProxyError{Cause: "its address is not valid"}
		}
		return d.Dial(ctx, via, host, int(port))
	}
}

// request is one request to an authorization server or a service.
type request struct {
	doing   string // "get a token from github.com", for errors
	method  string
	url     string
	header  http.Header
	body    []byte
	private bool // private addresses are approved
	// headersOnly leaves the answer's body unread, which may be a stream
	// without an end.
	headersOnly bool
	limit       time.Duration // 0 is requestTime
	// secrets are all that the request carries; no part of them gets into an
	// error, whatever the server answers.
	secrets []authsome.Secret
}

// answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	asked  time.Time // when the request was made: lifetimes count from there
}

// do makes a request. Redirects are not followed: what is sent here carries
// secrets, and a document that moved is no proof of anything. The error is an
// *authsome.Error without a word of the server's.
func (c *Client) do(ctx context.Context, r request) (*answer, error) {
	u, err := endpoint(r.url)
	if err != nil {
		return nil, r.fail(authsome.Invalid, err.Error(), nil)
	}
	transport := c.public
	if r.private {
		transport = c.every
	} else if netguard.HostIsPrivate(u.Hostname()) {
		return nil, r.fail(authsome.Invalid, "it is on a private address, which this login did not approve", nil)
	}
	if c.cfg.Proxy != nil {
		via, err := c.cfg.Proxy(u)
		if err != nil {
			return nil, r.fail(authsome.Unreachable, "the upstream proxy's address is not valid", nil)
		}
		if via != nil {
			if transport = c.viaPublic; r.private {
				transport = c.viaEvery
			}
		}
	}
	caller := ctx
	if r.limit == 0 {
		r.limit = requestTime
	}
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, r.fail(authsome.Invalid, "the request cannot be written", nil)
	}
	for name, values := range r.header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	// GitHub refuses requests without one.
	req.Header.Set("User-Agent", "authsome/"+authsome.Version)
	a := &answer{asked: c.cfg.Now()}
	res, err := transport.RoundTrip(req)
	if err == nil {
		defer func() { _ = res.Body.Close() }()
		a.status, a.header = res.StatusCode, res.Header
		if !r.headersOnly {
			a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
		}
	}
	var proxy *netguard.ProxyError
	switch {
	case errors.As(err, &proxy):
		return nil, r.fail(authsome.Unreachable, proxy.Error(), nil)
	case errors.Is(err, netguard.ErrPrivate):
		return nil, r.fail(authsome.Invalid, "it is on a private address, which this login did not approve", nil)
	case err != nil && caller.Err() != nil:
		return nil, r.fail(authsome.Unreachable, netguard.Cause(caller.Err()), caller.Err())
	case err != nil:
		return nil, r.fail(authsome.Unreachable, clean(netguard.Cause(err), 200), nil)
	case len(a.body) > maxAnswer:
		return nil, r.fail(authsome.Unreachable, "its answer is longer than 1 MiB", nil)
	}
	return a, nil
}

// fail makes the error of a request. cause is a sentinel of this package, the
// end of the caller's context, or nil: errors of libraries are not passed on,
// since they quote what servers say.
func (r request) fail(code authsome.Code, why string, cause error) *authsome.Error {
	return &authsome.Error{Code: code, Message: r.doing + ": " + why, Err: cause}
}
