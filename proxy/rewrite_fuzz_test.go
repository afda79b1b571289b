package proxy

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// The bits of FuzzPlaceholder's slots: where its credential goes.
const (
	slotBearer = 1 << iota
	slotKey
	slotBasic
	slotQuery
	slotCookie
	slotPath
)

// FuzzPlaceholder rewrites a request and reads it from the wire, by net/http: the
// credential stands in the places of the service and nowhere else, what was in
// them is gone, all else is as the child sent it, and a placeholder that was not
// replaced stays at home. Whatever the credential is, it is one value of one
// place, or nothing is sent.
func FuzzPlaceholder(f *testing.F) {
	ours := authsome.Placeholder
	inBasic := "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+ours))
	for i, lines := range []string{
		"Authorization: Bearer " + ours, "x-api-key: " + ours + ".work\nConnection: close, x-api-key", "Authorization: " + inBasic,
		"Cookie: bAsIc =; session=" + ours + "; a=b\nCookie: SESSION=old", "X-Other: " + ours, "Referer: https://h/bot" + ours + "/x", "Accept: a\nAccept: b\nUser-Agent:",
		"Connection: authorization\nAuthorization: own\nTe: trailers", "AUTHORIZATION: one\nauthorization: two", "Proxy-Authorization: " + inBasic, "",
	} {
		f.Add(lines, "/bot"+ours+"/getMe", "a=1&key="+ours+"&k%65y=2", "s3cr3t:A/b+c", uint8(1<<(i%6)))
		f.Add(lines, "//x/%2e%2e/y", "", "re\r\nal: x", uint8(63^1<<(i%6)))
		f.Add(lines, "/", "key[]=1;a=b", "x\x00", uint8(0))
		f.Add(lines, "/bot1", "", `a"b`, uint8(1<<(i%6)))
		f.Add(lines, "/bot1/", "x", "..", uint8(slotCookie|slotPath))
	}
	f.Fuzz(func(t *testing.T, lines, path, query, credential string, slots uint8) {
		path, err := route.Path(path)
		if err != nil || strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' || r == '\\' }) || credential == "" {
			return // net/http, or the proxy, refuses it
		}
		if slots&slotBearer != 0 {
			slots &^= slotBasic // one header
		}
		child := childHeader(lines)
		was := child.Clone()
		template, _ := route.ParseTemplate("/bot{}")
		part, ok := template.Part(path)
		if !ok {
			slots &^= slotPath
		}
		x := &exchange{
			p: &Proxy{}, r: &http.Request{Method: http.MethodGet, Header: child}, res: resolutionOf(slots, credential),
			target: target{host: "api.example.com", port: 443}, scheme: "https", line: line{path, query, query != ""},
		}
		wire, refused := sentOf(t, x)
		if refused != "" {
			if strings.Contains(refused, "credential") != unfitFor(slots, credential, path) && !strings.HasPrefix(refused, "header ") {
				t.Fatalf("refused: %s, of %q in %06b", refused, credential, slots)
			}
			return
		}
		if unfitFor(slots, credential, path) {
			t.Fatalf("%q was sent, in %06b: %q", credential, slots, wire)
		}
		br := bufio.NewReader(strings.NewReader(wire))
		got, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("%q: %v", wire, err)
		}
		if rest, _ := io.ReadAll(br); len(rest) > 0 || got.Host != "api.example.com" || got.Method != http.MethodGet {
			t.Fatalf("%q holds more than one request, or another", wire)
		}
		gotPath, gotQuery, asked := strings.Cut(got.RequestURI, "?")
		if strings.HasPrefix(path, "//") { // would be an authority, so a whole URL is sent
			gotPath = strings.TrimPrefix(gotPath, "https://api.example.com")
		}
		wantHeader(t, was, got.Header, slots, credential)
		if slots&slotQuery == 0 && (gotQuery != query || asked != (query != "")) {
			t.Fatalf("the query %q became %q", query, gotQuery)
		} else if slots&slotQuery != 0 {
			onlyOne(t, query, gotQuery, "&;", "key", func(v string) bool { text, err := url.QueryUnescape(v); return err == nil && text == credential })
		}
		if slots&slotPath == 0 && gotPath != path {
			t.Fatalf("the path %q became %q", path, gotPath)
		} else if slots&slotPath != 0 {
			filled, rest, _ := strings.Cut(strings.TrimPrefix(gotPath, "/bot"), "/")
			if text, err := url.PathUnescape(filled); err != nil || text != credential || rest != strings.TrimPrefix(strings.TrimPrefix(path, "/bot"+part), "/") {
				t.Fatalf("the path %q became %q", path, gotPath)
			}
		}
	})
}

// childHeader is what net/http gives of lines, as far as they are no framing.
func childHeader(lines string) http.Header {
	h := http.Header{}
	for l := range strings.SplitSeq(lines, "\n") {
		name, value, _ := strings.Cut(l, ":")
		switch value = strings.Trim(value, " \t"); {
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
		case slices.Contains([]string{"Host", "Content-Length", "Transfer-Encoding", "Trailer"}, http.CanonicalHeaderKey(name)):
		case slices.Contains([]string{"Upgrade", "Authsome-Connection", "Pragma", "Cache-Control"}, http.CanonicalHeaderKey(name)):
		default:
			h.Add(name, value)
		}
	}
	return h
}

func basicOf(credential string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+credential))
}

// resolutionOf is what the broker would have said.
func resolutionOf(slots uint8, credential string) *authsome.Resolution {
	res := &authsome.Resolution{Verdict: authsome.Forward}
	if slots&63 == 0 {
		return res
	}
	*res = authsome.Resolution{Verdict: authsome.Inject, Provider: "p", Connection: "work", Strip: []string{"authorization", "X-Api-Key"}, Rewrite: &authsome.Rewrite{}}
	for bit, value := range map[uint8]string{slotBearer: "Bearer " + credential, slotBasic: basicOf(credential)} {
		if slots&bit != 0 {
			res.Set = append(res.Set, authsome.SetHeader{Name: "authorization", Value: authsome.NewSecret(value)})
		}
	}
	if slots&slotKey != 0 {
		res.Set = append(res.Set, authsome.SetHeader{Name: "x-api-key", Value: authsome.NewSecret(credential)})
	}
	for bit, at := range map[uint8]authsome.Place{
		slotQuery: {Slot: authsome.SlotQuery, Name: "key"}, slotCookie: {Slot: authsome.SlotCookie, Name: "session"}, slotPath: {Slot: authsome.SlotPath, Name: "/bot{}"},
	} {
		if slots&bit != 0 {
			if at.Slot != authsome.SlotPath {
				res.Rewrite.Strip = append(res.Rewrite.Strip, at)
			}
			res.Rewrite.Set = append(res.Rewrite.Set, authsome.SetPlace{Place: at, Value: authsome.NewSecret(credential)})
		}
	}
	return res
}

// sentOf is what run and attempt put on the wire, or why they do not.
func sentOf(t *testing.T, x *exchange) (wire, refused string) {
	t.Helper()
	removeHopByHop(x.r.Header)
	before := x.r.Header.Clone()
	header := onward(x.r.Header, x.res, false, "")
	if prob := x.rewrite(header); prob != nil {
		return "", prob.Message
	}
	if !reflect.DeepEqual(before, x.r.Header) {
		t.Fatalf("the child's own header became %q", x.r.Header)
	}
	name := misplaced(header)
	if name == "Referer" {
		delete(header, name)
		name = misplaced(header)
	}
	if name != "" {
		if !slices.ContainsFunc(header[name], hasOurs) {
			t.Fatalf("%s is refused for a placeholder, and is %q", name, header[name])
		}
		return "", "header " + name
	}
	for name, values := range header {
		if slices.ContainsFunc(values, hasOurs) {
			t.Fatalf("a placeholder is sent in %s: %q", name, values)
		}
	}
	req := x.request(header)
	req.Body = http.NoBody
	for _, values := range header {
		if !slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			continue
		}
		if new(links).takes(req) {
			t.Fatalf("%q would be written", values)
		}
		return "", "a credential that net/http refuses"
	}
	if new(links).takes(req) {
		return new(link).text(t, req), ""
	}
	var buf bytes.Buffer
	if err := req.Write(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.String(), ""
}

// hasOurs looks for a placeholder in a value, also inside of what any reader of
// Basic would take for its user and password.
func hasOurs(value string) bool {
	if strings.Contains(value, authsome.Placeholder) {
		return true
	}
	r := &http.Request{Header: http.Header{"Authorization": {value}}}
	user, password, _ := r.BasicAuth()
	text := user + ":" + password
	if len(value) > 5 && strings.EqualFold(value[:5], "basic") && strings.Contains(" \t", value[5:6]) {
		raw, _ := base64.RawStdEncoding.DecodeString(strings.Trim(value[5:], " \t="))
		text += string(raw)
	}
	return strings.Contains(text, authsome.Placeholder)
}

// unfitFor reports whether a credential cannot stand where it should.
func unfitFor(slots uint8, credential, path string) bool {
	controls := strings.ContainsFunc(credential, func(r rune) bool { return r < ' ' || r == 0x7f })
	inHeader := slots&(slotBearer|slotKey) != 0 && controls && !httpguts.ValidHeaderFieldValue(credential)
	inCookie := slots&slotCookie != 0 && strings.ContainsFunc(credential, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\",;\\", r) })
	inPath := false
	if slots&slotPath != 0 {
		_, rest, more := strings.Cut(strings.TrimPrefix(path, "/bot"), "/")
		if filled := "/bot" + url.PathEscape(credential); more {
			_, err := route.Path(filled + "/" + rest)
			inPath = err != nil
		} else {
			_, err := route.Path(filled)
			inPath = err != nil
		}
	}
	return inHeader || inCookie || inPath
}

// wantHeader holds what went out to what came in.
func wantHeader(t *testing.T, was, got http.Header, slots uint8, credential string) {
	t.Helper()
	want := was.Clone()
	// RFC 9110, section 7.6.1, and the proxy's own.
	for name := range strings.SplitSeq(strings.Join(was["Connection"], ","), ",") {
		want.Del(strings.Trim(name, " \t"))
	}
	for _, name := range []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Http2-Settings"} {
		want.Del(name)
	}
	if slots&63 != 0 {
		want.Del("Authorization")
		want.Del("X-Api-Key")
	}
	switch {
	case slots&slotBearer != 0:
		want.Set("Authorization", strings.Trim("Bearer "+credential, " \t"))
	case slots&slotBasic != 0:
		want.Set("Authorization", basicOf(credential))
		if user, password, ok := (&http.Request{Header: got}).BasicAuth(); !ok || user != "x-access-token" || password != credential {
			t.Fatalf("Basic is %q, of %q", got["Authorization"], credential)
		}
	}
	if slots&slotKey != 0 {
		want.Set("X-Api-Key", strings.Trim(credential, " \t"))
	}
	if referer := want["Referer"]; slices.ContainsFunc(referer, hasOurs) {
		want.Del("Referer")
	}
	if slots&slotCookie != 0 {
		if len(got["Cookie"]) != 1 {
			t.Fatalf("the cookies are %q", got["Cookie"])
		}
		onlyOne(t, strings.Join(want["Cookie"], "; "), got["Cookie"][0], ";,", "session", func(v string) bool { return v == credential })
		want.Del("Cookie")
		got.Del("Cookie")
	}
	// net/http writes the first of several, and none that is empty.
	if agents := want["User-Agent"]; len(agents) > 0 {
		if want.Del("User-Agent"); agents[0] != "" {
			want.Set("User-Agent", agents[0])
		}
	}
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("the header\n%q\nbecame\n%q\nwant\n%q", was, got, want)
	}
}

// onlyOne checks that a list has one field of a name, with our value, and the
// others as before and in their order. Names are read as readName does: TestReadName
// and FuzzFields hold it to what services do.
func onlyOne(t *testing.T, before, after, separators, name string, ours func(string) bool) {
	t.Helper()
	others := func(list string) (out []string, n int) {
		for _, part := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
			field, value, _ := strings.Cut(part, "=")
			if readName(field) != name {
				out = append(out, strings.TrimLeft(part, " "))
			} else if n++; !ours(value) {
				n += 1000
			}
		}
		return slices.DeleteFunc(out, func(s string) bool { return s == "" }), n
	}
	had, _ := others(before)
	if has, n := others(after); n != 1 || !slices.Equal(had, has) {
		t.Fatalf("%q became %q", before, after)
	}
}
