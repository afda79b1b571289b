package proxy

import (
	"strings"

	"github.com/authsome/authsome"
)

// What stands between the fields of a query and of cookies. Services differ in
// whether a semicolon ends a parameter and a comma a cookie (RFC 2109 did), so
// that either is looked behind for a name that counts.
const (
	betweenParameters = "&;"
	betweenCookies    = ";,"
)

// readName is a name as some service may read it: decoded, in small letters,
// without blanks around it, as the list that it may be the beginning of, and
// with the characters that PHP turns into underscores as such. Two names that
// are read alike are the same place.
func readName(raw string) string {
	s := strings.ToLower(strings.Trim(decodeField(raw), "\x00\t\n\v\f\r "))
	if i := strings.IndexAny(s, "[\x00"); i > 0 {
		s = s[:i]
	}
	if strings.ContainsAny(s, ". ") {
		s = strings.NewReplacer(".", "_", " ", "_").Replace(s)
	}
	return s
}

// decodeField undoes the escapes of a query: %41, + for a blank, and IIS's
// %u0041. One that is none stays as it is.
func decodeField(raw string) string {
	if !strings.ContainsAny(raw, "%+") {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '+':
			out = append(out, ' ')
		case c == '%' && isHex(raw[i+1:], 2):
			out = append(out, unhex(raw[i+1])<<4|unhex(raw[i+2]))
			i += 2
		case c == '%' && i+1 < len(raw) && raw[i+1]|0x20 == 'u' && isHex(raw[i+2:], 4):
			r := rune(unhex(raw[i+2]))<<12 | rune(unhex(raw[i+3]))<<8 | rune(unhex(raw[i+4]))<<4 | rune(unhex(raw[i+5]))
			out = append(out, string(r)...)
			i += 5
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

func isHex(s string, n int) bool {
	if len(s) < n {
		return false
	}
	for i := range n {
		if c := s[i] | 0x20; (s[i] < '0' || s[i] > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// field is one to put into a query or a Cookie header.
type field struct {
	name  string // as it is written
	value string // encoded
}

// eachField calls f for each part of a list of fields. before is the separator in
// front of it, 0 for the first.
func eachField(list, separators string, f func(before byte, part string)) {
	before := byte(0)
	for {
		i := strings.IndexAny(list, separators)
		if i < 0 {
			f(before, list)
			return
		}
		f(before, list[:i])
		before, list = list[i], list[i+1:]
	}
}

// replaceFields takes the fields that are read as one of names out of a list,
// and puts set in: each in the place of the first that it stands for, or at the
// end, behind glue. All else stays byte for byte.
func replaceFields(list, separators, glue string, names []string, set []field) string {
	var sb strings.Builder
	sb.Grow(len(list) + 64)
	written := make([]bool, len(set))
	some := false
	emit := func(before byte, part string) {
		if some && before != 0 {
			sb.WriteByte(before)
		}
		some = true
		sb.WriteString(part)
	}
	if list != "" {
		eachField(list, separators, func(before byte, part string) {
			name, _, _ := strings.Cut(part, "=")
			read := readName(name)
			for i, s := range set {
				if !written[i] && readName(s.name) == read {
					written[i] = true
					blank := part[:len(part)-len(strings.TrimLeft(part, " "))]
					emit(before, blank+s.name+"="+s.value)
					return
				}
			}
			for _, n := range names {
				if readName(n) == read {
					return
				}
			}
			emit(before, part)
		})
	}
	for i, s := range set {
		if !written[i] {
			if some {
				sb.WriteString(glue)
			}
			some = true
			sb.WriteString(s.name + "=" + s.value)
		}
	}
	return sb.String()
}

// lookForField says what stands in a field of a list. There is always room for
// it.
func lookForField(at authsome.Place, list, separators string) []authsome.Found {
	var found []authsome.Found
	eachField(list, separators, func(_ byte, part string) {
		name, value, _ := strings.Cut(part, "=")
		if !strings.Contains(value, "authsome") && !strings.Contains(value, "%") || readName(name) != readName(at.Name) {
			return
		}
		if connection, ok := authsome.FindPlaceholder(decodeField(value)); ok {
			found = append(found, authsome.Found{Place: at, Placeholder: true, Connection: connection})
		}
	})
	if len(found) == 0 {
		return []authsome.Found{{Place: at}}
	}
	return found
}

// encodeField percent-encodes a value for a query or a form: all but what RFC
// 3986, section 2.3 leaves as it is.
func encodeField(s string) string {
	const hex = "0123456789ABCDEF"
	var sb strings.Builder
	sb.Grow(len(s) + 8)
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			sb.WriteByte(c)
			continue
		}
		sb.WriteByte('%')
		sb.WriteByte(hex[c>>4])
		sb.WriteByte(hex[c&15])
	}
	return sb.String()
}

// fitsCookie reports whether a value may stand in a cookie as it is (RFC 6265,
// section 4.1.1). Cookies know no escape.
func fitsCookie(value string) bool {
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\",;\\", c) >= 0 {
			return false
		}
	}
	return value != ""
}
