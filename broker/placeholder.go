package broker

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/authsome/authsome"
)

// findPlaceholder looks for our placeholder in a header value, also inside the
// Base64 of HTTP Basic, where git puts it. connection is the one that the
// placeholder names after its dot, or "".
func findPlaceholder(value string) (connection string, found bool) {
	if c, ok := placeholderIn(value); ok {
		return c, true
	}
	scheme, rest, ok := strings.Cut(strings.TrimSpace(value), " ")
	if !ok || !strings.EqualFold(scheme, "basic") {
		return "", false
	}
	rest = strings.TrimSpace(rest)
	raw, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		if raw, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(rest, "=")); err != nil {
			return "", false
		}
	}
	return placeholderIn(string(raw))
}

func placeholderIn(s string) (string, bool) {
	_, after, ok := strings.Cut(s, authsome.Placeholder)
	if !ok {
		return "", false
	}
	rest, ok := strings.CutPrefix(after, ".")
	if !ok {
		return "", true
	}
	end := strings.IndexFunc(rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-@", r)
	})
	if end >= 0 {
		rest = rest[:end]
	}
	return rest, true
}

// placeholderInHeaders looks through the named headers.
func placeholderInHeaders(h http.Header, names []string) (connection string, found bool) {
	for _, n := range names {
		for _, v := range h[http.CanonicalHeaderKey(n)] {
			if c, ok := findPlaceholder(v); ok {
				return c, true
			}
		}
	}
	return "", false
}
