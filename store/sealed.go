package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/authsome/authsome"
)

// sealedTable is a table of authsome.SealedRow.
type sealedTable string

const (
	logins sealedTable = "logins"
	grants sealedTable = "grants"
)

// Logins reads the logins in progress, and those that ended and were not
// deleted yet.
func (s *Store) Logins(ctx context.Context, vault string) ([]authsome.SealedRow, error) {
	return s.sealed(ctx, logins, vault)
}

// SaveLogin inserts or replaces a login.
func (s *Store) SaveLogin(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error {
	return s.write(ctx, "store a login", ev, func(ctx context.Context, tx *sql.Tx) error { return logins.save(ctx, tx, vault, row) })
}

// DeleteLogins forgets logins. One that is not there is fine.
func (s *Store) DeleteLogins(ctx context.Context, vault string, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.write(ctx, "forget a login", nil, func(ctx context.Context, tx *sql.Tx) error { return logins.delete(ctx, tx, vault, ids) })
}

// Grants reads the grants of runs that are not over.
func (s *Store) Grants(ctx context.Context, vault string) ([]authsome.SealedRow, error) {
	return s.sealed(ctx, grants, vault)
}

// SaveGrant inserts or replaces a grant.
func (s *Store) SaveGrant(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error {
	return s.write(ctx, "store a grant", ev, func(ctx context.Context, tx *sql.Tx) error { return grants.save(ctx, tx, vault, row) })
}

// DeleteGrants deletes grants. One that is not there is fine.
func (s *Store) DeleteGrants(ctx context.Context, vault string, ids []string, ev ...authsome.Event) error {
	return s.write(ctx, "end a grant", ev, func(ctx context.Context, tx *sql.Tx) error { return grants.delete(ctx, tx, vault, ids) })
}

func (s *Store) sealed(ctx context.Context, t sealedTable, vault string) ([]authsome.SealedRow, error) {
	var out []authsome.SealedRow
	err := s.each(ctx, "read the "+string(t), `SELECT id, identity, version, expires_at, sealed FROM `+string(t)+` WHERE vault = $1 ORDER BY id`, []any{vault},
		func(rows *sql.Rows) error {
			var r authsome.SealedRow
			if err := rows.Scan(&r.ID, &r.User, &r.Version, &r.ExpiresAt, &r.Sealed); err != nil {
				return err
			}
			out = append(out, r)
			return nil
		})
	return out, err
}

func (t sealedTable) save(ctx context.Context, tx *sql.Tx, vault string, r authsome.SealedRow) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO `+string(t)+` (vault, id, identity, version, expires_at, sealed) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (vault, id) DO UPDATE
		SET identity = excluded.identity, version = excluded.version, expires_at = excluded.expires_at, sealed = excluded.sealed`,
		vault, r.ID, r.User, r.Version, r.ExpiresAt, r.Sealed)
	return err
}

func (t sealedTable) delete(ctx context.Context, tx *sql.Tx, vault string, ids []string) error {
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+string(t)+` WHERE vault = $1 AND id = $2`, vault, id); err != nil {
			return err
		}
	}
	return nil
}

// Item reads one sealed thing that a vault has a fixed number of, such as the
// certificate authority. Neither data nor error: there is none.
func (s *Store) Item(ctx context.Context, vault, kind, name string) (sealed []byte, version int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT sealed, version FROM items WHERE vault = $1 AND kind = $2 AND name = $3`,
		vault, kind, name).Scan(&sealed, &version)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, s.fail("read the "+kind, err)
	}
	return sealed, version, nil
}

// SaveItem inserts or replaces an item.
func (s *Store) SaveItem(ctx context.Context, vault, kind, name string, sealed []byte, version int64, ev ...authsome.Event) error {
	return s.write(ctx, "store the "+kind, ev, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO items (vault, kind, name, version, sealed) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (vault, kind, name) DO UPDATE SET version = excluded.version, sealed = excluded.sealed`,
			vault, kind, name, version, sealed)
		return err
	})
}

// DeleteItem deletes an item; one that is not there is fine.
func (s *Store) DeleteItem(ctx context.Context, vault, kind, name string, ev ...authsome.Event) error {
	return s.write(ctx, "delete the "+kind, ev, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM items WHERE vault = $1 AND kind = $2 AND name = $3`, vault, kind, name)
		return err
	})
}

// VaultHeader reads what the vault keeps about itself; nil when there is none.
func (s *Store) VaultHeader(ctx context.Context, id string) ([]byte, error) {
	var header []byte
	err := s.reader.QueryRowContext(ctx, `SELECT header FROM vaults WHERE id = $1`, id).Scan(&header)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fail("read the vault's header", err)
	}
	return header, nil
}

// CreateVaultHeader stores a new vault's header. There must be none yet, and no
// record that was sealed under one that is lost.
func (s *Store) CreateVaultHeader(ctx context.Context, id string, header []byte) error {
	return s.write(ctx, "make a vault", nil, func(ctx context.Context, tx *sql.Tx) error {
		var orphans int64
		if err := tx.QueryRowContext(ctx, `
			SELECT (SELECT COUNT(*) FROM connections WHERE vault = $1) + (SELECT COUNT(*) FROM items WHERE vault = $1)
			     + (SELECT COUNT(*) FROM logins WHERE vault = $1) + (SELECT COUNT(*) FROM grants WHERE vault = $1)`, id).Scan(&orphans); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO vaults (id, header) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id, header)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n != 1 {
			return authsome.E(authsome.VaultFailed, "make a vault in %s: there is one already, and it is not overwritten", s.name).
				WithHint("authsome daemon restart")
		}
		if orphans > 0 {
			return authsome.E(authsome.VaultFailed, "make a vault in %s: it has records of a vault whose header is lost", s.name).
				WithHint("%s", hints[damaged])
		}
		return nil
	})
}
