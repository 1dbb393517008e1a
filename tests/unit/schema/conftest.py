"""Fixtures of the schema's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.schema.schema_world import World

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> MakeWorld:
    def make(**settings: object) -> World:
        return World(tmp_path, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()
