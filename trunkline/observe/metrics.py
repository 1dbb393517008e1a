"""Metrics of the worker, and ``/metrics`` for all processes of one data directory.

Every process keeps its own registry and publishes it as a file in ``run/metrics``; whichever process is asked answers
for all, each sample labelled with its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from trunkline.files import write_atomically
from trunkline.observe.metric_table import MetricTable
from trunkline.state.base import Changes

METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
PUBLISH_INTERVAL_S: Final = 2.0
LONGEST_PUBLISH_INTERVAL_S: Final = 15.0
PUBLISH_SHARE: Final = 0.01
"""Of one core: with thousands of destinations the metrics are published less often."""
_SUFFIX: Final = ".prom"

disable_created_metrics()  # type: ignore[no-untyped-call]

_log = structlog.get_logger(__name__)


class Publisher:
    """Writes one process's metrics where the others find them, when they have changed."""

    def __init__(
        self, registry: CollectorRegistry, directory: Path, process: str, tables: Sequence[MetricTable] = ()
    ) -> None:
        self._registry = registry
        self._tables = tables
        self._path = directory / f"{process}{_SUFFIX}"
        self._written = b""

    def publish(self) -> None:
        """Raises OSError."""
        text = generate_latest(self._registry) + "".join(table.text() for table in self._tables).encode()
        if text != self._written:
            write_atomically(self._path, text)
            self._written = text


def render_metrics(directory: Path) -> bytes:
    """The published metrics of all processes as Prometheus text, each sample with the label ``process``. Raises
    OSError."""
    families: dict[str, list[str]] = {}
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        process = f'process="{path.stem}"'
        family: list[str] = []
        is_known = False
        for line in path.read_bytes().decode().split("\n")[:-1]:
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                is_known = name in families
                family = families.setdefault(name, [])
            if line.startswith("#"):
                if not is_known:
                    family.append(line)
            elif "{" in line:
                family.append(line.replace("{", f"{{{process},", 1))
            else:
                family.append(line.replace(" ", f"{{{process}}} ", 1))
    return "".join(f"{line}\n" for family in families.values() for line in family).encode()


class WorkerMetrics:
    """Counted once a commit, from what was committed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._source = MetricTable(
            "trunkline_source_events",
            "Events by what the source stage made of them.",
            ["source", "outcome", "reason"],
            kind="counter",
        )
        self._destination = MetricTable(
            "trunkline_destination_events",
            "Events by how they ended at a destination.",
            ["destination", "source", "outcome", "reason"],
            kind="counter",
        )
        self._waiting = MetricTable(
            "trunkline_lane_events",
            "Events in a lane's memory: queued, under way or waiting for a retry.",
            ["destination"],
            kind="gauge",
        )
        self._replays = MetricTable(
            "trunkline_replay_events",
            "Events of a replay that are not at their end.",
            ["replay"],
            kind="gauge",
        )
        self.tables = (self._source, self._destination, self._waiting, self._replays)
        """What is not in the registry."""
        self._lag = Histogram(
            "trunkline_worker_loop_lag_seconds",
            "How late the worker's loop ran a timer.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
            registry=registry,
        )

    def committed(self, changes: Changes) -> None:
        for key, count in changes.source_books.items():
            self._source.add((key.source, key.outcome, key.reason), count)
        for lane_key, count in changes.lane_books.items():
            self._destination.add(lane_key, count)

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
            self._waiting.replace({(destination,): count for destination, count in waiting().items()})
            self._replays.replace({(replay,): count for replay, count in replays().items()})
            try:
                await asyncio.to_thread(publish)
            except OSError as error:
                _log.warning("metrics.not_published", error=str(error))
            cost_s = loop.time() - began_s
            interval_s = min(LONGEST_PUBLISH_INTERVAL_S, max(PUBLISH_INTERVAL_S, cost_s / PUBLISH_SHARE))
