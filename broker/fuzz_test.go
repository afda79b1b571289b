package broker_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/route"
)

// The hosts of FuzzResolve's definitions and requests: near to each other, and in
// several spellings.
var (
	fuzzPatterns = []string{
		"api.acme.example", "*.acme.example", "API.Acme.Example.", "evil.example", "*.api.acme.example", "acme.example:8443", "*.evil.example", "api.acme.example/v1", "münchen.example", "*.xn--mnchen-3ya.example",
		"https://api.acme.example:8443/v2", "evilacme.example",
	}
	fuzzHosts = []string{
		"api.acme.example", "acme.example", "evil.example", "x.api.acme.example", "evilacme.example", "api.acme.example.evil.example", "xn--mnchen-3ya.example", "a.xn--mnchen-3ya.example",
	}
)

// FuzzResolve plays a life of definitions, logins and requests, on a real store
// and vault: two providers are registered again and again with other hosts, logged
// in to, out of, and the daemon restarts. Whatever happened, a credential leaves
// for hosts alone that its definition named when its login was made.
func FuzzResolve(f *testing.F) {
	// Register, log in, ask; register elsewhere, ask there and here.
	f.Add([]byte{0x00, 0x20, 0x80, 0x03, 0x82, 0x80, 0x60, 0x82, 0x80})
	f.Add([]byte{0x01, 0x20, 0x80, 0x83, 0x04, 0x20, 0x84, 0x83, 0x40, 0x80, 0x60, 0x83})
	f.Add([]byte{0x00, 0x10, 0x20, 0x30, 0x80, 0x90, 0x11, 0x13, 0x80, 0x90, 0xb0, 0x33, 0x80, 0x82})
	f.Add([]byte{0x0a, 0x20, 0xa0, 0x80, 0x07, 0x20, 0xa0, 0x80, 0xc0, 0x60, 0xe0, 0x05, 0x20, 0xa1, 0x81})
	f.Fuzz(func(t *testing.T, acts []byte) {
		if len(acts) > 24 {
			return
		}
		p := &play{world: newWorld(t), named: map[string]string{}, sealed: map[string]string{}}
		for i, act := range acts {
			p.act(t, i, act)
		}
	})
}

type play struct {
	*world
	g      *authsome.Grant
	named  map[string]string // by provider: the host of its definition, now
	sealed map[string]string // by key: the host of the definition that it was typed for
}

// act is one byte: what is done in bits 5 to 7, by which provider in bit 4, and
// with what in the rest.
func (p *play) act(t *testing.T, i int, act byte) {
	ctx := context.Background()
	name, what := []string{"acme", "evil"}[act>>4&1], int(act&15)
	switch act >> 5 {
	case 0:
		at := fuzzPatterns[what%len(fuzzPatterns)]
		text := fmt.Sprintf(`{"name":%q,"auth_type":"api_key","api_url":%q}`, name, at)
		if _, err := p.Register(ctx, me, "x.json", []byte(text), true, false); err == nil {
			p.named[name] = at
		}
	case 1:
		if p.named[name] == "" {
			return
		}
		key := fmt.Sprintf("key-%s-%d-0123456789abcdef", name, i)
		p.login(name, []string{"", "work"}[what&1], key, true)
		p.sealed[key] = p.named[name]
	case 2:
		_, _ = p.Logout(ctx, me, name, []string{"", "work"}[what&1])
	case 3:
		p.restart()
		p.g = nil
	default:
		p.request(t, name, act>>5&1 == 1, act>>6&1 == 1, what)
	}
}

func (p *play) request(t *testing.T, name string, otherPort, named bool, what int) {
	if p.g == nil {
		p.g = p.grant(broker.GrantSpec{Mode: []authsome.Mode{authsome.ConnectedAllow, authsome.ConfiguredDeny}[what>>3&1]})
	}
	req := request(fuzzHosts[what&7], []string{"/v1/x", "/v2"}[what&1])
	if otherPort {
		req.Port = 8443
	}
	if named {
		req.Header.Set("Authorization", "Bearer "+authsome.Placeholder+".work")
	}
	res, err := p.Resolve(context.Background(), p.g, req)
	if err != nil {
		for key := range p.sealed {
			if strings.Contains(err.Error()+authsome.HintOf(err), key) {
				t.Fatalf("an error quotes a key: %v", err)
			}
		}
		return
	}
	for _, s := range res.Set {
		key := strings.TrimPrefix(s.Value.Reveal(), "Bearer ")
		at, ours := p.sealed[key]
		if !ours || !madeFor(at, req.Host, req.Port) || res.Verdict != authsome.Inject {
			t.Fatalf("%q, typed for %s, goes to %s:%d; the definitions are %v", key, at, req.Host, req.Port, slices.Sorted(maps.Keys(p.named)))
		}
		if p.Host(p.g, req.Host, req.Port) != authsome.Intercept {
			t.Fatalf("a credential goes to %s:%d, which is not routed", req.Host, req.Port)
		}
	}
	if len(res.Set) > 1 || res.Verdict != authsome.Inject && len(res.Set) > 0 {
		t.Fatalf("%s with %d headers", res.Verdict, len(res.Set))
	}
}

// madeFor reads the host of an api_url, without the code of the loader, the router
// or the records.
func madeFor(at, host string, port int) bool {
	at = strings.TrimPrefix(at, "https://")
	at, _, _ = strings.Cut(at, "/")
	want := 443
	if h, digits, err := net.SplitHostPort(at); err == nil {
		at = h
		want, _ = strconv.Atoi(digits)
	}
	rest, wild := strings.CutPrefix(at, "*.")
	normal, err := route.Host(rest)
	if err != nil || port != want {
		return false
	}
	if wild {
		return strings.HasSuffix(host, "."+normal)
	}
	return host == normal
}
