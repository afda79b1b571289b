package proxy

import (
	"encoding/json"
	"strings"
)

// jsonEditor is for one JSON object (RFC 8259). It takes nothing else: what is
// not valid, services may read in another way.
type jsonEditor struct {
	root       *jsonNode
	connection string

	stack   []jsonLevel
	state   jsonState
	inKey   bool
	escape  int // in a string: 5 after a backslash, 4 to 1 hex digits to come
	literal string
	next    *jsonNode // whose value comes next
	key     []byte
	at      *bodyField // whose value goes by
	depth   int        // of the stack where it began
}

// jsonNode is a field, or an object on the way to one.
type jsonNode struct {
	name  string
	inner []*jsonNode
	field *bodyField
	seen  bool
}

type jsonLevel struct {
	object  bool
	node    *jsonNode // when its fields matter
	members bool      // it has some
}

// jsonState is what may come next.
type jsonState byte

const (
	jsonValue      jsonState = iota
	jsonFirstValue           // or the end of the array
	jsonFirstKey             // or the end of the object
	jsonKey
	jsonColon
	jsonNext // a comma, or the end
	jsonOver // blanks
	jsonString
	jsonLiteral
	// Numbers, by what of them has come.
	jsonMinus
	jsonZero
	jsonDigits
	jsonPoint
	jsonFraction
	jsonE
	jsonSign
	jsonExponent
)

func newJSONEditor(fields []*bodyField, connection string) *jsonEditor {
	e := &jsonEditor{root: &jsonNode{}, connection: connection}
	for _, f := range fields {
		n := e.root
		for name := range strings.SplitSeq(f.at.Name, ".") {
			var next *jsonNode
			for _, k := range n.inner {
				if k.name == name {
					next = k
				}
			}
			if next == nil {
				next = &jsonNode{name: name}
				n.inner = append(n.inner, next)
			}
			n = next
		}
		n.field = f
	}
	return e
}

// block marks the fields below a node as having no room.
func (n *jsonNode) block() {
	if n.field != nil {
		n.field.blocked = true
	}
	for _, k := range n.inner {
		k.block()
	}
}

// fills reports whether something is to be written into the node.
func (n *jsonNode) fills() bool {
	if n.field != nil {
		return n.field.value != nil
	}
	for _, k := range n.inner {
		if k.fills() {
			return true
		}
	}
	return false
}

// write appends the node as a value that was not there.
func (n *jsonNode) write(out []byte) []byte {
	if n.field != nil {
		return append(out, n.field.value...)
	}
	return append(n.writeInner(append(out, '{'), false), '}')
}

// writeInner appends the members that are missing.
func (n *jsonNode) writeInner(out []byte, some bool) []byte {
	for _, k := range n.inner {
		if k.seen || !k.fills() {
			continue
		}
		if some {
			out = append(out, ',')
		}
		some = true
		name, _ := json.Marshal(k.name) // a string: cannot fail
		out = k.write(append(append(out, name...), ':'))
	}
	return out
}

// emit passes bytes on, unless they belong to a value that is replaced.
func (e *jsonEditor) emit(out, b []byte) []byte {
	if e.at != nil {
		e.at.keep(b)
		if e.at.value != nil {
			return out
		}
	}
	return append(out, b...)
}

func (e *jsonEditor) feed(out, in []byte) ([]byte, error) {
	for i := 0; i < len(in); {
		if e.state == jsonString && e.escape == 0 {
			// The bulk of most bodies.
			n := i
			for n < len(in) && in[n] != '"' && in[n] != '\\' && in[n] >= ' ' {
				n++
			}
			if n > i {
				if e.inKey {
					e.key = append(e.key, in[i:min(n, i+max(0, maxName+1-len(e.key)))]...)
				}
				out = e.emit(out, in[i:n])
				i = n
				continue
			}
		}
		if e.numberEnds(in[i]) {
			if err := e.valueEnds(); err != nil {
				return out, err
			}
		}
		var err error
		if out, err = e.step(out, in[i:i+1]); err != nil {
			return out, err
		}
		i++
	}
	return out, nil
}

// numberEnds reports whether a number is complete, and c no more a part of it.
func (e *jsonEditor) numberEnds(c byte) bool {
	digit := c >= '0' && c <= '9'
	switch e.state {
	case jsonZero:
		return c != '.' && c|0x20 != 'e'
	case jsonDigits:
		return !digit && c != '.' && c|0x20 != 'e'
	case jsonFraction:
		return !digit && c|0x20 != 'e'
	case jsonExponent:
		return !digit
	default:
		return false
	}
}

// step takes one byte.
func (e *jsonEditor) step(out, b []byte) ([]byte, error) {
	c := b[0]
	if e.state <= jsonOver && (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
		return e.emit(out, b), nil
	}
	digit := c >= '0' && c <= '9'
	switch e.state {
	case jsonValue:
		return e.begin(out, b)
	case jsonFirstValue:
		if c == ']' {
			return e.closes(out, b)
		}
		return e.begin(out, b)
	case jsonFirstKey, jsonKey:
		switch {
		case c == '}' && e.state == jsonFirstKey:
			return e.closes(out, b)
		case c == '"':
			e.state, e.inKey, e.key = jsonString, true, e.key[:0]
			e.stack[len(e.stack)-1].members = true
			return e.emit(out, b), nil
		}
	case jsonColon:
		if c == ':' {
			e.state = jsonValue
			return e.emit(out, b), nil
		}
	case jsonNext:
		object := e.stack[len(e.stack)-1].object
		switch {
		case c == ',' && object:
			e.state = jsonKey
			return e.emit(out, b), nil
		case c == ',':
			e.state = jsonValue
			return e.emit(out, b), nil
		case c == '}' && object, c == ']' && !object:
			return e.closes(out, b)
		}
	case jsonString:
		return e.inString(out, b)
	case jsonLiteral:
		if c == e.literal[0] {
			e.literal = e.literal[1:]
			out = e.emit(out, b)
			if e.literal == "" {
				return out, e.valueEnds()
			}
			return out, nil
		}
	case jsonMinus:
		if c == '0' {
			e.state = jsonZero
			return e.emit(out, b), nil
		}
		if digit {
			e.state = jsonDigits
			return e.emit(out, b), nil
		}
	case jsonZero, jsonDigits:
		switch {
		case c == '.':
			e.state = jsonPoint
		case c|0x20 == 'e':
			e.state = jsonE
		}
		return e.emit(out, b), nil // or a digit, as numberEnds has found
	case jsonPoint, jsonFraction:
		if digit {
			e.state = jsonFraction
			return e.emit(out, b), nil
		}
		if c|0x20 == 'e' && e.state == jsonFraction {
			e.state = jsonE
			return e.emit(out, b), nil
		}
	case jsonE, jsonSign, jsonExponent:
		if digit {
			e.state = jsonExponent
			return e.emit(out, b), nil
		}
		if (c == '+' || c == '-') && e.state == jsonE {
			e.state = jsonSign
			return e.emit(out, b), nil
		}
	}
	return out, errNotJSON
}

// begin takes the first byte of a value.
func (e *jsonEditor) begin(out, b []byte) ([]byte, error) {
	c, node := b[0], e.next
	e.next = nil
	if len(e.stack) == 0 {
		if c != '{' {
			if strings.IndexByte(`["-0123456789tfn`, c) < 0 {
				return out, errNotJSON
			}
			return out, errNoObject
		}
		node = e.root
	}
	if node != nil && node.field == nil && c != '{' {
		if node.fills() {
			return out, bodyError("the field " + node.name + " of the body is no object")
		}
		node.block()
		node = nil
	}
	if node != nil && node.field != nil {
		e.at, e.depth = node.field, len(e.stack)
		e.at.seen = true
		out = append(out, node.field.value...)
		node = nil
	}
	switch {
	case c == '{' || c == '[':
		if len(e.stack) == maxNesting {
			return out, errTooDeep
		}
		e.stack = append(e.stack, jsonLevel{object: c == '{', node: node})
		if e.state = jsonFirstKey; c == '[' {
			e.state = jsonFirstValue
		}
	case c == '"':
		e.state, e.inKey = jsonString, false
	case c == '-':
		e.state = jsonMinus
	case c == '0':
		e.state = jsonZero
	case c > '0' && c <= '9':
		e.state = jsonDigits
	case c == 't':
		e.state, e.literal = jsonLiteral, "rue"
	case c == 'f':
		e.state, e.literal = jsonLiteral, "alse"
	case c == 'n':
		e.state, e.literal = jsonLiteral, "ull"
	default:
		return out, errNotJSON
	}
	return e.emit(out, b), nil
}

// inString takes a byte of a string that ends it or belongs to an escape.
func (e *jsonEditor) inString(out, b []byte) ([]byte, error) {
	c := b[0]
	if e.inKey && len(e.key) <= maxName && (c != '"' || e.escape > 0) {
		e.key = append(e.key, c)
	}
	switch {
	case e.escape == 5:
		switch {
		case c == 'u':
			e.escape = 4
		case strings.IndexByte(`"\/bfnrt`, c) >= 0:
			e.escape = 0
		default:
			return out, errNotJSON
		}
	case e.escape > 0:
		if !isHex(string(b), 1) {
			return out, errNotJSON
		}
		e.escape--
	case c == '\\':
		e.escape = 5
	case c == '"':
		out = e.emit(out, b)
		if e.inKey {
			e.state = jsonColon
			return out, e.keyEnds()
		}
		return out, e.valueEnds()
	default:
		return out, errNotJSON // a control character
	}
	return e.emit(out, b), nil
}

// keyEnds finds out whether the value that comes is one that matters.
func (e *jsonEditor) keyEnds() error {
	node := e.stack[len(e.stack)-1].node
	if node == nil || len(e.key) > maxName {
		return nil
	}
	name := string(e.key)
	if strings.IndexByte(name, '\\') >= 0 {
		if json.Unmarshal([]byte(`"`+name+`"`), &name) != nil {
			return errNotJSON
		}
	}
	for _, k := range node.inner {
		switch {
		// Go's and others' decoders take a name in any case.
		case strings.EqualFold(k.name, name) && (k.seen || k.name != name):
			return errTwice(k.name)
		case k.name == name:
			k.seen, e.next = true, k
		}
	}
	return nil
}

// closes takes the end of an object or array. What is missing in an object that
// matters is put in front of it.
func (e *jsonEditor) closes(out, b []byte) ([]byte, error) {
	top := e.stack[len(e.stack)-1]
	if top.node != nil {
		out = top.node.writeInner(out, top.members)
	}
	e.stack = e.stack[:len(e.stack)-1]
	out = e.emit(out, b)
	return out, e.valueEnds()
}

// valueEnds is called behind a value.
func (e *jsonEditor) valueEnds() error {
	if e.state = jsonNext; len(e.stack) == 0 {
		e.state = jsonOver
	}
	if f := e.at; f != nil && len(e.stack) == e.depth {
		e.at = nil
		text := string(f.text)
		var decoded string
		if strings.HasPrefix(text, `"`) && json.Unmarshal(f.text, &decoded) == nil {
			text = decoded
		}
		return f.done(text, e.connection)
	}
	return nil
}

func (e *jsonEditor) end(out []byte) ([]byte, error) {
	if e.state != jsonOver {
		return out, errNotJSON
	}
	return out, nil
}
