-- How far each partition of the accepted log is archived. covered: JSON, the end of the ingested range that the last
-- envelope of each group brought, by group: an append that the log repeats is recognised after a restart too.
CREATE TABLE cursors (
    partition TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    covered TEXT NOT NULL,
    flushed_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- A flush that has begun: everything below stop, in files of these keys. A crash repeats it with the same bounds.
CREATE TABLE plans (
    partition TEXT PRIMARY KEY,
    stop INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    keys TEXT NOT NULL
) WITHOUT ROWID;

-- AUTOINCREMENT: an id is never given twice, since positions of members are made of it.
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    partition TEXT NOT NULL,
    source TEXT NOT NULL,
    day_ms INTEGER NOT NULL,
    key TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    events INTEGER NOT NULL,
    first_received_at_ms INTEGER NOT NULL,
    last_received_at_ms INTEGER NOT NULL,
    first_place INTEGER NOT NULL,
    last_place INTEGER NOT NULL,
    bloom_slices INTEGER NOT NULL
);
-- Of one source by id, which every index ends with.
CREATE INDEX files_by_source ON files (source);
CREATE INDEX files_by_day ON files (day_ms);

-- Slices of the Bloom filter of a file's messageIds.
CREATE TABLE blooms (
    file_id INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    bits BLOB NOT NULL,
    PRIMARY KEY (file_id, slice)
);

-- A gzip member of a file. places: zlib of the differences of its lines' places, 8 bytes each, little endian.
CREATE TABLE members (
    file_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    events INTEGER NOT NULL,
    first_received_at_ms INTEGER NOT NULL,
    last_received_at_ms INTEGER NOT NULL,
    first_place INTEGER NOT NULL,
    last_place INTEGER NOT NULL,
    places BLOB NOT NULL,
    PRIMARY KEY (file_id, number)
);

-- Objects that nothing speaks of any more and that are still to be removed.
CREATE TABLE doomed (key TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
