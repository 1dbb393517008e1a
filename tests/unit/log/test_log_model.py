"""The embedded engine against a model: any order of appending, reading, seeking, retaining, crashing."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.log.log_place import Place
from trunkline.log.base import INGESTED, NewRecord, Record
from trunkline.log.embedded import EmbeddedAppender, EmbeddedReader, appender, reader, segment, totals
from trunkline.log.embedded.head import HEAD_FILE, HeadView

KEYS = st.sampled_from(["web", "app", "object:web", "s1", "s2"])
RECORDS = st.lists(
    st.builds(NewRecord, st.binary(max_size=400), st.dictionaries(KEYS, st.integers(0, 1000), max_size=3)),
    min_size=1,
    max_size=6,
)


class LogMachine(RuleBasedStateMachine):
    """The model is the list of all records ever appended; ordinals are its indexes."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place(Path(tempfile.mkdtemp(prefix="trunkline-log-")))
        self.patch = pytest.MonkeyPatch()
        self.model: list[NewRecord] = []
        self.reader_at = 0

    @initialize(segment_bytes=st.sampled_from([1, 300, 1000, 5000, 100_000]), small_steps=st.booleans())
    def start(self, segment_bytes: int, small_steps: bool) -> None:
        self.place.segment_bytes = segment_bytes
        if small_steps:
            # So that a few records are to the engine what megabytes are in service.
            self.patch.setattr(reader, "READ_WINDOW_BYTES", 100)
            self.patch.setattr(reader, "INDEX_WINDOW_BYTES", 60)
            self.patch.setattr(segment, "_PROBE_BYTES", 70)
            self.patch.setattr(segment, "_WALK_BYTES", 150)
            self.patch.setattr(appender, "FULL_TOTALS_EVERY_BYTES", 700)
            self.patch.setattr(totals, "_STEP_BACK_BYTES", 300)
        self.log = self.place.log()
        self.appender: EmbeddedAppender = self.place.appender()
        self.reader: EmbeddedReader = self.log.reader(INGESTED, "p")

    @property
    def oldest(self) -> int:
        return int(self.place.segments[0].stem)

    def expected(self, start: int, stop: int | None = None) -> list[Record]:
        return [
            Record(at, at + 1, self.model[at].payload, dict(self.model[at].counts))
            for at in range(start, len(self.model) if stop is None else min(stop, len(self.model)))
        ]

    @rule(records=RECORDS, later_ms=st.integers(0, 10))
    def append(self, records: list[NewRecord], later_ms: int) -> None:
        self.place.clock.ms += later_ms
        first = len(self.model)
        assert self.appender.append(records) == list(range(first, first + len(records)))
        self.model += records

    @rule(max_bytes=st.integers(0, 2000), max_records=st.integers(1, 20))
    def read(self, max_bytes: int, max_records: int) -> None:
        found = self.reader.read(max_bytes, max_records)
        if self.reader_at >= len(self.model):
            assert found == []
            return
        assert found
        # A segment that the reader has open stays readable to it after its removal; else it goes on at the oldest.
        start = found[0].position
        assert start == self.reader_at or (start == self.oldest and self.reader_at < start)
        for before, record in itertools.pairwise(found):
            assert record.position == before.next_position or (record.position == self.oldest > before.position)
        for record in found:
            assert record.payload == self.model[record.position].payload
            assert record.counts == self.model[record.position].counts
        assert len(found) <= max_records
        assert len(found) == 1 or sum(len(record.payload) for record in found) <= max_bytes
        self.reader_at = found[-1].next_position
        assert self.reader.position == self.reader_at

    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        self.reader_at = data.draw(st.integers(0, len(self.model) + 3))
        self.reader.seek(self.reader_at)

    @rule(data=st.data())
    def read_with_another_reader(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.model)))
        assert self.place.read(start) == self.expected(max(start, self.oldest))

    @rule(data=st.data())
    def index(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.model)))
        stop = data.draw(st.none() | st.integers(0, len(self.model) + 2))
        assert [(entry.position, entry.counts) for entry in self.log.index(INGESTED, "p", start, stop)] == [
            (record.position, record.counts) for record in self.expected(max(start, self.oldest), stop)
        ]

    @rule(data=st.data())
    def totals(self, data: st.DataObject) -> None:
        position = data.draw(st.none() | st.integers(0, len(self.model) + 2))
        found = self.log.totals(INGESTED, "p", position)
        at = len(self.model) if position is None else min(max(position, self.oldest), len(self.model))
        assert found.position == at
        sums: dict[str, int] = {}
        for record in self.model[:at]:
            for key, count in record.counts.items():
                sums[key] = sums.get(key, 0) + count
        assert found.counts == sums

    @rule(data=st.data(), age_ms=st.integers(0, 30), max_bytes=st.integers(0, 5000))
    def retain(self, data: st.DataObject, age_ms: int, max_bytes: int) -> None:
        consumed = data.draw(st.integers(0, len(self.model)))
        before = self.log.size_bytes(INGESTED)
        oldest = self.oldest
        freed = self.log.retain(
            INGESTED, "p", consumed=consumed, older_than_ms=self.place.clock.ms - age_ms, max_bytes=max_bytes
        )
        assert self.log.size_bytes(INGESTED) == before - freed
        assert self.oldest == oldest or self.oldest <= consumed
        assert (freed > 0) == (self.oldest > oldest)

    @rule()
    def reopen(self) -> None:
        self.appender.close()
        self.appender = self.place.appender()
        assert self.appender.head == len(self.model)
        assert self.appender.truncated_bytes == 0

    @precondition(lambda self: self.model)
    @rule(records=RECORDS, data=st.data())
    def lose_power_in_an_append(self, records: list[NewRecord], data: st.DataObject) -> None:
        """The head on disk is an older one, of the last segment or the one before; the last block is torn anywhere."""
        heads = [(self.place.directory / HEAD_FILE).read_bytes()]
        self.append(records[:1], 0)
        heads.append((self.place.directory / HEAD_FILE).read_bytes())
        view = HeadView(self.place.directory).read()
        assert view is not None
        self.appender.append(records)
        last = self.place.segments[-1]
        segment_start = int(last.stem)
        torn_from = view.offset if view.segment == segment_start else None
        size = last.stat().st_size
        self.appender.close()
        head = data.draw(st.sampled_from(heads))
        (self.place.directory / HEAD_FILE).write_bytes(head)
        if torn_from is None or data.draw(st.booleans()):
            self.model += records  # nothing is torn: the append counts, though nobody was told
        else:
            cut = data.draw(st.integers(torn_from, size - 1))
            os.truncate(last, cut)
        self.appender = self.place.appender()
        assert self.appender.head == len(self.model)
        self.reader.close()
        self.log = self.place.log()
        self.reader = self.log.reader(INGESTED, "p", self.reader_at)

    @invariant()
    def is_sound(self) -> None:
        if hasattr(self, "log"):
            assert self.place.check() == []
            assert self.appender.head == len(self.model)
            assert self.log.totals(INGESTED, "p").position == len(self.model)

    def teardown(self) -> None:
        self.patch.undo()
        if hasattr(self, "reader"):
            self.reader.close()
        self.place.close()
        shutil.rmtree(self.place.root)


LogMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLogModel = LogMachine.TestCase
