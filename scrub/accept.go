package scrub

import (
	"net/http"
	"strconv"
	"strings"
)

// ours are the codings that Decode knows, as "*" stands for them: those that
// cost least to decode first.
var ours = []string{"gzip", "br", "zstd", "deflate"}

// AcceptEncoding returns the Accept-Encoding to ask a service with, given the
// values of the child's: what both the child accepts and Decode knows, with the
// child's weights and in its order (RFC 9110, section 12.5.3). "*" becomes the
// names that it stands for. "" means that the field stays away, as the child sent
// none; a child that accepts no coding that is known gets "identity".
//
// A child that refuses "identity" may get it nevertheless: an answer is not sent
// on in a coding in which the credential could be.
func AcceptEncoding(child []string) string {
	if child == nil {
		return ""
	}
	var out []string
	named := map[string]bool{}
	star, hasStar := "", false
	for _, v := range child {
		for element := range strings.SplitSeq(v, ",") {
			coding, weight, _ := strings.Cut(element, ";")
			coding = strings.ToLower(strings.Trim(coding, " \t"))
			if coding == "x-gzip" {
				coding = "gzip"
			}
			q, ok := parseWeight(weight)
			if coding == "" || !ok || named[coding] {
				continue
			}
			named[coding] = true
			switch coding {
			case "*":
				star, hasStar = q, true
			case "gzip", "deflate", "br", "zstd", "identity":
				out = append(out, coding+q)
			}
		}
	}
	if hasStar && star != ";q=0" {
		for _, coding := range ours {
			if !named[coding] {
				out = append(out, coding+star)
			}
		}
	}
	for _, element := range out {
		if !strings.HasSuffix(element, ";q=0") {
			return strings.Join(out, ", ")
		}
	}
	return "identity"
}

// parseWeight reads the weight of RFC 9110, section 12.4.2, and returns it as it
// is to be written: "" for 1.
func parseWeight(s string) (string, bool) {
	s = strings.Trim(s, " \t")
	if s == "" {
		return "", true
	}
	name, value, ok := strings.Cut(s, "=")
	if !ok || !strings.EqualFold(strings.Trim(name, " \t"), "q") {
		return "", false
	}
	value = strings.Trim(value, " \t")
	q, err := strconv.ParseFloat(value, 64)
	if err != nil || len(value) > 5 || !(q >= 0 && q <= 1) || strings.Trim(value, "0123456789.") != "" {
		return "", false
	}
	switch q {
	case 0:
		return ";q=0", true
	case 1:
		return "", true
	}
	return ";q=" + value, true
}

// Ask changes the header of a request on its way to a service, so that the answer
// can be looked into. It does nothing on a nil Scrubber, and on one that looks for
// nothing.
//
// A part of an encoded body cannot be decoded, so a request with a Range asks for
// "identity". Messages of gRPC and of Connect's streams are compressed each by
// itself, which no content coding tells of: such requests accept uncompressed ones
// only.
func (s *Scrubber) Ask(h http.Header) {
	if s.Empty() {
		return
	}
	if _, ranged := h["Range"]; ranged {
		h["Accept-Encoding"] = []string{"identity"}
	} else if accept := AcceptEncoding(h["Accept-Encoding"]); accept != "" {
		h["Accept-Encoding"] = []string{accept}
	}
	for _, name := range [...]string{"Grpc-Accept-Encoding", "Connect-Accept-Encoding"} {
		if _, ok := h[name]; ok {
			h[name] = []string{"identity"}
		}
	}
}

// Spare takes out of an Accept-Encoding that Ask has made what costs much memory to
// decode: br and zstd.
func Spare(h http.Header) {
	values := h["Accept-Encoding"]
	if len(values) == 0 {
		return
	}
	var left []string
	for _, v := range values {
		for element := range strings.SplitSeq(v, ", ") {
			if coding, _, _ := strings.Cut(element, ";"); coding != "br" && coding != "zstd" {
				left = append(left, element)
			}
		}
	}
	if len(left) == 0 {
		left = []string{"identity"}
	}
	h["Accept-Encoding"] = []string{strings.Join(left, ", ")}
}
