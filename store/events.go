package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
)

// Append commits events that belong to no other change.
func (s *Store) Append(ctx context.Context, ev ...authsome.Event) error {
	return s.AppendFrom(ctx, "", ev...)
}

// AppendFrom commits events that were gathered elsewhere. source names them: what
// comes from the same source a second time, as from a spool that is drained
// again, is left out. "" is no source.
func (s *Store) AppendFrom(ctx context.Context, source string, ev ...authsome.Event) error {
	if len(ev) == 0 {
		return nil
	}
	return s.writeFrom(ctx, "record an event", source, ev, nil)
}

// Events reads up to limit events after seq, oldest first.
func (s *Store) Events(ctx context.Context, vault string, after int64, limit int) ([]authsome.Event, error) {
	var out []authsome.Event
	err := s.pages(ctx, `SELECT first, last, body FROM pages WHERE vault = $1 AND last > $2 ORDER BY last LIMIT $3`,
		[]any{vault, after, limit}, func(first int64, lines [][]byte) (enough bool, err error) {
			skip := min(max(after+1-first, 0), int64(len(lines)))
			lines = lines[skip:]
			lines = lines[:min(len(lines), limit-len(out))]
			out, err = decode(out, first+skip, lines)
			return len(out) == limit, err
		})
	return out, err
}

// LastEvents reads the newest limit events, oldest first.
func (s *Store) LastEvents(ctx context.Context, vault string, limit int) ([]authsome.Event, error) {
	var found [][]authsome.Event
	left := limit
	err := s.pages(ctx, `SELECT first, last, body FROM pages WHERE vault = $1 ORDER BY last DESC LIMIT $2`,
		[]any{vault, limit}, func(first int64, lines [][]byte) (enough bool, err error) {
			skip := max(len(lines)-left, 0)
			evs, err := decode(nil, first+int64(skip), lines[skip:])
			found = append(found, evs)
			left -= len(evs)
			return left == 0, err
		})
	slices.Reverse(found)
	return slices.Concat(found...), err
}

// errEnough ends the reading of rows.
var errEnough = errors.New("enough")

// pages calls read for every page of a query, with its lines, until it has had
// enough.
func (s *Store) pages(ctx context.Context, query string, args []any, read func(first int64, lines [][]byte) (enough bool, err error)) error {
	return s.each(ctx, "read the audit", query, args, func(rows *sql.Rows) error {
		var first, last int64
		var body sql.RawBytes
		if err := rows.Scan(&first, &last, &body); err != nil {
			return err
		}
		lines := bytes.Split(body, []byte{'\n'})
		if int64(len(lines)) != last-first+1 {
			return damagedRow(fmt.Sprintf("event %d of the audit", first),
				fmt.Errorf("%d lines for the events to %d", len(lines), last))
		}
		enough, err := read(first, lines)
		if err == nil && enough {
			err = errEnough
		}
		return err
	})
}

// decode appends the events of lines, of which the first has the number seq.
func decode(out []authsome.Event, seq int64, lines [][]byte) ([]authsome.Event, error) {
	for i, line := range lines {
		var ev authsome.Event
		if err := json.Unmarshal(line, &ev); err != nil {
			return out, damagedRow(fmt.Sprintf("event %d of the audit", seq+int64(i)), err)
		}
		out = append(out, ev)
	}
	return out, nil
}

// appendEvents puts events at the end of their vaults' chains, a page for each
// vault, and reports whether any was new.
func appendEvents(ctx context.Context, tx *sql.Tx, source string, events []authsome.Event) (added bool, err error) {
	var vaults []string
	for i := range events {
		ev := &events[i]
		if ev.ID == "" || ev.Vault == "" {
			return false, authsome.E(authsome.Internal, "record an event: it has no id or no vault (%s)", ev.Type)
		}
		if !slices.Contains(vaults, ev.Vault) {
			vaults = append(vaults, ev.Vault)
		}
	}
	// Always in the same order, so that no two writers wait for each other.
	slices.Sort(vaults)
	for _, v := range vaults {
		new, err := appendPage(ctx, tx, v, source, events)
		if err != nil {
			return false, err
		}
		added = added || new
	}
	return added, nil
}

// appendPage is appendEvents for those of one vault.
func appendPage(ctx context.Context, tx *sql.Tx, vault, source string, events []authsome.Event) (added bool, err error) {
	var seq int64
	var prev []byte
	// The pointless update takes the row's lock on PostgreSQL and reads what the
	// writer before has committed.
	err = tx.QueryRowContext(ctx, `
		INSERT INTO chains (vault, seq, hash) VALUES ($1, 0, $2)
		ON CONFLICT (vault) DO UPDATE SET seq = chains.seq
		RETURNING seq, hash`, vault, audit.Start(vault)).Scan(&seq, &prev)
	if err != nil {
		return false, err
	}
	first, hash := seq+1, prev
	const usual = 512 // bytes of an event
	body := make([]byte, 0, usual*len(events))
	for i := range events {
		if events[i].Vault != vault {
			continue
		}
		seq++
		if len(body) > 0 {
			body = append(body, '\n')
		}
		at := len(body)
		ev := events[i]
		ev.Seq = seq
		if body, err = audit.AppendEvent(body, &ev); err != nil {
			return false, err
		}
		hash = audit.Hash(hash, body[at:])
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO pages (vault, first, last, source, body, prev, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (vault, source) DO NOTHING`,
		vault, first, seq, sql.NullString{String: source, Valid: source != ""}, body, prev, hash)
	if err != nil {
		return false, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE chains SET seq = $2, hash = $3 WHERE vault = $1`, vault, seq, hash)
	return err == nil, err
}
