// Package sigv4 signs requests to AWS again. A program in a run has signed them
// with placeholders (AWS Signature Version 4, in the Authorization header or in
// the query), and such a signature cannot be swapped for another like a token: it
// is made over the request as it arrives. So the proxy, once it knows what it will
// forward, finds the program's signature with Find and replaces it with Sign.
//
// The package keeps nothing between requests, reads no clock and does no I/O of
// its own. What AWS wants is described in its user guides "Signature Version 4 for
// API requests" (IAM) and "Authenticating Requests" (S3 API reference); the
// signature itself is made by the signer of AWS's SDK for Go.
package sigv4

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// Limits, in bytes.
const (
	// MaxBody is the longest body that is read to be hashed, where the program has
	// not sent its hash.
	MaxBody = 16 << 20
	// MaxChunk is the longest chunk of an aws-chunked body whose chunks are
	// signed: it is kept until its signature can be made. SDKs make them 64 KB to
	// 1 MB long.
	MaxChunk = 16 << 20
)

// Request is a request as it will be on the wire.
type Request struct {
	Method string
	Host   string      // normalised, without a port
	Port   int         // 0 means 443
	Path   string      // escaped
	Query  string      // raw, without the question mark
	Header http.Header // canonical names, hop-by-hop headers removed; read only
	Length int64       // of the body; 0 when there is none, -1 when it is not known
}

// Signature is what the program has signed a request with.
type Signature struct {
	// AccessKey is the program's access key id: a placeholder, or anything.
	AccessKey string
	// Service and Region are those that the request is to be signed for: what the
	// host says, and what the program said where the host leaves it open.
	Service, Region string
	// Presigned is true when the signature stands in the query.
	Presigned bool
	// NeedsHash is true when Sign wants the hash of the body, which the program
	// has not sent. Such a body is up to MaxBody long.
	NeedsHash bool

	payload string   // what stands for the body in the signature; "" with NeedsHash
	headers []string // canonical names of the headers that were signed
	date    time.Time
	expires int // in seconds; 0 when the program gave none
	rest    []string
}

// What x-amz-content-sha256 may hold beside a hash.
const (
	unsignedPayload   = "UNSIGNED-PAYLOAD"
	unsignedTrailer   = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	signedChunks      = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedChunksTrail = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	signedEvents      = "STREAMING-AWS4-HMAC-SHA256-EVENTS"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	// maxExpires is what AWS allows for a presigned request: seven days.
	maxExpires = 7 * 24 * 60 * 60
	// skew is the difference of clocks that AWS tolerates.
	skew = 15 * time.Minute
)

var (
	hash = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	// A part of a credential scope: a region or a service.
	scopePart = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// refuse makes the error for a request that cannot be signed again.
func refuse(fix, format string, args ...any) error {
	return authsome.E(authsome.Invalid, format, args...).WithHint("%s", fix)
}

const (
	fixVersion4  = "let the program sign with version 4: boto3 and botocore take Config(signature_version=\"s3v4\") for S3, and no setting at all elsewhere"
	fixSymmetric = "let the program sign with version 4, not 4a: AWS_SIGV4A_SIGNING_REGION_SET and the setting sigv4a_signing_region_set unset, auth_scheme_preference=sigv4, and a bucket in place of a multi-region access point"
	fixScope     = "set the region of the program (AWS_REGION) and its endpoint so that they agree"
	fixMalform   = "send the request with an AWS SDK or the AWS CLI, which sign it in the right form"
)

// Find looks for the program's signature. It gives nil for a request that has
// none of AWS's, and an error of code Invalid, with what to do, for one that
// cannot be signed again; of code Forbidden when it was made for another service
// or region than the host's.
func Find(r *Request) (*Signature, error) {
	authorization, inHeader, err := ofHeader(r.Header)
	if err != nil {
		return nil, err
	}
	params, rest, inQuery, err := ofQuery(r.Query)
	if err != nil {
		return nil, err
	}
	if _, ok := r.Header["X-Amz-Region-Set"]; ok || params["x-amz-region-set"] != "" {
		return nil, refuse(fixSymmetric, "the request is signed with SigV4a, which cannot be replaced: its signatures need a key of another kind")
	}
	var s *Signature
	switch {
	case inHeader && inQuery:
		return nil, refuse(fixMalform, "the request is signed twice, in its header and in its query")
	case inHeader:
		s, err = readHeader(r, authorization)
	case inQuery:
		s, err = readQuery(r, params, rest)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	inParam := ""
	if s.Presigned {
		inParam = params["x-amz-content-sha256"]
	}
	if err := s.payloadOf(r, inParam); err != nil {
		return nil, err
	}
	return s, nil
}

// ofHeader finds AWS's Authorization. Other schemes are no business of ours.
func ofHeader(h http.Header) (value string, found bool, err error) {
	for _, v := range h["Authorization"] {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(v), " ")
		switch low := strings.ToLower(scheme); {
		case found:
			return "", false, refuse(fixMalform, "the request has two Authorization headers")
		case low == "aws4-hmac-sha256":
			value, found = rest, true
		case strings.HasPrefix(low, "aws4-ecdsa"):
			return "", false, refuse(fixSymmetric, "the request is signed with SigV4a, which cannot be replaced: its signatures need a key of another kind")
		case low == "aws", low == "aws3", low == "aws3-https":
			return "", false, refuse(fixVersion4, "the request is signed with AWS signature version 2 or 3, which is not supported")
		case strings.HasPrefix(low, "aws4-"):
			return "", false, refuse(fixMalform, "the request is signed by an algorithm that is not supported: only %s is", algorithm)
		}
	}
	if found && len(h["Authorization"]) > 1 {
		return "", false, refuse(fixMalform, "the request has two Authorization headers")
	}
	return value, found, nil
}

// authParams are the parameters of a presigned request.
var authParams = []string{
	"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature",
	"x-amz-security-token", "x-amz-s3session-token",
}

// ofQuery finds a signature in the query: params by their names in small letters,
// and the pairs that are none of them.
func ofQuery(query string) (params map[string]string, rest []string, found bool, err error) {
	// Nearly every request: nothing to see, nothing to decode.
	low := strings.ToLower(query)
	if !strings.Contains(low, "amz") && !strings.Contains(low, "signature") && !strings.Contains(low, "%") {
		return nil, nil, false, nil
	}
	params = map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := unescape(name)
		value, err2 := unescape(value)
		name = strings.ToLower(name)
		ours := slices.Contains(authParams, name)
		if err1 != nil || err2 != nil {
			// Only of importance if the request turns out to be signed, and Sign
			// refuses it then.
			rest = append(rest, pair)
			continue
		}
		switch {
		case ours || name == "x-amz-content-sha256" || name == "x-amz-region-set" || name == "awsaccesskeyid" || name == "signatureversion":
			if _, twice := params[name]; twice {
				return nil, nil, false, refuse(fixMalform, "the query has the parameter %s twice", name)
			}
			params[name] = value
		}
		if !ours && pair != "" {
			rest = append(rest, pair)
		}
	}
	_, algo := params["x-amz-algorithm"]
	_, sig := params["x-amz-signature"]
	_, cred := params["x-amz-credential"]
	_, old := params["awsaccesskeyid"]
	switch {
	case algo || sig || cred:
		switch a := params["x-amz-algorithm"]; {
		case strings.HasPrefix(strings.ToUpper(a), "AWS4-ECDSA"):
			return nil, nil, false, refuse(fixSymmetric, "the request is signed with SigV4a, which cannot be replaced: its signatures need a key of another kind")
		case a != algorithm:
			return nil, nil, false, refuse(fixMalform, "the request is signed by an algorithm that is not supported: only %s is", algorithm)
		}
		return params, rest, true, nil
	case old, params["signatureversion"] != "":
		return nil, nil, false, refuse(fixVersion4, "the request is signed with AWS signature version 2 or 3, which is not supported")
	}
	return params, rest, false, nil
}

// readHeader reads what follows the algorithm in Authorization.
func readHeader(r *Request, value string) (*Signature, error) {
	fields := map[string]string{}
	for part := range strings.SplitSeq(value, ",") {
		name, v, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := fields[name]; twice || !ok {
			return nil, refuse(fixMalform, "the Authorization header is malformed")
		}
		fields[name] = v
	}
	if len(fields) != 3 || fields["Signature"] == "" {
		return nil, refuse(fixMalform, "the Authorization header is malformed")
	}
	s := &Signature{rest: []string{r.Query}}
	if err := checkQuery(r.Query); err != nil {
		return nil, err
	}
	return s, s.scope(r, fields["Credential"], fields["SignedHeaders"])
}

// readQuery reads the parameters of a presigned request.
func readQuery(r *Request, params map[string]string, rest []string) (*Signature, error) {
	s := &Signature{Presigned: true, rest: rest}
	if params["x-amz-signature"] == "" {
		return nil, refuse(fixMalform, "the presigned request has no signature")
	}
	for _, pair := range rest {
		if err := checkQuery(pair); err != nil {
			return nil, err
		}
	}
	var err error
	if s.date, err = time.Parse(timeFormat, params["x-amz-date"]); err != nil {
		return nil, refuse(fixMalform, "the date of the presigned request is malformed")
	}
	if text, ok := params["x-amz-expires"]; ok {
		if s.expires, err = strconv.Atoi(text); err != nil || s.expires < 1 || s.expires > maxExpires {
			return nil, refuse(fixMalform, "the presigned request must end within 1 to %d seconds", maxExpires)
		}
	}
	return s, s.scope(r, params["x-amz-credential"], params["x-amz-signedheaders"])
}

// checkQuery refuses what servers decode in different ways: a signature over one
// reading is none over another.
func checkQuery(query string) error {
	if _, err := unescape(query); err != nil {
		return refuse(fixMalform, "the query has a broken escape or a bare semicolon, over which no signature can be made")
	}
	return nil
}

// scope reads a credential scope and the list of signed headers, and holds the
// scope to the host.
func (s *Signature) scope(r *Request, credential, headers string) error {
	parts := strings.Split(credential, "/")
	n := len(parts) - 4
	if n < 1 || parts[n+3] != terminator || !scopePart.MatchString(parts[n+1]) || !scopePart.MatchString(parts[n+2]) {
		return refuse(fixMalform, "the signature's credential is malformed: it is KEY/DATE/REGION/SERVICE/%s", terminator)
	}
	s.AccessKey = strings.Join(parts[:n], "/")
	at, service := parts[n+1], parts[n+2]

	if headers == "" {
		return refuse(fixMalform, "the signature names no headers")
	}
	for name := range strings.SplitSeq(headers, ";") {
		if name = http.CanonicalHeaderKey(name); !slices.Contains(s.headers, name) {
			s.headers = append(s.headers, name)
		}
	}

	e, ok := Lookup(r.Host)
	switch {
	case !ok:
		return authsome.E(authsome.Forbidden, "%s is no service of AWS, so nothing is signed for it", r.Host).
			WithHint("send the request to the service's own host, or unsigned")
	case e.Unsignable != "":
		return refuse(fixSymmetric, "%s cannot be signed for: %s", r.Host, e.Unsignable)
	case !slices.Contains(e.Services, service):
		return authsome.E(authsome.Forbidden, "the request is signed for the service %s, but %s is %s", service, r.Host, e.Services[0]).
			WithHint("%s", fixScope)
	case e.Region != "" && e.Region != at:
		return authsome.E(authsome.Forbidden, "the request is signed for the region %s, but %s is in %s", at, r.Host, e.Region).
			WithHint("%s", fixScope)
	}
	s.Service, s.Region = service, at
	return nil
}

// payloadOf finds out what stands for the body in the signature.
func (s *Signature) payloadOf(r *Request, inQuery string) error {
	sent := r.Header["X-Amz-Content-Sha256"]
	if len(sent) > 1 {
		return refuse(fixMalform, "the request has two headers x-amz-content-sha256")
	}
	value := inQuery
	if len(sent) == 1 {
		value = sent[0]
	}
	switch {
	case value == "" && s.Presigned && s.asIs():
		s.payload = unsignedPayload // that is how S3 presigns
	case value == "":
		s.NeedsHash = true
	case hash.MatchString(value), value == unsignedPayload, value == unsignedTrailer:
		s.payload = value
	case value == signedChunks || value == signedChunksTrail:
		if s.Presigned {
			return refuse(fixMalform, "a presigned request cannot have a body of signed chunks")
		}
		s.payload = value
	case value == signedEvents:
		return refuse("use the service's operations that take no stream of events, or its WebSocket with a presigned URL",
			"the request's body is a stream of signed events, which cannot be signed again")
	case strings.HasPrefix(value, "STREAMING-AWS4-ECDSA"):
		return refuse(fixSymmetric, "the request is signed with SigV4a, which cannot be replaced: its signatures need a key of another kind")
	default:
		return refuse(fixMalform, "x-amz-content-sha256 is neither a hash nor one of the names that AWS defines")
	}
	return nil
}

// asIs reports whether the service takes a path in its signatures as it is sent.
// Others want it normalised, and escaped a second time.
func (s *Signature) asIs() bool {
	switch s.Service {
	case "s3", "s3-object-lambda", "s3-outposts", "s3express":
		return true
	}
	return false
}
