package netguard

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
)

// RFC 1928, sections 3 to 6, and RFC 1929.
const (
	socksVersion  = 5
	noAuth        = 0
	userPassword  = 2
	noneOfThese   = 0xff
	passwordV1    = 1
	commandDial   = 1
	addressIPv4   = 1
	addressDomain = 3
	addressIPv6   = 4
)

// socksReplies are the answers to a request, by RFC 1928, section 6.
var socksReplies = map[byte]string{
	1: "it failed",
	2: "its rules do not allow it",
	3: "it cannot reach the network",
	4: "it cannot reach the host",
	5: "the connection was refused there",
	6: "it took too long there",
	7: "it makes no connections",
	8: "it does not know this kind of address",
}

// socks asks a SOCKS5 proxy for a connection. Exactly the proxy's part is read,
// so that conn itself is the connection afterwards.
func socks(conn net.Conn, via *url.URL, host string, port int) (net.Conn, error) {
	fail := func(cause string) error { return &ProxyError{Proxy: via.Host, Cause: cause} }
	hello := []byte{socksVersion, 1, noAuth}
	if via.User != nil {
		hello = []byte{socksVersion, 2, noAuth, userPassword}
	}
	var choice [2]byte
	if err := ask(conn, hello, choice[:]); err != nil {
		return nil, err
	}
	switch {
	case choice[0] != socksVersion:
		return nil, fail("it does not speak SOCKS5")
	case choice[1] == noAuth:
	case choice[1] == userPassword && via.User != nil:
		if err := login(conn, via); err != nil {
			return nil, err
		}
	case choice[1] == noneOfThese && via.User == nil:
		return nil, &ProxyError{Proxy: via.Host, Cause: "it wants a user name and a password", Denied: true}
	default:
		return nil, fail("it wants another authentication than a user name and a password")
	}

	req := []byte{socksVersion, commandDial, 0}
	if a, err := netip.ParseAddr(host); err != nil {
		if len(host) > 255 {
			return nil, fail("the name of the host is too long for it")
		}
		req = append(append(req, addressDomain, byte(len(host))), host...)
	} else if a = a.Unmap(); a.Is4() {
		req = append(append(req, addressIPv4), a.AsSlice()...)
	} else {
		req = append(append(req, addressIPv6), a.AsSlice()...)
	}
	req = binary.BigEndian.AppendUint16(req, uint16(port))
	var head [4]byte // version, reply, reserved, type of the address that follows
	if err := ask(conn, req, head[:]); err != nil {
		return nil, err
	}
	if head[0] != socksVersion {
		return nil, fail("it does not speak SOCKS5")
	}
	if reply := head[1]; reply != 0 {
		cause := socksReplies[reply]
		if cause == "" {
			cause = fmt.Sprintf("it failed with number %d", reply)
		}
		return nil, &ProxyError{
			Proxy: via.Host, Cause: fmt.Sprintf("asked for %s, %s", net.JoinHostPort(host, fmt.Sprint(port)), cause),
			Timeout: reply == 6, target: reply >= 3 && reply <= 6 || reply == 8,
		}
	}
	// The address that it is connected from, which nobody needs.
	length := 0
	switch head[3] {
	case addressIPv4:
		length = net.IPv4len
	case addressIPv6:
		length = net.IPv6len
	case addressDomain:
		var n [1]byte
		if _, err := io.ReadFull(conn, n[:]); err != nil {
			return nil, err
		}
		length = int(n[0])
	default:
		return nil, fail("it does not speak SOCKS5")
	}
	if _, err := io.ReadFull(conn, make([]byte, length+2)); err != nil {
		return nil, err
	}
	return conn, nil
}

// login is RFC 1929. CheckProxy has seen to the lengths.
func login(conn net.Conn, via *url.URL) error {
	password, _ := via.User.Password()
	msg := append([]byte{passwordV1, byte(len(via.User.Username()))}, via.User.Username()...)
	msg = append(append(msg, byte(len(password))), password...)
	var answer [2]byte
	err := ask(conn, msg, answer[:])
	clear(msg)
	// Some hang up instead of answering.
	if err == nil && answer[1] != 0 || err != nil && !isTimeout(err) {
		return &ProxyError{Proxy: via.Host, Cause: "it refused the user name and the password", Denied: true}
	}
	return err
}

// ask writes a message and reads an answer of a known length.
func ask(conn net.Conn, message, answer []byte) error {
	if _, err := conn.Write(message); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, answer)
	return err
}
