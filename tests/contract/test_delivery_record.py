"""One suite over the delivery record of all state stores: what is counted, told and kept, and for how long."""

from __future__ import annotations

import dataclasses

import pytest

from tests.contract.delivery_record_kit import (
    DAY,
    EVER,
    HOUR,
    MINUTE_MS,
    START,
    attempt,
    bulk_row,
    key,
    rows_of,
    sample,
    tidy,
)
from tests.contract.state_engines import Engine
from trunkline.state.base import (
    ATTEMPTS_KEPT_D,
    MINUTES_KEPT_H,
    NAMES_PER_SOURCE,
    OTHER_NAME,
    RECORD_KEPT_D,
    SAMPLES_PER_REASON,
    Changes,
    LaneKey,
    LatencyKey,
    LossKey,
    RecordCounts,
    RecordKey,
    RetryRow,
    StateFull,
)

# -- counters -------------------------------------------------------------------------------------------------------


def test_counts_add_up_by_key_and_outlive_a_kill(engine: Engine) -> None:
    failed = key(outcome="failed", reason="401")
    for _ in range(3):
        engine.store.commit(Changes(record={key(): RecordCounts(5, 4, 3, 2), failed: RecordCounts(1, 0, 9, 1)}))
    engine.store.commit(Changes(record={key(START + 1): RecordCounts(1, 1, 0, 1)}))
    engine.restart(kill=True)
    engine.store.commit(Changes(record={key(): RecordCounts(1, 1, 1, 1)}))
    assert rows_of(engine.store) == {
        (key(), 1): (16, 13, 10, 7),
        (failed, 1): (3, 0, 27, 3),
        (key(START + 1), 1): (1, 1, 0, 1),
    }


def test_the_counts_that_were_committed_are_the_caller_s_own(engine: Engine) -> None:
    """A commit that failed is repeated with the same object, and callers go on adding to theirs."""
    counts = RecordCounts(1, 1, 0, 1)
    engine.store.commit(Changes(record={key(): counts}))
    counts.add(counts)
    engine.store.commit(Changes(record={key(): RecordCounts(1, 0, 0, 0)}))
    assert (counts.events, rows_of(engine.store)) == (2, {(key(), 1): (2, 1, 0, 1)})


def test_the_record_is_read_by_time_destination_and_source(engine: Engine) -> None:
    keys = [
        key(START + 59),
        key(START + 60),
        key(START + 61, destination="crm"),
        key(START + 61, destination="", outcome="filtered_at_source"),
        key(START + 62, source="app"),
    ]
    engine.store.commit(Changes(record={found: RecordCounts(1) for found in keys}))

    def read(since: int, until: int, **only: str) -> list[RecordKey]:
        return sorted(found for found, _ in rows_of(engine.store, since, until, **only))

    minute = [(START + n) * MINUTE_MS for n in range(70)]
    assert read(0, EVER) == sorted(keys)
    assert read(minute[60], minute[62]) == sorted(keys[1:4])
    assert read(minute[60] + 59_999, minute[61] + 1) == sorted(keys[1:4]), "a row that overlaps the range belongs to it"
    assert read(0, EVER, destination="hook") == sorted([keys[0], keys[1], keys[4]])
    assert read(0, EVER, destination="") == [keys[3]]
    assert read(0, EVER, source="app") == [keys[4]]
    assert read(0, EVER, destination="crm", source="app") == []
    assert read(minute[61], minute[61]) == read(EVER, EVER) == []


def test_names_and_versions_are_capped_and_totals_are_not(engine: Engine) -> None:
    for start in range(0, 1200, 300):
        record = {key(name=f"E{n}", app_version=f"v{n}"): RecordCounts(1) for n in range(start, start + 300)}
        engine.store.commit(Changes(record=record, lane_books={LaneKey("hook", "web", "delivered", ""): 300}))
        engine.restart(kill=True)
    other = key(source="app", name="E9999", app_version="v9999")
    engine.store.commit(Changes(record={other: RecordCounts(1)}))
    found = rows_of(engine.store, source="web")
    names = {found_key.name for found_key, _ in found}
    versions = {found_key.app_version for found_key, _ in found}
    assert (len(names), len(versions)) == (NAMES_PER_SOURCE + 1, 101)
    assert {OTHER_NAME} == names - {f"E{n}" for n in range(1200)} == versions - {f"v{n}" for n in range(1200)}
    assert found[key(name=OTHER_NAME, app_version=OTHER_NAME), 1][0] == 200
    assert sum(counts[0] for counts in found.values()) == 1200
    assert engine.store.read().lane_books == {LaneKey("hook", "web", "delivered", ""): 1200}
    assert list(rows_of(engine.store, source="app")) == [(other, 1)], "each source has names of its own"


def test_latencies_and_losses_add_up_and_are_read_by_time(engine: Engine) -> None:
    fast, slow = LatencyKey(START, "hook", "web", 4), LatencyKey(START + 1, "hook", "web", 20)
    crm = LatencyKey(START + 1, "crm", "web", 4)
    lost, later = LossKey("hook", "web", START, "RETRY"), LossKey("crm", "web", START + 5, "401")
    for _ in range(2):
        engine.store.commit(Changes(latencies={fast: 2, slow: 1, crm: 1}, losses={lost: 3, later: 1}))
    engine.restart(kill=True)
    store = engine.store
    assert store.latencies(0, EVER) == {fast: 4, slow: 2, crm: 2}
    assert store.latencies(0, (START + 1) * MINUTE_MS) == {fast: 4}
    assert store.latencies((START + 1) * MINUTE_MS, EVER, destination="hook") == {slow: 2}
    assert store.losses(0) == {lost: 6, later: 2}
    assert store.losses((START + 1) * MINUTE_MS) == {later: 2}
    assert store.losses(START * MINUTE_MS + 59_000, destination="hook") == {lost: 6}


# -- stories --------------------------------------------------------------------------------------------------------


def test_attempts_are_found_by_message_and_by_place(engine: Engine) -> None:
    second = attempt(20, number=2, outcome="delivered", reason="")
    first = attempt(10)
    crm = attempt(15, destination="crm")
    other_partition = attempt(10, partition="1", message_id="n7")
    batch = attempt(12, place=3, last_place=9, message_id="", outcome="failed")
    engine.store.commit(Changes(attempts=[second, first, crm, other_partition, batch]))
    engine.restart(kill=True)
    store = engine.store
    assert store.attempts_of("m7") == [first, crm, second]
    assert store.attempts_at("hook", "0", 7) == [first, batch, second]
    assert store.attempts_at("hook", "0", 3) == store.attempts_at("hook", "0", 9) == [batch]
    assert store.attempts_at("hook", "0", 2) == store.attempts_at("hook", "0", 10) == []
    assert store.attempts_at("hook", "1", 7) == [other_partition]
    assert store.attempts_of("") == store.attempts_of("absent") == []


def test_the_newest_samples_of_each_reason_are_kept(engine: Engine) -> None:
    engine.store.commit(Changes(samples=[sample(n) for n in range(1, 26)]))
    engine.store.commit(Changes(samples=[sample(30), sample(3), sample(4, reason="401"), sample(5, destination="crm")]))
    engine.restart(kill=True)
    store = engine.store
    assert [found.at_ms for found in store.samples("hook", "503")] == [30, *range(25, 16, -1)]
    assert len(store.samples("hook", "503")) == SAMPLES_PER_REASON
    assert store.samples(reason="401") == [sample(4, reason="401")]
    assert store.samples("crm") == [sample(5, destination="crm")]
    assert [found.at_ms for found in store.samples()] == [30, *range(25, 16, -1), 5, 4]


def test_bulk_rows_are_replaced_and_removed_and_part_of_the_state(engine: Engine) -> None:
    later, earlier, crm = bulk_row(20), bulk_row(10), bulk_row(5, destination="crm")
    engine.store.commit(Changes(bulk={row.key: row for row in (later, earlier, crm)}))
    closed = dataclasses.replace(
        earlier, open=False, attempts=2, first_attempt_at_ms=7, due_at_ms=9, last_error="503", events={"web": 9}
    )
    engine.store.commit(Changes(bulk={closed.key: closed, crm.key: None, ("crm", "0", 99): None}))
    engine.restart(kill=True)
    assert engine.store.bulk_rows("hook") == [closed, later]
    assert engine.store.bulk_rows("crm") == []
    assert engine.store.read().bulk == (closed, later)


def test_waiting_rows_are_found_by_message(engine: Engine) -> None:
    def row(destination: str, message_id: str) -> RetryRow:
        timing = (1, 1, 1, 1)
        return RetryRow(destination, "", "0", 7, message_id, "web", "track", "E", *timing, "503", "map", b'{"a":1}')

    rows = [row("hook", "m7"), row("crm", "m7"), row("other", "m8")]
    engine.store.commit(Changes(rows={found.key: found for found in rows}))
    assert engine.store.row_of("m7") == [rows[1], rows[0]]
    engine.store.commit(Changes(rows={rows[1].key: None}))
    assert engine.store.row_of("m7") == [rows[0]]
    assert engine.store.row_of("absent") == []


def test_all_of_it_is_committed_with_the_books_or_not_at_all(engine: Engine) -> None:
    row = bulk_row(1)
    changes = Changes(
        lane_books={LaneKey("hook", "web", "delivered", ""): 1},
        record={key(): RecordCounts(1)},
        latencies={LatencyKey(START, "hook", "web", 1): 1},
        losses={LossKey("hook", "web", START, "401"): 1},
        attempts=[attempt()],
        samples=[sample()],
        bulk={row.key: row},
    )
    engine.fill_disk(True)
    for _ in range(2):
        with pytest.raises(StateFull):
            engine.store.commit(changes)
        with pytest.raises(StateFull):
            engine.store.tidy((START + 90 * DAY) * MINUTE_MS)
    engine.fill_disk(False)
    store = engine.store
    assert store.read().lane_books == {}
    assert [rows_of(store), store.latencies(0, EVER), store.losses(0)] == [{}, {}, {}]
    assert [store.attempts_of("m7"), store.samples(), store.bulk_rows("hook")] == [[], [], []]
    store.commit(changes)
    engine.restart(kill=True)
    store = engine.store
    assert store.read().lane_books == changes.lane_books
    assert rows_of(store) == {(key(), 1): (1, 0, 0, 0)}
    assert (store.latencies(0, EVER), store.losses(0)) == (changes.latencies, changes.losses)
    assert (store.attempts_of("m7"), store.samples(), store.bulk_rows("hook")) == ([attempt()], [sample()], [row])


# -- growing old ----------------------------------------------------------------------------------------------------


def test_minutes_become_hours_and_hours_go(engine: Engine) -> None:
    """Nothing is lost or counted twice when a row becomes part of its hour, whatever is there already."""
    store = engine.store
    minutes = (START, START + 1, START + 59, START + 60)
    store.commit(Changes(record={key(minute): RecordCounts(1, 1, 1, 1) for minute in minutes}))
    store.commit(Changes(latencies={LatencyKey(minute, "hook", "web", 4): 1 for minute in minutes}))
    kept = MINUTES_KEPT_H * HOUR
    tidy(store, START + kept + 1)
    assert rows_of(store) == {
        (key(START), 60): (1, 1, 1, 1),
        **{(key(minute), 1): (1, 1, 1, 1) for minute in minutes[1:]},
    }
    tidy(store, START + kept + 60)
    assert rows_of(store) == {(key(START), 60): (3, 3, 3, 3), (key(START + 60), 1): (1, 1, 1, 1)}
    assert store.latencies(0, EVER) == {
        LatencyKey(START, "hook", "web", 4): 3,
        LatencyKey(START + 60, "hook", "web", 4): 1,
    }
    store.commit(Changes(record={key(START + 30): RecordCounts(2, 2, 2, 2)}))
    assert sum(counts[0] for counts in rows_of(store).values()) == 6
    tidy(store, START + kept + 61)
    assert rows_of(store) == {(key(START), 60): (5, 5, 5, 5), (key(START + 60), 60): (1, 1, 1, 1)}
    assert len(rows_of(store, (START + 30) * MINUTE_MS, (START + 31) * MINUTE_MS, destination="hook")) == 1
    assert rows_of(store, (START + 60) * MINUTE_MS, EVER) == {(key(START + 60), 60): (1, 1, 1, 1)}
    engine.restart(kill=True)
    tidy(engine.store, START + RECORD_KEPT_D * DAY + 59)
    assert len(rows_of(engine.store)) == 2
    tidy(engine.store, START + RECORD_KEPT_D * DAY + 60)
    assert rows_of(engine.store) == {(key(START + 60), 60): (1, 1, 1, 1)}
    assert len(engine.store.latencies(0, EVER)) == 1
    tidy(engine.store, START + RECORD_KEPT_D * DAY + 120)
    assert [rows_of(engine.store), engine.store.latencies(0, EVER)] == [{}, {}]


def test_losses_samples_and_attempts_go_with_age(engine: Engine) -> None:
    store = engine.store
    losses = {LossKey("hook", "web", START + n, "401"): 1 for n in range(3)}
    samples = [sample((START + n) * MINUTE_MS) for n in range(3)]
    attempts = [attempt((START + n) * MINUTE_MS, number=n) for n in range(3)]
    store.commit(Changes(losses=losses, samples=samples, attempts=attempts))
    tidy(store, START + ATTEMPTS_KEPT_D * DAY + 1)
    assert (store.attempts_of("m7"), len(store.losses(0)), len(store.samples())) == (attempts[1:], 3, 3)
    tidy(store, START + RECORD_KEPT_D * DAY + 1)
    assert (store.attempts_of("m7"), len(store.losses(0)), len(store.samples())) == ([], 2, 2)
    tidy(store, START + RECORD_KEPT_D * DAY + 9)
    assert (store.losses(0), store.samples()) == ({}, [])


def test_too_many_attempts_of_a_destination_go_oldest_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("trunkline.state.sqlite_tidy", "trunkline.testing.memory_record"):
        monkeypatch.setattr(f"{module}.ATTEMPTS_PER_DESTINATION", 5)
    now = START * MINUTE_MS
    for start in (10, 0):
        attempts = [attempt(now + start + n, number=start + n) for n in range(10)]
        engine.store.commit(Changes(attempts=[*attempts, attempt(now + start, destination="crm", number=start)]))
    for _ in range(2):
        engine.restart(kill=True)
        tidy(engine.store, START)
        found = engine.store.attempts_of("m7")
        assert [one.number for one in found if one.destination == "hook"] == [15, 16, 17, 18, 19]
        assert [one.number for one in found if one.destination == "crm"] == [0, 10]
    engine.store.commit(Changes(attempts=[attempt(now + 50, number=50)]))
    tidy(engine.store, START)
    numbers = [one.number for one in engine.store.attempts_of("m7") if one.destination == "hook"]
    assert numbers == [16, 17, 18, 19, 50]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_key_that_comes_back_after_months_counts_anew(engine: Engine, restarts: bool) -> None:
    """Its old rows are gone by then, and what the store knew of it with them; others keep theirs."""
    steady = key(name="Steady")
    for day in range(0, 120, 10):
        minute = START + day * DAY
        engine.store.commit(Changes(record={steady._replace(minute=minute): RecordCounts(1)}))
        if day in (0, 100):
            engine.store.commit(
                Changes(
                    record={key(minute): RecordCounts(1), key(minute, name=f"New {day}"): RecordCounts(1)},
                    latencies={LatencyKey(minute, "hook", "web", 2): 1},
                )
            )
        tidy(engine.store, minute)
        assert len([found for found, _ in rows_of(engine.store) if found.name == "Steady"]) == min(4, 1 + day // 10)
        if restarts:
            engine.restart(kill=True)
    end = START + 110 * DAY
    engine.store.commit(Changes(record={key(START): RecordCounts(1)}))
    tidy(engine.store, end)
    engine.store.commit(Changes(record={key(START, name="New 0"): RecordCounts(7)}))  # a clock that was set back
    engine.store.commit(Changes(record={key(end, name="Newest"): RecordCounts(1), key(START): RecordCounts(3)}))
    names = sorted((found.name, found.minute, counts[0]) for (found, _), counts in rows_of(engine.store).items())
    assert names == sorted(
        [
            *(("Steady", START + day * DAY, 1) for day in (80, 90, 100, 110)),
            ("Order Completed", START + 100 * DAY, 1),
            ("New 100", START + 100 * DAY, 1),
            ("New 0", START, 7),
            ("Newest", end, 1),
            ("Order Completed", START, 3),
        ]
    )
    assert engine.store.latencies(0, EVER) == {LatencyKey(START + 100 * DAY, "hook", "web", 2): 1}
