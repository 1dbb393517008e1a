from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.state_engines import ENGINES, Engine, MakeEngine, engines


@pytest.fixture(params=ENGINES)
def make_engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeEngine]:
    yield from engines(request.param, tmp_path, monkeypatch)


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()
