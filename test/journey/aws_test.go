package journey

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authsome/authsome/sigv4/sigv4test"
	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

// Two accounts at AWS: keys that stay, and those of a session.
const (
	awsKey, awsSecret      = "AKIACANARY0000000001", "canarySecretOne/0123456789+abcdefghijklm"
	awsKey2, awsSecret2    = "ASIACANARY0000000002", "canarySecretTwo/0123456789+abcdefghijklm"
	awsToken               = "canarySessionToken//0123456789+abcdefghijklmnop=="
	awsPlaceholder         = "authsome-proxy-managed"
	awsPlaceholderOfWork   = awsPlaceholder + ".work"
	awsBucketURL           = "s3://" + internet.AWSBucket
	systemPython, systemCL = "/usr/bin/python3", "/usr/bin/aws"
)

// withAWS is a world with both accounts logged in to. The region is the only
// thing that a program is told besides.
func withAWS(t *testing.T) (*harness.World, *internet.AWS) {
	t.Helper()
	w := newWorld(t)
	a := w.Internet.AddAWS(map[string]sigv4test.Keys{awsKey: {Secret: awsSecret}, awsKey2: {Secret: awsSecret2, Token: awsToken}})
	login(t, w, awsKey+"\n"+awsSecret, "aws")
	login(t, w, awsKey2+"\n"+awsSecret2+"\n"+awsToken, "aws", "--connection", "work")
	return w, a
}

// underRun runs a program that must succeed, and never sees a key.
func underRun(t *testing.T, w *harness.World, flags []string, argv ...string) string {
	t.Helper()
	c := w.Command(append(append(append([]string{"run"}, flags...), "--"), argv...)...).Env("AWS_DEFAULT_REGION=" + internet.AWSRegion)
	r := c.Run()
	if r.Code != 0 {
		t.Fatalf("%q: exit code %d\n%s\n%s", argv, r.Code, r.Stdout, r.Stderr)
	}
	lacks(t, r.Stdout+r.Stderr, "canarySecret", "canarySession")
	return r.Stdout
}

// awsTool finds a program of Debian's: another one of the name may be first in
// the PATH.
func awsTool(t *testing.T, path, name string) string {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	return installed(t, name)
}

// TestAWSCLI: the real AWS CLI works with nothing but a login, in either account.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	cli := awsTool(t, systemCL, "aws")
	w, a := withAWS(t)

	contains(t, underRun(t, w, nil, cli, "sts", "get-caller-identity"), "user/"+awsKey)
	contains(t, underRun(t, w, []string{"--connection", "aws=work"}, cli, "sts", "get-caller-identity"), "user/"+awsKey2)
	contains(t, underRun(t, w, nil, "sh", "-c", "AWS_ACCESS_KEY_ID="+awsPlaceholderOfWork+" "+cli+" sts get-caller-identity"), "user/"+awsKey2)

	// 20 MB go in parts, a small file at once, with a name that has to be escaped.
	big := filepath.Join(w.Work(), "big.bin")
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	if err := os.WriteFile(big, content, 0o600); err != nil {
		t.Fatal(err)
	}
	small := "a b/ü+(1)&=.txt"
	underRun(t, w, []string{"--connection", "aws=work"}, cli, "s3", "cp", "--only-show-errors", big, awsBucketURL+"/big.bin")
	underRun(t, w, nil, "sh", "-c", "echo hello | "+cli+" s3 cp - '"+awsBucketURL+"/"+small+"'")
	if !bytes.Equal(a.Object("big.bin"), content) || string(a.Object(small)) != "hello\n" {
		t.Errorf("%d bytes and %q are stored", len(a.Object("big.bin")), a.Object(small))
	}
	contains(t, underRun(t, w, nil, cli, "s3", "ls", awsBucketURL+"/"), "big.bin", "ü+(1)&=.txt")
	underRun(t, w, nil, cli, "s3", "cp", "--only-show-errors", awsBucketURL+"/big.bin", big+".back")
	if back, err := os.ReadFile(big + ".back"); err != nil || !bytes.Equal(back, content) {
		t.Errorf("%d bytes came back: %v", len(back), err)
	}
	contains(t, underRun(t, w, nil, cli, "s3", "cp", awsBucketURL+"/"+small, "-"), "hello")

	// A checksum in the trailer makes the body aws-chunked.
	underRun(t, w, nil, cli, "s3api", "put-object", "--bucket", internet.AWSBucket, "--key", "summed", "--body", big, "--checksum-algorithm", "CRC32")
	if !bytes.Equal(a.Object("summed"), content) {
		t.Errorf("%d bytes are stored", len(a.Object("summed")))
	}
	trailed := false
	for _, v := range a.Seen() {
		trailed = trailed || v.Trailers["x-amz-checksum-crc32"] != ""
	}
	if !trailed {
		t.Error("no body came in chunks")
	}
	// What is public stays anonymous.
	contains(t, underRun(t, w, nil, cli, "s3", "cp", "--no-sign-request", awsBucketURL+"/public/hello.txt", "-"), "hello, everybody")

	// A presigned URL that one program makes, another fetches.
	contains(t, underRun(t, w, nil, "sh", "-c", `curl -fsS "$(`+cli+` s3 presign '`+awsBucketURL+"/"+small+`')"`), "hello")
	if r := a.Refused(); len(r) > 0 {
		t.Errorf("AWS has refused %q", r)
	}

	// Calls that would hand out keys do not get as far.
	for _, argv := range [][]string{
		{cli, "iam", "create-access-key", "--user-name", "x"},
		{cli, "sts", "assume-role", "--role-arn", "arn:aws:iam::123456789012:role/x", "--role-session-name", "canary"},
		{cli, "sts", "get-session-token"},
	} {
		before := len(a.Seen())
		r := w.Command(append([]string{"run", "--"}, argv...)...).Env("AWS_DEFAULT_REGION=" + internet.AWSRegion).Run()
		if r.Code == 0 || len(a.Seen()) != before || strings.Contains(r.Stdout, "minted") {
			t.Errorf("%q: exit code %d\n%s%s", argv, r.Code, r.Stdout, r.Stderr)
		}
	}
	log := must(t, w.Command("log", "--json", "-n", "100000"))
	contains(t, log, "iam:CreateAccessKey", "sts:AssumeRole", "sts:GetSessionToken", internet.BucketHost)
	canaries(t, w, log)
}

// canaries looks for the secrets wherever they do not belong.
func canaries(t *testing.T, w *harness.World, more ...string) {
	t.Helper()
	logged, _ := os.ReadFile(filepath.Join(w.AuthsomeHome(), "daemon.log"))
	for _, text := range append(more, w.Output(), string(logged)) {
		for _, secret := range []string{"canarySecret", "canarySession"} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("a secret is in …%s…", text[max(0, at-200):at])
			}
		}
	}
	for _, r := range w.Internet.Requests("") {
		if strings.Contains(fmt.Sprint(r.Header, r.Path)+string(r.Body), "canarySecret") {
			t.Errorf("the secret key itself arrived at %s", r.Host)
		}
	}
}

const boto3Script = `
import boto3, hashlib, io, json, os, sys, urllib.request
from botocore.config import Config
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

data = os.urandom(1 << 20) * 20
s3 = boto3.client("s3")
s3.upload_fileobj(io.BytesIO(data), "canary-bucket", "dir/twenty MB")
back = s3.get_object(Bucket="canary-bucket", Key="dir/twenty MB")["Body"].read()
assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
s3.put_object(Bucket="canary-bucket", Key="summed", Body=data, ChecksumAlgorithm="CRC32")
print("s3", hashlib.sha256(data).hexdigest())

path = boto3.client("s3", config=Config(s3={"addressing_style": "path", "payload_signing_enabled": True}))
path.put_object(Bucket="canary-bucket", Key="path style/~a*b", Body=b"signed body")
print("path", path.get_object(Bucket="canary-bucket", Key="path style/~a*b")["Body"].read().decode())

old = s3.generate_presigned_url("get_object", Params={"Bucket": "canary-bucket", "Key": "summed"})
if "AWSAccessKeyId=" in old: # version 2, the default of this client still
    try:
        urllib.request.urlopen(old)
    except urllib.error.HTTPError as e:
        assert "s3v4" in json.load(e)["fix"], e
s3v4 = boto3.client("s3", config=Config(signature_version="s3v4"))
url = s3v4.generate_presigned_url("put_object", Params={"Bucket": "canary-bucket", "Key": "presigned", "ContentType": "text/x-canary"}, ExpiresIn=604800)
req = urllib.request.Request(url, data=b"by presigned PUT", method="PUT", headers={"Content-Type": "text/x-canary"})
print("presigned", urllib.request.urlopen(req).status)

ddb = boto3.client("dynamodb")
ddb.put_item(TableName="canary", Item={"id": {"S": "1"}, "text": {"S": "grüße"}})
print("dynamodb", ddb.get_item(TableName="canary", Key={"id": {"S": "1"}})["Item"]["text"]["S"])
print("sts", boto3.client("sts", endpoint_url="https://sts.eu-west-1.amazonaws.com").get_caller_identity()["Arn"])

# As newer SDKs ask Bedrock, whose models' names have colons in them.
body = json.dumps({"prompt": "x" * 100000}).encode()
ask = AWSRequest("POST", "https://bedrock-runtime.eu-west-1.amazonaws.com/model/anthropic.claude-v2%3A1/invoke", data=body, headers={"Content-Type": "application/json"})
SigV4Auth(boto3.Session().get_credentials(), "bedrock", "eu-west-1").add_auth(ask)
p = ask.prepare()
print("bedrock", urllib.request.urlopen(urllib.request.Request(p.url, data=p.body, headers=dict(p.headers), method="POST")).read().decode())

for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
    print("env", name, os.environ.get(name))
try:
    boto3.client("sts", endpoint_url="https://sts.eu-west-1.amazonaws.com").assume_role(RoleArn="arn:aws:iam::123456789012:role/x", RoleSessionName="canary")
except Exception as e:
    print("refused:", e) # which quotes the answer, though it is no XML
`

// TestBoto3: a script of boto3's uploads 20 MB, uses DynamoDB and Bedrock, and
// makes presigned URLs, with placeholders.
func TestBoto3(t *testing.T) {
	t.Parallel()
	python := awsTool(t, systemPython, "python3")
	w, a := withAWS(t)
	script := filepath.Join(w.Work(), "script.py")
	if err := os.WriteFile(script, []byte(boto3Script), 0o600); err != nil {
		t.Fatal(err)
	}
	for connection, key := range map[string]string{"default": awsKey, "work": awsKey2} {
		out := underRun(t, w, []string{"--connection", "aws=" + connection}, python, script)
		sum := sha256.Sum256(a.Object("dir/twenty MB"))
		token := "None"
		if connection == "work" {
			token = awsPlaceholder
		}
		contains(t, out, "s3 "+hex.EncodeToString(sum[:]), "path signed body", "presigned 200", "dynamodb grüße", "user/"+key,
			`"path":"/model/anthropic.claude-v2%3A1/invoke","asked":100014`, "fake internet says hello",
			"env AWS_ACCESS_KEY_ID "+awsPlaceholder, "env AWS_SECRET_ACCESS_KEY "+awsPlaceholder, "env AWS_SESSION_TOKEN "+token,
			`refused: `, `"error":"denied","message":"sts:AssumeRole is denied`, "authsome login aws --connection NAME")
		if string(a.Object("presigned")) != "by presigned PUT" || !bytes.Equal(a.Object("summed"), a.Object("dir/twenty MB")) {
			t.Errorf("%q is stored, and %d bytes", a.Object("presigned"), len(a.Object("summed")))
		}
	}
	if r := a.Refused(); len(r) > 0 {
		t.Errorf("AWS has refused %q", r)
	}
	canaries(t, w, must(t, w.Command("log", "--json", "-n", "100000")))
}
