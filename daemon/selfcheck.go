package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

// selfCheck is the broker as the proxy sees it, and one grant more: the
// daemon's own, for trying the whole way of a request. That grant reaches
// nothing but authsome.SelfCheckHost, which the proxy answers itself.
type selfCheck struct {
	*broker.Broker
	token authsome.Secret
	grant authsome.Grant
}

// Grant implements proxy.Resolver.
func (s *selfCheck) Grant(token string) (*authsome.Grant, bool) {
	if s.token.Equal(authsome.NewSecret(token)) {
		return &s.grant, true
	}
	return s.Broker.Grant(token)
}

// Host implements proxy.Resolver.
func (s *selfCheck) Host(g *authsome.Grant, host string, port int) authsome.HostVerdict {
	if g == &s.grant {
		return authsome.Refuse
	}
	return s.Broker.Host(g, host, port)
}

// Resolve implements proxy.Resolver.
func (s *selfCheck) Resolve(ctx context.Context, g *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error) {
	if g == &s.grant {
		return nil, authsome.E(authsome.Forbidden, "the daemon's own grant is for checking the proxy only")
	}
	return s.Broker.Resolve(ctx, g, req)
}

// Finish implements proxy.Resolver. A refusal of the daemon's own request is no
// event.
func (s *selfCheck) Finish(g *authsome.Grant, req *authsome.Request, res *authsome.Resolution, out authsome.Outcome) {
	if g != &s.grant {
		s.Broker.Finish(g, req, res, out)
	}
}

// Current implements proxy.Resolver.
func (s *selfCheck) Current(g *authsome.Grant, provider, connection string, generation int64) bool {
	return g == &s.grant || s.Broker.Current(g, provider, connection, generation)
}

// tryProxy makes one request the way a child does: CONNECT with a token over
// loopback, TLS that trusts our root alone, one answer.
func (d *Daemon) tryProxy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ln, err := listenLoopback(0)
	if err != nil {
		return err
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = d.proxy.Serve(ctx, ln) }()
	defer func() { _ = ln.Close(); <-served }()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(d.authorities.current().CertPEM()) {
		return errors.New("the root certificate cannot be read")
	}
	proxyURL := &url.URL{Scheme: "http", Host: ln.Addr().String(), User: url.UserPassword("authsome", d.self.tokenText())}
	transport := &http.Transport{
		Proxy:             http.ProxyURL(proxyURL),
		DialContext:       (&net.Dialer{}).DialContext,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+authsome.SelfCheckHost+"/", nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the proxy answered HTTP %d", resp.StatusCode)
	}
	return nil
}
