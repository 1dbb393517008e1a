-- Version 1. One writing process (the worker); readers in any process.
-- Every table is keyed by what it speaks of; counters are increments applied in the transaction of their cursor.

CREATE TABLE source_cursors (
    partition TEXT NOT NULL,           -- of the ingested log
    intake    TEXT NOT NULL,           -- group of sources that share a cursor
    position  INTEGER NOT NULL,        -- next ingested record that no applied envelope covers
    PRIMARY KEY (partition, intake)
) WITHOUT ROWID;

CREATE TABLE accepted_cursors (
    partition TEXT PRIMARY KEY,        -- of the accepted log
    position  INTEGER NOT NULL,        -- envelopes below this are applied
    epoch     INTEGER NOT NULL         -- of the owner that wrote last
) WITHOUT ROWID;

CREATE TABLE source_books (
    source  TEXT NOT NULL,
    type    TEXT NOT NULL,
    name    TEXT NOT NULL,             -- '$other' beyond the cap of names
    outcome TEXT NOT NULL,
    reason  TEXT NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (source, type, name, outcome, reason)
) WITHOUT ROWID;

-- Exact totals apart from the keys that are capped, in the same transaction.
CREATE TABLE source_totals (
    source  TEXT NOT NULL,
    outcome TEXT NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (source, outcome)
) WITHOUT ROWID;

CREATE TABLE lane_books (
    destination TEXT NOT NULL,
    source      TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    reason      TEXT NOT NULL,
    count       INTEGER NOT NULL,
    PRIMARY KEY (destination, source, outcome, reason)
) WITHOUT ROWID;

CREATE TABLE intervals (
    id             INTEGER PRIMARY KEY,
    destination    TEXT NOT NULL,
    source         TEXT NOT NULL,
    opened_at_ms   INTEGER NOT NULL,
    open_place     INTEGER NOT NULL,
    open_received  TEXT NOT NULL,      -- JSON: running total in the ingested log by partition
    open_books     TEXT NOT NULL,      -- JSON: running outcomes of the source
    closed_at_ms   INTEGER,
    close_place    INTEGER,
    close_received TEXT,
    close_books    TEXT
);

CREATE TABLE lanes (
    destination TEXT NOT NULL,
    partition   TEXT NOT NULL,
    mark        INTEGER NOT NULL,
    settled     TEXT NOT NULL,         -- JSON: runs of places above the mark
    PRIMARY KEY (destination, partition)
) WITHOUT ROWID;

CREATE TABLE retries (
    destination         TEXT NOT NULL,
    subscription        TEXT NOT NULL,
    partition           TEXT NOT NULL,
    place               INTEGER NOT NULL,
    message_id          TEXT NOT NULL,
    source              TEXT NOT NULL,
    type                TEXT NOT NULL,
    name                TEXT NOT NULL,
    received_at_ms      INTEGER NOT NULL,
    attempts            INTEGER NOT NULL,
    first_attempt_at_ms INTEGER NOT NULL,
    due_at_ms           INTEGER NOT NULL,
    last_error          TEXT NOT NULL,
    resume_stage        TEXT NOT NULL,
    event               BLOB NOT NULL, -- zstd
    PRIMARY KEY (destination, subscription, partition, place)
);

CREATE INDEX retries_by_due ON retries (destination, due_at_ms);

CREATE TABLE facts (
    key   TEXT PRIMARY KEY,            -- 'snapshot': version of the snapshot in force
    value TEXT NOT NULL
) WITHOUT ROWID;
