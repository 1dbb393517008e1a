"""The engines that every suite of the state store's contract runs over."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trunkline.state import sqlite
from trunkline.state.base import StateStore
from trunkline.state.sqlite import SqliteStateStore
from trunkline.testing.memory_state import MemoryStateStore

ENGINES = ("memory", "sqlite")


class Engine:
    """An engine under test: ``store`` is the owner's."""

    def __init__(self, store: StateStore) -> None:
        self.store = store

    def restart(self, *, kill: bool) -> None:
        """A new owner on what is committed."""
        raise NotImplementedError

    def fill_disk(self, full: bool) -> None:
        raise NotImplementedError


class MemoryEngine(Engine):
    def __init__(self) -> None:
        self._memory = MemoryStateStore()
        super().__init__(self._memory)

    def restart(self, *, kill: bool) -> None:
        self.store = self._memory = self._memory.reopen()

    def fill_disk(self, full: bool) -> None:
        self._memory.full = full


class SqliteEngine(Engine):
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self._monkeypatch = monkeypatch
        super().__init__(SqliteStateStore(path))

    def restart(self, *, kill: bool) -> None:
        old = self.store
        if not kill:
            old.close()
        self.store = SqliteStateStore(self._path)
        if kill:
            old.close()

    def fill_disk(self, full: bool) -> None:
        def failpoint(name: str) -> None:
            if full and name == "state.commit.before":
                raise OSError(errno.ENOSPC, "No space left on device")

        self._monkeypatch.setattr(sqlite, "failpoint", failpoint)


MakeEngine = Callable[[], Engine]


def engines(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeEngine]:
    """The body of a fixture: yields what makes engines, and closes them."""
    made: list[Engine] = []

    def make() -> Engine:
        if name == "memory":
            made.append(MemoryEngine())
        else:
            made.append(SqliteEngine(folder / f"state{len(made)}.db", monkeypatch))
        return made[-1]

    yield make
    for engine in made:
        engine.store.close()
