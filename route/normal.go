// Package route decides which provider a request belongs to. It is pure: text
// in, decision out. Hosts and paths are normalised here, once, and what is
// routed on is what is forwarded.
package route

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// hostProfile maps names as browsers do (UTS #46, non-transitional), with
// underscores left alone: they are no host names by RFC 1123, but services use
// them.
var hostProfile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// Host normalises a host: lower-case, IDNA to ASCII, no trailing dot, an IP
// literal in its shortest form and without brackets (an IPv4 address mapped
// into IPv6 as IPv4, since that is where a connection to it ends). It refuses
// what is no host, and spellings of IP addresses that programs read differently
// ("0x7f.1", "127.1", "017700000001").
func Host(s string) (string, error) {
	if maybeAddress(s) {
		text, bracketed := s, false
		if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
			text, bracketed = s[1:len(s)-1], true
		}
		a, err := netip.ParseAddr(text)
		switch {
		case bracketed && (err != nil || a.Is4() || a.Zone() != ""):
			return "", errors.New("not an IPv6 address between the brackets")
		case err == nil && a.Zone() != "":
			return "", errors.New("an address with a zone is none on the network")
		case err == nil:
			return a.Unmap().String(), nil
		}
	}
	lower := asciiLower(s)
	// Punycode is checked by the profile.
	if plain(lower) && !strings.Contains(lower, "xn--") {
		return dotless(lower)
	}
	if !utf8.ValidString(s) {
		return "", errors.New("it is not valid UTF-8")
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`/\:@?#%[]<>^|"'{}`+"`", r) {
			return "", errors.New("it holds a character that no host has")
		}
	}
	ascii, err := hostProfile.ToASCII(s)
	// What does not map to itself the second time is not normal yet.
	if again, err2 := hostProfile.ToASCII(ascii); err != nil || err2 != nil || again != ascii {
		return "", errors.New("it is no internationalised name (IDNA)")
	}
	if !plain(ascii) {
		return "", errors.New("it holds a character that no host has")
	}
	return dotless(ascii)
}

// maybeAddress reports whether s could be an IP literal: only those have a
// colon, or end in a digit.
func maybeAddress(s string) bool {
	return s != "" && (strings.IndexByte(s, ':') >= 0 || s[0] == '[' || s[len(s)-1] >= '0' && s[len(s)-1] <= '9')
}

// asciiLower lower-cases A to Z and leaves the rest to IDNA. It does not copy
// what has none.
func asciiLower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// plain reports whether s is made of the characters of a normalised host, so
// that the common case needs no tables.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// dotless takes the trailing dot off and checks the labels.
func dotless(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return "", errors.New("it is empty, or longer than 253 characters")
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return "", errors.New("a part between its dots is empty, or longer than 63 characters")
		}
		last = label
	}
	// A name whose last label is a number is an IPv4 address to the URL
	// standard's parser, in octal or hex or with parts left out; the canonical
	// form has been taken above.
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		return "", errors.New("it is an IP address in an unusual spelling")
	}
	return s, nil
}

// Path normalises an escaped path, so that what is routed on is what is
// forwarded: dot segments are resolved (also "%2e"), unreserved characters are
// decoded and escapes written in upper case (RFC 3986 section 6.2.2), and an
// empty path becomes "/".
//
// "%2F" stays as it is, since services tell it from a slash (GitLab's
// /projects/group%2Fproject), and so do doubled slashes (an address as a part
// of a path) and ";parameters".
//
// It refuses what an upstream could read as another path than we do: control
// characters, a broken escape, a backslash in any form, and a segment that
// would be a dot segment after "%2F" or a ";parameter" in it is taken apart,
// after decoding it again, or read with an overlong UTF-8 sequence as a dot.
func Path(escaped string) (string, error) {
	if escaped == "" {
		return "/", nil
	}
	if escaped[0] != '/' {
		return "", errors.New("the path does not begin with a slash")
	}
	if clean(escaped) {
		return escaped, nil
	}
	text, err := recode(escaped)
	if err != nil {
		return "", err
	}
	var out []string
	segments := strings.Split(text[1:], "/")
	for i, seg := range segments {
		switch {
		case seg == ".":
			if i == len(segments)-1 {
				out = append(out, "")
			}
		case seg == "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if i == len(segments)-1 {
				out = append(out, "")
			}
		case hiddenDots(seg):
			return "", errors.New("the path holds a dot segment in disguise")
		default:
			out = append(out, seg)
		}
	}
	return "/" + strings.Join(out, "/"), nil
}

// clean reports whether a path is normal as it stands, without a copy.
func clean(p string) bool {
	for i := range len(p) {
		c := p[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '~':
		case c == '/':
			// "/." may begin a dot segment.
			if i+1 < len(p) && p[i+1] == '.' {
				return false
			}
		case c == '.', c == ':', c == '@', c == '+', c == ',', c == '=', c == '&', c == '$', c == '!', c == '*', c == '(', c == ')', c == '\'':
		default:
			return false
		}
	}
	return true
}

// recode writes every character of a path in its one normal form.
func recode(p string) (string, error) {
	var sb strings.Builder
	sb.Grow(len(p))
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '%':
			if i+2 >= len(p) || unhex(p[i+1]) < 0 || unhex(p[i+2]) < 0 {
				return "", errors.New("the path holds a broken escape")
			}
			d := byte(unhex(p[i+1])<<4 | unhex(p[i+2]))
			i += 2
			switch {
			case d < ' ' || d == 0x7f:
				return "", errors.New("the path holds an escaped control character")
			case d == '\\':
				return "", errors.New("the path holds a backslash, which some servers read as a slash")
			case unreserved(d):
				sb.WriteByte(d)
			default:
				sb.WriteString("%")
				sb.WriteByte(upperHex[d>>4])
				sb.WriteByte(upperHex[d&15])
			}
		case c <= ' ' || c == 0x7f:
			return "", errors.New("the path holds a space or control character")
		case c == '\\':
			return "", errors.New("the path holds a backslash, which some servers read as a slash")
		case c == '?' || c == '#':
			return "", errors.New("the path holds a query or fragment")
		case c > 0x7f || strings.IndexByte(`"<>^`+"`{|}", c) >= 0:
			sb.WriteString("%")
			sb.WriteByte(upperHex[c>>4])
			sb.WriteByte(upperHex[c&15])
		default:
			sb.WriteByte(c)
		}
	}
	return sb.String(), nil
}

const upperHex = "0123456789ABCDEF"

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// overlong turns a backslash, and what old decoders take for a dot or slash
// although UTF-8 forbids it (RFC 3629 section 10), into what they stand for.
var overlong = strings.NewReplacer(
	`\`, "/",
	"\xc0\xae", ".", "\xe0\x80\xae", ".", "\xf0\x80\x80\xae", ".",
	"\xc0\xaf", "/", "\xe0\x80\xaf", "/", "\xf0\x80\x80\xaf", "/",
	"\xc1\x9c", "/", "\xe0\x81\x9c", "/", "\xf0\x80\x81\x9c", "/",
)

// hiddenDots reports whether a segment would be, or hold, a dot segment to a
// server that decodes once or twice more, or that cuts ";parameters" off.
func hiddenDots(seg string) bool {
	if !strings.ContainsAny(seg, "%;") {
		return false
	}
	for decoded := 0; ; decoded++ {
		for part := range strings.SplitSeq(overlong.Replace(seg), "/") {
			part, _, _ = strings.Cut(part, ";")
			if part == ".." || part == "." {
				return true
			}
		}
		next := decodeOnce(seg)
		switch {
		case next == seg:
			return false
		case decoded == 3:
			return true // escaped more than three times over: nothing honest is
		}
		seg = next
	}
}

// odd reports whether servers may differ in what a normal path means.
func odd(path string) bool {
	return strings.ContainsAny(path, "%;") || strings.Contains(path, "//")
}

// loose is a normal path as the most lenient of servers read it: decoded, also
// twice and three times over, "%2F" with the rest (nginx), without ";parameters"
// (Tomcat), with doubled slashes as one (nginx's merge_slashes), and ended by an
// escaped "?", "#" or NUL. No server goes further: whatever one of them takes for a
// path of a route, loose takes for that as well.
func loose(path string) string {
	if !odd(path) {
		return path
	}
	for range 3 {
		path = decodeOnce(path)
	}
	path = overlong.Replace(path)
	if i := strings.IndexAny(path, "?#\x00"); i >= 0 {
		path = path[:i]
	}
	var sb strings.Builder
	for seg := range strings.SplitSeq(path, "/") {
		if seg, _, _ = strings.Cut(seg, ";"); seg != "" {
			sb.WriteString("/" + seg)
		}
	}
	if sb.Len() == 0 {
		return "/"
	}
	return sb.String()
}

// decodeOnce decodes what can be decoded.
func decodeOnce(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var sb strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0 {
			sb.WriteByte(byte(unhex(s[i+1])<<4 | unhex(s[i+2])))
			i += 2
			continue
		}
		sb.WriteByte(s[i])
	}
	return sb.String()
}
