package internet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// Person walks through the pages of authorization servers as somebody with a
// browser does, but over plain HTTP and without a screen: reads the form on the
// page, fills in what has one of the known ids, presses the button. Tests that
// log in often use it; those that show what a user sees use a real browser.
//
// The ids are those of every page in the fake internet and of oauthserver:
// login and user_code to type into; signin, continue and consent to press, and
// deny.
type Person struct {
	Login string // typed where a page asks who it is; "" leaves what is there

	client *http.Client
}

// Page is where a walk ended.
type Page struct {
	URL    *url.URL
	Status int    // of its answer; 0 for a page that was not fetched, or where the browser does not tell
	Text   string // what is to be read on it
}

// Person is somebody whose browser is in this internet. Each has cookies of
// their own. Addresses of 127.0.0.1 are reached directly.
func (n *Internet) Person(login string) (*Person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	proxy, err := url.Parse(n.Proxy())
	if err != nil {
		return nil, err
	}
	c := n.Client()
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Transport.(*http.Transport).Proxy = func(r *http.Request) (*url.URL, error) {
		if loopback(r.URL) {
			return nil, nil
		}
		return proxy, nil
	}
	return &Person{Login: login, client: c}, nil
}

func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Authorize opens an authorization request, signs in and consents. It returns
// the address of the callback with its parameters, without going there.
func (p *Person) Authorize(ctx context.Context, address string) (*url.URL, error) {
	page, err := p.walk(ctx, address, "consent", "", false)
	if err != nil {
		return nil, err
	}
	if page.Status != 0 {
		return nil, fmt.Errorf("no callback: the last page is %s (%d): %s", page.URL.Redacted(), page.Status, page.Text)
	}
	return page.URL, nil
}

// Consent is Authorize and then the callback's page.
func (p *Person) Consent(ctx context.Context, address string) (Page, error) {
	return p.walk(ctx, address, "consent", "", true)
}

// Deny signs in and says no. It returns the callback's page.
func (p *Person) Deny(ctx context.Context, address string) (Page, error) {
	return p.walk(ctx, address, "deny", "", true)
}

// Device opens the address that a device shows, types its code, and consents.
func (p *Person) Device(ctx context.Context, address, userCode string) (Page, error) {
	return p.walk(ctx, address, "consent", userCode, true)
}

// DenyDevice is Device with the other answer.
func (p *Person) DenyDevice(ctx context.Context, address, userCode string) (Page, error) {
	return p.walk(ctx, address, "deny", userCode, true)
}

// walk follows redirects and answers forms until there are no more, or until
// the callback. A server that was reached at 127.0.0.1 itself is no callback.
func (p *Person) walk(ctx context.Context, address, answer, userCode string, fetch bool) (Page, error) {
	at, err := url.Parse(address)
	if err != nil {
		return Page{}, err
	}
	server := at.Host
	method, body, pressed := http.MethodGet, "", ""
	for range 20 {
		callback := loopback(at) && at.Host != server
		if callback && !fetch {
			return Page{URL: at}, nil
		}
		req, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(body))
		if err != nil {
			return Page{}, err
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", at.Scheme+"://"+at.Host)
		}
		resp, err := p.client.Do(req)
		if err != nil {
			return Page{}, err
		}
		data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		_ = resp.Body.Close()
		if err != nil {
			return Page{}, err
		}
		if to := resp.Header.Get("Location"); to != "" && resp.StatusCode >= 300 && resp.StatusCode < 400 {
			if at, err = at.Parse(to); err != nil {
				return Page{}, err
			}
			method, body = http.MethodGet, ""
			continue
		}
		doc, err := html.Parse(strings.NewReader(string(data)))
		if err != nil {
			return Page{}, err
		}
		page := Page{URL: at, Status: resp.StatusCode, Text: strings.Join(strings.Fields(text(doc)), " ")}
		f := readForm(doc)
		if callback || f == nil || resp.StatusCode >= 400 || pressed == "deny" {
			return page, nil
		}
		var values url.Values
		values, pressed, err = f.fill(p.Login, userCode, answer)
		if err != nil {
			return page, err
		}
		if at, err = at.Parse(f.action); err != nil {
			return page, err
		}
		method, body = http.MethodPost, values.Encode()
	}
	return Page{}, errors.New("the pages go on and on")
}

// form is the first form of a page with its controls, those outside of it that
// name it included.
type form struct {
	action string
	inputs []control
	button []control
}

type control struct{ id, name, value string }

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	if n.Data == "script" || n.Data == "style" || n.Data == "title" {
		return ""
	}
	var b strings.Builder
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		b.WriteString(text(c) + " ")
	}
	return b.String()
}

func readForm(doc *html.Node) *form {
	var f *form
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		c := control{attribute(n, "id"), attribute(n, "name"), attribute(n, "value")}
		switch {
		case n.Data == "form" && f == nil:
			f = &form{action: attribute(n, "action")}
		case n.Data == "input" && f != nil:
			f.inputs = append(f.inputs, c)
		case n.Data == "button" && f != nil:
			f.button = append(f.button, c)
		}
	}
	return f
}

// fill is what the form sends when the button for the answer is pressed. A page
// that asks for no answer has only one button, or one that sends it by itself.
func (f *form) fill(login, userCode, answer string) (v url.Values, pressed string, err error) {
	v = url.Values{}
	for _, in := range f.inputs {
		switch {
		case (in.id == "login" || in.name == "login") && login != "":
			in.value = login
		case (in.id == "user_code" || in.name == "user_code") && in.value == "":
			if userCode == "" {
				return nil, "", errors.New("the page asks for a device's code")
			}
			in.value = userCode
		}
		if in.name != "" {
			v.Set(in.name, in.value)
		}
	}
	for _, want := range []string{answer, "signin", "continue"} {
		for _, b := range f.button {
			if b.id == want {
				if b.name != "" {
					v.Set(b.name, b.value)
				}
				return v, want, nil
			}
		}
	}
	return v, "", nil
}
