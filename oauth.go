package authsome

import "time"

// OAuth is a provider's authorization server, and how it wants to be spoken to.
// It is data: what one vendor does differently is a field here, not a case in
// the code. Its addresses are https. The names in JSON are those under which it
// is sealed with a connection.
type OAuth struct {
	// BaseURL is what "{base_url}" stands for in the addresses below, unless the
	// person gives the address of a service of their own; "" when no address
	// has it. It has no slash at its end.
	BaseURL string `json:"base_url,omitempty"`
	// Issuer identifies the server (RFC 8414, section 2); "" when it is not
	// known. When it is, an `iss` in the callback must equal it (RFC 9207).
	Issuer string `json:"issuer,omitempty"`
	// IssuerInCallback says that the server always sends `iss` (RFC 9207,
	// section 3), so that a callback without it is refused.
	IssuerInCallback bool `json:"issuer_in_callback,omitempty"`

	AuthorizationURL string `json:"authorization_url,omitempty"`
	TokenURL         string `json:"token_url,omitempty"`
	DeviceURL        string `json:"device_url,omitempty"`       // RFC 8628; "" when there is none
	RegistrationURL  string `json:"registration_url,omitempty"` // RFC 7591; "" in FlowDCR means that it is discovered
	RevocationURL    string `json:"revocation_url,omitempty"`   // "" when there is none

	// Resource is sent as RFC 8707 has it, with every authorization and token
	// request; "" sends none.
	Resource string `json:"resource,omitempty"`
	// Scopes are asked for when the person names none, joined by ScopeSeparator
	// ("" is a space).
	Scopes         []string `json:"scopes,omitempty"`
	ScopeSeparator string   `json:"scope_separator,omitempty"`
	// ScopeParam is the name of the parameter; "" is "scope" (Slack's user
	// tokens: "user_scope").
	ScopeParam string `json:"scope_param,omitempty"`
	// PKCE says that S256 is sent (RFC 7636). Only servers that refuse it are
	// defined without.
	PKCE bool `json:"pkce,omitempty"`
	// AuthorizeParams are added to the authorization request (Google:
	// access_type=offline), TokenParams to the token requests (an audience).
	AuthorizeParams []Param `json:"authorize_params,omitempty"`
	TokenParams     []Param `json:"token_params,omitempty"`
	// TokenAuth is how the client proves itself at the token endpoint; "" is
	// ClientBody.
	TokenAuth ClientAuth `json:"token_auth,omitempty"`
	// TokenBody is how token requests are encoded, DeviceBody how the device
	// flow's polls are; "" is EncodeForm.
	TokenBody  Encoding `json:"token_body,omitempty"`
	DeviceBody Encoding `json:"device_body,omitempty"`
	// TokenHeaders are added to token requests (Notion-Version).
	TokenHeaders []Param `json:"token_headers,omitempty"`
	// Answer says where the values are in a token endpoint's answer.
	Answer TokenAnswer `json:"answer,omitzero"`
	// Revocation says how tokens are revoked at RevocationURL; "" is RevokeRFC7009.
	Revocation RevokeStyle `json:"revocation,omitempty"`
	// UserInfo asks who the account is; nil when the service has no such request.
	UserInfo *UserInfo `json:"user_info,omitempty"`
	// RedirectURI is what the vendor's rules demand instead of the usual
	// http://127.0.0.1:7998/auth/callback/oauth, such as the same address with
	// "localhost"; "" is the usual. Its port and path are always ours.
	RedirectURI string `json:"redirect_uri,omitempty"`
	// ClientID is that of a public client that the vendor publishes for command
	// line programs, or the address of a client's metadata; "" when the person
	// brings their own.
	ClientID string `json:"client_id,omitempty"`
	// AppsURL is where the vendor lets people create OAuth apps.
	AppsURL string `json:"apps_url,omitempty"`
	// SelfManaged are the addresses that are not found by {base_url} alone at a
	// service that people host themselves; nil when there are none.
	SelfManaged *SelfManagedOAuth `json:"self_managed,omitempty"`
}

// SelfManagedOAuth replaces addresses of OAuth for a connection whose BaseURL is
// not OAuth.BaseURL: GitHub has its API on a host of its own, GitHub Enterprise
// Server under a path of the one host. An address without {base_url} that is not
// replaced is the vendor's, which must not get to see what belongs to somebody's
// own service.
type SelfManagedOAuth struct {
	RevocationURL string `json:"revocation_url,omitempty"` // "" keeps OAuth.RevocationURL if that has {base_url}, else there is none
	UserInfoURL   string `json:"user_info_url,omitempty"`  // the same for UserInfo.URL
}

// Param is one parameter or header with its value.
type Param struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ClientAuth is how a client authenticates at the token endpoint.
type ClientAuth string

// The methods, RFC 6749 section 2.3 and OpenID Connect Core section 9.
const (
	ClientBody  ClientAuth = "body"  // client_secret_post
	ClientBasic ClientAuth = "basic" // client_secret_basic
	ClientNone  ClientAuth = "none"  // a public client: client_id alone
	ClientJWT   ClientAuth = "private_key_jwt"
)

// Encoding is how a request's body is written.
type Encoding string

// The encodings.
const (
	EncodeForm Encoding = "form"
	EncodeJSON Encoding = "json"
)

// RevokeStyle is how a service revokes a token.
type RevokeStyle string

// The styles.
const (
	RevokeRFC7009 RevokeStyle = "rfc7009" // POST token=…
	RevokeGitHub  RevokeStyle = "github"  // DELETE with Basic and {"access_token":…}; "{client_id}" in the address is filled in
	RevokeBearer  RevokeStyle = "bearer"  // POST with the token itself as the credential (Slack's auth.revoke)
)

// TokenAnswer gives the places of values in a token endpoint's answer, as paths
// of names joined by dots ("authed_user.access_token"). An empty one is the
// name that RFC 6749 section 5.1 gives.
type TokenAnswer struct {
	AccessToken  string `json:"access_token,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
	ExpiresIn    string `json:"expires_in,omitempty"`
	Scope        string `json:"scope,omitempty"`
	// AccountID and AccountLabel are where the answer says whose token it is
	// (Notion's workspace_name); empty means nowhere.
	AccountID    string `json:"account_id,omitempty"`
	AccountLabel string `json:"account_label,omitempty"`
}

// UserInfo is the request that tells who an account is.
type UserInfo struct {
	URL     string  `json:"url,omitempty"`
	Method  string  `json:"method,omitempty"`  // "" is GET
	Body    string  `json:"body,omitempty"`    // sent as JSON with POST (GraphQL)
	Headers []Param `json:"headers,omitempty"` // besides the credential, such as Notion-Version
	// ID and Label are paths of names, and of numbers for the elements of
	// lists, joined by dots. The first of Label that has a value is taken.
	ID    string   `json:"id,omitempty"`
	Label []string `json:"label,omitempty"`
}

// OAuthClient is what an authorization server knows the program as: the
// person's own OAuth app, or a registration made by FlowDCR.
type OAuthClient struct {
	ID     string
	Secret Secret // empty for a public client
	// Key is a PEM private key for ClientJWT and FlowGitHubApp.
	Key Secret
	// Auth overrides OAuth.TokenAuth, as a registration's answer does; "" does
	// not.
	Auth ClientAuth
	// Registered says that FlowDCR made it, so that it may be made anew when
	// the server has forgotten it.
	Registered bool
	// RedirectURI is what it was registered with.
	RedirectURI string
	// ExpiresAt is when the secret ends (RFC 7591, section 3.2.1); zero: never.
	ExpiresAt time.Time
	CreatedAt time.Time
}
