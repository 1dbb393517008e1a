"""A log and a state in which single events can be put anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from tests.unit.observe.record_kit import NOW_MS
from trunkline.log.base import ACCEPTED, INGESTED, NewRecord
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    BlockedEvent,
    Delta,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    Rejection,
    encode_chunk,
    encode_envelope,
)
from trunkline.observe.endings import Facts
from trunkline.observe.lanes import LanesStatus, LaneStatus
from trunkline.observe.retrace import Retracer
from trunkline.observe.why import Story, explain
from trunkline.replay.model import ReplaySpec
from trunkline.spec.outcomes import FILTERED_AT_SOURCE
from trunkline.spec.plans import TrackingPlan
from trunkline.spec.transformations import Transformation
from trunkline.state.base import Attempt, Changes, LaneState, RetryRow, StateStore, place_of
from trunkline.testing.memory_log import MemoryLog
from trunkline.workspace.model import Destination, Snapshot, Source

AT_MS = NOW_MS - 60_000
"""When events are received unless told otherwise."""


def body_of(message_id: str, **more: object) -> bytes:
    return msgspec.json.encode({"type": "track", "event": "E", "messageId": message_id, **more})


@dataclass
class World:
    """``lanes``: what the worker says of its lanes; None: it does not run."""

    store: StateStore
    log: MemoryLog = field(default_factory=lambda: MemoryLog(kafka_like=True, seed=7))
    lanes: list[LaneStatus] | None = field(default_factory=list)
    destinations: dict[str, Destination] = field(default_factory=dict)
    replays: list[ReplaySpec] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    plans: dict[str, TrackingPlan] = field(default_factory=dict)
    transformations: tuple[Transformation, ...] = ()
    past: dict[str, Snapshot] = field(default_factory=dict)
    """Workspaces of earlier versions."""
    epoch: int = 1

    def __post_init__(self) -> None:
        self._ingested = self.log.appender(INGESTED, "a")
        self._accepted = self.log.appender(ACCEPTED, "0")

    def ingest(
        self,
        *ids: str,
        source: str = "web",
        at_ms: int = AT_MS,
        rejections: Sequence[Rejection] = (),
        own_id: bool = True,
        body: bytes = b"",
    ) -> int:
        """One record; its position."""
        events = [LoggedEvent(id, "track", "E", body or body_of(id), own_id) for id in ids]
        chunk = IngestedChunk(RECORD_VERSION, source, at_ms, events, list(rejections))
        [position] = self._ingested.append([NewRecord(encode_chunk(chunk), chunk.counts())])
        return position

    def accept(
        self,
        start: int,
        *ids: str,
        stop: int | None = None,
        source: str = "web",
        at_ms: int = AT_MS,
        reason: str = "duplicate",
        epoch: int | None = None,
        fence: bool = False,
        applied: bool = True,
        body: bytes = b"",
        more: Sequence[AcceptedEvent] = (),
        blocked: Sequence[BlockedEvent] = (),
        snapshot: str = "v1",
    ) -> int:
        """An envelope over [start, stop) with these survivors; its position. ``reason``: of those that are none."""
        survivors = [AcceptedEvent(source, at_ms, id, "track", "E", body or body_of(id)) for id in ids]
        deltas = [Delta(source, "track", "E", FILTERED_AT_SOURCE, reason, 1)]
        envelope = Envelope(
            RECORD_VERSION,
            epoch or self.epoch,
            "a",
            "shared",
            start,
            start + 1 if stop is None else stop,
            snapshot,
            [*survivors, *more],
            b"",
            [],
            deltas,
            fence,
            list(blocked),
        )
        [position] = self._accepted.append([NewRecord(encode_envelope(envelope), envelope.counts())])
        if applied:
            self.store.commit(Changes(accepted={"0": self._accepted.head}))
        return position

    def connect(self, slug: str, *sources: str, enabled: bool = True) -> None:
        """Put a destination into the workspace."""
        self.destinations[slug] = Destination(slug, slug, "webhook", sources or ("web",), enabled, {})

    def lane(self, mark: int, *, destination: str = "hook", settled: tuple[tuple[int, int], ...] = ()) -> None:
        state = LaneState(destination, "0", mark, settled)
        self.store.commit(Changes(lanes={(destination, "0"): state}))

    def attempt(
        self,
        place: int,
        number: int,
        outcome: str,
        reason: str = "",
        *,
        id: str = "m1",
        destination: str = "hook",
        last_place: int | None = None,
        detail: str = "",
    ) -> None:
        last = place if last_place is None else last_place
        note = Attempt(destination, "", "0", place, last, id, number, AT_MS + number, outcome, reason, detail)
        self.store.commit(Changes(attempts=[note]))

    def row(self, place: int, error: str = "503 busy", *, attempts: int = 1, due_in_ms: int = 90_000) -> None:
        due = NOW_MS + due_in_ms
        row = RetryRow(
            "hook", "", "0", place, "m1", "web", "track", "E", AT_MS, attempts, AT_MS, due, error, "send", b"{}"
        )
        self.store.commit(Changes(rows={row.key: row}))

    def facts(self, now_ms: int = NOW_MS) -> Facts:
        lanes = LanesStatus(at_ms=now_ms, lanes=self.lanes) if self.lanes is not None else None
        return Facts(now_ms, self.snapshot(), lanes)

    def snapshot(self, version: str = "v1") -> Snapshot:
        return Snapshot(
            version,
            "acme",
            "Acme",
            self.sources,
            self.destinations,
            tracking_plans=self.plans,
            transformations=self.transformations,
        )

    def tell(self, message_id: str = "m1", *, now_ms: int = NOW_MS) -> Story:
        facts = self.facts(now_ms)
        retracer = Retracer(self.past.get, current=facts.snapshot)
        return explain(message_id, self.log, self.store, facts, replays=self.replays, retracer=retracer)

    def accepted_event(self, message_id: str = "m1") -> int:
        """Ingested and accepted; its place."""
        return place_of(self.accept(self.ingest(message_id), message_id), 0)
