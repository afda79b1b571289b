package flow

import (
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

func TestForms(t *testing.T) {
	names := func(form []authsome.KeyField) string {
		var out []string
		for _, f := range form {
			n := f.Name
			if f.Optional {
				n += "?"
			}
			if f.Multiline {
				n += "+"
			}
			out = append(out, n)
		}
		return strings.Join(out, " ")
	}
	p := &authsome.Provider{Name: "x", Key: authsome.KeyForm{Fields: []authsome.KeyField{{Name: "api_key"}}}, OAuth: &authsome.OAuth{}}
	jwtOnly := &authsome.Provider{Name: "x", OAuth: &authsome.OAuth{TokenAuth: authsome.ClientJWT}}
	for _, tt := range []struct{ got, want string }{
		{names(Form(p, authsome.FlowAPIKey)), "api_key"},
		{names(Form(p, authsome.FlowPKCE)), ""},
		{names(Form(p, authsome.FlowDeviceCode)), ""},
		{names(Form(p, authsome.FlowDCR)), ""},
		{names(Form(p, authsome.FlowClientCredentials)), "client_id client_secret"},
		{names(Form(jwtOnly, authsome.FlowClientCredentials)), "client_id private_key+"},
		{names(Form(p, authsome.FlowServiceAccount)), "service_account+"},
		{names(Form(p, authsome.FlowGitHubApp)), "app_id installation_id private_key+"},
		{names(ClientForm(&authsome.OAuth{})), "client_id client_secret?"},
		{names(ClientForm(&authsome.OAuth{TokenAuth: authsome.ClientBasic})), "client_id client_secret"},
		{names(ClientForm(&authsome.OAuth{TokenAuth: authsome.ClientNone})), "client_id"},
		{names(ClientForm(&authsome.OAuth{TokenAuth: authsome.ClientJWT})), "client_id private_key+"},
	} {
		if tt.got != tt.want {
			t.Errorf("form %q, want %q", tt.got, tt.want)
		}
	}
	fill := func(form []authsome.KeyField, values ...string) (map[string]authsome.Secret, error) {
		given := map[string]authsome.Secret{}
		for i := 0; i < len(values); i += 2 {
			given[values[i]] = authsome.NewSecret(values[i+1])
		}
		return Fields("x", form, given)
	}
	client := ClientForm(&authsome.OAuth{})
	if got, err := fill(client, "client_id", " a ", "client_secret", "  "); err != nil || len(got) != 1 || got["client_id"].Reveal() != "a" {
		t.Errorf("an empty optional field: %v, %v", got, err)
	}
	key := strings.ReplaceAll(pkcs8(t, rsaKey()).Reveal(), "\n", "\r\n")
	app := Form(p, authsome.FlowGitHubApp)
	if got, err := fill(app, "app_id", "1", "installation_id", "2", "private_key", "\n"+key); err != nil || got["private_key"].Reveal() != strings.TrimSpace(key) {
		t.Errorf("a key of several lines: %v", err)
	}
	if got, err := fill(Form(p, authsome.FlowServiceAccount), "service_account", keyFile(t, nil).Reveal()); err != nil || len(got) != 1 {
		t.Errorf("a key file: %v", err)
	}
	for _, bad := range [][]string{
		{"app_id", "1", "installation_id", "x", "private_key", key},
		{"app_id", "1", "installation_id", "2", "private_key", "nothing"},
		{"app_id", "1", "installation_id", "2", "private_key", key + "\x00"},
		{"app_id", "1", "installation_id", "2"},
		{"app_id", "1", "installation_id", "2", "private_key", key, "more", "x"},
	} {
		_, err := fill(app, bad...)
		wantError(t, err, authsome.Invalid, nil)
		secretFree(t, err, material(key))
	}
	if _, err := fill(client, "client_id", "a\nb"); authsome.CodeOf(err) != authsome.Invalid {
		t.Error("a line break in a client id")
	}
}
