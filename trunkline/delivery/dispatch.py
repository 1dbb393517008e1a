"""Hands accepted envelopes to lanes, and keeps the lanes in step with the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import SystemRandom

from trunkline.delivery.accepted import EnvelopeReader, PlacedEnvelope
from trunkline.delivery.feed import Feed, LogFeed
from trunkline.delivery.gate import GateSettings
from trunkline.delivery.gates import gate_of
from trunkline.delivery.judgement import Kind
from trunkline.delivery.lane import Lane, LaneSettings
from trunkline.delivery.retry import RetryPolicy
from trunkline.delivery.route import SourceRoute
from trunkline.destinations.kit import Sender
from trunkline.log.records import AcceptedEvent
from trunkline.pipeline.gate import TAKES_EVERYTHING, GatedType, GateStage
from trunkline.spec.outcomes import OBJECT
from trunkline.state.base import BulkRow, Changes, Interval, LaneState, RetryRow, place_of
from trunkline.workspace.model import DeliveryOptions, Destination, Snapshot

DISABLED = "disabled"

Connection = tuple[str, str]
"""(destination, source)."""


def connections_of(snapshot: Snapshot) -> frozenset[Connection]:
    """The connections that are open under a snapshot."""
    return frozenset(
        (destination.slug, source)
        for destination in snapshot.destinations.values()
        if destination.enabled
        for source in destination.sources
    )


@dataclass(frozen=True, slots=True)
class DeliveryDefaults:
    """What holds for a destination that says nothing of its own."""

    concurrency: int = 16
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    def policy_of(self, options: DeliveryOptions) -> RetryPolicy:
        if options.retry_window_s is None and options.retry_attempts is None:
            return self.policy
        return RetryPolicy.bounded(options.retry_window_s, options.retry_attempts)

    def gate_of(self, options: DeliveryOptions) -> GateSettings:
        return GateSettings(options.concurrency or self.concurrency, options.requests_per_s, options.events_per_s)


class Dispatcher:
    """Owns the lanes. A source that no lane is connected to costs one dictionary look-up an envelope."""

    def __init__(
        self,
        make_lane: Callable[[str, Feed], Lane],
        sender_factory: Callable[[Destination], Callable[[], Sender]],
        open_reader: Callable[[int], EnvelopeReader],
        position: int,
        defaults: DeliveryDefaults,
        type_of: Callable[[Destination], GatedType] = lambda destination: TAKES_EVERYTHING,
    ) -> None:
        """``position``: envelopes below it have been dispatched (or belong to lanes that are behind). ``type_of``: what
        a destination's type takes."""
        self._make = make_lane
        self._sender_factory = sender_factory
        self._open_reader = open_reader
        self._defaults = defaults
        self._type_of = type_of
        self.position = position
        self.lanes: dict[str, Lane] = {}
        self._feeds: dict[str, LogFeed] = {}
        self._definitions: dict[str, Destination] = {}
        self._routes: dict[str, SourceRoute] = {}
        self._stages: dict[str, Callable[[str], GateStage]] = {}
        self._replay_stages: dict[str, Callable[[str], GateStage]] = {}
        self._random = SystemRandom()

    def adopt(
        self,
        slug: str,
        intervals: Iterable[Interval],
        state: LaneState | None,
        rows: Iterable[RetryRow],
        bulk: Iterable[BulkRow] = (),
    ) -> None:
        """Make the lane that an earlier run left behind. It is held until a snapshot is activated."""
        lane = self._make_lane(slug)
        lane.hold(DISABLED)
        self._feeds[slug].set_intervals(intervals)
        lane.restore(state, rows, bulk)

    def _make_lane(self, slug: str) -> Lane:
        feed = self._feeds[slug] = LogFeed(self._open_reader, lambda: self.position)
        lane = self.lanes[slug] = self._make(slug, feed)
        lane.gate.live = lane
        return lane

    def sender_of(self, destination: Destination) -> Callable[[], Sender]:
        """How a lane opens a sender to the destination."""
        return self._sender_factory(destination)

    def policy_of(self, destination: Destination) -> RetryPolicy:
        return self._defaults.policy_of(destination.delivery)

    def activate(self, snapshot: Snapshot, intervals: Iterable[Interval], changes: Changes) -> None:
        """Make, mend, hold, release and delete lanes so that they fit the snapshot.

        ``intervals`` are all intervals, those that the snapshot opens and closes included.
        """
        by_destination: dict[str, list[Interval]] = {}
        for interval in intervals:
            by_destination.setdefault(interval.destination, []).append(interval)
        found = snapshot.destinations
        self._stages = {slug: self._compile(snapshot, found[slug]) for slug in found}
        self._replay_stages = {slug: self._compile(snapshot, found[slug], is_replay=True) for slug in found}
        for slug in [slug for slug in self.lanes if slug not in snapshot.destinations]:
            self.lanes.pop(slug).delete(changes)
            self._feeds.pop(slug)
            self._definitions.pop(slug, None)
        for slug, destination in snapshot.destinations.items():
            lane = self.lanes.get(slug)
            if lane is None:
                lane = self._make_lane(slug)
            if self._definitions.get(slug) != destination:
                lane.replace_sender(self._sender_factory(destination))
                lane.configure(LaneSettings(self._defaults.policy_of(destination.delivery)))
                lane.gate.configure(self._defaults.gate_of(destination.delivery))
                lane.gate.breaker.hasten()  # it may be mended
                self._definitions[slug] = destination
            self._feeds[slug].set_intervals(by_destination.get(slug, ()))
            # Before it is released: what it reads must not pass unjudged.
            lane.intake.judge_by(self._stages[slug])
            if destination.enabled:
                lane.release(DISABLED)
            else:
                lane.hold(DISABLED)
        self._set_routes(snapshot)

    def _set_routes(self, snapshot: Snapshot) -> None:
        by_source: dict[str, list[tuple[Lane, GateStage]]] = {}
        for slug, source in sorted(connections_of(snapshot)):
            by_source.setdefault(source, []).append((self.lanes[slug], self._stages[slug](source)))
        self._routes = {source: SourceRoute(source, lanes) for source, lanes in by_source.items()}

    def stages_of(self, slug: str) -> Callable[[str], GateStage]:
        """The pure stages of a destination of the snapshot in force for replayed events, by source."""
        return self._replay_stages[slug]

    def _compile(
        self, snapshot: Snapshot, destination: Destination, *, is_replay: bool = False
    ) -> Callable[[str], GateStage]:
        """Compiled when first asked for. A source that is not connected any more may still have events on their way."""
        compiled: dict[str, GateStage] = {}
        kind = self._type_of(destination)

        def stage_of(source: str) -> GateStage:
            stage = compiled.get(source)
            if stage is None:
                stage = compiled[source] = gate_of(
                    snapshot, destination, source, self._random, kind, is_replay=is_replay
                )
            return stage

        return stage_of

    def dispatch(self, placed: PlacedEnvelope) -> None:
        """Hand the envelope's events to the lanes that are connected to their sources and keep up."""
        by_source: dict[str, list[tuple[int, AcceptedEvent]]] = {}
        position = placed.position
        routes = self._routes
        for index, event in enumerate(placed.envelope.survivors):
            if event.type != OBJECT and event.source in routes:
                by_source.setdefault(event.source, []).append((place_of(position, index), event))
        self.position = placed.next_position
        if len(by_source) == 1:
            [(source, taken)] = by_source.items()
            for lane, own, refused in routes[source].split(taken, position):
                lane.intake.offer(position, own, refused)
        elif by_source:
            self._dispatch_mixed(position, by_source)

    def _dispatch_mixed(self, position: int, by_source: Mapping[str, list[tuple[int, AcceptedEvent]]]) -> None:
        """A lane with several sources gets its events of the envelope at once, in order."""
        by_lane: dict[Lane, tuple[list[tuple[int, AcceptedEvent]], dict[tuple[Kind, str], int]]] = {}
        for source, taken in by_source.items():
            for lane, own, refused in self._routes[source].split(taken):
                events, counts = by_lane.setdefault(lane, ([], {}))
                events += own
                counts.update(refused)  # kinds of different sources are different
        for lane, (events, counts) in by_lane.items():
            events.sort(key=lambda pair: pair[0])
            lane.intake.offer(position, events, counts)
