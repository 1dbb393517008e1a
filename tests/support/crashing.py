"""Ends of a process at a place that is named, within a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest


class Killed(BaseException):
    """Ends what runs as kill -9 does: nothing of ours catches it."""


class Failpoints:
    """Stands for ``failpoint`` in some modules: raises at the ``nth`` passage of a place."""

    def __init__(self) -> None:
        self.name = ""
        self.nth = 1
        self.error: BaseException = Killed()
        self.passed: list[str] = []

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if name == self.name and self.passed.count(name) == self.nth:
            raise self.error


def failpoints_in(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Iterator[Failpoints]:
    """For a fixture to yield from. A place that was named and never passed fails the test."""
    points = Failpoints()
    for module in modules:
        monkeypatch.setattr(module, "failpoint", points)
    yield points
    assert not points.name or points.name in points.passed, f"{points.name} is never passed"
