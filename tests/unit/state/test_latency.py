"""Latencies: buckets and percentiles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trunkline.state.base import LatencyKey
from trunkline.state.latency import bucket_of, percentiles, upper_bound_ms


def counted(*latencies_ms: int) -> dict[LatencyKey, int]:
    found: dict[LatencyKey, int] = {}
    for number, latency_ms in enumerate(latencies_ms):
        key = LatencyKey(number % 3, "hook", "web", bucket_of(latency_ms))
        found[key] = found.get(key, 0) + 1
    return found


def test_the_first_buckets() -> None:
    assert [bucket_of(ms) for ms in (-5, 0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 16)] == [
        0, 0, 0, 2, 4, 4, 5, 6, 6, 7, 7, 8, 8,
    ]  # fmt: skip


@given(st.integers(2, 1 << 50))
def test_a_bucket_is_the_lowest_that_holds_its_latency(latency_ms: int) -> None:
    bucket = bucket_of(latency_ms)
    assert latency_ms**2 <= 2**bucket
    assert latency_ms**2 > 2 ** (bucket - 1)


@given(st.integers(-10, 1 << 40), st.integers(0, 1 << 40))
def test_longer_is_never_in_a_lower_bucket(latency_ms: int, more_ms: int) -> None:
    assert bucket_of(latency_ms) <= bucket_of(latency_ms + more_ms)


def test_bounds() -> None:
    assert [upper_bound_ms(bucket) for bucket in (0, 2, 4, 20)] == [1, 2, 4, 1024]


def test_percentiles_are_the_bounds_of_the_buckets_that_reach_them() -> None:
    latencies = counted(*[1] * 90, *[100] * 9, 5000)
    assert percentiles(latencies, (0.5, 0.9, 0.95, 0.99, 1)) == (1, 1, 128, 128, 2**12.5)
    assert percentiles(latencies, (0.91, 0.999)) == (128, 2**12.5)
    assert percentiles(counted(7), (0, 0.5, 1)) == (8, 8, 8)
    assert percentiles(latencies, ()) == ()


def test_no_events_have_no_percentiles() -> None:
    assert percentiles({}, (0.5,)) is None


@given(st.lists(st.integers(0, 1 << 30), min_size=1), st.floats(0, 1))
def test_enough_events_are_within_a_percentile(latencies_ms: list[int], quantile: float) -> None:
    found = percentiles(counted(*latencies_ms), (quantile,))
    assert found is not None
    assert sum(ms <= found[0] for ms in latencies_ms) >= quantile * len(latencies_ms) - 1e-9
