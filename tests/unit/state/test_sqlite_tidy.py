"""Tidying a SQLite state: small pieces, and readers in the middle of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trunkline.state import sqlite_tidy
from trunkline.state.base import Attempt, Changes, LatencyKey, LossKey, RecordCounts, RecordKey, Sample, StateFull
from trunkline.state.sqlite import SqliteStateStore

MINUTE_MS = 60_000
HOUR = 60
DAY = 24 * HOUR
START = 490_000 * HOUR
EVER = 1 << 60


def events(store: SqliteStateStore, **only: str) -> int:
    return sum(row.counts.events for row in store.record(0, EVER, **only))


def key(minute: int, name: str = "E", destination: str = "hook") -> RecordKey:
    return RecordKey(minute, destination, "web", "", "track", name, "", "delivered", "")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteStateStore:
    monkeypatch.setattr(sqlite_tidy, "WORK_A_CALL", 40)
    return SqliteStateStore(tmp_path / "state.db")


def test_a_call_does_a_bounded_piece_of_the_work(store: SqliteStateStore, tmp_path: Path) -> None:
    minutes = range(START, START + 30)
    at_ms = START * MINUTE_MS
    store.commit(
        Changes(
            record={key(minute, name): RecordCounts(1) for minute in minutes for name in "abcde"},
            latencies={LatencyKey(minute, "hook", "web", bucket): 1 for minute in minutes for bucket in range(5)},
            losses={LossKey("hook", "web", minute, "401"): 1 for minute in minutes},
            attempts=[Attempt("hook", "", "0", n, n, f"m{n}", 1, at_ms, "retry", "503", "") for n in range(50)],
            samples=[Sample(f"d{n}", "503", at_ms, f"m{n}", "", "", "") for n in range(50)],
        )
    )
    tables = ("delivery_record", "latencies", "losses", "attempts", "samples", "record_keys", "record_lanes")
    reader = sqlite3.connect(tmp_path / "state.db")

    def rows() -> dict[str, int]:
        return {table: reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}

    left, calls, more = rows(), 0, True
    assert left["delivery_record"] == 150
    while more:
        more = store.tidy((START + 90 * DAY) * MINUTE_MS)
        calls += 1
        now = rows()
        gone = {table: left[table] - now[table] for table in tables}
        assert all(0 <= count <= 40 for count in gone.values()), gone
        assert gone["attempts"] + gone["samples"] <= 10
        assert sum(gone.values()) <= 40
        left = now
    assert set(left.values()) == {0}
    assert calls > 15
    reader.close()
    store.close()


def test_reading_while_minutes_become_hours_misses_and_doubles_nothing(store: SqliteStateStore, tmp_path: Path) -> None:
    minutes = range(START + 7, START + 5 * HOUR)
    store.commit(
        Changes(
            record={key(minute, name): RecordCounts(1) for minute in minutes for name in "abc"},
            latencies={LatencyKey(minute, "hook", "web", bucket): 1 for minute in minutes for bucket in range(3)},
        )
    )
    reader = SqliteStateStore(tmp_path / "state.db", read_only=True)
    grains = set()
    for only in ({}, {"destination": "hook"}):
        found = 0
        for row in reader.record(0, EVER, **only):
            found += row.counts.events
            grains.add(row.grain_minutes)
            store.tidy((minutes[0] + found // 3 + 30 + 2 * DAY) * MINUTE_MS)
        assert found == 3 * len(minutes)
    assert grains == {1, 60}
    assert sum(reader.latencies(0, EVER).values()) == 3 * len(minutes)
    while store.tidy((START + 10 * DAY) * MINUTE_MS):
        assert events(reader) == events(reader, destination="hook") == 3 * len(minutes)
        assert sum(reader.latencies(0, EVER, destination="hook").values()) == 3 * len(minutes)
    assert {row.grain_minutes for row in reader.record(0, EVER)} == {60}
    assert events(reader) == 3 * len(minutes)
    reader.close()
    store.close()


def test_a_commit_that_fails_leaves_no_numbers_behind(store: SqliteStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and keys that a rolled back commit brought must not be taken for known."""

    def refuse(name: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trunkline.state.sqlite.failpoint", refuse)
        with pytest.raises(StateFull, match="no room"):
            store.commit(Changes(record={key(START, "A"): RecordCounts(1)}, latencies={LatencyKey(1, "a", "b", 1): 1}))
    store.commit(Changes(record={key(START, "B"): RecordCounts(1)}))
    store.commit(Changes(record={key(START, "A"): RecordCounts(1)}, latencies={LatencyKey(1, "a", "b", 1): 1}))
    assert sorted((row.key.name, row.counts.events) for row in store.record(0, EVER)) == [("A", 1), ("B", 1)]
    assert store.latencies(0, EVER) == {LatencyKey(1, "a", "b", 1): 1}
    store.close()
