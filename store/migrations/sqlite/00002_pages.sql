-- +goose Up

PRAGMA user_version = 2;

-- The audit in pages. A page is what was committed together: the events first to
-- last of a vault, one JSON object a line, each as it was encoded and hashed; prev
-- is the hash of the event before them and hash that of the last. source names
-- what they came from when they were gathered elsewhere, so that they come once;
-- NULL for the events of a change.
CREATE TABLE pages (
    vault  TEXT NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    source TEXT,
    body   BLOB NOT NULL,
    prev   BLOB NOT NULL,
    hash   BLOB NOT NULL,
    PRIMARY KEY (vault, last),
    UNIQUE (vault, source)
) STRICT;

INSERT INTO pages (vault, first, last, body, prev, hash)
SELECT vault, seq, seq, body, prev, hash FROM events ORDER BY vault, seq;

DROP TABLE events;
