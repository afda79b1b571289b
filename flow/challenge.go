package flow

import "strings"

// challenge is one of a WWW-Authenticate header's (RFC 9110, section 11.6.1).
// Names are in lower case.
type challenge struct {
	scheme string
	params map[string]string
}

// Bounds of what is looked at of WWW-Authenticate.
const (
	maxChallengeHeaders = 8
	maxChallengeBytes   = 16 << 10
)

// parseChallenges reads WWW-Authenticate headers. What does not parse ends its
// header, and what came before it counts: servers write these by hand, and one
// broken challenge should not hide another.
func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, h := range headers[:min(len(headers), maxChallengeHeaders)] {
		s := scanner{text: h}
		for len(h) <= maxChallengeBytes {
			s.skip(" \t,")
			name := s.token()
			if name == "" {
				break
			}
			// "name =" is a parameter of the challenge before; a name that is not
			// followed by "=" is the next scheme.
			mark := s
			s.skip(" \t")
			if s.next() == '=' && len(out) > 0 {
				s.at++
				s.skip(" \t")
				value, ok := s.value()
				if !ok {
					break
				}
				last := out[len(out)-1].params
				if _, twice := last[strings.ToLower(name)]; !twice { // the first counts
					last[strings.ToLower(name)] = value
				}
				continue
			}
			s = mark
			out = append(out, challenge{scheme: strings.ToLower(name), params: map[string]string{}})
			s.token68()
		}
	}
	return out
}

// scanner reads a header's value from left to right.
type scanner struct {
	text string
	at   int
}

func (s *scanner) next() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) skip(chars string) {
	for s.at < len(s.text) && strings.IndexByte(chars, s.text[s.at]) >= 0 {
		s.at++
	}
}

// token reads one (RFC 9110, section 5.6.2), "" when there is none.
func (s *scanner) token() string {
	from := s.at
	for s.at < len(s.text) && isTokenChar(s.text[s.at]) {
		s.at++
	}
	return s.text[from:s.at]
}

func isTokenChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// value reads a token or a quoted string.
func (s *scanner) value() (string, bool) {
	if s.next() != '"' {
		// Addresses without quotes are wrong, and common.
		from := s.at
		for s.at < len(s.text) && s.text[s.at] > ' ' && s.text[s.at] < 0x7f && strings.IndexByte(`,"`, s.text[s.at]) < 0 {
			s.at++
		}
		return s.text[from:s.at], s.at > from
	}
	var b strings.Builder
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return b.String(), true
		case c == '\\' && s.at+1 < len(s.text):
			s.at++
			b.WriteByte(s.text[s.at])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// token68 skips the credentials-like text that some schemes have in place of
// parameters (Negotiate, Basic of long ago): it ends the challenge.
func (s *scanner) token68() {
	mark := s.at
	s.skip(" \t")
	from := s.at
	for s.at < len(s.text) && (isTokenChar(s.text[s.at]) || s.text[s.at] == '/') {
		s.at++
	}
	whole := s.at > from
	s.skip("=")
	if c := s.next(); !whole || c != 0 && c != ',' {
		s.at = mark
	}
}
