"""One workspace in a rehearsal: what it makes of an event, from its source's stages to each destination's door."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from random import Random
from typing import Any, Final

import msgspec

from trunkline.delivery.forwarding import Forwarder, forwarder_of
from trunkline.delivery.gates import gate_of
from trunkline.delivery.judgement import decode_event, judge_decoded
from trunkline.delivery.programs import source_program_of
from trunkline.log.records import AcceptedEvent, LoggedEvent
from trunkline.pipeline.gate import TAKES_EVERYTHING, GatedType, GateStage
from trunkline.pipeline.source_program import SourceProgram, SourceResult
from trunkline.spec.codes import SOURCE_DISABLED
from trunkline.spec.discards import Discard
from trunkline.workspace.model import Destination, Snapshot

NO_SOURCE: Final = Discard("no_source")
"""The workspace does not hold the event's source."""
DISABLED: Final = Discard(SOURCE_DISABLED)
UNREADABLE: Final = Discard("unreadable_event")
"""A stage could not read the event."""
_FRACTION: Final = 1 << 53


class Given(msgspec.Struct, frozen=True, gc=False):
    """A recorded event. ``accepted``: the source stages are behind it, and only what they made of it is known; such an
    event begins at stage 8. ``forwards``: whether what a source forwards of it is to be made anew; if not, it comes as
    an event of its own."""

    source: str
    received_at_ms: int
    event: LoggedEvent
    accepted: bool = False
    forwards: bool = True


class Entry(msgspec.Struct, gc=False):
    """An event at a source: as it came, what the source's stages made of it, and by destination what would be sent, or
    why nothing is."""

    event: LoggedEvent
    result: LoggedEvent | Discard
    lanes: dict[str, bytes | Discard]


Passage = Mapping[tuple[str, str], Entry]
"""What became of one event, and of what was forwarded of it: by source and messageId."""


class Draws(Random):
    """Random numbers that are a function of the event and the destination: both workspaces of a rehearsal draw the
    same ones, so a sample that is the same keeps the same events."""

    def __init__(self) -> None:
        super().__init__(0)
        self.message_id = ""
        self.destination = ""
        self.drawn = 0

    def aim(self, message_id: str, destination: str) -> None:
        """The next numbers are those of this event there."""
        self.message_id = message_id
        self.destination = destination
        self.drawn = 0

    def random(self) -> float:
        self.drawn += 1
        text = f"{self.drawn}\0{self.destination}\0{self.message_id}"
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return (int.from_bytes(digest) >> 11) / _FRACTION


class World:
    """A workspace, compiled. Not for several threads."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        type_of: Callable[[Destination], GatedType] = lambda destination: TAKES_EVERYTHING,
        destinations: Collection[str] | None = None,
    ) -> None:
        """``type_of``: a destination's type. ``destinations``: only these are looked at; None: all."""
        self.snapshot = snapshot
        self._draws = Draws()
        self._programs: dict[str, SourceProgram] = {}
        self._forwarders: dict[str, Forwarder | None] = {}
        self._lanes: dict[str, list[tuple[str, GateStage]]] = {}
        self.connections: Mapping[str, frozenset[str]] = {
            source: frozenset(
                item.slug
                for item in snapshot.destinations.values()
                if item.enabled and source in item.sources and (destinations is None or item.slug in destinations)
            )
            for source in snapshot.sources
        }
        """Enabled destinations by source."""
        for source, slugs in self.connections.items():
            self._programs[source] = source_program_of(snapshot, source)
            self._forwarders[source] = forwarder_of(snapshot, source)
            self._lanes[source] = []
            for slug in sorted(slugs):
                destination = snapshot.destinations[slug]
                stage = gate_of(snapshot, destination, source, self._draws, type_of(destination))
                self._lanes[source].append((slug, stage))

    def run(self, given: Given) -> Passage:
        """Take an event as far as a destination's door. Never raises."""
        passage: dict[tuple[str, str], Entry] = {}
        source, event = given.source, given.event
        if given.accepted:
            discard = self._refuses(source)
            self._enter(passage, source, event, event if discard is None else discard, given.received_at_ms)
            return passage
        result = self._run_stages(passage, source, event, given.received_at_ms, forwarded=False)
        forwarder = self._forwarders.get(source)
        if forwarder is not None and result is not None and given.forwards:
            for one in forwarder.forward(event, result, given.received_at_ms):
                self._run_stages(passage, one.to, one.event, given.received_at_ms, forwarded=True)
        return passage

    def _refuses(self, source: str) -> Discard | None:
        definition = self.snapshot.sources.get(source)
        if definition is None:
            return NO_SOURCE
        return None if definition.enabled else DISABLED

    def _run_stages(
        self,
        passage: dict[tuple[str, str], Entry],
        source: str,
        event: LoggedEvent,
        received_at_ms: int,
        *,
        forwarded: bool,
    ) -> SourceResult | None:
        """None when the stages were not run to their end."""
        discard = self._refuses(source)
        result = None
        if discard is None:
            program = self._programs[source]
            try:
                passes = program.passes(event) is not None
                result = SourceResult(event) if passes else program.run(event, forwarded=forwarded)
            except Exception:  # noqa: BLE001 - a stage's bug ends no rehearsal: live, such an event is discarded too
                discard = UNREADABLE
        self._enter(passage, source, event, discard or (result.event if result else UNREADABLE), received_at_ms)
        return result

    def _enter(
        self,
        passage: dict[tuple[str, str], Entry],
        source: str,
        event: LoggedEvent,
        result: LoggedEvent | Discard,
        received_at_ms: int,
    ) -> None:
        entry = passage[source, event.message_id] = Entry(event, result, {})
        if isinstance(result, Discard):
            return
        body = result.body
        decoded: Mapping[str, Any] | None = None
        accepted: AcceptedEvent | None = None
        for slug, stage in self._lanes[source]:
            if not stage.needs(result.type, result.name, body):
                entry.lanes[slug] = body
                continue
            if decoded is None or accepted is None:
                decoded = decode_event(body)
                accepted = AcceptedEvent(source, received_at_ms, result.message_id, result.type, result.name, body)
            self._draws.aim(result.message_id, slug)
            verdict = judge_decoded(accepted, decoded, stage)
            entry.lanes[slug] = verdict if isinstance(verdict, Discard) else verdict.body
