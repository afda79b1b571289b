package api

import (
	"mime"
	"net/http"

	"github.com/authsome/authsome"
)

// CheckRequest refuses what no Client sends. Browsers cannot reach a unix
// socket, but a program that forwards one to TCP would let them; every such
// request carries one of these signs: the page's address, the name that the
// browser believes it speaks to, or a body of a type that a page may send
// without asking first (Fetch standard, "CORS-safelisted request-header").
func CheckRequest(r *http.Request) error {
	refuse := func(why string) error {
		return authsome.E(authsome.Forbidden, "the local API answers the authsome command only: %s", why)
	}
	if r.Host != Host {
		return refuse("the request is for another host")
	}
	for _, h := range []string{"Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Cookie"} {
		if _, ok := r.Header[h]; ok {
			return refuse("the request comes from a browser")
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		if r.ContentLength == 0 && len(r.TransferEncoding) == 0 {
			return nil
		}
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return refuse("the body is not declared as application/json")
	}
	return nil
}
