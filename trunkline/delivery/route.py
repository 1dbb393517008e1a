"""Which events of a source go to which lanes.

Lanes that take every event share one list. Of the others each event meets only those whose conditions its type and name
can fulfil: what that leaves out costs nothing for each event, and is counted for the envelope as a whole. An event is
decoded at most once, and only if somebody has to look into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from trunkline.delivery.feed import Taken
from trunkline.delivery.judgement import NOTHING_REFUSED, Kind, Refused, decode_event, judge_decoded
from trunkline.delivery.lane import Lane
from trunkline.fql.constants import ANY
from trunkline.log.records import AcceptedEvent
from trunkline.pipeline.gate import GateStage, may_say_where
from trunkline.spec.discards import FILTERED_BY_RULES, UNSUPPORTED_EVENT_TYPE, Discard
from trunkline.spec.outcomes import FILTERED_AT_DESTINATION

Split = tuple[Lane, Taken, Refused]

MAX_REMEMBERED: Final = 4096
"""Pairs of type and name for which a route remembers whom they concern; clients may make up names without end."""


class _Target(msgspec.Struct, eq=False, gc=False):
    """A lane. ``types`` and ``events`` bound what it can take, ``methods`` are the types that its destination takes,
    None for all; ``looks`` whether it looks at every event that it can take."""

    lane: Lane
    stage: GateStage
    types: frozenset[str] | None
    events: frozenset[str] | None
    methods: frozenset[str] | None
    looks: bool


class _Concerned(msgspec.Struct, eq=False, gc=False):
    """The lanes that must look at events of one type and name, though they do not look at all: those of the open ones,
    and those of the choosy ones."""

    open: tuple[int, ...]
    choosy: frozenset[int]


_NOBODY: Final = _Concerned((), frozenset())


class SourceRoute:
    """The lanes that are connected to one source, under one snapshot."""

    def __init__(self, source: str, lanes: Sequence[tuple[Lane, GateStage]]) -> None:
        self._source = source
        self._open: list[_Target] = []
        self._choosy: list[_Target] = []
        self._by_event: dict[str, list[int]] = {}
        self._by_type: dict[str, list[int]] = {}
        self._always: list[int] = []
        for lane, stage in lanes:
            bounds = stage.bounds
            target = _Target(lane, stage, bounds.types, bounds.events, stage.methods, stage.needs_event)
            if bounds == ANY and not stage.needs_event:
                self._open.append(target)
                continue
            number = len(self._choosy)
            self._choosy.append(target)
            if bounds.events is not None:
                for name in bounds.events:
                    self._by_event.setdefault(name, []).append(number)
            elif bounds.types is not None:
                for kind in bounds.types:
                    self._by_type.setdefault(kind, []).append(number)
            else:
                self._always.append(number)
        self._has_some_to_pass = bool(self._open) or not all(target.looks for target in self._choosy)
        self._is_concerned = any(target.stage.touches_some for target in self._open + self._choosy)
        self._concerned: dict[tuple[str, str], _Concerned] = {}
        self._rest: Final[Kind] = (source, "", "", "")

    def split(self, taken: Taken, alone_at: int | None = None) -> Iterator[Split]:
        """For each lane the events that it takes, and how many it does not. Left out by type or name alone, an event is
        counted without its name.

        ``alone_at``: these are all events of the envelope at this position; lanes that none of them can concern are
        then told here, and not among what is returned.
        """
        decoded: dict[int, Mapping[str, Any]] = {}
        speaking: list[int] = []
        if self._has_some_to_pass:
            for number, (_, event) in enumerate(taken):
                if may_say_where(event.body):
                    speaking.append(number)
                    decoded[number] = decode_event(event.body)
        if self._open:
            yield from self._judge_open(taken, speaking, decoded)
        if self._choosy:
            yield from self._judge_choosy(taken, decoded, alone_at)

    def _judge_open(
        self, taken: Taken, speaking: Sequence[int], decoded: dict[int, Mapping[str, Any]]
    ) -> Iterator[Split]:
        concerning: dict[int, list[int]] = {}
        if self._is_concerned:
            for number, (_, event) in enumerate(taken):
                for candidate in self._concerned_by(event).open:
                    concerning.setdefault(candidate, []).append(number)
        if not concerning and not speaking:
            for target in self._open:
                yield target.lane, taken, NOTHING_REFUSED
            return
        for candidate, target in enumerate(self._open):
            own = concerning.get(candidate)
            numbers = speaking if own is None else sorted({*own, *speaking})
            if numbers:
                yield self._judge_some(target, taken, numbers, decoded)
            else:
                yield target.lane, taken, NOTHING_REFUSED

    def _judge_some(
        self, target: _Target, taken: Taken, numbers: Sequence[int], decoded: dict[int, Mapping[str, Any]]
    ) -> Split:
        """All of ``taken`` pass but for these, which are judged."""
        refused: dict[tuple[Kind, str], int] = {}
        out: set[int] = set()
        changed: dict[int, AcceptedEvent] = {}
        for number in numbers:
            event = taken[number][1]
            content = decoded.get(number)
            if content is None:
                content = decoded[number] = decode_event(event.body)
            verdict = judge_decoded(event, content, target.stage)
            if isinstance(verdict, Discard):
                out.add(number)
                _count(refused, event, verdict)
            elif verdict is not event:
                changed[number] = verdict
        if not out and not changed:
            return target.lane, taken, NOTHING_REFUSED
        kept = [(place, changed.get(number, event)) for number, (place, event) in enumerate(taken) if number not in out]
        return target.lane, kept, refused or NOTHING_REFUSED

    def _judge_choosy(
        self,
        taken: Taken,
        decoded: dict[int, Mapping[str, Any]],
        alone_at: int | None,
    ) -> Iterator[Split]:
        kept: dict[int, list[tuple[int, AcceptedEvent]]] = {}
        refused: dict[int, dict[tuple[Kind, str], int]] = {}
        looked_at: dict[int, int] = {}
        for number, (place, event) in enumerate(taken):
            for candidate in self._candidates(event):
                target = self._choosy[candidate]
                looked_at[candidate] = looked_at.get(candidate, 0) + 1
                if not (target.looks or number in decoded or self._concerns(event, candidate)):
                    kept.setdefault(candidate, []).append((place, event))
                    continue
                content = decoded.get(number)
                if content is None:
                    content = decoded[number] = decode_event(event.body)
                verdict = judge_decoded(event, content, target.stage)
                if isinstance(verdict, Discard):
                    _count(refused.setdefault(candidate, {}), event, verdict)
                else:
                    kept.setdefault(candidate, []).append((place, verdict))
        left_out = _LeftOut(self._source, taken)
        reason, events = (self._rest, FILTERED_AT_DESTINATION, FILTERED_BY_RULES), len(taken)
        everything: Refused = {(self._rest, FILTERED_BY_RULES): events}
        for candidate, target in enumerate(self._choosy):
            looked = looked_at.get(candidate)
            if looked is None and target.methods is None:
                if alone_at is not None:
                    target.lane.intake.pass_over(alone_at, reason, events)
                else:
                    yield target.lane, (), everything
                continue
            counts = refused.get(candidate, {})
            rest = events - (looked or 0)
            if rest and target.methods is not None:
                unsupported = left_out.unsupported(target.methods)
                counts.update(unsupported)
                rest -= sum(unsupported.values())
            if rest:
                counts[self._rest, FILTERED_BY_RULES] = rest
            if looked is None and alone_at is not None and len(counts) == 1:
                [(kind, why)] = counts
                target.lane.intake.pass_over(alone_at, (kind, FILTERED_AT_DESTINATION, why), events)
            else:
                yield target.lane, kept.get(candidate, ()), counts

    def _concerns(self, event: AcceptedEvent, candidate: int) -> bool:
        return self._is_concerned and candidate in self._concerned_by(event).choosy

    def _concerned_by(self, event: AcceptedEvent) -> _Concerned:
        key = event.type, event.name
        found = self._concerned.get(key)
        if found is None:
            if len(self._concerned) >= MAX_REMEMBERED:
                self._concerned.clear()
            found = self._concerned[key] = self._find_concerned(*key)
        return found

    def _find_concerned(self, type: str, name: str) -> _Concerned:
        open = tuple(number for number, target in enumerate(self._open) if target.stage.may_touch(type, name))
        choosy = frozenset(
            number
            for number, target in enumerate(self._choosy)
            if not target.looks and target.stage.may_touch(type, name)
        )
        return _Concerned(open, choosy) if open or choosy else _NOBODY

    def _candidates(self, event: AcceptedEvent) -> list[int]:
        """Those that might take the event, each once."""
        found = list(self._always)
        found += self._by_type.get(event.type, ())
        if event.type == "track":
            for candidate in self._by_event.get(event.name, ()):
                types = self._choosy[candidate].types
                if types is None or "track" in types:
                    found.append(candidate)
        elif self._by_event:
            # ``event`` is a track call's name; another type may hold a field of that name all the same.
            found += self._by_odd_event(event)
        return found

    def _by_odd_event(self, event: AcceptedEvent) -> list[int]:
        if b'"event"' not in event.body:
            return []
        name = decode_event(event.body).get("event")
        numbers = self._by_event.get(name, ()) if isinstance(name, str) else ()
        return [number for number in numbers if event.type in (self._choosy[number].types or (event.type,))]


class _LeftOut:
    """How many events of an envelope are of types that a destination does not take, counted once for all that take the
    same."""

    def __init__(self, source: str, taken: Taken) -> None:
        self._source = source
        self._taken = taken
        self._by_type: dict[str, int] = {}
        self._found: dict[frozenset[str], dict[tuple[Kind, str], int]] = {}

    def unsupported(self, methods: frozenset[str]) -> Mapping[tuple[Kind, str], int]:
        found = self._found.get(methods)
        if found is None:
            if not self._by_type:
                for _, event in self._taken:
                    self._by_type[event.type] = self._by_type.get(event.type, 0) + 1
            found = self._found[methods] = {
                ((self._source, kind, "", ""), UNSUPPORTED_EVENT_TYPE): events
                for kind, events in self._by_type.items()
                if kind not in methods
            }
        return found


def _count(refused: dict[tuple[Kind, str], int], event: AcceptedEvent, verdict: Discard) -> None:
    key = ((event.source, event.type, event.name, event.app_version), verdict.reason)
    refused[key] = refused.get(key, 0) + 1
