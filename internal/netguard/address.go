// Package netguard is the way out of the daemon: which addresses a secret may
// be sent to, how an upstream proxy is passed, and what goes wrong on the way,
// in plain words. Requests of children and refreshes go the same way, so that
// none of them finds another one than the others.
package netguard

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
)

// ErrPrivate is a dial to an address that is no public host.
var ErrPrivate = errors.New("the host is on a private address")

// reserved are the blocks that are no public hosts: RFC 6890 and its registries
// (IANA special-purpose addresses), and what clouds put at well-known places.
var reserved = func() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8",        // this network; Linux connects 0.0.0.0 to itself
		"10.0.0.0/8",       // RFC 1918
		"100.64.0.0/10",    // carrier NAT, RFC 6598; Alibaba's metadata
		"127.0.0.0/8",      // loopback
		"168.63.129.16/32", // Azure's host agent, on a public-looking address
		"169.254.0.0/16",   // link-local; cloud metadata
		"172.16.0.0/12",    // RFC 1918
		"192.0.0.0/24",     // RFC 6890; Oracle's metadata
		"192.0.2.0/24",     // documentation
		"192.88.99.0/24",   // 6to4 relays, withdrawn
		"192.168.0.0/16",   // RFC 1918
		"198.18.0.0/15",    // benchmarks
		"198.51.100.0/24",  // documentation
		"203.0.113.0/24",   // documentation
		"224.0.0.0/4",      // multicast
		"240.0.0.0/4",      // reserved, broadcast
		"64:ff9b:1::/48",   // NAT64 of a local network, RFC 8215
		"100::/64",         // discard
		"2001::/23",        // protocol assignments: Teredo, ORCHID
		"2001:db8::/32",    // documentation
		"3fff::/20",        // documentation
		"5f00::/16",        // segment routing
		"fc00::/7",         // unique local; AWS's metadata
		"fe80::/10",        // link-local
		"fec0::/10",        // site-local, deprecated
		"ff00::/8",         // multicast
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// embeds are the IPv6 blocks that carry an IPv4 address, with the byte at which
// it starts.
var embeds = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible, with :: and ::1
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
}

// IsPrivate reports whether an address is anything but a public host.
func IsPrivate(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return true
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return true
		}
	}
	if a.Is6() {
		b := a.As16()
		for _, e := range embeds {
			if e.prefix.Contains(a) {
				return IsPrivate(netip.AddrFrom4([4]byte(b[e.at : e.at+4])))
			}
		}
	}
	return false
}

// HostIsPrivate reports whether a host can be told, without a look-up, to be no
// public one: by its literal address, or by a name that always means the own
// machine (RFC 6761, section 6.3). Where an upstream proxy resolves names, this
// is all that can be known.
func HostIsPrivate(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return IsPrivate(a)
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || numeric(host)
}

// numeric reports whether a name would be read as an IPv4 address in one of the
// forms of inet_aton ("0x7f.1", "2130706433"), which the C library and so some
// proxies still accept. No top-level domain is a number.
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.HasPrefix(last, "0x") {
		return strings.Trim(last[2:], "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// PublicOnly is a net.Dialer.Control: it sees the address after DNS, and right
// before the connection is made, so that no name can point elsewhere in
// between.
func PublicOnly(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || IsPrivate(ap.Addr()) {
		return ErrPrivate
	}
	return nil
}
