from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.sink import Place, Sink

_numbers = count()


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """One for all tests; each takes a place of its own."""
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture
def place(sink: Sink) -> Place:
    place = sink.place(f"place{next(_numbers)}")
    place.keep_hits = True
    return place
