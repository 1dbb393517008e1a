"""Metrics of the worker, and ``/metrics`` for all processes of one data directory.

Every process keeps its own registry and publishes it as a file in ``run/metrics``; whichever process is asked answers
for all, each sample labelled with its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from trunkline.files import write_atomically
from trunkline.state.base import Changes, LaneKey

METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
PUBLISH_INTERVAL_S: Final = 2.0
LONGEST_PUBLISH_INTERVAL_S: Final = 15.0
PUBLISH_SHARE: Final = 0.01
"""Of one core: with thousands of destinations the metrics are published less often."""
_SUFFIX: Final = ".prom"

disable_created_metrics()  # type: ignore[no-untyped-call]

_log = structlog.get_logger(__name__)

SourceLabels = tuple[str, str, str]
"""Source, outcome, reason."""


class Publisher:
    """Writes one process's metrics where the others find them, when they have changed."""

    def __init__(self, registry: CollectorRegistry, directory: Path, process: str) -> None:
        self._registry = registry
        self._path = directory / f"{process}{_SUFFIX}"
        self._written = b""

    def publish(self) -> None:
        """Raises OSError."""
        text = generate_latest(self._registry)
        if text != self._written:
            write_atomically(self._path, text)
            self._written = text


class _Published(Collector):
    """What all processes have published, merged by metric."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            for family in text_string_to_metric_families(path.read_text("utf-8")):
                metric = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    metric.add_sample(
                        sample.name, {**sample.labels, "process": path.stem}, sample.value, sample.timestamp
                    )
        return merged.values()


def render_metrics(directory: Path) -> bytes:
    """The published metrics of all processes as Prometheus text. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(_Published(directory))
    return generate_latest(registry)


class WorkerMetrics:
    """Counted once a commit, from what was committed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._source = Counter(
            "trunkline_source_events",
            "Events by what the source stage made of them.",
            ["source", "outcome", "reason"],
            registry=registry,
        )
        self._destination = Counter(
            "trunkline_destination_events",
            "Events by how they ended at a destination.",
            ["destination", "source", "outcome", "reason"],
            registry=registry,
        )
        self._children: dict[SourceLabels | LaneKey, Counter] = {}
        self._waiting = Gauge(
            "trunkline_lane_events",
            "Events in a lane's memory: queued, under way or waiting for a retry.",
            ["destination"],
            registry=registry,
        )
        self._replays = Gauge(
            "trunkline_replay_events",
            "Events of a replay that are not at their end.",
            ["replay"],
            registry=registry,
        )
        self._lag = Histogram(
            "trunkline_worker_loop_lag_seconds",
            "How late the worker's loop ran a timer.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
            registry=registry,
        )

    def committed(self, changes: Changes) -> None:
        children = self._children
        for key, count in changes.source_books.items():
            labels = (key.source, key.outcome, key.reason)
            child = children.get(labels)
            if child is None:
                child = children[labels] = self._source.labels(*labels)
            child.inc(count)
        for lane_key, count in changes.lane_books.items():
            child = children.get(lane_key)
            if child is None:
                child = children[lane_key] = self._destination.labels(
                    lane_key.destination, lane_key.source, lane_key.outcome, lane_key.reason
                )
            child.inc(count)

    async def watch(
        self,
        waiting: Callable[[], Mapping[str, int]],
        replays: Callable[[], Mapping[str, int]],
        publish: Callable[[], None],
    ) -> None:
        """Measure the loop's lag and the lanes now and then and publish them, until cancelled."""
        loop = asyncio.get_running_loop()
        interval_s = PUBLISH_INTERVAL_S
        while True:
            expected = loop.time() + interval_s
            await asyncio.sleep(interval_s)
            self._lag.observe(max(0.0, loop.time() - expected))
            began_s = loop.time()
            for destination, count in waiting().items():
                self._waiting.labels(destination).set(count)
            self._replays.clear()
            for replay, count in replays().items():
                self._replays.labels(replay).set(count)
            try:
                await asyncio.to_thread(publish)
            except OSError as error:
                _log.warning("metrics.not_published", error=str(error))
            cost_s = loop.time() - began_s
            interval_s = min(LONGEST_PUBLISH_INTERVAL_S, max(PUBLISH_INTERVAL_S, cost_s / PUBLISH_SHARE))
