"""The retry policy: bounds that hold for every draw."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.delivery.retry import ATTEMPTS_BOUNDS, WINDOW_BOUNDS_S, RetryPolicy

POLICY = RetryPolicy()
FOUR_HOURS_S = 4 * 3600.0


def attempt_times(
    random: Random,
    retry_after_s: list[float | None] | None = None,
    took_s: float = 0.0,
    policy: RetryPolicy = POLICY,
) -> list[float]:
    """When each attempt at an event that always fails begins, in seconds from the first."""
    times = [0.0]
    now_s = 0.0
    wishes = iter(retry_after_s or [])
    while True:
        now_s += took_s
        wait_s = policy.wait_s(len(times), now_s, random, next(wishes, None))
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


class EvenRandom(Random):
    """Always draws the same."""

    def __init__(self, drawn: float) -> None:
        super().__init__(0)
        self.drawn = drawn

    def random(self) -> float:
        return self.drawn


@pytest.mark.parametrize(
    ("drawn", "waits_s"),
    [
        (0.0, [1, 3.2, 10.24, 32.8, 104.9, 335.5, 1073.7, 2700, 10138.7]),
        (0.25, [1.5, 4.8, 15.36, 49.2, 157.3, 503.3, 1610.6, 4050, 7993.0]),
        (0.5, [2, 6.4, 20.48, 65.5, 209.7, 671.1, 2147.5, 5400, 5847.3]),
        (1.0, [3, 9.6, 30.72, 98.3, 314.6, 1006.6, 3221.2, 5400, 4256.0]),
    ],
)
def test_the_default_waits(drawn: float, waits_s: list[float]) -> None:
    times = attempt_times(EvenRandom(drawn))
    assert [after - before for before, after in itertools.pairwise(times)] == pytest.approx(waits_s, rel=0.001)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_random_runs_keep_the_bounds() -> None:
    """Written without the comforts of the others: it is ten million calls."""
    wait_s = POLICY.wait_s
    attempts_seen: set[int] = set()
    earliest_end_s, latest_end_s = FOUR_HOURS_S, 0.0
    shortest_first_s, longest_first_s = FOUR_HOURS_S, 0.0
    longest_before_last_s = 0.0
    fourths_s = 0.0
    for seed in range(10):
        random = Random(seed)
        for _ in range(100_000):
            now_s = wait_s(1, 0.0, random)
            assert now_s is not None
            if now_s < shortest_first_s:
                shortest_first_s = now_s
            if now_s > longest_first_s:
                longest_first_s = now_s
            attempts = 2
            last_s = before_s = 0.0
            while (next_s := wait_s(attempts, now_s, random)) is not None:
                before_s, last_s = last_s, next_s
                now_s += next_s
                attempts += 1
                if attempts == 4:
                    fourths_s += now_s
                if before_s > longest_before_last_s:
                    longest_before_last_s = before_s
            attempts_seen.add(attempts)
            if now_s < earliest_end_s:
                earliest_end_s = now_s
            if now_s > latest_end_s:
                latest_end_s = now_s
    assert attempts_seen <= {9, 10}
    assert 1.0 <= shortest_first_s < 1.001
    assert 2.999 < longest_first_s <= 3.0
    assert longest_before_last_s <= 90 * 60
    assert earliest_end_s >= FOUR_HOURS_S - 15 * 60
    assert latest_end_s <= FOUR_HOURS_S
    assert fourths_s / 1_000_000 < 60


def test_the_default_is_what_none_asks_for() -> None:
    assert RetryPolicy.bounded(None, None) == RetryPolicy()
    assert RetryPolicy.bounded(FOUR_HOURS_S, None) == RetryPolicy()
    assert RetryPolicy.bounded(None, 10) == RetryPolicy()


@pytest.mark.parametrize(
    ("window_s", "attempts", "means_s"),
    [
        (60, 5, (2, 12.875, 22.5, 22.5)),
        (3600, 3, (892.5, 2700)),
        (FOUR_HOURS_S, 2, (14370,)),
        (FOUR_HOURS_S, 3, (3570, 10800)),
        (FOUR_HOURS_S, 5, (324.5, 3245, 5400, 5400)),
        (FOUR_HOURS_S, 7, (3.213, 32.13, 321.3, 3213, 5400, 5400)),
        (24 * 3600, 8, (2, 19.81, 196.25, 1944, 19258, 32400, 32400)),
    ],
)
def test_waits_of_other_windows(window_s: float, attempts: int, means_s: tuple[float, ...]) -> None:
    policy = RetryPolicy.bounded(window_s, attempts)
    means = [
        min(policy.first_wait_s * policy.growth**step, policy.longest_wait_s) for step in range(policy.max_attempts - 1)
    ]
    assert means == pytest.approx(means_s, rel=0.02)


@settings(max_examples=500)
@given(
    st.integers(),
    st.none() | st.floats(*WINDOW_BOUNDS_S),
    st.none() | st.integers(*ATTEMPTS_BOUNDS),
    st.floats(0, 30),
)
def test_other_windows_keep_their_bounds(
    seed: int, window_s: float | None, attempts: int | None, took_s: float
) -> None:
    policy = RetryPolicy.bounded(window_s, attempts)
    window_s, attempts = window_s or FOUR_HOURS_S, attempts or 10
    assert (policy.window_s, policy.max_attempts) == (window_s, attempts)
    times = attempt_times(Random(seed), policy=policy)
    assert 2 * attempts / 3 <= len(times) <= attempts
    assert times[-1] <= window_s
    if attempts > 1:
        assert times[-1] >= window_s * 15 / 16 - 0.001, "the last lies near the end"
        assert times[1] >= 1
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert all(wait <= policy.longest_wait_s + 0.001 for wait in waits[:-1])
    slow = attempt_times(Random(seed), took_s=took_s, policy=policy)
    assert len(slow) <= attempts
    assert slow[-1] <= window_s


@pytest.mark.parametrize("window_s", [59.9, 0, -1, 24 * 3600 + 1, float("nan"), float("inf")])
def test_windows_out_of_bounds_are_refused(window_s: float) -> None:
    with pytest.raises(ValueError, match="give 60 to 86400 seconds"):
        RetryPolicy.bounded(window_s, None)


@pytest.mark.parametrize("attempts", [0, -1, 21])
def test_attempts_out_of_bounds_are_refused(attempts: int) -> None:
    with pytest.raises(ValueError, match="give 1 to 20"):
        RetryPolicy.bounded(None, attempts)
