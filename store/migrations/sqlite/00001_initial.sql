-- +goose Up

-- "athS": package store recognises its own files by this number, and refuses
-- every other. The second number is that of this migration; it is what Open
-- looks at, so every later migration sets it to its own.
PRAGMA application_id = 1635018835;
PRAGMA user_version = 1;

-- What a vault keeps about itself: where its master key is, and the wrapped
-- data key.
CREATE TABLE vaults (
    id     TEXT NOT NULL PRIMARY KEY,
    header BLOB NOT NULL
) STRICT;

-- sealed opens only under the vault, identity, provider, name and version of
-- its row.
CREATE TABLE connections (
    vault    TEXT NOT NULL,
    identity TEXT NOT NULL,
    provider TEXT NOT NULL,
    name     TEXT NOT NULL,
    version  INTEGER NOT NULL,
    info     BLOB NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (vault, identity, provider, name)
) STRICT;

CREATE TABLE defaults (
    vault    TEXT NOT NULL,
    identity TEXT NOT NULL,
    provider TEXT NOT NULL,
    name     TEXT NOT NULL,
    PRIMARY KEY (vault, identity, provider),
    FOREIGN KEY (vault, identity, provider, name)
        REFERENCES connections (vault, identity, provider, name) ON DELETE CASCADE
) STRICT;

CREATE TABLE definitions (
    vault      TEXT NOT NULL,
    name       TEXT NOT NULL,
    definition BLOB NOT NULL,
    PRIMARY KEY (vault, name)
) STRICT;

-- Logins in progress and the grants of runs. expires_at is in Unix seconds, 0
-- for never.
CREATE TABLE logins (
    vault      TEXT NOT NULL,
    id         TEXT NOT NULL,
    identity   TEXT NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (vault, id)
) STRICT;

CREATE TABLE grants (
    vault      TEXT NOT NULL,
    id         TEXT NOT NULL,
    identity   TEXT NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (vault, id)
) STRICT;

-- What a vault has one of, such as its certificate authority.
CREATE TABLE items (
    vault   TEXT NOT NULL,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (vault, kind, name)
) STRICT;

-- The audit. body is the event as it was encoded and hashed; at is its time in
-- Unix seconds; prev is the hash of the event before it, so that what is left
-- still proves itself when old events have been dropped.
CREATE TABLE events (
    vault    TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    id       TEXT NOT NULL,
    identity TEXT NOT NULL,
    at       INTEGER NOT NULL,
    body     BLOB NOT NULL,
    prev     BLOB NOT NULL,
    hash     BLOB NOT NULL,
    PRIMARY KEY (vault, seq),
    UNIQUE (vault, id)
) STRICT;

-- The end of each vault's chain of events. Whoever appends holds its row until
-- the commit, so that writers on one vault take turns.
CREATE TABLE chains (
    vault TEXT NOT NULL PRIMARY KEY,
    seq   INTEGER NOT NULL,
    hash  BLOB NOT NULL
) STRICT;
