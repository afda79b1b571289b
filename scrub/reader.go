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
	// store[start:end] is what was read and not yet returned: first done bytes that
	// are scrubbed, then what is held back.
	store      []byte
	start, end int
	done       int
}

// Reader scrubs r. Its end is the end of the text. At an error the text has none: what
// is held back then is never returned, for it would tell most of a value to a client
// that asks for the rest by a range, in which the rest of the value is not found.
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
			n := copy(p, r.store[r.start:r.start+r.done])
			r.start, r.done = r.start+n, r.done-n
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		held := r.end - r.start
		if len(p) < held+minRead {
			if !r.fill() {
				return 0, nil
			}
			continue
		}
		// The usual case: nothing but the caller's buffer is touched.
		copy(p, r.store[r.start:r.end])
		n, err := r.src.Read(p[held:])
		if n == 0 && err == nil {
			return 0, nil
		}
		r.err = err
		n += held
		done := r.st.Overwrite(p[:n], err == io.EOF)
		r.store = append(r.store[:0], p[done:n]...)
		r.start, r.end = 0, n-done
		if done > 0 {
			return done, nil
		}
	}
}

// fill reads into the store, behind what is held back. It returns false when
// neither bytes nor an error have come.
func (r *Reader) fill() bool {
	held := r.end - r.start
	if room := max(held, minRead); cap(r.store) < held+room {
		old := r.store[r.start:r.end]
		r.store = make([]byte, 2*(held+room))
		copy(r.store, old)
	} else {
		old := r.store[r.start:r.end]
		r.store = r.store[:cap(r.store)]
		if r.start > 0 {
			copy(r.store, old)
		}
	}
	n, err := r.src.Read(r.store[held:])
	r.start, r.end, r.err = 0, held+n, err
	if n == 0 && err == nil {
		return false
	}
	r.done = r.st.Overwrite(r.store[:r.end], err == io.EOF)
	return true
}
