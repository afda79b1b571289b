package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// The credential of the tests of places, awkward in each of them.
const (
	placeKey   = "k/1 &=+%é\"\\x"
	placeToken = "canary:Real_tok-en.9~"
)

// arrived is what a service of these tests saw.
type arrived struct {
	Proto, URI, Cookie, Body string
	Header                   http.Header
	Length                   int64
}

// witness is a service that keeps what arrives.
type witness struct {
	mu   sync.Mutex
	saw  []arrived
	then http.HandlerFunc // answers, when it is set
}

func (s *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.saw = append(s.saw, arrived{r.Proto, r.RequestURI, strings.Join(r.Header["Cookie"], " | "), string(body), r.Header.Clone(), r.ContentLength})
	then := s.then
	s.mu.Unlock()
	if then != nil {
		then(rw, r)
	}
}

// last is the latest, and how many there were.
func (s *witness) last() (arrived, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.saw) == 0 {
		return arrived{}, 0
	}
	return s.saw[len(s.saw)-1], len(s.saw)
}

const placesHost = "api.places.example"

// newPlaces is a world with one service, whose route fills what is given.
func newPlaces(t testing.TB, r authsome.Route, opts ...option) (*world, *witness) {
	t.Helper()
	w := newWorld(t, opts...)
	r.Host = placesHost
	w.broker.routes(append(bundled(), route.Entry{Provider: "places", Route: r})...)
	w.broker.set("places", &account{secret: placeToken, fields: map[string]string{"key": placeKey}, private: true})
	w.broker.set("places.work", &account{secret: "work-token", fields: map[string]string{"key": "work-key"}, private: true})
	s := &witness{}
	w.serve(placesHost, s.ServeHTTP)
	return w, s
}

func fills(slot authsome.Slot, name, value string, when ...authsome.When) authsome.Injection {
	in := authsome.Injection{Slot: slot, Name: name, Value: value, When: authsome.Always}
	if len(when) > 0 {
		in.When = when[0]
	}
	return in
}

const (
	encodedKey   = "k%2F1%20%26%3D%2B%25%C3%A9%22%5Cx"
	encodedToken = "canary%3AReal_tok-en.9~"
)

// TestQuery: one parameter or two go in; the child's own go out in every spelling
// that a service may read as theirs; all else stays byte for byte.
func TestQuery(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{
		Inject:     []authsome.Injection{fills(authsome.SlotQuery, "key", "{key}"), fills(authsome.SlotQuery, "token", "{token}")},
		StripQuery: []string{"access_token"}, Strip: []string{"Authorization"},
	})
	both := "key=" + encodedKey + "&token=" + encodedToken
	tests := map[string]string{
		"/x":         "/x?" + both,
		"/x?":        "/x?" + both,
		"/x?a=1":     "/x?a=1&" + both,
		"/x?a=%41+b": "/x?a=%41+b&" + both,
		"/x?key=authsome-proxy-managed&token=authsome-proxy-managed":    "/x?" + both,
		"/x?token=authsome-proxy-managed&a=1&key=mine":                  "/x?token=" + encodedToken + "&a=1&key=" + encodedKey,
		"/x?a=1&key=mine&b=2&key=again&c=3&token=mine":                  "/x?a=1&key=" + encodedKey + "&b=2&c=3&token=" + encodedToken,
		"/x?%6bey=mine&KEY=mine&%4b%45%59=mine&tok%65n":                 "/x?key=" + encodedKey + "&token=" + encodedToken,
		"/x?+key=mine&key+=mine&key%00=mine&key[]=mine&key%5B0%5D=mine": "/x?" + both,
		"/x?a=1;key=mine;b=2":                                           "/x?a=1;key=" + encodedKey + ";b=2&token=" + encodedToken,
		"/x?%u006bey=mine&token=":                                       "/x?" + both,
		"/x?access_token=mine&access.token=mine&access%20token=mine&a=": "/x?a=&" + both,
		"/x?keys=1&mykey=2&key2=3&a[key]=4&tokens=5":                    "/x?keys=1&mykey=2&key2=3&a[key]=4&tokens=5&" + both,
		"/x?&&a&=&%zz=%&é=ü":                                            "/x?&&a&=&%zz=%&é=ü&" + both,
		"/x?a=key=1&b=?key=2":                                           "/x?a=key=1&b=?key=2&" + both,
		"/a%2Fb/../c?a=1":                                               "/c?a=1&" + both,
		"//x?a=1":                                                       "//x?a=1&" + both,
	}
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		for target, want := range tests {
			req, err := http.NewRequest("GET", "https://"+placesHost, nil)
			if err != nil {
				t.Fatal(err)
			}
			path, query, asked := strings.Cut(target, "?")
			req.URL.Opaque, req.URL.RawQuery, req.URL.ForceQuery = "//"+placesHost+path, query, asked && query == ""
			if proto == http2 && strings.ContainsAny(query, "éü") {
				continue // net/http's own client does not send it
			}
			req.Header.Set("Authorization", "Bearer the-childs-own")
			res, err := c.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", target, err)
			}
			_ = res.Body.Close()
			// With two slashes in front it comes as a whole URL.
			if saw, _ := s.last(); strings.TrimPrefix(saw.URI, "https://"+placesHost) != want || saw.Header.Get("Authorization") != "" {
				t.Errorf("%s over %s arrived as\n%s, want\n%s (%v)", target, proto, saw.URI, want, saw.Header)
			}
		}
	}
	for _, f := range w.broker.ends(2 * (len(tests) - 1)) {
		if strings.Contains(fmt.Sprintf("%+v", f.req), placeToken) {
			t.Error("the audit was given the token")
		}
	}
	w.noSecret(placeToken, encodedToken)
}

// noSecret looks for values in the proxy's log.
func (w *world) noSecret(values ...string) {
	w.t.Helper()
	for _, v := range values {
		if strings.Contains(w.log.String(), v) {
			w.t.Errorf("the log holds %s", v)
		}
	}
}

// TestQueryOnPlaceholder: without a placeholder nothing is touched.
func TestQueryOnPlaceholder(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotQuery, "key", "{token}", authsome.OnPlaceholder)}})
	c := w.client(http1)
	for target, want := range map[string]string{
		"/x?a=1":                                     "/x?a=1",
		"/x?key=the-childs-own&KEY=x":                "/x?key=the-childs-own&KEY=x",
		"/x?key=authsome-proxy-managed":              "/x?key=" + encodedToken,
		"/x?%6bey=%61uthsome-proxy%2Dmanaged&key=my": "/x?key=" + encodedToken,
		"/x?key=v1.authsome-proxy-managed.work":      "/x?key=work-token",
	} {
		w.get(c, "https://"+placesHost+target)
		if saw, _ := s.last(); saw.URI != want {
			t.Errorf("%s arrived as %s, want %s", target, saw.URI, want)
		}
	}
}

// TestPathSegment: Telegram's way. Audit and log show the placeholder, whatever
// the child has put there.
func TestPathSegment(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{
		fills(authsome.SlotPath, "/bot{}", "{token}"), fills(authsome.SlotPath, "/file/bot{}", "{token}"),
	}})
	tests := []struct{ target, arrives, audit string }{
		{"/botauthsome-proxy-managed/getMe?a=%41", "/bot" + placeToken + "/getMe?a=%41", "/botauthsome-proxy-managed/getMe"},
		{"/bot123:childs-own/getMe", "/bot" + placeToken + "/getMe", "/botauthsome-proxy-managed/getMe"},
		{"/bot123:authsome-proxy-managed", "/bot" + placeToken, "/botauthsome-proxy-managed"},
		{"/file/botauthsome-proxy-managed/a/b.jpg", "/file/bot" + placeToken + "/a/b.jpg", "/file/botauthsome-proxy-managed/a/b.jpg"},
		{"/botauthsome-proxy-managed.work/getMe", "/botwork-token/getMe", "/botauthsome-proxy-managed.work/getMe"},
		{"/x/../%62ot123/getMe", "/bot" + placeToken + "/getMe", "/botauthsome-proxy-managed/getMe"},
	}
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		for _, tt := range tests {
			_, before := w.broker.counts()
			req, _ := http.NewRequest("GET", "https://"+placesHost, nil)
			path, query, _ := strings.Cut(tt.target, "?")
			req.URL.Opaque, req.URL.RawQuery = "//"+placesHost+path, query
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if saw, _ := s.last(); saw.URI != tt.arrives {
				t.Errorf("%s over %s arrived as %s, want %s", tt.target, proto, saw.URI, tt.arrives)
			}
			end := w.broker.ends(before + 1)[before]
			if end.req.Inspection == nil || end.req.Inspection.Path != tt.audit {
				t.Errorf("%s: the audit has %+v, want %s", tt.target, end.req.Inspection, tt.audit)
			}
		}
		// Nothing to fill there.
		w.get(c, "https://"+placesHost+"/help")
		if saw, _ := s.last(); saw.URI != "/help" {
			t.Errorf("/help arrived as %s", saw.URI)
		}
	}
	w.noSecret(placeToken)
}

// TestPathTemplates: where several are like a path, the one that says most is
// filled.
func TestPathTemplates(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{
		fills(authsome.SlotPath, "/{}", "whole"), fills(authsome.SlotPath, "/bot{}", "{token}"), fills(authsome.SlotPath, "/bots/{}", "inner"),
	}})
	for target, want := range map[string]string{"/x/y": "/whole/y", "/bot1:x/y": "/bot" + placeToken + "/y", "/bots/x/y": "/bots/inner/y"} {
		w.get(w.client(http1), "https://"+placesHost+target)
		if saw, _ := s.last(); saw.URI != want {
			t.Errorf("%s arrived as %s, want %s", target, saw.URI, want)
		}
	}
	for _, end := range w.broker.ends(3) {
		if path := end.req.Inspection.Path; path == end.req.Path || strings.Count(path, authsome.Placeholder) != 1 {
			t.Errorf("the audit has %s of %s", path, end.req.Path)
		}
	}
}

// TestUnfitCredential: one that its place cannot hold is not sent in part.
func TestUnfitCredential(t *testing.T) {
	t.Parallel()
	for _, in := range []authsome.Injection{fills(authsome.SlotPath, "/{}", ".."), fills(authsome.SlotCookie, "sid", "a;b={token}")} {
		w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{in}})
		got := problem(t, w.get(w.client(http1), "https://"+placesHost+"/botx/y"), 401, "reauthentication_required")
		if _, n := s.last(); n != 0 || got["fix"] != "authsome login places --connection default --force" || got["provider"] != "places" {
			t.Errorf("%s: %v, %d requests", in.Slot, got, n)
		}
		if end := w.broker.ends(1)[0]; end.res != nil {
			t.Errorf("%s: the audit says that it was sent", in.Slot)
		}
	}
}

// TestCookie: one cookie is replaced, the others stay.
func TestCookie(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{
		Inject: []authsome.Injection{fills(authsome.SlotCookie, "sid", "{token}")}, StripCookies: []string{"legacy"},
	})
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		for own, want := range map[string]string{
			"":                                 "sid=" + placeToken,
			"a=1":                              "a=1; sid=" + placeToken,
			"a=1; sid=authsome-proxy-managed":  "a=1; sid=" + placeToken,
			"sid=mine; a=1; SID=mine; b=2":     "sid=" + placeToken + "; a=1; b=2",
			"legacy=x; a=\"q=1\"; s%69d=mine":  "a=\"q=1\"; sid=" + placeToken,
			"a=1,2,sid=mine; b=3":              "a=1,2,sid=" + placeToken + "; b=3",
			"sid=authsome-proxy-managed.work":  "sid=work-token",
			"sids=1; xsid=2; a=sid=3":          "sids=1; xsid=2; a=sid=3; sid=" + placeToken,
			"sid=mine":                         "sid=" + placeToken,
			"a=1;sid=mine;b=%73id":             "a=1;sid=" + placeToken + ";b=%73id",
			"legacy=authsome-proxy-managed; x": "x; sid=" + placeToken,
		} {
			var header []string
			if own != "" {
				header = []string{"Cookie: " + own}
			}
			w.get(c, "https://"+placesHost+"/", header...)
			if proto == http2 {
				want = strings.ReplaceAll(strings.ReplaceAll(want, "; ", ";"), ";", "; ") // crumbs are joined
			}
			if saw, _ := s.last(); saw.Cookie != want {
				t.Errorf("%q over %s arrived as %q, want %q", own, proto, saw.Cookie, want)
			}
		}
		w.get(c, "https://"+placesHost+"/", "Cookie: a=1", "Cookie: sid=mine; b=2")
		if saw, _ := s.last(); saw.Cookie != "a=1; sid="+placeToken+"; b=2" {
			t.Errorf("two headers over %s arrived as %q", proto, saw.Cookie)
		}
	}
	// A trick with Connection takes the child's own away, never ours.
	conn, br := w.tunnel(placesHost+":443", placesHost)
	exchange(t, conn, br, "GET / HTTP/1.1\r\nHost: "+placesHost+"\r\nCookie: sid=mine; a=1\r\nConnection: cookie\r\n\r\n")
	if saw, _ := s.last(); saw.Cookie != "sid="+placeToken {
		t.Errorf("arrived as %q", saw.Cookie)
	}
	// A placeholder in another cookie goes nowhere.
	problem(t, w.get(w.client(http1), "https://"+placesHost+"/", "Cookie: other=authsome-proxy-managed"), 403, "placeholder_misplaced")
}

// TestBodyFields: JSON and form bodies, whatever the length that the child
// announced.
func TestBodyFields(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{
		fills(authsome.SlotJSON, "auth.key", "{key}"), fills(authsome.SlotJSON, "token", "{token}"), fills(authsome.SlotForm, "token", "{token}"),
	}})
	const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"
	jsonKey := `"k/1 &=+%é\"\\x"`
	tests := []struct{ media, own, want string }{
		{asJSON, `{}`, `{"auth":{"key":` + jsonKey + `},"token":"` + placeToken + `"}`},
		{asJSON, ` { "a" : [1,2] } `, ` { "a" : [1,2] ,"auth":{"key":` + jsonKey + `},"token":"` + placeToken + `"} `},
		{asJSON, `{"token":"authsome-proxy-managed","auth":{"x":1,"key":null},"z":1e5}`, `{"token":"` + placeToken + `","auth":{"x":1,"key":` + jsonKey + `},"z":1e5}`},
		{asJSON, `{"tok\u0065n":{"a":["}","\""]},"auth":{}}`, `{"tok\u0065n":"` + placeToken + `","auth":{"key":` + jsonKey + `}}`},
		{asJSON, `{"x":{"token":1,"auth":{"key":2}},"token":-0.5e+7 ,"auth":{"key":[[]]}}`, `{"x":{"token":1,"auth":{"key":2}},"token":"` + placeToken + `" ,"auth":{"key":` + jsonKey + `}}`},
		{"application/vnd.api+json; charset=utf-8", `{"token":"authsome-proxy-managed.work"}`, `{"token":"work-token","auth":{"key":"work-key"}}`},
		{asForm, `a=1`, `a=1&token=` + encodedToken},
		{asForm, `token=authsome-proxy-managed&a=%20+`, `token=` + encodedToken + `&a=%20+`},
		{asForm, `a=1&tok%65n=mine&b`, `a=1&token=` + encodedToken + `&b`},
		{asForm, `TOKEN`, `token=` + encodedToken},
		{asForm, `a&token%5B%5D=authsome-proxy-managed.work`, `a&token=work-token`},
		{"text/plain", `token=mine`, `token=mine`},
		{"multipart/form-data; boundary=x", "--x--", "--x--"},
		{asJSON, `[{"token":"mine"}]`, `[{"token":"mine"}]`},
		{asJSON, `"token"`, `"token"`},
	}
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		for _, tt := range tests {
			for _, body := range []io.Reader{strings.NewReader(tt.own), struct{ io.Reader }{strings.NewReader(tt.own)}} {
				_, announced := body.(*strings.Reader)
				res := w.do(c, "POST", "https://"+placesHost+"/", body, "Content-Type: "+tt.media)
				if res.StatusCode != 200 {
					t.Errorf("%s: %d %s", tt.own, res.StatusCode, text(t, res))
					continue
				}
				saw, _ := s.last()
				if saw.Body != tt.want {
					t.Errorf("%s over %s arrived as\n%s, want\n%s", tt.own, proto, saw.Body, tt.want)
				}
				if announced && saw.Length != int64(len(tt.want)) {
					t.Errorf("%s: length %d, want %d", tt.own, saw.Length, len(tt.want))
				}
				if tt.media == asJSON && !json.Valid([]byte(saw.Body)) {
					t.Errorf("%s became invalid: %s", tt.own, saw.Body)
				}
			}
		}
	}
	w.noSecret(placeToken, encodedToken)
}

// TestBodiesRefused: what could be read in two ways gets no credential, and the
// answer says why.
func TestBodiesRefused(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{
		fills(authsome.SlotJSON, "auth.token", "{token}"), fills(authsome.SlotForm, "token", "{token}"),
	}})
	const asJSON, asForm = "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"
	for _, tt := range []struct {
		body, says string
		header     []string
	}{
		{`{"auth":{"token":1,"token":2}}`, "twice", []string{asJSON}},
		{`{"auth":{"token":1,"t\u006fken":2}}`, "twice", []string{asJSON}},
		{`{"auth":{"token":1,"Token":2}}`, "twice", []string{asJSON}},
		{`{"auth":{"toKen":1}}`, "spelling", []string{asJSON}},
		{`{"auth":{"token":1},"auth":{}}`, "twice", []string{asJSON}},
		{`{"auth":{}} {"auth":{}}`, "not valid JSON", []string{asJSON}},
		{`{"auth":{"token":1}`, "not valid JSON", []string{asJSON}},
		{`{auth:{token:1}}`, "not valid JSON", []string{asJSON}},
		{`{"auth":{},}`, "not valid JSON", []string{asJSON}},
		{`{"auth":{} /* "*/}`, "not valid JSON", []string{asJSON}},
		{`{"a":01}`, "not valid JSON", []string{asJSON}},
		{`{"a":"` + "\n" + `"}`, "not valid JSON", []string{asJSON}},
		{"\xef\xbb\xbf{}", "not valid JSON", []string{asJSON}},
		{`{"a":` + strings.Repeat("[", 600), "nested", []string{asJSON}},
		{`token=1&token=2`, "twice", []string{asForm}},
		{`token=1;TOKEN=2`, "twice", []string{asForm}},
		{`token=1&tok%65n[]=2`, "twice", []string{asForm}},
		{"\x1f\x8b", "compressed", []string{asJSON, "Content-Encoding: gzip"}},
		{"x", "compressed", []string{asForm, "Content-Encoding: br"}},
		{`{}`, "two headers Content-Type", []string{asJSON, "Content-Type: text/plain"}},
	} {
		for _, proto := range []string{http1, http2} {
			got := problem(t, w.do(w.client(proto), "POST", "https://"+placesHost+"/", strings.NewReader(tt.body), tt.header...), 400, "bad_request")
			if m, _ := got["message"].(string); !strings.Contains(m, tt.says) || got["provider"] != "places" || got["fix"] == nil {
				t.Errorf("%s: %v, want %q", tt.body, got, tt.says)
			}
		}
	}
	if _, n := s.last(); n != 0 {
		t.Errorf("%d of them were sent", n)
	}
	// In an object that has no room for the field, nothing is replaced.
	w.do(w.client(http1), "POST", "https://"+placesHost+"/", strings.NewReader(`{"auth":"mine"}`), asJSON)
	if saw, _ := s.last(); saw.Body != `{"auth":"mine"}` {
		t.Errorf("arrived as %s", saw.Body)
	}
}

// bigJSON is an object of about n bytes, with more at either end.
func bigJSON(n int, before, after string) string {
	var sb strings.Builder
	sb.WriteString("{" + before)
	if before != "" {
		sb.WriteString(",")
	}
	sb.WriteString(`"bulk":[`)
	for i := 0; sb.Len() < n; i++ {
		fmt.Fprintf(&sb, `{"n":%d,"s":"\u0041\\ %s"},`, i, strings.Repeat("x", i%97))
	}
	sb.WriteString("0]")
	if after != "" {
		sb.WriteString("," + after)
	}
	sb.WriteString("}")
	return sb.String()
}

// TestBigBodyFields: a body that is longer than what is looked at streams. Its
// length is announced where it can be known.
func TestBigBodyFields(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotJSON, "token", "{token}"), fills(authsome.SlotForm, "token", "{token}")}})
	const asJSON, asForm = "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"
	real := `"token":"` + placeToken + `"`
	bulk := strings.Repeat("a=1&", 100_000)
	for _, tt := range []struct {
		name, media, own, want string
		known                  bool
	}{
		{"at the front", asJSON, bigJSON(500_000, `"token":"authsome-proxy-managed.work"`, ""), bigJSON(500_000, `"token":"work-token"`, ""), true},
		{"at the end", asJSON, bigJSON(500_000, "", `"token":"mine"`), bigJSON(500_000, "", real), false},
		{"nowhere", asJSON, bigJSON(500_000, "", ""), bigJSON(500_000, "", real), false},
		{"across the edge", asJSON, `{"x":"` + strings.Repeat("x", 64<<10-20) + `","token":"` + strings.Repeat("y", 100) + `"}`, `{"x":"` + strings.Repeat("x", 64<<10-20) + `",` + real + `}`, false},
		{"a long one", asJSON, `{"token":"` + strings.Repeat("y", 300_000) + `"}`, `{` + real + `}`, false},
		{"form, at the front", asForm, "token=mine&" + bulk, "token=" + encodedToken + "&" + bulk, true},
		{"form, at the end", asForm, bulk + "token=mine", bulk + "token=" + encodedToken, false},
		{"form, nowhere", asForm, bulk, bulk + "&token=" + encodedToken, false},
	} {
		if tt.name == "form, at the front" {
			tt.want = "token=" + encodedToken + "&" + bulk
		}
		for _, proto := range []string{http1, http2} {
			res := w.do(w.client(proto), "POST", "https://"+placesHost+"/", strings.NewReader(tt.own), tt.media)
			if res.StatusCode != 200 {
				t.Errorf("%s: %d %s", tt.name, res.StatusCode, text(t, res))
				continue
			}
			saw, _ := s.last()
			if saw.Body != tt.want {
				t.Errorf("%s over %s: %d bytes arrived, want %d", tt.name, proto, len(saw.Body), len(tt.want))
			}
			if length := map[bool]int64{true: int64(len(tt.want)), false: -1}[tt.known]; saw.Length != length {
				t.Errorf("%s over %s: length %d, want %d", tt.name, proto, saw.Length, length)
			}
		}
	}
	for name, own := range map[string]string{
		"twice":       bigJSON(200_000, `"token":"mine"`, `"token":"mine"`),
		"wrong":       bigJSON(200_000, "", `"token":mine`),
		"another one": bigJSON(200_000, "", `"token":"authsome-proxy-managed.work"`),
		"broken off":  bigJSON(200_000, "", "")[:150_000],
	} {
		for _, proto := range []string{http1, http2} {
			got := problem(t, w.do(w.client(proto), "POST", "https://"+placesHost+"/", strings.NewReader(own), asJSON), 400, "bad_request")
			if got["provider"] != "places" {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
}

// TestBodyFieldsOfStreams: what is behind the part that is looked at goes on as
// it comes.
func TestBodyFieldsOfStreams(t *testing.T) {
	t.Parallel()
	w, _ := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotJSON, "token", "{token}")}})
	came := make(chan string)
	w.serve("stream.places.example", func(_ http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 64<<10)
		head := make([]byte, 100_000)
		_, _ = io.ReadFull(r.Body, head)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				came <- string(buf[:n])
			}
			if err != nil {
				close(came)
				return
			}
		}
	})
	w.broker.routes(route.Entry{Provider: "places", Route: authsome.Route{Host: "stream.places.example", Inject: []authsome.Injection{fills(authsome.SlotJSON, "token", "{token}")}}})
	r, child := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.do(w.client(http1), "POST", "https://stream.places.example/", r, "Content-Type: application/json")
	}()
	head := `{"x":"` + strings.Repeat("x", 100_000-7) + `"`
	_, _ = io.WriteString(child, head)
	for i := range 5 {
		part := `,"n` + strconv.Itoa(i) + `":` + strconv.Itoa(i)
		_, _ = io.WriteString(child, part+" ")
		for got := ""; got != part+" "; {
			got += <-came
		}
	}
	_, _ = io.WriteString(child, "}")
	_ = child.Close()
	rest := ""
	for part := range came {
		rest += part
	}
	if rest != `,"token":"`+placeToken+`"}` {
		t.Errorf("the end is %q", rest)
	}
	<-done
}

// TestExpectContinue: a child that waits for a 100 before it sends its body gets
// one, though the body is looked at.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotJSON, "token", "{token}")}})
	conn, br := w.tunnel(placesHost+":443", placesHost)
	res := exchange(t, conn, br, "POST / HTTP/1.1\r\nHost: "+placesHost+"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	if res.StatusCode != http.StatusContinue {
		t.Fatalf("status %d", res.StatusCode)
	}
	if res = exchange(t, conn, br, "{}"); res.StatusCode != 200 {
		t.Fatalf("status %d", res.StatusCode)
	}
	if saw, _ := s.last(); saw.Body != `{"token":"`+placeToken+`"}` {
		t.Errorf("arrived as %s", saw.Body)
	}
}

// TestPlacesAgain: after a 401 the request is made anew from what the child
// sent, in each place.
func TestPlacesAgain(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{
		fills(authsome.SlotQuery, "key", "{token}"), fills(authsome.SlotPath, "/bot{}", "{token}"),
		fills(authsome.SlotCookie, "sid", "{token}"), fills(authsome.SlotJSON, "token", "{token}"),
	}})
	w.broker.set("places", &account{secret: "old-token", version: 1, renewed: []string{"new-token-that-is-longer"}, private: true})
	s.then = func(rw http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.RequestURI, "new-token") {
			rw.WriteHeader(http.StatusUnauthorized)
		}
	}
	for _, proto := range []string{http1, http2} {
		w.broker.set("places", &account{secret: "old-token", version: 1, renewed: []string{"new-token-that-is-longer"}, private: true})
		_, before := s.last()
		res := w.do(w.client(proto), "POST", "https://"+placesHost+"/botx/y?key=z&a=1", strings.NewReader(`{"a":1}`), "Content-Type: application/json", "Cookie: a=1")
		saw, n := s.last()
		want := arrived{URI: "/botnew-token-that-is-longer/y?key=new-token-that-is-longer&a=1", Cookie: "a=1; sid=new-token-that-is-longer", Body: `{"a":1,"token":"new-token-that-is-longer"}`}
		if res.StatusCode != 200 || n != before+2 || saw.URI != want.URI || saw.Cookie != want.Cookie || saw.Body != want.Body || saw.Length != int64(len(want.Body)) {
			t.Errorf("%s: %d, %d requests, %+v", proto, res.StatusCode, n-before, saw)
		}
	}
}

// TestPlacesOverHTTP2: at services that speak nothing else.
func TestPlacesOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.broker.routes(route.Entry{Provider: "places", Route: authsome.Route{Host: placesHost, Inject: []authsome.Injection{
		fills(authsome.SlotQuery, "key", "{token}"), fills(authsome.SlotPath, "/bot{}", "{token}"),
		fills(authsome.SlotCookie, "sid", "{token}"), fills(authsome.SlotJSON, "token", "{token}"),
	}}})
	w.broker.set("places", &account{secret: placeToken, private: true})
	s := &witness{}
	w.serve(placesHost, s.ServeHTTP, only(http2))
	for _, proto := range []string{http1, http2} {
		for _, own := range []string{`{"a":1}`, bigJSON(200_000, `"token":"x"`, "")} {
			res := w.do(w.client(proto), "POST", "https://"+placesHost+"/botx/y?a=1", strings.NewReader(own), "Content-Type: application/json", "Cookie: a=1")
			want := strings.Replace(own, `"token":"x"`, `"token":"`+placeToken+`"`, 1)
			if want == own {
				want = `{"a":1,"token":"` + placeToken + `"}`
			}
			saw, _ := s.last()
			if res.StatusCode != 200 || saw.Proto != "HTTP/2.0" || saw.URI != "/bot"+placeToken+"/y?a=1&key="+encodedToken || saw.Cookie != "a=1; sid="+placeToken ||
				saw.Body != want || saw.Length != int64(len(want)) {
				t.Errorf("%s: %d, %s %s %s, %d bytes of %d", proto, res.StatusCode, saw.Proto, saw.URI, saw.Cookie, len(saw.Body), saw.Length)
			}
		}
	}
}

// TestKeyInAWebSocketsAddress: where browsers cannot set a header, services take
// the key from the query.
func TestKeyInAWebSocketsAddress(t *testing.T) {
	t.Parallel()
	w, _ := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotQuery, "key", "{token}")}})
	asked := make(chan string, 1)
	w.serve(placesHost, func(rw http.ResponseWriter, r *http.Request) {
		asked <- r.RequestURI
		if c, err := websocket.Accept(rw, r, nil); err == nil {
			_ = c.Write(context.Background(), websocket.MessageText, []byte("hello"))
			_ = c.Close(websocket.StatusNormalClosure, "")
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "wss://"+placesHost+"/ws?v=1&key="+authsome.Placeholder, &websocket.DialOptions{HTTPClient: w.client(http1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if _, got, err := c.Read(ctx); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if got := <-asked; got != "/ws?v=1&key="+encodedToken {
		t.Errorf("asked for %s", got)
	}
}

// TestRedirectsHideTheCredential: a service that redirects to the address that it
// was asked for does not give the credential to the child, and the child's next
// request gets it again.
func TestRedirectsHideTheCredential(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotQuery, "token", "{token}"), fills(authsome.SlotPath, "/bot{}", "{token}")}})
	s.then = func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/old") {
			rw.Header().Set("Location", strings.Replace(r.RequestURI, "/old", "/new", 1))
			rw.Header().Set("Content-Location", "https://"+r.Host+"/bot"+placeToken)
			rw.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		res := w.get(c, "https://"+placesHost+"/botx/old?a=1&token=authsome-proxy-managed")
		const stand = "authsome-proxy-managed.default"
		if got := res.Header.Get("Location"); got != "/bot"+stand+"/new?a=1&token="+stand {
			t.Errorf("the child is sent to %s", got)
		}
		if got := fmt.Sprint(res.Header); strings.Contains(got, "canary") {
			t.Errorf("the answer has %s", got)
		}
		c.CheckRedirect = nil
		// Clients send the address that they come from as well.
		w.get(c, "https://"+placesHost+"/botx/old?a=1&token=authsome-proxy-managed")
		if saw, _ := s.last(); saw.URI != "/bot"+placeToken+"/new?a=1&token="+encodedToken || saw.Header.Get("Referer") != "" {
			t.Errorf("the next request arrived as %s", saw.URI)
		}
	}
}

// TestConnectionHeader: it names the connection of one request, and goes no
// further, whatever becomes of the request.
func TestConnectionHeader(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotQuery, "key", "{token}")}})
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		w.get(c, "https://"+placesHost+"/", "authsome-connection: work")
		if saw, _ := s.last(); saw.URI != "/?key=work-token" || saw.Header.Get("Authsome-Connection") != "" {
			t.Errorf("%s: %+v", proto, saw)
		}
		w.get(c, "https://"+placesHost+"/?key=authsome-proxy-managed.work", "Authsome-Connection: work")
		if saw, _ := s.last(); saw.URI != "/?key=work-token" {
			t.Errorf("%s: %+v", proto, saw)
		}
		for _, header := range [][]string{
			{"Authsome-Connection: work", "Authsome-Connection: work"},
			{"Authsome-Connection: work", "Authsome-Connection: home"},
			{"Authsome-Connection: "},
			{"Authsome-Connection: work, home"},
			{"Authsome-Connection: ../work"},
			{"Authsome-Connection: " + strings.Repeat("a", 65)},
		} {
			_, before := s.last()
			got := problem(t, w.get(c, "https://"+placesHost+"/", header...), 400, "bad_request")
			if _, n := s.last(); n != before || got["fix"] == nil || strings.Contains(fmt.Sprint(got), "..") {
				t.Errorf("%v: %v, %d sent", header, got, n-before)
			}
		}
		problem(t, w.get(c, "https://"+placesHost+"/?key=authsome-proxy-managed.home", "Authsome-Connection: work"), 400, "bad_request")
	}
	// Named by Connection, it still counts, and is still gone.
	conn, br := w.tunnel(placesHost+":443", placesHost)
	exchange(t, conn, br, "GET / HTTP/1.1\r\nHost: "+placesHost+"\r\nAuthsome-Connection: work\r\nConnection: authsome-connection\r\n\r\n")
	if saw, _ := s.last(); saw.URI != "/?key=work-token" || saw.Header.Get("Authsome-Connection") != "" {
		t.Errorf("%+v", saw)
	}
	// Forwarded without a credential, on a path that is nobody's.
	w.serve("paths.example.com", echo)
	w.broker.routes(bundled()...)
	if saw := sawOf(t, w.get(w.client(http1), "https://paths.example.com/private", "Authsome-Connection: work")); saw.Header.Get("Authsome-Connection") != "" {
		t.Errorf("it left: %+v", saw)
	}
	// In the clear.
	plain := httptest.NewServer(http.HandlerFunc(echo))
	defer plain.Close()
	w.net.add("plain.example.com", plain.Listener.Addr().String())
	if saw := sawOf(t, w.get(w.client(http1), "http://plain.example.com/", "Authsome-Connection: work")); saw.Header.Get("Authsome-Connection") != "" {
		t.Errorf("it left: %+v", saw)
	}
}

// TestBodyOfEverySplit: however a body is cut into pieces on its way,
// it becomes the same.
func TestBodyOfEverySplit(t *testing.T) {
	t.Parallel()
	w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{fills(authsome.SlotJSON, "a.b", "{token}"), fills(authsome.SlotForm, "a", "{token}")}})
	c := w.client(http1)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct{ media, own, want string }{
		{"application/json", `{"x":"\"}","a":{"y":-1.5e3,"\u0062":{"b":[1]}},"z":true}`, `{"x":"\"}","a":{"y":-1.5e3,"\u0062":"` + placeToken + `"},"z":true}`},
		{"application/x-www-form-urlencoded", `x=1&%61=2&y`, `x=1&a=` + encodedToken + `&y`},
	} {
		for range 20 {
			own := []byte(tt.own)
			var pieces []io.Reader
			for len(own) > 0 {
				n := 1 + rnd.IntN(len(own))
				pieces, own = append(pieces, bytes.NewReader(own[:n])), own[n:]
			}
			w.do(c, "POST", "https://"+placesHost+"/", io.MultiReader(pieces...), "Content-Type: "+tt.media)
			if saw, _ := s.last(); saw.Body != tt.want {
				t.Fatalf("arrived as %s", saw.Body)
			}
		}
	}
}
