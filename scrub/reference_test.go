package scrub

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/authsome/authsome"
)

// reference is what the package comment promises, written without a thought for
// speed: every form is tried at every byte of the whole text.
func reference(values []string, text string) string {
	out := []byte(text)
	for _, v := range values {
		targets, _ := targetsOf(v)
		for _, t := range targets {
			for _, form := range naiveForms(t) {
				for x := range len(text) {
					for _, n := range form(text[x:]) {
						for i := x; i < x+n; i++ {
							out[i] = '*'
						}
					}
				}
			}
		}
	}
	return string(out)
}

// alternative is one way to write size bytes of a value.
type alternative struct {
	text string
	size int
	fold bool
}

// naiveForms are the forms of t: each returns the lengths of the matches that its
// text begins with.
func naiveForms(t target) (forms []func(text string) []int) {
	v := t.text
	spell := func(v string, escapes int, base64 bool) func(string) []int {
		as := make([][]alternative, len(v))
		for i := range as {
			as[i] = spellings(v, i, escapes, base64)
		}
		return func(text string) []int { return readings(text, as, 0) }
	}
	for escapes := range 8 {
		forms = append(forms, spell(v, escapes, t.plainOnly))
	}
	if t.plainOnly {
		return forms
	}
	exactly := func(whole string) {
		forms = append(forms, func(text string) []int {
			if len(text) >= len(whole) && strings.EqualFold(text[:len(whole)], whole) {
				return []int{len(whole)}
			}
			return nil
		})
	}
	exactly(hex.EncodeToString([]byte(v)))
	exactly(urlEscape(v))
	if utf8.ValidString(v) {
		var j, d, h string
		for _, r := range v {
			j, d, h = j+jsonEscape(r), d+fmt.Sprintf("&#%d;", r), h+fmt.Sprintf("&#x%x;", r)
		}
		exactly(j)
		exactly(d)
		exactly(h)
	}
	// What depends on v alone is the same whatever surrounds it.
	for before := range 3 {
		after := 6 - (before+len(v))%3 // no padding
		low := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + v + strings.Repeat("\x00", after)))
		high := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xff", before) + v + strings.Repeat("\xff", after)))
		from, to := 0, 0
		for i := range low {
			if low[i] == high[i] {
				if to == 0 {
					from = i
				}
				to = i + 1
			}
		}
		core := spell(low[from:to], 7, true)
		forms = append(forms, func(text string) []int {
			ends := core(text)
			for i, end := range ends {
				if end < len(text) && mayFollow(text[end], before, v, to) {
					ends[i]++
				}
			}
			return ends
		})
	}
	return forms
}

// mayFollow reports whether c may be the character at place i of the Base64 of
// before bytes, v, and others, and holds bits of v.
func mayFollow(c byte, before int, v string, i int) bool {
	if i*6 >= 8*(before+len(v)) {
		return false
	}
	for after := range 64 {
		all := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + v + string([]byte{byte(after << 2), byte(after), byte(after)})))
		std := all[i]
		if std == c || std == '+' && c == '-' || std == '/' && c == '_' {
			return true
		}
	}
	return false
}

// readings returns the lengths of the beginnings of text that spell what at lists
// from i on.
func readings(text string, at [][]alternative, i int) (ends []int) {
	if i >= len(at) {
		return []int{0}
	}
	for _, a := range at[i] {
		if len(text) < len(a.text) || text[:len(a.text)] != a.text && !(a.fold && strings.EqualFold(text[:len(a.text)], a.text)) {
			continue
		}
		for _, end := range readings(text[len(a.text):], at, i+a.size) {
			ends = append(ends, len(a.text)+end)
		}
	}
	return ends
}

func spellings(v string, i, escapes int, base64 bool) (as []alternative) {
	b := v[i]
	if !strings.ContainsRune(string([]rune{'%', '\\', '&'}[:]), rune(b)) ||
		b == '%' && escapes&1 == 0 || b == '\\' && escapes&2 == 0 || b == '&' && escapes&4 == 0 {
		as = append(as, alternative{text: string([]byte{b}), size: 1})
	}
	if base64 && b == '+' {
		as = append(as, alternative{text: "-", size: 1})
	}
	if base64 && b == '/' {
		as = append(as, alternative{text: "_", size: 1})
	}
	if b < 0x80 && strings.IndexByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", b) >= 0 {
		return as
	}
	add := func(size int, texts ...string) {
		for _, t := range texts {
			as = append(as, alternative{t, size, true})
		}
	}
	r, size := utf8.DecodeRuneInString(v[i:])
	valid := r != utf8.RuneError || size > 1
	if valid && r == utf8.RuneError {
		valid = false // U+FFFD is what encoders write for all that is not UTF-8
	}
	if escapes&1 != 0 {
		add(1, fmt.Sprintf("%%%02x", b))
		if b == ' ' {
			add(1, "+")
		}
	}
	if escapes&2 != 0 {
		add(1, fmt.Sprintf(`\x%02x`, b))
		if short := map[byte]string{0: "0", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}[b]; short != "" {
			add(1, `\`+short)
		}
		if b > ' ' && b < 0x7f {
			add(1, `\`+string(b))
		}
		if valid {
			add(size, jsonEscape(r))
		}
	}
	if escapes&4 != 0 && valid {
		for zeros := range 4 {
			add(size, "&#"+strings.Repeat("0", zeros)+fmt.Sprintf("%d;", r), "&#x"+strings.Repeat("0", zeros)+fmt.Sprintf("%x;", r))
		}
		for _, name := range entities[b] {
			add(size, "&"+name+";")
		}
	}
	return as
}

func jsonEscape(r rune) string {
	s := ""
	for _, u := range utf16.Encode([]rune{r}) {
		s += fmt.Sprintf(`\u%04x`, u)
	}
	return s
}

func urlEscape(v string) string {
	var b strings.Builder
	for i := range len(v) {
		fmt.Fprintf(&b, "%%%02x", v[i])
	}
	return b.String()
}

func secrets(values ...string) []authsome.Secret {
	var out []authsome.Secret
	for _, v := range values {
		out = append(out, authsome.NewSecret(v))
	}
	return out
}

// whole scrubs a text in one part.
func whole(s *Scrubber, text string) string {
	buf := []byte(text)
	st := s.NewStream()
	if n := st.Overwrite(buf, true); n != len(buf) {
		panic("the end of a text was held back")
	}
	return string(buf)
}

// inParts scrubs a text in parts of the lengths given, the rest in one.
func inParts(s *Scrubber, text string, lengths []int) string {
	st := s.NewStream()
	var out, buf []byte
	for text != "" || len(lengths) > 0 {
		n := len(text)
		if len(lengths) > 0 {
			n, lengths = min(n, lengths[0]), lengths[1:]
		}
		buf = append(buf, text[:n]...)
		text = text[n:]
		done := st.Overwrite(buf, false)
		out = append(out, buf[:done]...)
		buf = slices.Clone(buf[done:])
	}
	done := st.Overwrite(buf, true)
	if done != len(buf) {
		panic("the end of a text was held back")
	}
	return string(append(out, buf...))
}

// named reports whether an entity of the table is HTML's name for its character,
// in some spelling of it.
func named(b byte, name string) bool {
	for _, n := range []string{name, strings.ToUpper(name[:1]) + name[1:], "NewLine"} {
		if strings.EqualFold(n, name) && html.UnescapeString("&"+n+";") == string(rune(b)) {
			return true
		}
	}
	return false
}
