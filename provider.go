package authsome

import (
	"encoding/json"
	"slices"
	"strings"
)

// AuthType says what a provider's credential is.
type AuthType string

// The auth types of authsome's provider files.
const (
	AuthAPIKey AuthType = "api_key"
	AuthOAuth2 AuthType = "oauth2"
)

// Flow is a way to obtain a credential.
type Flow string

// The flows of provider files. FlowAPIKey is the one in which a person hands
// over a key or personal access token.
const (
	FlowAPIKey     Flow = "api_key"
	FlowPKCE       Flow = "pkce"
	FlowDeviceCode Flow = "device_code"
	FlowDCR        Flow = "dcr_pkce"
	// FlowClientCredentials is RFC 6749 section 4.4: the app acts for itself.
	FlowClientCredentials Flow = "client_credentials"
	// FlowServiceAccount is RFC 7523: a signed assertion for each token. The
	// person hands over Google's key file.
	FlowServiceAccount Flow = "service_account"
	// FlowGitHubApp gets an installation's token with the app's private key.
	FlowGitHubApp Flow = "github_app"
)

// OAuth reports whether the flow ends in tokens of an authorization server.
func (f Flow) OAuth() bool { return f != FlowAPIKey && f != "" }

// Source says where a definition came from.
type Source string

// Bundled definitions are part of the binary; custom ones were registered and
// shadow a bundled one of the same name.
const (
	Bundled Source = "bundled"
	Custom  Source = "custom"
)

// Provider is a service as the rest of the program sees it: a definition file
// after loading and checking. Package provider makes them; they are not changed
// afterwards.
type Provider struct {
	Name        string // ^[a-zA-Z0-9][a-zA-Z0-9._-]*$
	DisplayName string
	Source      Source
	AuthType    AuthType // of the default flow
	Flows       []Flow   // what `login --flow` accepts; the first is the default
	Routes      []Route  // where the credential goes; empty when nothing is routed
	Key         KeyForm  // what to ask for in FlowAPIKey
	OAuth       *OAuth   // nil when there is no OAuth flow
	// SelfManaged are the routes of a service that people host themselves, for
	// connections whose BaseURL is not OAuth.BaseURL; the host "{host}" stands
	// for the one in the connection's BaseURL. Empty: only the vendor hosts it.
	SelfManaged []Route
	Env         []EnvVar // variables that tools read, in the file's order
	DocsURL     string   // the vendor's documentation, or where a key is made
	Warnings    []string // what could not be taken over from the file, each with what to write instead
	Definition  json.RawMessage
}

// Accepts reports whether `login --flow f` is possible.
func (p *Provider) Accepts(f Flow) bool {
	for _, have := range p.Flows {
		if have == f {
			return true
		}
	}
	return false
}

// KeyForm is what a person is asked for in FlowAPIKey: one field for most
// services, several for some (an account and a token for Twilio).
type KeyForm struct {
	Fields []KeyField
}

// KeyField is one line of the form. The value is stored in Credential.Fields
// under Name.
type KeyField struct {
	Name    string // "api_key" when there is only one
	Label   string // for people, e.g. "API key"
	Pattern string // RE2, must match the whole value; "" for any
	Hint    string // what a right value looks like, shown when Pattern fails
	Public  bool   // not a secret (an account id): shown while typing
	// Optional may be left empty. Multiline is a text of several lines: a PEM
	// key, a JSON file.
	Optional  bool
	Multiline bool
}

// EnvVar is one variable of an agent's or tool's environment.
type EnvVar struct {
	Name  string // e.g. OPENAI_API_KEY
	Field string // field of the credential that `export` puts there; see Credential
	// URL is set instead of Field for variables that hold the service's address
	// (API_URL, BASE_URL of authsome's files); they are never placeholders.
	URL string
}

// Route sends requests of one host, under one path, with some methods, to a
// provider's credential.
type Route struct {
	// Host is a lower-case DNS name, IP literal, or "*.example.com", which
	// stands for one or more labels in front of example.com but not for
	// example.com itself.
	Host string
	// Port is the TCP port; 0 means 443.
	Port int
	// Path is a prefix that ends at a segment boundary: "/v1" matches /v1 and
	// /v1/x, not /v10. "" or "/" is everything.
	Path string
	// Except are paths on the same host that are never injected (the OAuth
	// endpoints of the provider); exact match.
	Except []string
	// Methods are upper-case; empty means all.
	Methods []string
	// Inject says what to put on a request.
	Inject []Injection
	// Strip names further headers of the service that carry credentials and
	// are removed when ours goes on (Anthropic: Authorization when x-api-key is
	// injected).
	Strip []string
	// StripQuery and StripCookies do the same for parameters of the query and
	// for cookies.
	StripQuery   []string `json:",omitempty"`
	StripCookies []string `json:",omitempty"`
	// Deny are the calls that a run may not make with the credential, since what
	// they answer is one.
	Deny []Denial `json:",omitempty"`
}

// Denial is a call that is denied to runs, because it makes or returns
// credentials. All that is set must be so of a request.
type Denial struct {
	Name    string   // for people, e.g. "CreateAccessKey"; "" with actions, which have names
	Methods []string `json:",omitempty"` // upper-case; empty means all
	// Path is a prefix that ends at a segment boundary, as in Route; a segment "*"
	// is any one. Capitals make no difference.
	Path string `json:",omitempty"`
	// The rest is for routes with SlotSigV4. Service is AWS's signing name; Query
	// a parameter that the query has, with any value; Actions are those that are
	// denied, or Except those that alone are not.
	Service string   `json:",omitempty"`
	Query   string   `json:",omitempty"`
	Actions []string `json:",omitempty"`
	Except  []string `json:",omitempty"`
}

// ByAction reports whether the denial goes by the action that a request names.
func (d *Denial) ByAction() bool { return len(d.Actions)+len(d.Except) > 0 }

// Covers reports whether method and path, which is normalised, are the denial's.
func (d *Denial) Covers(method, path string) bool {
	// Some servers know no case there.
	if len(d.Methods) > 0 && !slices.ContainsFunc(d.Methods, func(m string) bool { return strings.EqualFold(m, method) }) {
		return false
	}
	if d.Path == "" {
		return true
	}
	have := segments(path)
	want := segments(d.Path)
	if len(have) < len(want) {
		return false
	}
	for i, w := range want {
		if w != "*" && !strings.EqualFold(w, have[i]) {
			return false
		}
	}
	return true
}

// segments splits a path as the most lenient of servers would: doubled slashes
// count once, escaped ones too, and ";parameters" do not.
func segments(path string) (list []string) {
	for seg := range strings.SplitSeq(strings.ReplaceAll(path, "%2F", "/"), "/") {
		if seg, _, _ = strings.Cut(seg, ";"); seg != "" {
			list = append(list, seg)
		}
	}
	return list
}

// Slot is the place in a request where a credential goes.
type Slot string

// The slots.
const (
	SlotHeader Slot = "header" // Name: Value
	SlotBasic  Slot = "basic"  // Authorization: Basic base64(Value), Value "user:password"
	SlotQuery  Slot = "query"  // ?Name=Value, percent-encoded
	SlotPath   Slot = "path"   // a part of a segment; Name is a route.Template such as "/bot{}"
	SlotCookie Slot = "cookie" // Cookie: Name=Value, beside the child's other cookies
	SlotJSON   Slot = "json"   // a field of a JSON body; Name are the objects' keys, joined by dots
	SlotForm   Slot = "form"   // a field of an application/x-www-form-urlencoded body
	// SlotMessage is our placeholder in the text messages of a WebSocket: in the
	// field Name (the objects' keys, joined by dots) of those that are JSON, or
	// anywhere when Name is "".
	SlotMessage Slot = "message"
	// SlotCertificate is the connection to the service itself, which is made
	// with the fields FieldCertificate and FieldPrivateKey.
	SlotCertificate Slot = "certificate"
	// SlotSigV4 is the signature of AWS, version 4, wherever in a request the
	// program has put one: it is made again with the fields FieldAccessKeyID,
	// FieldSecretAccessKey and, for keys of a session, FieldSessionToken.
	SlotSigV4 Slot = "sigv4"
)

// Place is where a credential goes in a request.
type Place struct {
	Slot Slot
	Name string // as in Injection
}

// Beyond reports whether the slot is a part of the query, the path, the header
// Cookie or the body, so that the proxy must look into the request for it.
func (s Slot) Beyond() bool {
	switch s {
	case SlotQuery, SlotPath, SlotCookie, SlotJSON, SlotForm:
		return true
	default:
		return false
	}
}

// InBody reports whether the body has to be read for the slot.
func (s Slot) InBody() bool { return s == SlotJSON || s == SlotForm }

// When says under which circumstances a credential goes onto a request.
type When string

// The circumstances.
const (
	// Always adds or replaces.
	Always When = "always"
	// OnPlaceholder replaces only where the child sent our placeholder.
	OnPlaceholder When = "placeholder"
	// OnChallenge sends nothing until the upstream answers 401, so that
	// public repositories are fetched anonymously; a placeholder counts as a
	// challenge. Once challenged, the repository is remembered for the grant.
	OnChallenge When = "challenge"
)

// Injection is one slot to fill. Value is a template over the credential's
// fields: "Bearer {token}", "{account_sid}:{auth_token}". {token} is the access
// token of an OAuth credential, or the only key of an API-key one. An injection
// is for credentials that have all of the fields, see Fits: where a service
// wants its keys elsewhere than its access tokens, a route has one for each.
type Injection struct {
	Slot  Slot
	Name  string // header name for SlotHeader; "Authorization" for SlotBasic; see Slot
	Value string
	When  When // "" is Always
}

// Fits reports whether a credential has every field that the value names.
func (in Injection) Fits(c *Credential) bool {
	for rest := in.Value; ; {
		_, after, opened := strings.Cut(rest, "{")
		field, tail, closed := strings.Cut(after, "}")
		if !opened || !closed {
			return true
		}
		if c.Get(field).IsZero() {
			return false
		}
		rest = tail
	}
}
