package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// goroutines are those of a process, by where each was started.
type goroutines map[string]int

func (g goroutines) total() int {
	n := 0
	for by, k := range g {
		if !slices.Contains(keepers, by) {
			n += k
		}
	}
	return n
}

// kept are those that wait.
func (g goroutines) kept() int {
	n := 0
	for _, by := range keepers {
		n += g[by]
	}
	return n
}

// keepers start what waits for a next request for a while: the connections to
// services, and the goroutines that handle HTTP/2.
var keepers = []string{"net/http.(*Transport).dialConn", "net/http.(*http2Transport).newClientConn", "github.com/authsome/authsome/proxy.(*workers).run"}

// more says what there is more of than in another process.
func (g goroutines) more(than goroutines) string {
	var out []string
	for by, n := range g {
		if n > than[by] {
			out = append(out, fmt.Sprintf("%d more by %s", n-than[by], by))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

var (
	goroutineHead = regexp.MustCompile(`(?m)^goroutine \d+ [^\n]*\[`)
	createdBy     = regexp.MustCompile(`(?m)^created by (\S+)`)
)

// dump ends the daemon by SIGQUIT, which has Go's runtime print every goroutine:
// the one way to count them from outside, and one way.
func (s *soak) dump() (goroutines, error) {
	before := len(s.world.Output())
	pid := s.world.DaemonPID()
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return nil, fmt.Errorf("end the daemon for its goroutines: %w", err)
	}
	if !eventually(func() bool { return gone(pid) }) {
		return nil, fmt.Errorf("the daemon does not end by SIGQUIT")
	}
	// What it has printed comes through a pipe, and may be on its way.
	text := s.world.Output()[before:]
	eventually(func() bool {
		was := len(text)
		time.Sleep(300 * time.Millisecond)
		text = s.world.Output()[before:]
		return len(text) == was && was > 0
	})
	if !strings.Contains(text, "goroutine ") {
		return nil, fmt.Errorf("no goroutines in what the daemon has printed at its end: %.500s", text)
	}
	out := goroutines{}
	for _, one := range strings.Split(text, "\n\n") {
		if !goroutineHead.MatchString(one) {
			continue
		}
		by := "the start of the process"
		if m := createdBy.FindStringSubmatch(one); m != nil {
			by = m[1]
		}
		out[by]++
	}
	return out, nil
}
