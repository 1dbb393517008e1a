-- Version 2. Bulk batches and the delivery record.
-- The record's rows are many, so their texts are written once (record_keys, record_lanes) and the rows hold numbers.
-- They are in order of time: what is counted now lies together, and so does what grows old.

CREATE TABLE bulk (
    destination         TEXT NOT NULL,
    partition           TEXT NOT NULL,
    place               INTEGER NOT NULL,
    end_place           INTEGER NOT NULL,
    open                INTEGER NOT NULL,
    file                TEXT NOT NULL,
    size_bytes          INTEGER NOT NULL,
    events              TEXT NOT NULL,     -- JSON: members by source
    opened_at_ms        INTEGER NOT NULL,
    attempts            INTEGER NOT NULL,
    first_attempt_at_ms INTEGER NOT NULL,
    due_at_ms           INTEGER NOT NULL,
    last_error          TEXT NOT NULL,
    PRIMARY KEY (destination, partition, place)
) WITHOUT ROWID;

-- Names that have keys of their own; the others are counted as '$other'.
CREATE TABLE names (
    source TEXT NOT NULL,
    kind   TEXT NOT NULL,                  -- 'name' of an event, 'app_version'
    name   TEXT NOT NULL,
    PRIMARY KEY (source, kind, name)
) WITHOUT ROWID;

INSERT INTO names SELECT DISTINCT source, 'name', name FROM source_books WHERE name NOT IN ('', '$other');

CREATE TABLE record_keys (
    id           INTEGER PRIMARY KEY,
    destination  TEXT NOT NULL,            -- '' for the source stage
    source       TEXT NOT NULL,
    subscription TEXT NOT NULL,
    type         TEXT NOT NULL,
    name         TEXT NOT NULL,
    app_version  TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    last_day     INTEGER NOT NULL,         -- since the epoch, on which it was counted last
    UNIQUE (destination, source, subscription, type, name, app_version, outcome, reason)
);

CREATE INDEX record_keys_by_day ON record_keys (last_day);

CREATE TABLE delivery_record (
    grain    INTEGER NOT NULL,             -- minutes a row: 1 or 60
    minute   INTEGER NOT NULL,             -- since the epoch; the first of the hour
    key      INTEGER NOT NULL,             -- record_keys.id
    events   INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    retries  INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (grain, minute, key)
) WITHOUT ROWID;

-- A month of one destination. Minutes do without: they are written all the time.
CREATE INDEX delivery_record_by_key ON delivery_record (key, minute) WHERE grain = 60;

CREATE TABLE record_lanes (
    id          INTEGER PRIMARY KEY,
    destination TEXT NOT NULL,
    source      TEXT NOT NULL,
    last_day    INTEGER NOT NULL,
    UNIQUE (destination, source)
);

CREATE INDEX record_lanes_by_day ON record_lanes (last_day);

CREATE TABLE latencies (
    grain  INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    key    INTEGER NOT NULL,               -- record_lanes.id
    bucket INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (grain, minute, key, bucket)
) WITHOUT ROWID;

CREATE INDEX latencies_by_key ON latencies (key, minute) WHERE grain = 60;

CREATE TABLE losses (
    received_minute INTEGER NOT NULL,
    destination     TEXT NOT NULL,
    source          TEXT NOT NULL,
    reason          TEXT NOT NULL,
    events          INTEGER NOT NULL,
    PRIMARY KEY (received_minute, destination, source, reason)
) WITHOUT ROWID;

CREATE TABLE attempts (
    id           INTEGER PRIMARY KEY,
    destination  TEXT NOT NULL,
    subscription TEXT NOT NULL,
    partition    TEXT NOT NULL,
    place        INTEGER NOT NULL,
    last_place   INTEGER NOT NULL,         -- above place for a bulk batch
    message_id   TEXT NOT NULL,
    number       INTEGER NOT NULL,
    at_ms        INTEGER NOT NULL,
    outcome      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    detail       TEXT NOT NULL
);

CREATE INDEX attempts_by_message ON attempts (message_id) WHERE message_id <> '';
CREATE INDEX attempts_by_place ON attempts (destination, place);
CREATE INDEX attempts_of_bulk ON attempts (destination, place, last_place) WHERE last_place > place;
CREATE INDEX attempts_by_age ON attempts (destination, at_ms);

CREATE TABLE attempt_counts (              -- so that the cap costs no counting
    destination TEXT PRIMARY KEY,
    count       INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE samples (
    id          INTEGER PRIMARY KEY,
    destination TEXT NOT NULL,
    reason      TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    message_id  TEXT NOT NULL,
    sent        TEXT NOT NULL,
    request     TEXT NOT NULL,
    response    TEXT NOT NULL
);

CREATE INDEX samples_by_reason ON samples (destination, reason, at_ms);
CREATE INDEX samples_by_age ON samples (at_ms);

CREATE INDEX retries_by_message ON retries (message_id);
