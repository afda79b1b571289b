// Package scrub takes the credential that was put on a request out of the answer.
//
// Services echo requests in errors, redirects and debug pages, and programs log
// what they get. A Scrubber finds the values that it was made for, as they are
// and in the usual encodings, and overwrites each with as many asterisks, so
// that lengths, offsets and the framing around them stay right. It guards against
// accidents. A service that takes the value apart, encrypts it, or spells it in a
// way that is not listed below can still hand it over.
//
// # What is found
//
// A value V is found in these spellings, each a form:
//
//   - V, each character as it is or escaped: "%2F" (and "+" for a space), "\/",
//     "\n", "\x2f", "\u002f" (surrogate pairs too), "&amp;", "&#38;", "&#x26;"
//     with leading zeros, in either case. Letters, digits, "-", "_" and "." are
//     never escaped here, all others may be, each by itself.
//   - V with every character escaped: "%XX", "\uXXXX", "&#N;", "&#xN;".
//   - The Base64 of any text that V is part of, in the standard and the URL
//     alphabet, padded or not, its "+" and "/" escaped or not. Of the three ways
//     in which V can lie in the groups of three bytes, the characters that
//     depend on V alone are looked for, and overwritten together with the one
//     behind them. The one in front is not, for it cannot be known for V's before
//     V has come: up to four bits of V's first byte stay.
//   - The hexadecimal digits of V in either case.
//
// Every place where any form of any value stands is overwritten, overlapping or
// not: of two values of which one begins with the other, nothing stays of the
// longer one. See New for values that are too common to look for.
//
// # How it is found
//
// All forms have a stretch of characters that only ever stand for themselves. Of
// the text, every stride-th group of four bytes is looked up in a filter that
// holds the groups of those stretches. A stretch of stride+3 bytes cannot pass
// without one of its groups being looked up, and looking up does not depend on
// what was looked up before, so that the processor does several at once. Only
// what passes the filter is compared. For other ways and what they cost, see
// bench_test.go.
//
// Of a stream, only bytes from which on a form may have begun are held back until
// more is known.
package scrub

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/authsome/authsome"
)

// Scrubber finds the values that it was made for. It never changes, and may be
// used by many goroutines. A nil Scrubber finds nothing.
type Scrubber struct {
	anchors
	forms  []form
	names  []inName
	values int
	weak   []int
}

// inName is a value that may be a part of a field's name.
type inName struct {
	text  string
	value int
}

// New makes a Scrubber for the values that go onto a request: whole header values
// ("Bearer …", "Basic …"), of which the credential is looked for, or credentials.
// Pass the fields that a value is made of as well, if they are at hand. It costs
// tens of microseconds: make one per version of a credential, not per request.
//
// Some values are too common: whoever overwrites every "a", or every "password",
// destroys answers, and tells the reader what the value is by what is missing.
// Values of less than 8 bytes are such, and words, which are values of less than
// 16 bytes that have no digits between their letters, or are digits alone. They
// are looked for only together with what they were injected with ("Bearer
// password", and "user:password" and its Base64), if that is not as common.
// Weak lists them.
func New(values []authsome.Secret) *Scrubber {
	s := &Scrubber{values: len(values)}
	seen := map[string]bool{}
	for index, v := range values {
		targets, strong := targetsOf(v.Reveal())
		if !strong {
			s.weak = append(s.weak, index)
		}
		for _, t := range targets {
			if !seen[t.text] {
				seen[t.text] = true
				s.forms = append(s.forms, formsOf(t, index)...)
				s.names = append(s.names, inName{t.text, index})
			}
		}
	}
	// Of two of which one begins with the other, nothing stays of the longer one.
	slices.SortStableFunc(s.names, func(a, b inName) int { return len(b.text) - len(a.text) })
	if len(s.forms) > 0 {
		s.anchors = anchorsOf(s.forms)
	}
	return s
}

// Empty reports whether there is nothing to look for.
func (s *Scrubber) Empty() bool { return s == nil || len(s.forms) == 0 }

// Weak lists the values, by their index, that are too short or too common to be
// looked for alone.
func (s *Scrubber) Weak() []int {
	if s == nil {
		return nil
	}
	return s.weak
}

// Weak reports whether New would list such a value in Weak.
func Weak(value authsome.Secret) bool {
	_, strong := targetsOf(value.Reveal())
	return !strong
}

// Format implements fmt.Formatter: a Scrubber is as secret as what it looks for.
func (s *Scrubber) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("scrubber")) }

// LogValue implements slog.LogValuer.
func (s *Scrubber) LogValue() slog.Value { return slog.StringValue("scrubber") }

// Hits says how often each value was found, by its index; nil when none was. What
// overlaps counts once, for the longest.
type Hits []int

// Total is how often any value was found.
func (h Hits) Total() int {
	n := 0
	for _, c := range h {
		n += c
	}
	return n
}

// Add counts what another part of the same answer held.
func (h *Hits) Add(o Hits) {
	if o == nil {
		return
	}
	if *h == nil {
		*h = make(Hits, len(o))
	}
	for i, c := range o {
		(*h)[i] += c
	}
}

// String scrubs a whole text: a header's value, a status line.
func (s *Scrubber) String(text string) (string, Hits) {
	if s.Empty() || len(text) < s.shortest {
		return text, nil
	}
	// Most are short, and then stay on the stack.
	var room [256]byte
	buf := append(room[:0], text...)
	if !s.suspicious(buf) {
		return text, nil
	}
	st := s.NewStream()
	st.Overwrite(buf, true)
	if st.hits == nil {
		return text, nil
	}
	return string(buf), st.hits
}

// Header scrubs the values of a header or of trailers, and their names.
func (s *Scrubber) Header(h http.Header) Hits {
	if s.Empty() {
		return nil
	}
	var hits Hits
	for name, values := range h {
		for i, v := range values {
			clean, found := s.String(v)
			if found == nil {
				continue
			}
			hits.Add(found)
			// The slice may be shared with others.
			values = append([]string(nil), values...)
			values[i] = clean
			h[name] = values
		}
		if clean, found := s.Name(name); found != nil {
			hits.Add(found)
			delete(h, name)
			h[clean] = append(h[clean], values...)
		}
	}
	return hits
}

// Name scrubs the name of a field. Names know no case (RFC 9110, section 5.1), and
// few arrive in the one that they were sent in: net/http capitalizes, HTTP/2 has
// small letters only (RFC 9113, section 8.2.1). So a value is found in any.
func (s *Scrubber) Name(name string) (string, Hits) {
	if s.Empty() {
		return name, nil
	}
	name, hits := s.String(name)
	for _, v := range s.names {
		n, places, from := len(v.text), 0, 0
		var clean strings.Builder
		for i := 0; i+n <= len(name); i++ {
			if strings.EqualFold(name[i:i+n], v.text) {
				clean.WriteString(name[from:i])
				for range n {
					clean.WriteByte('*')
				}
				places, from = places+1, i+n
				i = from - 1
			}
		}
		if places > 0 {
			name = clean.String() + name[from:]
			found := make(Hits, s.values)
			found[v.value] = places
			hits.Add(found)
		}
	}
	return name, hits
}
