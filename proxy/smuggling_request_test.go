package proxy_test

import (
	"testing"

	"github.com/authsome/authsome"
)

// TestSmuggledRequests are those over HTTP/1.1, in the order of a message: where its
// body ends, its chunks, its trailers, its lines, its names, its first line.
func TestSmuggledRequests(t *testing.T) {
	t.Parallel()
	for _, group := range []struct {
		name  string
		cases []smuggled
	}{
		{"length", lengths()},
		{"chunks", chunkCases()},
		{"trailers", trailers()},
		{"lines", headerLines()},
		{"names", fieldNames()},
		{"connection", hops()},
		{"first line", firstLines()},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range group.cases {
				t.Run(tt.name, tt.hold)
			}
		})
	}
}

// lengths: RFC 9112, section 6. With chunks, a length says nothing (6.3, rule 3) and is
// not sent on; lengths that contradict each other are refused (rule 5).
func lengths() []smuggled {
	const body, none = "3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n"
	seen := chunkedX + keyLine + "\r\n" + body
	three := postX + "Content-Length: 3\r\n" + keyLine + "\r\nabc"
	return append([]smuggled{
		{name: "length and chunks", send: postX + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + body, saw: seen},
		{name: "chunks and length", send: chunkedX + "Content-Length: 13\r\n\r\n" + body, saw: seen},
		{
			name: "chunks and length 0, a request in the chunk", send: chunkedX + "Content-Length: 0\r\n\r\n1c\r\nGET /admin HTTP/1.1\r\nX: yyyy\r\n0\r\n\r\n",
			saw: chunkedX + keyLine + "\r\n1c\r\nGET /admin HTTP/1.1\r\nX: yyyy\r\n0\r\n\r\n",
		},
		{name: "the same length twice", send: postX + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", saw: three},
		{name: "leading zeros", send: postX + "Content-Length: 003\r\n\r\nabc", saw: three},
		{name: "space around the length", send: postX + "Content-Length: \t 3 \t\r\n\r\nabc", saw: three},
		{name: "length of a GET", send: getX + "Content-Length: 3\r\n\r\nabc", saw: getX + "Content-Length: 3\r\n" + keyLine + "\r\nabc"},
		{name: "a length in disguise", send: postX + "Content_Length: 3\r\nContent-Length: 0\r\n\r\n", saw: postX + "Content-Length: 0\r\n" + keyLine + "\r\n"},
		{name: "chunks in disguise", send: postX + "Transfer_Encoding: chunked\r\nContent-Length: 0\r\n\r\n", saw: postX + "Content-Length: 0\r\n" + keyLine + "\r\n"},
		{name: "chunked after a tab", send: postX + "Transfer-Encoding:\tchunked\r\n\r\n" + none, saw: chunkedX + keyLine + "\r\n" + none},
		{name: "CHUNKED", send: postX + "transfer-ENCODING: CHUNKED\r\n\r\n" + none, saw: chunkedX + keyLine + "\r\n" + none},
		{name: "chunked on a folded line", send: postX + "Transfer-Encoding:\r\n chunked\r\n\r\n" + none, saw: chunkedX + keyLine + "\r\n" + none},
		{
			name: "chunked as the fold of another line", send: postX + "X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
			saw: postX + "Content-Length: 0\r\n" + keyLine + "X: a Transfer-Encoding: chunked\r\n\r\n",
		},
		// HTTP/1.0 has no chunks (section 6.1): the length counts, and the connection ends.
		{name: "chunks in HTTP/1.0", send: "POST /public/x HTTP/1.0\r\n" + hostLine + "Transfer-Encoding: chunked\r\n\r\n" + none, saw: postX + "Content-Length: 0\r\n" + keyLine + "\r\n", ends: true},
		{name: "chunks and length in HTTP/1.0", send: "POST /public/x HTTP/1.0\r\n" + hostLine + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", saw: three, ends: true},
	}, refused([][2]string{
		{"two lengths", postX + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"},
		{"two lengths, the first 0", postX + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + getX},
		{"a list of lengths", postX + "Content-Length: 3, 3\r\n\r\nabc"},
		{"a list of two lengths", postX + "Content-Length: 0, 3\r\n\r\nabc"},
		{"+3", postX + "Content-Length: +3\r\n\r\nabc"},
		{"-3", postX + "Content-Length: -3\r\n\r\nabc"},
		{"-0", postX + "Content-Length: -0\r\n\r\n"},
		{"0x3", postX + "Content-Length: 0x3\r\n\r\nabc"},
		{"3e0", postX + "Content-Length: 3e0\r\n\r\nabc"},
		{"3.0", postX + "Content-Length: 3.0\r\n\r\nabc"},
		{"3_0", postX + "Content-Length: 3_0\r\n\r\nabc"},
		{"3;", postX + "Content-Length: 3;\r\n\r\nabc"},
		{"quoted length", postX + "Content-Length: \"3\"\r\n\r\nabc"},
		{"3 4", postX + "Content-Length: 3 4\r\n\r\nabc"},
		{"empty length", postX + "Content-Length: \r\n\r\n"},
		{"length over 64 bits", postX + "Content-Length: 18446744073709551619\r\n\r\nabc"},
		{"length over 63 bits", postX + "Content-Length: 9223372036854775808\r\n\r\nabc"},
		{"full-width 3", postX + "Content-Length: \xef\xbc\x93\r\n\r\nabc"},
		{"vertical tab before the length", postX + "Content-Length: \v3\r\n\r\nabc"},
		{"space before the colon of the length", postX + "Content-Length : 3\r\n\r\nabc"},
		{"identity", postX + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc"},
		{"xchunked", postX + "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n" + none},
		{"chunkedx", postX + "Transfer-Encoding: chunkedx\r\nContent-Length: 5\r\n\r\n" + none},
		{"chunked, chunked", postX + "Transfer-Encoding: chunked, chunked\r\n\r\n" + none},
		{"chunked twice", postX + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + none},
		{"chunked and x on two lines", postX + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + none},
		{"x and chunked on two lines", postX + "Content-Length: 1\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n" + none},
		{"chunked, identity", postX + "Transfer-Encoding: chunked, identity\r\n\r\n" + none},
		{"gzip, chunked", postX + "Transfer-Encoding: gzip, chunked\r\n\r\n" + none},
		{"chunked;q=1", postX + "Transfer-Encoding: chunked;q=1\r\n\r\n" + none},
		{"quoted chunked", postX + "Transfer-Encoding: \"chunked\"\r\n\r\n" + none},
		{",chunked", postX + "Transfer-Encoding: ,chunked\r\n\r\n" + none},
		{"empty encoding", postX + "Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc"},
		{"vertical tab before chunked", postX + "Transfer-Encoding: \vchunked\r\n\r\n" + none},
		{"NUL behind chunked", postX + "Transfer-Encoding: chunked\x00\r\n\r\n" + none},
		{"CR before chunked", postX + "Transfer-Encoding: \rchunked\r\n\r\n" + none},
		{"space before the colon of the encoding", postX + "Transfer-Encoding : chunked\r\n\r\n" + none},
		{"space before the name of the encoding", "POST /public/x HTTP/1.1\r\n Transfer-Encoding: chunked\r\n" + hostLine + "\r\n" + none},
	}...)...)
}

// chunkCases: RFC 9112, section 7.1. They are made anew, so that no way of writing one gets
// through; what is none ends the request, and the connection with it, since nobody knows
// where the next one begins.
func chunkCases() []smuggled {
	const abc = "3\r\nabc\r\n0\r\n\r\n"
	seen := chunkedX + keyLine + "\r\n" + abc
	list := []smuggled{
		{name: "capital digits", send: chunkedX + "\r\nA\r\n0123456789\r\n0\r\n\r\n", saw: chunkedX + keyLine + "\r\na\r\n0123456789\r\n0\r\n\r\n"},
		{name: "leading zeros", send: chunkedX + "\r\n0000000000000003\r\nabc\r\n000\r\n\r\n", saw: seen},
		{name: "extensions", send: chunkedX + "\r\n3;a=b;c=\"d;e\"\r\nabc\r\n0;f\r\n\r\n", saw: seen},
		{name: "space behind the size", send: chunkedX + "\r\n3 \r\nabc\r\n0\t\r\n\r\n", saw: seen},
		{
			name: "a request behind the last chunk is one of its own", send: chunkedX + "\r\n" + abc + "GET /admin HTTP/1.1\r\n" + hostLine + "Connection: close\r\n\r\n",
			saw: seen + "GET /admin HTTP/1.1\r\n" + hostLine + "\r\n", next: "GET /admin", ends: true,
		},
	}
	for name, body := range map[string]string{
		"0x3": "0x3\r\nabc\r\n0\r\n\r\n", "+3": "+3\r\nabc\r\n0\r\n\r\n", "-1": "-1\r\nabc\r\n0\r\n\r\n", "space before the size": " 3\r\nabc\r\n0\r\n\r\n", "3_0": "3_0\r\nabc\r\n0\r\n\r\n", "3h": "3h\r\nabc\r\n0\r\n\r\n",
		"no size": "\r\nabc\r\n0\r\n\r\n", "extension and no size": ";a\r\nabc\r\n0\r\n\r\n", "NUL behind the size": "3\x00\r\nabc\r\n0\r\n\r\n",
		"size over 64 bits": "10000000000000003\r\nabc\r\n0\r\n\r\n", "too many zeros": "00000000000000003\r\nabc\r\n0\r\n\r\n", "space before an extension": "3 ;a\r\nabc\r\n0\r\n\r\n",
		"LF in an extension": "3;a=\"b\nc\"\r\nabc\r\n0\r\n\r\n", "extension that ends in LF": "3;a\nabc\r\n0\r\n\r\n", "CR in an extension": "3;a\rb\r\nabc\r\n0\r\n\r\n",
		"LF behind the size": "3\nabc\r\n0\r\n\r\n", "LF behind the chunk": "3\r\nabc\n0\r\n\r\n", "CR behind the size": "3\rabc\r\n0\r\n\r\n",
		"longer than its size": "3\r\nabcd\r\n0\r\n\r\n", "nothing behind the chunk": "3\r\nabc0\r\n\r\n" + getX, "a request in the place of a chunk": "3\r\nabc\r\n" + getX + "\r\n",
	} {
		list = append(list, smuggled{name: name, send: chunkedX + "\r\n" + body, code: "late bad_request", saw: seen, ends: true})
	}
	return list
}

// trailers: RFC 9110, section 6.5.1. What would be framing, routing or a credential in the
// header of a server that merges them into it is taken out.
func trailers() []smuggled {
	announced := func(names string) string { return chunkedX + "Trailer: " + names + "\r\n" + keyLine + "\r\n" }
	list := []smuggled{
		{
			name: "framing, host and credentials", send: chunkedX + "Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nAuthorization: mine\r\nHost: evil.example\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nCookie: a=b\r\nConnection: close\r\n\r\n",
			saw: announced("X-Sum") + "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
		},
		{
			name: "the same, announced", send: chunkedX + "Trailer: X-Sum, Host, Authorization, Cookie, Te\r\n\r\n0\r\nHost: evil.example\r\nAuthorization: mine\r\nCookie: a=b\r\nX-Sum: 1\r\n\r\n",
			saw: announced("X-Sum") + "0\r\nX-Sum: 1\r\n\r\n",
		},
		{name: "the credential's place in disguise", send: chunkedX + "Trailer: X-Sum, authorization, AUTHORIZATION\r\n\r\n0\r\naUTHORIZATION: mine\r\nX-Sum: 1\r\n\r\n", saw: announced("X-Sum") + "0\r\nX-Sum: 1\r\n\r\n"},
		{name: "folded", send: chunkedX + "Trailer: X-Sum\r\n\r\n0\r\nX-Sum: 1\r\n Host: evil.example\r\n\r\n", saw: announced("X-Sum") + "0\r\nX-Sum: 1 Host: evil.example\r\n\r\n"},
		{name: "space before the colon", send: chunkedX + "Trailer: X-Sum\r\n\r\n0\r\nX-Sum : 1\r\n\r\n", saw: announced("X-Sum") + "0\r\n\r\n"},
		{name: "a trailer that ends in LF", send: chunkedX + "Trailer: X-Sum\r\n\r\n0\r\nX-Sum: a\nX-Two: b\r\n\r\n", saw: announced("X-Sum") + "0\r\nX-Sum: a\r\nX-Two: b\r\n\r\n"},
		{name: "a line that is none", send: chunkedX + "\r\n0\r\nGET /admin HTTP/1.1\r\n\r\n", code: "late bad_request", saw: chunkedX + keyLine + "\r\n0\r\n\r\n", ends: true},
		{name: "NUL", send: chunkedX + "Trailer: X-Sum\r\n\r\n0\r\nX-Sum: a\x00b\r\n\r\n", code: "late bad_request", saw: announced("X-Sum") + "0\r\n\r\n", ends: true},
		{name: "CR", send: chunkedX + "Trailer: X-Sum\r\n\r\n0\r\nX-Sum: a\rHost: evil.example\r\n\r\n", code: "late bad_request", saw: announced("X-Sum") + "0\r\n\r\n", ends: true},
	}
	return append(list, refused([][2]string{
		{"a length, announced", chunkedX + "Trailer: Content-Length\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 0\r\n\r\n"},
		{"an encoding, announced", chunkedX + "Trailer: X-Sum, Transfer-Encoding\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"},
	}...)...)
}

// headerLines: RFC 9112, sections 2.2 and 5.
func headerLines() []smuggled {
	x := func(value string) string { return getX + keyLine + "X: " + value + "\r\n\r\n" }
	return append([]smuggled{
		{name: "folded", send: getX + "X: a\r\n b\r\n\tc\r\n\r\n", saw: x("a b c")},
		{name: "a line of the fold looks like a header", send: getX + "X: a\r\n Authorization: mine\r\n\r\n", saw: x("a Authorization: mine")},
		{name: "bare LF between two headers", send: getX + "X: a\nY: b\r\n\r\n", saw: getX + keyLine + "X: a\r\nY: b\r\n\r\n"},
		{name: "bare LF everywhere", send: "GET /public/x HTTP/1.1\nHost: " + scoped + "\nX: a\n\n", saw: x("a")},
		{name: "bare LF at the end", send: getX + "X: a\n\n", saw: x("a")},
		{
			name: "an empty line of bare LF, and a request behind it", send: getX + "X: a\n\nGET /admin HTTP/1.1\r\n" + hostLine + "Connection: close\r\n\r\n",
			saw: x("a") + "GET /admin HTTP/1.1\r\n" + hostLine + "\r\n", next: "GET /admin", ends: true,
		},
		{name: "a line of LF and one of CR LF", send: getX + "X: a\n\r\n", saw: x("a")},
		{name: "obs-text in a value", send: getX + "X: \xe9\xff\r\n\r\n", saw: x("\xe9\xff")},
		{name: "space around a value", send: getX + "X: \t a \t \r\n\r\n", saw: x("a")},
	}, refused([][2]string{
		{"a folded first line", "GET /public/x HTTP/1.1\r\n Host: evil.example\r\n" + hostLine + "\r\n"},
		{"CR in a value", getX + "X: a\rY: b\r\n\r\n"},
		{"CR CR LF", getX + "X: a\r\r\n\r\n"},
		{"NUL in a value", getX + "X: a\x00b\r\n\r\n"},
		{"control character in a value", getX + "X: a\x01b\r\n\r\n"},
		{"DEL in a value", getX + "X: a\x7fb\r\n\r\n"},
		{"no colon", getX + "X\r\n\r\n"},
		{"an empty line before the request", "\r\n" + getX + "\r\n"},
	}...)...)
}

// fieldNames: RFC 9110, section 5.1. Whatever is read as a place of the service's credential, or
// as framing, is not left to the program.
func fieldNames() []smuggled {
	return append([]smuggled{
		{name: "mixed case", send: getX + "aUTHORIZATION: Bearer mine\r\n\r\n", saw: seenX},
		{name: "twice", send: getX + "Authorization: Bearer one\r\nauthorization: Bearer two\r\n\r\n", saw: seenX},
		{name: "empty", send: getX + "Authorization:\r\n\r\n", saw: seenX},
		{name: "placeholder", send: getX + "Authorization: Bearer " + authsome.Placeholder + "\r\n\r\n", saw: seenX},
		{name: "placeholder with an account", send: getX + "Authorization: Bearer " + authsome.Placeholder + ".work\r\n\r\n", saw: seenX},
		{name: "a name that is merely alike", send: getX + "Authorization_: mine\r\nX-Authorization: mine\r\n\r\n", saw: getX + keyLine + "Authorization_: mine\r\nX-Authorization: mine\r\n\r\n"},
		{name: "a host in disguise", send: getX + "HOST_: evil.example\r\nX-Forwarded-Host: evil.example\r\n\r\n", saw: getX + keyLine + "Host_: evil.example\r\nX-Forwarded-Host: evil.example\r\n\r\n"},
		{name: "another path, in a header", send: getX + "X-Original-URL: /admin\r\nx-rewrite-url: /admin\r\nX_Original_URL: /admin\r\nX-REWRITE_URL: /admin\r\n\r\n", saw: seenX},
		{name: "another method, in a header", send: getX + "X-HTTP-Method-Override: DELETE\r\n\r\n", saw: getX + keyLine + "X-Http-Method-Override: DELETE\r\n\r\n"},
		{name: "all characters of a token", send: getX + "X!#$%&'*+.^`|~1: a\r\n\r\n", saw: getX + keyLine + "X!#$%&'*+.^`|~1: a\r\n\r\n"},
	}, refused([][2]string{
		{"NUL", getX + "X\x00: a\r\n\r\n"},
		{"NUL behind the name of the credential", getX + "Authorization\x00: mine\r\n\r\n"},
		{"space", getX + "X Y: a\r\n\r\n"},
		{"space before the colon", getX + "Authorization : mine\r\n\r\n"},
		{"tab before the colon", getX + "Authorization\t: mine\r\n\r\n"},
		{"vertical tab", getX + "Authorization\v: mine\r\n\r\n"},
		{"CR before the colon", getX + "Authorization\r: mine\r\n\r\n"},
		{"no name", getX + ": a\r\n\r\n"},
		{"a pseudo-header", getX + ":path: /admin\r\n\r\n"},
		{"brackets", getX + "X(y): a\r\n\r\n"},
		{"quotes", getX + "\"Authorization\": mine\r\n\r\n"},
		{"obs-text", getX + "X\xe9: a\r\n\r\n"},
		{"a letter that lower-cases to k", getX + "X-Api-\u212aey: a\r\n\r\n"},
	}...)...)
}

// hops: RFC 9110, section 7.6.1. What the child names in Connection is its own, and goes
// before the credential comes.
func hops() []smuggled {
	return []smuggled{
		{name: "Connection: authorization", send: getX + "Connection: authorization\r\nAuthorization: Bearer mine\r\n\r\n", saw: seenX},
		{name: "Connection: close, AUTHORIZATION", send: getX + "Connection: close, AUTHORIZATION,x-api-key\r\n\r\n", saw: seenX, ends: true},
		{name: "Connection: host, content-length", send: postX + "Connection: host, content-length\r\nContent-Length: 3\r\n\r\nabc", saw: postX + "Content-Length: 3\r\n" + keyLine + "\r\nabc"},
		{name: "Connection: transfer-encoding", send: postX + "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", saw: chunkedX + keyLine + "\r\n0\r\n\r\n"},
		{name: "Connection with what is no name", send: getX + "Connection: \"authorization\", ,;, a b\r\n\r\n", saw: seenX},
		{name: "Connection twice", send: getX + "Connection: x-one\r\nConnection: x-two\r\nX-One: 1\r\nX-Two: 2\r\n\r\n", saw: seenX},
		{name: "Proxy-Connection and Keep-Alive", send: getX + "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=9\r\n\r\n", saw: seenX},
		{name: "the proxy's own credential", send: getX + "Proxy-Authorization: Basic eDp5\r\n\r\n", saw: seenX},
		{name: "upgrade to cleartext HTTP/2", send: getX + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", saw: seenX},
		{name: "two upgrades", send: getX + "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n\r\n", saw: seenX},
		{name: "upgrade that Connection does not name", send: getX + "Upgrade: websocket\r\n\r\n", saw: seenX},
		{name: "Te: chunked", send: getX + "TE: chunked, trailers;q=0.5\r\nConnection: TE\r\n\r\n", saw: seenX},
	}
}

// firstLines: RFC 9112, section 3. It is written anew.
func firstLines() []smuggled {
	line := func(s string) string { return s + "\r\n" + hostLine + "\r\n" }
	return append([]smuggled{
		{name: "HTTP/1.2", send: line("GET /public/x HTTP/1.2"), saw: seenX},
		{name: "HTTP/1.0 without a host", send: "GET /public/x HTTP/1.0\r\n\r\n", saw: seenX, ends: true},
		{name: "a method in small letters is another one", send: line("get /public/x HTTP/1.1"), saw: "get /public/x HTTP/1.1\r\n" + hostLine + keyLine + "\r\n"},
		{name: "preface of HTTP/2", send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", code: "misdirected", ends: true},
		{name: "TRACE", send: line("TRACE /public/x HTTP/1.1"), code: "bad_request"},
		{name: "trace", send: line("trace /public/x HTTP/1.1"), code: "bad_request"},
		{name: "connect", send: line("connect /public/x HTTP/1.1"), code: "bad_request"},
		{name: "TRACK", send: line("TRACK /public/x HTTP/1.1"), code: "bad_request"},
		{name: "CONNECT in a tunnel", send: line("CONNECT paths.example.com:443 HTTP/1.1"), code: "bad_request"},
	}, refused([][2]string{
		{"HTTP/0.9", "GET /public/x\r\n\r\n"},
		{"HTTP/0.9 with headers", line("GET /public/x")},
		{"HTTP/0.9 by name", line("GET /public/x HTTP/0.9")},
		{"HTTP/2.0", line("GET /public/x HTTP/2.0")},
		{"HTTP/11", line("GET /public/x HTTP/11")},
		{"HTTP/1.10", line("GET /public/x HTTP/1.10")},
		{"http/1.1", line("GET /public/x http/1.1")},
		{"space behind the version", line("GET /public/x HTTP/1.1 ")},
		{"NUL behind the version", line("GET /public/x HTTP/1.1\x00")},
		{"two spaces before the path", line("GET  /public/x HTTP/1.1")},
		{"two spaces behind the path", line("GET /public/x  HTTP/1.1")},
		{"space in the path", line("GET /public/x HTTP/1.1 /admin HTTP/1.1")},
		{"tab", line("GET\t/public/x\tHTTP/1.1")},
		{"CR", line("GET /public/x\rHTTP/1.1")},
		{"space before the method", line(" GET /public/x HTTP/1.1")},
		{"NUL in the method", line("G\x00T /public/x HTTP/1.1")},
		{"brackets in the method", line("GE(T /public/x HTTP/1.1")},
		{"colon in the method", line("GET:443 /public/x HTTP/1.1")},
		{"an SSL record of version 2", "\x80\x2e\x01\x03\x01\r\n\r\n"},
	}...)...)
}
