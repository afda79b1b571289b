package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// patience bounds everything that should take milliseconds.
const patience = 30 * time.Second

// failure is a request that did not do what it should, as the child tells it.
type failure struct {
	Run     string    `json:"run"`
	Account string    `json:"account"`
	Kind    kind      `json:"kind"`
	Host    string    `json:"host"`
	Nonce   string    `json:"nonce"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Status  int       `json:"status"`
	Code    string    `json:"code"` // Authsome-Error
	Error   string    `json:"error"`
	Hung    bool      `json:"hung"` // its time was over
}

func (f failure) String() string {
	return fmt.Sprintf("%s to %s of %s (%s), %s to %s: status %d %s %s", f.Kind, f.Host, f.Run, f.Nonce, clock(f.From), clock(f.To), f.Status, f.Code, f.Error)
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

// Classes of failures; the others are codes of the proxy's.
const (
	brokeOff     = "it broke off"
	unauthorized = "the service's own 401"
)

// class is how it failed.
func (f failure) class() string {
	switch {
	case f.Code != "":
		return f.Code
	case f.Status == http.StatusUnauthorized:
		return unauthorized
	case f.Status != 0:
		return fmt.Sprintf("the service's own %d", f.Status)
	}
	return brokeOff
}

// window is a time in which some failures are to be expected, because of what was
// done. "" stands for all.
type window struct {
	why      string
	from, to time.Time // to is zero while it lasts
	host     string
	provider string
	account  string
	// byDefault says that the account is what runs use that have none of their own.
	byDefault bool
	kinds     []kind // nil for all
	classes   []string
}

// after is how long what was done may be felt.
const after = 3 * time.Second

func (w *window) excuses(f failure) bool {
	provider := providerKey
	switch f.Host {
	case hostOAuth:
		provider = providerOAuth
	case hostBlind:
		provider = ""
	}
	return (w.host == "" || w.host == f.Host) && (w.kinds == nil || slices.Contains(w.kinds, f.Kind)) && slices.Contains(w.classes, f.class()) &&
		(w.provider == "" || w.provider == provider) &&
		(w.account == "" || w.account == f.Account || f.Account == "" && w.byDefault) &&
		!f.To.Before(w.from) && (w.to.IsZero() || f.From.Before(w.to.Add(after)))
}

// never are answers that nothing excuses: they say that the request was wrong,
// which it was not, or that authsome is.
var never = []string{
	"internal", "misdirected", "bad_request", "ambiguous", "placeholder_misplaced", "private_address",
	"header_too_large", "url_too_long", "body_too_large", "too_many_hosts", "too_many_connections", "too_many_requests", "out_of_memory",
}

// judge decides what counts.
type judge struct {
	out     io.Writer
	verbose bool // failures that are excused are printed as well

	mu         sync.Mutex
	windows    []*window
	failures   []failure
	excused    map[string]int
	violations []string
	restarts   []restart
}

// restart is a time at which a daemon ended.
type restart struct {
	at     time.Time
	killed bool // by SIGKILL
}

func newJudge(out io.Writer) *judge { return &judge{out: out, excused: map[string]int{}} }

// expect opens a window; the caller closes it with done.
func (j *judge) expect(w window) *window {
	j.mu.Lock()
	defer j.mu.Unlock()
	w.from = time.Now()
	j.windows = append(j.windows, &w)
	return &w
}

func (j *judge) done(w *window) {
	j.mu.Lock()
	defer j.mu.Unlock()
	w.to = time.Now()
}

// failed takes a failure, to be judged when all windows are known.
func (j *judge) failed(f failure) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures = append(j.failures, f)
}

// violate says that something does not hold.
func (j *judge) violate(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	j.violations = append(j.violations, text)
	if len(j.violations) <= 50 {
		_, _ = fmt.Fprintf(j.out, "%s VIOLATION %s\n", clock(time.Now()), text)
	}
}

// settle judges the failures so far.
func (j *judge) settle() {
	j.mu.Lock()
	failures, windows := j.failures, j.windows
	j.failures, j.windows = nil, nil
	for _, w := range windows {
		if w.to.IsZero() || time.Since(w.to) < 5*time.Minute { // long requests may still tell
			j.windows = append(j.windows, w)
		}
	}
	j.mu.Unlock()
	for _, f := range failures {
		at := slices.IndexFunc(windows, func(w *window) bool { return w.excuses(f) })
		switch {
		case f.Hung:
			j.violate("a request hung: %s", f)
		case slices.Contains(never, f.Code):
			j.violate("an answer that nothing explains: %s", f)
		case at < 0:
			j.violate("a request failed and nothing was done to it: %s", f)
		default:
			j.mu.Lock()
			why := windows[at].why + ": " + f.class()
			if j.excused[why]++; j.verbose {
				_, _ = fmt.Fprintf(j.out, "%s excused by %s: %s\n", clock(time.Now()), why, f)
			}
			j.mu.Unlock()
		}
	}
}

// ended records the end of a daemon.
func (j *judge) ended(killed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.restarts = append(j.restarts, restart{time.Now(), killed})
}

// killedWithin says whether a daemon was killed in a span of time.
func (j *judge) killedWithin(from, to time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.restarts, func(r restart) bool { return r.killed && !r.at.Before(from) && !r.at.After(to) })
}

// restartedWithin is the same for every end.
func (j *judge) restartedWithin(from, to time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.restarts, func(r restart) bool { return !r.at.Before(from) && !r.at.After(to) })
}

func (j *judge) err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.violations); n > 0 {
		return fmt.Errorf("%d things do not hold:\n%s", n, strings.Join(j.violations[:min(n, 50)], "\n"))
	}
	return nil
}
