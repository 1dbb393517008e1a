"""What is known of what sources send: finds the tally of an event, property or violation, or makes one if it fits.

It is the writer's view of the database: what it holds beyond it is written by the next commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from trunkline.schema.limits import MAX_NAME_CHARACTERS, OTHER, Limits
from trunkline.schema.tally import EventKey, EventTally, PropertyTally, ViolationKey, ViolationTally

_TRAITS = ("identify", "group")


class KnownRows(Protocol):
    """What of the database is used."""

    def event_rows(self, source: str, event_type: str) -> Iterable[tuple[int, str]]: ...

    def property_rows(self, event_id: int) -> Iterable[tuple[int, str]]: ...

    def violation_rows(self, source: str) -> Iterable[tuple[int, ViolationKey]]: ...

    def next_ids(self) -> tuple[int, int, int]: ...


class Catalogue:
    """Not for several threads. Its methods raise SchemaFailed when a look-up fails."""

    def __init__(self, rows: KnownRows, limits: Limits) -> None:
        self._rows = rows
        self._limits = limits
        self.full = False
        """Nothing new is taken up: it counts under ``$other``."""
        self._next_event, self._next_property, self._next_violation = rows.next_ids()
        self._events: dict[tuple[str, str], dict[str, EventTally]] = {}
        self._violations: dict[str, dict[ViolationKey, ViolationTally]] = {}
        self._touched: dict[int, EventTally] = {}
        self._touched_violations: dict[int, ViolationTally] = {}
        self._cached = 0
        self.pending = 0
        """About so many rows the next commit writes."""

    # -- finding ---------------------------------------------------------------------------------------------------

    def event(self, key: EventKey, at_ms: int) -> EventTally:
        """The tally of an event that was seen at that time."""
        source, event_type, name = key
        named = self._events.get((source, event_type))
        if named is None:
            named = self._events[source, event_type] = {
                name: EventTally(row_id, (source, event_type, name))
                for row_id, name in self._rows.event_rows(source, event_type)
            }
            self._cached += len(named)
        tally = named.get(name)
        if tally is None:
            tally = self._new_event(named, source, event_type, name)
        if not tally.touched:
            tally.touched = True
            tally.first_ms = tally.last_ms = at_ms
            self._touched[tally.id] = tally
            self.pending += 3
        elif at_ms > tally.last_ms:
            tally.last_ms = at_ms
        elif at_ms < tally.first_ms:
            tally.first_ms = at_ms
        return tally

    def _new_event(self, named: dict[str, EventTally], source: str, event_type: str, name: str) -> EventTally:
        name = name[:MAX_NAME_CHARACTERS]
        if (len(named) >= self._limits.events or self.full) and name not in named:
            name = OTHER
        tally = named.get(name)
        if tally is None:
            tally = named[name] = EventTally(self._next_event, (source, event_type, name))
            self._next_event += 1
            self._cached += 1
        return tally

    def property(self, event: EventTally, path: str, at_ms: int) -> PropertyTally:
        """The tally of a property of that event; always ask, so that it is written."""
        tally = event.touched_properties.get(path)
        if tally is not None:
            tally.see(at_ms)
            return tally
        known = event.properties
        if known is None:
            known = event.properties = {
                path: PropertyTally(row_id, path == OTHER) for row_id, path in self._rows.property_rows(event.id)
            }
            limit = self._limits.traits if event.key[1] in _TRAITS else self._limits.properties
            event.room = limit - sum(path != OTHER for path in known)
            self._cached += len(known)
        tally = known.get(path)
        if tally is None:
            if path != OTHER and (event.room <= 0 or self.full):
                return self.property(event, OTHER, at_ms)
            tally = known[path] = PropertyTally(self._next_property, path == OTHER)
            self._next_property += 1
            event.room -= path != OTHER
            self._cached += 1
        event.touched_properties[path] = tally
        self.pending += 2
        tally.see(at_ms)
        return tally

    def violation(self, key: ViolationKey, at_ms: int) -> ViolationTally:
        source = key[0]
        known = self._violations.get(source)
        if known is None:
            known = self._violations[source] = {
                known_key: self._violation(row_id, known_key) for row_id, known_key in self._rows.violation_rows(source)
            }
            self._cached += len(known)
        tally = known.get(key)
        if tally is None:
            if len(known) >= self._limits.violations or self.full:
                key = (source, OTHER, OTHER, OTHER, OTHER, "")
                tally = known.get(key)
            if tally is None:
                tally = known[key] = self._violation(self._next_violation, key)
                self._next_violation += 1
                self._cached += 1
        if not tally.touched:
            tally.first_ms = tally.last_ms = at_ms
            self._touched_violations[tally.id] = tally
            self.pending += 2
        tally.first_ms, tally.last_ms = min(tally.first_ms, at_ms), max(tally.last_ms, at_ms)
        return tally

    def _violation(self, row_id: int, key: ViolationKey) -> ViolationTally:
        return ViolationTally(row_id, key, deque(maxlen=self._limits.samples))

    # -- committing ------------------------------------------------------------------------------------------------

    def touched(self) -> Iterator[EventTally]:
        return iter(self._touched.values())

    def touched_violations(self) -> Iterator[ViolationTally]:
        return iter(self._touched_violations.values())

    def settle(self) -> None:
        """What was touched has been written."""
        for tally in self._touched.values():
            for property_tally in tally.touched_properties.values():
                property_tally.reset()
            tally.reset()
        for violation in self._touched_violations.values():
            violation.reset()
        self._touched.clear()
        self._touched_violations.clear()
        self.pending = 0
        if self._cached > self._limits.cached_rows:
            self.forget()

    def forget(self) -> None:
        """Look everything up again. Only behind :meth:`settle`."""
        self._events.clear()
        self._violations.clear()
        self._cached = 0
