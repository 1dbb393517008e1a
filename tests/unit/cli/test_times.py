"""Times on the command line."""

from __future__ import annotations

import pytest
import typer

from trunkline.cli.times import minute_text, parse_time, time_text

NOW_MS = 1_790_000_070_123


class _Clock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_MS),
        ("0s", NOW_MS),
        ("90s", NOW_MS - 90_000),
        ("30m", NOW_MS - 1_800_000),
        (" 24h ", NOW_MS - 86_400_000),
        ("7d", NOW_MS - 7 * 86_400_000),
        ("2w", NOW_MS - 14 * 86_400_000),
        ("99999d", 0),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T01:00", 3_600_000),
        ("1970-01-01T01:00Z", 3_600_000),
        ("1970-01-01T01:00:00.250Z", 3_600_250),
        ("1970-01-01 01:00:00+01:00", 0),
    ],
)
def test_moments(text: str, expected: int) -> None:
    assert parse_time(text, _Clock()) == expected


@pytest.mark.parametrize(
    "text", ["", "h", "24", "-1h", "1.5h", "24 hours", "yesterday", "2026-13-01", "1969-12-31", "1m1s"]
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="24h"):
        parse_time(text, _Clock())


def test_what_is_printed_can_be_given_back() -> None:
    assert parse_time(time_text(NOW_MS), _Clock()) == NOW_MS - NOW_MS % 1000
    assert parse_time(minute_text(NOW_MS), _Clock()) == NOW_MS - NOW_MS % 60_000
