package audit

import (
	"bufio"
	"bytes"
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

	"github.com/authsome/authsome"
)

// Spool takes the events of requests. Append is one write to an append-only
// file, done before the credential leaves, so that nothing is lost when the
// process is killed; a power cut may lose what the kernel had not written yet.
// Drain moves what has gathered into the database, in batches.
//
// The file has one JSON event a line. Drain first gives it a number, so that new
// events go to a new file, and removes it when all of it is committed. Numbered
// files are drained oldest first.
//
//	audit.spool               being appended to
//	audit.spool.000000000007  being drained
//	audit.spool.damaged       lines that are no events
//
// A process that dies leaves its files to the next one. What was committed and
// not removed comes again, and the database leaves out events that it has. A
// line that a crash cut short stays a line of its own.
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
// more than a thousand years.
const digits = 12

// maxBatch bounds one transaction, and maxRecent what is held in memory when no
// transaction succeeds for a while.
const (
	maxBatch  = 2000
	maxRecent = 4 * maxBatch
)

// ErrClosed is the cause of Append's error after Close.
var ErrClosed = errors.New("the audit spool is closed")

// OpenSpool opens or makes a spool, 0600. The names of its other files begin
// with path.
func OpenSpool(path string) (*Spool, error) {
	s := &Spool{path: path, reader: bufio.NewReaderSize(nil, maxLine+1)}
	old, err := s.numbers()
	if err != nil {
		return nil, s.fail("open", err)
	}
	if len(old) > 0 {
		s.next = old[len(old)-1] + 1
	}
	if err := s.attach(); err != nil {
		return nil, s.fail("open", err)
	}
	return s, nil
}

func (s *Spool) name(number int64) string { return fmt.Sprintf("%s.%0*d", s.path, digits, number) }

// numbers lists the files that are to be drained, oldest first.
func (s *Spool) numbers() ([]int64, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	var out []int64
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(s.path)+".")
		if !ok || len(rest) != digits || !e.Type().IsRegular() {
			continue
		}
		if n, err := strconv.ParseUint(rest, 10, 63); err == nil {
			out = append(out, int64(n))
		}
	}
	slices.Sort(out)
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
		s.recent = make([]authsome.Event, 0, 16)
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
	lines, err := appendEvent(s.lines, &ev)
	if err != nil {
		return authsome.E(authsome.Internal, "record an event: %w", err)
	}
	if n := len(lines) - before; n >= maxLine {
		return authsome.E(authsome.Internal, "record an event: it is %d bytes long, at most %d are kept", n, maxLine)
	}
	s.lines, s.events = append(lines, '\n'), append(s.events, ev)
	if !now && len(s.lines) < maxLater {
		return nil
	}
	if err := s.write(); err != nil {
		// The others are tried again with the next one.
		s.lines, s.events = s.lines[:before], s.events[:len(s.events)-1]
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
				s.torn, s.recent = true, nil
			}
		}
		return err
	}
	if s.recent != nil && len(s.recent)+len(s.events) <= maxRecent {
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
// time. A batch is never empty, and the same events may come again after a
// crash.
func (s *Spool) Drain(commit func(batch []authsome.Event) error) error {
	s.drain.Lock()
	defer s.drain.Unlock()
	number, recent, stuck := s.rotate() // older files are drained all the same
	files, err := s.numbers()
	if err != nil {
		return s.fail("drain", err)
	}
	for _, n := range files {
		if n == number && recent != nil {
			err = s.drainMemory(s.name(n), recent, commit)
		} else {
			err = s.drainFile(s.name(n), commit)
		}
		if err != nil {
			return err
		}
	}
	if stuck != nil {
		return s.fail("drain", stuck)
	}
	return nil
}

// rotate gives the file that is appended to a number, if there is anything in
// it, and begins another. It returns the number, -1 if there is none, and the
// events of that file when memory has all of them.
func (s *Spool) rotate() (number int64, recent []authsome.Event, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		// On an error they wait for the next time.
		err = s.write()
	}
	if s.size == 0 {
		return -1, nil, err
	}
	if len(strconv.FormatInt(s.next, 10)) > digits {
		return -1, nil, errors.New("the numbers of its files have come to their end; move the highest aside")
	}
	if s.file != nil {
		_ = s.file.Close() // nothing is buffered that this could lose; Windows renames no open file
		s.file = nil
	}
	number = -1
	if rerr := os.Rename(s.path, s.name(s.next)); rerr == nil {
		number, recent = s.next, s.recent
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
	return number, recent, err
}

// drainMemory is drainFile for a file whose events are at hand.
func (s *Spool) drainMemory(name string, events []authsome.Event, commit func(batch []authsome.Event) error) error {
	for batch := range slices.Chunk(events, maxBatch) {
		if err := commit(Merge(batch)); err != nil {
			return err
		}
	}
	if err := os.Remove(name); err != nil {
		return s.fail("drain", err)
	}
	return nil
}

func (s *Spool) drainFile(name string, commit func(batch []authsome.Event) error) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.fail("drain", err)
	}
	defer func() { _ = f.Close() }()
	s.reader.Reset(f)
	var batch []authsome.Event
	for end := false; !end; {
		line, err := s.reader.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			end = true
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return s.fail("drain", err)
		}
		if ev, ok := decode(line); ok {
			batch = append(batch, ev)
		} else if err := s.keep(line); err != nil {
			return s.fail("drain", err)
		}
		if len(batch) == maxBatch || end && len(batch) > 0 {
			if err := commit(Merge(batch)); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	_ = f.Close() // Windows removes no open file
	if err := os.Remove(name); err != nil {
		return s.fail("drain", err)
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
