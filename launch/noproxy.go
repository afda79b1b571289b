package launch

import (
	"net/netip"
	"path"
	"slices"
	"strings"
)

// direct is what never goes through the proxy: the machine itself, where an
// agent's own servers listen, and the address at which clouds answer questions
// about the instance, which is local to each machine as well.
//
// Every entry is spelt out: 127.0.0.0/8 is understood by few clients.
var direct = []string{"localhost", "127.0.0.1", "::1", "169.254.169.254"}

// noProxy merges the person's entries with ours. An entry that would let a
// routed host go round the proxy is left out, and returned in dropped: the
// request would reach the service with the placeholder.
func noProxy(values []string, hosts []string) (merged string, dropped []string) {
	var keep []string
	for _, value := range values {
		// Commas in most clients, white space in some.
		for _, entry := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
			switch {
			case slices.Contains(keep, entry) || slices.Contains(dropped, entry) || slices.Contains(direct, entry):
			case coversAny(entry, hosts):
				dropped = append(dropped, entry)
			default:
				keep = append(keep, entry)
			}
		}
	}
	return strings.Join(append(keep, direct...), ","), dropped
}

// coversAny reports whether a client may take an entry to mean one of the
// hosts. Clients differ, so the widest reading of each form counts:
//
//   - "*" alone, or a name with "*" anywhere in it;
//   - a name, with or without a dot or "*." in front, as a suffix, and that
//     without regard to labels: wget and Python's requests take "hub.com" for
//     github.com;
//   - a port behind a name, ignored;
//   - an address or a network, for hosts that are addresses;
//   - a scheme in front and a path behind, ignored, or the scheme as the name.
func coversAny(entry string, hosts []string) bool {
	entry = strings.ToLower(entry)
	if scheme, rest, ok := strings.Cut(entry, "://"); ok {
		if coversAny(scheme, hosts) {
			return true
		}
		entry = rest
	}
	if network, err := netip.ParsePrefix(entry); err == nil {
		return slices.ContainsFunc(hosts, func(h string) bool {
			addr, err := netip.ParseAddr(hostOf(h))
			return err == nil && network.Contains(addr.Unmap())
		})
	}
	entry, _, _ = strings.Cut(entry, "/")
	entry = hostOf(entry)
	suffix := strings.Trim(strings.TrimLeft(entry, "*."), ".")
	if suffix == "" || strings.Contains(suffix, "@") { // no host; who knows what a client makes of it
		return true
	}
	return slices.ContainsFunc(hosts, func(h string) bool {
		h = strings.ToLower(hostOf(h))
		if routed, err := netip.ParseAddr(h); err == nil {
			addr, err := netip.ParseAddr(suffix)
			return err == nil && routed.Unmap() == addr.Unmap() || strings.HasSuffix(h, suffix) || strings.HasPrefix(h, suffix) ||
				strings.ContainsAny(suffix, "*?[\\") && matchesTail(suffix, h)
		}
		parent, wildcard := strings.CutPrefix(h, "*.")
		switch {
		case strings.ContainsAny(suffix, "*?[\\"):
			// What lies under a wildcard may match any pattern.
			ok, err := path.Match(suffix, h)
			return wildcard || ok || err != nil || matchesTail(suffix, h)
		case !ascii(suffix):
			// A client may compare it with the name's xn-- form.
			return wildcard || strings.Contains(h, "xn--")
		case wildcard:
			return strings.HasSuffix("."+parent, suffix) || strings.HasSuffix(suffix, "."+parent)
		default:
			return strings.HasSuffix(h, suffix)
		}
	})
}

// matchesTail reports whether some tail of host matches the pattern.
func matchesTail(pattern, host string) bool {
	for i := range host {
		if ok, err := path.Match(pattern, host[i:]); ok || err != nil {
			return true
		}
	}
	return false
}

// hostOf takes the port and the brackets off an authority.
func hostOf(s string) string {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		if host, port, ok := strings.Cut(rest, "]"); ok && (port == "" || port[0] == ':') {
			return host
		}
		return s
	}
	if host, port, ok := strings.Cut(s, ":"); ok && !strings.Contains(port, ":") {
		return host
	}
	return s
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 126 }) < 0
}
