package flow

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
)

func TestStartDevice(t *testing.T) {
	const whole = `{"device_code":"` + canaryDevice + `","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device","verification_uri_complete":"https://example.com/device?code=WDJB-MJHT","expires_in":900,"interval":7}`
	tests := []struct {
		name, answer string
		want         func(*Device) bool
		parts        []string
	}{
		{name: "whole", answer: whole, want: func(d *Device) bool {
			return d.Code.Reveal() == canaryDevice && d.UserCode == "WDJB-MJHT" && d.VerificationURL == "https://example.com/device" &&
				d.VerificationURLComplete == "https://example.com/device?code=WDJB-MJHT" && d.Interval == 7*time.Second && d.ExpiresAt.Equal(testNow.Add(15*time.Minute))
		}},
		{name: "Google's name, and defaults", answer: `{"device_code":"d","user_code":"A","verification_url":"https://www.google.com/device"}`, want: func(d *Device) bool {
			return d.VerificationURL == "https://www.google.com/device" && d.VerificationURLComplete == "" && d.Interval == 5*time.Second && d.ExpiresAt.Equal(testNow.Add(15*time.Minute))
		}},
		{name: "senseless times", answer: `{"device_code":"d","user_code":"A","verification_uri":"https://a.example","expires_in":99999999,"interval":-3}`, want: func(d *Device) bool {
			return d.Interval == 5*time.Second && d.ExpiresAt.Equal(testNow.Add(15*time.Minute))
		}},
		{name: "long times", answer: `{"device_code":"d","user_code":"A","verification_uri":"https://a.example","expires_in":9999999,"interval":1e300}`, want: func(d *Device) bool {
			return d.Interval == time.Minute && d.ExpiresAt.Equal(testNow.Add(24*time.Hour))
		}},
		{name: "a page in the clear is left out", answer: `{"device_code":"d","user_code":"A","verification_uri":"https://a.example","verification_uri_complete":"http://a.example/?A"}`, want: func(d *Device) bool { return d.VerificationURLComplete == "" }},
		{name: "no https page", answer: `{"device_code":"d","user_code":"A","verification_uri":"javascript:alert(1)"}`, parts: []string{"no https address"}},
		{name: "a page on this machine", answer: `{"device_code":"d","user_code":"A","verification_uri":"https://127.0.0.1:7998/x"}`, parts: []string{"no https address"}},
		{name: "no user code", answer: `{"device_code":"d","verification_uri":"https://a.example"}`, parts: []string{"no code for the person"}},
		{name: "no device code", answer: `{"user_code":"d","verification_uri":"https://a.example"}`, parts: []string{"device code"}},
		{name: "device flow off", answer: `{"error":"device_flow_disabled"}`, parts: []string{"allow the device flow"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.handle("auth.example.com/device", saysJSON(200, tt.answer))
			s := server()
			s.App.Secret = authsome.Secret{}
			d, err := f.client().StartDevice(t.Context(), s, []string{"a", "b"})
			if got := f.only(); got.form().Encode() != "client_id=the-client&scope=a+b" {
				t.Errorf("sent %s", got.body)
			}
			if tt.want == nil {
				wantError(t, err, authsome.AuthFailed, nil, append(tt.parts, "get a code from auth.example.com")...)
				return
			}
			if err != nil || !tt.want(d) {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

// inMemory answers without a network, which synctest's clock would wait for.
type inMemory func(n int) (http.HandlerFunc, error)

func (m inMemory) client(at *[]time.Duration) *Client {
	c := New(Config{})
	start, n := time.Now(), 0
	c.public = roundTripper(func(r *http.Request) (*http.Response, error) {
		*at = append(*at, time.Since(start))
		h, err := m(n)
		n++
		if err != nil {
			return nil, err
		}
		w := httptest.NewRecorder()
		h(w, r)
		return w.Result(), nil
	})
	return c
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAwaitDevice(t *testing.T) {
	pending, slow := saysJSON(400, `{"error":"authorization_pending"}`), saysJSON(400, `{"error":"slow_down"}`)
	tests := []struct {
		name    string
		answers []any // http.HandlerFunc or error; the last goes on
		change  func(*Device)
		at      []time.Duration // of the polls
		code    authsome.Code
		cause   error
	}{
		{name: "at once", answers: []any{saysJSON(200, goodAnswer)}, at: seconds(5)},
		{name: "after a while", answers: []any{pending, pending, saysJSON(200, goodAnswer)}, at: seconds(5, 10, 15)},
		{name: "slow down is kept", answers: []any{pending, slow, pending, slow, saysJSON(200, goodAnswer)}, at: seconds(5, 10, 20, 30, 45)},
		{name: "GitHub, under 200", answers: []any{says(200, "application/x-www-form-urlencoded", "error=authorization_pending"), saysJSON(200, goodAnswer)}, at: seconds(5, 10)},
		{name: "Google, 428", answers: []any{saysJSON(428, `{"error":"authorization_pending"}`), saysJSON(200, goodAnswer)}, at: seconds(5, 10)},
		{name: "429 without a word", answers: []any{saysJSON(429, `{}`), saysJSON(200, goodAnswer)}, at: seconds(5, 15)},
		{name: "trouble is waited out, longer each time", answers: []any{
			errors.New("connection reset"), says(502, "text/html", "<html>"), saysJSON(200, goodAnswer[:9]), saysJSON(503, `{}`), io.ErrUnexpectedEOF, pending, saysJSON(200, goodAnswer),
		}, at: seconds(5, 15, 35, 75, 135, 195, 200)},
		{name: "denied", answers: []any{pending, saysJSON(400, `{"error":"access_denied"}`)}, at: seconds(5, 10), code: authsome.Cancelled, cause: ErrDenied},
		{name: "denied at Microsoft", answers: []any{saysJSON(400, `{"error":"authorization_declined"}`)}, at: seconds(5), code: authsome.Cancelled, cause: ErrDenied},
		{name: "expired there", answers: []any{saysJSON(400, `{"error":"expired_token"}`)}, at: seconds(5), code: authsome.TimedOut, cause: ErrExpired},
		{name: "expired here", answers: []any{pending}, change: func(d *Device) { d.ExpiresAt = time.Now().Add(12 * time.Second) }, at: seconds(5, 10, 12), code: authsome.TimedOut, cause: ErrExpired},
		{name: "expired before", answers: []any{pending}, change: func(d *Device) { d.ExpiresAt = time.Now() }, code: authsome.TimedOut, cause: ErrExpired},
		{name: "no interval", answers: []any{saysJSON(200, goodAnswer)}, change: func(d *Device) { d.Interval = 0 }, at: seconds(5)},
		{name: "longer than the session of five minutes", answers: append(repeat(pending, 100), saysJSON(200, goodAnswer)), change: func(d *Device) { d.Interval = 8 * time.Second }, at: nil},
		{name: "wrong client", answers: []any{saysJSON(401, `{"error":"invalid_client"}`)}, at: seconds(5), code: authsome.AuthFailed, cause: ErrInvalidClient},
		{name: "wrong code", answers: []any{saysJSON(200, `{"error":"incorrect_device_code"}`)}, at: seconds(5), code: authsome.AuthFailed, cause: ErrInvalidGrant},
		{name: "another error", answers: []any{saysJSON(400, `{"error":"unsupported_grant_type"}`)}, at: seconds(5), code: authsome.AuthFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Duration
				c := inMemory(func(n int) (http.HandlerFunc, error) {
					switch a := tt.answers[min(n, len(tt.answers)-1)].(type) {
					case http.HandlerFunc:
						return a, nil
					case error:
						return nil, a
					}
					return nil, nil
				}).client(&at)
				d := &Device{Code: authsome.NewSecret(canaryDevice), Interval: 5 * time.Second, ExpiresAt: time.Now().Add(15 * time.Minute)}
				if tt.change != nil {
					tt.change(d)
				}
				token, err := c.AwaitDevice(t.Context(), server(), d)
				if tt.at != nil && !equal(at, tt.at) {
					t.Errorf("polls at %v, want %v", at, tt.at)
				}
				if tt.code != "" {
					wantError(t, err, tt.code, tt.cause)
				} else if err != nil || token.Access.Reveal() != canaryAccess {
					t.Errorf("%v, %v", token, err)
				}
			})
		})
	}
}

func repeat(h http.HandlerFunc, n int) (out []any) {
	for range n {
		out = append(out, h)
	}
	return out
}

func seconds(n ...int) (out []time.Duration) {
	for _, s := range n {
		out = append(out, time.Duration(s)*time.Second)
	}
	return out
}

func equal(a, b []time.Duration) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestAwaitDeviceEnds gives the caller's own error back, and keeps what it has
// learned about the interval for the next call.
func TestAwaitDeviceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		c := inMemory(func(int) (http.HandlerFunc, error) { return saysJSON(400, `{"error":"slow_down"}`), nil }).client(&at)
		d := &Device{Code: authsome.NewSecret(canaryDevice), Interval: 5 * time.Second, ExpiresAt: time.Now().Add(15 * time.Minute)}
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Second)
		defer cancel()
		if _, err := c.AwaitDevice(ctx, server(), d); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrExpired) {
			t.Errorf("error %v", err)
		}
		if d.Interval != 15*time.Second {
			t.Errorf("interval %v", d.Interval)
		}
		cancel()
		if _, err := c.AwaitDevice(ctx, server(), d); err == nil {
			t.Error("an ended context polled on")
		}
		if len(at) != 2 {
			t.Errorf("polls at %v", at)
		}
	})
}

// TestDevicePoll looks at what is sent, over a real connection.
func TestDevicePoll(t *testing.T) {
	f := newFake(t)
	f.handle("auth.example.com/token", saysJSON(200, goodAnswer))
	for body, encoding := range map[string]authsome.Encoding{
		"client_id=the-client&client_secret=canaryClientSecret%2Fq7Wv%2B3x&device_code=canaryDevice~6Yh0Uj3Ik&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code": "",
		`{"device_code":"canaryDevice~6Yh0Uj3Ik"}`: authsome.EncodeJSON,
	} {
		s := server()
		s.DeviceBody = encoding
		d := &Device{Code: authsome.NewSecret(canaryDevice), Interval: time.Nanosecond, ExpiresAt: testNow.Add(time.Hour)}
		if _, err := f.client().AwaitDevice(t.Context(), s, d); err != nil {
			t.Fatal(err)
		}
		if got := f.only(); got.body != body {
			t.Errorf("sent %s\nwant %s", got.body, body)
		}
	}
}
