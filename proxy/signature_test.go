package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
	"github.com/authsome/authsome/sigv4"
	"github.com/authsome/authsome/sigv4/sigv4test"
)

const (
	awsID      = "AKIACANARY0000000001"
	awsSecret  = "canary/Secret+Access+Key/0123456789abcde"
	awsSession = "canary-session-token//+=="
	bucketHost = "bucket.s3.eu-west-1.amazonaws.com"
	stsHost    = "sts.eu-west-1.amazonaws.com"
)

// fakeAWS checks signatures as AWS does, and keeps what arrives.
type fakeAWS struct {
	mu   sync.Mutex
	last *sigv4test.Verified
	hits int
	err  error
	raw  *http.Request
}

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, err := sigv4test.Verify(r, func(id string) (sigv4test.Keys, bool) {
		switch id {
		case awsID:
			return sigv4test.Keys{Secret: awsSecret, Token: awsSession}, true
		case "AKIAWORK":
			return sigv4test.Keys{Secret: "work-secret"}, true
		}
		return sigv4test.Keys{}, false
	}, time.Now())
	f.mu.Lock()
	f.last, f.err, f.raw = v, err, r.Clone(context.Background())
	f.hits++
	f.mu.Unlock()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusForbidden)
	case r.URL.Path == "/moved":
		http.Redirect(w, r, "https://"+bucketHost+"/k?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
	default:
		_, _ = fmt.Fprintf(w, "%s %s %d", v.AccessKey, v.Service, len(v.Body))
	}
}

func (f *fakeAWS) seen() (*sigv4test.Verified, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.hits
}

func newAWS(t *testing.T) (*world, *fakeAWS) {
	t.Helper()
	w := newWorld(t)
	routeAWS(w)
	f := &fakeAWS{}
	w.serve(bucketHost, f.ServeHTTP)
	w.serve(stsHost, f.ServeHTTP)
	return w, f
}

// routeAWS connects two accounts.
func routeAWS(w *world) {
	in := []authsome.Injection{{Slot: authsome.SlotSigV4, When: authsome.Always, Value: "{id}{token}"}}
	deny := []authsome.Denial{{Service: "sts", Except: []string{"GetCallerIdentity"}}}
	w.broker.routes(append(bundled(), route.Entry{Provider: "aws", Route: authsome.Route{Host: "*.amazonaws.com", Inject: in, Deny: deny}})...)
	w.broker.set("aws", &account{secret: awsSecret, fields: map[string]string{"id": awsID, "session": awsSession}, private: true})
	w.broker.set("aws.work", &account{secret: "work-secret", fields: map[string]string{"id": "AKIAWORK"}, private: true})
}

// signedBy signs as a program does that has only placeholders.
func signedBy(t *testing.T, id string, req *http.Request, payload, service string) *http.Request {
	t.Helper()
	keys := aws.Credentials{AccessKeyID: id, SecretAccessKey: authsome.Placeholder, SessionToken: authsome.Placeholder}
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, req, payload, service, "eu-west-1", time.Now().Add(-48*time.Hour),
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" }); err != nil {
		t.Fatal(err)
	}
	return req
}

func request(t *testing.T, method, target string, body io.Reader, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// sent makes the request, and gives the answer's status and body.
func sent(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestSigned: whatever a program signs with placeholders arrives with a signature
// that AWS accepts, over both protocols, in the account that the placeholder names.
func TestSigned(t *testing.T) {
	t.Parallel()
	w, f := newAWS(t)
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		big := bytes.Repeat([]byte("x"), 3<<20)
		for _, tt := range []struct {
			name string
			id   string
			req  *http.Request
			pay  string
			svc  string
			want string
		}{
			{"a hash", authsome.Placeholder, request(t, "PUT", "https://"+bucketHost+"/a%20b//c:d?x-id=PutObject", bytes.NewReader(big), "X-Amz-Content-Sha256", sigv4.Hash(big)), sigv4.Hash(big), "s3", awsID + " s3 3145728"},
			{"no body", authsome.Placeholder, request(t, "GET", "https://"+bucketHost+"/?list-type=2&prefix=a%2Fb", nil, "X-Amz-Content-Sha256", sigv4.Hash(nil)), sigv4.Hash(nil), "s3", awsID + " s3 0"},
			{"an unsigned body", authsome.Placeholder, request(t, "PUT", "https://"+bucketHost+"/k", bytes.NewReader(big), "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), "UNSIGNED-PAYLOAD", "s3", awsID + " s3 3145728"},
			{"a form without its hash", authsome.Placeholder, request(t, "POST", "https://"+stsHost+"/", strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"), "Content-Type", "application/x-www-form-urlencoded"), sigv4.Hash([]byte("Action=GetCallerIdentity&Version=2011-06-15")), "sts", awsID + " sts 43"},
			{"another account", authsome.Placeholder + ".work", request(t, "GET", "https://"+bucketHost+"/k", nil, "X-Amz-Content-Sha256", sigv4.Hash(nil)), sigv4.Hash(nil), "s3", "AKIAWORK s3 0"},
			{"keys of another kind", "AKIAPROGRAMSOWN", request(t, "GET", "https://"+bucketHost+"/k", nil, "X-Amz-Content-Sha256", sigv4.Hash(nil)), sigv4.Hash(nil), "s3", awsID + " s3 0"},
		} {
			res, body := sent(t, c, signedBy(t, tt.id, tt.req, tt.pay, tt.svc))
			if res.StatusCode != 200 || body != tt.want {
				t.Errorf("%s over %s: %d %s, want %s", tt.name, proto, res.StatusCode, body, tt.want)
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if all := fmt.Sprint(f.raw.Header); strings.Contains(all, authsome.Placeholder) {
		t.Errorf("a placeholder arrived: %s", all)
	}
}

// chunkedBody is a body as programs sign it chunk by chunk.
func chunkedBody(data []byte, size int) []byte {
	var b bytes.Buffer
	sig := strings.Repeat("0", 64)
	for len(data) > 0 {
		n := min(size, len(data))
		fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s\r\n", n, sig, data[:n])
		data = data[n:]
	}
	fmt.Fprintf(&b, "0;chunk-signature=%s\r\nx-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:%s\r\n\r\n", sig, sig)
	return b.Bytes()
}

func TestSignedChunks(t *testing.T) {
	t.Parallel()
	w, f := newAWS(t)
	const payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	headers := []string{
		"X-Amz-Content-Sha256", payload, "Content-Encoding", "aws-chunked", "X-Amz-Trailer", "x-amz-checksum-crc32",
		"X-Amz-Decoded-Content-Length", "1000000",
	}
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		data := bytes.Repeat([]byte("0123456789"), 100_000)
		req := signedBy(t, authsome.Placeholder, request(t, "PUT", "https://"+bucketHost+"/k", bytes.NewReader(chunkedBody(data, 64<<10)), headers...), payload, "s3")
		res, body := sent(t, c, req)
		v, _ := f.seen()
		if res.StatusCode != 200 || !bytes.Equal(v.Body, data) || v.Chunks != 17 || v.Trailers["x-amz-checksum-crc32"] != "AAAAAA==" {
			t.Errorf("%s: %d %s", proto, res.StatusCode, body)
		}
		// What is no chunk is refused, and the service gets no whole body.
		broken := append(chunkedBody(data, 64<<10)[:200_000], "and then something else"...)
		req = signedBy(t, authsome.Placeholder, request(t, "PUT", "https://"+bucketHost+"/k", bytes.NewReader(broken), headers...), payload, "s3")
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		problem(t, res, 400, "bad_request")
	}
}

func TestPresigned(t *testing.T) {
	t.Parallel()
	w, f := newAWS(t)
	c := w.client(http1)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	presigned := func(method, path string) *http.Request {
		req := request(t, method, "https://"+bucketHost+path+"?X-Amz-Expires=3600", nil)
		keys := aws.Credentials{AccessKeyID: authsome.Placeholder, SecretAccessKey: authsome.Placeholder, SessionToken: authsome.Placeholder}
		target, _, err := v4.NewSigner().PresignHTTP(context.Background(), keys, req, "UNSIGNED-PAYLOAD", "s3", "eu-west-1", time.Now(),
			func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader
		if method == "PUT" {
			body = strings.NewReader("hello")
		}
		return request(t, method, target, body)
	}
	res, body := sent(t, c, presigned("PUT", "/a%20b"))
	if v, _ := f.seen(); res.StatusCode != 200 || !v.Presigned || string(v.Body) != "hello" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	// Where the answer redirects, it quotes the address that the program asked for.
	res, body = sent(t, c, presigned("GET", "/moved"))
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != 307 {
		t.Fatalf("%d %s: %v", res.StatusCode, body, err)
	}
	q := to.Query()
	if !strings.HasPrefix(q.Get("X-Amz-Credential"), authsome.Placeholder+"/") || q.Get("X-Amz-Security-Token") != authsome.Placeholder || q.Get("X-Amz-Signature") == "" {
		t.Errorf("the program is redirected to %s", to)
	}
	f.mu.Lock()
	real := f.raw.URL.Query().Get("X-Amz-Signature")
	f.mu.Unlock()
	if q.Get("X-Amz-Signature") == real {
		t.Error("the program is given the signature")
	}
	// It goes there, and that is signed again, too.
	if res, body := sent(t, c, request(t, "GET", to.String(), nil)); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestUnsignedPasses: what is public stays so.
func TestUnsignedPasses(t *testing.T) {
	t.Parallel()
	w, f := newAWS(t)
	res, body := sent(t, w.client(http1), request(t, "GET", "https://"+bucketHost+"/public", nil))
	if res.StatusCode != 403 || !strings.Contains(body, "not signed") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.raw.Header["Authorization"]) > 0 || strings.Contains(f.raw.URL.RawQuery, "Amz") {
		t.Error("a request was signed that the program had not signed")
	}
}

// blank is a body of zeros, of unknown length to net/http.
type blank struct{ left int }

func (z *blank) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	clear(p[:n])
	z.left -= n
	return n, nil
}

func TestSignedRefusals(t *testing.T) {
	t.Parallel()
	w, f := newAWS(t)
	c := w.client(http1)
	c.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
	form := func(body string) *http.Request {
		return signedBy(t, authsome.Placeholder, request(t, "POST", "https://"+stsHost+"/", strings.NewReader(body), "Content-Type", "application/x-www-form-urlencoded"), sigv4.Hash([]byte(body)), "sts")
	}
	long := func(n int, known bool) *http.Request {
		req := request(t, "POST", "https://"+bucketHost+"/k", &blank{n})
		if known { // and not sent unless the proxy wants it
			req.ContentLength = int64(n)
			req.Header.Set("Expect", "100-continue")
		}
		return signedBy(t, authsome.Placeholder, req, "ignored", "s3")
	}
	elsewhere := signedBy(t, authsome.Placeholder, request(t, "GET", "https://"+bucketHost+"/k", nil), sigv4.Hash(nil), "iam")
	asymmetric := request(t, "GET", "https://"+bucketHost+"/k", nil, "Authorization", "AWS4-ECDSA-P256-SHA256 Credential=x/20260101/s3/aws4_request, SignedHeaders=host, Signature=00")
	for _, tt := range []struct {
		name   string
		req    *http.Request
		status int
		code   string
		says   string
	}{
		{"a call for credentials", form("Action=AssumeRole&RoleArn=x"), 403, "denied", "sts:AssumeRole"},
		{"a body without a hash that is too long", long(sigv4.MaxBody+1, true), 413, "body_too_large", "16 MiB"},
		{"one of unknown length", long(sigv4.MaxBody+1, false), 413, "body_too_large", "16 MiB"},
		{"another service", elsewhere, 403, "denied", "service iam"},
		{"SigV4a", asymmetric, 400, "bad_request", "SigV4a"},
	} {
		_, before := f.seen()
		res, err := c.Do(tt.req)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := problem(t, res, tt.status, tt.code)
		if !strings.Contains(fmt.Sprint(got["message"]), tt.says) || got["fix"] == nil {
			t.Errorf("%s: %v", tt.name, got)
		}
		if _, after := f.seen(); after != before {
			t.Errorf("%s: something was sent", tt.name)
		}
	}
	// Up to the limit it is hashed.
	res, body := sent(t, c, long(sigv4.MaxBody, true))
	if want := fmt.Sprintf("%s s3 %d", awsID, sigv4.MaxBody); res.StatusCode != 200 || body != want {
		t.Errorf("%d %s, want %s", res.StatusCode, body, want)
	}
}
