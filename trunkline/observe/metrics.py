"""Metrics of the worker, and ``/metrics`` for all processes of one data directory.

The processes write their metrics to files in ``run/metrics`` (prometheus-client's multiprocess mode); any of them can
answer for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from trunkline.state.base import Changes

MULTIPROCESS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_LAG_INTERVAL_S: Final = 1.0


class WorkerMetrics:
    """Counted once a commit, from what was committed."""

    def __init__(self) -> None:
        self._source = Counter(
            "trunkline_source_events", "Events by what the source stage made of them.", ["source", "outcome", "reason"]
        )
        self._destination = Counter(
            "trunkline_destination_events",
            "Events by how they ended at a destination.",
            ["destination", "source", "outcome", "reason"],
        )
        self._waiting = Gauge(
            "trunkline_lane_events",
            "Events in a lane's memory: queued, under way or waiting for a retry.",
            ["destination"],
            multiprocess_mode="livemostrecent",
        )
        self._lag = Histogram(
            "trunkline_worker_loop_lag_seconds",
            "How late the worker's loop ran a timer.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
        )

    def committed(self, changes: Changes) -> None:
        for key, count in changes.source_books.items():
            self._source.labels(key.source, key.outcome, key.reason).inc(count)
        for lane_key, count in changes.lane_books.items():
            self._destination.labels(lane_key.destination, lane_key.source, lane_key.outcome, lane_key.reason).inc(
                count
            )

    async def watch_loop(self, waiting: Callable[[], Mapping[str, int]]) -> None:
        """Measure the loop's lag and the lanes once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            expected = loop.time() + _LAG_INTERVAL_S
            await asyncio.sleep(_LAG_INTERVAL_S)
            self._lag.observe(max(0.0, loop.time() - expected))
            for destination, count in waiting().items():
                self._waiting.labels(destination).set(count)


def render_metrics() -> bytes:
    """All processes' metrics as Prometheus text."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
