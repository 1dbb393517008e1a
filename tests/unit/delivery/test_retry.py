"""The retry policy: bounds that hold for every draw."""

from __future__ import annotations

import itertools
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.delivery.retry import RetryPolicy

POLICY = RetryPolicy()
FOUR_HOURS_S = 4 * 3600.0


def attempt_times(random: Random, retry_after_s: list[float | None] | None = None, took_s: float = 0.0) -> list[float]:
    """When each attempt at an event that always fails begins, in seconds from the first."""
    times = [0.0]
    now_s = 0.0
    wishes = iter(retry_after_s or [])
    while True:
        now_s += took_s
        wait_s = POLICY.wait_s(len(times), now_s, random, next(wishes, None))
        if wait_s is None:
            return times
        assert wait_s >= 0
        now_s += wait_s
        times.append(now_s)
        assert len(times) < 50, "no end"


@settings(max_examples=300)
@given(st.integers())
def test_nine_or_ten_attempts_within_four_hours_the_last_near_the_end(seed: int) -> None:
    times = attempt_times(Random(seed))
    assert len(times) in (9, 10)
    assert times[-1] <= FOUR_HOURS_S
    assert times[-1] >= FOUR_HOURS_S - POLICY.last_attempt_within_s
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert 1 <= waits[0] <= 3
    assert max(waits[:-1]) <= 90 * 60 + 0.001


def test_the_fourth_attempt_comes_within_a_minute_on_average() -> None:
    fourths = [attempt_times(Random(seed))[3] for seed in range(500)]
    assert sum(fourths) / len(fourths) < 60


def test_waits_are_spread() -> None:
    """Events that failed together are not all tried again together."""
    firsts = {round(attempt_times(Random(seed))[1], 2) for seed in range(200)}
    assert len(firsts) > 80


@settings(max_examples=300)
@given(st.integers(), st.lists(st.none() | st.floats(0, 10 * FOUR_HOURS_S), max_size=12), st.floats(0, 600))
def test_retry_after_never_leads_past_the_deadline(seed: int, wishes: list[float | None], took_s: float) -> None:
    times = attempt_times(Random(seed), wishes, took_s)
    assert times[-1] <= FOUR_HOURS_S
    assert len(times) <= 10


@settings(max_examples=200)
@given(st.integers(), st.integers(1, 8), st.floats(0, 3600), st.floats(0, 2 * 3600))
def test_retry_after_lengthens_a_wait_and_never_shortens_it(
    seed: int, attempts: int, elapsed_s: float, wish_s: float
) -> None:
    plain = POLICY.wait_s(attempts, elapsed_s, Random(seed))
    wished = POLICY.wait_s(attempts, elapsed_s, Random(seed), wish_s)
    assert plain is not None
    assert wished is not None
    assert wished >= min(plain, wish_s)
    assert wished >= wish_s or elapsed_s + wished >= FOUR_HOURS_S - POLICY.last_attempt_within_s


@given(st.integers(), st.integers(1, 20), st.floats(FOUR_HOURS_S, 100 * FOUR_HOURS_S))
def test_after_four_hours_it_is_over(seed: int, attempts: int, elapsed_s: float) -> None:
    assert POLICY.wait_s(attempts, elapsed_s, Random(seed)) is None
