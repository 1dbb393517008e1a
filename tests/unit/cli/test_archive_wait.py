"""Waiting for the archive: as long as there is somebody to wait for."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from trunkline.cli import archive_wait
from trunkline.cli.archive_wait import is_served, wait_for_archive
from trunkline.runtime.layout import PARTITION, DataDir


class Waiting:
    """``archived`` is what the archive has, ``on_sleep`` what happens in each sleep."""

    def __init__(self) -> None:
        self.archived = 0
        self.slept_s = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.on_sleep()


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path)
    made.run.mkdir()
    return made


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    made = Waiting()
    monkeypatch.setattr(archive_wait, "committed_cursor", lambda path: {PARTITION: made.archived})
    monkeypatch.setattr("time.sleep", made.sleep)
    return made


@contextmanager
def served(data: DataDir) -> Iterator[None]:
    """As the supervisor has it."""
    with data.lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def test_whether_a_server_runs(data: DataDir) -> None:
    assert not is_served(data)
    for _ in range(2):
        with served(data):
            assert is_served(data)
            assert is_served(data)
        assert not is_served(data)


def test_nobody_is_waited_for_without_a_server(data: DataDir, waiting: Waiting) -> None:
    assert wait_for_archive(data, 9, is_on=True) == 0
    with served(data):
        assert wait_for_archive(data, 9, is_on=False) == 0
    assert waiting.slept_s == 0


def test_it_ends_when_all_is_archived(data: DataDir, waiting: Waiting) -> None:
    def archive() -> None:
        waiting.archived += 3

    waiting.on_sleep = archive
    with served(data):
        assert wait_for_archive(data, 9, is_on=True) == 9


def test_it_ends_when_the_server_does(data: DataDir, waiting: Waiting) -> None:
    with ExitStack() as server:
        server.enter_context(served(data))
        waiting.on_sleep = server.close
        assert wait_for_archive(data, 9, is_on=True) == 0
    assert waiting.slept_s == pytest.approx(0.1)


def test_it_ends_when_the_archive_takes_too_long(data: DataDir, waiting: Waiting) -> None:
    with served(data):
        assert wait_for_archive(data, 9, is_on=True) == 0
    assert waiting.slept_s == pytest.approx(30, abs=0.2)
