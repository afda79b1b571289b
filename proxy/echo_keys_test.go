package proxy_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
)

// oneByOne writes each byte in a piece of its own.
func oneByOne(w http.ResponseWriter, text string) {
	for i := range len(text) {
		_, _ = io.WriteString(w, text[i:i+1])
		_ = http.NewResponseController(w).Flush()
	}
}

// TestKeysOfEveryKind: whatever a key is made of, and however long it is, an answer
// that tells it in every spelling comes without, and with its length. Those that are
// too common to look for change nothing.
func TestKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	long := make([]byte, 64<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range long {
		long[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=-_"[random.IntN(67)]
	}
	for name, key := range map[string]struct {
		key  string
		weak bool
	}{
		"1 byte":              {"k", true},
		"7 bytes":             {"a1b2c3d", true},
		"a word":              {"password", true},
		"a common word":       {"authorization", true},
		"8 bytes":             {"a1b2c3d4", false},
		"16 letters":          {"abcdefghijklmnop", false},
		"64 KB":               {string(long), false},
		"64 KB of one letter": {strings.Repeat("A", 64<<10), false},
		"one letter":          {strings.Repeat("x", 40), false},
		"asterisks in it":     {"**key-*-123**", false},
		"asterisks alone":     {"****************", true},
		"no UTF-8":            {"key-\xff\xfe\x80-\xc3-123456", false},
		"escapes":             {`p%41+/=\"<&'>%2F\u0041&amp;-1`, false},
		"not a letter":        {`%+/="<&\%+/="<&\`, false},
		"beyond ASCII":        {"k-😀-é-1234567", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, holding(key.key))
			said := func(key string) string {
				quoted, _ := json.Marshal(key)
				ways := append(spellings(key), html.EscapeString(key), base64.RawStdEncoding.EncodeToString([]byte("abc"+key+"def")))
				if utf8.ValidString(key) {
					ways = append(ways, string(quoted))
				}
				return strings.Join(ways, " | ") + "\n"
			}
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				got, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
				if got != key.key {
					t.Errorf("the service got %q", got)
				}
				if text := said(got); r.URL.Path == "/bytes" {
					oneByOne(rw, text)
				} else {
					_, _ = io.WriteString(rw, text)
				}
			})
			for _, proto := range []string{http1, http2} {
				for _, path := range []string{"/whole", "/bytes"} {
					if path == "/bytes" && len(key.key) > 1000 && (testing.Short() || proto == http2) {
						continue
					}
					w.broker.forget()
					got := text(t, w.get(w.client(proto), "https://api.openai.com"+path))
					out := w.broker.last()
					if key.weak {
						// With what it was put there with it is looked for, if that is not common.
						want := said(key.key)
						if together := "Bearer " + key.key; len(together) >= 16 || name == "7 bytes" {
							want = strings.ReplaceAll(want, together, strings.Repeat("*", len(together)))
						}
						if got != want {
							t.Errorf("%s%s: %q", proto, path, got)
						}
						continue
					}
					if found := leaks(got, key.key); found != nil || len(got) != len(said(key.key)) || out.Scrubbed < 6 {
						t.Errorf("%s%s: %q, %d of %d bytes, %d places: %.300q", proto, path, found, len(got), len(said(key.key)), out.Scrubbed, got)
					}
				}
			}
		})
	}
}

// TestPrefixOfAnotherKey: of two secrets of which one begins with the other, nothing
// stays of the longer one, whichever is put on the request.
func TestPrefixOfAnotherKey(t *testing.T) {
	t.Parallel()
	const long, short = "sk-0123456789-abcdefghij-klm", "sk-0123456789-ab"
	for _, keys := range [][2]string{{long, short}, {short, long}} {
		w := newWorld(t, holding(keys[0]), func(w *world, _ *proxy.Config) {
			w.broker.guard = []authsome.Secret{authsome.NewSecret(keys[1])}
		})
		said := long + " " + short + " " + short + "x " + long[:20] + " " + base64.StdEncoding.EncodeToString([]byte(long))
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			if rw.Header().Set("X-"+long, "1"); r.URL.Path == "/bytes" {
				oneByOne(rw, said)
				return
			}
			_, _ = io.WriteString(rw, said)
		})
		stars := strings.Repeat("*", len(said))
		want := stars[:len(long)] + " " + stars[:len(short)] + " " + stars[:len(short)] + "x " + stars[:len(short)] + long[len(short):20] + " "
		for _, proto := range []string{http1, http2} {
			for _, path := range []string{"/whole", "/bytes"} {
				res := w.get(w.client(proto), "https://api.openai.com"+path)
				if got := text(t, res); !strings.HasPrefix(got, want) || len(got) != len(said) || leaks(got, long) != nil {
					t.Errorf("%s%s: %s", proto, path, got)
				}
				if res.Header.Get("X-"+stars[:len(long)]) != "1" {
					t.Errorf("%s%s: %v", proto, path, res.Header)
				}
			}
		}
	}
}

// TestKeysOfEveryPlaceAreScrubbed: in whatever place of a request the credential was,
// a service that shows the request does not show it to the child.
func TestKeysOfEveryPlaceAreScrubbed(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + placeToken))
	for name, tt := range map[string]struct {
		in         authsome.Injection
		path, body string
		header     string
		told       []string
	}{
		"header": {in: fills(authsome.SlotHeader, "X-Api-Key", "{token}")},
		"scheme": {in: fills(authsome.SlotHeader, "Authorization", `Token token="{token}"`)},
		"Basic":  {in: fills(authsome.SlotBasic, "Authorization", "user:{token}"), told: []string{basic, strings.TrimRight(basic, "=")}},
		"query":  {in: fills(authsome.SlotQuery, "key", "{token}"), told: []string{encodedToken}},
		"path":   {in: fills(authsome.SlotPath, "/bot{}", "{token}"), path: "/botx/y"},
		"cookie": {in: fills(authsome.SlotCookie, "sid", "{token}")},
		"JSON":   {in: fills(authsome.SlotJSON, "auth.token", "{token}"), body: "{}", header: "Content-Type: application/json"},
		"form":   {in: fills(authsome.SlotForm, "token", "{token}"), body: "a=1", header: "Content-Type: application/x-www-form-urlencoded", told: []string{encodedToken}},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newPlaces(t, authsome.Route{Inject: []authsome.Injection{tt.in}}, func(w *world, _ *proxy.Config) { w.broker.grants[token].Unscrubbed = false })
			s.then = func(rw http.ResponseWriter, _ *http.Request) {
				saw, _ := s.last()
				_ = json.NewEncoder(rw).Encode(saw)
			}
			for _, proto := range []string{http1, http2} {
				method, headers := http.MethodGet, []string(nil)
				var body io.Reader
				if tt.body != "" {
					method, body, headers = http.MethodPost, strings.NewReader(tt.body), []string{tt.header}
				}
				w.broker.forget()
				got := text(t, w.do(w.client(proto), method, "https://"+placesHost+tt.path, body, headers...))
				saw, _ := s.last()
				if all := fmt.Sprint(saw); leaks(all, placeToken) == nil {
					t.Errorf("%s: the service has not got it: %s", proto, all)
				}
				for _, told := range append(tt.told, placeToken) {
					if strings.Contains(got, told) {
						t.Errorf("%s: %q is in %s", proto, told, got)
					}
				}
				if out := w.broker.last(); !strings.Contains(got, "********") || out.Scrubbed == 0 || leaks(got, placeToken) != nil {
					t.Errorf("%s: %s, %+v", proto, got, out)
				}
			}
		})
	}
}

// TestKeysOfAWSAreScrubbed: the session token that a service shows when a signature
// does not match, and the secret key, which it knows as well.
func TestKeysOfAWSAreScrubbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world, _ *proxy.Config) { w.broker.grants[token].Unscrubbed = false })
	routeAWS(w)
	w.serve(tableHost, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Security-Token") != awsSession {
			t.Errorf("the service got %q", r.Header)
		}
		_, _ = fmt.Fprintf(rw, "<CanonicalRequest>%q</CanonicalRequest><k>%s</k>", r.Header, awsSecret)
	})
	for _, proto := range []string{http1, http2} {
		req := signedBy(t, authsome.Placeholder, request(t, http.MethodGet, "https://"+tableHost+"/", nil), emptySum, "dynamodb")
		res, err := w.client(proto).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := text(t, res)
		_ = res.Body.Close()
		if res.StatusCode != 200 || leaks(got, awsSession) != nil || leaks(got, awsSecret) != nil || !strings.Contains(got, "********") {
			t.Errorf("%s: %s %s", proto, res.Status, got)
		}
	}
}

// emptySum is the SHA-256 of nothing.
const emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// TestBothTokensOfARetryAreScrubbed: a service that has refused one token and taken
// another knows both.
func TestBothTokensOfARetryAreScrubbed(t *testing.T) {
	t.Parallel()
	const first, second = "at-first-0123456789", "at-second-0123456789"
	for _, proto := range []string{http1, http2} {
		w := newWorld(t, holding(first))
		w.broker.set("openai", &account{secret: first, version: 1, renewed: []string{second}, private: true})
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "Bearer "+first {
				rw.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(rw, first)
				return
			}
			_, _ = io.WriteString(rw, "now "+second+", before "+first)
		})
		res := w.get(w.client(proto), "https://api.openai.com/")
		if got := text(t, res); res.StatusCode != 200 || got != "now ********************, before *******************" {
			t.Errorf("%s: %s %s", proto, res.Status, got)
		}
	}
}

// TestTokenRenewedInMidStream: an open stream is held to the token that it was asked
// for with, and what is asked for next to the new one.
func TestTokenRenewedInMidStream(t *testing.T) {
	t.Parallel()
	const first, second = "at-first-0123456789", "at-second-0123456789"
	for _, proto := range []string{http1, http2} {
		w := newWorld(t, holding(first))
		renewed := make(chan struct{})
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			auth := r.Header.Get("Authorization")
			_, _ = io.WriteString(rw, "data: "+auth+"\n\n")
			_ = http.NewResponseController(rw).Flush()
			if r.URL.Path == "/stream" {
				<-renewed
				_, _ = io.WriteString(rw, "data: "+auth+"\n\n")
			}
		})
		c := w.client(proto)
		stream := w.get(c, "https://api.openai.com/stream")
		want := "data: Bearer *******************\n\n"
		begin := make([]byte, len(want))
		if _, err := io.ReadFull(stream.Body, begin); err != nil || string(begin) != want {
			t.Errorf("%s: %q, %v", proto, begin, err)
		}
		w.broker.mu.Lock()
		w.broker.accounts["openai"].secret = second
		w.broker.mu.Unlock()
		if got := text(t, w.get(c, "https://api.openai.com/")); got != "data: Bearer ********************\n\n" {
			t.Errorf("%s: afterwards %q", proto, got)
		}
		close(renewed)
		if got := text(t, stream); got != want {
			t.Errorf("%s: the stream goes on with %q", proto, got)
		}
	}
}
