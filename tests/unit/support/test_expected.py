"""A test that cannot run is red in CI and skipped elsewhere."""

from __future__ import annotations

import os

import pytest

from tests.support.expected import missing


@pytest.mark.parametrize(
    ("ci", "user_id", "needs_root", "fails"),
    [
        ("true", 0, False, True),
        ("true", 0, True, True),
        ("true", 1000, False, True),
        ("true", 1000, True, False),
        ("false", 0, False, False),
        (None, 0, True, False),
        (None, 1000, False, False),
    ],
)
def test_what_is_missing_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str | None, user_id: int, needs_root: bool, fails: bool
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    outcome = pytest.fail.Exception if fails else pytest.skip.Exception
    with pytest.raises(outcome, match="no such thing here"):
        missing("no such thing here", needs_root=needs_root)
