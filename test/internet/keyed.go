package internet

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Keyed are services that want keys elsewhere than in one header. They answer
// whoever shows the right ones, once and nowhere else, and redirect a path with a
// slash at its end to the one without, query and all, as services do.
type Keyed struct {
	TelegramToken         string
	DatadogKey, DatadogID string // the API key and the application key
	TwilioSID, TwilioKey  string
	TrelloKey, TrelloID   string // the key and the token
	AshbyKey              string
	// Places is for PlacesHost, where it may be a cookie, a field of JSON or of a
	// form.
	Places string
}

// PlacesHost is a service with no definition of its own.
const PlacesHost = "api.places.example.com"

// AddKeyed adds api.telegram.org, api.datadoghq.com, api.twilio.com,
// api.trello.com, api.ashbyhq.com and PlacesHost.
func (n *Internet) AddKeyed(k Keyed) {
	basic := func(user, password string) func(*http.Request) bool {
		return func(r *http.Request) bool {
			u, p, ok := r.BasicAuth()
			return ok && u == user && p == password && user+password != "" && len(r.Header["Authorization"]) == 1
		}
	}
	only := func(values []string, want string) bool { return len(values) == 1 && values[0] == want && want != "" }
	hosts := map[string]func(*http.Request) bool{
		"api.telegram.org": func(r *http.Request) bool {
			token, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/file"), "/bot"), "/")
			return token == k.TelegramToken && token != "" && rest != ""
		},
		"api.datadoghq.com": func(r *http.Request) bool {
			return only(r.Header["Dd-Api-Key"], k.DatadogKey) && only(r.Header["Dd-Application-Key"], k.DatadogID)
		},
		"api.twilio.com":  basic(k.TwilioSID, k.TwilioKey),
		"api.ashbyhq.com": basic(k.AshbyKey, ""),
		"api.trello.com": func(r *http.Request) bool {
			q := r.URL.Query()
			return only(q["key"], k.TrelloKey) && only(q["token"], k.TrelloID) && r.Header["Authorization"] == nil
		},
		PlacesHost: func(r *http.Request) bool {
			var body struct {
				Auth struct{ Token string }
			}
			switch {
			case strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
				return json.NewDecoder(r.Body).Decode(&body) == nil && body.Auth.Token == k.Places && k.Places != ""
			case r.Method == http.MethodPost:
				return r.ParseForm() == nil && only(r.PostForm["token"], k.Places)
			default:
				cookies := r.CookiesNamed("session")
				return len(cookies) == 1 && cookies[0].Value == k.Places && k.Places != ""
			}
		},
	}
	for host, right := range hosts {
		n.Handle(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ok := right(r)
			_, _ = io.Copy(io.Discard, r.Body)
			switch path, slash := strings.CutSuffix(r.URL.EscapedPath(), "/"); {
			case !ok:
				writeJSON(w, http.StatusUnauthorized, map[string]any{"ok": false})
			case slash && path != "":
				w.Header().Set("Location", path+"?"+r.URL.RawQuery)
				w.WriteHeader(http.StatusMovedPermanently)
			default:
				writeJSON(w, http.StatusOK, map[string]any{"ok": true, "host": host})
			}
		}))
	}
}
