package sigv4

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/sigv4/sigv4test"
)

func keysOf(id, secret, token string) *authsome.SigV4 {
	return &authsome.SigV4{
		AccessKeyID: authsome.NewSecret(id), SecretAccessKey: authsome.NewSecret(secret), SessionToken: authsome.NewSecret(token),
	}
}

// received is the request as the service gets it.
func received(t testing.TB, r *Request, s *Signed, body []byte) *http.Request {
	t.Helper()
	target := r.Path
	if s.Query != "" {
		target += "?" + s.Query
	}
	in := io.Reader(bytes.NewReader(body))
	if s.Body != nil {
		in = s.Body(in)
	}
	req := httptest.NewRequest(r.Method, "https://"+r.Host+"/", in)
	req.RequestURI, req.Header, req.ContentLength = target, s.Header, r.Length
	return req
}

// resign signs again what a program has signed, and has the service check it.
func resign(t testing.TB, r *Request, body []byte, keys *authsome.SigV4, now time.Time) (*Signed, *sigv4test.Verified) {
	t.Helper()
	sig, err := Find(r)
	if err != nil || sig == nil {
		t.Fatalf("find: %v, %v", sig, err)
	}
	sum := ""
	if sig.NeedsHash {
		sum = Hash(body)
	}
	s, err := sig.Sign(r, keys, sum, now)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	v, err := sigv4test.Verify(received(t, r, s, body), func(id string) (sigv4test.Keys, bool) {
		return sigv4test.Keys{Secret: keys.SecretAccessKey.Reveal(), Token: keys.SessionToken.Reveal()}, id == keys.AccessKeyID.Reveal()
	}, now)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.Host+r.Path, err)
	}
	return s, v
}

// The keys of AWS's examples.
const (
	suiteID, suiteSecret = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	docsID, docsSecret   = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// TestSuite makes the signatures of AWS's Signature Version 4 test suite, whose
// service and region are made up.
func TestSuite(t *testing.T) {
	const token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
	now := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, method, target, headers, body, token string
		want                                       string
	}{
		{"get-vanilla", "GET", "/", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-vanilla-with-session-token", "GET", "/", "", "", token, "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"},
		{"get-vanilla-utf8-query", "GET", "/?%E1%88%B4=bar", "", "", "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
		{"get-vanilla-query-order-encoded", "GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "", "", "", "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"},
		{"get-slashes-normalized", "GET", "//example//", "", "", "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"},
		{"get-header-value-trim", "GET", "/", "My-Header1: value1\nMy-Header2: \"a   b   c\"", "", "", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
		{"get-header-value-order", "GET", "/", "My-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2", "", "", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
		{
			"post-x-www-form-urlencoded", "POST", "/",
			"Content-Type:application/x-www-form-urlencoded\nContent-Length:13\nX-Amz-Content-Sha256:9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
			"Param1=value1", "", "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Request{Method: tt.method, Host: "example.amazonaws.com", Header: http.Header{}, Length: int64(len(tt.body))}
			r.Path, r.Query, _ = strings.Cut(tt.target, "?")
			sig := &Signature{Service: "service", Region: "us-east-1", NeedsHash: true}
			for line := range strings.SplitSeq(tt.headers, "\n") {
				if name, value, ok := strings.Cut(line, ":"); ok {
					r.Header.Add(name, value)
					sig.headers = append(sig.headers, http.CanonicalHeaderKey(name))
				}
			}
			s, err := sig.Sign(r, keysOf(suiteID, suiteSecret, tt.token), Hash([]byte(tt.body)), now)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+tt.want) {
				t.Errorf("have %s, want %s", got, tt.want)
			}
			if got := s.Header.Get("X-Amz-Security-Token"); got != tt.token {
				t.Errorf("token %q, want %q", got, tt.token)
			}
		})
	}
	t.Run("query", func(t *testing.T) {
		sig := &Signature{Service: "service", Region: "us-east-1", NeedsHash: true, Presigned: true, date: now, expires: 3600}
		// Of the hour, as much is left as the bound allows.
		s, err := sig.Sign(&Request{Method: "GET", Host: "example.amazonaws.com", Path: "/", Header: http.Header{}},
			keysOf(suiteID, suiteSecret, token), emptyHash, now.Add(45*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if want := "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c"; !strings.HasSuffix(s.Query, "&X-Amz-Signature="+want) {
			t.Errorf("have %s, want %s", s.Query, want)
		}
	})
}

// TestS3Examples makes the signatures of the examples in S3's API reference,
// "Authenticating Requests (AWS Signature Version 4)".
func TestS3Examples(t *testing.T) {
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	const scope = "placeholder/20130101/us-east-1/s3/aws4_request"
	for _, tt := range []struct {
		name, method, target, headers, body string
		want                                string
	}{
		{
			"GET object", "GET", "/test.txt", "Range: bytes=0-9\nX-Amz-Content-Sha256: " + emptyHash, "",
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
		},
		{
			"PUT object", "PUT", "/test$file.text",
			"Date: Fri, 24 May 2013 00:00:00 GMT\nX-Amz-Storage-Class: REDUCED_REDUNDANCY\nX-Amz-Content-Sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072", "Welcome to Amazon S3.",
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
		},
		{
			"GET bucket lifecycle", "GET", "/?lifecycle", "X-Amz-Content-Sha256: " + emptyHash, "",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		},
		{
			"list objects", "GET", "/?max-keys=2&prefix=J", "X-Amz-Content-Sha256: " + emptyHash, "",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Request{Method: tt.method, Host: "examplebucket.s3.amazonaws.com", Header: http.Header{}}
			r.Path, r.Query, _ = strings.Cut(tt.target, "?")
			names := "host"
			for line := range strings.SplitSeq(tt.headers, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				r.Header.Set(name, value)
				names += ";" + strings.ToLower(name)
			}
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+scope+", SignedHeaders="+names+", Signature=0")
			s, _ := resign(t, r, []byte(tt.body), keysOf(docsID, docsSecret, ""), now)
			if got := s.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+tt.want) {
				t.Errorf("have %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("presigned", func(t *testing.T) {
		r := &Request{
			Method: "GET", Host: "examplebucket.s3.amazonaws.com", Path: "/test.txt", Header: http.Header{},
			Query: "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + url.QueryEscape(scope) +
				"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=0",
		}
		s, _ := resign(t, r, nil, keysOf(docsID, docsSecret, ""), now.Add(23*time.Hour+45*time.Minute))
		if want := "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"; !strings.HasSuffix(s.Query, "Signature="+want) {
			t.Errorf("have %s, want %s", s.Query, want)
		}
	})
}

// header makes a request signed in the header, with a placeholder for a key.
func header(method, host, target, service, region string, headers ...string) *Request {
	r := &Request{Method: method, Host: host, Header: http.Header{}}
	r.Path, r.Query, _ = strings.Cut(target, "?")
	names := []string{"host", "x-amz-date"}
	r.Header.Set("X-Amz-Date", "20010203T040506Z") // the program's clock is wrong
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
		names = append(names, strings.ToLower(headers[i]))
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=authsome-proxy-managed/20010203/"+region+"/"+service+
		"/aws4_request, SignedHeaders="+strings.Join(names, ";")+", Signature="+strings.Repeat("0", 64))
	return r
}

var testNow = time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)

func TestSignedHeaders(t *testing.T) {
	keys := keysOf("AKIDTEST", "secret", "")
	r := header("POST", "dynamodb.us-east-1.amazonaws.com", "/", "dynamodb", "us-east-1",
		"Content-Type", "application/x-amz-json-1.0", "X-Amz-Target", "DynamoDB_20120810.ListTables",
		"X-Amz-Security-Token", "the program's own", "User-Agent", "x", "X-Gone", "y")
	body := []byte("{}")
	r.Length = 2
	delete(r.Header, "X-Gone") // as a hop-by-hop header would be
	s, v := resign(t, r, body, keys, testNow)
	if got, want := strings.Join(v.Signed, ";"), "content-type;host;x-amz-date;x-amz-target"; got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
	if s.Header.Get("X-Amz-Security-Token") != "" {
		t.Error("the program's own token was left beside keys that have none")
	}
	if got := s.Header.Get("X-Amz-Date"); got != "20261124T010203Z" {
		t.Errorf("date %s", got)
	}
	if r.Header.Get("X-Amz-Date") != "20010203T040506Z" {
		t.Error("the program's own header was changed")
	}

	// With a token, which is signed, too.
	_, v = resign(t, r, body, keysOf("ASIATEST", "secret", "tok/en+=="), testNow)
	if got, want := strings.Join(v.Signed, ";"), "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"; got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
}

// TestPaths covers what is escaped how, for S3 and for the rest.
func TestPaths(t *testing.T) {
	for _, target := range []string{
		"/", "/a/b", "/a//b", "/a%20b", "/a+b", "/a%2Bb", "/a:b@c,d=e&f$g!h*i(j)k'l", "/a%2Fb", "/%E1%88%B4", "/~tilde-._",
		"/model/anthropic.claude-v2%3A1/invoke", "/?a=b+c&d=%20&e", "/?list-type=2&prefix=a%2Fb&filter%5Bx%5D=1&filterA=2&empty=",
	} {
		resign(t, header("GET", "b.s3.eu-west-1.amazonaws.com", target, "s3", "eu-west-1", "X-Amz-Content-Sha256", emptyHash), nil, keysOf("A", "s", ""), testNow)
		resign(t, header("GET", "x.execute-api.eu-west-1.amazonaws.com", target, "execute-api", "eu-west-1"), nil, keysOf("A", "s", ""), testNow)
	}
}

// presigned makes one with a placeholder for a key.
func presigned(host, path, service, region, date, expires string) *Request {
	q := url.Values{
		"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {"authsome-proxy-managed/" + date[:8] + "/" + region + "/" + service + "/aws4_request"},
		"X-Amz-Date": {date}, "X-Amz-Expires": {expires}, "X-Amz-SignedHeaders": {"host"}, "X-Amz-Signature": {"00"},
	}
	return &Request{Method: "GET", Host: host, Path: path, Query: q.Encode(), Header: http.Header{}}
}

func TestPresigned(t *testing.T) {
	const host = "b.s3.eu-west-1.amazonaws.com"
	value := func(query, name string) string {
		q, err := url.ParseQuery(query)
		if err != nil || len(q[name]) > 1 {
			t.Fatalf("%s: %v", query, err)
		}
		return q.Get(name)
	}
	for _, tt := range []struct{ name, date, expires, want string }{
		{"short ones stay", "20261124T010000Z", "60", ""},
		{"fresh", "20261124T010203Z", "60", "60"},
		{"a week is cut to the quarter of an hour that the clocks may differ", "20261124T010203Z", "604800", "900"},
		{"what is left of an old one, too", "20261123T010203Z", "604800", "87300"},
		{"a clock that is a bit ahead", "20261124T011203Z", "3600", "300"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := presigned(host, "/k", "s3", "eu-west-1", tt.date, tt.expires)
			r.Query += "&X-Amz-Security-Token=own&response-content-type=a%2Fb"
			sig, err := Find(r)
			if err != nil {
				t.Fatal(err)
			}
			s, err := sig.Sign(r, keysOf("A", "s", "t"), "", testNow)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				tt.want = tt.expires
			}
			if got := value(s.Query, "X-Amz-Expires"); got != tt.want {
				t.Errorf("ends after %s, want %s", got, tt.want)
			}
			if value(s.Query, "X-Amz-Date") != tt.date || value(s.Query, "X-Amz-Security-Token") != "t" || value(s.Query, "response-content-type") != "a/b" {
				t.Errorf("query %s", s.Query)
			}
			if len(s.Header) > 0 {
				t.Errorf("a header was added: %v", s.Header)
			}
		})
	}
	r := presigned(host, "/k", "s3", "eu-west-1", "20261124T010203Z", "60")
	r.Query += "&X-Amz-Security-Token=own"
	if s, _ := resign(t, r, nil, keysOf("A", "s", ""), testNow); strings.Contains(s.Query, "Token") {
		t.Error("the program's own token was left beside keys that have none")
	}
	// Elsewhere than at S3 the body is part of it.
	resign(t, presigned("sts.us-east-1.amazonaws.com", "/", "sts", "us-east-1", "20261124T010203Z", "60"), nil, keysOf("A", "s", "t"), testNow)
	// AWS IoT takes the token unsigned.
	r = presigned("data.iot.us-east-1.amazonaws.com", "/mqtt", "iotdevicegateway", "us-east-1", "20261124T010203Z", "60")
	sig, err := Find(r)
	if err != nil {
		t.Fatal(err)
	}
	with, err := sig.Sign(r, keysOf("A", "s", "t"), emptyHash, testNow)
	without, err2 := sig.Sign(r, keysOf("A", "s", ""), emptyHash, testNow)
	if err != nil || err2 != nil || with.Query != without.Query+"&X-Amz-Security-Token=t" {
		t.Errorf("%s, %s", with.Query, without.Query)
	}
	r = presigned(host, "/k", "s3", "eu-west-1", "20261124T013203Z", "60")
	if sig, err = Find(r); err != nil {
		t.Fatal(err)
	}
	if _, err = sig.Sign(r, keysOf("A", "s", "t"), "", testNow); authsome.CodeOf(err) != authsome.Invalid {
		t.Errorf("a date in the future: %v", err)
	}
}
