package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
	"github.com/authsome/authsome/scrub"
)

// errReconsidered ends a request whose grant or credential is no longer.
var errReconsidered = errors.New("the grant or the credential was withdrawn")

// exchange is one request of a child on its way through.
type exchange struct {
	p *Proxy
	w http.ResponseWriter
	r *http.Request
	c *childConn
	target
	line           // as the child sent it, its path normalised
	scheme  string // "https" when intercepted, "http" when plain
	started time.Time

	upgrade  string // the protocol to switch to, or ""
	trailers bool   // TE: trailers
	body     *childBody

	// Of a body with a field to fill: what it begins with, and whether that is
	// all.
	beginning []byte
	allOfIt   bool
	sum       string // of a body that a signature is made over

	// Of the attempt under way.
	sent   line          // as it goes upstream
	kind   authsome.Slot // of edits
	edits  []field       // of the body
	scrub  *scrub.Scrubber
	tried  []authsome.Secret // what scrub looks for
	broken atomic.Pointer[problem]
	chunks func(io.Reader) io.Reader // signs those of the body; nil when there is nothing to

	req     *authsome.Request // nil for plain requests
	res     *authsome.Resolution
	refused bool // by the proxy itself, after Resolve
	left    bool // a credential has, in this attempt or the one before
	out     authsome.Outcome
	report  *scrub.Report // of the answer that is passed on
	end     func()        // of the attempt under way; nil when there is none
	head    *lateFlush    // of the answer that is passed on; nil when there is no need
	from    *linkBody     // where it comes from; nil when that is no link

	reserved int64    // bytes of memory, for bodies
	again    int64    // of them, for sending the body again
	full     *problem // there was none for the body that has to be signed
}

// ServeHTTP implements http.Handler for the connections handed over by
// intercept and converse.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.registry.handlers.Add(1)
	defer p.registry.handlers.Add(-1)
	c := r.Context().Value(childKey{}).(*childConn)
	c.answering.Store(true)
	if c.grant == nil {
		p.plain(w, r, c)
		return
	}
	x := &exchange{p: p, w: w, r: r, c: c, target: c.target, scheme: "https", started: time.Now()}
	if prob := x.check(); prob != nil {
		prob.write(w)
		return
	}
	if x.host == authsome.SelfCheckHost {
		selfCheck(w)
		return
	}
	if !p.enter(w, r, c.account, x.host, x.port) {
		return
	}
	defer p.leave(c.account)
	defer x.release()
	x.run()
}

// selfCheck answers `run`'s request to itself.
func selfCheck(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"status":"ok"}`+"\n")
}

// check holds the request to the host of its tunnel and normalises its path.
func (x *exchange) check() *problem {
	r := x.r
	x.req = &authsome.Request{Host: x.host, Port: x.port, Method: r.Method, Header: r.Header, ID: x.p.requestID()}
	for _, authority := range append([]string{r.Host}, r.Header["Host"]...) {
		if authority == "" && !r.ProtoAtLeast(1, 1) {
			continue // HTTP/1.0 knows no Host
		}
		host, port, err := parseAuthority(authority, x.port)
		if err != nil || host != x.host || port != x.port {
			x.p.cfg.Resolver.Finish(x.grant, x.req, nil, authsome.Outcome{
				Status: http.StatusMisdirectedRequest, Err: "the Host of the request is not the host of its tunnel",
			})
			return problemf(misdirected, "this tunnel is for %s alone: open another one for the host of this request", joinAuthority(x.host, x.port, 443))
		}
	}
	switch strings.ToUpper(r.Method) {
	case http.MethodConnect:
		return problemf(badRequest, "no CONNECT inside a tunnel")
	case http.MethodTrace, "TRACK":
		// The answer is the request, credential and all (RFC 9110, section 9.3.8).
		return problemf(badRequest, "%s is not forwarded: its answer would show the credential", r.Method)
	}
	if named, ok := r.Header[authsome.ConnectionHeader]; ok {
		if len(named) != 1 || !authsome.IsConnectionName(named[0]) {
			return &problem{
				Code: badRequest, Message: "the header " + authsome.ConnectionHeader + " has to name one connection",
				Fix: "send " + authsome.ConnectionHeader + " with one of the names that `authsome list` shows, or without it",
			}
		}
		x.req.Connection = named[0]
	}
	raw, ok := originForm(r, "https")
	if !ok {
		return problemf(badRequest, "the request target is neither a path nor a URL of this host")
	}
	if len(raw) > maxURL {
		return problemf(urlTooLong, "the path and the query have more than %d KB", maxURL>>10)
	}
	path, query, asked := strings.Cut(raw, "?")
	normal, err := route.Path(path)
	if err != nil {
		return problemf(badRequest, "the path is ambiguous: services and proxies would read it differently")
	}
	x.line = line{normal, query, asked}
	x.req.Path, x.req.Repository, x.req.Overrides = normal, repository(normal), overrides(r.Method, r.Header, query)
	return nil
}

// originForm gives path and query of a request as they were sent, also when the
// target is a whole URL.
func originForm(r *http.Request, scheme string) (string, bool) {
	raw := r.RequestURI
	// Not allowed there, and read in different ways. A space, which HTTP/2 can carry,
	// would end the target in the line of HTTP/1.1. In a query a backslash is itself to
	// all, and Node's fetch leaves it there (URL standard, "query percent-encode set").
	if before, _, _ := strings.Cut(raw, "?"); strings.ContainsAny(raw, "# ") || strings.Contains(before, "\\") {
		return "", false
	}
	if strings.HasPrefix(raw, "/") {
		return raw, true
	}
	if r.URL.Scheme != scheme || r.URL.Host == "" || r.URL.User != nil {
		return "", false
	}
	_, rest, _ := strings.Cut(raw, "://")
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0:
		return "/", true
	case rest[i] == '?':
		return "/" + rest[i:], true
	default:
		return rest[i:], true
	}
}

// repository is the git repository of a request by the smart HTTP protocol or
// LFS; "" for all else.
func repository(path string) string {
	base := ""
	for _, end := range []string{"/info/refs", "/git-upload-pack", "/git-receive-pack"} {
		if b, ok := strings.CutSuffix(path, end); ok {
			base = b
		}
	}
	if b, rest, ok := strings.Cut(path, "/info/lfs"); ok && (rest == "" || rest[0] == '/') {
		base = b
	}
	return strings.TrimSuffix(base, ".git")
}

// run resolves, sends and answers.
func (x *exchange) run() {
	p := x.p
	x.upgrade = upgradeOf(x.r)
	x.trailers = hasToken(x.r.Header["Te"], "trailers")
	x.req.Upgrade = x.upgrade
	removeHopByHop(x.r.Header)

	epoch := p.registry.epoch.Load()
	res, err := p.cfg.Resolver.Resolve(x.r.Context(), x.grant, x.req)
	if err == nil && res.Verdict == authsome.Inspect {
		if prob := x.inspect(res); prob != nil {
			prob.Provider = res.Provider
			if prob.Code == outOfMemory { // told, see reserve
				prob.write(x.w)
				return
			}
			p.cfg.Resolver.Finish(x.grant, x.req, nil, authsome.Outcome{Status: prob.status(), Err: prob.Message, Duration: time.Since(x.started)})
			prob.write(x.w)
			return
		}
		// Reading the body may have taken a while.
		epoch = p.registry.epoch.Load()
		res, err = p.cfg.Resolver.Resolve(x.r.Context(), x.grant, x.req)
	}
	if err != nil {
		fromBroker(err).write(x.w)
		return
	}
	x.res = res
	defer x.finish()
	defer x.stop()
	if x.body == nil {
		x.body = newBody(x.r)
	}
	if res.Verdict == authsome.Challenge || res.Renewable {
		x.keep()
	}
	x.body.reserve(res)
	if x.body != nil && x.r.ProtoMajor == 1 {
		// An answer may begin before the body has ended. Errors mean that this is
		// so anyway.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}

	answer, prob := x.attempt(epoch)
	if prob == nil && answer.StatusCode == http.StatusUnauthorized {
		switch {
		case res.Verdict == authsome.Challenge:
			answer, prob = x.challenged(answer)
		case res.Verdict == authsome.Inject && res.Renewable:
			answer, prob = x.rejected(answer)
		}
	}
	if prob != nil {
		x.out.Status = prob.status()
		if x.out.Err == "" {
			x.out.Err = prob.Message
		}
		prob.write(x.w)
		return
	}
	x.forget()
	x.deliver(answer)
}

// attempt sends the request under the resolution at hand. Whoever calls it also
// calls stop when the answer, if any, has been dealt with.
func (x *exchange) attempt(epoch int64) (*http.Response, *problem) {
	header := onward(x.r.Header, x.res, x.trailers, x.upgrade)
	offer(header, x.res)
	if x.res.Verdict == authsome.Challenge {
		withoutPlaceholders(header, append([]string{"Authorization"}, x.res.Strip...))
	}
	x.ask(header) // before it is signed
	prob := x.rewrite(header)
	if prob == nil {
		header, prob = x.sign(header)
	}
	if prob != nil {
		x.refused = true
		return nil, prob
	}
	name := misplaced(header)
	if name == "Referer" {
		// The address of a request whose path or query had one, which clients send
		// along when they are redirected.
		delete(header, name)
		name = misplaced(header)
	}
	if name != "" {
		x.refused = true
		return nil, &problem{
			Code: placeholderMisplaced, Host: x.host, Provider: x.res.Provider,
			Message: "the placeholder in the header " + name + " is not replaced on this request, so it was not sent: it belongs to another service, or to another header",
		}
	}

	ctx := x.r.Context()
	s := &stream{grant: x.grant}
	if l, ok := ctx.(*life); ok {
		s.cancel = l.end
	} else {
		ctx, s.cancel = context.WithCancelCause(ctx)
	}
	if x.res.Verdict == authsome.Inject {
		s.provider, s.connection, s.generation = x.res.Provider, x.res.Connection, x.res.Generation
	}
	x.c.tunnel.begin(s)
	x.end = func() {
		x.c.tunnel.end(s)
		if ctx != x.r.Context() {
			s.cancel(nil)
		}
	}
	// A pass of Reconsider between Resolve and begin has not seen the stream.
	if x.p.registry.epoch.Load() != epoch && !x.p.cfg.Resolver.Current(s.grant, s.provider, s.connection, s.generation) {
		s.cancel(errReconsidered)
	}
	x.left = x.left || x.res.Verdict == authsome.Inject
	answer, err := x.send(ctx, header)
	if err == nil && !validStatus(answer.StatusCode) {
		_ = answer.Body.Close()
		err = errAnswer
	}
	if err != nil {
		return nil, x.failure(ctx, err)
	}
	return answer, nil
}

// stop ends the attempt under way.
func (x *exchange) stop() {
	if x.end != nil {
		x.end()
		x.end = nil
	}
}

// failure says why no answer came. It does not return when nobody is there to
// be told.
func (x *exchange) failure(ctx context.Context, err error) *problem {
	if causeOf(ctx) == errReconsidered {
		return &problem{
			Code: denied, Provider: x.res.Provider, Host: x.host,
			Message: "the run or the login ended while the request was under way; send it again",
		}
	}
	if prob := x.broken.Load(); prob != nil {
		prob.Provider, prob.Host = x.res.Provider, x.host
		return prob
	}
	_, bodyErr := x.body.state()
	if x.r.ProtoMajor == 1 && x.r.Context().Err() == nil && malformedBody(bodyErr) {
		return errChunks()
	}
	if x.r.Context().Err() != nil || bodyErr != nil {
		x.out.Err = "the client went away"
		panic(http.ErrAbortHandler)
	}
	prob := x.p.upstreamProblem(err, x.host, x.port)
	x.certificateProblem(prob, err)
	if prob.Provider = x.res.Provider; prob.Code == privateAddress {
		prob.Fix = "authsome login " + x.res.Provider + " --connection " + x.res.Connection + " --force --allow-private"
	}
	x.p.log.Info("no answer from upstream", "host", x.host, "code", prob.Code, "cause", prob.Cause)
	return prob
}

// challenged asks the broker again after a 401, and sends the request with a
// credential when it can be sent again. The answer at hand is passed on when it
// cannot; the broker has remembered, so that the next one carries it.
func (x *exchange) challenged(answer *http.Response) (*http.Response, *problem) {
	again := *x.req
	again.Challenged = true
	epoch := x.p.registry.epoch.Load()
	res, err := x.p.cfg.Resolver.Resolve(x.r.Context(), x.grant, &again)
	if err != nil {
		discard(answer)
		return nil, fromBroker(err)
	}
	x.req, x.res = &again, res
	x.body.reserve(res)
	switch {
	case res.Verdict != authsome.Inject:
		return answer, nil
	case !x.body.replayable():
		x.out.Err = "not sent again: its body could not be repeated"
		return answer, nil
	}
	discard(answer)
	x.stop()
	return x.attempt(epoch)
}

// rejected asks the broker for a newer token after a 401, and sends the request
// with it when it can be sent again. The answer at hand is passed on when there
// is none, since the 401 then means something else, or when the body is gone; the
// token is new for the next request all the same.
func (x *exchange) rejected(answer *http.Response) (*http.Response, *problem) {
	again := *x.req
	again.Rejected = x.res.Version
	epoch := x.p.registry.epoch.Load()
	res, err := x.p.cfg.Resolver.Resolve(x.r.Context(), x.grant, &again)
	if err != nil {
		discard(answer)
		return nil, fromBroker(err)
	}
	switch {
	case res.Verdict != authsome.Inject, res.Connection == x.res.Connection && res.Version == x.res.Version:
		return answer, nil
	case !x.body.replayable():
		x.out.Err = "not sent again with a new token: its body could not be repeated"
		return answer, nil
	}
	x.req, x.res = &again, res
	x.body.reserve(res)
	discard(answer)
	x.stop()
	return x.attempt(epoch)
}

// discard reads a short rest, so that the connection can be used again.
func discard(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	_ = res.Body.Close()
}

// send makes the upstream request and waits for the header of its answer.
func (x *exchange) send(ctx context.Context, header http.Header) (*http.Response, error) {
	in := &interim{w: x.w, scrub: x.scrub, old: !x.r.ProtoAtLeast(1, 1)}
	if x.r.ProtoMajor > 1 {
		in.unread = x.body
	}
	defer in.close(&x.out)
	at := x.p.poolFor(x.grant, x.res)
	where := joinAuthority(x.host, x.port, 443)
	over := func(t *http.Transport, l *links) (*http.Response, error) {
		req := x.request(header)
		if x.body == nil {
			req.Body = http.NoBody
			if l != nil && l.takes(req) {
				return l.send(ctx, x.addr(), req, in.pass)
			}
		} else {
			var err error
			if req.Body, req.ContentLength, err = x.content(); err != nil {
				return nil, err
			}
			req.Trailer = x.body.trailer
		}
		return t.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: in.pass})))
	}
	if x.scheme == "http" {
		return x.sendPlain(func() (*http.Response, error) { return over(at.cleartext(), nil) })
	}
	if x.upgrade == "" && x.p.h2only.has(where) || isGRPC(x.r.Header) {
		res, err := over(at.http2(), nil)
		if !errors.Is(err, errNoHTTP2) || isGRPC(x.r.Header) {
			return res, err
		}
		x.p.h2only.set(where, false) // it has changed its mind
	}
	l := at.http1()
	res, err := over(l.transport, l)
	if errors.Is(err, errOnlyHTTP2) && x.upgrade == "" {
		// Nothing was sent: the refusal came in the handshake.
		second, err2 := over(at.http2(), nil)
		if err2 == nil {
			x.p.h2only.set(where, true)
		}
		return second, err2
	}
	return res, err
}

// isGRPC reports whether a request needs HTTP/2 (and trailers) to work at all.
// grpc-web, whose type begins alike, does not.
func isGRPC(h http.Header) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(h.Get("Content-Type")), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// addr is "host:port" of the service.
func (x *exchange) addr() string {
	if x.c.addr != "" {
		return x.c.addr // of the tunnel
	}
	return net.JoinHostPort(x.host, strconv.Itoa(x.port))
}

// request builds the upstream request.
func (x *exchange) request(header http.Header) *http.Request {
	usual := 443
	if x.scheme == "http" {
		usual = 80
	}
	host := joinAuthority(x.host, x.port, usual)
	u := &url.URL{Scheme: x.scheme, Host: host, RawQuery: x.sent.query, ForceQuery: x.sent.asked && x.sent.query == ""}
	// Opaque is put on the wire as it is, where Path would be escaped by
	// net/url's own idea. Two leading slashes would mean an authority there.
	if strings.HasPrefix(x.sent.path, "//") || x.viaProxy(host) {
		u.Opaque = "//" + host + x.sent.path
	} else {
		u.Opaque = x.sent.path
	}
	return &http.Request{
		Method: x.r.Method, URL: u, Host: host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// finish tells the broker how it ended, once.
func (x *exchange) finish() {
	if x.res == nil {
		return
	}
	if sent, _ := x.body.state(); x.out.Sent == 0 {
		x.out.Sent = sent
	}
	if x.report != nil {
		x.out.Scrubbed += x.report.Hits().Total()
		x.out.Unseen = x.report.Unseen
	}
	x.out.Duration = time.Since(x.started)
	res := x.res
	if x.refused && !x.left {
		res = nil
	}
	x.p.cfg.Resolver.Finish(x.grant, x.req, res, x.out)
}
