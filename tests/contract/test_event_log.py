"""The contract of the event log, held against every engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from trunkline.log.base import ACCEPTED, INGESTED, EventLog, LogError, LogLocked, NewRecord, Record
from trunkline.log.embedded import EmbeddedLog
from trunkline.testing.memory_log import MemoryLog

PARTITION = "p0"


class StepClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


@dataclass
class Engine:
    """A log under test. ``log`` makes another view on the same data where the engine can."""

    log: EventLog
    clock: StepClock
    again: Callable[[], EventLog]
    kafka_like: bool = False


@pytest.fixture(params=["embedded", "memory", "memory-kafka-like"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    clock = StepClock()
    if request.param == "embedded":
        return Engine(
            EmbeddedLog(tmp_path, clock, segment_bytes=4096),
            clock,
            lambda: EmbeddedLog(tmp_path, clock, segment_bytes=4096),
        )
    kafka_like = request.param == "memory-kafka-like"
    memory = MemoryLog(kafka_like, seed=7, clock=clock)
    return Engine(memory, clock, lambda: memory, kafka_like)


def batch(start: int, size: int, padding: int = 0) -> list[NewRecord]:
    return [
        NewRecord(b"%d:" % number + b"x" * padding, {"web": 1 + number % 3, f"s{number % 5}": 2})
        for number in range(start, start + size)
    ]


def read_all(log: EventLog, position: int = 0, topic: str = INGESTED, partition: str = PARTITION) -> list[Record]:
    reader = log.reader(topic, partition, position)
    records: list[Record] = []
    while found := reader.read(1000, 7):
        records += found
    assert reader.position == (records[-1].next_position if records else position)
    reader.close()
    return records


def numbers(records: list[Record]) -> list[int]:
    """The numbers of the records, first copies only: an engine may append one twice."""
    return list(dict.fromkeys(int(record.payload.split(b":")[0]) for record in records))


def fill(engine: Engine, appends: int = 12, size: int = 5, padding: int = 200) -> list[int]:
    appender = engine.log.appender(INGESTED, PARTITION)
    positions: list[int] = []
    for at in range(appends):
        positions += appender.append(batch(at * size, size, padding))
        engine.clock.ms += 1000
    appender.close()
    return positions


def test_records_come_back_in_order_with_payload_counts_and_positions(engine: Engine) -> None:
    positions = fill(engine)
    records = read_all(engine.again())
    assert numbers(records) == list(range(60))
    assert positions == sorted(set(positions))
    by_position = {record.position: record for record in records}
    for number, position in enumerate(positions):
        assert by_position[position].payload == batch(number, 1, 200)[0].payload
        assert by_position[position].counts == batch(number, 1)[0].counts
    for earlier, later in itertools.pairwise(records):
        assert earlier.position < earlier.next_position <= later.position
    if not engine.kafka_like:
        assert [record.position for record in records] == positions


def test_an_append_without_records_writes_nothing(engine: Engine) -> None:
    appender = engine.log.appender(INGESTED, PARTITION)
    before = appender.head
    assert appender.append([]) == []
    assert appender.head == before
    assert read_all(engine.log) == []


def test_empty_payloads_and_counts_and_any_key_are_kept(engine: Engine) -> None:
    appender = engine.log.appender(INGESTED, PARTITION)
    new = [NewRecord(b"", {}), NewRecord(b"\0\xff", {"object:wéb ☃": 3, "": 0}), NewRecord(b"TKBK" * 50, {"a": 2**40})]
    positions = appender.append(new)
    found = {record.position: record for record in read_all(engine.log)}
    assert [(found[at].payload, dict(found[at].counts)) for at in positions] == [
        (record.payload, dict(record.counts)) for record in new
    ]


def test_head_lies_above_every_record_and_below_the_next(engine: Engine) -> None:
    appender = engine.log.appender(INGESTED, PARTITION)
    for start in range(0, 40, 4):
        before = appender.head
        positions = appender.append(batch(start, 4))
        assert before <= positions[0]
        assert positions[-1] < appender.head
    assert read_all(engine.log)[-1].next_position <= appender.head


def test_a_read_keeps_to_its_limits_but_returns_one_record_at_least(engine: Engine) -> None:
    appender = engine.log.appender(INGESTED, PARTITION)
    appender.append([NewRecord(b"%d:" % number + b"y" * 98, {"web": 1}) for number in range(10, 30)])
    reader = engine.log.reader(INGESTED, PARTITION)
    assert len(reader.read(1)) == 1
    assert len(reader.read(250)) == 2
    assert len(reader.read(303)) == 3
    assert len(reader.read(1_000_000, 4)) == 4
    assert reader.read(1_000_000, 0) == []
    rest = reader.read(1_000_000)
    assert numbers(rest)[-1] == 29


def test_a_reader_at_the_head_goes_on_with_what_is_appended_later(engine: Engine) -> None:
    reader = engine.log.reader(INGESTED, PARTITION)
    assert reader.read(1000) == []
    appender = engine.log.appender(INGESTED, PARTITION)
    assert reader.read(1000) == []
    seen: list[Record] = []
    for start in range(0, 50, 2):
        appender.append(batch(start, 2, 300))
        while found := reader.read(10_000):
            seen += found
    assert numbers(seen) == list(range(50))
    assert reader.read(1000) == []


def test_every_next_position_is_a_cursor(engine: Engine) -> None:
    fill(engine)
    records = read_all(engine.log)
    reader = engine.log.reader(INGESTED, PARTITION)
    for at in (*range(len(records)), *reversed(range(len(records)))):
        reader.seek(records[at].position)
        assert reader.read(1)[0] == records[at]
        assert reader.position == records[at].next_position
        fresh = engine.log.reader(INGESTED, PARTITION, records[at].next_position)
        assert fresh.read(1) == records[at + 1 : at + 2]
        fresh.close()


def test_a_reader_can_seek_above_the_head_and_wait_there(engine: Engine) -> None:
    fill(engine, 1)
    head = engine.log.totals(INGESTED, PARTITION).position
    reader = engine.log.reader(INGESTED, PARTITION, head + 3)
    assert reader.read(1000) == []
    appender = engine.log.appender(INGESTED, PARTITION)
    appender.append(batch(5, 20))
    found = reader.read(1000)
    assert found[0].position >= head + 3
    assert found[0] == next(record for record in read_all(engine.log) if record.position >= head + 3)


def test_topics_and_partitions_are_apart(engine: Engine) -> None:
    assert engine.log.partitions(INGESTED) == []
    assert engine.log.totals(INGESTED, "none").counts == {}
    assert engine.log.check(INGESTED, "none") == []
    assert list(engine.log.index(INGESTED, "none", 0)) == []
    assert engine.log.retain(INGESTED, "none", consumed=9, older_than_ms=9, max_bytes=0) == 0
    assert engine.log.size_bytes(INGESTED) == 0
    for start, (topic, partition) in enumerate([(INGESTED, "b"), (INGESTED, "a"), (ACCEPTED, "a")]):
        engine.log.appender(topic, partition).append(batch(start, 1))
    assert engine.again().partitions(INGESTED) == ["a", "b"]
    assert engine.log.partitions(ACCEPTED) == ["a"]
    assert numbers(read_all(engine.log, 0, INGESTED, "b")) == [0]
    assert numbers(read_all(engine.log, 0, INGESTED, "a")) == [1]
    assert numbers(read_all(engine.log, 0, ACCEPTED, "a")) == [2]
    assert engine.log.size_bytes(INGESTED) > 0


def test_a_partition_has_one_appender(engine: Engine) -> None:
    first = engine.log.appender(INGESTED, PARTITION)
    with pytest.raises(LogLocked, match=PARTITION):
        engine.again().appender(INGESTED, PARTITION)
    engine.log.appender(INGESTED, "other").close()
    first.append(batch(0, 1))
    first.close()
    first.close()
    with pytest.raises(LogError):
        first.append(batch(1, 1))
    second = engine.again().appender(INGESTED, PARTITION)
    second.append(batch(2, 1))
    assert numbers(read_all(engine.log)) == [0, 2]


def test_positions_go_on_after_the_appender_was_opened_anew(engine: Engine) -> None:
    expected = 0
    last = -1
    for _ in range(5):
        log = engine.again()
        appender = log.appender(INGESTED, PARTITION)
        assert appender.head > last
        for _ in range(3):
            positions = appender.append(batch(expected, 7, 100))
            assert positions[0] > last
            last = positions[-1]
            expected += 7
        appender.close()
    assert numbers(read_all(engine.again())) == list(range(expected))


def test_a_closed_reader_says_so(engine: Engine) -> None:
    reader = engine.log.reader(INGESTED, PARTITION)
    reader.close()
    with pytest.raises(LogError):
        reader.read(1)


def test_the_index_is_the_records_without_payloads(engine: Engine) -> None:
    fill(engine)
    records = read_all(engine.log)
    for start in range(0, records[-1].next_position + 2, 3):
        for stop in (None, start, start + 1, start + 17):
            expected = [
                (record.position, record.next_position, record.counts)
                for record in records
                if start <= record.position and (stop is None or record.position < stop)
            ]
            found = list(engine.log.index(INGESTED, PARTITION, start, stop))
            assert [(entry.position, entry.next_position, entry.counts) for entry in found] == expected


def test_the_index_ends_at_the_head_of_the_call(engine: Engine) -> None:
    appender = engine.log.appender(INGESTED, PARTITION)
    appender.append(batch(0, 3))
    records = read_all(engine.log)
    entries = engine.log.index(INGESTED, PARTITION, 0)
    appender.append(batch(3, 50, 200))
    assert [entry.position for entry in entries] == [record.position for record in records]


def sums(records: list[Record], below: int) -> dict[str, int]:
    totals: dict[str, int] = {}
    for record in records:
        if record.position < below:
            for key, count in record.counts.items():
                totals[key] = totals.get(key, 0) + count
    return totals


def test_totals_are_the_sums_at_every_position(engine: Engine) -> None:
    fill(engine)
    records = read_all(engine.log)
    for position in range(records[-1].next_position + 1):
        totals = engine.log.totals(INGESTED, PARTITION, position)
        assert totals.position == position
        assert totals.counts == sums(records, position)
    head = engine.log.totals(INGESTED, PARTITION)
    assert head.counts == sums(records, head.position)
    assert engine.log.totals(INGESTED, PARTITION, head.position + 100) == head


def test_retention_needs_consumption_and_age_or_size(engine: Engine) -> None:
    positions = fill(engine)  # one append a second, the first at 1,000,000 ms
    log = engine.log
    full = log.size_bytes(INGESTED)
    end = positions[-1] + 1000
    assert log.retain(INGESTED, PARTITION, consumed=0, older_than_ms=10**12, max_bytes=0) == 0
    assert log.retain(INGESTED, PARTITION, consumed=end, older_than_ms=1_000_000, max_bytes=full) == 0
    assert log.size_bytes(INGESTED) == full

    freed = log.retain(INGESTED, PARTITION, consumed=end, older_than_ms=1_005_000, max_bytes=full)
    assert freed > 0
    assert log.size_bytes(INGESTED) == full - freed
    left = numbers(read_all(log))
    assert left[-1] == 59
    assert set(left) >= set(range(25, 60)), "records of 1,005,000 ms and later had to stay"

    freed_by_size = log.retain(INGESTED, PARTITION, consumed=end, older_than_ms=0, max_bytes=full // 2)
    assert 0 < log.size_bytes(INGESTED) <= full // 2
    assert log.size_bytes(INGESTED) == full - freed - freed_by_size
    left = numbers(read_all(log))
    assert left == list(range(left[0], 60))
    assert log.check(INGESTED, PARTITION) == []


def test_retention_stops_at_what_is_not_consumed(engine: Engine) -> None:
    positions = fill(engine)
    consumed = positions[30]
    assert engine.log.retain(INGESTED, PARTITION, consumed=consumed, older_than_ms=10**12, max_bytes=0) > 0
    left = read_all(engine.log)
    assert left[0].position <= consumed
    assert set(numbers(left)) >= set(range(30, 60))


def test_retention_never_takes_the_newest_records(engine: Engine) -> None:
    fill(engine)
    for _ in range(3):
        engine.log.retain(INGESTED, PARTITION, consumed=10**12, older_than_ms=10**15, max_bytes=0)
        assert 59 in numbers(read_all(engine.log))
    appender = engine.again().appender(INGESTED, PARTITION)
    appender.append(batch(60, 1))
    assert numbers(read_all(engine.log))[-2:] == [59, 60]


def test_totals_survive_retention(engine: Engine) -> None:
    fill(engine)
    records = read_all(engine.log)
    head = engine.log.totals(INGESTED, PARTITION)
    assert engine.log.retain(INGESTED, PARTITION, consumed=10**12, older_than_ms=0, max_bytes=0) > 0
    log = engine.again()
    left = read_all(log)
    assert log.totals(INGESTED, PARTITION) == head
    for record in left:
        assert log.totals(INGESTED, PARTITION, record.position).counts == sums(records, record.position)
    oldest = log.totals(INGESTED, PARTITION, 0)
    assert oldest.position == left[0].position
    assert oldest.counts == sums(records, oldest.position)


def test_a_reader_below_the_oldest_record_goes_on_at_the_oldest(engine: Engine) -> None:
    fill(engine)
    waiting = engine.log.reader(INGESTED, PARTITION)
    reading = engine.log.reader(INGESTED, PARTITION)
    reading.read(1)
    engine.log.retain(INGESTED, PARTITION, consumed=10**12, older_than_ms=0, max_bytes=0)
    oldest = read_all(engine.log)[0]
    assert waiting.read(1)[0] == oldest
    seen: list[Record] = []
    while found := reading.read(10_000):
        seen += found
    assert oldest in seen
    assert numbers(seen)[-1] == 59
    assert next(entry.position for entry in engine.log.index(INGESTED, PARTITION, 0)) == oldest.position


def test_a_sound_log_has_no_problems(engine: Engine) -> None:
    fill(engine)
    assert engine.log.check(INGESTED, PARTITION) == []
    engine.log.retain(INGESTED, PARTITION, consumed=10**12, older_than_ms=0, max_bytes=3000)
    assert engine.log.check(INGESTED, PARTITION) == []


def test_the_kafka_like_twin_gives_what_kafka_gives() -> None:
    log = MemoryLog(kafka_like=True, seed=1)
    appender = log.appender(INGESTED, PARTITION)
    for start in range(0, 300, 3):
        appender.append(batch(start, 3))
    records = read_all(log)
    payloads = [record.payload for record in records]
    assert numbers(records) == list(range(300))
    assert len(payloads) > len(set(payloads)), "no duplicate came"
    assert any(a.next_position < b.position for a, b in itertools.pairwise(records)), "no gap came"
    assert log.totals(INGESTED, PARTITION).counts == sums(records, 10**12)

    log.rebalance(INGESTED, PARTITION)
    with pytest.raises(LogLocked):
        appender.append(batch(300, 1))
    successor = log.appender(INGESTED, PARTITION)
    appender.close()
    successor.append(batch(301, 1))
    assert numbers(read_all(log))[-1] == 301


def test_the_kafka_like_twin_is_the_same_for_the_same_seed_and_can_leave_duplicates_out() -> None:
    def run(seed: int, duplicates: bool) -> list[tuple[int, bytes]]:
        log = MemoryLog(kafka_like=True, seed=seed)
        log.duplicates = duplicates
        appender = log.appender(INGESTED, PARTITION)
        for start in range(0, 100, 2):
            appender.append(batch(start, 2))
        return [(record.position, record.payload) for record in read_all(log)]

    assert run(3, True) == run(3, True)
    assert run(3, True) != run(4, True)
    assert len(run(3, False)) == 100
