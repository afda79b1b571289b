// Package netguard is the way out of the daemon: which addresses a secret may
// be sent to, how an upstream proxy is passed, and what goes wrong on the way,
// in plain words. Requests of children and refreshes go the same way, so that
// none of them finds another one than the others.
package netguard

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// ErrPrivate is a dial to an address that is no public host.
var ErrPrivate = errors.New("the host is on a private address")

// reserved are the blocks that are no public hosts: the IANA registries of special
// addresses (iana-ipv4-special-registry and iana-ipv6-special-registry, by RFC 6890),
// and what clouds put at well-known places. Of IPv6 it has what lies in unicast: all
// else is reserved anyway.
var reserved = func() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8",        // this network, RFC 791; Linux connects 0.0.0.0 to itself
		"10.0.0.0/8",       // RFC 1918
		"100.64.0.0/10",    // carrier NAT, RFC 6598; Alibaba's metadata
		"127.0.0.0/8",      // loopback, RFC 1122
		"168.63.129.16/32", // Azure's host agent, on a public-looking address
		"169.254.0.0/16",   // link-local, RFC 3927; cloud metadata
		"172.16.0.0/12",    // RFC 1918
		"192.0.0.0/24",     // protocol assignments, RFC 6890; Oracle's metadata
		"192.0.2.0/24",     // documentation, RFC 5737
		"192.88.99.0/24",   // 6to4 relays, withdrawn by RFC 7526
		"192.168.0.0/16",   // RFC 1918
		"198.18.0.0/15",    // benchmarks, RFC 2544
		"198.51.100.0/24",  // documentation, RFC 5737
		"203.0.113.0/24",   // documentation, RFC 5737
		"224.0.0.0/4",      // multicast, RFC 5771
		"240.0.0.0/4",      // reserved, RFC 1112; broadcast, RFC 919
		"2001::/23",        // protocol assignments, RFC 2928: Teredo (RFC 4380), ORCHID (RFC 7343)
		"2001:db8::/32",    // documentation, RFC 3849
		"3fff::/20",        // documentation, RFC 9637
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// unicast is all of IPv6 that is assigned to public hosts (RFC 4291, section 2.4, and
// IANA's ipv6-address-space). Outside of it lie loopback, unique local (RFC 4193; AWS's
// metadata), link-local, site-local (RFC 3879) and multicast addresses, NAT64 of a local
// network (64:ff9b:1::/48, RFC 8215), those that are discarded (100::/64, RFC 6666),
// segment routing (5f00::/16, RFC 9602), and blocks that networks of their own have
// taken, as 200::/7.
var unicast = netip.MustParsePrefix("2000::/3")

// embeds are the IPv6 blocks that carry an IPv4 address, with the byte at which
// it starts.
var embeds = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
}

// isatap are the two forms of bytes 8 to 11 of an address, below any prefix, behind
// which the IPv4 address of the host stands (RFC 5214, section 6.1).
var isatap = [2][4]byte{{0, 0, 0x5e, 0xfe}, {2, 0, 0x5e, 0xfe}}

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
		if slices.Contains(isatap[:], [4]byte(b[8:12])) && IsPrivate(netip.AddrFrom4([4]byte(b[12:]))) {
			return true
		}
		return !unicast.Contains(a)
	}
	return false
}

// own are the domains of names that mean nothing on the public network: the own machine
// (RFC 6761, section 6.3), the link (RFC 6762), the home (RFC 8375), and what ICANN has
// reserved for private use, where clouds have their metadata.google.internal.
var own = []string{"localhost", "local", "home.arpa", "internal"}

// HostIsPrivate reports whether a host can be told, without a look-up, to be no
// public one: by its literal address, or by a name that is never a public one. Where an
// upstream proxy resolves names, this is all that can be known.
func HostIsPrivate(host string) bool {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if a, err := netip.ParseAddr(host); err == nil {
		return IsPrivate(a)
	}
	if !utf8.ValidString(host) || strings.ContainsFunc(host, disguise) {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, domain := range own {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return numeric(host)
}

// disguise reports whether a character may stand for an ASCII one where a name is mapped
// (UTS 46), and so spell an address or a name of ours: full-width and mathematical digits
// and letters, full stops of other scripts, the long s. What names are written in are
// letters and marks; of those that are none of these, it is not asked what they look like.
func disguise(r rune) bool {
	switch {
	case r < 0x80:
		return false
	case !unicode.IsLetter(r) && !unicode.IsMark(r):
		return true
	case r == 'ª' || r == 'º', 0x2b0 <= r && r < 0x300, 0x1d2c <= r && r < 0x1dc0, 0x2070 <= r && r < 0x2190, // superscripts, letters as signs
		0xfb00 <= r && r < 0xfb07, 0xff00 <= r && r < 0xfff0, 0x1d400 <= r && r < 0x1d800, 0x1f100 <= r && r < 0x1f200: // ligatures, full-width, mathematical, enclosed
		return true
	}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if f < 0x80 {
			return true
		}
	}
	return false
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
