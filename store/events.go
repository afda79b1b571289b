package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
)

// Append commits events that belong to no other change. An event whose id is
// in the log already is left out, so that a spool may be drained twice.
func (s *Store) Append(ctx context.Context, ev ...authsome.Event) error {
	if len(ev) == 0 {
		return nil
	}
	return s.write(ctx, "record an event", ev, nil)
}

// Events reads up to limit events after seq, oldest first.
func (s *Store) Events(ctx context.Context, vault string, after int64, limit int) ([]authsome.Event, error) {
	return s.events(ctx, `SELECT seq, body FROM events WHERE vault = $1 AND seq > $2 ORDER BY seq LIMIT $3`, vault, after, limit)
}

// LastEvents reads the newest limit events, oldest first.
func (s *Store) LastEvents(ctx context.Context, vault string, limit int) ([]authsome.Event, error) {
	evs, err := s.events(ctx, `SELECT seq, body FROM events WHERE vault = $1 ORDER BY seq DESC LIMIT $2`, vault, limit)
	slices.Reverse(evs)
	return evs, err
}

func (s *Store) events(ctx context.Context, query string, args ...any) ([]authsome.Event, error) {
	var out []authsome.Event
	err := s.each(ctx, "read the audit", query, args, func(rows *sql.Rows) error {
		var seq int64
		var body []byte
		if err := rows.Scan(&seq, &body); err != nil {
			return err
		}
		var ev authsome.Event
		if err := json.Unmarshal(body, &ev); err != nil {
			return damagedRow(fmt.Sprintf("event %d of the audit", seq), err)
		}
		out = append(out, ev)
		return nil
	})
	return out, err
}

// chain is the end of one vault's events within a transaction.
type chain struct {
	seq  int64
	hash []byte
}

// appendEvents puts events at the end of their vaults' chains, and reports
// whether any was new.
func appendEvents(ctx context.Context, tx *sql.Tx, events []authsome.Event) (bool, error) {
	if len(events) == 0 {
		return false, nil
	}
	var vaults []string
	for _, ev := range events {
		if ev.ID == "" || ev.Vault == "" {
			// Two without an id would be taken for one.
			return false, authsome.E(authsome.Internal, "record an event: it has no id or no vault (%s)", ev.Type)
		}
		vaults = append(vaults, ev.Vault)
	}
	// Always in the same order, so that no two writers wait for each other.
	slices.Sort(vaults)
	chains := map[string]*chain{}
	for _, v := range slices.Compact(vaults) {
		c := &chain{}
		// The pointless update takes the row's lock on PostgreSQL and reads
		// what the writer before has committed.
		err := tx.QueryRowContext(ctx, `
			INSERT INTO chains (vault, seq, hash) VALUES ($1, 0, $2)
			ON CONFLICT (vault) DO UPDATE SET seq = chains.seq
			RETURNING seq, hash`, v, audit.Start(v)).Scan(&c.seq, &c.hash)
		if err != nil {
			return false, err
		}
		chains[v] = c
	}
	insert, err := tx.PrepareContext(ctx, `
		INSERT INTO events (vault, seq, id, identity, at, body, prev, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (vault, id) DO NOTHING`)
	if err != nil {
		return false, err
	}
	defer func() { _ = insert.Close() }()
	added := map[string]bool{}
	for _, ev := range events {
		c := chains[ev.Vault]
		ev.Seq = c.seq + 1
		body, err := audit.Encode(ev)
		if err != nil {
			return false, err
		}
		hash := audit.Hash(c.hash, body)
		res, err := insert.ExecContext(ctx, ev.Vault, ev.Seq, ev.ID, ev.Identity, seconds(ev.Time), body, c.hash, hash)
		if err != nil {
			return false, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return false, err
		}
		if n == 1 {
			c.seq, c.hash, added[ev.Vault] = ev.Seq, hash, true
		}
	}
	for v := range added {
		c := chains[v]
		if _, err := tx.ExecContext(ctx, `UPDATE chains SET seq = $2, hash = $3 WHERE vault = $1`, v, c.seq, c.hash); err != nil {
			return false, err
		}
	}
	return len(added) > 0, nil
}

// seconds is a time as the columns hold it; 0 for the zero time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
