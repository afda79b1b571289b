package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
)

// Append commits events that belong to no other change. An event whose id is
// in the log already is left out, so that a spool may be drained twice.
func (s *Store) Append(ctx context.Context, ev ...authsome.Event) error {
	return s.write(ctx, "record an event", ev, nil)
}

// Events reads up to limit events after seq, oldest first.
func (s *Store) Events(ctx context.Context, vault string, after int64, limit int) ([]authsome.Event, error) {
	return s.events(ctx, `SELECT body FROM events WHERE vault = $1 AND seq > $2 ORDER BY seq LIMIT $3`, vault, after, limit)
}

// LastEvents reads the newest limit events, oldest first.
func (s *Store) LastEvents(ctx context.Context, vault string, limit int) ([]authsome.Event, error) {
	evs, err := s.events(ctx, `SELECT body FROM events WHERE vault = $1 ORDER BY seq DESC LIMIT $2`, vault, limit)
	slices.Reverse(evs)
	return evs, err
}

func (s *Store) events(ctx context.Context, query string, args ...any) ([]authsome.Event, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.fail("read the audit", err)
	}
	defer func() { _ = rows.Close() }()
	var out []authsome.Event
	for rows.Next() {
		var body []byte
		var ev authsome.Event
		if err := rows.Scan(&body); err != nil {
			return nil, s.fail("read the audit", err)
		}
		if err := json.Unmarshal(body, &ev); err != nil {
			return nil, s.fail("read the audit", err)
		}
		out = append(out, ev)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fail("read the audit", err)
	}
	return out, nil
}

// tail is the end of one vault's chain within a transaction.
type tail struct {
	seq  int64
	hash []byte
}

func appendEvents(ctx context.Context, tx *sql.Tx, events []authsome.Event) error {
	tails := map[string]*tail{}
	for _, ev := range events {
		t := tails[ev.Vault]
		if t == nil {
			t = &tail{}
			err := tx.QueryRowContext(ctx, `SELECT seq, hash FROM events WHERE vault = $1 ORDER BY seq DESC LIMIT 1`, ev.Vault).Scan(&t.seq, &t.hash)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			tails[ev.Vault] = t
		}
		ev.Seq = t.seq + 1
		body, err := audit.Encode(ev)
		if err != nil {
			return err
		}
		hash := audit.Hash(t.hash, body)
		res, err := tx.ExecContext(ctx, `
			INSERT INTO events (vault, seq, id, at, body, hash) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (vault, id) DO NOTHING`, ev.Vault, ev.Seq, ev.ID, unix(ev.Time), body, hash)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 1 {
			t.seq, t.hash = ev.Seq, hash
		}
	}
	return nil
}
