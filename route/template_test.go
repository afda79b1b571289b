package route

import (
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	for _, tt := range []struct{ template, path, part, filled string }{
		{"/bot{}", "/bot1:x/getMe", "1:x", "/bot7:A%2Fb/getMe"},
		{"/bot{}", "/bot1:x", "1:x", "/bot7:A%2Fb"},
		{"/bot{}", "/bot", "", ""},
		{"/bot{}", "/bot/getMe", "", ""},
		{"/bot{}", "/Bot1/getMe", "", ""},
		{"/bot{}", "/x/bot1/getMe", "", ""},
		{"/file/bot{}", "/file/bot1/photos/a.jpg", "1", "/file/bot7:A%2Fb/photos/a.jpg"},
		{"/file/bot{}", "/bot1/file", "", ""},
		{"/{}", "/a", "a", "/7:A%2Fb"},
		{"/{}", "/", "", ""},
		{"/{}", "//x", "", ""},
		{"/v1/k-{}.json", "/v1/k-abc.json", "abc", "/v1/k-7:A%2Fb.json"},
		{"/v1/k-{}.json", "/v1/k-.json/x", "", ""},
		{"/v1/k-{}.json", "/v1/k-abc/x.json", "", ""},
	} {
		tpl, err := ParseTemplate(tt.template)
		if err != nil || tpl.String() != tt.template {
			t.Fatalf("%s: %v", tt.template, err)
		}
		part, ok := tpl.Part(tt.path)
		if part != tt.part && ok || ok != (tt.part != "") {
			t.Errorf("%s in %s: %q, %v", tt.template, tt.path, part, ok)
		}
		filled, err := tpl.Fill(tt.path, "7:A/b")
		if filled != tt.filled || (err == nil) != ok {
			t.Errorf("%s filled %s: %q, %v", tt.template, tt.path, filled, err)
		}
	}
	for _, bad := range []string{"", "/bot", "bot{}", "/{}/{}", "/{}{}", "/a/../{}", "/b%6ft{}", "/bot{}/getMe", "/a b{}", "/..%2f{}", "/b?{}", `/\{}`, "/{", "/{}}"} {
		if tpl, err := ParseTemplate(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, tpl)
		}
	}
	// A value never leaves its segment, nor makes a dot segment.
	whole, _ := ParseTemplate("/a/{}")
	for value, want := range map[string]string{
		"..": "", ".": "", "": "", "a\r\nb": "", "\x00": "", `a\b`: "", "../x": "", "a/..": "", "..;x": "", "%2e%2e": "",
		"a/b": "/a/a%2Fb/end", "x?y#z": "/a/x%3Fy%23z/end", "a%2Fb": "/a/a%252Fb/end", "é +": "/a/%C3%A9%20%2B/end", "..a": "/a/..a/end",
	} {
		if got, err := whole.Fill("/a/old/end", value); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	}
	for prefix, want := range map[string]bool{"": true, "/": true, "/file": true, "/fil": false, "/file/bot": false, "/x": false} {
		tpl, _ := ParseTemplate("/file/bot{}")
		if tpl.Under(prefix) != want {
			t.Errorf("under %q: %v", prefix, !want)
		}
	}
}

// FuzzTemplate: what is filled in is one part of one segment, and the path is
// normal before and after.
func FuzzTemplate(f *testing.F) {
	f.Add("/bot{}", "/botauthsome-proxy-managed/getMe", "1:AA")
	f.Add("/file/bot{}", "/file/bot1/a/b", "../../x")
	f.Add("/{}", "/a//b", "..")
	f.Add("/a{}.json", "/a%2F.json", "%2e")
	f.Add("/a{};v=1", "/ax;v=1/..;/b", ";")
	f.Fuzz(func(t *testing.T, template, path, value string) {
		tpl, err := ParseTemplate(template)
		if err != nil {
			return
		}
		path, err = Path(path)
		if err != nil {
			return
		}
		part, ok := tpl.Part(path)
		filled, err := tpl.Fill(path, value)
		if err != nil {
			return
		}
		if !ok {
			t.Fatalf("%s has no part %s, and was filled", path, template)
		}
		if strings.Count(filled, "/") != strings.Count(path, "/") || strings.ContainsAny(filled, "?# \r\n\x00") {
			t.Fatalf("%q in %s made %s", value, path, filled)
		}
		again, ok := tpl.Part(filled)
		if !ok || again != EscapeSegment(value) || decodeOnce(again) != value {
			t.Fatalf("%q in %s made %s, whose part is %q", value, path, filled, again)
		}
		if back := tpl.before + part + filled[len(tpl.before)+len(again):]; back != path {
			t.Fatalf("%s became %s: more than the part has changed", path, filled)
		}
		if normal, err := Path(filled); err != nil || normal != filled {
			t.Fatalf("%s is not normal: %q, %v", filled, normal, err)
		}
	})
}
