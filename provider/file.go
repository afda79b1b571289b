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
	"strings"

	"github.com/tailscale/hujson"

	"github.com/authsome/authsome"
)

// maxFile bounds a definition, in bytes; the longest known one has 4 KB.
const maxFile = 1 << 20

// file is a definition as it is written. Fields that are not here are kept in
// Provider.Definition and otherwise ignored.
type file struct {
	SchemaVersion *int            `json:"schema_version"`
	Name          string          `json:"name"`
	DisplayName   string          `json:"display_name"`
	AuthType      string          `json:"auth_type"`
	Flow          string          `json:"flow"`
	APIURL        oneOrMany       `json:"api_url"`
	OAuth         *oauthSection   `json:"oauth"`
	APIKey        *keySection     `json:"api_key"`
	Registration  *registration   `json:"registration"`
	Export        json.RawMessage `json:"export"`
	Routes        []routeEntry    `json:"routes"`
	DocsURL       string          `json:"docs_url"`
}

type oauthSection struct {
	BaseURL                string `json:"base_url"`
	AuthorizationURL       string `json:"authorization_url"`
	TokenURL               string `json:"token_url"`
	RevocationURL          string `json:"revocation_url"`
	DeviceAuthorizationURL string `json:"device_authorization_url"`
}

type registration struct {
	RegistrationEndpoint string `json:"registration_endpoint"`
}

type keySection struct {
	HeaderName     string       `json:"header_name"`
	HeaderPrefix   *string      `json:"header_prefix"`
	KeyPattern     string       `json:"key_pattern"`
	KeyPatternHint string       `json:"key_pattern_hint"`
	EnvVar         string       `json:"env_var"`
	Fields         []fieldEntry `json:"fields"` // addition
	// prefixSet tells a prefix of null, which means none, from an absent one,
	// which means Bearer.
	prefixSet bool
}

// UnmarshalJSON notes whether header_prefix is there.
func (k *keySection) UnmarshalJSON(data []byte) error {
	type plain keySection
	if err := json.Unmarshal(data, (*plain)(k)); err != nil {
		return err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return err
	}
	_, k.prefixSet = keys["header_prefix"]
	return nil
}

type fieldEntry struct {
	Name    string `json:"name"`
	Label   string `json:"label"`
	Pattern string `json:"pattern"`
	Hint    string `json:"hint"`
	Public  bool   `json:"public"`
}

type routeEntry struct {
	Host    string        `json:"host"`
	Port    int           `json:"port"`
	Path    string        `json:"path"`
	Methods []string      `json:"methods"`
	Inject  []injectEntry `json:"inject"`
	Strip   []string      `json:"strip"`
}

type injectEntry struct {
	Header string `json:"header"`
	Value  string `json:"value"`
	Basic  string `json:"basic"`
	When   string `json:"when"`
}

// oneOrMany is a string or a list of them.
type oneOrMany []string

// UnmarshalJSON takes null, a string, or a list of strings.
func (o *oneOrMany) UnmarshalJSON(data []byte) error {
	switch {
	case bytes.Equal(data, []byte("null")):
		return nil
	case len(data) > 0 && data[0] == '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		if s != "" {
			*o = oneOrMany{s}
		}
		return nil
	default:
		return json.Unmarshal(data, (*[]string)(o))
	}
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
			line = 1 + bytes.Count(s.text[:v.StartOffset], []byte("\n"))
		}
		if p == "" {
			break
		}
	}
	return s.failLine(line, pointer, fmt.Sprintf(format, args...))
}

func (s *source) failLine(line int, pointer, why string) error {
	where := s.filename
	if line > 0 {
		where = fmt.Sprintf("%s:%d", where, line)
	}
	if pointer != "" {
		field := strings.ReplaceAll(strings.ReplaceAll(pointer[1:], "/", "."), "~1", "/")
		why = field + " " + why
	}
	return authsome.E(authsome.Invalid, "%s: %s", where, why).
		WithHint("correct the definition; docs/providers.md describes the format")
}

// read parses the text: JSON, or JSON with comments and trailing commas.
func read(filename string, text []byte) (*file, *source, error) {
	s := &source{filename: filename, text: text}
	if len(text) > maxFile {
		return nil, nil, s.failLine(0, "", "it is longer than 1 MiB")
	}
	// A mark that Windows editors leave at the front of a file.
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	s.text = text
	root, err := hujson.Parse(text)
	if err != nil {
		line := 0
		if i := strings.Index(err.Error(), "line "); i >= 0 {
			_, _ = fmt.Sscanf(err.Error()[i:], "line %d", &line)
		}
		return nil, nil, s.failLine(line, "", "it is not valid JSON or JSONC")
	}
	s.root = root
	if root.Value.Kind() != '{' {
		return nil, nil, s.failLine(1, "", "it is not a JSON object")
	}
	standard, err := hujson.Standardize(bytes.Clone(text))
	if err != nil {
		return nil, nil, s.failLine(0, "", "it is not valid JSON or JSONC")
	}
	var f file
	if err := json.Unmarshal(standard, &f); err != nil {
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) && te.Field != "" {
			pointer := "/" + strings.ReplaceAll(te.Field, ".", "/")
			return nil, nil, s.fail(pointer, "is a %s, where a %s belongs", te.Value, te.Type)
		}
		return nil, nil, s.failLine(0, "", "a value is of the wrong kind")
	}
	return &f, s, nil
}
