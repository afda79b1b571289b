package store

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// schemaVersion is the number of the newest migration.
const schemaVersion = 2

//go:embed migrations
var migrations embed.FS

// engine is what differs between databases. The statements do not.
type engine struct {
	dialect goose.Dialect
	dir     string // its migrations
	// version tells cheaply which migration was the last; 0 for none.
	version func(ctx context.Context, db *sql.DB) (int, error)
	// lock keeps other processes out of what key names until the connection
	// ends or unlock runs; nil where no other process can be.
	lock, unlock string
}

var sqliteEngine = engine{
	dialect: goose.DialectSQLite3,
	dir:     "migrations/sqlite",
	version: func(ctx context.Context, db *sql.DB) (v int, err error) {
		err = db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&v)
		return v, err
	},
}

var postgresEngine = engine{
	dialect: goose.DialectPostgres,
	dir:     "migrations/postgres",
	version: func(ctx context.Context, db *sql.DB) (v int, err error) {
		var migrated bool
		err = db.QueryRowContext(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&migrated)
		if err != nil || !migrated {
			return 0, err
		}
		err = db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`).Scan(&v)
		return v, err
	},
	lock:   `SELECT pg_advisory_lock(hashtextextended($1, 0))`,
	unlock: `SELECT pg_advisory_unlock(hashtextextended($1, 0))`,
}

// migrate applies what is missing, each migration in a transaction.
func (e engine) migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, e.dir)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(e.dialect, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}
