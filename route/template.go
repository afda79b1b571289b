package route

import (
	"errors"
	"strings"
)

// Template says which part of a path a credential is: "/bot{}" is all that
// follows "bot" in the first segment, "/file/bot{}" the same one segment
// further on. What comes after that segment is left open.
type Template struct {
	text   string
	before string // up to the part, e.g. "/file/bot"
	after  string // of the part's own segment
}

// ParseTemplate reads a template. All but its "{}" must be a path in its normal
// form, so that it can be compared with what Path makes.
func ParseTemplate(s string) (Template, error) {
	before, rest, ok := strings.Cut(s, "{}")
	if !ok || strings.Contains(rest, "{}") {
		return Template{}, errors.New("it needs {} in one place")
	}
	if strings.Contains(rest, "/") {
		return Template{}, errors.New("nothing may follow the segment with the value: whatever does is covered")
	}
	if normal, err := Path(before + "x" + rest); err != nil || normal != before+"x"+rest {
		return Template{}, errors.New("it is not a path in its normal form")
	}
	return Template{text: s, before: before, after: rest}, nil
}

// String is the template as it is written.
func (t Template) String() string { return t.text }

// Under reports whether every path of the template lies under a prefix, as in
// authsome.Route.Path.
func (t Template) Under(prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return prefix == "" || strings.HasPrefix(t.before, prefix+"/")
}

// Part finds the part of a normalised path; false when the path is another, or
// the part empty.
func (t Template) Part(path string) (part string, ok bool) {
	rest, ok := strings.CutPrefix(path, t.before)
	if !ok {
		return "", false
	}
	segment, _, _ := strings.Cut(rest, "/")
	part, ok = strings.CutSuffix(segment, t.after)
	return part, ok && part != ""
}

// Fill puts a value in the place of the part, percent-encoded so that it stays
// within its segment. It refuses a value that would make another path of it to
// any server: one that is a dot segment, or holds a control character.
func (t Template) Fill(path, value string) (string, error) {
	part, ok := t.Part(path)
	if !ok {
		return "", errors.New("the path has no such part")
	}
	filled := t.before + EscapeSegment(value) + path[len(t.before)+len(part):]
	if normal, err := Path(filled); err != nil || normal != filled || value == "" {
		return "", errors.New("the value cannot be a part of a path")
	}
	return filled, nil
}

// EscapeSegment percent-encodes a text as a part of a segment. A colon stays as
// it is (RFC 3986, section 3.3): tokens have one, and need no escape for it.
func EscapeSegment(s string) string {
	var sb strings.Builder
	sb.Grow(len(s))
	for i := range len(s) {
		c := s[i]
		if unreserved(c) || c == ':' {
			sb.WriteByte(c)
			continue
		}
		sb.WriteByte('%')
		sb.WriteByte(upperHex[c>>4])
		sb.WriteByte(upperHex[c&15])
	}
	return sb.String()
}
