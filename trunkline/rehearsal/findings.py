"""What a rehearsal has found so far: counts, some samples, never more than fits.

Two workspaces decide on each event twice over: what its source's stages make of it, and what each destination gets.
A :class:`Comparison` holds one such pair of decisions for many events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from trunkline.log.records import LoggedEvent
from trunkline.rehearsal.difference import Difference, bodies_differ
from trunkline.rehearsal.world import Entry, Given, Passage, World
from trunkline.spec.discards import Discard

AT_SOURCE: Final = "source"
AT_DESTINATION: Final = "destination"

MAX_NAMES: Final = 200
"""Kinds of events that are counted apart, in one change."""
MAX_PLACES: Final = 500
"""Places in events that are counted apart, in one comparison."""
DEFAULT_SAMPLES: Final = 3


class Stop(msgspec.Struct, frozen=True, gc=False, order=True):
    """Where an event ended and why. ``stage``: at its source or at the destination."""

    stage: str
    reason: str


NOT_FORWARDED: Final = Discard("not_forwarded")
"""The workspace forwards the event to no such source."""


class EventKind(msgspec.Struct, frozen=True, gc=False, order=True):
    source: str
    type: str
    name: str


class Sample(msgspec.Struct, frozen=True, gc=False):
    """An event that a change concerns. ``before`` and ``after``: the bodies, None where nothing went on; ``detail`` is
    what the stage said that stopped it."""

    source: str
    message_id: str
    type: str
    name: str
    received_at_ms: int
    before: bytes | None
    after: bytes | None
    detail: str = ""
    differences: tuple[Difference, ...] = ()


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """An event that does not go on."""

    stop: Stop
    detail: str = ""


Verdict = bytes | Stopped


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """An event as it came to a source."""

    source: str
    received_at_ms: int
    event: LoggedEvent


@dataclass(slots=True)
class Change:
    """Events that share a change."""

    events: int = 0
    kinds: dict[EventKind, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def add(
        self,
        one: Arrival,
        before: Verdict,
        after: Verdict,
        most: int,
        differences: Iterable[Difference] = (),
    ) -> None:
        """``most``: so many samples are kept."""
        source, event = one.source, one.event
        self.events += 1
        kind = EventKind(source, event.type, event.name)
        if kind in self.kinds or len(self.kinds) < MAX_NAMES:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.samples) < most:
            stopped = after if isinstance(after, Stopped) else before
            self.samples.append(
                Sample(
                    source,
                    event.message_id,
                    event.type,
                    event.name,
                    one.received_at_ms,
                    before if isinstance(before, bytes) else None,
                    after if isinstance(after, bytes) else None,
                    stopped.detail if isinstance(stopped, Stopped) else "",
                    tuple(differences),
                )
            )


@dataclass(slots=True)
class Comparison:
    """Decisions of both workspaces on the same events. ``kept``: events that pass in both as they are.

    ``places`` counts events by what is different where: (kind of difference, place).
    """

    events: int = 0
    passed_today: int = 0
    passed_new: int = 0
    kept: int = 0
    stopped: dict[Stop, Change] = field(default_factory=dict)
    """Passed today, stopped by the new workspace: by its reason."""
    released: dict[Stop, Change] = field(default_factory=dict)
    """Stopped today, passes the new workspace: by today's reason."""
    other_reason: dict[tuple[Stop, Stop], Change] = field(default_factory=dict)
    changed: Change = field(default_factory=Change)
    places: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def is_change(self) -> bool:
        return bool(self.stopped or self.released or self.other_reason or self.changed.events)

    def add(self, one: Arrival, before: Verdict, after: Verdict, most: int) -> None:
        self.events += 1
        self.passed_today += isinstance(before, bytes)
        self.passed_new += isinstance(after, bytes)
        if isinstance(before, bytes):
            if isinstance(after, bytes):
                self._compare(one, before, after, most)
            else:
                self.stopped.setdefault(after.stop, Change()).add(one, before, after, most)
        elif isinstance(after, bytes):
            self.released.setdefault(before.stop, Change()).add(one, before, after, most)
        elif before.stop != after.stop:
            reasons = before.stop, after.stop
            self.other_reason.setdefault(reasons, Change()).add(one, before, after, most)

    def add_same(self, *, passes: bool) -> None:
        """As :meth:`add` with one verdict for both."""
        self.events += 1
        if passes:
            self.passed_today += 1
            self.passed_new += 1
            self.kept += 1

    def _compare(self, one: Arrival, before: bytes, after: bytes, most: int) -> None:
        found = bodies_differ(before, after)
        if not found:
            self.kept += 1
            return
        self.changed.add(one, before, after, most, found)
        for key in {(item.kind, item.place) for item in found}:
            if key in self.places or len(self.places) < MAX_PLACES:
                self.places[key] = self.places.get(key, 0) + 1


@dataclass(frozen=True, slots=True, order=True)
class Connection:
    """A source's events at a destination, in one of the workspaces only. ``appears``: in the new one."""

    destination: str
    source: str
    appears: bool
    why: str


@dataclass(slots=True)
class ConnectionFindings:
    """What would be sent, or was: events that pass, and those that do not by reason."""

    passing: Change = field(default_factory=Change)
    stopped: dict[Stop, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        return self.passing.events + sum(self.stopped.values())


class Findings:
    """Compares what two worlds make of each event."""

    def __init__(self, today: World, new: World, *, samples: int = DEFAULT_SAMPLES) -> None:
        self.sources: dict[str, Comparison] = {}
        self.destinations: dict[str, Comparison] = {}
        self.connections: dict[Connection, ConnectionFindings] = {
            connection: ConnectionFindings() for connection in connection_changes(today, new)
        }
        self._today = today
        self._new = new
        self._most = samples
        self._one_sided = {(item.source, item.destination): item for item in self.connections}

    @property
    def is_change(self) -> bool:
        """Whether anything at all is different."""
        compared = [*self.sources.values(), *self.destinations.values()]
        return bool(self.connections) or any(one.is_change for one in compared)

    def add(self, given: Given, today: Passage, new: Passage) -> None:
        """What both make of the same event."""
        for key in today.keys() | new.keys() if today.keys() != new.keys() else today:
            before, after = today.get(key), new.get(key)
            entry = before or after
            assert entry is not None
            one = Arrival(key[0], given.received_at_ms, entry.event)
            results = tuple(NOT_FORWARDED if item is None else item.result for item in (before, after))
            entered = [isinstance(result, LoggedEvent) for result in results]
            if not given.accepted or not all(entered):
                self._add_source(one, *results)
            if any(entered):
                self._add_lanes(one, before, after)

    def _add_source(self, one: Arrival, before: LoggedEvent | Discard, after: LoggedEvent | Discard) -> None:
        comparison = self.sources.get(one.source)
        if comparison is None:
            comparison = self.sources[one.source] = Comparison()
        if before is after:
            comparison.add_same(passes=isinstance(before, LoggedEvent))
        else:
            comparison.add(one, _of_source(before), _of_source(after), self._most)

    def _add_lanes(self, one: Arrival, before: Entry | None, after: Entry | None) -> None:
        of_today = self._today.connections.get(one.source, frozenset())
        of_new = self._new.connections.get(one.source, frozenset())
        for slug in of_today | of_new:
            one_sided = self._one_sided.get((one.source, slug))
            if one_sided is not None:
                self._add_one_sided(one, one_sided, _at(after if one_sided.appears else before, slug))
                continue
            comparison = self.destinations.get(slug)
            if comparison is None:
                comparison = self.destinations[slug] = Comparison()
            verdict = before.lanes.get(slug) if before is not None else None
            if verdict is not None and after is not None and after.lanes.get(slug) is verdict:
                comparison.add_same(passes=isinstance(verdict, bytes))
            else:
                comparison.add(one, _at(before, slug), _at(after, slug), self._most)

    def _add_one_sided(self, one: Arrival, connection: Connection, verdict: Verdict) -> None:
        found = self.connections[connection]
        if isinstance(verdict, bytes):
            before: Verdict = _NOT_CONNECTED if connection.appears else verdict
            after: Verdict = verdict if connection.appears else _NOT_CONNECTED
            found.passing.add(one, before, after, self._most)
        elif verdict.stop.stage == AT_DESTINATION:
            found.stopped[verdict.stop] = found.stopped.get(verdict.stop, 0) + 1


_NOT_CONNECTED: Final = Stopped(Stop(AT_DESTINATION, "not_connected"))


def _of_source(verdict: LoggedEvent | Discard) -> Verdict:
    if isinstance(verdict, Discard):
        return Stopped(Stop(AT_SOURCE, verdict.reason), verdict.detail)
    return verdict.body


def _at(entry: Entry | None, slug: str) -> Verdict:
    result = NOT_FORWARDED if entry is None else entry.result
    if entry is None or isinstance(result, Discard):
        assert isinstance(result, Discard)
        return Stopped(Stop(AT_SOURCE, result.reason), result.detail)
    verdict = entry.lanes[slug]
    if isinstance(verdict, Discard):
        return Stopped(Stop(AT_DESTINATION, verdict.reason), verdict.detail)
    return verdict


def connection_changes(today: World, new: World) -> list[Connection]:
    """Connections that only one of the workspaces has, and why."""
    found = []
    for source in today.connections.keys() | new.connections.keys():
        of_today = today.connections.get(source, frozenset())
        of_new = new.connections.get(source, frozenset())
        for slug in of_new - of_today:
            found.append(Connection(slug, source, True, _why(today, slug, source, _APPEARS)))
        for slug in of_today - of_new:
            found.append(Connection(slug, source, False, _why(new, slug, source, _DISAPPEARS)))
    return sorted(found)


_APPEARS: Final = ("destination added", "destination enabled", "source added", "source connected")
_DISAPPEARS: Final = ("destination removed", "destination disabled", "source removed", "source disconnected")


def _why(without: World, slug: str, source: str, reasons: tuple[str, str, str, str]) -> str:
    """``without``: the workspace that does not have the connection."""
    destination = without.snapshot.destinations.get(slug)
    if destination is None:
        return reasons[0]
    if not destination.enabled:
        return reasons[1]
    return reasons[2] if source not in without.snapshot.sources else reasons[3]
