package sigv4

import (
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

func TestUnsigned(t *testing.T) {
	for _, r := range []*Request{
		{Header: http.Header{}},
		{Header: http.Header{"Authorization": {"Bearer x"}}},
		{Header: http.Header{"Authorization": {"Basic eDp5"}}, Query: "Signature=x"},
		{Header: http.Header{}, Query: "list-type=2&prefix=100%25&bad=%zz;"},
	} {
		r.Method, r.Host, r.Path = "GET", "b.s3.amazonaws.com", "/"
		if s, err := Find(r); s != nil || err != nil {
			t.Errorf("%v %s: %v, %v", r.Header, r.Query, s, err)
		}
	}
}

func TestRefused(t *testing.T) {
	auth := func(v string) *Request {
		return &Request{Method: "GET", Host: "s3.us-east-1.amazonaws.com", Path: "/", Header: http.Header{"Authorization": {v}}}
	}
	query := func(q string) *Request {
		return &Request{Method: "GET", Host: "s3.us-east-1.amazonaws.com", Path: "/", Query: q, Header: http.Header{}}
	}
	good := func() *Request {
		return header("PUT", "s3.us-east-1.amazonaws.com", "/", "s3", "us-east-1")
	}
	with := func(r *Request, name string, values ...string) *Request {
		r.Header[name] = values
		return r
	}
	pre := func(more string) *Request {
		r := presigned("s3.us-east-1.amazonaws.com", "/", "s3", "us-east-1", "20261124T010203Z", "60")
		r.Query += more
		return r
	}
	for _, tt := range []struct {
		name string
		r    *Request
		code authsome.Code
		says string
	}{
		{"SigV4a", auth("AWS4-ECDSA-P256-SHA256 Credential=a/20260101/s3/aws4_request, SignedHeaders=host, Signature=00"), authsome.Invalid, "SigV4a"},
		{"SigV4a's region set", with(good(), "X-Amz-Region-Set", "*"), authsome.Invalid, "SigV4a"},
		{"SigV4a presigned", query("X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Signature=00&X-Amz-Credential=a"), authsome.Invalid, "SigV4a"},
		{"SigV4a's chunks", with(good(), "X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), authsome.Invalid, "SigV4a"},
		{"a multi-region access point", header("GET", "x.accesspoint.s3-global.amazonaws.com", "/", "s3", "us-east-1"), authsome.Invalid, "SigV4a"},
		{"SigV2", auth("AWS AKID:c2ln"), authsome.Invalid, "version 2"},
		{"SigV2 presigned", query("AWSAccessKeyId=A&Expires=1&Signature=x"), authsome.Invalid, "version 2"},
		{"SigV2 of the Query protocol", query("Action=X&SignatureVersion=2&Signature=x"), authsome.Invalid, "version 2"},
		{"SigV3", auth("AWS3-HTTPS AWSAccessKeyId=A"), authsome.Invalid, "version 2 or 3"},
		{"another algorithm", auth("AWS4-X509-RSA-SHA256 Credential=1/2/3/4/aws4_request"), authsome.Invalid, "not supported"},
		{"events", with(good(), "X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-EVENTS"), authsome.Invalid, "events"},
		{"no such payload", with(good(), "X-Amz-Content-Sha256", "x"), authsome.Invalid, "x-amz-content-sha256"},
		{"two payloads", with(good(), "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", emptyHash), authsome.Invalid, "two"},
		{"presigned chunks", with(pre(""), "X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), authsome.Invalid, "chunks"},
		{"signed twice", with(pre(""), "Authorization", good().Header.Get("Authorization")), authsome.Invalid, "twice"},
		{"two headers", with(good(), "Authorization", good().Header.Get("Authorization"), "Bearer x"), authsome.Invalid, "two"},
		{"two headers, the other order", with(good(), "Authorization", "Bearer x", good().Header.Get("Authorization")), authsome.Invalid, "two"},
		{"two parameters", pre("&x%2Damz-date=1"), authsome.Invalid, "twice"},
		{"no parts", auth("AWS4-HMAC-SHA256 x"), authsome.Invalid, "malformed"},
		{"no credential", auth("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=00"), authsome.Invalid, "malformed"},
		{"a line break in the region", auth("AWS4-HMAC-SHA256 Credential=a/1/us\n/s3/aws4_request, SignedHeaders=host, Signature=00"), authsome.Invalid, "malformed"},
		{"no headers", auth("AWS4-HMAC-SHA256 Credential=a/1/us-east-1/s3/aws4_request, SignedHeaders=, Signature=00"), authsome.Invalid, "no headers"},
		{"no signature", auth("AWS4-HMAC-SHA256 Credential=a/1/us-east-1/s3/aws4_request, SignedHeaders=host, Signature="), authsome.Invalid, "malformed"},
		{"eight days", presigned("s3.us-east-1.amazonaws.com", "/", "s3", "us-east-1", "20261124T010203Z", "691200"), authsome.Invalid, "seconds"},
		{"no time", presigned("s3.us-east-1.amazonaws.com", "/", "s3", "us-east-1", "20261124", "60"), authsome.Invalid, "date"},
		{"a broken query", header("GET", "s3.us-east-1.amazonaws.com", "/?a=%zz", "s3", "us-east-1"), authsome.Invalid, "escape"},
		{"a semicolon", header("GET", "s3.us-east-1.amazonaws.com", "/?a=1;b=2", "s3", "us-east-1"), authsome.Invalid, "semicolon"},
		{"a broken presigned query", pre("&a=%zz"), authsome.Invalid, "escape"},
		{"another service", header("GET", "s3.us-east-1.amazonaws.com", "/", "iam", "us-east-1"), authsome.Forbidden, "service iam"},
		{"another region", header("GET", "s3.us-east-1.amazonaws.com", "/", "s3", "eu-west-1"), authsome.Forbidden, "region eu-west-1"},
		{"another service, presigned", presigned("s3.us-east-1.amazonaws.com", "/", "sts", "us-east-1", "20261124T010203Z", "60"), authsome.Forbidden, "service sts"},
		{"a global service elsewhere", header("GET", "iam.amazonaws.com", "/", "iam", "eu-west-1"), authsome.Forbidden, "region"},
		{"a customer's machine", header("GET", "x.us-east-1.elb.amazonaws.com", "/", "elb", "us-east-1"), authsome.Forbidden, "no service"},
		{"a bucket that is called like a service", header("GET", "iam.s3.us-east-1.amazonaws.com", "/", "iam", "us-east-1"), authsome.Forbidden, "service iam"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Find(tt.r)
			if s != nil || authsome.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, %v; want %s with %q", s, err, tt.code, tt.says)
			}
			if authsome.HintOf(err) == "" {
				t.Error("nothing says what to do")
			}
		})
	}
}
