package web

import (
	"bytes"
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
	for _, name := range []string{"message.html", "form.html"} {
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
	// Refresh is a path of ours that the browser goes to at once; Link is the
	// same for browsers that do not.
	Refresh, Link string
}

func (s *site) message(w http.ResponseWriter, status int, m message) {
	s.page(w, status, "message.html", m)
}

// form is the page on which a key is typed.
type form struct {
	Title      string
	Provider   string // its display name
	Name       string // the name that commands take
	Custom     bool   // the definition was registered here
	Connection string
	Replaces   bool
	Private    bool // addresses of a private network are approved
	Hosts      []string
	More       int // hosts beyond those listed
	DocsURL    string
	DocsHost   string
	Path       string // of the form, where it is sent
	Token      string
	Fields     []field
	Problem    string // when it belongs to no one field
	Hint       string // for Problem
	Closes     string // local time of day
}

// field is one line of the form.
type field struct {
	ID      string // in the page
	Input   string // name in the form
	Label   string
	Hint    string
	Public  bool
	Value   string // only ever of a public field
	Problem string
	Focus   bool
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

// hostsOf lists the hosts that receive a provider's credential, each once, with
// the port when it is not 443.
func hostsOf(p *authsome.Provider) []string {
	var hosts []string
	for _, r := range p.Routes {
		host := clean(r.Host, 253) // the longest DNS name
		if r.Port != 0 && r.Port != 443 {
			host = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(r.Port))
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// docsOf returns a definition's link when it is a plain https one, and the host
// that it leads to. A link with a user name in front of the host is made to
// look like another one.
func docsOf(p *authsome.Provider) (link, host string) {
	u, err := url.Parse(p.DocsURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return "", ""
	}
	return u.String(), clean(u.Hostname(), 253)
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
