package proxy

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/authsome/authsome/route"
)

var errAuthority = errors.New("not host:port")

// parseAuthority splits "host:port", "[v6]:port" or, when fallback is not 0,
// the same without a port. The host comes back normalised by package route, so
// that every spelling of a host is routed alike.
func parseAuthority(s string, fallback int) (host string, port int, err error) {
	rest := ""
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if host, rest, ok = strings.Cut(inner, "]"); !ok {
			return "", 0, errAuthority
		}
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", 0, errAuthority
		}
		host = addr.Unmap().String()
	} else {
		host, rest, _ = strings.Cut(s, ":")
		if len(host) < len(s) {
			rest = ":" + rest
		}
	}
	switch digits, ok := strings.CutPrefix(rest, ":"); {
	case rest == "" && fallback != 0:
		port = fallback
	case !ok || len(digits) > 5 || strings.Trim(digits, "0123456789") != "":
		return "", 0, errAuthority
	default:
		if port, err = strconv.Atoi(digits); err != nil || port < 1 || port > 65535 {
			return "", 0, errAuthority
		}
	}
	if host, err = route.Host(host); err != nil {
		return "", 0, err
	}
	return host, port, nil
}

// joinAuthority is the inverse for a Host header: the port is left out when it
// is usual.
func joinAuthority(host string, port, usual int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == usual {
		return host
	}
	return host + ":" + strconv.Itoa(port)
}

// proxyToken is the password of Proxy-Authorization: Basic (RFC 7617). The user
// name is the client's to choose. Two headers are as good as none: which of
// them counts would be a guess.
func proxyToken(h http.Header) (string, bool) {
	values := h["Proxy-Authorization"]
	if len(values) != 1 {
		return "", false
	}
	text, ok := decodeBasic(values[0])
	if !ok {
		return "", false
	}
	_, token, ok := strings.Cut(text, ":")
	return token, ok && token != ""
}

// decodeBasic gives the "user:password" of a Basic credential, with or without
// padding, which clients forget.
func decodeBasic(value string) (string, bool) {
	const scheme = "basic"
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) ||
		value[len(scheme)] != ' ' && value[len(scheme)] != '\t' {
		return "", false
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.Trim(value[len(scheme):], " \t="))
	if err != nil {
		return "", false
	}
	return string(raw), true
}
