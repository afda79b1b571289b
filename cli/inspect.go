package cli

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

func newInspectCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect PROVIDER",
		Short: "Show a provider's definition and connections",
		Long: `Show a provider's definition, the flows by which it can be logged in to (the first
is what login takes), the hosts that its credential goes to, and its connections
without their secrets. The output is always JSON.`,
		Example: `  authsome inspect openai
  authsome inspect github | jq .hosts
  authsome inspect github | jq .flows             # for login --flow`,
		Args:              arguments(aProvider),
		ValidArgsFunction: a.completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			p, err := c.Provider(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			doc, err := inspectDocument(p)
			if err != nil {
				return err
			}
			return a.printJSON(doc)
		},
	}
}

// inspectDocument is the definition as its file has it, in its order, and what
// is known beyond it. The file's own fields come first: a field of the same
// name in it is not hidden, except those which are promised: "v", "connections",
// and "flows", of which the file may name some that do not work.
func inspectDocument(p api.Provider) (object, error) {
	def, err := parseObject(p.Definition)
	if err != nil {
		return nil, authsome.E(authsome.Internal, "inspect %s: its definition cannot be read: %w", p.Name, err)
	}
	doc := object{}
	for _, m := range def {
		if m.name != "v" && m.name != "connections" && m.name != "flows" {
			doc = append(doc, m)
		}
	}
	conns := []listedConnection{}
	for _, c := range p.Connections {
		conns = append(conns, listConnection(c))
	}
	for _, extra := range []struct {
		name string
		v    any
		omit bool
	}{
		{"name", p.Name, false},
		{"source", p.Source, false},
		{"flows", p.Flows, false},
		{"hosts", p.Hosts, false},
		{"warnings", p.Warnings, len(p.Warnings) == 0},
		{"connections", conns, false},
	} {
		if extra.omit || doc.has(extra.name) {
			continue
		}
		if err := doc.add(extra.name, extra.v); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

func (o object) has(name string) bool {
	for _, m := range o {
		if m.name == name {
			return true
		}
	}
	return false
}

// add appends a member.
func (o *object) add(name string, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return authsome.E(authsome.Internal, "write the result: %w", err)
	}
	*o = append(*o, member{name, bytes.TrimSpace(buf.Bytes())})
	return nil
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, name...), ':'), m.value...)
	}
	return append(out, '}'), nil
}

// parseObject reads an object; nothing at all is an empty one.
func parseObject(data []byte) (object, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil {
		return nil, err
	} else if tok != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	var o object
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var m member
		m.name, _ = tok.(string) // a member's name is a string, or Token fails
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		o = append(o, m)
	}
	if _, err := dec.Token(); err != nil { // its end
		return nil, err
	}
	return o, nil
}
