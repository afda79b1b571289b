package proxy

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

func TestReadName(t *testing.T) {
	for raw, want := range map[string]string{
		"key": "key", "KEY": "key", "%6Bey": "key", "+key+": "key", "key%00x": "key", "key[]": "key", "key%5b0%5d": "key", "a.b": "a_b", "a+b": "a_b",
		"%u006bey": "key", "%zz": "%zz", "%6": "%6", "%": "%", "%u00": "%u00", "": "", "[key]": "[key]", "keys": "keys", "k%C3%89": "ké",
	} {
		if got := readName(raw); got != want {
			t.Errorf("%q is read as %q, want %q", raw, got, want)
		}
	}
}

// edit sends a body through an editor in pieces of some size.
func edit(kind authsome.Slot, body []byte, piece int, fields ...*bodyField) (out []byte, err error) {
	e := newEditor(kind, fields, "")
	for len(body) > 0 && err == nil {
		n := min(max(piece, 1), len(body))
		out, err = e.feed(out, body[:n])
		body = body[n:]
	}
	if err == nil {
		out, err = e.end(out)
	}
	return out, err
}

// FuzzJSONEditor: what comes out is the same object with the fields set, for
// Go's decoder too, whatever the pieces; what only is looked at stays as it is.
func FuzzJSONEditor(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":{"b":1},"c":"x"}`, ` { "\u0061" : { } } `, `{"c":"\"","d":[1,-0.5e+3,true,null,{"c":1}]}`, `{"a":[],"A":1}`,
		`{"a":{"b":"authsome-proxy-managed.work"}}`, `[1]`, `{"c":1,"c":2}`, `{"x":"\ud83d\ude00"}`, `{"a":1}x`, `{"c":01}`,
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, body []byte, piece int) {
		value := []byte(`"real \"é"`)
		at := func(name string, v []byte) *bodyField {
			return &bodyField{at: authsome.Place{Slot: authsome.SlotJSON, Name: name}, value: v}
		}
		b, c := at("a.b", nil), at("c", nil)
		same, err := edit(authsome.SlotJSON, body, piece, b, c)
		if err != nil {
			return
		}
		if !bytes.Equal(same, body) {
			t.Fatalf("%q was changed to %q by looking at it", body, same)
		}
		var was map[string]any
		if err := json.Unmarshal(body, &was); err != nil {
			t.Fatalf("%q was accepted, and is no object: %v", body, err)
		}
		set := []*bodyField{at("c", value)}
		if !b.blocked {
			set = append(set, at("a.b", value))
		}
		out, err := edit(authsome.SlotJSON, body, piece, set...)
		if err != nil {
			t.Fatalf("%q can be looked at, and not changed: %v", body, err)
		}
		whole, err := edit(authsome.SlotJSON, body, len(body), at("c", value), at("a.b", value))
		if !b.blocked && (err != nil || !bytes.Equal(out, whole)) {
			t.Fatalf("%q became %q in pieces, and %q as a whole (%v)", body, out, whole, err)
		}
		var is map[string]any
		if err := json.Unmarshal(out, &is); err != nil {
			t.Fatalf("%q became %q: %v", body, out, err)
		}
		was["c"] = "real \"é"
		if !b.blocked {
			inner, _ := was["a"].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
				was["a"] = inner
			}
			inner["b"] = "real \"é"
		}
		if !reflect.DeepEqual(was, is) {
			t.Fatalf("%q became %q", body, out)
		}
	})
}

// FuzzFields: in a query and in a form our value is the only one under its name,
// as Go reads it, and the others are there as before.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"", "a=1&key=2", "KEY=1&k%65y=2", "key", "a;key=1", "&&", "key[]=1&b=%zz", "key=authsome-proxy-managed"} {
		f.Add(s, 2)
	}
	others := func(list string) (out []string) {
		for part := range strings.SplitSeq(strings.ReplaceAll(list, ";", "&"), "&") {
			if name, _, _ := strings.Cut(part, "="); part != "" && readName(name) != "key" {
				out = append(out, part)
			}
		}
		return out
	}
	once := func(t *testing.T, before, list string) {
		n := 0
		for part := range strings.SplitSeq(strings.ReplaceAll(list, ";", "&"), "&") {
			name, value, _ := strings.Cut(part, "=")
			if decoded, err := url.QueryUnescape(name); err == nil && strings.EqualFold(decoded, "key") {
				if n++; value != "real%26" {
					t.Fatalf("%q became %q", before, list)
				}
			}
		}
		if n != 1 || !reflect.DeepEqual(others(before), others(list)) {
			t.Fatalf("%q became %q", before, list)
		}
	}
	f.Fuzz(func(t *testing.T, list string, piece int) {
		once(t, list, replaceFields(list, betweenParameters, "&", []string{"key"}, []field{{"key", "real%26"}}))
		if replaceFields(list, betweenParameters, "&", []string{"surely-not-there"}, nil) != list {
			t.Fatalf("%q does not stay", list)
		}
		at := func() *bodyField {
			return &bodyField{at: authsome.Place{Slot: authsome.SlotForm, Name: "key"}, value: []byte("real%26")}
		}
		if out, err := edit(authsome.SlotForm, []byte(list), piece, at()); err == nil {
			once(t, list, string(out))
			if whole, err := edit(authsome.SlotForm, []byte(list), len(list), at()); err != nil || string(whole) != string(out) {
				t.Fatalf("%q became %q in pieces, and %q as a whole (%v)", list, out, whole, err)
			}
		}
	})
}
