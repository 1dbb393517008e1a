"""Waiting for the archive: as long as there is somebody to wait for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hand_clock import HandClock
from trunkline.cli import archive_wait
from trunkline.cli.archive_wait import is_served, wait_for_archive
from trunkline.observe.lanes import STALE_AFTER_MS, LanesStatus, encode_lanes
from trunkline.runtime.layout import PARTITION, DataDir

NOW_MS = 1_760_000_000_000


class Waiting:
    """Time passes in sleep only; ``archived`` is what the archive has, ``on_sleep`` what happens meanwhile."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.archived = 0
        self.slept_s = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.slept_s += seconds
        self.on_sleep()


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path)
    made.run.mkdir()
    return made


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    made = Waiting(HandClock(NOW_MS))
    monkeypatch.setattr(archive_wait, "committed_cursor", lambda path: {PARTITION: made.archived})
    monkeypatch.setattr("time.sleep", made.sleep)
    return made


def serve(data: DataDir, at_ms: int) -> None:
    """What a worker writes every two seconds."""
    data.lanes_status.write_bytes(encode_lanes(LanesStatus(at_ms=at_ms, lanes=[])))


def test_whether_a_server_runs(data: DataDir) -> None:
    clock = HandClock(NOW_MS)
    assert not is_served(data, clock)
    serve(data, NOW_MS)
    assert is_served(data, clock)
    clock.pass_s(STALE_AFTER_MS / 1000 + 1)
    assert not is_served(data, clock)
    data.lanes_status.write_text("nonsense")
    assert not is_served(data, clock)


def test_nobody_is_waited_for_without_a_server(data: DataDir, waiting: Waiting) -> None:
    assert wait_for_archive(data, 9, waiting.clock, is_on=True) == 0
    serve(data, NOW_MS)
    assert wait_for_archive(data, 9, waiting.clock, is_on=False) == 0
    assert waiting.slept_s == 0


def test_it_ends_when_all_is_archived(data: DataDir, waiting: Waiting) -> None:
    def archive() -> None:
        waiting.archived += 3

    serve(data, NOW_MS)
    waiting.on_sleep = archive
    assert wait_for_archive(data, 9, waiting.clock, is_on=True) == 9


def test_it_ends_when_the_server_does(data: DataDir, waiting: Waiting) -> None:
    serve(data, NOW_MS)
    assert wait_for_archive(data, 9, waiting.clock, is_on=True) == 0
    assert waiting.slept_s == pytest.approx(STALE_AFTER_MS / 1000, abs=0.2)


def test_it_ends_when_the_archive_takes_too_long(data: DataDir, waiting: Waiting) -> None:
    waiting.on_sleep = lambda: serve(data, waiting.clock.now_ms())
    waiting.on_sleep()
    assert wait_for_archive(data, 9, waiting.clock, is_on=True) == 0
    assert waiting.slept_s == pytest.approx(30, abs=0.2)
