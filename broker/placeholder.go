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
	if c, ok := authsome.FindPlaceholder(value); ok {
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
	return authsome.FindPlaceholder(string(raw))
}

// wish is what a request says of the connection that it is for.
type wish struct {
	placeholder bool   // it holds our placeholder
	name        string // the connection; "" when nothing names one
	other       string // a second, different one; "" when there is none
}

func (w *wish) add(connection string) {
	switch {
	case connection == "" || connection == w.name:
	case w.name == "":
		w.name = connection
	default:
		w.other = connection
	}
}

// wishes looks into the service's slots, and at the connection that the child
// named by ConnectionHeader.
func wishes(req *authsome.Request, headers []string) wish {
	var w wish
	w.add(req.Connection)
	for _, n := range headers {
		for _, v := range req.Header[n] {
			if c, ok := findPlaceholder(v); ok {
				w.placeholder = true
				w.add(c)
			}
		}
	}
	if req.Inspection != nil {
		for _, f := range req.Inspection.Found {
			if f.Placeholder {
				w.placeholder = true
				w.add(f.Connection)
			}
		}
	}
	return w
}

// roomFor reports whether a request has the place of an injection, and whether
// our placeholder stands there. There is always room in the header.
func roomFor(req *authsome.Request, in authsome.Injection) (room, held bool) {
	switch in.Slot {
	case authsome.SlotHeader, authsome.SlotBasic:
		if in.When != authsome.OnPlaceholder {
			return true, false // nobody asks
		}
		for _, v := range req.Header[http.CanonicalHeaderKey(in.Name)] {
			if _, ok := findPlaceholder(v); ok {
				return true, true
			}
		}
		return true, false
	default:
		f := req.Inspection.In(authsome.Place{Slot: in.Slot, Name: in.Name})
		return f != nil, f != nil && f.Placeholder
	}
}
