-- Blocked events: files, blooms and members as of accepted events, in tables of their own.
CREATE TABLE blocked_files (
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
CREATE INDEX blocked_files_by_source ON blocked_files (source);
CREATE INDEX blocked_files_by_day ON blocked_files (day_ms);

CREATE TABLE blocked_blooms (
    file_id INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    bits BLOB NOT NULL,
    PRIMARY KEY (file_id, slice)
);

-- Places count blocked events, not accepted ones.
CREATE TABLE blocked_members (
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
