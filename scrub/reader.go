package scrub

import "io"

// minRead is the least room worth reading into.
const minRead = 512

// Reader scrubs what is read through it. It reads into the caller's buffer, and
// returns what has come as soon as it is known to be harmless.
type Reader struct {
	st  *Stream
	src io.Reader
	err error // of src; returned behind the last byte
	// own holds what was read and not yet returned: first own[:done], which is
	// scrubbed, then what is held back. It is nil while there is neither.
	own  []byte
	done int
}

// Reader scrubs r. Its end, or its error, is the end of the text.
func (s *Scrubber) Reader(r io.Reader) *Reader { return &Reader{st: s.NewStream(), src: r} }

// Hits says how often each value was found in what has been read.
func (r *Reader) Hits() Hits { return r.st.hits }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.done > 0 {
			n := copy(p, r.own[:r.done])
			r.own, r.done = r.own[n:], r.done-n
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		if len(p) < len(r.own)+minRead {
			if !r.fill(max(minRead, len(r.own))) {
				return 0, nil
			}
			continue
		}
		// The usual case: nothing but the caller's buffer is touched.
		held := copy(p, r.own)
		n, err := r.src.Read(p[held:])
		if n == 0 && err == nil {
			return 0, nil
		}
		r.err = err
		n += held
		done := r.st.Overwrite(p[:n], err != nil)
		r.own = append(r.own[:0], p[done:n]...)
		if done > 0 {
			return done, nil
		}
	}
}

// fill reads up to room bytes behind what is held back. It returns false when
// neither bytes nor an error have come.
func (r *Reader) fill(room int) bool {
	held := len(r.own)
	buf := r.own
	if cap(buf)-held < room {
		buf = make([]byte, held, 2*held+room)
		copy(buf, r.own)
	}
	n, err := r.src.Read(buf[held : held+room])
	r.err, r.own = err, buf[:held+n]
	if n == 0 && err == nil {
		return false
	}
	r.done = r.st.Overwrite(r.own, err != nil)
	return true
}
