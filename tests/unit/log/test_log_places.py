"""Finding a place in a long segment: by bisection for records, by the nearest full table for totals."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.log.log_place import Place
from trunkline.log.base import INGESTED, NewRecord
from trunkline.log.embedded import appender, reader, segment, totals
from trunkline.log.embedded.format import FLAG_FULL_TOTALS

LongLog = tuple[Place, list[NewRecord]]


@pytest.fixture(params=["small-blocks", "large-blocks"])
def long_log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LongLog:
    """Some hundred records in two segments, with steps so small that they are what megabytes are in service."""
    monkeypatch.setattr(reader, "READ_WINDOW_BYTES", 100)
    monkeypatch.setattr(reader, "INDEX_WINDOW_BYTES", 60)
    monkeypatch.setattr(segment, "_PROBE_BYTES", 70)
    monkeypatch.setattr(segment, "_WALK_BYTES", 300)
    monkeypatch.setattr(appender, "FULL_TOTALS_EVERY_BYTES", 1500)
    monkeypatch.setattr(totals, "_STEP_BACK_BYTES", 700)
    small = request.param == "small-blocks"
    chance = random.Random(5)
    place = Place(tmp_path / "log", segment_bytes=25_000)
    writer = place.appender()
    records: list[NewRecord] = []
    while len(place.segments) < 3:
        block = [
            NewRecord(
                chance.randbytes(chance.randrange(40 if small else 900)),
                {f"s{chance.randrange(30)}": chance.randrange(5) for _ in range(2)},
            )
            for _ in range(chance.randrange(1, 3 if small else 9))
        ]
        writer.append(block)
        records += block
    writer.close()
    assert place.check() == []
    return place, records


def test_full_tables_are_written_now_and_then(long_log: LongLog) -> None:
    place, _ = long_log
    cursor = segment.SegmentCursor(place.directory, 0)
    flags = []
    while block := cursor.next_block(cursor.size_bytes(), payloads=False):
        flags.append(block.header.flags & FLAG_FULL_TOTALS)
    cursor.close()
    assert 5 < sum(flags) < len(flags)


def test_totals_at_every_position(long_log: LongLog) -> None:
    place, records = long_log
    log = place.log()
    sums: dict[str, int] = {}
    for position in range(len(records) + 1):
        assert log.totals(INGESTED, "p", position).counts == sums
        if position < len(records):
            for key, count in records[position].counts.items():
                sums[key] = sums.get(key, 0) + count


def test_totals_go_on_after_reopening(long_log: LongLog) -> None:
    place, _ = long_log
    before = place.log().totals(INGESTED, "p").counts
    writer = place.appender()
    for _ in range(100):
        writer.append([NewRecord(b"x" * 30, {"s1": 1})])
    after = place.log().totals(INGESTED, "p").counts
    assert after == {**before, "s1": before.get("s1", 0) + 100}
    assert place.check() == []


def test_a_reader_finds_every_position_from_every_side(long_log: LongLog) -> None:
    place, records = long_log
    moved = place.log().reader(INGESTED, "p")
    order = list(range(len(records)))
    random.Random(6).shuffle(order)
    for position in order:
        moved.seek(position)
        (found,) = moved.read(1, 1)
        assert (found.position, found.payload, found.counts) == (
            position,
            records[position].payload,
            records[position].counts,
        )
    moved.close()


def test_the_index_starts_anywhere(long_log: LongLog) -> None:
    place, records = long_log
    log = place.log()
    for start in range(0, len(records), 7):
        found = list(log.index(INGESTED, "p", start, start + 20))
        assert [(entry.position, entry.counts) for entry in found] == [
            (start + at, record.counts) for at, record in enumerate(records[start : start + 20])
        ]
