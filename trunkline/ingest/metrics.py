"""What one ingest process counts: plain integers on the hot path, read by Prometheus when it asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

_COMMIT_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def _nothing() -> int:
    return 0


class IngestMetrics(Collector):
    """Counters of one ingest process. Give a registry to have them shown, none for tests."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """Answers by kind of path and status."""
        self.rejected: Counter[str] = Counter()
        """Events refused one by one, by code. They are recorded in the log too."""
        self.refused: Counter[str] = Counter()
        """Whole requests refused, by reason. They leave no other trace."""
        self.events = 0
        """Events that were accepted and are durable."""
        self.objects = 0
        self.unknown_key_requests = 0
        self.unknown_key_events = 0
        self.client_counters = 0
        """Requests to ``/v1/m``."""
        self.connections_refused: Counter[str] = Counter()
        self.queue_requests: Callable[[], int] = _nothing
        self.queue_bytes: Callable[[], int] = _nothing
        self.disk_full: Callable[[], int] = _nothing
        self._commit_counts = [0] * (len(_COMMIT_BUCKETS_S) + 1)
        self._commit_sum_s = 0.0
        if registry is not None:
            registry.register(self)

    def observe_commit(self, duration_s: float) -> None:
        """One group of requests was made durable."""
        self._commit_counts[bisect_left(_COMMIT_BUCKETS_S, duration_s)] += 1
        self._commit_sum_s += duration_s

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "trunkline_ingest_requests", "Requests answered, by kind of path and status.", labels=["path", "status"]
        )
        for (path, status), count in sorted(self.requests.items()):
            requests.add_metric([path, str(status)], count)
        yield requests
        yield _counter("trunkline_ingest_events", "Events accepted and durable.", self.events)
        yield _counter("trunkline_ingest_objects", "Objects accepted and durable.", self.objects)
        yield _by("trunkline_ingest_rejected_events", "Events rejected, by code.", "code", self.rejected)
        yield _by("trunkline_ingest_refused_requests", "Requests refused, by reason.", "reason", self.refused)
        yield _by(
            "trunkline_ingest_refused_connections",
            "Connections refused or cut, by reason.",
            "reason",
            self.connections_refused,
        )
        yield _counter(
            "trunkline_ingest_unknown_key_requests",
            "Requests with an unknown or disabled write key.",
            self.unknown_key_requests,
        )
        yield _counter(
            "trunkline_ingest_unknown_key_events", "Events dropped for an unknown write key.", self.unknown_key_events
        )
        yield _counter("trunkline_ingest_client_counters", "Requests to /v1/m.", self.client_counters)
        yield GaugeMetricFamily(
            "trunkline_ingest_queue_requests", "Requests waiting for the disk.", value=self.queue_requests()
        )
        yield GaugeMetricFamily("trunkline_ingest_queue_bytes", "Bytes waiting for the disk.", value=self.queue_bytes())
        yield GaugeMetricFamily(
            "trunkline_ingest_disk_full", "1 while the disk has no room for events.", value=self.disk_full()
        )
        buckets: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip((*_COMMIT_BUCKETS_S, float("inf")), self._commit_counts, strict=True):
            seen += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), seen))
        commits = HistogramMetricFamily("trunkline_ingest_commit_seconds", "Time to make a group of requests durable.")
        commits.add_metric([], buckets=buckets, sum_value=self._commit_sum_s)
        yield commits


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in sorted(values.items()):
        family.add_metric([key], count)
    return family
