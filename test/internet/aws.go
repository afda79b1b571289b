package internet

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/authsome/authsome/sigv4/sigv4test"
)

// The hosts of AWS in this internet.
const (
	AWSRegion    = "eu-west-1"
	AWSBucket    = "canary-bucket"
	S3Host       = "s3.eu-west-1.amazonaws.com"
	BucketHost   = "canary-bucket.s3.eu-west-1.amazonaws.com"
	GlobalHost   = "canary-bucket.s3.amazonaws.com" // which leaves the region open
	STSHost      = "sts.eu-west-1.amazonaws.com"
	IAMHost      = "iam.amazonaws.com"
	DynamoDBHost = "dynamodb.eu-west-1.amazonaws.com"
	BedrockHost  = "bedrock-runtime.eu-west-1.amazonaws.com"
)

// AWS is a small AWS: S3, STS, IAM, DynamoDB and Bedrock, which take requests
// whose signatures are right. One whose signature is wrong is quoted in the
// answer, as AWS does it.
type AWS struct {
	keys map[string]sigv4test.Keys // by access key id

	mu      sync.Mutex
	objects map[string][]byte
	parts   map[string]map[int][]byte // by upload
	items   map[string]json.RawMessage
	seen    []sigv4test.Verified
	refused []string
}

// AddAWS adds AWS, with the keys that it knows.
func (n *Internet) AddAWS(keys map[string]sigv4test.Keys) *AWS {
	a := &AWS{
		keys: keys, objects: map[string][]byte{"public/hello.txt": []byte("hello, everybody\n")},
		parts: map[string]map[int][]byte{}, items: map[string]json.RawMessage{},
	}
	for _, s := range []struct {
		host, service string
		answer        func(http.ResponseWriter, *http.Request, *sigv4test.Verified)
	}{
		{S3Host, "s3", a.s3},
		{BucketHost, "s3", a.s3},
		{GlobalHost, "s3", a.s3},
		{STSHost, "sts", a.sts},
		{IAMHost, "iam", a.iam},
		{DynamoDBHost, "dynamodb", a.dynamoDB},
		{BedrockHost, "bedrock", a.bedrock},
	} {
		n.Handle(s.host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if v := a.verify(w, r, s.service); v != nil {
				s.answer(w, r, v)
			}
		}))
	}
	return a
}

// Seen are the requests whose signatures were right, Refused why others were not.
func (a *AWS) Seen() []sigv4test.Verified {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen)
}

// Refused says why requests were refused.
func (a *AWS) Refused() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.refused)
}

// Object is what is stored under a key.
func (a *AWS) Object(key string) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.objects[key]
}

// verify checks the signature. What anybody may read needs none.
func (a *AWS) verify(w http.ResponseWriter, r *http.Request, service string) *sigv4test.Verified {
	signed := r.Header.Get("Authorization") != "" || strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
	if !signed && service == "s3" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.HasPrefix(key(r), "public/") {
		return &sigv4test.Verified{}
	}
	v, err := sigv4test.Verify(r, func(id string) (sigv4test.Keys, bool) { k, ok := a.keys[id]; return k, ok }, time.Now())
	switch {
	case err != nil:
	case v.Service != service:
		err = fmt.Errorf("SignatureDoesNotMatch: the credential is for %s", v.Service)
	case v.Region != AWSRegion && service != "iam":
		err = fmt.Errorf("AuthorizationHeaderMalformed: the region is %s", v.Region)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.refused = append(a.refused, r.Method+" "+r.Host+r.URL.Path+": "+err.Error())
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "<Error><Code>SignatureDoesNotMatch</Code><Message>%s</Message><Sent>%s %s</Sent></Error>",
			escaped(err.Error()), escaped(r.Header.Get("Authorization")), escaped(r.URL.RawQuery))
		return nil
	}
	a.seen = append(a.seen, *v)
	return v
}

func escaped(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// key is the object that a request is about.
func key(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if r.Host == S3Host {
		path = strings.TrimPrefix(strings.TrimPrefix(path, AWSBucket), "/")
	}
	return path
}

func (a *AWS) s3(w http.ResponseWriter, r *http.Request, v *sigv4test.Verified) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name, q := key(r), r.URL.Query()
	etag := func(b []byte) string { sum := md5.Sum(b); return `"` + hex.EncodeToString(sum[:]) + `"` }
	if sent := v.Trailers["x-amz-checksum-crc32"]; sent != "" && sent != checksum(v.Body) {
		http.Error(w, "<Error><Code>BadDigest</Code></Error>", http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Amz-Request-Id", "canary")
	switch upload := q.Get("uploadId"); {
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := strconv.Itoa(len(a.parts) + 1)
		a.parts[id] = map[int][]byte{}
		_, _ = fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>", AWSBucket, escaped(name), id)
	case r.Method == http.MethodPut && upload != "":
		n, _ := strconv.Atoi(q.Get("partNumber"))
		if a.parts[upload] == nil || n < 1 {
			http.Error(w, "<Error><Code>NoSuchUpload</Code></Error>", http.StatusNotFound)
			return
		}
		a.parts[upload][n] = v.Body
		w.Header().Set("ETag", etag(v.Body))
	case r.Method == http.MethodPost && upload != "":
		var whole []byte
		for n := 1; a.parts[upload][n] != nil; n++ {
			whole = append(whole, a.parts[upload][n]...)
		}
		a.objects[name] = whole
		_, _ = fmt.Fprintf(w, "<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><ETag>%s</ETag></CompleteMultipartUploadResult>", AWSBucket, escaped(name), escaped(etag(whole)))
	case r.Method == http.MethodPut:
		a.objects[name] = v.Body
		w.Header().Set("ETag", etag(v.Body))
	case name == "" && r.Method == http.MethodGet:
		_, _ = fmt.Fprintf(w, `<ListBucketResult><Name>%s</Name><KeyCount>%d</KeyCount><IsTruncated>false</IsTruncated>`, AWSBucket, len(a.objects))
		for k, b := range a.objects {
			if strings.HasPrefix(k, q.Get("prefix")) {
				_, _ = fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>", escaped(k), len(b))
			}
		}
		_, _ = io.WriteString(w, "</ListBucketResult>")
	case r.Method == http.MethodDelete:
		delete(a.objects, name)
		w.WriteHeader(http.StatusNoContent)
	default:
		b, ok := a.objects[name]
		if !ok {
			http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", etag(b))
		w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

func checksum(b []byte) string {
	n := crc32.ChecksumIEEE(b)
	return base64.StdEncoding.EncodeToString([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (a *AWS) sts(w http.ResponseWriter, _ *http.Request, v *sigv4test.Verified) {
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/%s</Arn><UserId>%s</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, v.AccessKey, v.AccessKey)
}

// iam makes an access key for whoever asks; nobody should get as far.
func (a *AWS) iam(w http.ResponseWriter, _ *http.Request, _ *sigv4test.Verified) {
	_, _ = io.WriteString(w, `<CreateAccessKeyResponse><CreateAccessKeyResult><AccessKey><AccessKeyId>AKIAMINTED0000000000</AccessKeyId><SecretAccessKey>minted</SecretAccessKey></AccessKey></CreateAccessKeyResult></CreateAccessKeyResponse>`)
}

// dynamoDB keeps items by the JSON of their key.
func (a *AWS) dynamoDB(w http.ResponseWriter, r *http.Request, v *sigv4test.Verified) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	var in struct{ Item, Key map[string]json.RawMessage }
	if err := json.Unmarshal(v.Body, &in); err != nil {
		http.Error(w, `{"__type":"SerializationException"}`, http.StatusBadRequest)
		return
	}
	switch _, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); action {
	case "PutItem":
		item, _ := json.Marshal(in.Item)
		a.items[string(in.Item["id"])] = item
		_, _ = io.WriteString(w, "{}")
	case "GetItem":
		_, _ = fmt.Fprintf(w, `{"Item":%s}`, a.items[string(in.Key["id"])])
	default:
		http.Error(w, `{"__type":"UnknownOperationException"}`, http.StatusBadRequest)
	}
}

// bedrock answers a model's question.
func (a *AWS) bedrock(w http.ResponseWriter, r *http.Request, v *sigv4test.Verified) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"path":%q,"asked":%d,"completion":"fake internet says hello"}`, r.RequestURI, len(v.Body))
}
