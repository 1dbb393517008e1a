"""Which events of a source go to which lanes.

Lanes without filters share one list. Of the others each event meets only those whose conditions its type and name can
fulfil: what that leaves out costs nothing for each event, and is counted for the envelope as a whole. An event is
decoded at most once, and only if somebody has to look into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from trunkline.delivery.feed import Taken
from trunkline.delivery.judgement import NOTHING_REFUSED, Kind, Refused, decode_event, judge_decoded
from trunkline.delivery.lane import Lane
from trunkline.log.records import AcceptedEvent
from trunkline.pipeline.gate import GateStage, may_say_where
from trunkline.spec.discards import FILTERED_BY_RULES, Discard
from trunkline.spec.outcomes import FILTERED_AT_DESTINATION

Split = tuple[Lane, Taken, Refused]


class _Target(msgspec.Struct, eq=False, gc=False):
    """A lane that looks at events."""

    lane: Lane
    stage: GateStage
    types: frozenset[str] | None
    events: frozenset[str] | None


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
            bounds = stage.filters.constants
            target = _Target(lane, stage, bounds.types, bounds.events)
            if not stage.needs_event:
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
        self._rest: Final[Kind] = (source, "", "", "")

    def split(self, taken: Taken, alone_at: int | None = None) -> Iterator[Split]:
        """For each lane the events that it takes, and how many it does not. Filtered by type or name alone, an event is
        counted without them.

        ``alone_at``: these are all events of the envelope at this position; lanes that none of them can concern are
        then told here, and not among what is returned.
        """
        decoded: dict[int, Mapping[str, Any]] = {}
        if self._open:
            speaking = [number for number, (_, event) in enumerate(taken) if may_say_where(event.body)]
            if not speaking:
                for target in self._open:
                    yield target.lane, taken, NOTHING_REFUSED
            else:
                for number in speaking:
                    decoded[number] = decode_event(taken[number][1].body)
                yield from self._judge_speaking(taken, speaking, decoded)
        if self._choosy:
            yield from self._judge_choosy(taken, decoded, alone_at)

    def _judge_speaking(
        self, taken: Taken, speaking: Sequence[int], decoded: Mapping[int, Mapping[str, Any]]
    ) -> Iterator[Split]:
        for target in self._open:
            refused: dict[tuple[Kind, str], int] = {}
            out: set[int] = set()
            for number in speaking:
                event = taken[number][1]
                verdict = judge_decoded(event, decoded[number], target.stage)
                if isinstance(verdict, Discard):
                    out.add(number)
                    _count(refused, event, verdict)
            if out:
                yield target.lane, [pair for number, pair in enumerate(taken) if number not in out], refused
            else:
                yield target.lane, taken, NOTHING_REFUSED

    def _judge_choosy(
        self, taken: Taken, decoded: dict[int, Mapping[str, Any]], alone_at: int | None
    ) -> Iterator[Split]:
        kept: dict[int, list[tuple[int, AcceptedEvent]]] = {}
        refused: dict[int, dict[tuple[Kind, str], int]] = {}
        looked_at: dict[int, int] = {}
        for number, (place, event) in enumerate(taken):
            for candidate in self._candidates(event):
                target = self._choosy[candidate]
                content = decoded.get(number)
                if content is None:
                    content = decoded[number] = decode_event(event.body)
                verdict = judge_decoded(event, content, target.stage)
                looked_at[candidate] = looked_at.get(candidate, 0) + 1
                if isinstance(verdict, Discard):
                    _count(refused.setdefault(candidate, {}), event, verdict)
                else:
                    kept.setdefault(candidate, []).append((place, verdict))
        everything: Refused = {(self._rest, FILTERED_BY_RULES): len(taken)}
        reason, events = (self._rest, FILTERED_AT_DESTINATION, FILTERED_BY_RULES), len(taken)
        for candidate, target in enumerate(self._choosy):
            looked = looked_at.get(candidate)
            if looked is None:
                if alone_at is not None:
                    target.lane.intake.pass_over(alone_at, reason, events)
                else:
                    yield target.lane, (), everything
                continue
            counts = refused.get(candidate, {})
            if looked < len(taken):
                counts[self._rest, FILTERED_BY_RULES] = len(taken) - looked
            yield target.lane, kept.get(candidate, ()), counts

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


def _count(refused: dict[tuple[Kind, str], int], event: AcceptedEvent, verdict: Discard) -> None:
    key = ((event.source, event.type, event.name, event.app_version), verdict.reason)
    refused[key] = refused.get(key, 0) + 1
