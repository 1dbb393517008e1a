"""The delivery record's twin in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from trunkline.state.base import (
    APP_VERSIONS_PER_SOURCE,
    ATTEMPTS_KEPT_D,
    ATTEMPTS_PER_DESTINATION,
    MINUTES_KEPT_H,
    NAMES_PER_SOURCE,
    OTHER_NAME,
    RECORD_KEPT_D,
    SAMPLES_PER_REASON,
    Attempt,
    BulkRow,
    Changes,
    LatencyKey,
    LossKey,
    RecordCounts,
    RecordKey,
    RecordRow,
    Sample,
)

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS


class MemoryRecord:
    """The tables; keys of counters begin with their grain in minutes."""

    def __init__(self) -> None:
        self.bulk: dict[tuple[str, str, int], BulkRow] = {}
        self._record: dict[tuple[int, RecordKey], RecordCounts] = {}
        self._latencies: dict[tuple[int, LatencyKey], int] = {}
        self._losses: dict[LossKey, int] = {}
        self._attempts: list[Attempt] = []
        self._samples: list[Sample] = []
        self._names: dict[tuple[str, str], set[str]] = {}

    def settle_name(self, source: str, name: str) -> str:
        """The name to count under."""
        return self._settle("name", source, name, NAMES_PER_SOURCE)

    def _settle(self, kind: str, source: str, name: str, cap: int) -> str:
        if name in ("", OTHER_NAME):
            return name
        names = self._names.setdefault((kind, source), set())
        if len(names) < cap:
            names.add(name)
        return name if name in names else OTHER_NAME

    def apply(self, changes: Changes) -> None:
        for bulk_key, row in changes.bulk.items():
            if row is None:
                self.bulk.pop(bulk_key, None)
            else:
                self.bulk[bulk_key] = row
        for key, counts in changes.record.items():
            version = self._settle("app_version", key.source, key.app_version, APP_VERSIONS_PER_SOURCE)
            settled = key._replace(name=self.settle_name(key.source, key.name), app_version=version)
            self._record.setdefault((1, settled), RecordCounts()).add(counts)
        for latency_key, events in changes.latencies.items():
            self._latencies[1, latency_key] = self._latencies.get((1, latency_key), 0) + events
        for loss_key, events in changes.losses.items():
            self._losses[loss_key] = self._losses.get(loss_key, 0) + events
        self._attempts += changes.attempts
        for sample in changes.samples:
            self._samples.append(sample)
            alike = [s for s in self._samples if (s.destination, s.reason) == (sample.destination, sample.reason)]
            if len(alike) > SAMPLES_PER_REASON:
                self._samples.remove(min(alike, key=lambda s: s.at_ms))

    def tidy(self, now_ms: int) -> None:
        minute = now_ms // _MINUTE_MS
        month = minute - RECORD_KEPT_D * 24 * 60
        summed = minute - MINUTES_KEPT_H * 60
        record, self._record = self._record, {}
        for (grain, key), counts in record.items():
            start, now_grain = _summed_up(key.minute, grain, summed)
            if now_grain == 1 or start + 60 > month:
                self._record.setdefault((now_grain, key._replace(minute=start)), RecordCounts()).add(counts)
        latencies, self._latencies = self._latencies, {}
        for (grain, latency_key), events in latencies.items():
            start, now_grain = _summed_up(latency_key.minute, grain, summed)
            if now_grain == 1 or start + 60 > month:
                place = (now_grain, latency_key._replace(minute=start))
                self._latencies[place] = self._latencies.get(place, 0) + events
        self._losses = {key: events for key, events in self._losses.items() if key.received_minute >= month}
        self._samples = [sample for sample in self._samples if sample.at_ms >= month * _MINUTE_MS]
        self._tidy_attempts(now_ms - ATTEMPTS_KEPT_D * _DAY_MS)

    def _tidy_attempts(self, since_ms: int) -> None:
        kept: dict[str, list[Attempt]] = {}
        for attempt in sorted(self._attempts, key=lambda attempt: attempt.at_ms):
            if attempt.at_ms >= since_ms:
                kept.setdefault(attempt.destination, []).append(attempt)
        self._attempts = [attempt for found in kept.values() for attempt in found[-ATTEMPTS_PER_DESTINATION:]]

    def record(
        self, since_ms: int, until_ms: int, *, destination: str | None, source: str | None
    ) -> Iterator[RecordRow]:
        for (grain, key), counts in self._record.items():
            if (
                _overlaps(key.minute, grain, since_ms, until_ms)
                and destination in (None, key.destination)
                and source in (None, key.source)
            ):
                yield RecordRow(key, dataclasses.replace(counts), grain)

    def latencies(self, since_ms: int, until_ms: int, *, destination: str | None) -> dict[LatencyKey, int]:
        found: dict[LatencyKey, int] = {}
        for (grain, key), events in self._latencies.items():
            if _overlaps(key.minute, grain, since_ms, until_ms) and destination in (None, key.destination):
                found[key] = found.get(key, 0) + events
        return found

    def losses(self, since_ms: int, *, destination: str | None) -> dict[LossKey, int]:
        return {
            key: events
            for key, events in self._losses.items()
            if (key.received_minute + 1) * _MINUTE_MS > since_ms and destination in (None, key.destination)
        }

    def attempts_of(self, message_id: str) -> list[Attempt]:
        found = [attempt for attempt in self._attempts if message_id and attempt.message_id == message_id]
        return sorted(found, key=lambda attempt: attempt.at_ms)

    def attempts_at(self, destination: str, partition: str, place: int) -> list[Attempt]:
        found = [
            attempt
            for attempt in self._attempts
            if (attempt.destination, attempt.partition) == (destination, partition)
            and attempt.place <= place <= max(attempt.place, attempt.last_place)
        ]
        return sorted(found, key=lambda attempt: attempt.at_ms)

    def samples(self, destination: str | None, reason: str | None) -> list[Sample]:
        found = [
            sample
            for sample in self._samples
            if destination in (None, sample.destination) and reason in (None, sample.reason)
        ]
        found.reverse()
        return sorted(found, key=lambda sample: -sample.at_ms)


def _summed_up(minute: int, grain: int, before_minute: int) -> tuple[int, int]:
    """Where a row's time begins, and its grain, once minutes before that one are summed into hours."""
    return (minute - minute % 60, 60) if grain == 1 and minute < before_minute else (minute, grain)


def _overlaps(minute: int, grain: int, since_ms: int, until_ms: int) -> bool:
    return (minute + grain) * _MINUTE_MS > since_ms and minute * _MINUTE_MS < until_ms
