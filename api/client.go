package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/authsome/authsome"
)

// Host is the Host header of every request on the socket. The daemon refuses
// any other, so that no request that a browser was made to send gets through.
const Host = "authsome.localapi"

// maxAnswer bounds what the client reads of one answer.
const maxAnswer = 64 << 20

// dialEvery is how often a client looks for a daemon that is starting.
const dialEvery = 5 * time.Millisecond

// Client speaks to the daemon of one home. The zero Client speaks to the
// daemon of the default home, if one is running; Connect makes one that starts
// it. All methods may be called from any goroutine, and every error they
// return is an *authsome.Error.
type Client struct {
	// Home is the resolved home; "" is the one that the environment means.
	Home string
	// Wait is how long a request waits for a daemon that cannot be reached; 0
	// is not at all.
	Wait time.Duration

	// socket is given instead of Home by Siblings.
	socket string

	once sync.Once
	http *http.Client
}

// transport makes the HTTP client on first use.
func (c *Client) transport() *http.Client {
	c.once.Do(func() {
		c.http = &http.Client{
			Transport: &http.Transport{
				// No proxy: inside a run the environment names one.
				Proxy:              nil,
				DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
				DisableCompression: true,
				MaxIdleConns:       2,
				IdleConnTimeout:    30 * time.Second,
			},
			// The daemon redirects nobody.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	})
	return c.http
}

// Close lets go of idle connections. The Client may still be used.
func (c *Client) Close() { c.transport().CloseIdleConnections() }

// dial connects to the daemon, waiting for it up to c.Wait.
func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	if c.socket != "" {
		return dial(ctx, c.socket)
	}
	home := c.Home
	if home == "" {
		var err error
		if home, err = Home(os.Getenv); err != nil {
			return nil, err
		}
	}
	deadline := time.Now().Add(c.Wait)
	for {
		conn, err := dialHome(ctx, home)
		if err == nil || !absent(err) || !time.Now().Before(deadline) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(dialEvery):
		}
	}
}

// dialHome connects to the daemon of a home wherever its socket may be. The
// error is the first path's, which is the one to expect.
func dialHome(ctx context.Context, home string) (*net.UnixConn, error) {
	paths, err := sockets(home)
	if err != nil {
		return nil, err
	}
	var first error
	for _, path := range paths {
		conn, err := dial(ctx, path)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// absent reports whether a dial failed because no daemon listens.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// do sends one request and decodes the answer into out, unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return authsome.E(authsome.Internal, "ask the daemon: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+Host+path, body)
	if err != nil {
		return authsome.E(authsome.Internal, "ask the daemon: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.transport().Do(req)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return unavailable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		return failure(resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		// Not quoted: the answer may hold a credential.
		return authsome.E(authsome.DaemonUnavailable, "ask the daemon: its answer cannot be read").
			WithHint("authsome daemon restart")
	}
	return nil
}

// failure makes the error of an answer that is not 2xx.
func failure(status int, body []byte) error {
	var f Failure
	if err := json.Unmarshal(body, &f); err != nil || f.Error == "" {
		return authsome.E(authsome.DaemonUnavailable, "ask the daemon: it answered HTTP %d without a reason", status).
			WithHint("authsome daemon restart")
	}
	return f.Err()
}

// unavailable makes the error of a request that got no answer.
func unavailable(ctx context.Context, err error) error {
	var known *authsome.Error
	if errors.As(err, &known) {
		return known
	}
	var uerr *url.Error
	if errors.As(err, &uerr) {
		err = uerr.Err // url.Error would show an address that means nothing to people
	}
	e := &authsome.Error{Code: authsome.DaemonUnavailable, Hint: "authsome doctor", Err: err}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Code, e.Message, e.Hint = authsome.Cancelled, "ask the daemon: cancelled", ""
	case errors.Is(err, context.DeadlineExceeded):
		e.Message = "ask the daemon: it did not answer in time"
	case absent(err):
		e.Message, e.Hint = "the daemon is not running", "authsome daemon start"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Message = "ask the daemon: it went away before it answered"
	default:
		e.Message = fmt.Sprintf("ask the daemon: %v", err)
	}
	return e
}

// expand fills the {x} of a Path constant. No value may be empty, since the
// path would then be another one.
func expand(path string, values ...string) (string, error) {
	for _, v := range values {
		i, j := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
		name := map[string]string{"{p}": "provider", "{c}": "connection", "{id}": "id"}[path[i:j+1]]
		if v == "" {
			return "", authsome.E(authsome.Invalid, "no %s was given", name)
		}
		esc := url.PathEscape(v)
		if v == "." || v == ".." { // would be resolved as a step in the path
			esc = strings.ReplaceAll(v, ".", "%2E")
		}
		// The braces of later names are found behind what was put in, because
		// PathEscape leaves none.
		path = path[:i] + esc + path[j+1:]
	}
	return path, nil
}

// call is do on a path with names in it.
func (c *Client) call(ctx context.Context, method, path string, values []string, in, out any) error {
	path, err := expand(path, values...)
	if err != nil {
		return err
	}
	return c.do(ctx, method, path, in, out)
}

// connection is how a path names one: "-" stands for the default.
func connection(name string) string {
	if name == "" {
		return "-"
	}
	return name
}

// Health asks who the daemon is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var out Health
	err := c.do(ctx, http.MethodGet, PathHealth, nil, &out)
	return out, err
}

// Whoami asks what `authsome whoami` prints.
func (c *Client) Whoami(ctx context.Context) (Whoami, error) {
	var out Whoami
	err := c.do(ctx, http.MethodGet, PathWhoami, nil, &out)
	return out, err
}

// Authority asks for the certificate authority.
func (c *Client) Authority(ctx context.Context) (Authority, error) {
	var out Authority
	err := c.do(ctx, http.MethodGet, PathCA, nil, &out)
	return out, err
}

// ChangeAuthority does one of the acts of AuthorityChange.
func (c *Client) ChangeAuthority(ctx context.Context, change AuthorityChange) (Authority, error) {
	var out Authority
	err := c.do(ctx, http.MethodPost, PathCA, change, &out)
	return out, err
}

// Doctor has the daemon check itself.
func (c *Client) Doctor(ctx context.Context) (Doctor, error) {
	var out Doctor
	err := c.do(ctx, http.MethodGet, PathDoctor, nil, &out)
	return out, err
}

// Stop asks the daemon to end. It answers before it does.
func (c *Client) Stop(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, PathStop, struct{}{}, nil)
}

// Providers lists every provider with its connections.
func (c *Client) Providers(ctx context.Context) ([]Provider, error) {
	var out []Provider
	err := c.do(ctx, http.MethodGet, PathProviders, nil, &out)
	return out, err
}

// Provider asks for one, its definition included.
func (c *Client) Provider(ctx context.Context, provider string) (Provider, error) {
	var out Provider
	err := c.call(ctx, http.MethodGet, PathProvider, []string{provider}, nil, &out)
	return out, err
}

// Register adds or replaces a definition.
func (c *Client) Register(ctx context.Context, r Registration) (Registered, error) {
	var out Registered
	err := c.do(ctx, http.MethodPost, PathProviders, r, &out)
	return out, err
}

// Remove deletes a provider's connections and its registered definition.
func (c *Client) Remove(ctx context.Context, provider string) (Removed, error) {
	var out Removed
	err := c.call(ctx, http.MethodDelete, PathProvider, []string{provider}, nil, &out)
	return out, err
}

// Revoke deletes all connections of a provider.
func (c *Client) Revoke(ctx context.Context, provider string) (Removed, error) {
	var out Removed
	err := c.call(ctx, http.MethodPost, PathRevoke, []string{provider}, struct{}{}, &out)
	return out, err
}

// Connection asks for one; name "" is the default. With secret its Fields are
// in plaintext, which is refused inside a run.
func (c *Client) Connection(ctx context.Context, provider, name string, secret bool) (Connection, error) {
	var out Connection
	path, err := expand(PathConnection, provider, connection(name))
	if err != nil {
		return out, err
	}
	if secret {
		path += "?secret=1"
	}
	err = c.do(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// Logout deletes one connection; name "" is the default.
func (c *Client) Logout(ctx context.Context, provider, name string) (Removed, error) {
	var out Removed
	err := c.call(ctx, http.MethodPost, PathLogout, []string{provider, connection(name)}, struct{}{}, &out)
	return out, err
}

// SetDefault makes a connection its provider's default.
func (c *Client) SetDefault(ctx context.Context, provider, name string) error {
	return c.call(ctx, http.MethodPost, PathDefault, []string{provider, name}, struct{}{}, nil)
}

// BeginLogin starts a login, or finds that there is nothing to do (Already).
func (c *Client) BeginLogin(ctx context.Context, r LoginRequest) (Login, error) {
	var out Login
	err := c.do(ctx, http.MethodPost, PathLogins, r, &out)
	return out, err
}

// Login asks how a login stands. With wait it answers when the login has ended
// or waits for something else than it did, or after that long (at most a minute)
// with the state of then.
func (c *Client) Login(ctx context.Context, id string, wait time.Duration) (Login, error) {
	var out Login
	path, err := expand(PathLogin, id)
	if err != nil {
		return out, err
	}
	if wait > 0 {
		path += "?wait=" + url.QueryEscape(wait.String())
	}
	err = c.do(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// SubmitLogin hands over what the person typed: field → value. An Invalid
// error leaves the login waiting. The values travel in the body, never in an
// address, which may be logged.
func (c *Client) SubmitLogin(ctx context.Context, id string, fields map[string]authsome.Secret) (Login, error) {
	plain := make(map[string]string, len(fields))
	for name, secret := range fields {
		plain[name] = secret.Reveal()
	}
	var out Login
	err := c.call(ctx, http.MethodPost, PathLoginFields, []string{id}, plain, &out)
	return out, err
}

// ConfirmLogin agrees that the login's Server may be asked. It is refused inside
// a run.
func (c *Client) ConfirmLogin(ctx context.Context, id string) (Login, error) {
	var out Login
	err := c.call(ctx, http.MethodPost, PathLoginConfirm, []string{id}, struct{}{}, &out)
	return out, err
}

// CancelLogin ends a login that is still waiting.
func (c *Client) CancelLogin(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, PathLogin, []string{id}, nil, nil)
}

// SetClient stores the person's own OAuth app at a provider; of app, ID, Secret
// and Key are taken. baseURL is that of a service that the person hosts, or "".
// It is refused inside a run.
func (c *Client) SetClient(ctx context.Context, provider, baseURL string, app authsome.OAuthClient) error {
	return c.call(ctx, http.MethodPut, PathClient, []string{provider}, ClientSettings{
		ClientID: app.ID, ClientSecret: app.Secret.Reveal(), PrivateKey: app.Key.Reveal(), BaseURL: baseURL,
	}, nil)
}

// ForgetClient deletes the OAuth app at a provider; see SetClient.
func (c *Client) ForgetClient(ctx context.Context, provider, baseURL string) error {
	path, err := expand(PathClient, provider)
	if err != nil {
		return err
	}
	if baseURL != "" {
		path += "?" + url.Values{"base_url": {baseURL}}.Encode()
	}
	return c.do(ctx, http.MethodDelete, path, nil, nil)
}

// Export asks for plaintext credentials, which is refused inside a run.
func (c *Client) Export(ctx context.Context, r ExportRequest) (Export, error) {
	var out Export
	err := c.do(ctx, http.MethodPost, PathExport, r, &out)
	return out, err
}

// EventsQuery chooses a page of the audit.
type EventsQuery struct {
	// After is the Seq to start behind. 0 asks for the last Limit events.
	After int64
	// FromStart asks for the first Limit events instead, when After is 0.
	FromStart bool
	// Limit is at most 1000; 0 means 50.
	Limit int
	// Wait is how long the daemon waits for an event when there is none yet, at
	// most a minute.
	Wait time.Duration
}

// Events reads the audit, oldest first.
func (c *Client) Events(ctx context.Context, q EventsQuery) (Events, error) {
	v := url.Values{}
	if q.After > 0 || q.FromStart {
		v.Set("after", strconv.FormatInt(q.After, 10))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Wait > 0 {
		v.Set("wait", q.Wait.String())
	}
	path := PathEvents
	if len(v) > 0 {
		path += "?" + v.Encode()
	}
	var out Events
	err := c.do(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// GrantSelf asks for the grant of the run that this process descends from.
func (c *Client) GrantSelf(ctx context.Context) (GrantInfo, error) {
	var out GrantInfo
	err := c.do(ctx, http.MethodGet, PathGrantSelf, nil, &out)
	return out, err
}
