package scrub

import "slices"

// maxLive is how many unfinished matches a stream remembers. When there are more,
// it does not look further until some are finished.
const maxLive = 12

// Stream scrubs one text that comes in parts: a body, or one message of a
// WebSocket. However the text is divided, what leaves is the same. It is for one
// goroutine at a time, and allocates nothing until something has been found.
type Stream struct {
	s *Scrubber
	// All positions are relative to the buffer of the next call.
	//
	// decided is the position before which every start of a form has been looked
	// at: it has matched and is in regions, has failed, or is in live.
	decided int
	live    []unfinished
	regions []region
	hits    Hits
	// attempts are the latest of each form, if some form repeats itself.
	attempts []attempt
}

// attempt is how far a form that repeats itself came. From one period behind its
// start, the text is as far the same again.
type attempt struct{ start, i, at int }

// unfinished is a match that has come to the end of the text.
type unfinished struct {
	form         int
	start, i, at int // i and at as in form.match
}

// region is a stretch of text to overwrite.
type region struct {
	start, end int
	value      int // of the longest match in it
	longest    int
}

// NewStream begins a text.
func (s *Scrubber) NewStream() *Stream { return &Stream{s: s} }

// Hits says how often each value was found so far.
func (st *Stream) Hits() Hits { return st.hits }

// Overwrite scrubs buf in place and returns how many of its bytes are done and may
// leave. The others may be the beginning of a value: the next call's buf has to
// begin with them, unchanged, followed by what has come since. With last set, the
// text is over, all bytes are done, and the Stream is ready for another text.
//
// Fewer bytes are held than the longest form has. There is no need to know how
// many that are: when the buffer is full and nothing is done, a bigger one is
// needed.
func (st *Stream) Overwrite(buf []byte, last bool) (done int) {
	s := st.s
	if s.Empty() {
		return len(buf)
	}
	if len(st.live) > 0 {
		st.resume(buf, last)
	}
	if st.look(buf, last) && (last || st.lookAtEnd(buf)) {
		st.decided = len(buf)
	}
	done = st.decided
	for i := range st.live {
		done = min(done, st.live[i].start)
	}
	if len(st.regions) > 0 {
		st.apply(buf, done)
	}
	for i := range st.live {
		st.live[i].start -= done
		st.live[i].at -= done
	}
	for i := range st.attempts {
		st.attempts[i].start -= done
		st.attempts[i].at -= done
	}
	st.decided -= done
	if last {
		clear(st.attempts)
	}
	return done
}

// resume goes on with unfinished matches.
func (st *Stream) resume(buf []byte, last bool) {
	kept := st.live[:0]
	for _, u := range st.live {
		f := &st.s.forms[u.form]
		var state status
		u.i, u.at, state = f.match(buf, u.i, u.at, last)
		st.remember(u.form, u.start, u.i, u.at)
		switch state {
		case matched:
			st.found(u.start, u.at, f.value)
		case partial:
			kept = append(kept, u)
		}
	}
	st.live = kept
}

// look tries every form that begins in buf and has its window there. It returns
// false, and moves decided, when it had to stop.
func (st *Stream) look(buf []byte, last bool) bool {
	s := st.s
	from := st.decided
	for p := s.next(buf, from); p < len(buf); p = s.next(buf, p+s.stride) {
		for _, e := range s.at(buf, p) {
			f := &s.forms[e.form]
			begin := p - int(e.back)
			for x := max(begin-f.high, from); x <= begin-f.low; x++ {
				if s.begins(buf, x) && !st.try(buf, int(e.form), x, last) {
					st.decided = max(from, p-s.back)
					return false
				}
			}
		}
	}
	return true
}

// lookAtEnd tries the forms that begin in buf and whose window may not have come
// yet. It returns false, and moves decided, when it had to stop.
func (st *Stream) lookAtEnd(buf []byte) bool {
	s := st.s
	// What has begun goes on to the end, and holds no byte that no form has: at the
	// end of a line, that is all of them.
	from := len(buf)
	for lowest := max(st.decided, len(buf)-s.reach+1, 0); from > lowest && s.alphabet.has(buf[from-1]); {
		from--
	}
	for x := from; x < len(buf); x++ {
		if !s.begins(buf, x) {
			continue
		}
		for i := range s.forms {
			if !st.try(buf, i, x, false) {
				st.decided = x
				return false
			}
		}
	}
	return true
}

// try compares a form with the text at x. It returns false when there is no room to
// remember one more match.
func (st *Stream) try(buf []byte, form, x int, last bool) bool {
	for i := range st.live {
		if st.live[i].form == form && st.live[i].start == x {
			return true
		}
	}
	if len(st.live) == maxLive {
		return false
	}
	f := &st.s.forms[form]
	i, at := st.ahead(form, x)
	i, at, state := f.match(buf, i, at, last)
	st.remember(form, x, i, at)
	switch state {
	case matched:
		st.found(x, at, f.value)
	case partial:
		st.live = append(st.live, unfinished{form, x, i, at})
	}
	return true
}

// ahead returns where the comparison of a form with the text at x has to begin.
func (st *Stream) ahead(form, x int) (i, at int) {
	f := &st.s.forms[form]
	if f.period == 0 || st.attempts == nil {
		return 0, x
	}
	a := st.attempts[form]
	shift := x - a.start
	if shift <= 0 || shift%f.pace != 0 || shift/f.pace*f.period > a.i {
		return 0, x
	}
	return a.i - shift/f.pace*f.period, a.at
}

// remember keeps an attempt for ahead, unless it came to where the form does not
// repeat itself any more.
func (st *Stream) remember(form, start, i, at int) {
	f := &st.s.forms[form]
	if f.period == 0 || i > f.periodic {
		return
	}
	if st.attempts == nil {
		st.attempts = make([]attempt, len(st.s.forms))
	}
	if f.kind == spelled {
		// The character behind Base64 is not the form's; and with escapes, the same
		// bytes of the form may not be as far apart in the text.
		if f.tailBits > 0 && at-start == i+1 {
			at--
		}
		if at-start != i {
			return
		}
	}
	if a := &st.attempts[form]; a.i == 0 || start >= a.start {
		*a = attempt{start, i, at}
	}
}

// found adds a match to regions, which are in order and apart. Finding one again
// changes nothing. Matches come almost in order: its place is near the end.
func (st *Stream) found(start, end, value int) {
	r := region{start, end, value, end - start}
	to := len(st.regions)
	for to > 0 && st.regions[to-1].start >= end {
		to--
	}
	from := to
	for ; from > 0 && st.regions[from-1].end > start; from-- {
		o := st.regions[from-1]
		r.start, r.end = min(r.start, o.start), max(r.end, o.end)
		if o.longest > r.longest || o.longest == r.longest && o.value < r.value {
			r.longest, r.value = o.longest, o.value
		}
	}
	st.regions = slices.Replace(st.regions, from, to, r)
}

// apply overwrites what is in regions and before done.
func (st *Stream) apply(buf []byte, done int) {
	kept := st.regions[:0]
	for _, r := range st.regions {
		for i := max(r.start, 0); i < min(r.end, done); i++ {
			buf[i] = '*'
		}
		if r.end <= done {
			if st.hits == nil {
				st.hits = make(Hits, st.s.values)
			}
			st.hits[r.value]++
			continue
		}
		r.start, r.end = r.start-done, r.end-done
		kept = append(kept, r)
	}
	st.regions = kept
}
