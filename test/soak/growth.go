package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome/api"
)

// level is what the daemon holds when nothing is under way.
type level struct {
	since   time.Time // when this daemon was started
	at      time.Time
	files   map[string]int // descriptors by kind
	threads int
	dirty   int64 // Private_Dirty, bytes
	rss     int64
	spool   int64 // bytes in spool files
	nspool  int   // spool files
	db      int64 // bytes of the database, its log left out
	rows    int64
	usage   string // what doctor says is in use, if anything
	kids    int
}

func (l level) String() string {
	var files []string
	for _, k := range slices.Sorted(maps.Keys(l.files)) {
		files = append(files, fmt.Sprintf("%s %d", k, l.files[k]))
	}
	return fmt.Sprintf("descriptors %d (all: %s), threads %d, private dirty %.1f MB, RSS %.1f MB, database %.1f MB for %d rows",
		l.descriptors(), strings.Join(files, ", "), l.threads, mb(l.dirty), mb(l.rss), mb(l.db), l.rows)
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

// descriptors are those that a fresh daemon might have as well: all but kept.
func (l level) descriptors() int {
	n := -l.kept()
	for _, k := range l.files {
		n += k
	}
	return n
}

// kept are the connections to services that wait for a next request.
func (l level) kept() int { return l.files[toService] + l.files[toService+closedThere] }

// What sockets are called.
const (
	toService   = "socket to a service"
	closedThere = " that has closed it"
)

// keptTime is how long they are kept (proxy.idleUpstream in docs/limits.md).
const keptTime = 90 * time.Second

// Bounds of what may be more than in a daemon that has done nothing yet, with the
// same runs: what is opened on first use and kept, and no more.
const (
	moreDescriptors = 12
	moreThreads     = 40 // Go keeps those that a burst has needed
	moreGoroutines  = 8
	// moreMemory is what memory may grow by from the first third of the rests to the
	// last: the noise of a heap that a garbage collector fills.
	moreMemory  = 8 << 20
	memoryShare = 0.15
	// rowSize is the most that an event may take in the database.
	rowSize = 1200
)

// measure looks at the daemon.
func (s *soak) measure(ctx context.Context) (level, error) {
	pid := s.world.DaemonPID()
	l := level{since: s.daemonSince, at: time.Now(), files: map[string]int{}, rows: s.audit.last}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return l, err
	}
	sockets, err := s.tcp(pid)
	if err != nil {
		return l, err
	}
	for _, e := range fds {
		at, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		what, inode, named := strings.Cut(at, ":")
		switch {
		case what == "socket":
			what = sockets[strings.Trim(inode, "[]")]
			if what == "" {
				what = "unix socket"
			}
		case strings.HasPrefix(at, "/"):
			what = "file"
		case !named:
			what = "other"
		}
		l.files[what]++
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return l, err
	}
	l.threads = len(threads)
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return l, err
	}
	l.dirty, l.rss = kilobytes(rollup, "Private_Dirty:"), kilobytes(rollup, "Rss:")
	home := s.world.AuthsomeHome()
	spools, err := filepath.Glob(filepath.Join(home, "audit.spool*"))
	if err != nil {
		return l, err
	}
	for _, path := range spools {
		if fi, err := os.Stat(path); err == nil {
			l.nspool++
			l.spool += fi.Size()
		}
	}
	if fi, err := os.Stat(filepath.Join(home, "authsome.db")); err == nil {
		l.db = fi.Size()
	}
	if kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); err == nil {
		l.kids = len(strings.Fields(string(kids)))
	}
	client := &api.Client{Home: home}
	defer client.Close()
	doctor, err := client.Doctor(ctx)
	if err != nil {
		return l, err
	}
	for _, c := range doctor.Checks {
		if c.Name == "limits" && !idle.MatchString(c.Text) {
			l.usage = c.Text
		}
	}
	return l, nil
}

// tcp says what each TCP socket that a process may see is, by its inode (proc(5),
// /proc/net/tcp).
func (s *soak) tcp(pid int) (map[string]string, error) {
	out := map[string]string{}
	services, _ := url.Parse(s.world.Internet.Proxy())
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			continue // without IPv6 there is no such file
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[0] == "sl" {
				continue
			}
			_, digits, _ := strings.Cut(f[2], ":")
			port, _ := strconv.ParseUint(digits, 16, 16)
			const listen, closeWait = "0A", "08"
			switch {
			case f[3] == listen:
				out[f[9]] = "listening socket"
			case strconv.FormatUint(port, 10) == services.Port():
				out[f[9]] = toService
			default:
				out[f[9]] = "socket to a program"
			}
			if f[3] == closeWait {
				out[f[9]] += closedThere
			}
		}
	}
	return out, nil
}

// idle is what doctor says of limits when nothing is in use.
var idle = regexp.MustCompile(`^connections 0 of .*, requests under way 0 of .*, memory for bodies 0 of `)

// kilobytes is a line of /proc/PID/smaps_rollup, in bytes.
func kilobytes(text []byte, name string) int64 {
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), name); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(v, "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// rested waits until the daemon holds no more than a fresh one, and gives the
// least that it comes to. What does not go away in time is held for good.
func (s *soak) rested(ctx context.Context, settle time.Duration) (level, error) {
	var best level
	began := time.Now()
	for {
		l, err := s.measure(ctx)
		if err != nil {
			return l, fmt.Errorf("measure the daemon: %w", err)
		}
		if best.files == nil || l.dirty < best.dirty {
			best.dirty, best.rss = l.dirty, l.rss
		}
		l.dirty, l.rss = best.dirty, best.rss
		best = l
		took := time.Since(began)
		why := s.excess(l, settle > keptTime)
		if ctx.Err() != nil || why == "" && took > settle {
			return best, ctx.Err()
		}
		if took > settle+patience {
			s.judge.violate("the daemon does not come to rest: %s", why)
			return best, nil
		}
		s.pauseFor(ctx, 250*time.Millisecond)
	}
}

// excess says what a daemon holds that a fresh one does not. After a long rest it
// keeps no connections for later either.
func (s *soak) excess(l level, long bool) string {
	if s.fresh.files == nil {
		return "" // this is the fresh one
	}
	switch {
	case l.descriptors() > s.fresh.descriptors()+moreDescriptors:
		return fmt.Sprintf("descriptors: %v, fresh: %v", l, s.fresh)
	case long && l.kept() > 0, l.kept() > 3*s.o.streams:
		return fmt.Sprintf("connections to services: %v", l)
	case l.threads > s.fresh.threads+moreThreads:
		return fmt.Sprintf("%d threads, fresh: %d", l.threads, s.fresh.threads)
	case l.usage != "":
		return "in use: " + l.usage
	case l.spool > 0 || l.nspool > 1:
		return fmt.Sprintf("%d spool files with %d bytes", l.nspool, l.spool)
	case l.kids > 0:
		return fmt.Sprintf("%d children", l.kids)
	case l.rows > 5000 && l.db > l.rows*rowSize:
		return fmt.Sprintf("the database has %d bytes for %d rows", l.db, l.rows)
	}
	return ""
}

// grown judges the rests of one daemon: the first third against the last, by the
// median, and the trend over all.
func (s *soak) grown(levels []level) {
	if len(levels) < 3 {
		return
	}
	third := max(len(levels)/3, 1)
	begin, end := levels[:third], levels[len(levels)-third:]
	of := func(ls []level, f func(level) int64) int64 {
		var v []int64
		for _, l := range ls {
			v = append(v, f(l))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	for _, m := range []struct {
		name string
		of   func(level) int64
		more func(was int64) int64
	}{
		{"private dirty memory", func(l level) int64 { return l.dirty }, func(was int64) int64 { return moreMemory + int64(float64(was)*memoryShare) }},
		{"descriptors", func(l level) int64 { return int64(l.descriptors()) }, func(int64) int64 { return 4 }},
		{"kept connections", func(l level) int64 { return int64(l.kept()) }, func(was int64) int64 { return was/2 + 20 }},
		{"threads", func(l level) int64 { return int64(l.threads) }, func(int64) int64 { return 8 }},
	} {
		was, is := of(begin, m.of), of(end, m.of)
		s.logf("%s of one daemon over %d rests: from %d to %d, trend %+.0f a minute", m.name, len(levels), was, is, trend(levels, m.of))
		if is > was+m.more(was) {
			s.judge.violate("%s grows: from %d to %d", m.name, was, is)
		}
	}
}

// trend is the slope of the regression line, for each minute.
func trend(levels []level, of func(level) int64) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, l := range levels {
		x, y := l.at.Sub(levels[0].at).Minutes(), float64(of(l))
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
