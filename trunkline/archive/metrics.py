"""What the archive process counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from trunkline.archive.index import NewFile
from trunkline.archive.layout import BLOCKED_EVENTS


class ArchiveMetrics:
    """Counted once a file, when it is committed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "trunkline_archive_events",
            "Events that are in the archive.",
            ["source"],
            registry=registry,
        )
        self._blocked = Counter(
            "trunkline_archive_blocked_events",
            "Events that the source stage blocked, kept apart from the archive.",
            ["source"],
            registry=registry,
        )
        self._bytes = Counter("trunkline_archive_bytes", "Compressed bytes written.", registry=registry)
        self._files = Counter("trunkline_archive_files", "Objects written.", registry=registry)
        self._failures = Counter(
            "trunkline_archive_failures",
            "Times that the object store or the index failed; each is tried again.",
            registry=registry,
        )
        self._removed = Counter(
            "trunkline_archive_removed_files", "Objects removed because of their age.", registry=registry
        )
        self._lag = Gauge(
            "trunkline_archive_lag_seconds", "Age of the oldest event that is not archived yet.", registry=registry
        )

    def written(self, file: NewFile) -> None:
        events = self._blocked if file.draft.kind is BLOCKED_EVENTS else self._events
        events.labels(file.draft.source).inc(file.draft.events)
        self._bytes.inc(file.draft.size_bytes)
        self._files.inc()

    def failed(self) -> None:
        self._failures.inc()

    def removed(self, files: int) -> None:
        self._removed.inc(files)

    def lags(self, seconds: float) -> None:
        self._lag.set(seconds)
