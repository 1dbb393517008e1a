"""Every spelling of a timestamp that clients use, and ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.spec.timestamps import format_timestamp, is_canonical, parse_epoch, parse_timestamp


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05.678901Z"),
        ("2026-01-02T03:04:05.6789012Z", "2026-01-02T03:04:05.678901Z"),
        ("2026-01-02T03:04:05.678901234Z", "2026-01-02T03:04:05.678901Z"),
        ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04:05.678901+00:00", "2026-01-02T03:04:05.678901Z"),
        ("2026-01-02T03:04:05.1234567+02:00", "2026-01-02T01:04:05.123456Z"),
        ("2026-01-02T03:04:05.123456789-07:30", "2026-01-02T10:34:05.123456Z"),
        ("2026-01-02T03:04:05+0200", "2026-01-02T01:04:05.000Z"),
        ("2026-01-02T03:04:05+02", "2026-01-02T01:04:05.000Z"),
        ("2015-2-02T00:30:08.276Z", "2015-02-02T00:30:08.276Z"),
        ("2026-01-02T3:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04Z", "2026-01-02T03:04:00.000Z"),
        ("2026-01-02t03:04:05z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02", "2026-01-02T00:00:00.000Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("1767323045", "2026-01-02T03:04:05.000Z"),
        ("1767323045678", "2026-01-02T03:04:05.678Z"),
        ("1767323045.678", "2026-01-02T03:04:05.678Z"),
    ],
)
def test_spellings(text: str, expected: str) -> None:
    time = parse_timestamp(text)
    assert time is not None
    assert format_timestamp(time) == expected
    assert parse_timestamp(text) == time, "the second time comes from the table"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:04:60Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05.678Zjunk",
        "12",
        "\u0662026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z" + " " * 100 + "x",
    ],
)
def test_what_is_no_timestamp(text: str) -> None:
    assert parse_timestamp(text) is None


@given(st.datetimes(), st.sampled_from(["milliseconds", "microseconds"]), st.integers(-14 * 60, 14 * 60))
def test_agrees_with_datetime(time: datetime, precision: str, offset_minutes: int) -> None:
    zoned = time.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    text = zoned.isoformat(timespec=precision)
    expected = (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_timestamp(text) == expected


@given(st.datetimes())
def test_format_and_parse_are_inverse(time: datetime) -> None:
    time_us = (time - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    text = format_timestamp(time_us)
    assert is_canonical(text)
    assert parse_timestamp(text) == time_us


def test_out_of_the_calendar() -> None:
    with pytest.raises(OverflowError):
        format_timestamp(10**18)


def test_epoch_units() -> None:
    assert parse_epoch(1_767_323_045) == parse_epoch(1_767_323_045_000) == 1_767_323_045_000_000
