package main

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// roster knows which account each run is to use, and which runs are over.
type roster struct {
	judge *judge

	mu       sync.Mutex
	accounts map[string]string // of runs; "" is the provider's default
	ended    map[string]time.Time
	defaults []defaultSpan
}

// defaultSpan is a time in which an account was the default.
type defaultSpan struct {
	account string
	to      time.Time // zero while it is
}

func newRoster(j *judge) *roster {
	return &roster{judge: j, accounts: map[string]string{}, ended: map[string]time.Time{}}
}

func (r *roster) add(run, account string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accounts[run] = account
}

// end says that from now on nothing more may come from a run.
func (r *roster) end(run string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended[run] = time.Now()
}

// willBeDefault says that an account becomes the default; the function says that
// it has.
func (r *roster) willBeDefault(account string) (is func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.defaults)
	r.defaults = append(r.defaults, defaultSpan{account: account})
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range r.defaults[:before] {
			if r.defaults[i].to.IsZero() {
				r.defaults[i].to = time.Now().Add(patience)
			}
		}
	}
}

// lately says that an account is the default, or was so when the longest requests
// began that may be under way.
func (r *roster) lately(account string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.defaults, func(d defaultSpan) bool {
		return d.account == account && (d.to.IsZero() || time.Since(d.to) < requestTime)
	})
}

// runOf is the run that a nonce belongs to.
func runOf(nonce string) string { run, _, _ := strings.Cut(nonce, "-"); return run }

// check is the heart of it: a key is that of the run's own account, and the run is
// alive.
func (r *roster) check(nonce, provider, account string) {
	run := runOf(nonce)
	r.mu.Lock()
	own, known := r.accounts[run]
	ended := r.ended[run]
	right := own == account
	if own == "" && provider == providerKey {
		right = slices.ContainsFunc(r.defaults, func(d defaultSpan) bool {
			return d.account == account && (d.to.IsZero() || time.Now().Before(d.to))
		})
	}
	r.mu.Unlock()
	switch {
	case !known:
		r.judge.violate("a request of a run that never was: %s", nonce)
	case !right:
		r.judge.violate("CROSS-TALK: %s of an account %q came with a key of %s (%s)", nonce, own, account, provider)
	case !ended.IsZero() && time.Since(ended) > patience:
		r.judge.violate("a request of a run that has ended %s ago: %s", time.Since(ended).Round(time.Second), nonce)
	}
}

// over is called when a stream ends: not long after its run.
func (r *roster) over(nonce string) {
	r.mu.Lock()
	ended := r.ended[runOf(nonce)]
	r.mu.Unlock()
	if !ended.IsZero() && time.Since(ended) > patience {
		r.judge.violate("a stream goes on %s after the end of its run: %s", time.Since(ended).Round(time.Second), nonce)
	}
}
