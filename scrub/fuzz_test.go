package scrub

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// weave builds a text from a recipe: each byte adds some form of one of the values,
// a piece of one, or bytes of filler. Random texts alone would hold no values.
func weave(values []string, recipe []byte, filler string) string {
	var b strings.Builder
	for n, op := range recipe {
		v := values[int(op>>5)%len(values)]
		switch op & 31 {
		case 0:
			b.WriteString(v)
		case 1, 2, 3:
			b.WriteString(base64.StdEncoding.EncodeToString([]byte("xyz"[:op&31-1] + v + filler)))
		case 4, 5, 6:
			b.WriteString(base64.RawURLEncoding.EncodeToString([]byte("\xff\xfe"[:op&31-4] + v)))
		case 7:
			b.WriteString(url.QueryEscape(v))
		case 8:
			b.WriteString(strings.ToUpper(urlEscape(v)))
		case 9:
			j, _ := json.Marshal(v)
			b.Write(j)
		case 10:
			b.WriteString(html.EscapeString(v))
		case 11:
			b.WriteString(strings.ToUpper(hex.EncodeToString([]byte(v))))
		case 12:
			for _, r := range v {
				b.WriteString(jsonEscape(r))
			}
		case 13:
			b.WriteString(v[:len(v)/2])
		case 14:
			b.WriteString(v[len(v)/2:])
		case 15:
			b.WriteString(v[:len(v)-1])
		case 16:
			b.WriteString(url.PathEscape(html.EscapeString(v)))
		case 17:
			b.WriteString(strings.ReplaceAll(v, "/", `\/`))
		case 18:
			b.WriteString(strings.Repeat("&#", 1+n%3))
		case 19:
			e := base64.StdEncoding.EncodeToString([]byte(v))
			b.WriteString(e[1 : len(e)-1])
		case 20:
			b.WriteString(`%\&`[n%3 : n%3+1])
		default:
			if filler != "" {
				b.WriteString(filler[n%len(filler):])
			}
		}
	}
	return b.String()
}

// lengths makes parts of a text from a fuzzer's bytes.
func lengths(b []byte) []int {
	var out []int
	for _, c := range b {
		out = append(out, int(c))
	}
	return out
}

func seeds(f *testing.F, add func(value, other string, recipe []byte, filler string)) {
	f.Helper()
	all := make([]byte, 32)
	for i := range all {
		all[i] = byte(i*33 + i>>3<<5)
	}
	add("sk-proj-Zq3xV9", "sk-proj-Zq3xV9mT", all, "{\"a\": 1}\n")
	add("p@ss w/rd&<x>%41", "+/+/==\\\"'", all, "&amp;%25\\u0026")
	add("aaaaaaaaaaa1", "aaaaaaaa1aaa", all, "aaaa")
	add(strings.Repeat("ab1", 24), strings.Repeat("ab1", 22)+"a/", all, "b1ab1a")
	add(strings.Repeat("+/1A", 17), strings.Repeat("\x11", 70), all, "\x11\x11")
	add("pässwörd€1", "\xff\xfe\xfd-bytes", all, "ä")
	add("Basic dXNlcjpzM2NyM3RwYXNz", "Bearer abcdefgh1", all, "user:")
}

// FuzzSplit divides texts in any way: the result is that of the whole, and nobody
// finds the value in it.
func FuzzSplit(f *testing.F) {
	seeds(f, func(value, other string, recipe []byte, filler string) {
		f.Add(value, other, recipe, filler, []byte{1, 1, 1, 1, 1, 7, 13, 200, 0, 3})
	})
	f.Fuzz(func(t *testing.T, value, other string, recipe []byte, filler string, parts []byte) {
		if len(value)+len(other)+len(filler) > 2000 || len(recipe) > 200 || value == "" || other == "" {
			return
		}
		s := New(secrets(value, other))
		text := weave([]string{value, other}, recipe, filler)
		want := whole(s, text)
		if len(want) != len(text) {
			t.Fatalf("%d bytes became %d", len(text), len(want))
		}
		checkSurvivors(t, want, value, other)
		if got := inParts(s, text, lengths(parts)); got != want {
			t.Errorf("in parts of %v:\n text %q\n got  %q\n want %q", parts, text, got, want)
		}
		if got := inParts(s, text, ones(len(text))); got != want {
			t.Errorf("byte by byte:\n text %q\n got  %q\n want %q", text, got, want)
		}
	})
}

func ones(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// FuzzForms compares with the reference: no form survives, nothing else changes.
func FuzzForms(f *testing.F) {
	seeds(f, func(value, other string, recipe []byte, filler string) { f.Add(value, other, recipe, filler) })
	f.Fuzz(func(t *testing.T, value, other string, recipe []byte, filler string) {
		if len(value)+len(other)+len(filler) > 200 || len(recipe) > 40 || value == "" || other == "" {
			return
		}
		s := New(secrets(value, other))
		text := weave([]string{value, other}, recipe, filler)
		if len(text) > 4000 {
			return
		}
		got, want := whole(s, text), reference([]string{value, other}, text)
		if got != want {
			t.Errorf("values %q, %q\n text %q\n got  %q\n want %q", value, other, text, got, want)
		}
		checkSurvivors(t, got, value, other)
	})
}

// FuzzCoded sends texts in content codings, in any parts: the child reads what it
// would read of the plain text, or gets the very bytes of the service where there
// was nothing to find.
func FuzzCoded(f *testing.F) {
	n := 0
	seeds(f, func(value, other string, recipe []byte, filler string) {
		for i := range allCodings {
			f.Add(value, other, recipe, filler, uint8(i), i%2 == 0, []byte{1, 1, 9, 200, 0, 3})
		}
		f.Add(value, other, []byte{31, 31}, "nothing of it", uint8(n), true, []byte{2})
		n++
	})
	f.Fuzz(func(t *testing.T, value, other string, recipe []byte, filler string, coding uint8, known bool, parts []byte) {
		if len(value)+len(other)+len(filler) > 1000 || len(recipe) > 100 || value == "" || other == "" {
			return
		}
		s := New(secrets(value, other))
		text := weave([]string{value, other}, recipe, filler)
		codings := allCodings[int(coding)%len(allCodings)]
		body := encode(text, codings)
		res := &http.Response{
			StatusCode: 200, ContentLength: -1, Header: http.Header{"Content-Encoding": {codingName(codings)}},
			Body: io.NopCloser(&inPieces{body, lengths(parts)}),
		}
		if known {
			res.ContentLength = int64(len(body))
		}
		s.Response(res)
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%s: %v", codings, err)
		}
		if res.Header.Get("Content-Encoding") != "" {
			if !bytes.Equal(got, body) || whole(s, text) != text {
				t.Fatalf("%s: sent on encoded, and was %q", codings, text)
			}
			return
		}
		if want := whole(s, text); string(got) != want {
			t.Fatalf("%s: got %q, want %q", codings, got, want)
		}
	})
}

// inPieces reads as a connection does: so many bytes at a time, then the rest.
type inPieces struct {
	rest  []byte
	sizes []int
}

func (r *inPieces) Read(p []byte) (int, error) {
	n := min(len(p), len(r.rest))
	if len(r.sizes) > 0 {
		n, r.sizes = min(n, max(r.sizes[0], 1)), r.sizes[1:]
	}
	copy(p, r.rest[:n])
	if r.rest = r.rest[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
