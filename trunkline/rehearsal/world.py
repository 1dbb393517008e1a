"""One workspace in a rehearsal: what it makes of an event, from its source's stages to each destination's door."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from random import Random
from typing import Any, Final

import msgspec

from trunkline.delivery.gates import gate_of
from trunkline.delivery.judgement import decode_event, judge_decoded
from trunkline.delivery.programs import source_program_of
from trunkline.log.records import AcceptedEvent, LoggedEvent
from trunkline.pipeline.gate import TAKES_EVERYTHING, GatedType, GateStage
from trunkline.pipeline.source_program import SourceProgram
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
    event begins at stage 8."""

    source: str
    received_at_ms: int
    event: LoggedEvent
    accepted: bool = False


class Passage(msgspec.Struct, gc=False):
    """What became of one event.

    ``entered``: by source what came out of its stages, or why nothing did; a source that the event was forwarded to is
    there too. ``lanes``: by source and destination what would be sent, or why nothing is.
    """

    entered: dict[str, LoggedEvent | Discard]
    lanes: dict[tuple[str, str], bytes | Discard]


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
            self._lanes[source] = []
            for slug in sorted(slugs):
                destination = snapshot.destinations[slug]
                stage = gate_of(snapshot, destination, source, self._draws, type_of(destination))
                self._lanes[source].append((slug, stage))

    def run(self, given: Given) -> Passage:
        """Take an event as far as a destination's door. Never raises."""
        passage = Passage({}, {})
        source, event = given.source, given.event
        definition = self.snapshot.sources.get(source)
        if definition is None or not definition.enabled:
            passage.entered[source] = NO_SOURCE if definition is None else DISABLED
            return passage
        if given.accepted:
            self._enter(passage, source, event, given.received_at_ms)
            return passage
        stage = self._pass_source(passage, source, event, given.received_at_ms, forwarded=False)
        if stage == "plan":
            target = self.snapshot.schema_configuration_of(source).forward_blocked_events_to
            receiving = self.snapshot.sources.get(target)
            if receiving is not None and receiving.enabled and target != source:
                self._pass_source(passage, target, event, given.received_at_ms, forwarded=True)
        return passage

    def _pass_source(
        self, passage: Passage, source: str, event: LoggedEvent, received_at_ms: int, *, forwarded: bool
    ) -> str:
        """The stage that discarded it, empty for none."""
        try:
            result = self._programs[source].run(event, forwarded=forwarded)
        except (msgspec.MsgspecError, RecursionError):
            passage.entered[source] = UNREADABLE
            return ""
        if isinstance(result.event, Discard):
            passage.entered[source] = result.event
            return result.stage
        self._enter(passage, source, result.event, received_at_ms)
        return ""

    def _enter(self, passage: Passage, source: str, event: LoggedEvent, received_at_ms: int) -> None:
        passage.entered[source] = event
        body = event.body
        decoded: Mapping[str, Any] | None = None
        accepted: AcceptedEvent | None = None
        for slug, stage in self._lanes[source]:
            if not stage.needs(event.type, event.name, body):
                passage.lanes[source, slug] = body
                continue
            if decoded is None or accepted is None:
                decoded = decode_event(body)
                accepted = AcceptedEvent(source, received_at_ms, event.message_id, event.type, event.name, body)
            self._draws.aim(event.message_id, slug)
            verdict = judge_decoded(accepted, decoded, stage)
            passage.lanes[source, slug] = verdict if isinstance(verdict, Discard) else verdict.body
