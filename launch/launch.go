// Package launch turns a grant into a running child: its environment, the
// bundle of certificates that it trusts, what its agent profile adds, a check
// that the way out works, and the process itself with its signals and its exit
// code.
//
//	environment.go  the child's variables from the parent's
//	noproxy.go      which of the person's NO_PROXY entries may stay
//	bundle.go       the files that the trust variables name
//	shims.go        what routes Node and Python where no variable does
//	java.go         a trust store for JVMs
//	roots*.go       where a system keeps its certificates
//	profile.go      what an agent needs beyond that; the data is in profiles/
//	check.go        one request through the new grant before the child starts
//	find.go         from a command's name to its file
//	start*.go       the process, per system
//
// It knows neither the daemon nor its API: what it works on is plain data. The
// only secret that passes through is the grant's token, which is made for the
// child's environment and dies with the run.
package launch

import (
	"net/netip"
	"net/url"
	"strings"
)

// Proxy is the child's way out: a port of 127.0.0.1 and the token that opens
// it.
type Proxy struct {
	Port  int
	Token string
}

// proxyUser is the user name in the proxy's URL. The proxy looks at the token
// only, but a client without a user name sends no credentials.
const proxyUser = "authsome"

// URL is the value of the proxy variables. It holds the token: it is for the
// child's environment and for nothing else.
func (p Proxy) URL() string {
	u := url.URL{Scheme: "http", User: url.UserPassword(proxyUser, p.Token), Host: p.address().String()}
	return u.String()
}

// String is the URL for people, without the token.
func (p Proxy) String() string { return "http://" + proxyUser + ":•••@" + p.address().String() }

func (p Proxy) address() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(p.Port))
}

// variables is an environment in which every name occurs once. Names keep the
// place at which they were first set.
type variables struct {
	fold   bool // names differ in more than case, as on Windows
	order  []string
	values map[string]string // by key(name)
	names  map[string]string // key(name) → the spelling
}

// parse reads an environment as os.Environ gives it. Of a name that occurs
// twice the last value counts, as it does for os/exec. Entries that are no
// variables (no "=", no name) are dropped, but for the "=C:=…" ones in which
// Windows keeps the current directory of each drive.
func parse(environ []string, goos string) *variables {
	v := &variables{fold: goos == "windows", values: map[string]string{}, names: map[string]string{}}
	for _, kv := range environ {
		i := strings.IndexByte(kv, '=')
		if i == 0 && v.fold {
			if j := strings.IndexByte(kv[1:], '='); j > 0 {
				i = j + 1
			}
		}
		if i <= 0 || strings.IndexByte(kv, 0) >= 0 {
			continue
		}
		v.set(kv[:i], kv[i+1:])
	}
	return v
}

func (v *variables) key(name string) string {
	if v.fold {
		return strings.ToUpper(name)
	}
	return name
}

func (v *variables) get(name string) (string, bool) {
	value, ok := v.values[v.key(name)]
	return value, ok
}

func (v *variables) set(name, value string) {
	k := v.key(name)
	if _, ok := v.values[k]; !ok {
		v.order = append(v.order, k)
		v.names[k] = name
	}
	v.values[k] = value
}

func (v *variables) remove(name string) {
	k := v.key(name)
	delete(v.values, k)
	delete(v.names, k)
}

// move sets a variable and gives it the last place.
func (v *variables) move(name, value string) {
	v.remove(name)
	v.set(name, value)
}

// each calls f for every variable in order, with the name as it is spelt. f may
// remove.
func (v *variables) each(f func(name, value string)) {
	// A name that was removed and set again stands in order twice; its last
	// place is the one that counts.
	last := make(map[string]int, len(v.order))
	for i, k := range v.order {
		last[k] = i
	}
	for i, k := range v.order {
		if value, ok := v.values[k]; ok && last[k] == i {
			f(v.names[k], value)
		}
	}
}

// environ is the environment as os/exec takes it.
func (v *variables) environ() []string {
	out := make([]string, 0, len(v.values))
	v.each(func(name, value string) { out = append(out, name+"="+value) })
	return out
}
