package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/authsome/authsome"
)

// Spool takes the events of requests. Append is one write to an append-only
// file, done before the credential leaves, so that nothing is lost when the
// process is killed (a power cut may lose what the kernel had not written).
// Drain moves what has gathered into the database, in batches.
//
// The file holds one JSON event a line. Drain first renames it, so that new
// events go to a new file, and deletes it when the batch is committed. A
// process that dies in between leaves a renamed file, which the next Drain
// takes up; the database leaves out events that it has.
//
//	requests.spool               being appended to
//	requests.spool.000000000007  being drained
type Spool struct {
	path string

	mu      sync.Mutex
	file    *os.File
	pending bool
	next    int

	drain sync.Mutex
}

// OpenSpool opens or makes the spool, 0600.
func OpenSpool(path string) (*Spool, error) {
	s := &Spool{path: path}
	old, err := s.renamed()
	if err != nil {
		return nil, fmt.Errorf("open the audit spool: %w", err)
	}
	for _, name := range old {
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(name, path+"."), "%d", &n); err == nil && n >= s.next {
			s.next = n + 1
		}
	}
	if err := s.openFile(); err != nil {
		return nil, err
	}
	fi, err := s.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the audit spool: %w", err)
	}
	s.pending = fi.Size() > 0 || len(old) > 0
	return s, nil
}

func (s *Spool) openFile() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit spool: %w", err)
	}
	// A line that a crash cut short must not swallow the next one.
	if end, err := f.Seek(-1, io.SeekEnd); err == nil {
		var last [1]byte
		if _, err := f.ReadAt(last[:], end); err == nil && last[0] != '\n' {
			if _, err := f.Write([]byte("\n")); err != nil {
				_ = f.Close()
				return fmt.Errorf("open the audit spool: %w", err)
			}
		}
	}
	s.file = f
	return nil
}

// ErrClosed is returned by Append after Close.
var ErrClosed = errors.New("the audit spool is closed")

// Append writes one event. An error means that it is not recorded, and that
// what it is about must not happen.
func (s *Spool) Append(ev authsome.Event) error {
	line, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("record an event: %w", err)
	}
	line = append(line, '\n')
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return ErrClosed
	}
	n, err := s.file.Write(line)
	if err != nil {
		if n > 0 {
			// Half a line, because the disk is full: take it back, so that the
			// next event starts a line of its own.
			if fi, serr := s.file.Stat(); serr == nil {
				_ = s.file.Truncate(fi.Size() - int64(n))
			}
		}
		return fmt.Errorf("record an event: %w", err)
	}
	s.pending = true
	return nil
}

// Drain hands everything that has gathered to commit, oldest first, and
// forgets it when commit returns nil. On an error it is kept for the next time.
func (s *Spool) Drain(commit func(batch []authsome.Event) error) error {
	s.drain.Lock()
	defer s.drain.Unlock()
	if err := s.rotate(); err != nil {
		return err
	}
	files, err := s.renamed()
	if err != nil {
		return fmt.Errorf("drain the audit spool: %w", err)
	}
	for _, name := range files {
		batch, err := read(name)
		if err != nil {
			return fmt.Errorf("drain the audit spool: %w", err)
		}
		for len(batch) > 0 {
			n := min(len(batch), maxBatch)
			if err := commit(Merge(batch[:n])); err != nil {
				return err
			}
			batch = batch[n:]
		}
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("drain the audit spool: %w", err)
		}
	}
	return nil
}

// maxBatch bounds one transaction.
const maxBatch = 2000

// rotate gives the gathered events a name of their own. Without any it does
// nothing.
func (s *Spool) rotate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pending || s.file == nil {
		return nil
	}
	fi, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("drain the audit spool: %w", err)
	}
	if s.pending = false; fi.Size() == 0 {
		return nil
	}
	if err := os.Rename(s.path, fmt.Sprintf("%s.%012d", s.path, s.next)); err != nil {
		s.pending = true
		return fmt.Errorf("drain the audit spool: %w", err)
	}
	s.next++
	old := s.file
	if err := s.openFile(); err != nil {
		// Append fails until it can be opened: what cannot be recorded must
		// not happen.
		s.file = nil
		_ = old.Close()
		return err
	}
	return old.Close()
}

// renamed lists the files that are to be drained, oldest first.
func (s *Spool) renamed() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	var out []string
	prefix := filepath.Base(s.path) + "."
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), prefix); ok && len(rest) == 12 && strings.Trim(rest, "0123456789") == "" {
			out = append(out, filepath.Join(filepath.Dir(s.path), e.Name()))
		}
	}
	sort.Strings(out)
	return out, nil
}

// read decodes a file. A line that a crash cut short is left out: its request
// was refused, since Append had not returned.
func read(name string) ([]authsome.Event, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var out []authsome.Event
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		var ev authsome.Event
		if len(line) > 0 && json.Unmarshal(line, &ev) == nil && ev.ID != "" {
			out = append(out, ev)
		}
	}
	return out, nil
}

// Merge leaves out the intent of a request whose completion is in the same
// batch: the completion says all that the intent did. What stays "started" in
// the log was cut short by the daemon's end.
func Merge(batch []authsome.Event) []authsome.Event {
	done := map[string]bool{}
	for _, ev := range batch {
		if ev.Request != "" && ev.Status != "started" {
			done[ev.Run+"/"+ev.Request] = true
		}
	}
	out := make([]authsome.Event, 0, len(batch))
	for _, ev := range batch {
		if ev.Status != "started" || ev.Request == "" || !done[ev.Run+"/"+ev.Request] {
			out = append(out, ev)
		}
	}
	return out
}

// Close ends appending. What has not been drained stays for the next process.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
