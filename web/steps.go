package web

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/authsome/authsome"
)

// After how many seconds a page that only waits loads itself again. A code has to
// be read, and perhaps copied.
const (
	deviceRefresh  = 5
	workingRefresh = 2
)

// takesForm reports whether a step waits for the values of Login.Form.
func takesForm(step authsome.LoginStep) bool {
	return step == authsome.StepKey || step == authsome.StepClient
}

// step answers with what a waiting login waits for.
func (s *site) step(w http.ResponseWriter, l *authsome.Login, p *authsome.Provider, token string) {
	switch l.Step {
	case authsome.StepKey, authsome.StepClient:
		s.form(w, http.StatusOK, l, p, token, nil, nil)
	case authsome.StepConfirm:
		// Under no-referrer the form would be sent with "Origin: null": see form.
		w.Header().Set("Referrer-Policy", "same-origin")
		s.page(w, http.StatusOK, "confirm.html", confirmation{
			Title: "Is this right?", Provider: displayName(p), Resource: clean(l.Resource, 253), Server: clean(l.Server, 253),
			Path: pathOf(l.ID), Token: token, Closes: closes(l),
		})
	case authsome.StepAuthorize:
		s.leave(w, l, p)
	case authsome.StepDevice:
		s.device(w, l, p, token)
	case authsome.StepWorking:
		s.message(w, http.StatusOK, message{
			Title: "One moment", Refresh: workingRefresh, Link: pathOf(l.ID), LinkText: "Look again",
			Text: displayName(p) + " is being asked. This page says by itself when that is done.",
		})
	default:
		s.noPage(w, p)
	}
}

func closes(l *authsome.Login) string { return l.ExpiresAt.Local().Format("15:04") }

// noPage answers for a login that no page can finish.
func (s *site) noPage(w http.ResponseWriter, p *authsome.Provider) {
	s.message(w, http.StatusConflict, message{
		Title: displayName(p) + " takes nothing here", Tone: bad,
		Text: "This login is not finished on a page. The terminal says what it waits for.", Command: "authsome inspect " + p.Name,
	})
}

// leave leads to the authorization server's page.
func (s *site) leave(w http.ResponseWriter, l *authsome.Login, p *authsome.Provider) {
	link, host := outside(l.AuthorizeURL)
	if link == "" {
		s.badAddress(w, l)
		return
	}
	s.message(w, http.StatusOK, message{
		Title: "Continue at " + host,
		Text:  displayName(p) + " asks you there whether authsome may use your account. Afterwards it leads back to this machine.",
		GoTo:  link, Link: link, LinkText: "Continue at " + host,
	})
}

// device shows the code of RFC 8628 and where to type it.
func (s *site) device(w http.ResponseWriter, l *authsome.Login, p *authsome.Provider, token string) {
	// What is shown is the address which people may type on another device; the
	// link with the code in it must lead to the same host.
	link, host := outside(l.VerificationURL)
	shown := clean(strings.TrimPrefix(link, "https://"), 100)
	if complete, other := outside(l.VerificationURLComplete); complete != "" && other == host {
		link = complete
	}
	if link == "" || l.UserCode == "" {
		s.badAddress(w, l)
		return
	}
	w.Header().Set("Referrer-Policy", "same-origin")
	s.page(w, http.StatusOK, "device.html", device{
		Title: "Connect " + displayName(p), Provider: displayName(p), Connection: clean(l.Connection, 64),
		Code: clean(l.UserCode, 64), URL: link, Shown: shown, Path: pathOf(l.ID), Token: token, Closes: closes(l), Refresh: deviceRefresh,
	})
}

// badAddress refuses to lead to where a server or a definition wants people to
// go. Discovery refuses such addresses already.
func (s *site) badAddress(w http.ResponseWriter, l *authsome.Login) {
	s.Logger.Warn("the address of a login's next step is not plain https", "login", l.ID, "provider", l.Provider)
	s.message(w, http.StatusConflict, message{
		Title: "Not a safe address", Tone: bad,
		Text:    "The service wants this login to go on at an address that is not plain https, so it ends here. Nothing was stored. To see how the service is defined:",
		Command: "authsome inspect " + l.Provider,
	})
}

// form answers with the form of a waiting login. After a refusal it has what
// was typed into public fields, and says what was wrong next to the field.
func (s *site) form(w http.ResponseWriter, status int, l *authsome.Login, p *authsome.Provider, token string, public map[string]string, refused *authsome.Error) {
	if len(l.Form) == 0 {
		s.noPage(w, p)
		return
	}
	f := form{
		Title: "Connect " + displayName(p), Provider: displayName(p), Name: p.Name, Custom: p.Source == authsome.Custom,
		Connection: clean(l.Connection, 64), Replaces: l.Replaced, Private: l.AllowPrivate, Sent: "Key",
		Hosts: hostsOf(l, p), Path: pathOf(l.ID), Token: token, Closes: closes(l), Client: l.Step == authsome.StepClient,
	}
	f.LinkURL, f.LinkHost = outside(cmp.Or(l.AppsURL, p.DocsURL))
	if l.Flow.OAuth() {
		f.Sent, f.Server = "Token", serverOf(l, p)
	}
	if f.Client {
		f.RedirectURI = clean(l.RedirectURI, 253)
	}
	if len(f.Hosts) > maxHosts {
		f.Hosts, f.More = f.Hosts[:maxHosts], len(f.Hosts)-maxHosts
	}
	focus := 0
	for i, k := range l.Form {
		line := field{
			ID: fmt.Sprintf("field-%d", i), Input: fieldPrefix + k.Name, Label: clean(cmp.Or(k.Label, k.Name), 60),
			Hint: clean(k.Hint, 300), Public: k.Public, Optional: k.Optional, Multiline: k.Multiline,
		}
		if k.Public {
			line.Value = public[k.Name]
		}
		if refused != nil && (refused.Field == k.Name || len(l.Form) == 1) {
			line.Problem, focus = sentence(refused.Message, p.Name), i
			if line.Hint == "" {
				line.Hint = clean(refused.Hint, 300)
			}
		}
		f.Fields = append(f.Fields, line)
	}
	// What an app is needed for is read first; the focus would scroll past it.
	f.Fields[focus].Focus = !f.Client || refused != nil
	if refused != nil {
		f.Title = "Try again: " + f.Title
		if f.Fields[focus].Problem == "" {
			f.Problem, f.Hint = sentence(refused.Message, p.Name), clean(refused.Hint, 300)
		}
	}
	// Under no-referrer a browser sends "Origin: null" with the form, which one
	// without Sec-Fetch-Site could not be told by from a stranger's. The URL of
	// this page holds no ticket any more.
	w.Header().Set("Referrer-Policy", "same-origin")
	s.page(w, status, "form.html", f)
}
