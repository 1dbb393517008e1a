"""A log in memory, the observer's database and a clock that stands still."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from tests.support.hand_clock import HandClock
from trunkline.log.base import ACCEPTED, NewRecord
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    BlockedEvent,
    Delta,
    Envelope,
    encode_envelope,
)
from trunkline.schema.database import SchemaDatabase
from trunkline.schema.limits import DAY_MS, Limits
from trunkline.schema.metrics import SchemaMetrics
from trunkline.schema.observer import SchemaObserver
from trunkline.schema.reader import SchemaReader
from trunkline.spec.outcomes import ACCEPTED as WAS_ACCEPTED
from trunkline.spec.outcomes import FILTERED_AT_SOURCE
from trunkline.testing.memory_log import MemoryLog

T0 = 20_000 * DAY_MS + 3_600_000
PARTITION = "0"


def body_of(kind: str, name: str, content: dict[str, Any] | None, protocols: dict[str, Any] | None = None) -> bytes:
    body: dict[str, Any] = {"type": kind, "messageId": "m", "context": {"library": {"name": "x"}}}
    if name:
        body["event" if kind == "track" else "name"] = name
    if content is not None:
        body["traits" if kind in ("identify", "group") else "properties"] = content
    if protocols is not None:
        body["context"]["protocols"] = protocols
    return json.dumps(body, separators=(",", ":")).encode()


def accepted(
    name: str = "Order Completed",
    properties: dict[str, Any] | None = None,
    *,
    source: str = "web",
    kind: str = "track",
    at_ms: int = T0,
    protocols: dict[str, Any] | None = None,
    message_id: str = "m",
) -> AcceptedEvent:
    return AcceptedEvent(source, at_ms, message_id, kind, name, body_of(kind, name, properties, protocols))


def blocked(
    name: str = "Order Completed",
    properties: dict[str, Any] | None = None,
    *,
    source: str = "web",
    kind: str = "track",
    at_ms: int = T0,
    reason: str = "unplanned",
    protocols: dict[str, Any] | None = None,
) -> BlockedEvent:
    text = b"" if protocols is None else json.dumps(protocols).encode()
    return BlockedEvent(source, at_ms, "b", kind, name, body_of(kind, name, properties), reason, text)


class World:
    """:meth:`restart` is what a crash leaves."""

    def __init__(
        self, directory: Path, *, log: MemoryLog | None = None, limits: Limits | None = None, **settings: Any
    ) -> None:
        self.path = directory / "schema.db"
        self.clock = HandClock(T0 + 1000)
        self.log = log or MemoryLog(clock=self.clock)
        self.limits = limits or Limits()
        self.settings = settings
        self.registry = CollectorRegistry()
        self._appender = self.log.appender(ACCEPTED, PARTITION)
        self._ranges = itertools.count()
        self.expected: Counter[tuple[str, str, str, str]] = Counter()
        self.reader = SchemaReader(self.path)
        self.start()

    def start(self) -> None:
        self.database = SchemaDatabase(self.path)
        self.observer = SchemaObserver(
            self.log, self.database, self.clock, SchemaMetrics(CollectorRegistry()), self.limits, **self.settings
        )

    def restart(self) -> None:
        self.database.close()
        self.start()

    def append(
        self,
        *events: AcceptedEvent | BlockedEvent,
        deltas: Sequence[Delta] = (),
        epoch: int = 0,
        fence: bool = False,
    ) -> bytes:
        """One envelope with the deltas of its events, and others; its payload."""
        at = next(self._ranges)
        found: Counter[tuple[str, str, str, str, str]] = Counter()
        for event in events:
            reason = event.reason if isinstance(event, BlockedEvent) else ""
            outcome = FILTERED_AT_SOURCE if reason else WAS_ACCEPTED
            if event.type != "object":
                found[event.source, event.type, event.name, outcome, reason] += 1
                if not fence:
                    self.expected[event.source, event.type, event.name, reason] += 1
        envelope = Envelope(
            version=RECORD_VERSION,
            epoch=epoch,
            partition="ingest.0",
            group="shared",
            start=at,
            stop=at + 1,
            snapshot="v",
            survivors=[event for event in events if isinstance(event, AcceptedEvent)],
            dedupe_keys=b"",
            dedupe_times_ms=[],
            deltas=[Delta(*key, count) for key, count in found.items()] + list(deltas),
            fence=fence,
            blocked=[event for event in events if isinstance(event, BlockedEvent)],
        )
        payload = encode_envelope(envelope)
        self._appender.append([NewRecord(payload, envelope.counts())])
        return payload

    def repeat(self, payload: bytes) -> None:
        """Append a record anew, as a log does whose acknowledgement was lost."""
        self._appender.append([NewRecord(payload, {})])

    def observe(self) -> None:
        while self.observer.advance():
            pass
        self.observer.commit()

    def counts(self) -> Counter[tuple[str, str, str, str]]:
        """What the database says, in the form of :attr:`expected`."""
        found: Counter[tuple[str, str, str, str]] = Counter()
        for event in self.reader.events():
            if event.allowed:
                found[event.source, event.type, event.name, ""] = event.allowed
            for reason, count in event.reasons.items():
                found[event.source, event.type, event.name, reason] = count
        return found

    def properties(self, name: str = "Order Completed", kind: str = "track") -> dict[str, tuple[int, int, int]]:
        """Allowed, blocked and omitted by path."""
        return {
            found.path: (found.allowed, found.blocked, found.omitted)
            for found in self.reader.properties("web", kind, name)
        }
