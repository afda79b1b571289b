package main

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"
)

// canary is in every secret of the services. A child that finds it anywhere has
// seen what it must not.
const canary = "soakCanary"

// key is one secret that a service accepts.
type key struct {
	value    string
	provider string
	account  string
	retired  time.Time // when it was replaced or logged out; zero while it counts
}

// stale says that a key was retired so long ago that no request can be under way
// with it any more.
func (k key) stale(now time.Time) bool {
	return !k.retired.IsZero() && now.Sub(k.retired) > patience
}

// keyring knows all keys that there ever were.
type keyring struct {
	mu   sync.Mutex
	keys map[string]*key
}

func newKeyring() *keyring { return &keyring{keys: map[string]*key{}} }

// mint makes a key for an account.
func (r *keyring) mint(provider, account string) string {
	k := &key{value: fmt.Sprintf("%s-%s-%s-%s", canary, provider, account, rand.Text()), provider: provider, account: account}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[k.value] = k
	return k.value
}

// retire says that from now on a key must not come any more.
func (r *keyring) retire(value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.keys[value]; k != nil && k.retired.IsZero() {
		k.retired = time.Now()
	}
}

// who says whose key a value is.
func (r *keyring) who(value string) (key, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keys[value]
	if k == nil {
		return key{}, false
	}
	return *k, true
}
