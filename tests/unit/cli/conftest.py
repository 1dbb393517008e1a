"""Commands run in the tests' own process here: it keeps its priority."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def niceness(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What a command made of its priority."""
    made: list[int] = []
    monkeypatch.setattr(os, "setpriority", lambda which, who, niceness: made.append(niceness))
    return made
