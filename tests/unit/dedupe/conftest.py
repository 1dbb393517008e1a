from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.dedupe.dedupe_clock import HandClock
from trunkline.dedupe import DedupeIndex


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def open_index(tmp_path: Path, clock: HandClock) -> Iterator[Callable[..., DedupeIndex]]:
    """Opens ``tmp_path / "index"`` with small limits; closes what the test left open."""
    opened: list[DedupeIndex] = []

    def open_it(**options: Any) -> DedupeIndex:
        defaults: dict[str, Any] = {"secret": b"s3cret", "clock": clock}
        small: dict[str, Any] = {"memtable_keys": 100, "min_filter_words": 1024}
        index = DedupeIndex(tmp_path / "index", **(defaults | small | options))
        opened.append(index)
        return index

    yield open_it
    for index in opened:
        index.close()
