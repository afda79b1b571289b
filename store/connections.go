package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/authsome/authsome"
)

// Connections reads all of one identity's, the sealed part included.
func (s *Store) Connections(ctx context.Context, vault, user string) ([]authsome.ConnectionRow, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT c.info, c.sealed, c.version, CASE WHEN d.name IS NULL THEN 0 ELSE 1 END
		FROM connections c
		LEFT JOIN defaults d ON d.vault = c.vault AND d.identity = c.identity AND d.provider = c.provider AND d.name = c.name
		WHERE c.vault = $1 AND c.identity = $2
		ORDER BY c.provider, c.name`, vault, user)
	if err != nil {
		return nil, s.fail("read the connections", err)
	}
	defer func() { _ = rows.Close() }()
	var out []authsome.ConnectionRow
	for rows.Next() {
		r := authsome.ConnectionRow{Vault: vault, User: user}
		var info []byte
		var isDefault int
		var version int64
		if err := rows.Scan(&info, &r.Sealed, &version, &isDefault); err != nil {
			return nil, s.fail("read the connections", err)
		}
		if err := json.Unmarshal(info, &r.Connection); err != nil {
			return nil, s.fail("read the connections", err)
		}
		r.Connection.Version, r.Connection.IsDefault = version, isDefault == 1
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fail("read the connections", err)
	}
	return out, nil
}

// SaveConnection inserts a connection (Version 1) or replaces one whose stored
// version is one less; anything else is a conflict and changes nothing.
func (s *Store) SaveConnection(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, ev authsome.Event) error {
	return s.write(ctx, "store a connection", []authsome.Event{ev}, func(tx *sql.Tx) error {
		return saveConnection(ctx, tx, row, makeDefault)
	})
}

// FinishLogin stores a connection and the login that made it.
func (s *Store) FinishLogin(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, login authsome.SealedRow, ev authsome.Event) error {
	return s.write(ctx, "store a login", []authsome.Event{ev}, func(tx *sql.Tx) error {
		if err := saveConnection(ctx, tx, row, makeDefault); err != nil {
			return err
		}
		return saveSealed(ctx, tx, row.Vault, kindLogin, login)
	})
}

func saveConnection(ctx context.Context, tx *sql.Tx, row authsome.ConnectionRow, makeDefault bool) error {
	c := row.Connection
	info, err := json.Marshal(c)
	if err != nil {
		return err
	}
	var res sql.Result
	if c.Version == 1 {
		res, err = tx.ExecContext(ctx, `
			INSERT INTO connections (vault, identity, provider, name, version, created_at, updated_at, info, sealed)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			row.Vault, row.User, c.Provider, c.Name, c.Version, unix(c.CreatedAt), unix(c.UpdatedAt), info, row.Sealed)
	} else {
		res, err = tx.ExecContext(ctx, `
			UPDATE connections SET version = $5, updated_at = $6, info = $7, sealed = $8
			WHERE vault = $1 AND identity = $2 AND provider = $3 AND name = $4 AND version = $5 - 1`,
			row.Vault, row.User, c.Provider, c.Name, c.Version, unix(c.UpdatedAt), info, row.Sealed)
	}
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return authsome.E(authsome.StoreFailed, "store the connection %s (%s): it was changed meanwhile", c.Provider, c.Name).
			WithHint("run the command again")
	}
	if makeDefault {
		return setDefault(ctx, tx, row.Vault, row.User, c.Provider, c.Name)
	}
	return nil
}

// DeleteConnections deletes connections of one provider and makes newDefault
// its default; "" leaves it without one.
func (s *Store) DeleteConnections(ctx context.Context, vault, user, provider string, names []string, newDefault string, ev ...authsome.Event) error {
	return s.write(ctx, "delete a connection", ev, func(tx *sql.Tx) error {
		for _, name := range names {
			if _, err := tx.ExecContext(ctx, `DELETE FROM connections WHERE vault = $1 AND identity = $2 AND provider = $3 AND name = $4`,
				vault, user, provider, name); err != nil {
				return err
			}
		}
		if newDefault != "" {
			return setDefault(ctx, tx, vault, user, provider, newDefault)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM defaults WHERE vault = $1 AND identity = $2 AND provider = $3`, vault, user, provider)
		return err
	})
}

// SetDefault makes a connection its provider's default.
func (s *Store) SetDefault(ctx context.Context, vault, user, provider, name string, ev authsome.Event) error {
	return s.write(ctx, "set a default", []authsome.Event{ev}, func(tx *sql.Tx) error {
		return setDefault(ctx, tx, vault, user, provider, name)
	})
}

func setDefault(ctx context.Context, tx *sql.Tx, vault, user, provider, name string) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO defaults (vault, identity, provider, name) VALUES ($1, $2, $3, $4)
		ON CONFLICT (vault, identity, provider) DO UPDATE SET name = excluded.name`, vault, user, provider, name)
	return err
}

// Definitions reads the registered provider definitions.
func (s *Store) Definitions(ctx context.Context, vault string) ([]authsome.DefinitionRow, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT name, definition FROM definitions WHERE vault = $1 ORDER BY name`, vault)
	if err != nil {
		return nil, s.fail("read the definitions", err)
	}
	defer func() { _ = rows.Close() }()
	var out []authsome.DefinitionRow
	for rows.Next() {
		d := authsome.DefinitionRow{Vault: vault}
		if err := rows.Scan(&d.Name, &d.Definition); err != nil {
			return nil, s.fail("read the definitions", err)
		}
		out = append(out, d)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fail("read the definitions", err)
	}
	return out, nil
}

// SaveDefinition inserts or replaces a definition.
func (s *Store) SaveDefinition(ctx context.Context, row authsome.DefinitionRow, ev authsome.Event) error {
	return s.write(ctx, "store a definition", []authsome.Event{ev}, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO definitions (vault, name, definition) VALUES ($1, $2, $3)
			ON CONFLICT (vault, name) DO UPDATE SET definition = excluded.definition`, row.Vault, row.Name, row.Definition)
		return err
	})
}

// DeleteDefinition deletes a definition; one that is not there is fine.
func (s *Store) DeleteDefinition(ctx context.Context, vault, name string, ev authsome.Event) error {
	return s.write(ctx, "delete a definition", []authsome.Event{ev}, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM definitions WHERE vault = $1 AND name = $2`, vault, name)
		return err
	})
}
