-- +goose Up
CREATE TABLE vaults (
    id     TEXT PRIMARY KEY,
    header BLOB NOT NULL
);
CREATE TABLE connections (
    vault      TEXT NOT NULL,
    identity   TEXT NOT NULL,
    provider   TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    info       BLOB NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (vault, identity, provider, name)
);
CREATE TABLE defaults (
    vault    TEXT NOT NULL,
    identity TEXT NOT NULL,
    provider TEXT NOT NULL,
    name     TEXT NOT NULL,
    PRIMARY KEY (vault, identity, provider)
);
CREATE TABLE definitions (
    vault      TEXT NOT NULL,
    name       TEXT NOT NULL,
    definition BLOB NOT NULL,
    PRIMARY KEY (vault, name)
);
CREATE TABLE sealed_rows (
    vault      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (vault, kind, id)
);
CREATE TABLE events (
    vault TEXT NOT NULL,
    seq   BIGINT NOT NULL,
    id    TEXT NOT NULL,
    at    BIGINT NOT NULL,
    body  BLOB NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (vault, seq),
    UNIQUE (vault, id)
);
