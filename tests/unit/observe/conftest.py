"""The state store that views are read from: the real one and its twin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.state.base import StateStore
from trunkline.state.sqlite import SqliteStateStore
from trunkline.testing.memory_state import MemoryStateStore


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    opened: StateStore = SqliteStateStore(tmp_path / "state.db") if request.param == "sqlite" else MemoryStateStore()
    yield opened
    opened.close()
