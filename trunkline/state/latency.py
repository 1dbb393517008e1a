"""Latencies in buckets that grow by the square root of two, and percentiles of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trunkline.state.base import LatencyKey


def bucket_of(latency_ms: int) -> int:
    """The bucket of a latency: the lowest whose upper bound is not below it."""
    if latency_ms <= 1:
        return 0
    power = (latency_ms - 1).bit_length()
    return 2 * power - (latency_ms * latency_ms <= 1 << (2 * power - 1))


def upper_bound_ms(bucket: int) -> float:
    """The longest latency that a bucket holds."""
    return float(2 ** (bucket / 2))


def percentiles(latencies: Mapping[LatencyKey, int], quantiles: Sequence[float]) -> tuple[float, ...] | None:
    """For each quantile (0 to 1) the latency in ms that such a share of the events did not exceed, as its bucket's
    upper bound. None when there are no events."""
    buckets: dict[int, int] = {}
    for key, events in latencies.items():
        buckets[key.bucket] = buckets.get(key.bucket, 0) + events
    total = sum(buckets.values())
    if not total:
        return None
    bounds = []
    for quantile in quantiles:
        seen = 0
        bound = 0.0
        for bucket in sorted(buckets):
            if seen and seen >= quantile * total:
                break
            seen += buckets[bucket]
            bound = upper_bound_ms(bucket)
        bounds.append(bound)
    return tuple(bounds)
