package broker

import "github.com/authsome/authsome"

// Runs lists every grant, those included whose run has not come back to this
// daemon yet: their processes' descendants are the run's all the same.
func (b *Broker) Runs() []authsome.Grant {
	b.grants.mu.RLock()
	defer b.grants.mu.RUnlock()
	out := make([]authsome.Grant, 0, len(b.grants.byID))
	for _, g := range b.grants.byID {
		out = append(out, g.Grant)
	}
	return out
}

// Knows reports whether a grant is one of Runs.
func (b *Broker) Knows(grantID string) bool {
	b.grants.mu.RLock()
	defer b.grants.mu.RUnlock()
	return b.grants.byID[grantID] != nil
}
