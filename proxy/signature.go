package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/sigv4"
)

// signable is a request as package sigv4 wants to see it.
func (x *exchange) signable(header http.Header, l line) *sigv4.Request {
	return &sigv4.Request{
		Method: x.r.Method, Host: x.host, Port: x.port, Path: l.path, Query: l.query, Header: header, Length: x.r.ContentLength,
	}
}

// inspectSignature looks for the signature that the child has put on a request to
// AWS, and for the calls that are denied. What is not signed gets no signature: it
// is for what anybody may have, such as the objects of a public bucket.
func (x *exchange) inspectSignature(in *authsome.Inspection, at authsome.Place, deny []authsome.Denial) {
	r := x.signable(x.r.Header, x.line)
	sig, err := sigv4.Find(r)
	if err != nil && !errors.As(err, &in.Refused) {
		in.Refused = authsome.E(authsome.Internal, "look for the signature: %w", err)
	}
	var body []byte
	if sigv4.NeedsBody(deny, r) || sig != nil && sig.NeedsHash {
		var all bool
		if body, all = x.whole(); all {
			x.sum = sigv4.Hash(body)
		} else {
			body = nil
		}
	}
	in.Denied = sigv4.Denied(deny, r, body)
	if sig == nil {
		return
	}
	f := authsome.Found{Place: at}
	f.Connection, f.Placeholder = authsome.FindPlaceholder(sig.AccessKey)
	in.Found = append(in.Found, f)
}

// whole reads the body before the first attempt, which sends it from there; false
// when it is longer than what is kept.
func (x *exchange) whole() ([]byte, bool) {
	if x.body == nil {
		x.body = newBody(x.r)
	}
	if x.body == nil {
		return nil, true
	}
	if x.r.ContentLength > sigv4.MaxBody {
		return nil, false
	}
	if x.full = x.keepRoom(sigv4.MaxBody); x.full != nil {
		return nil, false
	}
	body, all, err := x.body.peek(sigv4.MaxBody)
	if err != nil {
		panic(http.ErrAbortHandler) // the child has gone
	}
	return body, all
}

// sign makes the signature of a request to AWS again, as the last thing before it
// is sent: over the header, the path and the query that go out.
func (x *exchange) sign(header http.Header) (http.Header, *problem) {
	x.chunks = nil
	if x.res.Sign == nil || x.res.Verdict != authsome.Inject {
		return header, nil
	}
	r := x.signable(header, x.sent)
	sig, err := sigv4.Find(r)
	if err == nil && sig == nil {
		err = errors.New("the signature is gone")
	}
	if err != nil {
		return nil, x.unsignable(err)
	}
	if sig.NeedsHash && x.sum == "" {
		return nil, &problem{
			Code: bodyTooLarge, Host: x.host, Provider: x.res.Provider,
			Message: "the body is longer than 16 MiB, and the request does not say its hash, over which it is signed",
			Fix:     "let the program send x-amz-content-sha256 with the body's hash or UNSIGNED-PAYLOAD, as S3's clients do, or send it in parts",
		}
	}
	signed, err := sig.Sign(r, x.res.Sign, x.sum, time.Now())
	if err != nil {
		return nil, x.unsignable(err)
	}
	x.sent.query, x.sent.asked = signed.Query, x.sent.asked || signed.Query != ""
	x.chunks = signed.Body
	return signed.Header, nil
}

// unsignable answers for a request that cannot be signed.
func (x *exchange) unsignable(err error) *problem {
	prob := fromBroker(err)
	prob.Host, prob.Provider = x.host, x.res.Provider
	return prob
}

// resigned is a body whose chunks are signed on their way.
type resigned struct {
	x   *exchange
	src io.Closer
	io.Reader
}

func (r *resigned) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	var e *authsome.Error
	if errors.As(err, &e) {
		// net/http may say no more of it than that the connection broke.
		r.x.broken.Store(fromBroker(err))
	}
	return n, err
}

func (r *resigned) Close() error { return r.src.Close() }

// hideSignature puts the child's own where an answer quotes the address of a
// presigned request, to redirect it.
func (x *exchange) hideSignature(h http.Header) {
	if x.res.Sign == nil || x.res.Verdict != authsome.Inject {
		return
	}
	ours, err := url.ParseQuery(x.sent.query)
	if err != nil || !ours.Has("X-Amz-Signature") {
		return
	}
	own, _ := url.ParseQuery(x.query)
	var pairs []string
	for _, name := range [...]string{"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"} {
		value, stand := ours.Get(name), own.Get(name)
		if stand == "" {
			stand = authsome.Placeholder
		}
		if value != "" {
			pairs = append(pairs, encodeField(value), encodeField(stand), url.QueryEscape(value), encodeField(stand), value, stand)
		}
	}
	hide := strings.NewReplacer(pairs...)
	for _, name := range returning {
		for i, v := range h[name] {
			h[name][i] = hide.Replace(v)
		}
	}
}
