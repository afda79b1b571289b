package proxy

import "github.com/authsome/authsome"

// bodyField is one field of a request's body: a place that is looked at, or one
// that is filled.
type bodyField struct {
	at    authsome.Place
	value []byte // what to write there, encoded; nil when it is only looked at

	seen    bool // the field is there
	blocked bool // there is no room for it
	whole   bool // all of what stood there has gone by
	size    int64
	text    []byte // its beginning
	held    bool   // a placeholder stands there
	wants   string // the connection that the placeholder names
}

const (
	// maxName bounds what is kept of a name that may be one of ours, escapes and
	// all; a longer one is not.
	maxName = 1 << 10
	// maxValue bounds what is kept of the child's own value, in which a
	// placeholder is looked for.
	maxValue = 1 << 10
	// maxNesting bounds how deep a body is nested.
	maxNesting = 512
)

// bodyError says why nothing can be put into a body.
type bodyError string

func (e bodyError) Error() string { return string(e) }

const (
	errNotJSON  bodyError = "the body is not valid JSON"
	errTooDeep  bodyError = "the body is nested too deep"
	errNoObject bodyError = "the body is no JSON object"
)

// errTwice refuses a field that is there twice: which of the two a service takes
// is anybody's guess.
func errTwice(name string) error {
	return bodyError("the body has the field " + name + " twice, or in another spelling")
}

// errOther refuses a placeholder that comes too late to have a say.
const errOther bodyError = "the body names another connection than the request is sent for, behind its first 64 KB"

// editor passes a body on and changes fields of it. It holds back next to
// nothing, and how the bytes are split makes no difference.
type editor interface {
	// feed takes the next bytes and appends to out what they become.
	feed(out, in []byte) ([]byte, error)
	// end appends what comes last.
	end(out []byte) ([]byte, error)
}

func newEditor(kind authsome.Slot, fields []*bodyField, connection string) editor {
	if kind == authsome.SlotForm {
		return &formEditor{fields: fields, connection: connection}
	}
	return newJSONEditor(fields, connection)
}

// keep remembers the beginning of what stands in the field.
func (f *bodyField) keep(b []byte) {
	f.size += int64(len(b))
	if room := maxValue - len(f.text); room > 0 {
		f.text = append(f.text, b[:min(room, len(b))]...)
	}
}

// done looks at what stood in the field. connection is the one that the request
// is sent for, "" while that is open.
func (f *bodyField) done(text, connection string) error {
	f.whole = true
	f.wants, f.held = authsome.FindPlaceholder(text)
	f.text = nil
	if connection != "" && f.wants != "" && f.wants != connection {
		return errOther
	}
	return nil
}

// grown is by how much a field that was seen changes the body's length.
func (f *bodyField) grown() int64 {
	if f.value == nil {
		return 0
	}
	n := int64(len(f.value)) - f.size
	if f.at.Slot == authsome.SlotForm {
		n += int64(len(f.at.Name) + 1)
	}
	return n
}
