package sigv4

import (
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

func TestDenied(t *testing.T) {
	denials := []authsome.Denial{
		{Service: "sts", Except: []string{"GetCallerIdentity", "DecodeAuthorizationMessage"}},
		{Service: "iam", Actions: []string{"CreateAccessKey"}},
		{Service: "ecr", Actions: []string{"GetAuthorizationToken"}},
		{Service: "codeartifact", Path: "/v1/authorization-token", Name: "GetAuthorizationToken"},
		{Service: "s3", Query: "session", Methods: []string{"GET"}, Name: "CreateSession"},
		{Service: "datazone", Path: "/v2/domains/*/environments/*/credentials", Name: "GetEnvironmentCredentials"},
	}
	const (
		form = "application/x-www-form-urlencoded; charset=utf-8"
		json = "application/x-amz-json-1.1"
		cbor = "application/cbor"
	)
	for _, tt := range []struct {
		name, host, method, target, kind, body, amz string
		want                                        string
	}{
		{"a form", "sts.us-east-1.amazonaws.com", "POST", "/", form, "Action=AssumeRole&Version=2011-06-15", "", "sts:AssumeRole"},
		{"a form without a type", "sts.us-east-1.amazonaws.com", "POST", "/", "", "Version=1&Action=AssumeRole", "", "sts:AssumeRole"},
		{"escaped", "sts.us-east-1.amazonaws.com", "POST", "/", form, "%41ction=Assume%52ole", "", "sts:AssumeRole"},
		{"in small letters", "sts.us-east-1.amazonaws.com", "POST", "/", form, "action=assumerole", "", "sts:assumerole"},
		{"a query", "sts.amazonaws.com", "GET", "/?Action=GetSessionToken", "", "", "", "sts:GetSessionToken"},
		{"of tomorrow", "sts.us-east-1.api.aws", "POST", "/", form, "Action=GetMoreTokens", "", "sts:GetMoreTokens"},
		{"allowed", "sts.us-east-1.amazonaws.com", "POST", "/", form, "Action=GetCallerIdentity&Version=2011-06-15", "", ""},
		{"allowed by GET", "sts.us-east-1.amazonaws.com", "GET", "/?Action=GetCallerIdentity", "", "", "", ""},
		{"allowed, arguments in a form", "sts.us-east-1.amazonaws.com", "POST", "/?Action=GetCallerIdentity", form, "Version=1", "", ""},
		{"JSON", "ecr.us-east-1.amazonaws.com", "POST", "/", json, "{}", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "ecr:GetAuthorizationToken"},
		{"JSON, allowed", "api.ecr.us-east-1.amazonaws.com", "POST", "/", json, "{}", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories", ""},
		{"CBOR", "ecr.us-east-1.amazonaws.com", "POST", "/service/X/operation/GetAuthorizationToken", cbor, "\xa0", "", "ecr:GetAuthorizationToken"},
		{"CBOR, allowed", "ecr.us-east-1.amazonaws.com", "POST", "/service/X/operation/DescribeRepositories", cbor, "\xa0", "", ""},
		{"IAM", "iam.amazonaws.com", "POST", "/", form, "Action=CreateAccessKey&UserName=x", "", "iam:CreateAccessKey"},
		{"IAM, allowed", "iam.amazonaws.com", "POST", "/", form, "Action=ListUsers", "", ""},

		{"no action", "iam.amazonaws.com", "POST", "/", form, "Version=1", "", "?"},
		{"two actions", "iam.amazonaws.com", "POST", "/", form, "Action=ListUsers&Action=CreateAccessKey", "", "?"},
		{"two actions in two places", "iam.amazonaws.com", "POST", "/?Action=ListUsers", form, "Action=CreateAccessKey", "", "?"},
		{"a target and a form", "iam.amazonaws.com", "POST", "/", form, "a=b", "X.ListUsers", "?"},
		{"a target and an action", "iam.amazonaws.com", "POST", "/", form, "Action=CreateAccessKey", "X.ListUsers", "?"},
		{"a form that is called JSON", "iam.amazonaws.com", "POST", "/", json, "Action=CreateAccessKey", "X.ListUsers", "?"},
		{"multipart", "iam.amazonaws.com", "POST", "/?Action=ListUsers", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=Action\r\n\r\nCreateAccessKey", "", "?"},
		{"another charset", "iam.amazonaws.com", "POST", "/?Action=ListUsers", "application/x-www-form-urlencoded; charset=utf-16", "A\x00c\x00", "", "?"},
		{"a broken type", "iam.amazonaws.com", "POST", "/?Action=ListUsers", "application/x-www-form-urlencoded; charset", "Action=CreateAccessKey", "", "?"},
		{"a broken escape", "iam.amazonaws.com", "POST", "/", form, "Action=ListUsers&x=%zz", "", "?"},
		{"a semicolon", "iam.amazonaws.com", "POST", "/", form, "Action=ListUsers;Action=CreateAccessKey", "", "?"},

		{"a path", "codeartifact.us-east-1.amazonaws.com", "POST", "/v1/authorization-token?domain=x", "", "", "", "codeartifact:GetAuthorizationToken"},
		{"a path with slashes", "codeartifact.us-east-1.amazonaws.com", "POST", "//v1//Authorization-Token/", "", "", "", "codeartifact:GetAuthorizationToken"},
		{"a path with an escaped slash", "codeartifact.us-east-1.amazonaws.com", "POST", "/v1%2Fauthorization-token", "", "", "", "codeartifact:GetAuthorizationToken"},
		{"another path", "codeartifact.us-east-1.amazonaws.com", "GET", "/v1/domains", "", "", "", ""},
		{"the same path in a bucket", "codeartifact.s3.us-east-1.amazonaws.com", "PUT", "/v1/authorization-token", "", "x", "", ""},
		{"any segment", "datazone.us-east-1.api.aws", "GET", "/v2/domains/d/environments/e/credentials", "", "", "", "datazone:GetEnvironmentCredentials"},
		{"fewer segments", "datazone.us-east-1.api.aws", "GET", "/v2/domains/d/environments", "", "", "", ""},
		{"a parameter", "b--use1-az5--x-s3.s3.us-east-1.amazonaws.com", "GET", "/?session", "", "", "", "s3:CreateSession"},
		{"an escaped parameter", "b.s3.us-east-1.amazonaws.com", "GET", "/?a=b&%73ession=", "", "", "", "s3:CreateSession"},
		{"another parameter", "b.s3.us-east-1.amazonaws.com", "GET", "/?sessions&a=session", "", "", "", ""},
		{"not AWS", "example.com", "POST", "/", form, "Action=AssumeRole", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Request{Method: tt.method, Host: tt.host, Header: http.Header{}, Length: int64(len(tt.body))}
			r.Path, r.Query, _ = strings.Cut(tt.target, "?")
			if tt.kind != "" {
				r.Header.Set("Content-Type", tt.kind)
			}
			if tt.amz != "" {
				r.Header.Set("X-Amz-Target", tt.amz)
			}
			if tt.body != "" && NeedsBody(denials, r) != (strings.HasPrefix(tt.host, "sts") || strings.HasPrefix(tt.host, "iam") || strings.Contains(tt.host, "ecr")) {
				t.Errorf("NeedsBody is %v", NeedsBody(denials, r))
			}
			got := Denied(denials, r, []byte(tt.body))
			if want := tt.want; want == "?" && !strings.Contains(got, "cannot be told") || want != "?" && got != want {
				t.Errorf("denied as %q, want %q", got, want)
			}
		})
	}
	r := &Request{Method: "POST", Host: "iam.amazonaws.com", Path: "/", Query: "Action=ListUsers", Header: http.Header{"Content-Encoding": {"gzip"}}}
	if Denied(denials, r, []byte("\x1f\x8b")) == "" {
		t.Error("a compressed body was let through unread")
	}
}
