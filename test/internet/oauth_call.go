package internet

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// call is one request with its parameters, from wherever they came.
type call struct {
	http.ResponseWriter
	r *http.Request
	p url.Values
	x Exchange

	id, secret string // of the client, from Basic or the parameters
}

// endpoint reads a request, has h answer it, and records both.
func (o *OAuth) endpoint(name string, h func(*call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{ResponseWriter: &statusWriter{ResponseWriter: w}, r: r, p: r.URL.Query()}
		c.x = Exchange{
			Time: time.Now(), Endpoint: name, Method: r.Method, Path: r.URL.Path, Encoding: "query", Auth: "none", Accept: r.Header.Get("Accept"), Params: map[string]string{},
		}
		if r.Method == http.MethodPost || r.Method == http.MethodDelete {
			if err := c.readBody(); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		c.id, c.secret = c.p.Get("client_id"), c.p.Get("client_secret")
		switch id, secret, ok := r.BasicAuth(); {
		case ok:
			c.x.Auth, c.id, c.secret = "basic", id, secret
		case c.p.Has("client_assertion"):
			c.x.Auth = "jwt"
		case c.secret != "":
			c.x.Auth = "body"
		}
		c.x.Client = c.id
		for k := range c.p {
			c.x.Params[k] = strings.Join(c.p[k], " ")
			if slices.Contains(secretParams, k) {
				c.x.Params[k] = "•••"
			}
		}
		h(c)
		c.x.Status = c.ResponseWriter.(*statusWriter).code()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.log = append(o.log, c.x)
	}
}

func (c *call) readBody() error {
	body, err := io.ReadAll(io.LimitReader(c.r.Body, 1<<20))
	if err != nil {
		return err
	}
	kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		c.x.Encoding = "json"
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			return err
		}
		c.p = url.Values{}
		for k, v := range m {
			switch v := v.(type) {
			case string:
				c.p.Set(k, v)
			case []any:
				for _, e := range v {
					c.p.Add(k, fmt.Sprint(e))
				}
			default:
				c.p.Set(k, fmt.Sprint(v))
			}
		}
	case "application/x-www-form-urlencoded":
		c.x.Encoding = "form"
		if c.p, err = url.ParseQuery(string(body)); err != nil {
			return err
		}
		for k, v := range c.p {
			if len(v) > 1 && k != "resource" {
				return fmt.Errorf("the parameter %s is there twice", k)
			}
		}
	default:
		c.x.Encoding = kind
	}
	return nil
}

// fails answers with an error as RFC 6749, section 5.2 has it.
func (c *call) fails(status int, code, description string) {
	c.x.Error = code
	c.Header().Set("Cache-Control", "no-store")
	writeJSON(c, status, map[string]any{"error": code, "error_description": description})
}

// answers with JSON.
func (c *call) answers(m map[string]any) {
	c.Header().Set("Cache-Control", "no-store")
	writeJSON(c, http.StatusOK, m)
}

// client finds the app of a token request and checks its secret. The lock is
// held.
func (o *OAuth) client(c *call) (*App, bool) {
	a := o.apps[c.id]
	return a, a != nil && subtle.ConstantTimeCompare([]byte(a.Secret), []byte(c.secret)) == 1
}

// scopesOf splits a list at spaces and commas.
func scopesOf(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
}
