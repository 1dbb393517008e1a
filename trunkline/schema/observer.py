"""Follows the accepted log and keeps what was seen.

Counts of events are exact. Looking at an event's properties takes time: as long as that stays within a share of a core
every event is looked at, beyond it some of each name are, and counts of properties are estimates that say so. Events
that a tracking plan has marked are always read for what it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from trunkline.clock import Clock
from trunkline.log.base import ACCEPTED, EventLog
from trunkline.log.records import AcceptedEvent, BlockedEvent, Envelope
from trunkline.schema.budget import CpuBudget
from trunkline.schema.catalogue import Catalogue
from trunkline.schema.changes import changes_of
from trunkline.schema.database import SchemaDatabase
from trunkline.schema.follower import Follower
from trunkline.schema.limits import DAY_MS, HOUR_MS, Limits
from trunkline.schema.metrics import SchemaMetrics
from trunkline.schema.paths import find_paths
from trunkline.schema.protocols import MARK, NONE, Protocols, protocols_of_event, protocols_of_json
from trunkline.schema.tally import EventTally, Sample
from trunkline.spec.outcomes import DUPLICATE, FILTERED_AT_SOURCE, OBJECT

READ_BYTES: Final = 1 << 20
COMMIT_S: Final = 5.0
COMMIT_SHARE: Final = 0.01
"""Of the time may go to commits: where thousands of sources have rows in each, they come less often."""
PENDING_ROWS: Final = 50_000
"""So many rows are committed before their time."""
SAMPLE_AGAIN_MS: Final = 30_000
"""A violation that keeps coming gives a sample no more often than that."""
_BUDGET_STEP: Final = 16
_TRAITS: Final = ("identify", "group")
REPORT_NAME: Final = "Violation Generated"
REPORT_ID_PREFIX: Final = "sch-"
"""Violations that are forwarded as events: they are not shown (``spec/event_path.md`` §4.6)."""


class _Body(msgspec.Struct, gc=False):
    properties: Any = None
    traits: Any = None


_decode: Final = msgspec.json.Decoder(_Body).decode


class SchemaObserver:
    """For one thread. :meth:`advance` and :meth:`commit` raise LogError, RecordError and SchemaFailed; the next call
    begins at the last commit."""

    def __init__(
        self,
        log: EventLog,
        database: SchemaDatabase,
        clock: Clock,
        metrics: SchemaMetrics,
        limits: Limits | None = None,
        *,
        commit_s: float = COMMIT_S,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._log = log
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._limits = limits or Limits()
        self._commit_s = commit_s
        self._budget = CpuBudget(clock, self._limits.cpu_share, cpu_s)
        self._followers: dict[str, Follower] = {}
        self._unopened = 0
        self._oldest_ms: int | None = None
        self._commit_at_s = clock.monotonic_s() + commit_s
        self._open()

    def _open(self) -> None:
        """Forget what was not committed."""
        self.close()
        self._followers = {}
        self._catalogue = Catalogue(self._database, self._limits)
        self._catalogue.full = self._database.size_bytes() >= self._limits.max_bytes
        self._oldest_ms = None
        self._unopened = 0
        self._unsure = False

    def close(self) -> None:
        for follower in self._followers.values():
            follower.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Read on in every partition; False when all are at the head. Commits where it is time."""
        if self._unsure:
            self._open()
        self._unsure = True  # unless all that was read is taken
        moved = False
        for partition in self._log.partitions(ACCEPTED):
            follower = self._followers.get(partition)
            if follower is None:
                follower = self._followers[partition] = Follower(self._log, partition, self._database.cursor(partition))
            before = follower.position
            for envelope in follower.read(READ_BYTES):
                self._take(envelope)
            moved = moved or follower.position > before
        self._unsure = False
        if self.due:
            self.commit()
        return moved

    @property
    def due(self) -> bool:
        """Whether it is time for a commit."""
        if self._catalogue.pending >= PENDING_ROWS:
            return True
        if self._clock.monotonic_s() < self._commit_at_s:
            return False
        return any(follower.moved for follower in self._followers.values())

    def _take(self, envelope: Envelope) -> None:
        times_ms = [event.received_at_ms for event in envelope.survivors]
        times_ms += [event.received_at_ms for event in envelope.blocked]
        newest_ms = max(times_ms or envelope.dedupe_times_ms, default=self._clock.now_ms())
        if self._oldest_ms is None:
            self._oldest_ms = newest_ms
        self._see_all(envelope.survivors, envelope.blocked)
        lasts_ms: dict[tuple[str, str, str, str], int] = {}
        for event in envelope.blocked:
            key = (event.source, event.type, event.name, event.reason)
            lasts_ms[key] = max(event.received_at_ms, lasts_ms.get(key, 0))
        for delta in envelope.deltas:
            if delta.outcome == FILTERED_AT_SOURCE and delta.reason != DUPLICATE:
                at_ms = lasts_ms.get((delta.source, delta.type, delta.name, delta.reason), newest_ms)
                tally = self._catalogue.event((delta.source, delta.type, delta.name), at_ms)
                tally.count(delta.reason, at_ms, delta.count)

    def _see_all(self, survivors: Sequence[AcceptedEvent], blocked: Sequence[BlockedEvent]) -> None:
        """Counts of survivors are made here; those of blocked events come with the deltas."""
        catalogue, always, unopened = self._catalogue, self._limits.always, 0
        groups: dict[tuple[str, str, str, int], tuple[EventTally, list[int]]] = {}
        has_time = self._budget.begin()
        looked_at = 0
        for events, is_blocked in ((survivors, False), (blocked, True)):
            for event in events:
                if event.type == OBJECT or (
                    event.name == REPORT_NAME and event.message_id.startswith(REPORT_ID_PREFIX)
                ):
                    continue
                key = (event.source, event.type, event.name, event.received_at_ms)
                group = groups.get(key)
                if group is None:
                    group = groups[key] = catalogue.event(key[:3], key[3]), [0, 0]
                tally, seen = group
                seen[is_blocked] += 1
                if has_time or tally.looked_at[is_blocked] < always:
                    self._look(tally, event, is_blocked)
                    looked_at += 1
                    if not looked_at % _BUDGET_STEP:
                        has_time = self._budget.spend()
                else:
                    unopened += 1
                if is_blocked or MARK in event.body:
                    self._note(tally, event, _protocols(event), is_blocked)
        for key, (tally, (allowed, stopped)) in groups.items():
            tally.seen[0] += allowed
            tally.seen[1] += stopped
            if allowed:
                tally.count("", key[3], allowed)
        self._unopened += unopened
        self._budget.spend()

    def _look(self, tally: EventTally, event: AcceptedEvent | BlockedEvent, blocked: bool) -> None:
        """Count the properties of one event."""
        tally.looked_at[blocked] += 1
        try:
            body = _decode(event.body)
        except msgspec.MsgspecError:
            return  # no JSON object: it has no properties
        properties = body.traits if event.type in _TRAITS else body.properties
        if type(properties) is not dict:
            return
        at_ms, find = event.received_at_ms, self._catalogue.property
        has_other = False
        for path, types in find_paths(properties).items():
            found = find(tally, path, at_ms)
            found.types |= types
            if found.is_other:
                if has_other:
                    continue  # once an event
                has_other = True
            if blocked:
                found.blocked += 1
            else:
                found.allowed += 1

    def _note(
        self, tally: EventTally, event: AcceptedEvent | BlockedEvent, protocols: Protocols, blocked: bool
    ) -> None:
        """Record what the plan says of one event."""
        at_ms, catalogue = event.received_at_ms, self._catalogue
        if not blocked:  # otherwise they are in the event still, and blocked with it
            for path in protocols.omitted:
                catalogue.property(tally, path, at_ms).omitted += 1
            for path in protocols.omitted_on_violation:
                catalogue.property(tally, path, at_ms).stopped += 1
        for one in protocols.violations:
            key = (event.source, event.type, event.name, one.field, one.type, one.description)
            violation = catalogue.violation(key, at_ms)
            hour_ms = at_ms - at_ms % HOUR_MS
            violation.counts[hour_ms] = violation.counts.get(hour_ms, 0) + 1
            if abs(at_ms - violation.sampled_at_ms) >= SAMPLE_AGAIN_MS and self._limits.samples:  # clocks go back too
                violation.sampled_at_ms = at_ms
                kept = event.body[: self._limits.sample_bytes]
                violation.samples.append(Sample(at_ms, event.message_id, blocked, len(event.body), kept))

    # -- committing ------------------------------------------------------------------------------------------------

    def lag_s(self) -> float:
        """Age of the oldest event that was read and is not committed; 0 when there is none."""
        return 0.0 if self._oldest_ms is None else max(0.0, (self._clock.now_ms() - self._oldest_ms) / 1000)

    def commit(self) -> None:
        """Keep what was seen, with the cursor behind it."""
        if self._unsure:
            self._open()
        began_s = self._clock.monotonic_s()
        self._commit_at_s = began_s + self._commit_s
        moved = {partition: follower for partition, follower in self._followers.items() if follower.moved}
        if not moved:
            return
        now_ms = self._clock.now_ms()
        cursors = {partition: follower.cursor() for partition, follower in moved.items()}
        skips = [skip for follower in moved.values() for skip in follower.skips(now_ms)]
        self._unsure = True  # a commit that fails may have been made all the same: the database knows
        self._database.commit(changes_of(self._catalogue, cursors, skips), samples_kept=self._limits.samples)
        took_s = self._clock.monotonic_s() - began_s
        self._commit_at_s = began_s + max(self._commit_s, took_s / COMMIT_SHARE)
        self._catalogue.settle()
        for partition, follower in moved.items():
            follower.committed(cursors[partition])
        self._catalogue.full = self._database.size_bytes() >= self._limits.max_bytes
        self._unsure = False
        self._metrics.unopened(self._unopened)
        self._metrics.skipped(sum(skip.events for skip in skips))
        self._unopened, self._oldest_ms = 0, None

    def tidy(self, retention_days: float) -> None:
        """Forget what was not seen for so long."""
        self.commit()
        self._database.tidy(self._clock.now_ms(), round(retention_days * DAY_MS))
        self._catalogue.forget()


def _protocols(event: AcceptedEvent | BlockedEvent) -> Protocols:
    try:
        if isinstance(event, BlockedEvent):
            return protocols_of_json(event.protocols)
        return protocols_of_event(event.body, event.source)
    except msgspec.MsgspecError:
        return NONE
