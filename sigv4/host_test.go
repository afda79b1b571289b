package sigv4

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestEndpoints holds Lookup to what botocore makes of every service.
func TestEndpoints(t *testing.T) {
	f, err := os.Open("testdata/endpoints.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		n++
		words := strings.Fields(lines.Text())
		host, service, at := words[0], words[1], words[2]
		e, ok := Lookup(host)
		if !ok || !slices.Contains(e.Services, service) {
			t.Errorf("%s: services %q, want %s", host, e.Services, service)
		}
		if e.Region != "" && e.Region != at {
			t.Errorf("%s: region %q, want %s", host, e.Region, at)
		}
	}
	if n < 500 {
		t.Errorf("only %d endpoints", n)
	}
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct{ host, services, region string }{
		{"bedrock-runtime.us-east-1.amazonaws.com", "bedrock", "us-east-1"},
		{"bedrock-runtime-fips.us-east-1.amazonaws.com", "bedrock", "us-east-1"},
		{"s3.eu-west-1.amazonaws.com", "s3", "eu-west-1"},
		{"s3.dualstack.eu-west-1.amazonaws.com", "s3", "eu-west-1"},
		{"s3-fips.dualstack.us-gov-west-1.amazonaws.com", "s3", "us-gov-west-1"},
		{"s3.cn-north-1.amazonaws.com.cn", "s3", "cn-north-1"},
		// The region of a bucket is open where the host has none.
		{"s3.amazonaws.com", "s3", ""},
		{"bucket.s3.amazonaws.com", "s3", ""},
		{"a.bucket.with.dots.s3.amazonaws.com", "s3", ""},
		{"bucket.s3-accelerate.amazonaws.com", "s3", ""},
		{"bucket.s3-accelerate.dualstack.amazonaws.com", "s3", ""},
		// What customers choose decides nothing.
		{"iam.s3.us-west-2.amazonaws.com", "s3", "us-west-2"},
		{"us-east-1.s3.amazonaws.com", "s3", ""},
		{"sts.us-east-1.s3.eu-west-1.amazonaws.com", "s3", "eu-west-1"},
		{"iam.execute-api.us-east-1.amazonaws.com", "execute-api", "us-east-1"},
		{"my-bucket.s3.us-east-2.amazonaws.com", "s3", "us-east-2"},
		{"my-bucket.s3-eu-west-1.amazonaws.com", "s3", "eu-west-1"},
		{"s3-us-west-2.amazonaws.com", "s3", "us-west-2"},
		{"s3-external-1.amazonaws.com", "s3", "us-east-1"},
		{"ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com", "s3", "eu-west-1"},
		{"ap-123456789012.s3-object-lambda.eu-west-1.amazonaws.com", "s3-object-lambda", "eu-west-1"},
		{"123456789012.s3-control.us-east-1.amazonaws.com", "s3", "us-east-1"},
		{"b--use1-az5--x-s3.s3express-use1-az5.us-east-1.amazonaws.com", "s3express", "us-east-1"},
		{"b--use1-az5--x-s3.s3express-fips-use1-az5.us-east-1.amazonaws.com", "s3express", "us-east-1"},
		{"b.bucket.vpce-0a1b-c2d3.s3.us-east-1.vpce.amazonaws.com", "s3", "us-east-1"},
		{"vpce-0a1b-c2d3.ec2.us-east-1.vpce.amazonaws.com", "ec2", "us-east-1"},
		{"123456789012.ddb.us-east-1.amazonaws.com", "dynamodb", "us-east-1"},
		{"search-logs-abc.us-east-1.es.amazonaws.com", "es", "us-east-1"},
		{"abc.us-east-1.aoss.amazonaws.com", "aoss", "us-east-1"},
		{"eu-west-1.queue.amazonaws.com", "sqs", "eu-west-1"},
		{"queue.amazonaws.com", "sqs", ""},
		{"api.ecr.us-east-1.amazonaws.com", "ecr", "us-east-1"},
		{"runtime.sagemaker.us-east-1.amazonaws.com", "sagemaker", "us-east-1"},
		{"sts.amazonaws.com", "sts", "us-east-1"},
		{"sts.ap-southeast-5.amazonaws.com", "sts", "ap-southeast-5"},
		{"iam.amazonaws.com", "iam", "us-east-1"},
		{"iam.us-gov.amazonaws.com", "iam", "us-gov-west-1"},
		{"iam.global.api.aws", "iam", ""},
		{"lambda.us-east-1.api.aws", "lambda", "us-east-1"},
		{"sts.eusc-de-east-1.amazonaws.eu", "sts", "eusc-de-east-1"},
		// A service of tomorrow.
		{"quantumleap.us-east-1.amazonaws.com", "quantumleap", "us-east-1"},
		{"api.quantumleap.us-east-1.amazonaws.com", "quantumleap api", "us-east-1"},
	} {
		e, ok := Lookup(tt.host)
		if got := strings.Join(e.Services, " "); !ok || got != tt.services || e.Region != tt.region {
			t.Errorf("%s: %q %q, want %q %q", tt.host, got, e.Region, tt.services, tt.region)
		}
	}
	for _, host := range []string{
		"amazonaws.com", "example.com", "s3.amazonaws.com.evil.example", "evilamazonaws.com", "api.aws",
		"ec2-203-0-113-7.us-west-2.compute.amazonaws.com", "ec2-203-0-113-7.compute-1.amazonaws.com",
		"my-lb-123.us-west-2.elb.amazonaws.com", "db.abc.us-east-1.rds.amazonaws.com",
	} {
		if e, ok := Lookup(host); ok {
			t.Errorf("%s is taken for %v", host, e)
		}
	}
	if e, ok := Lookup("mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"); !ok || e.Unsignable == "" {
		t.Errorf("a multi-region access point: %v", e)
	}
}
