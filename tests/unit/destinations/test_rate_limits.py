from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.destinations.webhook_kit import NOW_S, StillClock
from trunkline.destinations.rate_limits import LONGEST_WAIT_S, pause_s, retry_after_s

CLOCK = StillClock()
# NOW_S is Fri, 15 Jan 2027 08:00:00 GMT.
HEADERS = (
    "Retry-After",
    "RateLimit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Reset-After",
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("2.", 2),
        ("14400", 14400),
        ("14401", LONGEST_WAIT_S),
        ("999999999999999", LONGEST_WAIT_S),
        ("Fri, 15 Jan 2027 08:01:30 GMT", 90),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90),
        ("Fri Jan 15 08:01:30 2027", 90),
        ("Fri, 15 Jan 2027 08:01:30 -0000", 90),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 15 Jan 2037 07:00:00 GMT", LONGEST_WAIT_S),
        ("-5", None),
        ("1e9", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
        ("١٢", None),
        ("Fri, 99 Jan 2027 08:01:30 GMT", None),
        ("Fri, 15 Jan 99999999999 08:01:30 GMT", None),
        ("Fri, 15 Jan 2027 08:01:30 +99999999999999", None),
        ("120, 130", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert retry_after_s({"Retry-After": value}, CLOCK) == expected


def test_no_retry_after() -> None:
    assert retry_after_s({}, CLOCK) is None


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {}, None),
        (429, {"Retry-After": "30"}, 30),
        (503, {"Retry-After": "30"}, 30),
        (500, {"Retry-After": "30"}, None),
        (408, {"Retry-After": "30"}, None),
        (200, {"Retry-After": "30"}, None),
        (429, {"Retry-After": "0", "RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, None),
        (429, {"Retry-After": "30", "RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, 30),
        (429, {"Retry-After": "later", "RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, 9),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, 9),
        (200, {"RateLimit-Remaining": "1", "RateLimit-Reset": "9"}, None),
        (200, {"RateLimit-Remaining": "0"}, None),
        (200, {"RateLimit-Reset": "9"}, None),
        (200, {"RateLimit-Remaining": "none", "RateLimit-Reset": "9"}, None),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "0"}, None),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "-9"}, None),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "86400"}, LONGEST_WAIT_S),
        (200, {"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        (200, {"RateLimit": "limit=100;w=60,remaining=0,reset=50"}, 50),
        (200, {"RateLimit": "remaining=1, reset=50"}, None),
        (200, {"RateLimit": "limit=0, remaining=10, reset=50"}, None),
        (200, {"RateLimit": "remaining=0"}, None),
        (200, {"RateLimit": '"default";r=0;t=50'}, 50),
        (200, {"RateLimit": '"default";r=1;t=50'}, None),
        (200, {"RateLimit": '"a";r=0;t=50, "b";r=0;t=70, "c";r=5;t=900'}, 70),
        (200, {"RateLimit": "remaining=0, reset=" + "9" * 2000}, None),
        (400, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}, 60),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW_S + 60)}, 60),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW_S + 60}.5"}, 60.5),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((NOW_S + 60) * 1000)}, 60),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW_S - 60)}, None),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.25"}, 1.25),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "2", "X-RateLimit-Reset": "60"}, 2),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "?", "X-RateLimit-Reset": "60"}, 60),
        (200, {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "60"}, None),
    ],
)
def test_pauses(status: int, headers: dict[str, str], expected: float | None) -> None:
    assert pause_s(status, headers, CLOCK) == expected


hostile = st.text(max_size=60) | st.from_regex(r"[0-9=;:, .+eE-]{0,40}", fullmatch=True)


@given(st.sampled_from([200, 207, 400, 429, 500, 503]), st.dictionaries(st.sampled_from(HEADERS), hostile))
def test_whatever_a_peer_writes_gives_a_wait_within_bounds_or_none(status: int, headers: dict[str, str]) -> None:
    for wait_s in (retry_after_s(headers, CLOCK), pause_s(status, headers, CLOCK)):
        assert wait_s is None or (math.isfinite(wait_s) and 0 <= wait_s <= LONGEST_WAIT_S)


@given(st.integers(0, 20_000), st.sampled_from(["", ".5"]))
def test_any_number_of_seconds_is_read(seconds: int, tail: str) -> None:
    text = f"{seconds}{tail}"
    assert retry_after_s({"Retry-After": text}, CLOCK) == min(float(text), LONGEST_WAIT_S)
