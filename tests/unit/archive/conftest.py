"""Fixtures of the archive's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.archive.archive_world import World
from trunkline.archive.local_store import LocalStore

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> MakeWorld:
    def make(**settings: object) -> World:
        return World(tmp_path, LocalStore(tmp_path / "objects"), **settings)  # type: ignore[arg-type]

    return make
