package provider

import (
	"fmt"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// bank is a definition with one route, whose injections are given.
func bank(inject string) string {
	return `{"name":"bank","auth_type":"api_key","api_key":{"fields":[
		{"name":"certificate","public":true},{"name":"private_key"},{"name":"api_key"}]},
		"routes":[{"host":"api.bank.example","inject":[` + inject + `]}]}`
}

// TestConnectionSlots: what concerns the connection stands alone, has its fields,
// and says nothing that would not be done.
func TestConnectionSlots(t *testing.T) {
	t.Parallel()
	for inject, want := range map[string]string{
		`{"message":"{api_key}","at":"d.token"}`:                             "message d.token {api_key} placeholder",
		`{"message":"Bot {api_key}","when":"placeholder"}`:                   "message  Bot {api_key} placeholder",
		`{"certificate":{}}`:                                                 "certificate  {certificate}{private_key} always",
		`{"certificate":{}},{"header":"X-Key","value":"{api_key}"}`:          "certificate  {certificate}{private_key} always, header X-Key {api_key} always",
		`{"message":"{api_key}","when":"always"}`:                            "!messages are changed where the placeholder stands",
		`{"message":"{api_key}","at":"d..token"}`:                            "!names no field of a JSON message",
		`{"message":"{api_key}","at":"` + strings.Repeat("x", 101) + `"}`:    "!names no field of a JSON message",
		`{"message":"{nothing}"}`:                                            "!is no field of the credential",
		`{"message":"plain"}`:                                                "!where in",
		`{"message":"{api_key}","value":"{api_key}"}`:                        "!stand alone",
		`{"message":"{api_key}","header":"X","value":"{api_key}"}`:           "!stand alone",
		`{"at":"d.token"}`:                                                   "!stand alone",
		`{"message":"{api_key}","certificate":{}}`:                           "!stand alone",
		`{"certificate":{},"at":"d"}`:                                        "!beside certificate",
		`{"certificate":{},"when":"placeholder"}`:                            "!beside certificate",
		`{"certificate":{},"basic":"a:{api_key}"}`:                           "!stand alone",
		`{"certificate":{},"value":"{api_key}"}`:                             "!stand alone",
		`{"certificate":{}},{"certificate":{}}`:                              "!another element",
		`{"message":"{api_key}"},{"message":"{api_key}","at":"x"}`:           "!a second message",
		`{"certificate":{}},{"basic":"a:{api_key}","when":"challenge"}`:      "!no connection is anonymous",
		`{"basic":"a:{api_key}","when":"challenge"},{"message":"{api_key}"}`: "!no connection is anonymous",
		`{"basic":"a:{api_key}","when":"challenge"},{"certificate":{}}`:      "!no connection is anonymous",
	} {
		p, err := Parse("bank.json", []byte(bank(inject)))
		if refusal, refused := strings.CutPrefix(want, "!"); refused {
			if authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), refusal) || !strings.HasPrefix(err.Error(), "bank.json:") {
				t.Errorf("%s: %v, want %q", inject, err, refusal)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", inject, err)
			continue
		}
		var got []string
		for _, in := range p.Routes[0].Inject {
			got = append(got, fmt.Sprint(in.Slot, " ", in.Name, " ", in.Value, " ", in.When))
		}
		if list := strings.Join(got, ", "); list != want {
			t.Errorf("%s is %q, want %q", inject, list, want)
		}
		if err := validate(t, []byte(bank(inject))); err != nil {
			t.Errorf("%s: the schema refuses it: %v", inject, err)
		}
	}
	p, err := Parse("bank.json", []byte(bank(`{"certificate":{}}`)))
	if err != nil {
		t.Fatal(err)
	}
	for i, multiline := range []bool{true, true, false} {
		if f := p.Key.Fields[i]; f.Multiline != multiline {
			t.Errorf("%s has several lines: %v", f.Name, f.Multiline)
		}
	}
	for change, want := range map[string]string{
		`{"name":"private_key"},`: "needs the fields",
		`"public":true`:           "",
	} {
		text := strings.Replace(bank(`{"certificate":{}}`), change, "", 1)
		if want == "" {
			text = strings.Replace(bank(`{"certificate":{}}`), `{"name":"private_key"}`, `{"name":"private_key","public":true}`, 1)
			want = "is shown while it is typed"
		}
		if _, err := Parse("bank.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", change, err)
		}
	}
}
