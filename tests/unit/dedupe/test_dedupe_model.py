"""The index against a dict, through restarts, crashes, flushes, growth and expiry."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.unit.dedupe.dedupe_clock import HandClock
from trunkline.dedupe import DAY_MS, HOUR_MS, DedupeIndex
from trunkline.dedupe.filter import SlicedFilter
from trunkline.dedupe.manifest import load

START = 500_000 * HOUR_MS

offsets = st.one_of(
    st.integers(0, 60 * HOUR_MS),
    st.builds(
        lambda hours, around: hours * HOUR_MS + around,
        st.sampled_from([0, 1, 23, 24, 25, 48]),
        st.sampled_from([-1, 0, 1]),
    ),
)
events = st.lists(st.tuples(st.integers(0, 30), offsets), min_size=1, max_size=40)


class DedupeMachine(RuleBasedStateMachine):
    """``entries`` holds what must be known; ``expired`` what may still be known. ``envelopes`` is the caller's log."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="dedupe-model-"))
        self.entries: dict[bytes, list[int]] = {}
        self.expired: dict[bytes, list[int]] = {}
        self.envelopes: list[tuple[bytes, list[int]]] = []
        self.serial = 0

    @initialize()
    def open(self) -> None:
        self.index = DedupeIndex(
            self.home / "index", secret=b"s", clock=HandClock(), memtable_keys=20, min_filter_words=1024
        )

    def _add(self, keys: list[bytes], times: list[int]) -> None:
        answers = self.index.add_new(keys, times)
        assert len(answers) == len(keys)
        for key, time_ms, answer in zip(keys, times, answers, strict=True):
            near = any(abs(time_ms - seen) < DAY_MS for seen in self.entries.get(key, ()))
            may = any(abs(time_ms - seen) < DAY_MS for seen in self.expired.get(key, ()))
            if near:
                assert not answer, f"{key.hex()} at {time_ms} was forgotten"
            elif not may:
                assert answer, f"{key.hex()} at {time_ms} was never seen"
            if answer:
                self.entries.setdefault(key, []).append(time_ms)
        new = [(key, time_ms) for key, time_ms, answer in zip(keys, times, answers, strict=True) if answer]
        self.envelopes.append((b"".join(key for key, _ in new), [time_ms for _, time_ms in new]))

    @rule(batch=events)
    def add(self, batch: list[tuple[int, int]]) -> None:
        self._add([number.to_bytes(2, "big") * 8 for number, _ in batch], [START + offset for _, offset in batch])

    @rule(count=st.integers(50, 400), offset=offsets, step_ms=st.sampled_from([0, 1, 60_000, 600_000]))
    def add_many(self, count: int, offset: int, step_ms: int) -> None:
        self.serial += 1
        keys = [os.urandom(16) for _ in range(count)]
        self._add(keys, [START + offset + number * step_ms for number in range(count)])

    @rule(back=st.integers(1, 8), offset=st.integers(-2 * HOUR_MS, 2 * HOUR_MS))
    def repeat(self, back: int, offset: int) -> None:
        for keys, times in self.envelopes[-back:][:1]:
            self._add([keys[at : at + 16] for at in range(0, len(keys), 16)], [time_ms + offset for time_ms in times])

    @rule(wait=st.booleans())
    def flush(self, wait: bool) -> None:
        begun = self.index.flush(str(len(self.envelopes)), wait=wait)
        if wait:
            assert begun
            assert self.index.checkpoint == str(len(self.envelopes))
            assert self.index.unflushed == 0

    @rule()
    def settle(self) -> None:
        self.index._settle()
        assert self.index.stats().last_error is None

    @rule(hours=st.integers(20, 90))
    def expire(self, hours: int) -> None:
        now_ms = START + hours * HOUR_MS
        self.index.expire(now_ms)
        for key, times in self.entries.items():
            gone = [time_ms for time_ms in times if (time_ms // HOUR_MS + 1) * HOUR_MS <= now_ms - DAY_MS]
            self.expired.setdefault(key, []).extend(gone)
            self.entries[key] = [time_ms for time_ms in times if time_ms not in gone]

    def _recover(self) -> None:
        self.open()
        for keys, times in self.envelopes[int(self.index.checkpoint or "0") :]:
            self.index.restore(keys, times)

    @rule()
    def restart(self) -> None:
        self.index.close()
        self._recover()

    def _abandon(self) -> None:
        """As after a kill: what the background was doing ends, nothing else is done in order."""
        self.index._background.shutdown()
        os.close(self.index._lock_fd)
        self.index._lock_fd = -1

    @rule()
    def crash(self) -> None:
        self._abandon()
        self._recover()

    @rule()
    def power_cut(self) -> None:
        """The bits of slices that were not synced are lost."""
        self._abandon()
        manifest = load(self.home / "index")
        assert manifest is not None
        table = SlicedFilter(
            self.home / "index" / manifest.filter_name,
            manifest.filter_words,
            bytes.fromhex(manifest.filter_identity),
            create=False,
        )
        table.mark_covers(manifest.synced_generation, b"another boot")
        for number in set(range(64)) - set(manifest.synced):
            table.clear(number)
        self._recover()

    @rule()
    def lose_the_filter(self) -> None:
        self._abandon()
        for path in (self.home / "index").glob("*.filter"):
            with path.open("r+b") as file:
                file.write(os.urandom(path.stat().st_size))
        self._recover()

    def teardown(self) -> None:
        try:
            known = [(key, time_ms) for key, times in self.entries.items() for time_ms in times]
            answers = self.index.add_new([key for key, _ in known], [time_ms for _, time_ms in known])
            assert not any(answers)
            self.index._settle()
            assert self.index.stats().lost_hours_ms == ()
        finally:
            self.index.close()
            shutil.rmtree(self.home)


DedupeMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestDedupeModel = DedupeMachine.TestCase
