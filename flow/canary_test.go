package flow

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// TestCanaries sends every kind of request to servers that give back what they
// were sent, wherever there is room for it. No part of it may be in an error.
func TestCanaries(t *testing.T) {
	secret := authsome.NewSecret
	calls := map[string]func(*Client, Server) error{
		"exchange": func(c *Client, s Server) error {
			_, err := c.Exchange(t.Context(), s, secret(canaryCode), secret(canaryVerifier))
			return err
		},
		"exchange basic": func(c *Client, s Server) error {
			s.TokenAuth, s.TokenBody = authsome.ClientBasic, authsome.EncodeJSON
			_, err := c.Exchange(t.Context(), s, secret(canaryCode), secret(canaryVerifier))
			return err
		},
		"refresh": func(c *Client, s Server) error {
			_, err := c.Refresh(t.Context(), s, secret(canaryRefresh), nil)
			return err
		},
		"client credentials": func(c *Client, s Server) error {
			_, err := c.ClientCredentials(t.Context(), s, nil)
			return err
		},
		"client assertion": func(c *Client, s Server) error {
			s.TokenAuth, s.App.Key = authsome.ClientJWT, pkcs8(t, rsaKey())
			_, err := c.ClientCredentials(t.Context(), s, nil)
			return err
		},
		"service account": func(c *Client, s Server) error {
			_, err := c.ServiceAccount(t.Context(), s, keyFile(t, nil), []string{"a"})
			return err
		},
		"GitHub App": func(c *Client, s Server) error {
			_, err := c.GitHubApp(t.Context(), s, "1", "2", pkcs8(t, rsaKey()))
			return err
		},
		"start device": func(c *Client, s Server) error {
			_, err := c.StartDevice(t.Context(), s, nil)
			return err
		},
		"await device": func(c *Client, s Server) error {
			// One poll is enough to fail, or to be waited for in vain.
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := c.pollDevice(ctx, s, &Device{Code: secret(canaryDevice)})
			return err
		},
		"await device JSON": func(c *Client, s Server) error {
			s.DeviceBody = authsome.EncodeJSON
			_, err := c.pollDevice(t.Context(), s, &Device{Code: secret(canaryDevice)})
			return err
		},
		"revoke": func(c *Client, s Server) error {
			return c.Revoke(t.Context(), s, secret(canaryAccess), "access_token")
		},
		"revoke like GitHub": func(c *Client, s Server) error {
			s.Revocation = authsome.RevokeGitHub
			return c.Revoke(t.Context(), s, secret(canaryAccess), "access_token")
		},
		"revoke like Slack": func(c *Client, s Server) error {
			s.Revocation = authsome.RevokeBearer
			return c.Revoke(t.Context(), s, secret(canaryAccess), "access_token")
		},
		"account": func(c *Client, s Server) error {
			s.UserInfo = &authsome.UserInfo{URL: "https://auth.example.com/me", ID: "nothing"}
			_, err := c.Account(t.Context(), s, secret(canaryAccess))
			return err
		},
	}
	// Each answers with all that it was sent.
	echo := func(write func(w http.ResponseWriter, sent string)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			sent := []string{string(body), r.Header.Get("Authorization")}
			if form, err := url.ParseQuery(string(body)); err == nil {
				for _, v := range form {
					sent = append(sent, v...)
				}
			}
			var m map[string]string
			if json.Unmarshal(body, &m) == nil {
				sent = append(sent, slices.Collect(maps.Values(m))...)
			}
			if user, password, ok := r.BasicAuth(); ok {
				sent = append(sent, user, password)
			}
			slices.SortFunc(sent, func(a, b string) int { return len(a) - len(b) })
			write(w, strings.Join(sent, " "))
		}
	}
	quoted := func(status int, format string) http.HandlerFunc {
		return echo(func(w http.ResponseWriter, sent string) {
			b, _ := json.Marshal(sent)
			saysJSON(status, fmt.Sprintf(format, b))(w, nil)
		})
	}
	servers := map[string]http.HandlerFunc{
		"description":        quoted(400, `{"error":"invalid_grant","error_description":%s}`),
		"description at 200": quoted(200, `{"error":"invalid_grant","error_description":%s}`),
		"clipped": echo(func(w http.ResponseWriter, sent string) {
			b, _ := json.Marshal(sent[max(0, len(sent)-60):])
			saysJSON(400, `{"error":"x","error_description":`+string(b)+`}`)(w, nil)
		}),
		"begun": echo(func(w http.ResponseWriter, sent string) {
			b, _ := json.Marshal("you sent " + sent[:min(10, len(sent))])
			saysJSON(400, `{"error":"x","error_description":`+string(b)+`}`)(w, nil)
		}),
		"far away": echo(func(w http.ResponseWriter, sent string) {
			b, _ := json.Marshal(strings.Repeat("x ", 45) + sent)
			saysJSON(400, `{"error":"x","error_description":`+string(b)+`}`)(w, nil)
		}),
		"code":         quoted(400, `{"error":%s}`),
		"message":      quoted(401, `{"message":%s}`),
		"error object": quoted(403, `{"error":{"message":%[1]s,"code":%[1]s}}`),
		"Slack":        quoted(200, `{"ok":false,"error":%s}`),
		"token type":   quoted(200, `{"access_token":"a\u0000","token_type":%s}`),
		"wrong type":   quoted(200, `{"access_token":[%[1]s],"token":[%[1]s],"device_code":[%[1]s]}`),
		"not JSON":     quoted(200, `{"access_token":%s`),
		"HTML":         echo(func(w http.ResponseWriter, sent string) { says(500, "text/html", "<html>"+sent)(w, nil) }),
		"form": echo(func(w http.ResponseWriter, sent string) {
			says(200, "application/x-www-form-urlencoded", "error=x&error_description="+url.QueryEscape(sent))(w, nil)
		}),
		"content type": echo(func(w http.ResponseWriter, sent string) { says(400, "text/"+url.PathEscape(sent), "x")(w, nil) }),
		"redirect": echo(func(w http.ResponseWriter, sent string) {
			w.Header().Set("Location", "https://auth.example.com/?x="+url.QueryEscape(sent))
			w.WriteHeader(307)
		}),
		"redirect host": echo(func(w http.ResponseWriter, sent string) {
			w.Header().Set("Location", "https://"+strings.Map(host, sent[max(0, len(sent)-50):])+".example/")
			w.WriteHeader(307)
		}),
		"status line": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 9x9 %s %s\r\n\r\n", body, r.Header.Get("Authorization"))
			_ = conn.Close()
		},
		"no HTTP": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = fmt.Fprintf(conn, "%s %s\r\n\r\n", body, r.Header.Get("Authorization"))
			_ = conn.Close()
		},
	}
	key := material(pkcs8(t, rsaKey()).Reveal())
	for of, serve := range servers {
		t.Run(of, func(t *testing.T) {
			f := newFake(t)
			f.handle("auth.example.com", serve)
			for doing, call := range calls {
				err := call(f.client(), server())
				var sent []string
				for _, r := range f.requests() {
					a := r.header.Get("Authorization")
					_, credential, _ := strings.Cut(a, " ")
					sent = append(sent, r.form().Get("assertion"), r.form().Get("client_assertion"), credential)
				}
				if err == nil && !strings.HasPrefix(doing, "revoke") {
					t.Errorf("%s: no error", doing)
				}
				secretFree(t, err, append(sent, key, base64.StdEncoding.EncodeToString([]byte("the-client:"+canarySecret)))...)
			}
		})
	}
}

// host keeps what a host name may have.
func host(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
		return r
	}
	return '-'
}

// TestQuoteTokens drops words that look like tokens even when they were not
// sent, and leaves words that people need.
func TestQuoteTokens(t *testing.T) {
	r := request{}
	for text, want := range map[string]string{
		"the token gho_16C7e42F292c6912E7710c838347Ae178B4a is revoked": "the token … is revoked",
		"canaryBadAnswerToken": "…",
		"AADSTS70008: The refresh token has expired due to inactivity":     "AADSTS70008: The refresh token has expired due to inactivity",
		"Trace ID: 3b0c7a7e-9f3a-4a57-a0e5-0d1f3b1e2a00":                   "Trace ID: …",
		"scope https://www.googleapis.com/auth/gmail.readonly needs admin": "scope https://www.googleapis.com/auth/gmail.readonly needs admin",
		"the device_flow_is_disabled_for_this_client":                      "the device_flow_is_disabled_for_this_client",
		"\x1b]0;title\x07 <script>x</script> \u202etxet":                   "]0;title script x /script txet",
		strings.Repeat("word ", 50):                                        strings.TrimSpace(strings.Repeat("word ", 20)) + "…",
	} {
		if got := r.quote(text); got != want {
			t.Errorf("%q becomes\n%q, want\n%q", text, got, want)
		}
	}
}
