package netguard

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// addresses are one of each kind, at both ends of its block where it has ends, with where
// the block comes from.
var addresses = []struct {
	from    string
	private []string
}{
	{"this network, RFC 791", []string{"0.0.0.0", "0.1.2.3", "0.255.255.255"}},
	{"private use, RFC 1918", []string{"10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"}},
	{"carrier NAT, RFC 6598", []string{"100.64.0.0", "100.127.255.255"}},
	{"loopback, RFC 1122", []string{"127.0.0.0", "127.0.0.1", "127.9.9.9", "127.255.255.255"}},
	{"link-local, RFC 3927", []string{"169.254.0.0", "169.254.255.255"}},
	{"protocol assignments, RFC 6890", []string{"192.0.0.0", "192.0.0.8", "192.0.0.170", "192.0.0.255"}},
	{"documentation, RFC 5737", []string{"192.0.2.1", "198.51.100.1", "203.0.113.255"}},
	{"relays of 6to4, RFC 7526", []string{"192.88.99.1"}},
	{"benchmarks, RFC 2544", []string{"198.18.0.0", "198.19.255.255"}},
	{"multicast, RFC 5771", []string{"224.0.0.0", "224.0.0.251", "239.255.255.255"}},
	{"reserved, RFC 1112, and broadcast, RFC 919", []string{"240.0.0.0", "255.255.255.254", "255.255.255.255"}},

	{"metadata of AWS, GCP, Azure, DigitalOcean, OpenStack", []string{"169.254.169.254"}},
	{"credentials of AWS containers", []string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}},
	{"metadata of AWS and GCP over IPv6", []string{"fd00:ec2::254", "fd20:ce::254"}},
	{"metadata of Alibaba", []string{"100.100.100.200"}},
	{"host agent of Azure", []string{"168.63.129.16"}},
	{"metadata of Oracle", []string{"192.0.0.192"}},

	{"unspecified and loopback, RFC 4291", []string{"::", "::1", "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001"}},
	{"IPv4-mapped, RFC 4291", []string{"::ffff:127.0.0.1", "::FFFF:7F00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "0:0:0:0:0:ffff:a9fe:a9fe", "::ffff:168.63.129.16", "::ffff:0.0.0.0"}},
	{"IPv4-compatible, RFC 4291, whatever is behind", []string{"::127.0.0.1", "::10.0.0.1", "::169.254.169.254", "::8.8.8.8"}},
	{"IPv4-translated, RFC 7915, whatever is behind", []string{"::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe", "::ffff:0:8.8.8.8"}},
	{"NAT64, RFC 6052", []string{"64:ff9b::7f00:1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::a83f:8110", "64:ff9b::100.100.100.200", "64:ff9b::192.0.0.192", "64:ff9b::", "0064:ff9b:0:0:0:0:7f00:0001"}},
	{"NAT64 of a local network, RFC 8215, whatever is behind", []string{"64:ff9b:1::", "64:ff9b:1::808:808", "64:ff9b:1:fffe::7f00:1", "64:ff9b:1:7f00:0:100::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"}},
	{"what is beside the two", []string{"64:ff9b:0:1::808:808", "64:ff9b:2::808:808", "64:ff9a::808:808"}},
	{"6to4, RFC 3056", []string{"2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::1", "2002:c0a8:1::", "2002:a83f:8110::", "2002::"}},
	{"Teredo, RFC 4380, whatever is behind", []string{"2001::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:0:808:808::"}},
	{"ISATAP, RFC 5214", []string{"2606:4700::5efe:127.0.0.1", "2606:4700::5efe:a00:1", "2606:4700::200:5efe:10.0.0.1", "2a00:1450:4001::200:5efe:a9fe:a9fe", "fe80::5efe:8.8.8.8"}},
	{"other protocol assignments, RFC 2928", []string{"2001:1::1", "2001:2::", "2001:10::", "2001:20::1", "2001:30::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	{"documentation, RFC 3849 and RFC 9637", []string{"2001:db8::1", "2001:db8:ffff::", "3fff::1", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	{"discarded, RFC 6666, and a dummy, RFC 9780", []string{"100::", "100::1", "100:0:0:1::"}},
	{"segment routing, RFC 9602", []string{"5f00::", "5f00:ffff::1"}},
	{"unique local, RFC 4193", []string{"fc00::", "fc00::1", "fd00::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	{"link-local, RFC 4291", []string{"fe80::", "fe80::1", "febf:ffff::1"}},
	{"with a zone, RFC 4007", []string{"fe80::1%eth0", "fe80::1%25eth0", "::1%lo", "2001:db8::1%1"}},
	{"site-local, RFC 3879", []string{"fec0::", "fec0::1", "feff:ffff::1"}},
	{"multicast, RFC 4291", []string{"ff00::", "ff01::1", "ff02::1", "ff02::fb", "ff05::1:3", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	{"not assigned, IANA's ipv6-address-space", []string{"::2", "1::", "200::1", "300:1:2::3", "400::", "1fff:ffff::", "4000::", "8000::1", "e000::", "fe00::1"}},
}

func TestPrivateAddresses(t *testing.T) {
	for _, tt := range addresses {
		for _, s := range tt.private {
			if !IsPrivate(netip.MustParseAddr(s)) || !HostIsPrivate(s) || !HostIsPrivate("["+s+"]") {
				t.Errorf("%s (%s) counts as public", s, tt.from)
			}
			if err := PublicOnly("tcp", net.JoinHostPort(s, "443"), nil); !errors.Is(err, ErrPrivate) {
				t.Errorf("%s (%s) is dialled: %v", s, tt.from, err)
			}
		}
	}
	if !IsPrivate(netip.Addr{}) {
		t.Error("no address counts as public")
	}
	for _, s := range []string{"", "8.8.8.8", "x:443", "[::1]:443", "127.0.0.1:443", "example.com:443", "8.8.8.8:https"} {
		if PublicOnly("tcp", s, nil) == nil {
			t.Errorf("a dial to %q was let through", s)
		}
	}
}

// TestPublicAddresses are the neighbours of the blocks, and real hosts.
func TestPublicAddresses(t *testing.T) {
	for _, s := range []string{
		"1.0.0.0", "8.8.8.8", "1.1.1.1", "140.82.121.4", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
		"2000::", "2001:200::", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450::1", "2001:db7:ffff::1", "2001:db9::", "2003::1", "3ffe::1", "3fff:1000::",
		"::ffff:8.8.8.8", "64:ff9b::808:808", "64:ff9b::8.8.8.8", "2002:808:808::1", "2606:4700::5efe:8.8.8.8", "2606:4700::5eff:127.0.0.1",
	} {
		if IsPrivate(netip.MustParseAddr(s)) || HostIsPrivate(s) {
			t.Errorf("%s counts as private", s)
		}
		if err := PublicOnly("tcp", net.JoinHostPort(s, "443"), nil); err != nil {
			t.Errorf("%s is not dialled: %v", s, err)
		}
	}
}

// TestHostIsPrivate: what a proxy that resolves names might take for an address, or for a
// host of its own network.
func TestHostIsPrivate(t *testing.T) {
	for _, host := range []string{
		// The forms of inet_aton, and of the URL standard's parser: short, octal,
		// hexadecimal, a number; also of addresses that are public.
		"127.1", "127.0.1", "10.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "0x7f.0x0.0x0.0x1", "0177.0.0.1", "0177.1", "00000177.0.0.01", "127.0.0.1.", "127.1.",
		"169.254.43518", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "0", "0x", "0.0", "1.2.3.4.5", "256.1.1.1", "134744072", "8.8.8.8.",
		// As IDNA maps them: full-width digits, mathematical ones, other full stops.
		"\uff11\uff12\uff17.0.0.1", "\uff11\uff12\uff17.1", "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1", "\U0001d7d9\U0001d7da\U0001d7df.0.0.1", "\u2460\u2461\u2466.0.0.1", "1\u00ad27.0.0.1",
		"\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54", "localhost\u3002", "localho\u017ft", "\u24c1ocalhost", "loc\u00aalhost", "\u2113ocalhost", "metadata.goog\u2113e.internal", "a\xff",
		"localhost", "LocalHost.", "x.localhost", "printer.local", "nas.home.arpa", "git.corp.internal",
		"metadata.google.internal", "METADATA.google.internal.", "instance-data.ec2.internal", "[::1]", "[127.0.0.1]",
	} {
		if !HostIsPrivate(host) {
			t.Errorf("%q counts as public", host)
		}
	}
	for _, host := range []string{
		"example.com", "api.openai.com.", "localhost.example.com", "notlocalhost", "1.example", "0xample", "0x.example", "a.b1", "127.0.0.1.nip.io", "metadata.example.com", "internal.example.com",
		"under_score.example.com", "m\u00fcnchen.example", "xn--mnchen-3ya.example", "\u043f\u0440\u0438\u043c\u0435\u0440.example", "\u4f8b\u3048.\u30c6\u30b9\u30c8", "mu\u0308nchen.example", "r3---sn.example.com", "internal.", "x.localhosts", "x.homearpa",
	} {
		if want := host == "internal."; HostIsPrivate(host) != want {
			t.Errorf("HostIsPrivate(%q) is not %v", host, want)
		}
	}
}
