package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/authsome/authsome/proxy"
)

// rawKey can stand everywhere in an answer, in the name of a field too.
const rawKey = "sk-raw-0123456789abcdef.key"

var rawStars = strings.Repeat("*", len(rawKey))

// holding gives the run a key, and has its answers looked into.
func holding(key string) option {
	return func(w *world, _ *proxy.Config) {
		w.broker.grants[token].Unscrubbed = false
		w.broker.set("openai", &account{secret: key, private: true})
	}
}

// leaks names the ways in which a text tells a key; what of its Base64 does not
// depend on what surrounds it.
func leaks(text, key string) (found []string) {
	all := map[string]string{
		"as it is": key, "as hexadecimal digits": hex.EncodeToString([]byte(key)), "for a query": url.QueryEscape(key), "for a path": url.PathEscape(key),
		"for HTML": html.EscapeString(key),
	}
	quoted, _ := json.Marshal(key)
	all["for JSON"] = strings.Trim(string(quoted), `"`)
	for before := range 3 {
		b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", before) + key))
		core := b[(8*before+5)/6+1 : 8*(before+len(key))/6]
		all[fmt.Sprintf("in Base64, %d", before)] = core
		all[fmt.Sprintf("in Base64 of URLs, %d", before)] = strings.NewReplacer("+", "-", "/", "_").Replace(core)
	}
	lower := strings.ToLower(text)
	for way, spelled := range all {
		if strings.Contains(text, spelled) || strings.Contains(lower, strings.ToLower(spelled)) {
			found = append(found, way)
		}
	}
	return found
}

// trickle writes a text in pieces, each in a TLS record of its own.
func trickle(c io.Writer, text string, size int) {
	for text != "" {
		n := min(size, len(text))
		if _, err := io.WriteString(c, text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

// chunks are a body in chunks of a size, with trailers behind it.
func chunks(body string, size int, trailers ...string) string {
	var b strings.Builder
	for body != "" {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n")
	for _, line := range trailers {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}

func sized(body string) string {
	return "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// heard is an answer as the child gets it.
type heard struct {
	*http.Response
	early []http.Header // of 1xx
	body  string
	err   error  // of reading the body
	bytes string // over HTTP/1.1, all that came; else what net/http says of it
}

// listen sends a request and takes all that comes.
func (w *world) listen(proto, method, url string, headers ...string) heard {
	w.t.Helper()
	if proto == http1 {
		return w.listenRaw(method, url, headers...)
	}
	var h heard
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
		h.early = append(h.early, http.Header(header))
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	if h.Response, err = w.client(proto).Do(req); err != nil {
		return heard{err: err, Response: &http.Response{}}
	}
	defer func() { _ = h.Body.Close() }()
	var body []byte
	body, h.err = io.ReadAll(h.Body)
	h.body, h.bytes = string(body), fmt.Sprint(h.early, h.Status, h.Header, string(body), h.Trailer)
	return h
}

func (w *world) listenRaw(method, url string, headers ...string) heard {
	w.t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	c, br := w.tunnel(host+":443", host)
	defer func() { _ = c.Close() }()
	request := method + " /" + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\nTe: trailers\r\n"
	for _, line := range headers {
		request += line + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	all, cut := io.ReadAll(br)
	h := heard{bytes: string(all), err: cut, Response: &http.Response{}}
	rest := bufio.NewReader(bytes.NewReader(all))
	for {
		res, err := http.ReadResponse(rest, &http.Request{Method: method})
		if err != nil {
			h.err = err
			return h
		}
		if res.StatusCode < 200 {
			h.early = append(h.early, res.Header)
			continue
		}
		body, err := io.ReadAll(res.Body)
		if h.Response, h.body = res, string(body); err != nil {
			h.err = err
		}
		return h
	}
}

// said is an answer of a service in bytes, and what the child gets of it.
type said struct {
	method string   // GET
	ask    []string // headers of the request
	bytes  string

	status int               // 200
	body   string            // as the child gets it
	header map[string]string // "" for none
	trails map[string]string
	early  string // Link of a 103
	places int    // that were overwritten; -1 for as many as come to be seen
	unseen bool
	broken bool // the answer has to look as if it broke off
}

const ok = "HTTP/1.1 200 OK\r\n"

// rawAnswers are those of TestRawAnswersAreScrubbed.
func rawAnswers() map[string]said {
	const k = rawKey
	return map[string]said{
		"the status line": {bytes: "HTTP/1.1 200 " + k + "\r\n" + sized("x"), body: "x", places: 1},
		"headers": {
			bytes:  "HTTP/1.1 302 Found\r\nLocation: https://a.example/?k=" + k + "\r\nSet-Cookie: k=" + k + "; Path=/\r\nSet-Cookie: b=1\r\nLink: <https://a.example/" + k + ">\r\nEtag: \"" + k + "\"\r\n" + sized(""),
			status: 302, places: 4,
			header: map[string]string{"Location": "https://a.example/?k=" + rawStars, "Set-Cookie": "k=" + rawStars + "; Path=/", "Etag": `"` + rawStars + `"`, "Link": "<https://a.example/" + rawStars + ">"},
		},
		"the name of a header": {bytes: ok + "X-Debug-" + k + ": 1\r\n" + sized("x"), body: "x", places: 1, header: map[string]string{"X-Debug-" + rawStars: "1"}},
		"a folded header":      {bytes: ok + "X-Debug: a\r\n " + k + "\r\n b\r\n" + sized("x"), body: "x", places: 1, header: map[string]string{"X-Debug": "a " + rawStars + " b"}},
		"304": {
			ask:   []string{`If-None-Match: "a"`},
			bytes: "HTTP/1.1 304 Not Modified\r\nEtag: \"" + k + "\"\r\nLocation: /" + k + "\r\nSet-Cookie: k=" + k + "\r\nLink: <" + k + ">\r\n\r\n", status: 304, places: 4,
			header: map[string]string{"Etag": `"` + rawStars + `"`, "Location": "/" + rawStars, "Set-Cookie": "k=" + rawStars, "Link": "<" + rawStars + ">"},
		},
		"204":             {bytes: "HTTP/1.1 204 No Content\r\nX-Debug: " + k + "\r\n\r\n", status: 204, places: 1, header: map[string]string{"X-Debug": rawStars}},
		"HEAD":            {method: "HEAD", bytes: ok + "X-Debug: " + k + "\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n", places: 1, header: map[string]string{"X-Debug": rawStars, "Content-Encoding": "gzip", "Content-Length": "99"}},
		"103":             {bytes: "HTTP/1.1 103 Early Hints\r\nLink: <" + k + ">\r\n\r\n" + ok + sized("x"), body: "x", early: "<" + rawStars + ">", places: 1},
		"the wrong 1xx":   {bytes: "HTTP/1.1 102 " + k + "\r\nX-" + k + ": " + k + "\r\n\r\n" + ok + sized("x"), body: "x", places: 2},
		"a body":          {bytes: ok + sized("a "+k+" b"), body: "a " + rawStars + " b", places: 1, header: map[string]string{"Content-Length": strconv.Itoa(len(k) + 4)}},
		"chunks of one":   {bytes: ok + "Transfer-Encoding: chunked\r\n\r\n" + chunks("a "+k+" b", 1), body: "a " + rawStars + " b", places: 1},
		"chunks' margins": {bytes: ok + "Transfer-Encoding: chunked\r\n\r\n3;key=" + k + "\r\nabc\r\n0\r\n\r\n", body: "abc"},
		"until the end":   {bytes: "HTTP/1.0 200 OK\r\n\r\na " + k, body: "a " + rawStars, places: 1},
		"a beginning alone": {
			bytes: ok + "Transfer-Encoding: chunked\r\n\r\n" + chunks("a "+k[:20], 7), body: "a " + k[:20],
		},
		"trailers": {
			bytes: ok + "Trailer: X-Last, X-" + k + ", X-Never\r\nTransfer-Encoding: chunked\r\n\r\n" +
				chunks("a "+k+" b", 4, "X-Last: "+k, "X-Other: 1", "X-Last: b", "X-"+k+": c", "X-Other: "+k),
			body: "a " + rawStars + " b", places: 4, trails: map[string]string{"X-Last": rawStars + "|b", "X-Other": "1|" + rawStars, "X-" + rawStars: "c"},
		},
		"a part": {
			ask:   []string{"Range: bytes=10-99"},
			bytes: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 10-39/40\r\n" + sized("a "+k+" "), status: 206, body: "a " + rawStars + " ", places: 1,
			header: map[string]string{"Content-Range": "bytes 10-39/40", "Content-Length": "30"},
		},
		"parts": {
			ask:   []string{"Range: bytes=0-1,10-40"},
			bytes: "HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\n" + sized("--x\r\nContent-Range: bytes 10-38/99\r\n\r\n"+k+"\r\n--x--\r\n"),
			body:  "--x\r\nContent-Range: bytes 10-38/99\r\n\r\n" + rawStars + "\r\n--x--\r\n", status: 206, places: 1,
		},
		"a part of what is encoded": {
			bytes: "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Range: bytes 3-9/40\r\n" + sized("\x00\x01\x02"), status: 206, body: "\x00\x01\x02", unseen: true,
			header: map[string]string{"Content-Encoding": "gzip"},
		},
		"a transfer coding": {
			bytes: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks(string(gzipped(k)), 1000), status: 502, body: "upstream_unreachable",
		},
		"a key cut short": {bytes: ok + "Content-Length: 1000\r\n\r\na " + k[:len(k)-1], body: "a ", broken: true},
		"a cut body":      {bytes: ok + "Content-Length: 1000\r\n\r\na " + k, body: "a " + rawStars, places: 1, broken: true},
		"a cut chunk":     {bytes: ok + "Transfer-Encoding: chunked\r\n\r\n1f\r\na " + k, body: "a " + rawStars, places: 1, broken: true},
		"no such code":    {bytes: "HTTP/1.1 599 " + k + "\r\n" + sized(k), status: 599, body: rawStars, places: 2},
		"a 401":           {bytes: "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer error_description=\"" + k + "\"\r\n" + sized("{}"), status: 401, body: "{}", places: 1},
	}
}

// TestRawAnswersAreScrubbed: services that speak bytes tell the key in every part of
// an answer, whole and a byte at a time, to children of either protocol.
func TestRawAnswersAreScrubbed(t *testing.T) {
	t.Parallel()
	answers := rawAnswers()
	for name, a := range codedAnswers() {
		answers[name] = a
	}
	w := newWorld(t, holding(rawKey))
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if req.Header.Get("Authorization") != "Bearer "+rawKey {
			t.Error("the service has not got the key")
		}
		size, _ := strconv.Atoi(req.URL.Query().Get("size"))
		trickle(c, answers[req.URL.Query().Get("name")].bytes, size)
	})
	for _, proto := range []string{http1, http2} {
		for _, size := range []int{1, 1 << 20} {
			for name, a := range answers {
				if size == 1 && len(a.bytes) > 10_000 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d/%s", proto, size, name), func(t *testing.T) {
					w.broker.forget()
					method := "GET"
					if a.method != "" {
						method = a.method
					}
					h := w.listen(proto, method, "https://api.openai.com/?size="+strconv.Itoa(size)+"&name="+url.QueryEscape(name), a.ask...)
					a.judge(t, proto, h)
					out := w.broker.last()
					if out.Scrubbed != a.places && a.places >= 0 || out.Unseen != a.unseen || (out.Err != "") != (a.broken || a.status == 502) {
						t.Errorf("%d places, unseen %t, error %q", out.Scrubbed, out.Unseen, out.Err)
					}
				})
			}
		}
	}
}

// judge holds what the child got to what it should have.
func (a *said) judge(t *testing.T, proto string, h heard) {
	t.Helper()
	if a.broken && strings.Contains(h.bytes, rawKey[:8]) {
		t.Errorf("most of the key came: %.500q", h.bytes)
	}
	if found := leaks(h.bytes, rawKey); found != nil && !a.unseen {
		t.Errorf("the key came %q: %.500q", found, h.bytes)
	}
	if a.broken {
		// What is left of it may have been overtaken by the end of the stream.
		if h.err == nil || !strings.HasPrefix(a.body, h.body) && !strings.HasPrefix(h.body, a.body) {
			t.Errorf("%.200q, %v", h.body, h.err)
		}
		return
	}
	status := a.status
	if status == 0 {
		status = 200
	}
	if h.err != nil || h.StatusCode != status || h.body != a.body && status != 502 || !strings.Contains(h.body, a.body) {
		t.Errorf("%d %.200q, %v; want %d %.200q", h.StatusCode, h.body, h.err, status, a.body)
	}
	for name, want := range a.header {
		if got := h.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for name, want := range a.trails {
		if got := strings.Join(h.Trailer[name], "|"); got != want {
			t.Errorf("trailer %s: %q, want %q", name, got, want)
		}
	}
	if a.early != "" && (len(h.early) != 1 || h.early[0].Get("Link") != a.early) {
		t.Errorf("early: %v", h.early)
	}
}
