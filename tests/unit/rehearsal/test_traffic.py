"""Recorded traffic comes once, in the best form that is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rehearsal.rehearsal_kit import T0, Record, destination, event, ids, snapshot, source
from trunkline.archive.errors import StoreError
from trunkline.archive.members import ArchiveFile, Member
from trunkline.log.base import ACCEPTED, INGESTED, LogCorrupt
from trunkline.rehearsal.recorded import Placed
from trunkline.rehearsal.traffic import Traffic, Wanted, waiting_events
from trunkline.rehearsal.world import Given
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.testing.memory_log import MemoryReader

BLOCKING = snapshot(
    [source("web", filters=SchemaFilters(blocked_events=("Blocked",))), source("app")], [destination("hook")]
)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(BLOCKING, tmp_path)


def fill(record: Record, *, envelopes: int = 4) -> None:
    """In each envelope two events of web, one blocked and one of app; one comes again in the same envelope, the very
    first in each."""
    for number in range(envelopes):
        at_ms = T0 + number * 1000
        record.ingest("web", event(f"a{number}", at_ms=at_ms), event(f"b{number}", at_ms=at_ms), at_ms=at_ms)
        again = [event(f"x{number}", "Blocked", at_ms=at_ms) for _ in range(2)]
        record.ingest("web", *again, event(f"b{number}", at_ms=at_ms), at_ms=at_ms, objects=[b"{}"])
        record.ingest("app", event(f"c{number}", at_ms=at_ms), event("a0", at_ms=at_ms), at_ms=at_ms)
        record.stage()


def all_ids(envelopes: int = 4) -> dict[str, int]:
    return {f"{letter}{number}": 1 for number in range(envelopes) for letter in "abcx"}


def test_from_the_logs_without_duplicates_and_objects(record: Record) -> None:
    fill(record)
    traffic = record.traffic()
    items = [item for batch in traffic.batches() for item in batch]
    assert ids(items) == all_ids()
    assert not any(item.accepted for item in items)
    coverage = traffic.coverage
    assert (coverage.events, coverage.from_ingested, coverage.blocked) == (16, 16, 4)
    assert (coverage.first_ms, coverage.last_ms) == (T0, T0 + 3000)
    assert coverage.looked_at == coverage.expected == 12


def test_positions_with_gaps(tmp_path: Path) -> None:
    record = Record(BLOCKING, tmp_path, kafka_like=True)
    fill(record)
    assert ids(record.read()) == all_ids()
    record.archive()
    record.forget(ACCEPTED, 2)
    assert ids(record.read()) == all_ids()


@pytest.mark.parametrize("forgotten", [1, 2, 3])
def test_each_event_once_wherever_the_log_ends(record: Record, forgotten: int) -> None:
    fill(record)
    record.archive()
    record.forget(ACCEPTED, forgotten)
    items = record.read()
    assert ids(items) == all_ids()
    for item in items:
        # What was blocked comes as it was ingested, even from the archive.
        from_archive = int(item.event.message_id[1:]) < forgotten
        assert item.accepted == (from_archive and not item.event.message_id.startswith("x"))
        # What was forwarded of the archived ones is in the archive, too.
        assert item.forwards == (item.accepted or not from_archive)


def test_without_the_ingested_range_what_was_accepted_is_taken(record: Record) -> None:
    fill(record)
    record.forget(INGESTED, 4)
    items = record.read()
    assert ids(items) == all_ids()
    accepted = {item.event.message_id for item in items if item.accepted}
    assert accepted == {"a0", "b0", "c0", "a1", "b1", "c1"}


def test_an_archive_alone(record: Record) -> None:
    fill(record)
    record.archive()
    archived = record.traffic()._archives
    empty = Record(BLOCKING)
    traffic = Traffic(empty.log, Wanted(0), accepted=archived[0], blocked=archived[1])
    assert ids([item for batch in traffic.batches() for item in batch]) == all_ids()


def test_how_far_it_is_and_what_is_to_come(record: Record) -> None:
    fill(record)
    record.archive()
    record.forget(ACCEPTED, 2)
    traffic = record.traffic()
    traffic.batch_events = 1
    coverage = traffic.coverage
    steps = [(len(batch), coverage.looked_at, coverage.expected) for batch in traffic.batches()]
    assert {expected for _, _, expected in steps} == {14}, "six in the log, six archived and two blocked ones"
    assert [looked_at for _, looked_at, _ in steps] == [3] * 4 + [6] * 6 + [10] * 5 + [12] * 3 + [14] * 3
    assert coverage.looked_at == 14
    nothing = Record.traffic(record, Wanted(0, {"nobody"}))
    assert [] in list(nothing.batches()), "who waits for events hears that there are none"


def test_by_time_and_source(record: Record) -> None:
    fill(record)
    record.archive()
    record.forget(ACCEPTED, 2)
    assert ids(record.read(Wanted(T0 + 1000))) == {key: 1 for key in all_ids() if not key.endswith("0")}
    assert ids(record.read(Wanted(T0 + 3001))) == {}
    assert ids(record.read(Wanted(0, {"app"}))) == {f"c{number}": 1 for number in range(4)}
    assert ids(record.read(Wanted(0, {"nobody"}))) == {}


@pytest.mark.parametrize(
    ("newest", "expected"),
    [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3), (9, 3), (12, 4), (100, 4)],
)
def test_the_newest(record: Record, newest: int, expected: int) -> None:
    """Whole envelopes, and whole members of the archive."""
    fill(record)
    record.archive()
    found = ids(record.read(Wanted(0, None, newest)))
    assert found == {key: 1 for key in all_ids() if int(key[1:]) >= 4 - expected}
    record.forget(ACCEPTED, 2)
    found = ids(record.read(Wanted(0, None, newest)))
    assert sum(found.values()) >= newest or found == all_ids()
    assert set(found.values()) == {1}
    if newest <= 6:
        assert all(int(key[1:]) >= 4 - expected for key in found)


def test_what_is_missing_is_said_and_the_rest_comes(record: Record) -> None:
    fill(record)
    record.archive()
    record.forget(ACCEPTED, 3)
    lost, *rest = [path for path in record.object_files() if "/web/" in str(path)]
    lost.unlink()
    assert rest
    traffic = record.traffic()
    found = ids([item for batch in traffic.batches() for item in batch])
    assert set(found) < set(all_ids())
    assert traffic.coverage.unreadable
    assert len(traffic.coverage.troubles) == 1
    for path in rest:
        path.write_bytes(b"nonsense" * 1000)
    traffic = record.traffic()
    assert ids([item for batch in traffic.batches() for item in batch])["a3"] == 1
    assert traffic.coverage.unreadable == sum(
        member.events for archive in traffic._archives if archive for member in archive.members(sources=["web"])
    )


@pytest.mark.parametrize("topic", [ACCEPTED, INGESTED])
def test_a_damaged_log_is_said_and_the_archive_helps_out(
    record: Record, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(record)
    record.archive()
    read = MemoryReader.read

    def broken(self: MemoryReader, max_bytes: int, max_records: int = 1_000_000) -> list[Any]:
        if self._topic == topic and self.position > 0:
            raise LogCorrupt("a checksum is wrong")
        return read(self, 1)

    monkeypatch.setattr(MemoryReader, "read", broken)
    traffic = record.traffic()
    assert ids([item for batch in traffic.batches() for item in batch]) == all_ids()
    [trouble] = traffic.coverage.troubles
    assert "a checksum is wrong" in trouble


class FrailArchive:
    """Long, until it breaks."""

    def files(self, **_: object) -> list[ArchiveFile]:
        return []

    def members(self, **_: object) -> Iterator[Member]:
        for number in range(1, 10_000):
            yield Member(number, 0, "0", "web", "key", 0, 1, 1, T0, T0, number, number)

    def last_position(self) -> int:
        return 1 << 40

    def positions(self, part: Member | ArchiveFile) -> tuple[int, int]:
        return part.first_place, part.last_place

    def read(self, member: Member) -> list[Placed]:
        if member.file_id == 2000:
            raise StoreError("the store does not answer")
        return []


@pytest.mark.parametrize(("newest", "expected"), [(1, [4]), (3, [4]), (4, [3, 4]), (6, [3, 4]), (100, [1, 2, 3, 4])])
def test_the_newest_of_an_archive_alone(newest: int, expected: list[int]) -> None:
    class Short(FrailArchive):
        def members(self, **_: object) -> Iterator[Member]:
            for number in range(1, 5):
                yield Member(number, 0, "0", "web", "key", 0, 1, 3, T0, T0, number, number)

        def read(self, member: Member) -> list[Placed]:
            return [Placed(member.first_place, Given("web", T0, event(f"m{member.file_id}"), accepted=True))]

    traffic = Traffic(Record(BLOCKING).log, Wanted(0, None, newest), accepted=Short())
    assert ids([item for batch in traffic.batches() for item in batch]) == {f"m{number}": 1 for number in expected}


class LongArchive(FrailArchive):
    """A member at a time, of a million."""

    def __init__(self) -> None:
        self.listed = 0
        self.read_so_far = 0

    def members(self, **_: object) -> Iterator[Member]:
        for number in range(1, 1_000_001):
            self.listed = number
            yield Member(number, 0, "0", "web", "key", 0, 1, 100, T0, T0, number, number)

    def read(self, member: Member) -> list[Placed]:
        self.read_so_far += 1
        item = Given("web", T0, event("m"), accepted=True)
        return [Placed(member.first_place, item)] * 100


def test_a_huge_archive_is_read_as_it_is_used() -> None:
    archive = LongArchive()
    traffic = Traffic(Record(BLOCKING).log, Wanted(0), accepted=archive)
    for number, batch in enumerate(filter(None, traffic.batches()), 1):
        assert len(batch) == 500
        assert (archive.listed, archive.read_so_far) == (number * 5, number * 5)
        if number == 10:
            break


def test_an_archive_that_cannot_be_reached_any_more() -> None:
    class Breaking(FrailArchive):
        def read(self, member: Member) -> list[Placed]:
            super().read(member)
            return [Placed(member.first_place, Given("web", T0, event(f"m{member.file_id}"), accepted=True))]

    traffic = Traffic(Record(BLOCKING).log, Wanted(0), accepted=Breaking())
    items: list[Given] = []
    with pytest.raises(StoreError):
        items.extend(item for batch in traffic.batches() for item in batch)
    assert len(items) == traffic.coverage.events == 1999, "what came before is not lost"


def test_what_waits_for_the_source_stage_is_counted(record: Record) -> None:
    fill(record, envelopes=2)
    head = record.log.totals(INGESTED, "ingest.0").position
    assert waiting_events(record.log, {"ingest.0": head}) == 0
    record.ingest("web", event("later"), event("later still"))
    assert waiting_events(record.log, {"ingest.0": head}) == 2
    assert "later" not in ids(record.read())
