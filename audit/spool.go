package audit

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/authsome/authsome"
)

// Spool takes the events of requests. Append is one write to an append-only
// file, done before the credential leaves, so that nothing is lost when the
// process is killed; a power cut may lose what the kernel had not written yet.
// Drain moves what has gathered into the database, in batches.
//
// The file has one JSON event a line. Drain first gives it a number and a name
// that no other file ever had, so that new events go to a new file, and removes it
// when all of it is committed. Numbered files are drained oldest first.
//
//	audit.spool                                being appended to
//	audit.spool.000000000007-9f86d081884c7d65  being drained
//	audit.spool.damaged                        lines that are no events
//
// A process that dies leaves its files to the next one. What was committed and
// not removed comes again, in the same batches from the same source, by which the
// database knows them. A line that a crash cut short stays a line of its own.
//
// One process has a spool open: the one that has the database open.
type Spool struct {
	path string

	mu     sync.Mutex
	file   *os.File // nil when it could not be opened, and after Close
	size   int64    // of file
	torn   bool     // file may end within a line
	next   int64    // number of the next file to be drained
	closed bool

	// recent are the events that are in file, so that Drain need not read them
	// back; nil when file has more than these.
	recent []authsome.Event
	spare  []authsome.Event // empty, for the next recent

	// lines and their events are to be written next.
	lines  []byte
	events []authsome.Event

	drain  sync.Mutex
	reader *bufio.Reader // of the file being drained
}

// maxLine bounds an event in bytes, and what Drain holds in memory of a line.
// A path, the one long thing in an event, seldom has a hundredth of that.
const maxLine = 256 << 10

// digits are those of a file's number: at twenty files a second they last for
// more than a thousand years. As many hexadecimal ones follow it as nameDigits says.
const (
	digits     = 12
	nameDigits = 16
)

// maxBatch and maxBatchSize bound one transaction, in events and, roughly, in
// bytes, and maxRecent and maxRecentSize what is held in memory when no transaction
// succeeds for a while. A file has to be divided in the same way each time.
const (
	maxBatch      = 2000
	maxBatchSize  = 4 << 20
	maxRecent     = 4 * maxBatch
	maxRecentSize = 4 * maxBatchSize
)

// ErrClosed is the cause of Append's error after Close.
var ErrClosed = errors.New("the audit spool is closed")

// OpenSpool opens or makes a spool, 0600. The names of its other files begin
// with path.
func OpenSpool(path string) (*Spool, error) {
	s := &Spool{path: path, reader: bufio.NewReaderSize(nil, maxLine+1)}
	old, err := s.files()
	if err != nil {
		return nil, s.fail("open", err)
	}
	if len(old) > 0 {
		s.next, _ = numberOf(old[len(old)-1])
		s.next++
	}
	if err := s.attach(); err != nil {
		return nil, s.fail("open", err)
	}
	return s, nil
}

// source is a name for a numbered file.
func source(number int64) string {
	var b [nameDigits / 2]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return fmt.Sprintf("%0*d-%x", digits, number, b)
}

// numberOf is the number in a source; false when it is none.
func numberOf(source string) (int64, bool) {
	number, name, _ := strings.Cut(source, "-")
	n, err := strconv.ParseUint(number, 10, 63)
	_, nameErr := hex.DecodeString(name)
	return int64(n), len(number) == digits && len(name) == nameDigits && err == nil && nameErr == nil
}

// files lists the sources that are to be drained, oldest first.
func (s *Spool) files() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path)) // sorted by name
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(s.path)+".")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if _, ok := numberOf(rest); ok {
			out = append(out, rest)
		}
	}
	return out, nil
}

// attach opens the file to append to. What a process before this one left in it
// may end within a line.
func (s *Spool) attach() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	s.file, s.size, s.torn, s.recent = f, fi.Size(), fi.Size() > 0, nil
	if s.size == 0 {
		s.recent, s.spare = slices.Grow(s.spare, 16), nil
	}
	return nil
}

// Append writes one event. An error means that it is not recorded, and that
// what it is about must not happen.
func (s *Spool) Append(ev authsome.Event) error { return s.add(ev, true) }

// AppendLater takes an event that nothing waits for, such as the completion of a
// request whose intent is written: it goes with the next one that is, or with
// Drain. When the process is killed before, it is lost.
func (s *Spool) AppendLater(ev authsome.Event) error { return s.add(ev, false) }

// maxLater bounds what waits for the next write, in bytes.
const maxLater = 64 << 10

func (s *Spool) add(ev authsome.Event, now bool) error {
	if ev.ID == "" || ev.Vault == "" {
		// The database refuses it, which would hold up every event after it.
		return authsome.E(authsome.Internal, "record an event: it has no id or no vault (%s)", ev.Type)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.fail("record an event in", ErrClosed)
	}
	before := len(s.lines)
	lines, err := AppendEvent(s.lines, &ev)
	if err != nil {
		return authsome.E(authsome.Internal, "record an event: %w", err)
	}
	n := len(lines) - before
	if n >= maxLine {
		return authsome.E(authsome.Internal, "record an event: it is %d bytes long, at most %d are kept", n, maxLine)
	}
	s.lines, s.events = append(lines, '\n'), append(s.events, ev)
	n++
	if !now && len(s.lines) < maxLater {
		return nil
	}
	if err := s.write(); err != nil {
		// The others are tried again with the next one.
		s.lines, s.events = s.lines[:len(s.lines)-n], s.events[:len(s.events)-1]
		return s.fail("record an event in", err)
	}
	return nil
}

// write writes what waits, with mu held.
func (s *Spool) write() error {
	if len(s.lines) == 0 {
		return nil
	}
	if s.file == nil {
		if err := s.attach(); err != nil {
			return err
		}
	}
	if s.torn {
		if _, err := s.file.Write([]byte{'\n'}); err != nil {
			return err
		}
		s.size++
		s.torn = false
	}
	n, err := s.file.Write(s.lines)
	s.size += int64(n)
	if err != nil {
		// A part of it, because the disk is full. It is taken back, so that the
		// next event has a line of its own, and comes once.
		if n > 0 {
			if terr := s.file.Truncate(s.size - int64(n)); terr == nil {
				s.size -= int64(n)
			} else {
				// But for whole lines.
				s.torn, s.recent = true, nil
				end := bytes.LastIndexByte(s.lines[:n], '\n') + 1
				s.events = slices.Delete(s.events, 0, bytes.Count(s.lines[:end], []byte{'\n'}))
				s.lines = slices.Delete(s.lines, 0, end)
			}
		}
		return err
	}
	if s.recent != nil && len(s.recent)+len(s.events) <= maxRecent && s.size <= maxRecentSize {
		s.recent = append(s.recent, s.events...)
	} else {
		s.recent = nil
	}
	if s.lines, s.events = s.lines[:0], s.events[:0]; cap(s.lines) > maxLater*2 {
		s.lines = nil
	}
	return nil
}

// Drain hands everything that has gathered to commit, oldest first, in batches,
// and forgets it when commit returns nil. On an error it is kept for the next
// time. A batch is never empty. After a crash the same batches may come again,
// with the same source, which no other batch ever has.
func (s *Spool) Drain(commit func(source string, batch []authsome.Event) error) error {
	s.drain.Lock()
	defer s.drain.Unlock()
	rotated, recent, stuck := s.rotate() // older files are drained all the same
	files, err := s.files()
	if err != nil {
		return s.fail("drain", err)
	}
	for _, name := range files {
		to := batches{source: name, commit: commit}
		if name == rotated && recent != nil {
			err = to.all(recent)
			s.giveBack(recent)
		} else if err = s.read(name, &to); err == nil {
			err = to.end()
		}
		if err != nil {
			return err
		}
		if err := os.Remove(s.path + "." + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.fail("drain", err)
		}
	}
	if stuck != nil {
		return s.fail("drain", stuck)
	}
	return nil
}

// batches divides the events of a file.
type batches struct {
	source string
	commit func(source string, batch []authsome.Event) error

	events []authsome.Event
	size   int
	count  int
}

// full reports whether a batch ends with its n-th event, when so much has been
// added to size as weight says.
func full(n, size int) bool { return n == maxBatch || size >= maxBatchSize }

// weight is, roughly, how many bytes an event takes. It counts characters, since
// JSON makes one of three bytes of each byte that is none: an event that is read back
// may be longer than it was.
func weight(ev *authsome.Event) int {
	return 512 + utf8.RuneCountInString(ev.Path) + utf8.RuneCountInString(ev.Host) + utf8.RuneCountInString(ev.Detail)
}

// add takes the next event of a file.
func (b *batches) add(ev authsome.Event) error {
	b.events = append(b.events, ev)
	if b.size += weight(&ev); full(len(b.events), b.size) {
		return b.end()
	}
	return nil
}

// all takes every event of a file, without copying them.
func (b *batches) all(events []authsome.Event) error {
	first := 0
	for i := range events {
		if b.size += weight(&events[i]); full(i+1-first, b.size) || i+1 == len(events) {
			b.events = events[first : i+1]
			if err := b.end(); err != nil {
				return err
			}
			first = i + 1
		}
	}
	return nil
}

func (b *batches) end() error {
	if len(b.events) == 0 {
		return nil
	}
	if err := b.commit(fmt.Sprintf("%s/%d", b.source, b.count), Merge(b.events)); err != nil {
		return err
	}
	b.events, b.size, b.count = b.events[:0], 0, b.count+1
	return nil
}

// giveBack keeps room for the events of the next file.
func (s *Spool) giveBack(events []authsome.Event) {
	clear(events)
	s.mu.Lock()
	s.spare = events[:0]
	s.mu.Unlock()
}

// rotate gives the file that is appended to a number, if there is anything in
// it, and begins another. It returns its source, "" if there is none, and the
// events of that file when memory has all of them.
func (s *Spool) rotate() (rotated string, recent []authsome.Event, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		// On an error they wait for the next time.
		err = s.write()
	}
	if s.size == 0 {
		return "", nil, err
	}
	if len(strconv.FormatInt(s.next, 10)) > digits {
		return "", nil, errors.New("the numbers of its files have come to their end; move the highest aside")
	}
	if s.file != nil {
		_ = s.file.Close() // nothing is buffered that this could lose; Windows renames no open file
		s.file = nil
	}
	name := source(s.next)
	if rerr := os.Rename(s.path, s.path+"."+name); rerr == nil {
		rotated, recent = name, s.recent
		s.next++
		s.size = 0
	} else if err == nil {
		err = rerr
	}
	if !s.closed {
		if aerr := s.attach(); err == nil { // if not, the next Append tries again
			err = aerr
		}
	}
	return rotated, recent, err
}

// read takes the events out of a file.
func (s *Spool) read(name string, to *batches) error {
	f, err := os.Open(s.path + "." + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.fail("drain", err)
	}
	defer func() { _ = f.Close() }() // before it is removed: Windows removes no open file
	s.reader.Reset(f)
	for end := false; !end; {
		line, err := s.reader.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			end = true
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return s.fail("drain", err)
		}
		if ev, ok := decode(line); ok {
			if err := to.add(ev); err != nil {
				return err
			}
		} else if err := s.keep(line); err != nil {
			return s.fail("drain", err)
		}
	}
	return nil
}

// decode reads a line. One without its end is complete all the same when it is
// an event: no shorter part of an event is one.
func decode(line []byte) (authsome.Event, bool) {
	var ev authsome.Event
	err := json.Unmarshal(line, &ev)
	return ev, err == nil && ev.ID != "" && ev.Vault != ""
}

// keep puts aside what is no event. It is the end of a file that a crash cut
// short, whose request was refused, since Append had not returned; or the disk
// has changed what was written, and somebody may want to see it.
func (s *Spool) keep(line []byte) error {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return nil
	}
	f, err := os.OpenFile(s.path+".damaged", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(slices.Clip(line), '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Merge leaves out the intent of a request whose completion is in the same
// batch: the completion says all that the intent did. What stays "started" in
// the log was cut short by the daemon's end.
func Merge(batch []authsome.Event) []authsome.Event {
	type request struct{ run, id string }
	done := make(map[request]bool, len(batch)/2)
	for i := range batch {
		if ev := &batch[i]; ev.Request != "" && ev.Status != "started" {
			done[request{ev.Run, ev.Request}] = true
		}
	}
	out := make([]authsome.Event, 0, len(batch))
	for i := range batch {
		if ev := &batch[i]; ev.Status != "started" || ev.Request == "" || !done[request{ev.Run, ev.Request}] {
			out = append(out, *ev)
		}
	}
	return out
}

// Close ends appending. What has not been drained stays for the next process;
// Drain may still be called.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	werr := s.write()
	s.closed = true
	if s.file == nil {
		if werr != nil {
			return s.fail("close", werr)
		}
		return nil
	}
	err := s.file.Close()
	if werr != nil {
		err = werr
	}
	s.file = nil
	if s.size == 0 {
		_ = os.Remove(s.path)
	}
	if err != nil {
		return s.fail("close", err)
	}
	return nil
}

// fail makes the error that a person sees.
func (s *Spool) fail(what string, err error) error {
	why := err
	var pe *fs.PathError
	if errors.As(err, &pe) {
		why = pe.Err // the path is in the message already
	}
	return &authsome.Error{
		Code:    authsome.StoreFailed,
		Message: fmt.Sprintf("%s the audit spool %s: %v", what, s.path, why),
		Hint:    "make sure that there is room on that disk and that it can be written to; until then requests that need a credential are refused",
		Err:     err,
	}
}
