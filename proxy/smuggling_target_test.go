package proxy_test

import (
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// TestSmuggledPaths: a scope on a path holds for what any service will read, and what
// is routed on is what is forwarded.
func TestSmuggledPaths(t *testing.T) {
	t.Parallel()
	var cases []smuggled
	for _, tt := range []struct {
		sent, seen string
		key        bool
	}{
		{"/public/x", "/public/x", true},
		{"/public", "/public", true},
		{"/public/", "/public/", true},
		{"/publicity", "/publicity", false},
		{"/PUBLIC/x", "/PUBLIC/x", false},
		{"/public/../admin", "/admin", false},
		{"/public/./../admin", "/admin", false},
		{"/public/%2e%2e/admin", "/admin", false},
		{"/public/.%2E/admin?a=/public", "/admin?a=/public", false},
		{"/public//../../admin", "/admin", false},
		{"/../../public/x", "/public/x", true},
		{"/admin/../public/x", "/public/x", true},
		{"/admin/%2E./public/x", "/public/x", true},
		{"/public/..", "/", false},
		{"/public/%2e", "/public/", true},
		{"/public/...", "/public/...", true},
		{"/public/..x/y", "/public/..x/y", true},
		{"/%70ublic/x", "/public/x", true},
		{"/%50ublic/x", "/Public/x", false},
		{"/public/a%2fb?q=%2e%2e&c=a%20b", "/public/a%2Fb?q=%2e%2e&c=a%20b", true},
		{"/public//x", "/public//x", true},
		{"/public/;/x", "/public/;/x", true},
		{"/public/x;y=..", "/public/x;y=..", true},
		{"/public/x%3b", "/public/x%3B", true},
		{"/public/x%3F/y%23", "/public/x%3F/y%23", true},
		{"/public/\xc3\xa9\"<>{}|^`", "/public/%C3%A9%22%3C%3E%7B%7D%7C%5E%60", true},
		{"/public/https://evil.example/@:x", "/public/https://evil.example/@:x", true},
		{"/public?", "/public?", true},
		{"/public/x?a=b?c=/../admin", "/public/x?a=b?c=/../admin", true},
		{"/public/x?%zz&%00", "/public/x?%zz&%00", true},
		{"/public/x?a=\\b", "/public/x?a=\\b", true},
		{"https://paths.example.com?\\", "/?\\", false},
		{"/public/x?a=b%0d%0aHost:evil", "/public/x?a=b%0d%0aHost:evil", true},
		{"https://paths.example.com/public/../admin", "/admin", false},
		{"https://paths.example.com?/public", "/?/public", false},
		{"https://paths.example.com", "/", false},
		{"HTTPS://paths.example.com:443/public/x", "/public/x", true},
		{"https://PATHS.example.com./public/x", "/public/x", true},
		{"/admin//public", "/admin//public", false},
		{"/admin%2Fpublic", "/admin%2Fpublic", false},
	} {
		saw := "GET " + tt.seen + " HTTP/1.1\r\n" + hostLine
		if tt.key {
			saw += keyLine
		}
		cases = append(cases, smuggled{name: tt.sent, send: "GET " + tt.sent + " HTTP/1.1\r\n" + hostLine + "\r\n", saw: saw + "\r\n"})
	}
	for _, path := range []string{
		// A dot segment to servers that decode, or that cut something off, or twice.
		"/public/..%2fadmin", "/public/%2e%2e%2fadmin", "/public/x%2f..%2f..%2fadmin", "/public/..;/admin", "/public/..;x=y/admin", "/public/.;/admin", "/public/%2e%2e%3b/admin",
		"/public/%252e%252e/admin", "/public/%25252e%25252e/admin", "/public/%25252525252e", "/public/..%c0%afadmin", "/public/%c0%ae%c0%ae/admin", "/public/%e0%80%ae./admin",
		"/public/.%2f./admin",
		// A backslash, a control character, a broken escape.
		"/public/..%5cadmin", "/public%5cx", "/public\\x", "/public/..\\..\\admin", "/public/%00", "/public/x%0d%0aX:%20y", "/public/x%7f",
		// The scope, to servers that merge, decode or cut; and no scope, to those that do not.
		"//public/x", "/;/public", "/public;x", "/public;/x", "/public%2Fx", "/public%3Fx", "/public%23x", "/public%3bx", "/%2Fpublic", "/%2fpublic/x", "/public%252Fx", "/%2570ublic/x",
		"/public%2500",
		// No path at all.
		"/public/x#y", "/public/x?a#b", "http://paths.example.com/public/x", "ftp://paths.example.com/public/x", "https://user@paths.example.com/public/x",
		"https:/public/x", "https:///public/x", "//evil.example/..//public",
	} {
		cases = append(cases, smuggled{name: path, send: "GET " + path + " HTTP/1.1\r\n" + hostLine + "\r\n", code: "bad_request"})
	}
	for _, path := range []string{"/public/%", "/public/%2", "/public/%zz", "\\public\\x", "/public/\x00", "/public/x\x7f", "public/x", "/public/x?a=\x00", "?/public", "https://paths.example.com\\@evil.example/public/x", ""} {
		cases = append(cases, smuggled{name: path, send: "GET " + path + " HTTP/1.1\r\n" + hostLine + "\r\n", code: "bad_request", ends: true})
	}
	for _, tt := range cases {
		t.Run(strings.ToValidUTF8(tt.name, "?"), tt.hold)
	}
}

// TestSmuggledHosts: the host of the tunnel is the only one, however another is named
// (RFC 9112, section 3.2), and all spellings of it are one.
func TestSmuggledHosts(t *testing.T) {
	t.Parallel()
	var cases []smuggled
	for _, host := range []string{
		"PATHS.Example.COM", "paths.example.com:443", "paths.example.com.", "PATHS.EXAMPLE.COM.:443", "paths.example.com:00443", " \tpaths.example.com \t",
	} {
		cases = append(cases, smuggled{name: host, send: "GET /public/x HTTP/1.1\r\nHost: " + host + "\r\n\r\n", saw: seenX})
	}
	cases = append(cases,
		smuggled{name: "a whole URL counts, and not the header", send: "GET https://paths.example.com/public/x HTTP/1.1\r\nHost: ignored.example\r\n\r\n", saw: seenX},
		smuggled{name: "another host in a whole URL", send: "GET https://evil.example/public/x HTTP/1.1\r\n" + hostLine + "\r\n", code: "misdirected"},
		smuggled{name: "another port in a whole URL", send: "GET https://paths.example.com:444/public/x HTTP/1.1\r\n" + hostLine + "\r\n", code: "misdirected"},
	)
	for _, host := range []string{
		"api.github.com", "evil.example", "paths.example.com.evil.example", "evil-paths.example.com", "xpaths.example.com", "example.com", "paths.example.co", "*.example.com",
		"paths.example.com:80", "paths.example.com:444", "paths.example.com:0", "paths.example.com:", "paths.example.com:0x1bb", "paths.example.com:+443", "paths.example.com:443:443", "paths.example.com:65979", "paths.example.com:000443",
		"paths.example.com..", ".paths.example.com", "paths..example.com", "[paths.example.com]", "[::1]", "127.0.0.1", "paths.example.com%00.evil.example",
		"evil.example, paths.example.com", "paths.example.com,evil.example", "https://paths.example.com", "paths.example.com/x", "paths.example.com?x", "paths.example.com#x",
		"user@paths.example.com", "paths.example.com@evil.example", "paths.example.com:443@evil.example", "paths.example.com evil.example", "paths.example.com;evil.example", "",
		"xn--paths-.example.com", "p\xd0\xb0ths.example.com",
	} {
		cases = append(cases, smuggled{name: host, send: "GET /public/x HTTP/1.1\r\nHost: " + host + "\r\n\r\n", code: "misdirected"})
	}
	cases = append(cases, refused([][2]string{
		{"no host", "GET /public/x HTTP/1.1\r\n\r\n"},
		{"two hosts", "GET /public/x HTTP/1.1\r\n" + hostLine + "Host: evil.example\r\n\r\n"},
		{"the same host twice", "GET /public/x HTTP/1.1\r\n" + hostLine + hostLine + "\r\n"},
		{"a folded host", "GET /public/x HTTP/1.1\r\nHost: evil.example\r\n paths.example.com\r\n\r\n"},
		{"space before the colon", "GET /public/x HTTP/1.1\r\nHost : paths.example.com\r\n\r\n"},
		{"NUL", "GET /public/x HTTP/1.1\r\nHost: paths.example.com\x00.evil.example\r\n\r\n"},
		{"CR", "GET /public/x HTTP/1.1\r\nHost: paths.example.com\r.evil.example\r\n\r\n"},
	}...)...)
	for _, tt := range cases {
		t.Run(strings.ToValidUTF8(tt.name, "?"), tt.hold)
	}
}

// TestSmuggledMethods: a route that is for some methods is not reached by a header or a
// parameter that names one of them, nor left by one.
func TestSmuggledMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(scoped, echo)
	w.broker.routes(route.Entry{Provider: "openai", Route: authsome.Route{Host: scoped, Methods: []string{"GET", "PUT"}, Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})
	send := func(method, query, header string) string {
		res := w.raw(scoped, method+" /"+query+" HTTP/1.1\r\n"+hostLine+header+"Content-Length: 0\r\n\r\n")
		if res.StatusCode != 200 {
			problem(t, res, 400, "bad_request")
			return "refused"
		}
		return sawOf(t, res).Header.Get("Authorization")
	}
	const injected, refused = "Bearer " + openaiKey, "refused"
	for _, tt := range [][4]string{
		{"GET", "", "", injected},
		{"POST", "", "", ""},
		{"GET", "", "X-HTTP-Method-Override: PUT\r\n", injected},
		{"POST", "", "X-HTTP-Method-Override: DELETE\r\n", ""},
		{"GET", "", "X-HTTP-Method-Override: get\r\n", injected},
		{"GET", "", "X-HTTP-Method-Override:\r\n", injected},
		{"PUT", "", "X-HTTP-Method-Override: DELETE\r\n", refused},
		{"PUT", "", "x_http_method_override: DELETE\r\n", refused},
		{"PUT", "", "X-HTTP_Method: delete\r\n", refused},
		{"PUT", "", "X-HTTP-Method: delete\r\n", refused},
		{"PUT", "", "X-Method-Override: GET\r\nX-Method-Override: DELETE\r\n", refused},
		{"POST", "", "X-HTTP-Method-Override: GET\r\n", refused},
		{"GET", "?_method=PUT", "", injected},
		{"GET", "?method=DELETE&a_method=DELETE&_methods=DELETE&_method", "", injected},
		{"POST", "?_method=DELETE", "", ""},
		{"PUT", "?_method=delete", "", refused},
		{"PUT", "?a=b&_method=DELETE&c", "", refused},
		{"PUT", "?a=b;_method=DELETE", "", refused},
		{"PUT", "?_method=PUT&_method=DELETE", "", refused},
		{"PUT", "?_%6dethod=%44ELETE", "", refused},
		{"PUT", "?+.METHOD=DELETE", "", refused},
		{"POST", "?_method=GET", "", refused},
		{"PUT", "?_method%00a=DELETE", "", refused},
		{"PUT", "?_method[a]=DELETE", "", refused},
		{"post", "", "", ""},
		{"get", "", "", refused},
	} {
		if got := send(tt[0], tt[1], tt[2]); got != tt[3] {
			t.Errorf("%s %q with %q: %q, want %q", tt[0], tt[1], tt[2], got, tt[3])
		}
	}
}

// TestSmuggledCredentials: a second credential in a place of the service rides along in
// no disguise, also not where the place has an underscore itself, or in a trailer.
func TestSmuggledCredentials(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ place, sent, seen string }{
		"underscores for hyphens":    {"X-Api-Key", "X_Api_Key: mine\r\nx_api-key: mine\r\nX-API_KEY: mine\r\n", ""},
		"hyphens for underscores":    {"api_key", "Api-Key: mine\r\nAPI_KEY: mine\r\n", ""},
		"another slot":               {"X-Api-Key", "Authorization: Bearer mine\r\n", ""},
		"another slot in disguise":   {"X-Api-Key", "X_Other_Key: mine\r\n", ""},
		"a placeholder in disguise":  {"X-Api-Key", "X_API_KEY: " + authsome.Placeholder + "\r\n", ""},
		"what is merely alike stays": {"X-Api-Key", "X-Api-Keys: mine\r\n", "X-Api-Keys: mine\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.record(scoped)
			w.broker.routes(route.Entry{Provider: "openai", Route: authsome.Route{Host: scoped, Strip: []string{"Authorization", "X-Other-Key"}, Inject: []authsome.Injection{
				{Slot: authsome.SlotHeader, Name: tt.place, Value: "{token}"},
			}}})
			_ = text(t, w.raw(scoped, getX+tt.sent+"\r\n"))
			announced := "X-Sum, no name"
			for line := range strings.Lines(tt.sent) {
				before, _, _ := strings.Cut(line, ":")
				announced += ", " + before
			}
			trailer := text(t, w.raw(scoped, chunkedX+"Trailer: "+announced+"\r\n\r\n0\r\n"+tt.sent+"X-Sum: 1\r\n\r\n"))
			key := strings.ToUpper(tt.place[:1]) + tt.place[1:] + ": " + openaiKey + "\r\n"
			want := getX + key + tt.seen + "\r\n"
			got := s.end(w)("")
			if !strings.HasPrefix(got, want) {
				t.Errorf("the service saw %q, want %q", got, want)
			}
			if behind := strings.TrimPrefix(got, want); tt.seen == "" && strings.Contains(behind, "mine") || !strings.Contains(behind, "X-Sum: 1\r\n\r\n") {
				t.Errorf("behind that the service saw %q (%s)", behind, trailer)
			}
		})
	}
}
