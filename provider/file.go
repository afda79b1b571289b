// Package provider reads provider definitions: the bundled ones, which are data
// beside the code, and those that a person registers. The format is the one of
// the Python authsome, schema version 1, with additions; docs/providers.md
// describes it.
package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/tailscale/hujson"

	"github.com/authsome/authsome"
)

const (
	// maxFile bounds a definition, in bytes; the longest known one has 4 KB.
	maxFile = 1 << 20
	// maxDepth bounds how deep its objects and lists are nested; known ones
	// have 4. The JSONC parser calls itself for each level, and a stack that
	// outgrows its limit ends a Go program without a way back.
	maxDepth = 64
)

// file is a definition as it is written. Fields that are not here are kept in
// Provider.Definition and otherwise ignored.
type file struct {
	SchemaVersion *int            `json:"schema_version"`
	Name          string          `json:"name"`
	DisplayName   string          `json:"display_name"`
	AuthType      string          `json:"auth_type"`
	Flow          string          `json:"flow"`
	Flows         []string        `json:"flows"`   // addition
	APIURL        json.RawMessage `json:"api_url"` // a string, or a list of them
	OAuth         *oauthSection   `json:"oauth"`
	APIKey        *keySection     `json:"api_key"`
	Registration  *registration   `json:"registration"`
	Export        json.RawMessage `json:"export"`       // in either of two forms
	Routes        []routeEntry    `json:"routes"`       // addition
	SelfManaged   *selfManaged    `json:"self_managed"` // addition
	DocsURL       string          `json:"docs_url"`
}

// oauthSection is `oauth`. What is below Scopes is ours.
type oauthSection struct {
	BaseURL                string          `json:"base_url"`
	AuthorizationURL       string          `json:"authorization_url"`
	TokenURL               string          `json:"token_url"`
	RevocationURL          string          `json:"revocation_url"`
	DeviceAuthorizationURL string          `json:"device_authorization_url"`
	DeviceTokenRequest     string          `json:"device_token_request"`
	SupportsDeviceCode     bool            `json:"supports_device_code"`
	PKCE                   *bool           `json:"pkce"` // absent is true
	AuthorizationMethod    string          `json:"authorization_method"`
	AuthorizationParams    json.RawMessage `json:"authorization_params"`
	Scopes                 []string        `json:"scopes"`

	Issuer           string           `json:"issuer"`
	IssuerInCallback bool             `json:"issuer_in_callback"`
	Resource         string           `json:"resource"`
	ScopeSeparator   string           `json:"scope_separator"`
	ScopeParam       string           `json:"scope_param"`
	TokenAuth        string           `json:"token_auth"`
	TokenBody        string           `json:"token_body"`
	TokenHeaders     json.RawMessage  `json:"token_headers"`
	TokenParams      json.RawMessage  `json:"token_params"`
	TokenAnswer      answerSection    `json:"token_answer"`
	Revocation       string           `json:"revocation"`
	UserInfo         *userInfoSection `json:"user_info"`
	RedirectURI      string           `json:"redirect_uri"`
	ClientID         string           `json:"client_id"`
	AppsURL          string           `json:"apps_url"`
}

type answerSection struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    string `json:"expires_in"`
	Scope        string `json:"scope"`
	AccountID    string `json:"account_id"`
	AccountLabel string `json:"account_label"`
}

type userInfoSection struct {
	URL     string          `json:"url"`
	Method  string          `json:"method"`
	Body    json.RawMessage `json:"body"`
	Headers json.RawMessage `json:"headers"`
	ID      string          `json:"id"`
	Label   json.RawMessage `json:"label"` // a string, or a list of them
}

// selfManaged says what is different where people host the service themselves.
type selfManaged struct {
	Routes        []routeEntry `json:"routes"`
	RevocationURL string       `json:"revocation_url"`
	UserInfoURL   string       `json:"user_info_url"`
}

type registration struct {
	RegistrationEndpoint string `json:"registration_endpoint"`
}

type keySection struct {
	HeaderName     string       `json:"header_name"`
	HeaderPrefix   *string      `json:"header_prefix"` // absent is "Bearer", null is none
	KeyPattern     string       `json:"key_pattern"`
	KeyPatternHint string       `json:"key_pattern_hint"`
	EnvVar         string       `json:"env_var"`
	Fields         []fieldEntry `json:"fields"` // addition
}

type fieldEntry struct {
	Name    string `json:"name"`
	Label   string `json:"label"`
	Pattern string `json:"pattern"`
	Hint    string `json:"hint"`
	Public  bool   `json:"public"`

	Optional bool `json:"optional"`
}

type routeEntry struct {
	Host    json.RawMessage `json:"host"` // a string, or a list of them
	Port    int             `json:"port"`
	Path    string          `json:"path"`
	Methods []string        `json:"methods"`
	Inject  []injectEntry   `json:"inject"`
	Strip   []string        `json:"strip"`

	StripQuery   []string `json:"strip_query"`
	StripCookies []string `json:"strip_cookies"`

	Deny []denyEntry `json:"deny"`
}

// injectEntry names one slot. All but Basic and Path have a Value.
type injectEntry struct {
	// These are for the connection to the service; see connectionSlot.
	Message     string    `json:"message"`
	At          string    `json:"at"`
	Certificate *struct{} `json:"certificate"`

	Header string `json:"header"`
	Basic  string `json:"basic"`
	Query  string `json:"query"`
	Path   string `json:"path"`
	Cookie string `json:"cookie"`
	JSON   string `json:"json"`
	Form   string `json:"form"`
	Value  string `json:"value"`
	When   string `json:"when"`

	SigV4 *struct{} `json:"sigv4"` // has nothing beside it
}

// source is a definition's text, for errors that name the line.
type source struct {
	filename string
	text     []byte
	root     hujson.Value
}

// fail makes an error that names file, line and field. pointer is a JSON
// pointer (RFC 6901), "" for the whole file.
func (s *source) fail(pointer, format string, args ...any) error {
	line := 0
	// The field may be missing; then the line of what should hold it is given.
	for p := pointer; line == 0; p = p[:strings.LastIndexByte(p, '/')] {
		if v := s.root.Find(p); v != nil {
			line = s.line(v.StartOffset)
		}
		if p == "" {
			break
		}
	}
	return s.failLine(line, pointer, fmt.Sprintf(format, args...))
}

// line is the number of the line in which the byte at offset is, from 1.
func (s *source) line(offset int) int {
	return 1 + bytes.Count(s.text[:min(max(offset, 0), len(s.text))], []byte("\n"))
}

func (s *source) failLine(line int, pointer, why string) error {
	where := s.filename
	if line > 0 {
		where = fmt.Sprintf("%s:%d", where, line)
	}
	if pointer != "" {
		names := strings.Split(pointer[1:], "/")
		for i, n := range names {
			names[i] = clip(strings.ReplaceAll(strings.ReplaceAll(n, "~1", "/"), "~0", "~"))
		}
		where += ": " + strings.Join(names, ".")
	}
	return authsome.E(authsome.Invalid, "%s: %s", where, why).
		WithHint("correct the definition; docs/providers.md describes the format")
}

// read parses the text: JSON, or JSON with comments and trailing commas. plain
// is the definition as JSON, with every field of it.
func read(filename string, text []byte) (f *file, s *source, plain json.RawMessage, err error) {
	// A mark that Windows editors leave at the front of a file.
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	s = &source{filename: clip(filename), text: text}
	if len(text) > maxFile {
		return nil, nil, nil, s.failLine(0, "", "it is longer than 1 MiB")
	}
	if at := tooDeep(text); at >= 0 {
		return nil, nil, nil, s.failLine(s.line(at), "", fmt.Sprintf("it is nested more than %d levels deep", maxDepth))
	}
	if s.root, err = hujson.Parse(text); err != nil {
		line := 0
		if i := strings.Index(err.Error(), "line "); i >= 0 {
			_, _ = fmt.Sscanf(err.Error()[i:], "line %d", &line)
		}
		return nil, nil, nil, s.failLine(line, "", "it is not valid JSON or JSONC")
	}
	if s.root.Value.Kind() != '{' {
		return nil, nil, nil, s.failLine(1, "", "it is not a JSON object")
	}
	if at, offset := twice(s.root.Value, true); offset >= 0 {
		return nil, nil, nil, s.failLine(s.line(offset), at, "is there twice")
	}
	packed := text
	if !s.root.IsStandard() {
		// Every value stays at its offset.
		s.root.Standardize()
		packed = s.root.Pack()
	}
	f = &file{}
	if err := json.Unmarshal(packed, f); err != nil {
		var te *json.UnmarshalTypeError
		if !errors.As(err, &te) {
			return nil, nil, nil, s.failLine(0, "", "it is not valid JSON or JSONC")
		}
		pointer := ""
		if te.Field != "" {
			pointer = "/" + strings.ReplaceAll(te.Field, ".", "/")
		}
		return nil, nil, nil, s.failLine(s.line(int(te.Offset)), pointer, "must be "+kindName(te.Type)+", not "+article(te.Value))
	}
	var out bytes.Buffer
	out.Grow(len(packed))
	if err := json.Compact(&out, packed); err != nil {
		return nil, nil, nil, s.failLine(0, "", "it is not valid JSON or JSONC")
	}
	return f, s, out.Bytes(), nil
}

// tooDeep gives the offset at which the nesting goes beyond maxDepth, or -1.
func tooDeep(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case c == '/' && i+1 < len(text) && text[i+1] == '/':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '/' && i+1 < len(text) && text[i+1] == '*':
			end := bytes.Index(text[i+2:], []byte("*/"))
			if end < 0 {
				return -1 // the parser will say that the comment has no end
			}
			i += 2 + end + 1
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return i
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return -1
}

// twice finds an object that holds a name twice: programs differ in which of the
// two they take, and the one that a person has read must be the one that counts.
// At the top, capitals make no difference, since encoding/json ignores them. It
// gives the pointer to the second one and its offset, or -1.
func twice(v hujson.ValueTrimmed, top bool) (pointer string, offset int) {
	switch v := v.(type) {
	case *hujson.Array:
		for i := range v.Elements {
			if at, offset := twice(v.Elements[i].Value, false); offset >= 0 {
				return fmt.Sprintf("/%d%s", i, at), offset
			}
		}
	case *hujson.Object:
		seen := make(map[string]bool, len(v.Members))
		for i := range v.Members {
			name := memberName(&v.Members[i])
			key := name
			if top {
				key = strings.Map(fold, name)
			}
			if seen[key] {
				return "/" + escape(name), v.Members[i].Name.StartOffset
			}
			seen[key] = true
			if at, offset := twice(v.Members[i].Value.Value, false); offset >= 0 {
				return "/" + escape(name) + at, offset
			}
		}
	}
	return "", -1
}

// fold gives one of all the letters that differ in case only.
func fold(r rune) rune {
	for next := unicode.SimpleFold(r); ; next = unicode.SimpleFold(next) {
		if next <= r {
			return next
		}
	}
}

// stringOrList reads a value that is a string, a list of them, or null. The
// pointers belong to the strings, for errors.
func (s *source) stringOrList(pointer string, raw json.RawMessage) (texts, pointers []string, err error) {
	if len(raw) == 0 || raw[0] == 'n' {
		return nil, nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, []string{pointer}, nil
	}
	if err := json.Unmarshal(raw, &texts); err != nil {
		return nil, nil, s.fail(pointer, "must be a text or a list of texts")
	}
	if len(texts) > maxRoutes {
		return nil, nil, s.fail(pointer, "has more than %d elements", maxRoutes)
	}
	for i := range texts {
		pointers = append(pointers, fmt.Sprintf("%s/%d", pointer, i))
	}
	return texts, pointers, nil
}

// members lists the names in an object, in the file's order.
func (s *source) members(pointer string) []string {
	v := s.root.Find(pointer)
	if v == nil {
		return nil
	}
	obj, ok := v.Value.(*hujson.Object)
	if !ok {
		return nil
	}
	var out []string
	for i := range obj.Members {
		out = append(out, memberName(&obj.Members[i]))
	}
	return out
}

func memberName(m *hujson.ObjectMember) string {
	lit, _ := m.Name.Value.(hujson.Literal)
	if len(lit) > 1 && bytes.IndexByte(lit, '\\') < 0 {
		return string(lit[1 : len(lit)-1])
	}
	return lit.String()
}

// escape writes a name as a part of a JSON pointer (RFC 6901 section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// kindName says in JSON's words what belongs into a Go type.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	default:
		return "a text"
	}
}

// article fits what encoding/json calls a value into a sentence.
func article(value string) string {
	switch kind, _, _ := strings.Cut(value, " "); kind {
	case "bool":
		return "true or false"
	case "string":
		return "a text"
	case "array":
		return "a list"
	case "object":
		return "an object"
	default:
		return "a number"
	}
}

// clip keeps text from a file short in an error, and on its line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
