package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/authsome/authsome"
)

// Kinds of sealed_rows. Items have a kind of their own each.
const (
	kindLogin = "login"
	kindGrant = "grant"
)

// Logins reads the logins in progress.
func (s *Store) Logins(ctx context.Context, vault string) ([]authsome.SealedRow, error) {
	return s.sealed(ctx, vault, kindLogin)
}

// SaveLogin inserts or replaces a login.
func (s *Store) SaveLogin(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error {
	return s.write(ctx, "store a login", ev, func(tx *sql.Tx) error { return saveSealed(ctx, tx, vault, kindLogin, row) })
}

// DeleteLogins forgets logins.
func (s *Store) DeleteLogins(ctx context.Context, vault string, ids ...string) error {
	return s.write(ctx, "forget a login", nil, func(tx *sql.Tx) error { return deleteSealed(ctx, tx, vault, kindLogin, ids) })
}

// Grants reads the grants of runs that are not over.
func (s *Store) Grants(ctx context.Context, vault string) ([]authsome.SealedRow, error) {
	return s.sealed(ctx, vault, kindGrant)
}

// SaveGrant inserts or replaces a grant.
func (s *Store) SaveGrant(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error {
	return s.write(ctx, "store a grant", ev, func(tx *sql.Tx) error { return saveSealed(ctx, tx, vault, kindGrant, row) })
}

// DeleteGrants deletes grants.
func (s *Store) DeleteGrants(ctx context.Context, vault string, ids []string, ev ...authsome.Event) error {
	return s.write(ctx, "end a grant", ev, func(tx *sql.Tx) error { return deleteSealed(ctx, tx, vault, kindGrant, ids) })
}

// Item reads one sealed thing that a vault has a fixed number of, such as the
// certificate authority. Neither data nor error: there is none.
func (s *Store) Item(ctx context.Context, vault, kind, name string) (sealed []byte, version int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT sealed, version FROM sealed_rows WHERE vault = $1 AND kind = $2 AND id = $3`,
		vault, "item:"+kind, name).Scan(&sealed, &version)
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
	return s.write(ctx, "store the "+kind, ev, func(tx *sql.Tx) error {
		return saveSealed(ctx, tx, vault, "item:"+kind, authsome.SealedRow{ID: name, Version: version, Sealed: sealed})
	})
}

// VaultHeader reads what the vault keeps about itself; nil when there is none.
func (s *Store) VaultHeader(ctx context.Context, id string) ([]byte, error) {
	var header []byte
	err := s.db.QueryRowContext(ctx, `SELECT header FROM vaults WHERE id = $1`, id).Scan(&header)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fail("read the vault's header", err)
	}
	return header, nil
}

// CreateVaultHeader stores a new vault's header. There must be none yet.
func (s *Store) CreateVaultHeader(ctx context.Context, id string, header []byte) error {
	return s.write(ctx, "make a vault", nil, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO vaults (id, header) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, header)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return authsome.E(authsome.VaultFailed, "make a vault: there is one already, and it is not overwritten")
		}
		return nil
	})
}

func (s *Store) sealed(ctx context.Context, vault, kind string) ([]authsome.SealedRow, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, version, expires_at, sealed FROM sealed_rows WHERE vault = $1 AND kind = $2 ORDER BY id`, vault, kind)
	if err != nil {
		return nil, s.fail("read the "+kind+"s", err)
	}
	defer func() { _ = rows.Close() }()
	var out []authsome.SealedRow
	for rows.Next() {
		var r authsome.SealedRow
		if err := rows.Scan(&r.ID, &r.Version, &r.ExpiresAt, &r.Sealed); err != nil {
			return nil, s.fail("read the "+kind+"s", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fail("read the "+kind+"s", err)
	}
	return out, nil
}

func saveSealed(ctx context.Context, tx *sql.Tx, vault, kind string, r authsome.SealedRow) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO sealed_rows (vault, kind, id, version, expires_at, sealed) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (vault, kind, id) DO UPDATE SET version = excluded.version, expires_at = excluded.expires_at, sealed = excluded.sealed`,
		vault, kind, r.ID, r.Version, r.ExpiresAt, r.Sealed)
	return err
}

func deleteSealed(ctx context.Context, tx *sql.Tx, vault, kind string, ids []string) error {
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sealed_rows WHERE vault = $1 AND kind = $2 AND id = $3`, vault, kind, id); err != nil {
			return err
		}
	}
	return nil
}
