package web

import (
	"bytes"
	"cmp"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/authsome/authsome"
)

// view is a page's template together with the frame around it.
type view = template.Template

// parsePages reads the embedded templates: "layout.html" around each other one.
func parsePages() map[string]*view {
	layout := template.Must(template.ParseFS(files, "pages/layout.html"))
	pages := map[string]*view{}
	for _, name := range []string{"message.html", "form.html", "confirm.html", "device.html"} {
		pages[name] = template.Must(template.Must(layout.Clone()).ParseFS(files, "pages/"+name))
	}
	return pages
}

// tone colours a message.
type tone string

const (
	good tone = "good"
	bad  tone = "bad"
)

// message is a page that says one thing.
type message struct {
	Title   string
	Tone    tone // "" is neither
	Text    string
	Command string // what to run next; "" for none
	Then    string // a last line under the command; "" for none
	Notes   []string
	// GoTo is where the browser goes at once by itself; Refresh is after how many
	// seconds it loads the page again instead. Link is for browsers that do
	// neither.
	GoTo           string
	Refresh        int
	Link, LinkText string
}

// next takes over an error's hint: a command, or a sentence.
func (m *message) next(hint string) {
	switch {
	case hint == "":
	case strings.HasPrefix(hint, "authsome "):
		m.Command = clean(hint, 300)
	default:
		m.Then = sentence(hint, "")
	}
}

func (s *site) message(w http.ResponseWriter, status int, m message) {
	s.page(w, status, "message.html", m)
}

// form is the page on which a key, or the person's own OAuth app, is typed.
type form struct {
	Title      string
	Provider   string // its display name
	Name       string // the name that commands take
	Custom     bool   // the definition was registered here
	Connection string
	Replaces   bool
	Private    bool // addresses of a private network are approved
	Hosts      []string
	More       int    // hosts beyond those listed
	Sent       string // what the hosts get: "Key", "Token"
	Server     string // host of the authorization server; "" when there is none
	// Client says that an OAuth app is asked for. RedirectURI is what it must be
	// given; "" when the flow has none.
	Client      bool
	RedirectURI string
	LinkURL     string // the vendor's page for what is asked; "" when unknown
	LinkHost    string
	Path        string // of the form, where it is sent
	Token       string
	Fields      []field
	Problem     string // when it belongs to no one field
	Hint        string // for Problem
	Closes      string // local time of day
}

// field is one line of the form.
type field struct {
	ID        string // in the page
	Input     string // name in the form
	Label     string
	Hint      string
	Public    bool
	Optional  bool
	Multiline bool
	Value     string // only ever of a public field
	Problem   string
	Focus     bool
}

// confirmation is the page that asks whether a server may be asked.
type confirmation struct {
	Title, Provider, Resource, Server, Path, Token, Closes string
}

// device is the page that shows a code for another page.
type device struct {
	Title, Provider, Connection, Code, URL, Shown, Path, Token, Closes string
	Refresh                                                            int // seconds
}

// page renders into memory first, so that a failing template does not leave
// half a page with status 200.
func (s *site) page(w http.ResponseWriter, status int, name string, data any) {
	var out bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&out, "layout.html", data); err != nil {
		s.Logger.Error("render a page", "page", name, "err", err)
		http.Error(w, "the page could not be made; see: authsome daemon logs", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

// maxHosts is how many receiving hosts the form lists. No bundled definition
// has more.
const maxHosts = 12

// hostsOf lists the hosts that receive a login's credential, each once, with the
// port when it is not 443.
func hostsOf(l *authsome.Login, p *authsome.Provider) []string {
	routes, own := p.Routes, ""
	if u, err := url.Parse(l.BaseURL); err == nil && l.BaseURL != "" && len(p.SelfManaged) > 0 {
		routes, own = p.SelfManaged, u.Hostname()
	}
	var hosts []string
	for _, r := range routes {
		host := clean(strings.ReplaceAll(r.Host, "{host}", own), 253) // the longest DNS name
		if r.Port != 0 && r.Port != 443 {
			host = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(r.Port))
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// maxURL bounds an address that a page leads to. Browsers and servers take that
// much everywhere; an authorization request has under 2000 bytes.
const maxURL = 8 << 10

// outside returns an address that a page may lead to, and its host: a plain
// https one. A user name in front of the host is there to make it look like
// another one, and so may letters be that are not ASCII.
func outside(address string) (link, host string) {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxURL || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" ||
		strings.ContainsFunc(u.Host, func(r rune) bool { return r >= 0x7f }) {
		return "", ""
	}
	return u.String(), clean(u.Host, 253)
}

// serverOf is the host of the authorization server that a login's secrets go to;
// "" when it has none.
func serverOf(l *authsome.Login, p *authsome.Provider) string {
	if p.OAuth == nil {
		return ""
	}
	_, host := outside(strings.ReplaceAll(p.OAuth.TokenURL, "{base_url}", cmp.Or(l.BaseURL, p.OAuth.BaseURL)))
	return host
}

// displayName is what the pages call a provider.
func displayName(p *authsome.Provider) string {
	if name := clean(p.DisplayName, 60); name != "" {
		return name
	}
	return p.Name
}

// clean makes one line of a definition's text, of at most limit characters.
// Control and format characters go: a right-to-left override shows a host
// backwards.
func clean(text string, limit int) string {
	text = strings.Join(strings.FieldsFunc(text, unicode.IsSpace), " ")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return text
}

// sentence makes an error's message one of ours: "log in to openai: the key is
// empty" becomes "The key is empty."
func sentence(message, provider string) string {
	message = strings.TrimPrefix(message, "log in to "+provider+": ")
	first, size := utf8.DecodeRuneInString(message)
	if size == 0 {
		return ""
	}
	return clean(string(unicode.ToUpper(first))+message[size:], 300) + "."
}
