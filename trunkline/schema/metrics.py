"""What is counted of the observation of sources."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class SchemaMetrics:
    """Counted once a commit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._skipped = Counter(
            "trunkline_schema_skipped_events",
            "Accepted events that were in the log no longer when the schema's observer came to them.",
            registry=registry,
        )
        self._unopened = Counter(
            "trunkline_schema_unopened_events",
            "Events that were counted without a look at their properties, to save time.",
            registry=registry,
        )
        self._failures = Counter(
            "trunkline_schema_failures",
            "Times that the schema's database or the log failed; each is tried again.",
            registry=registry,
        )
        self._lag = Gauge(
            "trunkline_schema_lag_seconds", "Age of the oldest event that is not in the schema yet.", registry=registry
        )

    def skipped(self, events: int) -> None:
        self._skipped.inc(events)

    def unopened(self, events: int) -> None:
        self._unopened.inc(events)

    def failed(self) -> None:
        self._failures.inc()

    def lags(self, seconds: float) -> None:
        self._lag.set(seconds)
