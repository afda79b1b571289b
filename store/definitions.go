package store

import (
	"context"
	"database/sql"

	"github.com/authsome/authsome"
)

// Definitions reads the registered provider definitions, by name.
func (s *Store) Definitions(ctx context.Context, vault string) ([]authsome.DefinitionRow, error) {
	var out []authsome.DefinitionRow
	err := s.each(ctx, "read the definitions", `SELECT name, definition FROM definitions WHERE vault = $1 ORDER BY name`, []any{vault},
		func(rows *sql.Rows) error {
			d := authsome.DefinitionRow{Vault: vault}
			if err := rows.Scan(&d.Name, &d.Definition); err != nil {
				return err
			}
			out = append(out, d)
			return nil
		})
	return out, err
}

// SaveDefinition inserts or replaces a definition.
func (s *Store) SaveDefinition(ctx context.Context, row authsome.DefinitionRow, ev authsome.Event) error {
	return s.write(ctx, "store a definition", []authsome.Event{ev}, func(ctx context.Context, tx *sql.Tx) error { return saveDefinition(ctx, tx, row) })
}

func saveDefinition(ctx context.Context, tx *sql.Tx, row authsome.DefinitionRow) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO definitions (vault, name, definition) VALUES ($1, $2, $3)
		ON CONFLICT (vault, name) DO UPDATE SET definition = excluded.definition`, row.Vault, row.Name, row.Definition)
	return err
}

// DeleteDefinition deletes a definition; one that is not there is fine.
func (s *Store) DeleteDefinition(ctx context.Context, vault, name string, ev authsome.Event) error {
	return s.write(ctx, "delete a definition", []authsome.Event{ev}, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM definitions WHERE vault = $1 AND name = $2`, vault, name)
		return err
	})
}
