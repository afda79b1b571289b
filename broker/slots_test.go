package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

const places = `{"name":"places","auth_type":"api_key","api_key":{"fields":[{"name":"key","public":true},{"name":"token"}]},"routes":[
	{"host":"api.places.example","inject":[{"query":"key","value":"{key}"},{"query":"token","value":"{token}","when":"placeholder"}],"strip_query":["legacy"],"strip_cookies":["sid"]},
	{"host":"bots.places.example","inject":[{"path":"/bot{key}:{token}"}]},
	{"host":"rpc.places.example","inject":[{"json":"auth.token","value":"{token}"},{"form":"token","value":"{token}"}]},
	{"host":"www.places.example","inject":[{"cookie":"session","value":"{token}"},{"header":"X-Key","value":"{key}","when":"challenge"}]}]}`

// inspected is a request that the proxy has looked into.
func inspected(req *authsome.Request, found ...authsome.Found) *authsome.Request {
	c := *req
	c.Inspection = &authsome.Inspection{Found: found, Path: req.Path}
	return &c
}

func found(slot authsome.Slot, name string, connection ...string) authsome.Found {
	f := authsome.Found{Place: authsome.Place{Slot: slot, Name: name}, Placeholder: len(connection) > 0}
	if f.Placeholder {
		f.Connection = connection[0]
	}
	return f
}

// written are the places that a resolution fills, as slot:name=value.
func written(r *authsome.Resolution) string {
	var out []string
	if r.Rewrite != nil {
		for _, s := range r.Rewrite.Set {
			out = append(out, string(s.Slot)+":"+s.Name+"="+s.Value.Reveal())
		}
	}
	return strings.Join(out, " ")
}

// placesWorld has two logins of two fields each.
func placesWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if _, err := w.Register(context.Background(), me, "places.json", []byte(places), false, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"home", "work"} {
		l := w.begin(authsome.LoginRequest{Provider: "places", Connection: name, Flow: authsome.FlowAPIKey})
		if _, err := w.SubmitFields(context.Background(), me, l.ID, fields("key", "k-"+name, "token", "canary-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// TestResolveBeyondTheHeader: the broker says where to look, and decides by what
// was found there.
func TestResolveBeyondTheHeader(t *testing.T) {
	w := placesWorld(t)
	ctx := context.Background()
	g := w.grant(broker.GrantSpec{})
	const query, path, cookie, jsonField, form = authsome.SlotQuery, authsome.SlotPath, authsome.SlotCookie, authsome.SlotJSON, authsome.SlotForm

	for host, want := range map[string]string{
		"api.places.example":  "query:key query:token cookie:session query:legacy cookie:sid",
		"bots.places.example": "query:key query:token cookie:session path:/bot{}",
		"rpc.places.example":  "query:key query:token cookie:session json:auth.token form:token",
	} {
		res, err := w.Resolve(ctx, g, request(host, "/x"))
		if err != nil || res.Verdict != authsome.Inspect {
			t.Fatalf("%s: %+v, %v", host, res, err)
		}
		var look []string
		for _, p := range res.Look {
			look = append(look, string(p.Slot)+":"+p.Name)
		}
		if got := strings.Join(look, " "); got != want {
			t.Errorf("%s: look at %s, want %s", host, got, want)
		}
	}

	for _, tt := range []struct {
		req   *authsome.Request
		wrote string
		named string
	}{
		{inspected(request("api.places.example", "/x"), found(query, "key"), found(query, "token")), "query:key=k-home", "home"},
		{inspected(request("api.places.example", "/x"), found(query, "key"), found(query, "token", "")), "query:key=k-home query:token=canary-home", "home"},
		{inspected(request("api.places.example", "/x"), found(query, "key"), found(query, "token", "work")), "query:key=k-work query:token=canary-work", "work"},
		{inspected(request("bots.places.example", "/bot1:x"), found(path, "/bot{}")), "path:/bot{}=k-home:canary-home", "home"},
		{inspected(request("bots.places.example", "/help")), "", ""},
		{inspected(request("rpc.places.example", "/x"), found(jsonField, "auth.token", "work")), "json:auth.token=canary-work", "work"},
		{inspected(request("rpc.places.example", "/x"), found(form, "token")), "form:token=canary-home", "home"},
		{inspected(request("rpc.places.example", "/x")), "", ""},
		{inspected(request("www.places.example", "/x"), found(cookie, "session")), "cookie:session=canary-home", "home"},
		{inspected(request("www.places.example", "/x"), found(cookie, "session", "work")), "cookie:session=canary-work", "work"},
	} {
		res, err := w.Resolve(ctx, g, tt.req)
		if err != nil || written(res) != tt.wrote || res.Connection != tt.named {
			t.Errorf("%s%s: %+v %s, %v; want %q of %q", tt.req.Host, tt.req.Path, res, written(res), err, tt.wrote, tt.named)
		}
		if res != nil && tt.wrote != "" && (res.Rewrite == nil || !slices.Contains(res.Rewrite.Strip, authsome.Place{Slot: cookie, Name: "session"})) {
			t.Errorf("%s: the service's other slots stay: %+v", tt.req.Host, res.Rewrite)
		}
	}

	// A placeholder in one place counts as a challenge in another.
	res, err := w.Resolve(ctx, g, inspected(request("www.places.example", "/x", "X-Key", authsome.Placeholder), found(cookie, "session")))
	if err != nil || set(res, "X-Key") != "k-home" {
		t.Errorf("%+v, %v", res, err)
	}

	// What the child put into the path is not in the audit.
	req := inspected(request("bots.places.example", "/bot9:childs-own/getMe"), found(path, "/bot{}"))
	req.Inspection.Path = "/bot" + authsome.Placeholder + "/getMe"
	if res, err = w.Resolve(ctx, g, req); err != nil {
		t.Fatal(err)
	}
	w.Finish(g, req, res, authsome.Outcome{Status: 200})
	for _, ev := range w.events() {
		if strings.Contains(ev.Path, "childs-own") || strings.Contains(ev.Path+ev.Detail, "canary-") {
			t.Errorf("the audit has %s", ev.Path)
		}
	}
}

// TestResolveOneConnection: a request says once which connection it is for, in
// whatever place.
func TestResolveOneConnection(t *testing.T) {
	w := placesWorld(t)
	ctx := context.Background()
	const query = authsome.SlotQuery
	g, chosen := w.grant(broker.GrantSpec{}), w.grant(broker.GrantSpec{Choices: map[string]string{"places": "work"}})
	plain := inspected(request("api.places.example", "/x"), found(query, "key"), found(query, "token"))
	by := func(req *authsome.Request, connection string) *authsome.Request {
		c := *req
		c.Connection = connection
		return &c
	}
	for _, tt := range []struct {
		g    *authsome.Grant
		req  *authsome.Request
		want string
	}{
		{g, plain, "home"},
		{chosen, plain, "work"},
		{g, by(plain, "work"), "work"},
		{chosen, by(plain, "home"), "home"},
		{chosen, inspected(plain, found(query, "key", "home"), found(query, "token", "home")), "home"},
		{chosen, inspected(plain, found(query, "key", ""), found(query, "token", "home")), "home"},
		{g, by(inspected(plain, found(query, "key", "work"), found(query, "token")), "work"), "work"},
	} {
		if res, err := w.Resolve(ctx, tt.g, tt.req); err != nil || res.Connection != tt.want {
			t.Errorf("%+v: %+v, %v; want %s", tt.req.Inspection.Found, res, err, tt.want)
		}
	}
	for _, req := range []*authsome.Request{
		inspected(plain, found(query, "key", "home"), found(query, "token", "work")),
		inspected(plain, found(query, "key", "home"), found(query, "key", "work")),
		by(inspected(plain, found(query, "key", "home"), found(query, "token")), "work"),
	} {
		_, err := w.Resolve(ctx, g, req)
		wantCode(t, err, authsome.Invalid)
		if authsome.HintOf(err) == "" || !strings.Contains(err.Error(), "home") || !strings.Contains(err.Error(), "work") {
			t.Errorf("it does not say which: %v", err)
		}
	}
	for _, req := range []*authsome.Request{by(plain, "nobody"), inspected(plain, found(query, "key", "nobody"))} {
		_, err := w.Resolve(ctx, g, req)
		wantCode(t, err, authsome.CredentialMissing)
		if authsome.HintOf(err) != "authsome login places --connection nobody" {
			t.Errorf("fix %q", authsome.HintOf(err))
		}
	}
}

// TestHeaderSlotsAreNotLookedFor: where a service has slots in headers only, the
// first answer is the last.
func TestHeaderSlotsAreNotLookedFor(t *testing.T) {
	w := placesWorld(t)
	w.login("openai", "", openaiKey, false)
	ctx := context.Background()
	g := w.grant(broker.GrantSpec{})
	res, err := w.Resolve(ctx, g, request("api.openai.com", "/v1/models"))
	if err != nil || res.Verdict != authsome.Inject || res.Rewrite != nil || len(res.Look) > 0 {
		t.Errorf("%+v, %v", res, err)
	}
}
