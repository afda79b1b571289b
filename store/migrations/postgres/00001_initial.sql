-- +goose Up

-- See ../sqlite/00001_initial.sql for what the tables hold. Keys are compared
-- byte by byte (COLLATE "C"), as SQLite does it.

CREATE TABLE vaults (
    id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    header BYTEA NOT NULL
);

CREATE TABLE connections (
    vault    TEXT COLLATE "C" NOT NULL,
    identity TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    version  BIGINT NOT NULL,
    info     BYTEA NOT NULL,
    sealed   BYTEA NOT NULL,
    PRIMARY KEY (vault, identity, provider, name)
);

CREATE TABLE defaults (
    vault    TEXT COLLATE "C" NOT NULL,
    identity TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (vault, identity, provider),
    FOREIGN KEY (vault, identity, provider, name)
        REFERENCES connections (vault, identity, provider, name) ON DELETE CASCADE
);

CREATE TABLE definitions (
    vault      TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    definition BYTEA NOT NULL,
    PRIMARY KEY (vault, name)
);

CREATE TABLE logins (
    vault      TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    identity   TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    sealed     BYTEA NOT NULL,
    PRIMARY KEY (vault, id)
);

CREATE TABLE grants (
    vault      TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    identity   TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    sealed     BYTEA NOT NULL,
    PRIMARY KEY (vault, id)
);

CREATE TABLE items (
    vault   TEXT COLLATE "C" NOT NULL,
    kind    TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    sealed  BYTEA NOT NULL,
    PRIMARY KEY (vault, kind, name)
);

CREATE TABLE events (
    vault    TEXT COLLATE "C" NOT NULL,
    seq      BIGINT NOT NULL,
    id       TEXT COLLATE "C" NOT NULL,
    identity TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    body     BYTEA NOT NULL,
    prev     BYTEA NOT NULL,
    hash     BYTEA NOT NULL,
    PRIMARY KEY (vault, seq),
    UNIQUE (vault, id)
);

CREATE TABLE chains (
    vault TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seq   BIGINT NOT NULL,
    hash  BYTEA NOT NULL
);
