package scrub

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is how a form is written.
type kind uint8

const (
	spelled     kind = iota // as it is, or escaped where an encoder would
	percent                 // %XX throughout
	unicode                 // \uXXXX throughout
	decimal                 // &#N; throughout
	hexadecimal             // &#xN; throughout
	digits                  // two hexadecimal digits a byte
)

// family is a set of ways to escape. Each has a character that begins every
// escape, and that its encoders never leave as it is.
type family uint8

const (
	byPercent   family = 1 << iota // URLs: %2F, and + for a space
	byBackslash                    // JSON, JavaScript: \/ \n \x2f \u002f
	byEntity                       // HTML, XML: &amp; &#38; &#x26;

	allFamilies = byPercent | byBackslash | byEntity
)

// introducer is the family whose escapes begin with c; 0 when none does.
func introducer(c byte) family {
	switch c {
	case '%':
		return byPercent
	case '\\':
		return byBackslash
	case '&':
		return byEntity
	}
	return 0
}

// form is one way in which a value may stand in a text.
//
// From a given start there is at most one way to read a text as a form: in a
// spelled one, an introducer begins an escape exactly if its family is in
// escapes. That is why a value that has introducers of its own has a form for
// each set of families: in "a&b", "&" stands for itself where nothing was escaped
// for HTML, and only there.
type form struct {
	kind    kind
	text    string // what is spelled: the value, or characters of its Base64
	value   int
	escapes family
	// verbatim says that text holds none of those characters, so that equal bytes
	// are a match.
	verbatim bool
	// base64 takes "-" and "_" for "+" and "/".
	base64 bool
	// tailBits is how many bits of the value are in the character of Base64
	// behind text, 0 for none, and tail is those bits.
	tailBits, tail uint8
	// periodic is how many bytes text begins with that repeat themselves, period the
	// distance after which they do, in bytes of text, and pace the same in a text. 0:
	// they do not, or are few. In a text that repeats itself alike, every period would
	// begin a comparison as long as they are, if the stream did not know by then what
	// comes of it.
	periodic, period, pace int

	window
}

// formsOf lists the forms of a target.
func formsOf(t target, value int) []form {
	v := t.text
	var fs []form
	if t.plainOnly {
		return spelledForms(fs, form{text: v, value: value, base64: true})
	}
	fs = spelledForms(fs, form{text: v, value: value})
	if strings.ContainsFunc(v, func(r rune) bool { return r < utf8.RuneSelf && plain(byte(r)) }) {
		// Without plain characters the spelled form covers these.
		fs = append(fs, form{kind: percent, text: v, value: value})
		if utf8.ValidString(v) {
			fs = append(fs, form{kind: unicode, text: v, value: value},
				form{kind: decimal, text: v, value: value}, form{kind: hexadecimal, text: v, value: value})
		}
	}
	fs = append(fs, form{kind: digits, text: v, value: value})
	for before := range 3 {
		fs = spelledForms(fs, base64Form(v, before, value))
	}
	return fs
}

// spelledForms adds f once for each set of families that makes a difference.
func spelledForms(fs []form, f form) []form {
	var own family
	for i := range len(f.text) {
		own |= introducer(f.text[i])
	}
	for escapes := allFamilies; ; escapes-- {
		if escapes|own == allFamilies {
			f.escapes, f.verbatim = escapes, escapes&own == 0
			fs = append(fs, f)
		}
		if escapes == 0 {
			return fs
		}
	}
}

// base64Form gives the characters of Base64 that depend on v alone when it is
// preceded by a number of bytes that leaves the remainder before, modulo 3.
func base64Form(v string, before, value int) form {
	all := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), v...))
	bits := 8 * (before + len(v))
	f := form{value: value, base64: true, text: all[(8*before+5)/6 : bits/6]}
	if f.tailBits = uint8(bits % 6); f.tailBits > 0 {
		f.tail = v[len(v)-1] & (1<<f.tailBits - 1)
	}
	return f
}

// sextet is the value of a character of Base64 in either alphabet; false when it
// is none.
func sextet(c byte) (uint8, bool) {
	switch {
	case c >= 'A' && c <= 'Z':
		return c - 'A', true
	case c >= 'a' && c <= 'z':
		return c - 'a' + 26, true
	case c >= '0' && c <= '9':
		return c - '0' + 52, true
	case c == '+' || c == '-':
		return 62, true
	case c == '/' || c == '_':
		return 63, true
	}
	return 0, false
}

// plain reports whether no encoder escapes c unless it escapes everything: the
// unreserved characters of RFC 3986, section 2.3, without "~", which older
// encoders of URLs do escape.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// status is how far a comparison came.
type status uint8

const (
	failed  status = iota
	partial        // so far it matches; the text ends
	matched
)

// match compares text[pos:] with the form from its byte i on. It returns how far
// both came, to go on from there when a partial match gets more text. With final
// set no more will come.
func (f *form) match(text []byte, i, pos int, final bool) (int, int, status) {
	more := partial
	if final {
		more = failed
	}
	for i < len(f.text) {
		if f.kind != spelled {
			var room [16]byte
			unit, used := f.unit(room[:0], i)
			switch n := len(unit); {
			case equalFold(text[pos:], unit):
				i, pos = i+used, pos+n
			case len(text)-pos < n && equalFold(unit, text[pos:]):
				return i, pos, more
			default:
				return i, pos, failed
			}
			continue
		}
		// Most of a match is characters that stand for themselves.
		const few, many = 16, 512
		if f.verbatim && f.same(text, i, pos, few) {
			i, pos = i+few, pos+few
			for f.same(text, i, pos, many) {
				i, pos = i+many, pos+many
			}
			continue
		}
		if pos == len(text) {
			return i, pos, more
		}
		c, b := text[pos], f.text[i]
		switch {
		case introducer(c)&f.escapes != 0:
			n, used, s := f.escape(text[pos:], i)
			if s == failed {
				return i, pos, failed
			}
			if s == partial {
				return i, pos, more
			}
			i, pos = i+used, pos+n
		case c == b,
			b == ' ' && c == '+' && f.escapes&byPercent != 0,
			f.base64 && (b == '+' && c == '-' || b == '/' && c == '_'):
			i, pos = i+1, pos+1
		default:
			return i, pos, failed
		}
	}
	if f.tailBits > 0 {
		if pos == len(text) {
			if !final {
				return i, pos, partial
			}
		} else if six, ok := sextet(text[pos]); ok && six>>(6-f.tailBits) == f.tail {
			pos++
		}
	}
	return i, pos, matched
}

// same reports whether n bytes of the form's text and of the text are equal.
func (f *form) same(text []byte, i, pos, n int) bool {
	return len(f.text)-i >= n && len(text)-pos >= n && f.text[i:i+n] == string(text[pos:pos+n])
}

// minPeriodic is the length from which on it matters whether a value repeats
// itself.
const minPeriodic = 64

// repeat fills in periodic, period and pace.
func (f *form) repeat() {
	n := len(f.text)
	if n < minPeriodic {
		return
	}
	// border[i] is the length of the longest proper beginning of text[:i+1] that is
	// its end as well.
	border := make([]int32, n)
	for i, k := 1, int32(0); i < n; i++ {
		for k > 0 && f.text[i] != f.text[k] {
			k = border[k-1]
		}
		if f.text[i] == f.text[k] {
			k++
		}
		border[i] = k
	}
	for n >= minPeriodic && n-int(border[n-1]) > n/2 {
		n--
	}
	if n < minPeriodic {
		return
	}
	period := n - int(border[n-1])
	f.periodic, f.period, f.pace = n, period, period
	if f.kind != spelled {
		f.pace = 0
		var room [16]byte
		for i := 0; i < period; {
			unit, used := f.unit(room[:0], i)
			f.pace, i = f.pace+len(unit), i+used
		}
	}
}

// escape compares the beginning of text, an introducer, with the ways to escape
// the byte i of a spelled form. It returns how many bytes of the text and of the
// form belong to it.
func (f *form) escape(text []byte, i int) (n, used int, s status) {
	f.escapings(i, func(e []byte, size int) bool {
		switch {
		case equalFold(text, e):
			n, used, s = len(e), size, matched
			return false
		case len(text) < len(e) && equalFold(e, text):
			s = partial
		}
		return true
	})
	return n, used, s
}

// maxZeros is how many zeros may lead the number of an entity.
const maxZeros = 3

// entities are the names of what encoders for HTML and XML escape, in small
// letters.
var entities = map[byte][]string{
	'&': {"amp"}, '<': {"lt"}, '>': {"gt"}, '"': {"quot"}, '\'': {"apos"}, '!': {"excl"}, '#': {"num"},
	'$': {"dollar"}, '%': {"percnt"}, '(': {"lpar"}, ')': {"rpar"}, '*': {"ast", "midast"}, '+': {"plus"},
	',': {"comma"}, '/': {"sol"}, ':': {"colon"}, ';': {"semi"}, '=': {"equals"}, '?': {"quest"},
	'@': {"commat"}, '[': {"lsqb", "lbrack"}, '\\': {"bsol"}, ']': {"rsqb", "rbrack"}, '^': {"hat"},
	'`': {"grave"}, '{': {"lcub", "lbrace"}, '|': {"verbar", "vert"}, '}': {"rcub", "rbrace"},
	'\t': {"tab"}, '\n': {"newline"},
}

// letters are the short escapes of JSON and JavaScript for control characters.
var letters = map[byte]byte{0: '0', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v'}

// escapings calls yield with every way to escape the character at byte i of a
// spelled form, in small letters, and with how many bytes of it that covers, until
// yield returns false. None is the beginning of another.
func (f *form) escapings(i int, yield func(e []byte, size int) bool) {
	b := f.text[i]
	if plain(b) {
		return
	}
	var room [24]byte
	r, size := rune(b), 1
	numeric := true
	if b >= utf8.RuneSelf {
		r, size = utf8.DecodeRuneInString(f.text[i:])
		numeric = r != utf8.RuneError
	}
	if f.escapes&byPercent != 0 && !yield(append(room[:0], '%', hexDigit(b>>4), hexDigit(b&15)), 1) {
		return
	}
	if f.escapes&byBackslash != 0 {
		if c, ok := letters[b]; ok && !yield(append(room[:0], '\\', c), 1) {
			return
		}
		if b > ' ' && b < 0x7f && !yield(append(room[:0], '\\', b), 1) {
			return
		}
		if !yield(append(room[:0], '\\', 'x', hexDigit(b>>4), hexDigit(b&15)), 1) {
			return
		}
		if numeric && !yield(appendUTF16(room[:0], r), size) {
			return
		}
	}
	if f.escapes&byEntity == 0 || !numeric {
		return
	}
	for _, name := range entities[b] {
		if !yield(append(append(append(room[:0], '&'), name...), ';'), 1) {
			return
		}
	}
	const zeros = "000"
	for n := range maxZeros + 1 {
		e := strconv.AppendInt(append(append(room[:0], "&#"...), zeros[:n]...), int64(r), 10)
		if !yield(append(e, ';'), size) {
			return
		}
		e = strconv.AppendInt(append(append(room[:0], "&#x"...), zeros[:n]...), int64(r), 16)
		if !yield(append(e, ';'), size) {
			return
		}
	}
}

// unit appends how the character at byte i of a form that is no spelled one is
// written, in small letters, and says how many bytes of it that covers.
func (f *form) unit(dst []byte, i int) ([]byte, int) {
	b := f.text[i]
	switch f.kind {
	case digits:
		return append(dst, hexDigit(b>>4), hexDigit(b&15)), 1
	case percent:
		return append(dst, '%', hexDigit(b>>4), hexDigit(b&15)), 1
	}
	r, size := utf8.DecodeRuneInString(f.text[i:])
	switch f.kind {
	case unicode:
		return appendUTF16(dst, r), size
	case decimal:
		dst = strconv.AppendInt(append(dst, "&#"...), int64(r), 10)
	default:
		dst = strconv.AppendInt(append(dst, "&#x"...), int64(r), 16)
	}
	return append(dst, ';'), size
}

// appendUTF16 writes a character as JSON does: \u and four digits, twice beyond
// the basic plane (RFC 8259, section 7).
func appendUTF16(dst []byte, r rune) []byte {
	if r >= 0x10000 {
		r -= 0x10000
		return appendUTF16(appendUTF16(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return append(dst, '\\', 'u', hexDigit(byte(r>>12)), hexDigit(byte(r>>8)&15), hexDigit(byte(r>>4)&15), hexDigit(byte(r)&15))
}

func hexDigit(n byte) byte { return "0123456789abcdef"[n&15] }

// equalFold reports whether text begins with s, in capital letters or small.
func equalFold(text, s []byte) bool {
	if len(text) < len(s) {
		return false
	}
	for i, c := range s {
		if lower(text[i]) != lower(c) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}
