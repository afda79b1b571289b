-- +goose Up

CREATE TABLE pages (
    vault  TEXT COLLATE "C" NOT NULL,
    first  BIGINT NOT NULL,
    last   BIGINT NOT NULL,
    source TEXT COLLATE "C",
    body   BYTEA NOT NULL,
    prev   BYTEA NOT NULL,
    hash   BYTEA NOT NULL,
    PRIMARY KEY (vault, last),
    UNIQUE (vault, source)
);

INSERT INTO pages (vault, first, last, body, prev, hash)
SELECT vault, seq, seq, body, prev, hash FROM events ORDER BY vault, seq;

DROP TABLE events;
