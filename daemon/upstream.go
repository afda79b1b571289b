package daemon

import (
	"net/url"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/netguard"
	"github.com/authsome/authsome/proxy"
	"golang.org/x/net/http/httpproxy"
)

// The variables of the upstream proxy. Either spelling counts, the upper one
// first; ALL_PROXY is for what has none of its own.
const (
	httpsProxy = "HTTPS_PROXY"
	httpProxy  = "HTTP_PROXY"
	allProxy   = "ALL_PROXY"
	noProxy    = "NO_PROXY"
)

// steering are the variables that say where requests go and whom to trust.
var steering = []string{
	httpsProxy, "https_proxy", httpProxy, "http_proxy", allProxy, "all_proxy", noProxy, "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GODEBUG",
}

// upstream says how services are reached: through the proxy that the daemon's
// own environment names, and with the roots that crypto/x509 finds, which
// reads SSL_CERT_FILE and SSL_CERT_DIR itself. A daemon that was started by a
// command has none of these variables (api.daemonVariables).
func upstream(getenv func(string) string) (proxy.Upstream, error) {
	var c httpproxy.Config
	for _, v := range []struct {
		names []string // the first that is set counts
		value *string
	}{
		{[]string{httpsProxy, "https_proxy", allProxy, "all_proxy"}, &c.HTTPSProxy},
		{[]string{httpProxy, "http_proxy", allProxy, "all_proxy"}, &c.HTTPProxy},
	} {
		for _, name := range v.names {
			value := strings.TrimSpace(getenv(name))
			if value == "" {
				continue
			}
			// httpproxy would take one that it cannot read for none, and go round
			// it. The value may hold a password and is not quoted.
			u, why := proxyURL(value)
			if why != "" {
				return proxy.Upstream{}, authsome.E(authsome.Invalid, "start the daemon: %s is no address of a proxy: %s", name, why).
					WithHint("write it as http://HOST:PORT, https://HOST:PORT or socks5h://HOST:PORT, with USER:PASSWORD@ before the host if need be, or unset it")
			}
			*v.value = u.String()
			break
		}
	}
	if c.NoProxy = getenv(noProxy); c.NoProxy == "" {
		c.NoProxy = getenv("no_proxy")
	}
	if c.HTTPProxy == "" && c.HTTPSProxy == "" {
		return proxy.Upstream{}, nil
	}
	return proxy.Upstream{Proxy: c.ProxyFunc()}, nil
}

// proxyURL reads the address of a proxy, which as everywhere is HTTP's where it
// names no scheme; or says what is wrong with it.
func proxyURL(value string) (u *url.URL, why string) {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil {
		return nil, "it is not a URL"
	}
	if err := netguard.CheckProxy(u); err != nil {
		return nil, err.Error()
	}
	return u, ""
}
