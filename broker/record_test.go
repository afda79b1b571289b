package broker

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// FuzzRecord reads what the vault has opened: it never breaks, says the same when
// it is sealed again, covers what its hosts say, and no error quotes it.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"fields":{"api_key":"canary-key"},"hosts":["api.example.com"]}`, `{"v":1,"fields":{"token":"canary"},"public":["token"],"hosts":["*.example.com:8443","[::1]:443","::1","1.2.3.4:80"],"private":true}`,
		`{"v":2}`, `{"v":1,"fields":{"a":"canary"},"hosts":["canary-host:99999"]}`, `{"v":1,"fields":null,"expires_at":"2026-01-02T03:04:05Z","oauth":{"server":{},"login":"l","lifetime":3600,"dead":true,"client":{}}}`,
		`{"v":1,"hosts":["api.example.com:"]}`, `{"v":1,"hosts":["a:b:c"]}`, `{"v":1,"fields":{"canary":1}}`, `{"v":1,"hosts":["API.example.com.:0443"]}`, "", "null", "[]",
	} {
		f.Add([]byte(s), "api.example.com", uint16(443))
	}
	f.Fuzz(func(t *testing.T, data []byte, host string, port uint16) {
		r, err := unmarshalRecord(data)
		if err != nil {
			// A host is no secret, and is named.
			var named struct{ Hosts []string }
			_ = json.Unmarshal(data, &named)
			said := err.Error()
			for _, h := range named.Hosts {
				said = strings.ReplaceAll(said, strconv.Quote(h), "")
			}
			if r != nil || strings.Contains(said, "canary") {
				t.Fatalf("%+v, %v", r, err)
			}
			return
		}
		again, err := r.marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := unmarshalRecord(again)
		if err != nil || !reflect.DeepEqual(r.Hosts, back.Hosts) || len(r.Fields) != len(back.Fields) || r.Private != back.Private || !r.ExpiresAt.Equal(back.ExpiresAt) || (r.OAuth == nil) != (back.OAuth == nil) {
			t.Fatalf("%s became %s, %v", data, again, err)
		}
		for name, v := range r.Fields {
			if back.Fields[name] != v || back.cred.Get(name).Reveal() != v {
				t.Fatalf("the field %q is %q, and was %q", name, back.Fields[name], v)
			}
		}
		if r.covers(host, int(port)) != back.covers(host, int(port)) {
			t.Fatalf("%s:%d is covered once only", host, port)
		}
		if len(r.Hosts) == 0 && r.covers(host, int(port)) {
			t.Fatalf("%s:%d is covered by nothing", host, port)
		}
	})
}

// FuzzFill: a template is filled once, with what the credential holds, and whatever
// that is, Basic stays Basic; our placeholder in a header is found by its scheme.
func FuzzFill(f *testing.F) {
	f.Add("Bearer {token}", "{api_key}", "sk-1", false)
	f.Add("x-access-token:{token}", "{token}", "a:b", true)
	f.Add("{api_key}:{token}", "\r\nX: y", "\x00", true)
	f.Add("x:{token}", "\xff\xfe\xfb?>~", "", true) // + and / in Base64
	f.Add("x:{token}", authsome.Placeholder+".work", "", true)
	f.Add("{", "}", "{token", true)
	f.Fuzz(func(t *testing.T, value, token, key string, basic bool) {
		c := &authsome.Credential{Fields: map[string]authsome.Secret{"token": authsome.NewSecret(token), "api_key": authsome.NewSecret(key)}}
		in := authsome.Injection{Slot: authsome.SlotHeader, Name: "Authorization", Value: value}
		if basic {
			in.Slot = authsome.SlotBasic
		}
		if strings.Count(value, "{") != strings.Count(value, "{token}")+strings.Count(value, "{api_key}") {
			return // the loader refuses other fields
		}
		want := strings.NewReplacer("{token}", c.Get("token").Reveal(), "{api_key}", c.Get("api_key").Reveal()).Replace(value)
		got := fill(in, c).Reveal()
		if !basic {
			if got != want {
				t.Fatalf("%q is filled to %q, want %q", value, got, want)
			}
			return
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(got, "Basic "))
		if err != nil || string(raw) != want || !strings.HasPrefix(got, "Basic ") || strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%q is filled to %q (%q, %v)", value, got, raw, err)
		}
		if user, password, ok := (&http.Request{Header: http.Header{"Authorization": {got}}}).BasicAuth(); ok != strings.Contains(want, ":") || ok && user+":"+password != want {
			t.Fatalf("%q is read as %q and %q", got, user, password)
		}
		for _, v := range []string{got, strings.ToUpper(got[:5]) + got[5:], strings.TrimRight(got, "=")} {
			name, found := findPlaceholder(v)
			wantName, wantFound := authsome.FindPlaceholder(want)
			if found != wantFound || name != wantName {
				t.Fatalf("in %q the placeholder is %v, %q, want %v, %q", v, found, name, wantFound, wantName)
			}
		}
	})
}
