package proxy

// formEditor is for application/x-www-form-urlencoded.
type formEditor struct {
	fields     []*bodyField
	connection string

	name    []byte // of the pair that has begun, held back until it is known
	passing bool   // the rest of the pair goes on as it is
	at      *bodyField
	some    bool // something was written
}

func (e *formEditor) feed(out, in []byte) ([]byte, error) {
	for len(in) > 0 {
		if e.passing {
			n := len(in)
			for i, c := range in {
				if c == '&' || c == ';' {
					n = i
					break
				}
			}
			if out = e.value(out, in[:n]); n == len(in) {
				return out, nil
			}
			if err := e.finish(); err != nil {
				return out, err
			}
			out, in = append(out, in[n]), in[n+1:]
			continue
		}
		c := in[0]
		in = in[1:]
		switch {
		case c == '&' || c == ';':
			var err error
			if out, err = e.begin(out, false); err == nil {
				err = e.finish()
			}
			if err != nil {
				return out, err
			}
			out = append(out, c)
			e.some = true
		case c == '=' || len(e.name) >= maxName:
			known := c == '='
			if !known {
				e.name = append(e.name, c)
			}
			var err error
			if out, err = e.begin(out, known); err != nil {
				return out, err
			}
			e.passing = true
		default:
			e.name = append(e.name, c)
		}
	}
	return out, nil
}

// begin is called when the name of a pair is known.
func (e *formEditor) begin(out []byte, equals bool) ([]byte, error) {
	e.some = e.some || equals || len(e.name) > 0
	read := readName(string(e.name))
	for _, f := range e.fields {
		if len(e.name) > maxName || readName(f.at.Name) != read {
			continue
		}
		if f.seen {
			return out, errTwice(f.at.Name)
		}
		f.seen, e.at = true, f
		f.size = int64(len(e.name))
		if equals {
			f.size++
		}
		if f.value != nil {
			e.name = e.name[:0]
			return append(append(append(out, f.at.Name...), '='), f.value...), nil
		}
	}
	out = append(out, e.name...)
	if equals {
		out = append(out, '=')
	}
	e.name = e.name[:0]
	return out, nil
}

func (e *formEditor) value(out, b []byte) []byte {
	if e.at != nil {
		e.at.keep(b)
		if e.at.value != nil {
			return out
		}
	}
	return append(out, b...)
}

// finish is called at the end of a pair.
func (e *formEditor) finish() error {
	e.passing = false
	if f := e.at; f != nil {
		e.at = nil
		return f.done(decodeField(string(f.text)), e.connection)
	}
	return nil
}

func (e *formEditor) end(out []byte) ([]byte, error) {
	if !e.passing {
		var err error
		if out, err = e.begin(out, false); err != nil {
			return out, err
		}
	}
	if err := e.finish(); err != nil {
		return out, err
	}
	for _, f := range e.fields {
		if f.seen || f.value == nil {
			continue
		}
		if e.some {
			out = append(out, '&')
		}
		e.some = true
		out = append(append(append(out, f.at.Name...), '='), f.value...)
	}
	return out, nil
}
