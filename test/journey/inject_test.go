package journey

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// The keys of the services that want them elsewhere than in one header.
var (
	keyed = internet.Keyed{
		TelegramToken: "110201543:canaryTelegram-abcdefghijklmnopqrstu_v",
		DatadogKey:    "canaryDatadogApi0123456789abcdef", DatadogID: "canaryDatadogApp0123456789abcdef",
		TwilioSID: "AC" + strings.Repeat("0a", 16), TwilioKey: "canaryTwilio0123456789abcdefghij",
		TrelloKey: "canaryTrelloKey0123456789abcdef0", TrelloID: "ATTAcanaryTrelloToken0123456789+/=",
		AshbyKey: "canaryAshby0123456789abcdefghijkl",
		Places:   "canaryPlaces0123456789abcdefghijkl",
	}
	// Whatever of them may be where, as it is or escaped.
	keyedCanaries = []string{"canaryTelegram", "canaryDatadog", "canaryTwilio", "canaryTrello", "canaryAshby", "canaryPlaces"}
)

const placesDefinition = `{
  "name": "places", "auth_type": "api_key",
  "routes": [{
    "host": "` + internet.PlacesHost + `",
    "inject": [
      { "cookie": "session", "value": "{token}" },
      { "json": "auth.token", "value": "{token}" },
      { "form": "token", "value": "{token}" }
    ],
    "strip_query": ["access_token"]
  }]
}`

// withKeys is a world with all of these services logged in to.
func withKeys(t *testing.T) *harness.World {
	t.Helper()
	w := newWorld(t)
	w.Internet.AddKeyed(keyed)
	define(t, w, "places", placesDefinition)
	login(t, w, keyed.TelegramToken, "telegram")
	login(t, w, keyed.DatadogKey+"\n"+keyed.DatadogID, "datadog")
	login(t, w, keyed.TwilioSID+"\n"+keyed.TwilioKey, "twilio")
	login(t, w, keyed.TrelloKey+"\n"+keyed.TrelloID, "trello")
	login(t, w, keyed.AshbyKey, "ashby")
	login(t, w, keyed.Places, "places")
	return w
}

// TestKeysInEveryPlace: curl calls services that want their keys in the path,
// the query, two headers, Basic, a cookie and bodies, with what the run has put
// into its environment; and the keys are where the service sees them and nowhere
// else.
func TestKeysInEveryPlace(t *testing.T) {
	t.Parallel()
	w := withKeys(t)
	curl := tool(t, "curl")
	for _, tt := range []struct{ name, script string }{
		{"Telegram", `https://api.telegram.org/bot$TELEGRAM_BOT_TOKEN/sendMessage -d chat_id=1 -d text=hi`},
		{"Telegram, a token of its own", `https://api.telegram.org/bot7:mine/getMe?offset=%41+b`},
		{"Telegram, a file", `https://api.telegram.org/file/bot$TELEGRAM_BOT_TOKEN/photos/file_1.jpg`},
		{"Telegram, redirected", `-L https://api.telegram.org/bot$TELEGRAM_BOT_TOKEN/getMe/`},
		{"Telegram, HTTP/1.1", `--http1.1 https://api.telegram.org/bot$TELEGRAM_BOT_TOKEN/getMe`},
		{"Datadog", `-H "DD-API-KEY: $DD_API_KEY" -H "DD-APPLICATION-KEY: $DD_APP_KEY" https://api.datadoghq.com/api/v1/monitor`},
		{"Datadog, nothing sent", `https://api.datadoghq.com/api/v1/monitor`},
		{"Twilio", `-u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN" https://api.twilio.com/2010-04-01/Accounts/$TWILIO_ACCOUNT_SID.json`},
		{"Twilio, a key of its own", `-u mine:mine https://api.twilio.com/2010-04-01/Accounts.json`},
		{"Ashby", `-u "$ASHBY_API_KEY:" -X POST https://api.ashbyhq.com/candidate.list`},
		{"Trello", `"https://api.trello.com/1/members/me?fields=all&key=$TRELLO_API_KEY&token=$TRELLO_TOKEN"`},
		{"Trello, redirected", `-L "https://api.trello.com/1/boards/?key=$TRELLO_API_KEY&token=$TRELLO_TOKEN"`},
		{"Trello, by OAuth's header", `-H 'Authorization: OAuth oauth_consumer_key="x", oauth_token="y"' "https://api.trello.com/1/boards?KEY=mine&tok%65n=mine"`},
		{"a cookie", `-b "lang=de; session=$PLACES_API_KEY" https://` + internet.PlacesHost + `/page`},
		{"JSON", `--json '{"auth":{"token":"'$PLACES_API_KEY'"},"n":1}' https://` + internet.PlacesHost + `/rpc?access_token=mine`},
		{"JSON without it", `--json '{"n":1}' https://` + internet.PlacesHost + `/rpc`},
		{"a form", `-d a=1 -d token=$PLACES_API_KEY https://` + internet.PlacesHost + `/form`},
	} {
		r := w.Command("run", "--", "sh", "-c", curl+` -sS -w ' %{http_code}' `+tt.script).Run()
		if !strings.HasSuffix(strings.TrimSpace(r.Stdout), "200") {
			t.Errorf("%s: %s %s", tt.name, r.Stdout, r.Stderr)
		}
	}

	// What arrived, apart from the keys, is what curl has sent.
	arrived := func(host, method, path string, parts ...string) {
		t.Helper()
		for _, q := range w.Internet.Requests(host) {
			if q.Method == method && q.Path == path {
				contains(t, string(q.Body)+"\n"+strings.Join(q.Header["Cookie"], "\n"), parts...)
				lacks(t, strings.Join(q.Header["Cookie"], "")+string(q.Body)+q.Path, "mine", "authsome-proxy-managed")
				if q.Header["Authsome-Connection"] != nil {
					t.Errorf("%s%s has our header", host, path)
				}
				return
			}
		}
		t.Errorf("%s %s%s never arrived", method, host, path)
	}
	token := "ATTAcanaryTrelloToken0123456789%2B%2F%3D"
	arrived("api.telegram.org", "POST", "/bot"+keyed.TelegramToken+"/sendMessage", "chat_id=1&text=hi")
	arrived("api.telegram.org", "GET", "/bot"+keyed.TelegramToken+"/getMe?offset=%41+b")
	arrived("api.trello.com", "GET", "/1/members/me?fields=all&key="+keyed.TrelloKey+"&token="+token)
	arrived("api.trello.com", "GET", "/1/boards?key="+keyed.TrelloKey+"&token="+token)
	arrived("api.twilio.com", "GET", "/2010-04-01/Accounts/"+keyed.TwilioSID+".json")
	arrived(internet.PlacesHost, "GET", "/page", "lang=de; session="+keyed.Places)
	arrived(internet.PlacesHost, "POST", "/rpc", `{"n":1,"auth":{"token":"`+keyed.Places+`"}}`)
	arrived(internet.PlacesHost, "POST", "/form", "a=1&token="+keyed.Places)

	// The audit names the requests, without what stood in the path's place.
	log := must(t, w.Command("log", "--json", "-n", "100000"))
	contains(t, log, "/botauthsome-proxy-managed/sendMessage", "/file/botauthsome-proxy-managed/photos/file_1.jpg", "/1/members/me")
	lacks(t, log, "7:mine")

	// A service that echoes nothing: the program has seen no key, nor has a file.
	lacks(t, w.Output(), keyedCanaries...)
	_ = filepath.WalkDir(w.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, _ := os.ReadFile(path)
		for _, c := range keyedCanaries {
			if strings.Contains(string(data), c) {
				t.Errorf("%s is in %s", c, path)
			}
		}
		return nil
	})
}

// TestWhichAccount: a run's choices, a placeholder and a header name the
// connection, in whatever place; two that differ are refused.
func TestWhichAccount(t *testing.T) {
	t.Parallel()
	w := withKeys(t)
	const workToken, workBot = "canaryPlacesWork0123456789abcdefgh", "220201543:canaryTelegramWork-abcdefghijklmnopqr"
	login(t, w, workToken, "places", "--connection", "work")
	login(t, w, workBot, "telegram", "--connection", "work")
	curl := tool(t, "curl")
	const page, bot = "https://" + internet.PlacesHost, "https://api.telegram.org/bot"
	last := func(host string) internet.Request {
		t.Helper()
		all := w.Internet.Requests(host)
		if len(all) == 0 {
			t.Fatalf("nothing arrived at %s", host)
		}
		return all[len(all)-1]
	}
	places := func(want, own string, args ...string) {
		t.Helper()
		r := w.Command(append(append([]string{"run"}, args...), "--", "sh", "-c", curl+" -sS -o /dev/null "+own)...).Run()
		q := last(internet.PlacesHost)
		if seen := strings.Join(q.Header["Cookie"], "") + string(q.Body); !strings.Contains(seen, want) || r.Code != 0 || q.Header["Authsome-Connection"] != nil {
			t.Errorf("%s %v: %s (%d %s)", own, args, seen, r.Code, r.Stderr)
		}
	}
	places(keyed.Places, page)
	places(workToken, page, "--connection", "places=work")
	places(workToken, page, "--connection", "telegram=work", "--connection", "places=work")
	places(keyed.Places, `-H "Authsome-Connection: default" `+page, "--connection", "places=work")
	places(workToken, `-H "authsome-connection: work" `+page)
	places(workToken, `--http1.1 -H "Authsome-Connection: work" -H "Connection: authsome-connection" `+page)
	places(workToken, `-b session=$PLACES_API_KEY.work `+page)
	places(workToken, `--json '{"auth":{"token":"'$PLACES_API_KEY.work'"}}' `+page)
	places(workToken, `-d token=$PLACES_API_KEY.work `+page)
	places(keyed.Places, `-d token=$PLACES_API_KEY.default `+page, "--connection", "places=work")
	must(t, w.Command("run", "--connection", "places=work", "--connection", "telegram=work", "--", "sh", "-c", curl+" -sS "+bot+"$TELEGRAM_BOT_TOKEN/getMe"))
	if q := last("api.telegram.org"); q.Path != "/bot"+workBot+"/getMe" {
		t.Errorf("Telegram saw %s", q.Path)
	}
	must(t, w.Command("run", "--", "sh", "-c", curl+" -sS "+bot+"$TELEGRAM_BOT_TOKEN.work/getMe"))
	if q := last("api.telegram.org"); q.Path != "/bot"+workBot+"/getMe" {
		t.Errorf("Telegram saw %s", q.Path)
	}
	contains(t, must(t, w.Command("log", "--json", "-n", "100000")), "/botauthsome-proxy-managed.work/getMe")

	arrived := len(w.Internet.Requests(""))
	for own, says := range map[string][]string{
		`-H "Authsome-Connection: work" -b session=$PLACES_API_KEY.default ` + page:   {"bad_request", "work", "default", "400"},
		`-b "session=$PLACES_API_KEY.default" -d token=$PLACES_API_KEY.work ` + page:  {"bad_request", "400"},
		`-H "Authsome-Connection: nobody" ` + page:                                    {"login_required", "authsome login places --connection nobody", "401"},
		`-b session=$PLACES_API_KEY.nobody ` + page:                                   {"login_required", "authsome login places --connection nobody", "401"},
		`-H "Authsome-Connection;" ` + page:                                           {"bad_request", "has to name one connection", "400"},
		`-H "Authsome-Connection: work" -H "Authsome-Connection: default" ` + page:    {"bad_request", "has to name one connection", "400"},
		`-H "Authsome-Connection: work" ` + bot + `$TELEGRAM_BOT_TOKEN.default/getMe`: {"bad_request", "work", "default", "400"},
		`--json '{"auth":{"token":"a","token":"b"}}' ` + page:                         {"bad_request", "twice", "400"},
		`-H "Content-Encoding: gzip" --json '{}' ` + page:                             {"bad_request", "compressed", "400"},
	} {
		r := w.Command("run", "--", "sh", "-c", curl+" -sS -w ' %{http_code}' "+own).Run()
		contains(t, r.Stdout, append(says, `"fix":`)...)
	}
	if n := len(w.Internet.Requests("")); n != arrived {
		t.Errorf("%d refused requests arrived", n-arrived)
	}
	lacks(t, w.Output(), append(keyedCanaries, "canaryPlacesWork")...)
}
