-- How far each partition of the accepted log was observed. covered: JSON, the end of the ingested range that the last
-- envelope of each group brought. units: of all records below position, ever: tells what was skipped.
CREATE TABLE cursors (
    partition TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    covered TEXT NOT NULL,
    units INTEGER NOT NULL
) WITHOUT ROWID;

-- Where the log had been shortened before it was observed, and how many accepted events that concerns.
CREATE TABLE skips (
    at_ms INTEGER NOT NULL,
    partition TEXT NOT NULL,
    position INTEGER NOT NULL,
    events INTEGER NOT NULL
);

-- name: of a track event, page or screen, else empty. sampled: its properties' counts are estimates.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    sampled INTEGER NOT NULL,
    UNIQUE (source, type, name)
);
CREATE INDEX events_by_age ON events (last_ms);

-- Exact. reason: why they were blocked, empty for those that were allowed.
CREATE TABLE outcomes (
    event_id INTEGER NOT NULL REFERENCES events ON DELETE CASCADE,
    reason TEXT NOT NULL,
    last_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (event_id, reason)
) WITHOUT ROWID;

-- The same by time. bucket_ms: the start of an hour, or of a UTC day once that lies some days back.
CREATE TABLE event_counts (
    event_id INTEGER NOT NULL REFERENCES events ON DELETE CASCADE,
    reason TEXT NOT NULL,
    bucket_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (event_id, reason, bucket_ms)
) WITHOUT ROWID;
CREATE INDEX event_counts_by_age ON event_counts (bucket_ms);

-- types: bits, see paths.py. blocked: with the whole event, or omitted because of a violation. omitted: as unplanned.
CREATE TABLE properties (
    id INTEGER PRIMARY KEY,
    event_id INTEGER NOT NULL REFERENCES events ON DELETE CASCADE,
    path TEXT NOT NULL,
    types INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    blocked INTEGER NOT NULL,
    omitted INTEGER NOT NULL,
    UNIQUE (event_id, path)
);
CREATE INDEX properties_by_age ON properties (last_ms);

CREATE TABLE property_days (
    property_id INTEGER NOT NULL REFERENCES properties ON DELETE CASCADE,
    day_ms INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    blocked INTEGER NOT NULL,
    omitted INTEGER NOT NULL,
    PRIMARY KEY (property_id, day_ms)
) WITHOUT ROWID;
CREATE INDEX property_days_by_age ON property_days (day_ms);

CREATE TABLE violations (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    event_type TEXT NOT NULL,
    name TEXT NOT NULL,
    field TEXT NOT NULL,
    type TEXT NOT NULL,
    description TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    UNIQUE (source, event_type, name, field, type, description)
);
CREATE INDEX violations_by_age ON violations (last_ms);

CREATE TABLE violation_counts (
    violation_id INTEGER NOT NULL REFERENCES violations ON DELETE CASCADE,
    bucket_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (violation_id, bucket_ms)
) WITHOUT ROWID;
CREATE INDEX violation_counts_by_age ON violation_counts (bucket_ms);

-- The newest events of a violation. body: as it was accepted, or ingested if it was blocked; its first bytes.
CREATE TABLE samples (
    id INTEGER PRIMARY KEY,
    violation_id INTEGER NOT NULL REFERENCES violations ON DELETE CASCADE,
    received_at_ms INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    blocked INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX samples_by_violation ON samples (violation_id, received_at_ms);

-- hours_since_ms: counts before it are by the day.
CREATE TABLE facts (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
