package scrub

import (
	"cmp"
	"encoding/binary"
	"slices"
)

const (
	// block is the number of bytes that are looked up at once.
	block = 4
	// maxStride bounds the distance between two lookups. Twice as far apart, they
	// are no faster, since memory is then what limits them; and the filter holds
	// twice as much.
	maxStride = 16
	// windowDepth is how deep in a value a window may lie. Everything that can be
	// in front of it is held back at the end of each part of a stream.
	windowDepth = 512
)

// window is where every text of a form is known.
type window struct {
	// at is the byte of the form's text that it begins with; low and high are how
	// many bytes of a text may be in front of it.
	at, low, high int
	// length of the window. 0: there is none; the beginnings of all texts of the
	// form are in the filter instead.
	length int
}

// anchors are the windows of all forms, for looking them up.
type anchors struct {
	// stride is the distance between lookups: a window has at least stride+block-1
	// bytes.
	stride int
	// reach is the number of bytes at the end of a text in which a form can begin
	// without its window having been looked up; back is how far in front of a
	// lookup a form can begin.
	reach, back int
	// shortest is the length of the shortest text that can hold a form.
	shortest int
	filter   [512]uint64 // of the hashes of the blocks of entries
	pairs    [32]uint64  // of the hashes of the first two bytes of all forms
	first    byteSet     // of the first byte
	alphabet byteSet     // of all bytes of all forms, and some more
	entries  []entry     // sorted by block
}

// entry is one block of a window.
type entry struct {
	block uint32 // in small letters
	form  int32
	back  int32 // the distance from the beginning of the window
}

// byteSet is a set of bytes.
type byteSet [4]uint64

func (s *byteSet) has(c byte) bool { return s[c>>6]>>(c&63)&1 != 0 }

// add adds bytes, and the capital letters of small ones.
func (s *byteSet) add(bytes ...byte) {
	for _, c := range bytes {
		s[c>>6] |= 1 << (c & 63)
		if c >= 'a' && c <= 'z' {
			c -= 0x20
			s[c>>6] |= 1 << (c & 63)
		}
	}
}

// fold makes small letters of capital ones. It changes other bytes as well, which
// costs a comparison when it makes two of them equal.
const fold = 0x20202020

func hashBlock(b uint32) uint32 { return b * 0x9E3779B1 >> 17 }

func hashPair(a, b byte) uint32 {
	return (uint32(a|0x20)*0x9E3779B1 + uint32(b|0x20)*0x85EBCA6B) >> 21
}

// anchorsOf picks the windows of forms, fills them in, and makes the filter.
func anchorsOf(forms []form) anchors {
	a := anchors{stride: maxStride, shortest: len(forms[0].text)}
	var room [maxStride + block + 16]byte
	for i := range forms {
		f := &forms[i]
		f.window = f.pick()
		f.repeat()
		a.stride = min(a.stride, max(f.length-block+1, 1))
		a.shortest = min(a.shortest, len(f.text))
	}
	for i := range forms {
		f := &forms[i]
		if f.length == 0 {
			f.beginnings(block, func(b []byte) { a.enter(b, i, 0) })
			f.length = block
		} else {
			text := f.windowText(room[:0], a.stride+block-1)
			for back := range a.stride {
				a.enter(text[back:back+block], i, back)
			}
		}
		a.reach = max(a.reach, f.high+a.stride+block-1)
		a.back = max(a.back, f.high+a.stride-1)
		f.letters(&a.alphabet)
		f.beginnings(2, func(b []byte) {
			// Every text of a form is longer than this.
			h := hashPair(b[0], b[1])
			a.pairs[h>>6] |= 1 << (h & 63)
			a.first.add(lower(b[0]))
		})
	}
	// Of a form, what begins first is compared first: see form.period.
	slices.SortFunc(a.entries, func(x, y entry) int {
		return cmp.Or(cmp.Compare(x.block, y.block), cmp.Compare(x.form, y.form), cmp.Compare(y.back, x.back))
	})
	a.entries = slices.Compact(a.entries)
	return a
}

func (a *anchors) enter(b []byte, form, back int) {
	v := binary.LittleEndian.Uint32(b) | fold
	h := hashBlock(v)
	a.filter[h>>6] |= 1 << (h & 63)
	a.entries = append(a.entries, entry{v, int32(form), int32(back)})
}

// at returns the entries of the block at text[p:].
func (a *anchors) at(text []byte, p int) []entry {
	v := binary.LittleEndian.Uint32(text[p:]) | fold
	i, found := slices.BinarySearchFunc(a.entries, v, func(e entry, v uint32) int {
		return int(int64(e.block) - int64(v))
	})
	if !found {
		return nil
	}
	n := 1
	for i+n < len(a.entries) && a.entries[i+n].block == v {
		n++
	}
	return a.entries[i : i+n]
}

// next returns the first lookup from p on that passes the filter, or else the end
// of text.
func (a *anchors) next(text []byte, p int) int {
	// Almost all values are long enough for this one, where the distances are
	// known when it is compiled.
	for a.stride == maxStride && len(text)-p >= 4*maxStride {
		w := (*[4 * maxStride]byte)(text[p:])
		h0 := hashBlock(binary.LittleEndian.Uint32(w[0*maxStride:]) | fold)
		h1 := hashBlock(binary.LittleEndian.Uint32(w[1*maxStride:]) | fold)
		h2 := hashBlock(binary.LittleEndian.Uint32(w[2*maxStride:]) | fold)
		h3 := hashBlock(binary.LittleEndian.Uint32(w[3*maxStride:]) | fold)
		pass := a.filter[h0>>6]>>(h0&63) | a.filter[h1>>6]>>(h1&63) | a.filter[h2>>6]>>(h2&63) | a.filter[h3>>6]>>(h3&63)
		if pass&1 != 0 {
			break
		}
		p += 4 * maxStride
	}
	for ; len(text)-p >= block; p += a.stride {
		if h := hashBlock(binary.LittleEndian.Uint32(text[p:]) | fold); a.filter[h>>6]>>(h&63)&1 != 0 {
			return p
		}
	}
	return len(text)
}

// begins reports whether a form may begin at text[x:]: false is certain.
func (a *anchors) begins(text []byte, x int) bool {
	if x+1 < len(text) {
		h := hashPair(text[x], text[x+1])
		return a.pairs[h>>6]>>(h&63)&1 != 0
	}
	return a.first.has(text[x])
}

// suspicious reports whether a lookup in a whole text passes the filter.
func (a *anchors) suspicious(text []byte) bool {
	for p := a.next(text, 0); p < len(text); p = a.next(text, p+a.stride) {
		if len(a.at(text, p)) > 0 {
			return true
		}
	}
	return false
}

// letters adds every byte to set that can be in a text of the form, that behind
// Base64 left out, and perhaps more.
func (f *form) letters(set *byteSet) {
	numbers := []byte("%\\ux&#;0123456789abcdef")
	if f.kind != spelled {
		set.add(numbers...)
		return
	}
	var seen byteSet
	for i := range len(f.text) {
		b := f.text[i]
		if seen.has(b) {
			continue
		}
		seen[b>>6] |= 1 << (b & 63)
		set.add(b, lower(b))
		if plain(b) {
			continue
		}
		set.add('+', '-', '_')
		set.add(numbers...)
		f.escapings(i, func(e []byte, _ int) bool {
			set.add(e...)
			return true
		})
	}
}

// pick chooses a form's window: the first stretch of plain characters that is long
// enough for the longest stride, or else the longest.
func (f *form) pick() window {
	const enough = maxStride + block - 1
	if f.kind != spelled {
		length := 0
		var room [16]byte
		for i := 0; i < len(f.text) && length < enough; {
			unit, used := f.unit(room[:0], i)
			length, i = length+len(unit), i+used
		}
		return window{length: min(length, enough)}
	}
	var best window
	for i := 0; i < min(len(f.text), windowDepth) && best.length < enough; i++ {
		n := 0
		for i+n < len(f.text) && n < enough && plain(f.text[i+n]) {
			n++
		}
		if n > best.length {
			best = window{at: i, length: n}
		}
		i += n
	}
	if best.length < block {
		return window{}
	}
	best.low = best.at
	for i := range best.at {
		longest := 1
		f.escapings(i, func(e []byte, _ int) bool {
			longest = max(longest, len(e))
			return true
		})
		best.high += longest
	}
	return best
}

// windowText appends the first n bytes of the window.
func (f *form) windowText(dst []byte, n int) []byte {
	if f.kind == spelled {
		return append(dst, f.text[f.at:f.at+n]...)
	}
	for i := 0; len(dst) < n; {
		var used int
		dst, used = f.unit(dst, i)
		i += used
	}
	return dst
}

// beginnings calls add with the first n bytes of every text of the form, some of
// them several times.
func (f *form) beginnings(n int, add func([]byte)) {
	if f.kind != spelled {
		add(f.windowText(nil, n)[:n])
		return
	}
	f.continuations(nil, 0, n, add)
}

// continuations is beginnings for texts that begin with head, which stands for the
// first i bytes of the form.
func (f *form) continuations(head []byte, i, n int, add func([]byte)) {
	if len(head) >= n {
		add(head[:n])
		return
	}
	if i == len(f.text) {
		return // shorter than n, which no text is
	}
	b := f.text[i]
	one := func(c byte) {
		f.continuations(append(slices.Clone(head), c), i+1, n, add)
	}
	if introducer(b)&f.escapes == 0 {
		one(b)
	}
	switch {
	case b == ' ' && f.escapes&byPercent != 0:
		one('+')
	case f.base64 && b == '+':
		one('-')
	case f.base64 && b == '/':
		one('_')
	}
	f.escapings(i, func(e []byte, size int) bool {
		f.continuations(append(slices.Clone(head), e...), i+size, n, add)
		return true
	})
}
