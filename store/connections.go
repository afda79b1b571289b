package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/authsome/authsome"
)

// info is the part of a connection that is shown without opening it, as JSON in
// the column of that name. Provider, name, version and default have columns of
// their own. The broker trusts what is sealed and not this.
type info struct {
	Version    int               `json:"v"` // 1
	AuthType   authsome.AuthType `json:"auth_type"`
	Flow       authsome.Flow     `json:"flow"`
	Status     authsome.Status   `json:"status"`
	Scopes     []string          `json:"scopes,omitempty"`
	BaseURL    string            `json:"base_url,omitempty"`
	Account    authsome.Account  `json:"account,omitzero"`
	Hosts      []string          `json:"hosts,omitempty"`
	ObtainedAt time.Time         `json:"obtained_at,omitzero"`
	ExpiresAt  time.Time         `json:"expires_at,omitzero"`
	Renewable  bool              `json:"renewable,omitempty"`
	CreatedAt  time.Time         `json:"created_at,omitzero"`
	UpdatedAt  time.Time         `json:"updated_at,omitzero"`

	LastRefreshAt    time.Time `json:"last_refresh_at,omitzero"`
	LastRefreshError string    `json:"last_refresh_error,omitempty"`
}

// infoVersion is the newest form of info.
const infoVersion = 1

func encodeInfo(c authsome.Connection) ([]byte, error) {
	return json.Marshal(info{
		Version: infoVersion, AuthType: c.AuthType, Flow: c.Flow, Status: c.Status, Scopes: c.Scopes,
		BaseURL: c.BaseURL, Account: c.Account, Hosts: c.Hosts, ObtainedAt: c.ObtainedAt.UTC(),
		ExpiresAt: c.ExpiresAt.UTC(), Renewable: c.Renewable, CreatedAt: c.CreatedAt.UTC(), UpdatedAt: c.UpdatedAt.UTC(),
		LastRefreshAt: c.LastRefreshAt.UTC(), LastRefreshError: c.LastRefreshError,
	})
}

func decodeInfo(data []byte, c *authsome.Connection) error {
	var i info
	if err := json.Unmarshal(data, &i); err != nil {
		return err
	}
	if i.Version != infoVersion {
		return fmt.Errorf("its form is %d, the only one known here is %d", i.Version, infoVersion)
	}
	c.AuthType, c.Flow, c.Status, c.Scopes = i.AuthType, i.Flow, i.Status, i.Scopes
	c.BaseURL, c.Account, c.Hosts = i.BaseURL, i.Account, i.Hosts
	c.ObtainedAt, c.ExpiresAt, c.CreatedAt, c.UpdatedAt = i.ObtainedAt, i.ExpiresAt, i.CreatedAt, i.UpdatedAt
	c.Renewable, c.LastRefreshAt, c.LastRefreshError = i.Renewable, i.LastRefreshAt, i.LastRefreshError
	return nil
}

// Connections reads all of one identity's, the sealed part included, by
// provider and name.
func (s *Store) Connections(ctx context.Context, vault, user string) ([]authsome.ConnectionRow, error) {
	return s.connections(ctx, "read the connections", `WHERE c.vault = $1 AND c.identity = $2`, vault, user)
}

// Connection reads one connection as it is stored now. Neither row nor error:
// there is none.
func (s *Store) Connection(ctx context.Context, vault, user, provider, name string) (*authsome.ConnectionRow, error) {
	rows, err := s.connections(ctx, "read a connection",
		`WHERE c.vault = $1 AND c.identity = $2 AND c.provider = $3 AND c.name = $4`, vault, user, provider, name)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// connections reads those that a condition on vault, identity and more chooses.
func (s *Store) connections(ctx context.Context, what, where string, args ...any) ([]authsome.ConnectionRow, error) {
	var out []authsome.ConnectionRow
	err := s.each(ctx, what, `
		SELECT c.vault, c.identity, c.provider, c.name, c.version, c.info, c.sealed, CASE WHEN d.name IS NULL THEN 0 ELSE 1 END
		FROM connections c
		LEFT JOIN defaults d ON d.vault = c.vault AND d.identity = c.identity AND d.provider = c.provider AND d.name = c.name
		`+where+` ORDER BY c.provider, c.name`, args, func(rows *sql.Rows) error {
		var r authsome.ConnectionRow
		c := &r.Connection
		var info []byte
		var isDefault int
		if err := rows.Scan(&r.Vault, &r.User, &c.Provider, &c.Name, &c.Version, &info, &r.Sealed, &isDefault); err != nil {
			return err
		}
		if err := decodeInfo(info, c); err != nil {
			return damagedRow(fmt.Sprintf("the connection %s (%s)", c.Provider, c.Name), err)
		}
		c.IsDefault = isDefault == 1
		out = append(out, r)
		return nil
	})
	return out, err
}

// SaveConnection inserts a connection (Version 1) or replaces one whose stored
// version is one less; anything else is a conflict and changes nothing.
func (s *Store) SaveConnection(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, ev authsome.Event) error {
	return s.write(ctx, "store a connection", []authsome.Event{ev}, func(ctx context.Context, tx *sql.Tx) error {
		return saveConnection(ctx, tx, row, makeDefault)
	})
}

// FinishLogin stores a connection and the login that made it, and the
// definition that the login found, nil when it found none.
func (s *Store) FinishLogin(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, login authsome.SealedRow, def *authsome.DefinitionRow, ev ...authsome.Event) error {
	return s.write(ctx, "store a login", ev, func(ctx context.Context, tx *sql.Tx) error {
		if def != nil {
			if err := saveDefinition(ctx, tx, *def); err != nil {
				return err
			}
		}
		if err := saveConnection(ctx, tx, row, makeDefault); err != nil {
			return err
		}
		return logins.save(ctx, tx, row.Vault, login)
	})
}

func saveConnection(ctx context.Context, tx *sql.Tx, row authsome.ConnectionRow, makeDefault bool) error {
	c := row.Connection
	info, err := encodeInfo(c)
	if err != nil {
		return err
	}
	var res sql.Result
	if c.Version == 1 {
		res, err = tx.ExecContext(ctx, `
			INSERT INTO connections (vault, identity, provider, name, version, info, sealed)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (vault, identity, provider, name) DO NOTHING`,
			row.Vault, row.User, c.Provider, c.Name, c.Version, info, row.Sealed)
	} else {
		res, err = tx.ExecContext(ctx, `
			UPDATE connections SET version = $5, info = $6, sealed = $7
			WHERE vault = $1 AND identity = $2 AND provider = $3 AND name = $4 AND version = $8`,
			row.Vault, row.User, c.Provider, c.Name, c.Version, info, row.Sealed, c.Version-1)
	}
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n != 1 {
		return authsome.E(authsome.StoreFailed, "store the connection %s (%s): it was changed or deleted meanwhile", c.Provider, c.Name).
			WithHint("run the command again")
	}
	if makeDefault {
		return setDefault(ctx, tx, row.Vault, row.User, c.Provider, c.Name)
	}
	return nil
}

// DeleteConnections deletes connections of one provider and makes newDefault
// its default; "" leaves it without one. A connection that is not there is
// fine, but newDefault must be.
func (s *Store) DeleteConnections(ctx context.Context, vault, user, provider string, names []string, newDefault string, ev ...authsome.Event) error {
	return s.write(ctx, "delete a connection", ev, func(ctx context.Context, tx *sql.Tx) error {
		for _, name := range names {
			// The default goes with it (ON DELETE CASCADE).
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

// SetDefault makes a connection its provider's default. One that is not there
// is an error of the code ConnectionNotFound.
func (s *Store) SetDefault(ctx context.Context, vault, user, provider, name string, ev authsome.Event) error {
	return s.write(ctx, "set a default", []authsome.Event{ev}, func(ctx context.Context, tx *sql.Tx) error {
		return setDefault(ctx, tx, vault, user, provider, name)
	})
}

func setDefault(ctx context.Context, tx *sql.Tx, vault, user, provider, name string) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO defaults (vault, identity, provider, name)
		SELECT vault, identity, provider, name FROM connections
		WHERE vault = $1 AND identity = $2 AND provider = $3 AND name = $4
		ON CONFLICT (vault, identity, provider) DO UPDATE SET name = excluded.name`, vault, user, provider, name)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n != 1 {
		return authsome.E(authsome.ConnectionNotFound, "make %s the default of %s: there is no such connection", name, provider).
			WithHint("authsome list")
	}
	return nil
}
