package flow

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/netguard"
)

// Bounds of what a device authorization answer may say.
const (
	defaultInterval = 5 * time.Second // RFC 8628, section 3.2
	maxInterval     = time.Minute
	defaultDevice   = 15 * time.Minute // where expires_in is missing or senseless
	maxDevice       = 24 * time.Hour
)

// Device is a login by code on another device (RFC 8628).
type Device struct {
	Code                    authsome.Secret // what is polled with
	UserCode                string
	VerificationURL         string
	VerificationURLComplete string // with the user code in it; "" when the server gives none
	ExpiresAt               time.Time
	Interval                time.Duration // between polls; AwaitDevice keeps it up to date
}

// StartDevice asks for a code that the person types elsewhere (RFC 8628, section
// 3.1).
func (c *Client) StartDevice(ctx context.Context, s Server, scopes []string) (*Device, error) {
	r := request{doing: "get a code from " + hostOf(s.DeviceURL), method: http.MethodPost, url: s.DeviceURL, private: s.Private, header: http.Header{}}
	form := url.Values{}
	s.addScopes(form, scopes)
	if s.Resource != "" {
		form.Set("resource", s.Resource)
	}
	if err := s.authenticate(c, &r, form); err != nil {
		return nil, err
	}
	r.setBody(form, authsome.EncodeForm)
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	v, ok := decode(a)
	if !ok {
		return nil, r.unreadable(a)
	}
	if no, is := refusalOf(v, a.status); is {
		return nil, r.refused(a, no)
	}
	d := &Device{Interval: defaultInterval, ExpiresAt: a.asked.Add(defaultDevice)}
	var bad string
	if d.Code, bad = tokenText(find(v, "", "device_code")); bad != "" {
		return nil, r.fail(authsome.AuthFailed, "the device code in its answer "+bad, nil)
	}
	if d.UserCode = label(find(v, "", "user_code")); d.UserCode == "" || len(d.UserCode) > 64 {
		return nil, r.fail(authsome.AuthFailed, "its answer holds no code for the person", nil)
	}
	// Some servers, Google among them, still use the draft's name.
	if d.VerificationURL = page(v, s.Private, "verification_uri", "verification_url"); d.VerificationURL == "" {
		return nil, r.fail(authsome.AuthFailed, "its answer holds no https address to type the code at", nil)
	}
	d.VerificationURLComplete = page(v, s.Private, "verification_uri_complete", "verification_url_complete")
	if life := lifetime(find(v, "", "expires_in")); life > 0 {
		d.ExpiresAt = a.asked.Add(min(life, maxDevice))
	}
	if n, ok := find(v, "", "interval").(json.Number); ok {
		if seconds, err := n.Float64(); err == nil && seconds > 0 {
			d.Interval = min(max(time.Duration(min(seconds, 3600)*float64(time.Second)), time.Second), maxInterval)
		}
	}
	return d, nil
}

// page gives the first of the names that is an address which may be opened in
// the person's browser, or "".
func page(v any, private bool, names ...string) string {
	for _, name := range names {
		text, _ := find(v, "", name).(string)
		if u, err := endpoint(text); err == nil && (private || !netguard.HostIsPrivate(u.Hostname())) {
			return u.String()
		}
	}
	return ""
}

// AwaitDevice polls until the person has answered, the code has expired, or ctx
// ends, whose error is then returned as it is. Trouble in the network and on the
// server is waited out (RFC 8628, section 3.5). It may be called again with the
// same Device, as by a program that was started anew.
func (c *Client) AwaitDevice(ctx context.Context, s Server, d *Device) (*Token, error) {
	if d.Interval <= 0 {
		d.Interval = defaultInterval
	}
	wait := d.Interval
	for {
		left := d.ExpiresAt.Sub(c.cfg.Now())
		if left <= 0 {
			return nil, request{doing: "log in at " + hostOf(s.TokenURL)}.fail(authsome.TimedOut, "nobody typed the code in time", ErrExpired)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(wait, left)):
		}
		token, err := c.pollDevice(ctx, s, d)
		switch {
		case err == nil:
			return token, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, errPending):
			wait = d.Interval
		case errors.Is(err, errSlowDown):
			d.Interval += 5 * time.Second // for this and all later polls
			wait = d.Interval
		case authsome.CodeOf(err) == authsome.Unreachable:
			wait = min(2*wait, maxInterval)
			wait = max(wait, d.Interval)
		default:
			return nil, err
		}
	}
}

// pollDevice asks once (RFC 8628, section 3.4).
func (c *Client) pollDevice(ctx context.Context, s Server, d *Device) (*Token, error) {
	const doing = "log in at "
	if s.DeviceBody == authsome.EncodeJSON {
		// The variant of the Python authsome's files: the code alone.
		r := request{
			doing: doing + hostOf(s.TokenURL), method: http.MethodPost, url: s.TokenURL, private: s.Private,
			header: http.Header{}, secrets: []authsome.Secret{d.Code},
		}
		r.setBody(url.Values{"device_code": {d.Code.Reveal()}}, authsome.EncodeJSON)
		a, err := c.do(ctx, r)
		if err != nil {
			return nil, err
		}
		return r.readToken(a, s.Answer)
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {d.Code.Reveal()}}
	return c.token(ctx, s, doing, form, d.Code)
}
