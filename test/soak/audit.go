package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	_ "modernc.org/sqlite" // the daemon's engine
)

// auditor reads the audit as it is stored, a part after each round, and compares
// it with what the services saw.
type auditor struct {
	db    *sql.DB
	judge *judge
	last  int64
	hash  []byte // of the last event

	ids      map[string]bool
	intents  map[string]intent  // by nonce
	before   map[string]intent  // those of the round before, which may still arrive
	requests map[string]request // by run and id
	runs     map[string]string  // ids of runs, by the names that their nonces have
	started  map[string]int     // by the ids of runs
	ended    map[string]int
	acts     map[authsome.EventType]int
	rows     int64
	injected int
}

// intent is what is recorded of a nonce: for whom, and of how many requests.
type intent struct {
	run, provider, connection string
	times                     int
}

// request is what is recorded of one.
type request struct {
	nonce string
	at    time.Time
	over  bool
}

// openAudit opens the daemon's database for reading.
func openAudit(home string, j *judge) (*auditor, error) {
	u := url.URL{Scheme: "file", Path: filepath.Join(home, "authsome.db"), RawQuery: url.Values{
		"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"},
	}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return &auditor{
		db: db, judge: j, ids: map[string]bool{}, intents: map[string]intent{}, requests: map[string]request{}, runs: map[string]string{},
		started: map[string]int{}, ended: map[string]int{}, acts: map[authsome.EventType]int{},
	}, nil
}

func (a *auditor) close() { _ = a.db.Close() }

// read reads what is new, and checks the chain.
func (a *auditor) read(ctx context.Context) error {
	rows, err := a.db.QueryContext(ctx, `SELECT vault, first, last, body, prev, hash FROM pages WHERE last > $1 ORDER BY last`, a.last)
	if err != nil {
		return fmt.Errorf("read the audit: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var vault string
		var first, last int64
		var body, prev, hash []byte
		if err := rows.Scan(&vault, &first, &last, &body, &prev, &hash); err != nil {
			return fmt.Errorf("read the audit: %w", err)
		}
		if a.last == 0 {
			a.hash = audit.Start(vault)
		}
		lines := bytes.Split(body, []byte{'\n'})
		if first != a.last+1 || last != first+int64(len(lines))-1 || !bytes.Equal(prev, a.hash) {
			a.judge.violate("the audit's chain is broken between %d and %d (%d lines)", a.last, first, len(lines))
		}
		for _, line := range lines {
			prev = audit.Hash(prev, line)
			if err := a.event(line); err != nil {
				return fmt.Errorf("read event after %d: %w", a.last, err)
			}
		}
		if !bytes.Equal(prev, hash) {
			a.judge.violate("the audit's chain does not hold from %d to %d", first, last)
		}
		a.last, a.hash = last, hash
	}
	return rows.Err()
}

// event takes one.
func (a *auditor) event(line []byte) error {
	var ev authsome.Event
	if err := json.Unmarshal(line, &ev); err != nil {
		return err
	}
	if bytes.Contains(line, []byte(canary)) {
		a.judge.violate("a key is in the audit: event %d", ev.Seq)
	}
	a.rows++
	if a.ids[ev.ID] {
		a.judge.violate("event %d is recorded twice (%s)", ev.Seq, ev.ID)
	}
	a.ids[ev.ID] = true
	a.acts[ev.Type]++
	switch ev.Type {
	case authsome.EventRunStarted:
		a.started[ev.Run]++
	case authsome.EventRunEnded:
		a.ended[ev.Run]++
	case authsome.EventInjected:
		a.request(&ev)
	}
	return nil
}

// request takes one of the events of a request: what was recorded before the key
// left, or its end. Where both were stored together, the end stands for both
// (audit.Merge).
func (a *auditor) request(ev *authsome.Event) {
	nonce, _, _ := strings.Cut(strings.TrimPrefix(ev.Path, "/n/"), "/")
	id := ev.Run + " " + ev.Request
	over := ev.Status != "started"
	q := a.requests[id]
	switch {
	case q.over:
		a.judge.violate("a request is recorded after its end: %s (event %d)", nonce, ev.Seq)
	case q.nonce != "" && !over:
		a.judge.violate("the beginning of a request is recorded twice: %s (event %d)", nonce, ev.Seq)
	case q.nonce != "" && q.nonce != nonce:
		a.judge.violate("one request is recorded as %s and as %s (event %d)", q.nonce, nonce, ev.Seq)
	}
	first := q.nonce == ""
	if first {
		q.at = ev.Time
	}
	q.nonce, q.over = nonce, over
	a.requests[id] = q
	name := runOf(nonce)
	if was := a.runs[name]; was != "" && was != ev.Run {
		a.judge.violate("requests of %s are recorded under two runs, %s and %s", name, was, ev.Run)
	}
	a.runs[name] = ev.Run
	if !first {
		return
	}
	a.injected++
	i := a.intents[nonce]
	if i.times > 0 && (i.provider != ev.Provider || i.connection != ev.Connection) {
		a.judge.violate("%s is recorded for %s and for %s", nonce, i.connection, ev.Connection)
	}
	i.run, i.provider, i.connection = ev.Run, ev.Provider, ev.Connection
	i.times++
	a.intents[nonce] = i
}

// compare holds the audit to what has arrived: what came with a key was recorded
// before, for the account whose key it was. Requests that never arrived may be
// recorded, since that comes first; and one nonce as several requests, since a
// client sends what it only reads again when its connection breaks.
func (a *auditor) compare(ctx context.Context, arrived []arrival) error {
	// What is in the spool is on its way.
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err := a.read(ctx); err != nil {
			return err
		}
		missing := false
		for _, r := range arrived {
			missing = missing || a.intent(r.nonce).times == 0
		}
		if !missing && a.unfinished() == 0 || time.Now().After(end) {
			break
		}
	}
	for _, r := range arrived {
		i := a.intent(r.nonce)
		switch {
		case i.times == 0:
			a.judge.violate("LOST AUDIT ROW: %s came with a key of %s at %s and is not recorded", r.nonce, r.account, clock(r.at))
		case i.provider != r.provider || i.connection != r.account:
			a.judge.violate("%s came with a key of %s and is recorded for %s", r.nonce, r.account, i.connection)
		}
	}
	if n := a.unfinished(); n > 0 {
		for _, q := range a.requests {
			if !q.over && !a.mayStayOpen(q) {
				a.judge.violate("LOST AUDIT ROW: the ends of %d requests are not recorded, %s (%s) among them", n, q.nonce, clock(q.at))
				break
			}
		}
	}
	clear(a.requests)
	a.before, a.intents = a.intents, map[string]intent{}
	return nil
}

func (a *auditor) intent(nonce string) intent {
	if i, ok := a.intents[nonce]; ok {
		return i
	}
	return a.before[nonce]
}

// mayStayOpen says that a daemon was killed while a request was under way.
func (a *auditor) mayStayOpen(q request) bool { return a.judge.killedWithin(q.at, time.Now()) }

func (a *auditor) unfinished() int {
	n := 0
	for _, q := range a.requests {
		if !q.over && !a.mayStayOpen(q) {
			n++
		}
	}
	return n
}

// endedRun is a run that is over.
type endedRun struct {
	name     string
	from, to time.Time
}

// total compares, at the end, what was done with what is recorded.
func (s *soak) total() {
	a := s.audit
	for _, r := range s.finished {
		id := a.runs[r.name]
		if id == "" {
			continue // it made no request
		}
		if a.started[id] != 1 {
			s.judge.violate("the start of run %s is recorded %d times", r.name, a.started[id])
		}
		if n := a.ended[id]; n > 1 || n == 0 && !s.judge.restartedWithin(r.to.Add(-after), r.to.Add(after)) {
			s.judge.violate("the end of run %s is recorded %d times", r.name, n)
		}
	}
	if n, want := a.acts[authsome.EventLogin], s.counts["logins"]+s.counts["logins by OAuth"]; n != want {
		s.judge.violate("%d logins were made, and %d are recorded", want, n)
	}
	if n, want := a.acts[authsome.EventLogout], s.counts["logouts"]; n < want {
		s.judge.violate("%d logouts were made, and %d are recorded", want, n)
	}
	refreshes, reuses := s.auth.history()
	must := 0
	for _, r := range refreshes {
		if !s.judge.killedWithin(r.at.Add(-time.Second), r.at.Add(patience/6)) {
			must++
		}
	}
	if n := a.acts[authsome.EventRefreshed]; n < must || n > len(refreshes) {
		s.judge.violate("the server has granted %d refreshes, %d of them without a kill in the way, and %d are recorded", len(refreshes), must, n)
	}
	s.count("refreshes", len(refreshes))
	s.count("refresh tokens that came twice, after a kill", len(reuses))
	if n := a.acts[authsome.EventScrubbed]; n == 0 {
		s.judge.violate("no answer was ever scrubbed, although many told the key")
	} else {
		s.count("answers that were scrubbed", n)
	}
}
