"""Why did this event not arrive? The story of one messageId, from ingest to each destination.

What is known, and where from: the logs (what ingest took or refused, what the source stage made of it), the archive
when the log has forgotten the event, and the state: retry rows, noted attempts, lanes' marks, bulk batches, intervals.
The pure stages are run once more: they tell what was changed, and which of the events that a lane has settled without
any note of an attempt it filtered; the others were delivered at the first attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import msgspec

from trunkline.archive.blocked_reader import BlockedReader
from trunkline.archive.reader import ArchiveReader
from trunkline.log.base import EventLog
from trunkline.log.records import AcceptedEvent, BlockedEvent
from trunkline.observe.endings import Ending, Facts, endings_of, told_by_attempts
from trunkline.observe.retrace import FORWARDED, SOURCE_STAGE, LaneVerdict, Retracer, Step, forwarded_event
from trunkline.observe.trace import Accepted, Blocked, Received, Refused, Trace, report_of, trace
from trunkline.observe.wording import duration_text, violation_text
from trunkline.replay.model import ReplaySpec
from trunkline.spec.delivery_codes import text_of
from trunkline.spec.outcomes import DUPLICATE, OBJECT
from trunkline.spec.timestamps import parse_timestamp
from trunkline.state.base import StateStore, position_of

ArrivalStatus = Literal["refused", "waiting", "discarded", "accepted"]
_SKEW_TOLD_US: Final = 1_000_000
INGEST: Final = "ingest"
DEDUPE: Final = "dedupe"
_REPORTS_SHOWN: Final = 5


@dataclass(slots=True)
class Arrival:
    """One time that the event came to a source; one that was forwarded came to two. ``place`` is where it stands in the
    accepted log, ``snapshot`` the version of the workspace that was in force then. ``body`` is the event as it was
    accepted, as it was ingested if it was not, or what is left of a refused one."""

    status: ArrivalStatus
    source: str
    received_at_ms: int
    type: str
    name: str
    body: bytes
    partition: str = ""
    place: int | None = None
    snapshot: str = ""
    steps: list[Step] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Looked:
    """Where was searched. ``log_since_ms`` None: the log is empty; ``archive`` empty: it was not asked, else what it
    is."""

    log_since_ms: int | None
    log_bytes: int
    archive: str = ""


@dataclass(slots=True)
class Story:
    """``leftovers``: what destinations still know of an event that neither log nor archive holds any more."""

    message_id: str
    arrivals: list[Arrival]
    leftovers: list[Ending]
    looked: Looked

    @property
    def known(self) -> bool:
        return bool(self.arrivals or self.leftovers)


def explain(
    message_id: str,
    log: EventLog,
    store: StateStore | None,
    facts: Facts,
    *,
    archive: ArchiveReader | None = None,
    blocked_archive: BlockedReader | None = None,
    archive_name: str = "",
    replays: Sequence[ReplaySpec] = (),
    retracer: Retracer | None = None,
) -> Story:
    """Search and conclude. The logs are read before the state; ``store`` None: no worker has run here yet.

    Raises LogError, RecordError, ArchiveError, StateError.
    """
    retracer = retracer or Retracer(current=facts.snapshot)
    found = trace(log, message_id)
    arrivals = [_refused(item) for item in found.refused]
    arrivals += [_received(item, found, retracer) for item in found.received]
    arrivals += _without_ingested(found, retracer)
    asked = ""
    if blocked_archive is not None and not found.accepted and not found.blocked:
        asked = archive_name
        arrivals += _archived_blocked(blocked_archive, message_id, retracer)
    if archive is not None and not found.accepted:
        asked = archive_name
        arrivals += _archived(archive, message_id)
    arrivals.sort(key=lambda arrival: arrival.received_at_ms)
    leftovers: list[Ending] = []
    if store is not None:
        facts.read_state(store)
        for arrival in arrivals:
            if arrival.place is not None and arrival.type != OBJECT:
                arrival.endings = endings_of(
                    store,
                    facts,
                    message_id,
                    source=arrival.source,
                    received_at_ms=arrival.received_at_ms,
                    partition=arrival.partition,
                    place=arrival.place,
                    judge=_judge_of(retracer, message_id, arrival),
                )
        told = {ending.destination for arrival in arrivals for ending in arrival.endings}
        leftovers = [ending for ending in told_by_attempts(store, facts, message_id) if ending.destination not in told]
    for arrival in arrivals:
        if arrival.status == "accepted":
            _tell_replays(arrival, leftovers, replays)
    return Story(message_id, arrivals, leftovers, Looked(found.since_ms, found.searched_bytes, asked))


def _judge_of(retracer: Retracer, message_id: str, arrival: Arrival) -> Callable[[str], LaneVerdict | None]:
    event = AcceptedEvent(arrival.source, arrival.received_at_ms, message_id, arrival.type, arrival.name, arrival.body)
    return lambda slug: retracer.judge(arrival.snapshot, slug, event)


def _archived(archive: ArchiveReader, message_id: str) -> list[Arrival]:
    held = archive.find(message_id)
    if held is None:
        return []
    step = Step(SOURCE_STAGE, True, "Accepted; the log has forgotten it, the archive holds it.")
    return [
        Arrival(
            "accepted",
            held.source,
            held.received_at_ms,
            held.type,
            held.name,
            held.body,
            held.partition,
            held.place,
            steps=[step],
        )
    ]


def _archived_blocked(archive: BlockedReader, message_id: str, retracer: Retracer) -> list[Arrival]:
    arrivals = []
    for event in archive.find(message_id):
        step = retracer.blocked("", event)
        step = replace(step, text=f"{step.text} The log has forgotten it, the archive of blocked events holds it.")
        arrivals.append(_blocked_arrival(event, [step]))
    return arrivals


def _blocked_arrival(event: BlockedEvent, steps: list[Step]) -> Arrival:
    return Arrival("discarded", event.source, event.received_at_ms, event.type, event.name, event.body, steps=steps)


def _refused(item: Refused) -> Arrival:
    text = text_of(item.code)
    step = Step(INGEST, False, f"Refused as {item.code}: {text.meaning}", text.mend)
    return Arrival("refused", item.source, item.at_ms, item.type, "", item.excerpt, steps=[step])


def _received(item: Received, found: Trace, retracer: Retracer) -> Arrival:
    event = item.event
    taken = f"Taken and durable.{_changes(item)}"
    steps = [Step(INGEST, True, taken)]
    arrival = Arrival("waiting", item.source, item.at_ms, event.type, event.name, event.body, steps=steps)
    if item.waits:
        steps.append(
            Step(
                SOURCE_STAGE,
                False,
                "Not reached yet: the worker is behind, or does not run.",
                "See that `trunkline serve` runs; its log says why a worker does not start.",
            )
        )
    elif item.accepted is not None:
        accepted = item.accepted
        arrival.status = "accepted"
        arrival.partition, arrival.place, arrival.snapshot = accepted.partition, accepted.place, accepted.snapshot
        arrival.name, arrival.body = accepted.event.name, accepted.event.body
        steps.append(Step(DEDUPE, True, "Its messageId was new."))
        steps += retracer.passed(accepted.snapshot, item.source, event, accepted.event.body)
        steps += _reported(found, accepted.partition, position_of(accepted.place))
    elif item.blocked is not None:
        blocked = item.blocked
        arrival.status = "discarded"
        steps.append(Step(DEDUPE, True, "Its messageId was new."))
        steps.append(retracer.blocked(blocked.snapshot, blocked.event))
        steps += _reported(found, blocked.partition, blocked.position)
        steps += _forwarded_to(found, blocked, retracer)
    else:
        arrival.status = "discarded"
        steps.append(_discarded(item.reasons))
    return arrival


def _reported(found: Trace, partition: str, position: int) -> list[Step]:
    """Which events were made of its violations, in the same envelope."""
    by_source: dict[str, list[str]] = {}
    for item in found.reports:
        if (item.partition, position_of(item.place)) == (partition, position):
            by_source.setdefault(item.event.source, []).append(item.event.message_id)
    steps = []
    for source, ids in by_source.items():
        more = f" and {len(ids) - _REPORTS_SHOWN} more" if len(ids) > _REPORTS_SHOWN else ""
        shown = ", ".join(ids[:_REPORTS_SHOWN])
        steps.append(Step(FORWARDED, True, f"Its violations went to source {source} as events: {shown}{more}."))
    return steps


def _forwarded_to(found: Trace, blocked: Blocked, retracer: Retracer) -> list[Step]:
    """Where a blocked event came in again, in the same envelope."""
    came = [item.event.source for item in found.accepted if _is_of(blocked, item)]
    came += [item.event.source for item in found.blocked if item is not blocked and _is_of(blocked, item)]
    if not came:
        ended = retracer.ended_at_target(blocked.snapshot, blocked.event)
        return [] if ended is None else [ended]
    return [
        Step(FORWARDED, True, f"Forwarded to source {source}, as blocked events of this one are.") for source in came
    ]


def _is_of(blocked: Blocked, other: Accepted | Blocked) -> bool:
    """Whether they are the same event, at two sources."""
    position = other.position if isinstance(other, Blocked) else position_of(other.place)
    same_step = (other.partition, position) == (blocked.partition, blocked.position)
    return same_step and other.event.source != blocked.event.source


class _Times(msgspec.Struct):
    timestamp: object = None
    originalTimestamp: object = None


def _changes(item: Received) -> str:
    """What ingest changed, as far as the event shows it."""
    said = ""
    if not item.event.has_own_id:
        said += " It came without a messageId, so it got this one."
    times = msgspec.json.decode(item.event.body, type=_Times)
    at_us = parse_timestamp(times.timestamp) if isinstance(times.timestamp, str) else None
    before_us = parse_timestamp(times.originalTimestamp) if isinstance(times.originalTimestamp, str) else None
    if at_us is not None and before_us is not None and abs(at_us - before_us) >= _SKEW_TOLD_US:
        way = "back" if at_us < before_us else "forward"
        said += f" Its timestamp was put {way} by {duration_text(abs(at_us - before_us) / 1000)}: the client's clock."
    return said


def _discarded(reasons: Sequence[str]) -> Step:
    if tuple(reasons) == (DUPLICATE,):
        return Step(DEDUPE, False, f"Discarded as {DUPLICATE}: {text_of(DUPLICATE).meaning}", text_of(DUPLICATE).mend)
    if len(reasons) == 1:
        text = text_of(reasons[0])
        return Step(SOURCE_STAGE, False, f"Discarded as {reasons[0]}: {text.meaning}", text.mend)
    among = f" for one of these reasons: {', '.join(reasons)}" if reasons else ""
    return Step(SOURCE_STAGE, False, f"Discarded{among}.", "See the reasons' texts with `trunkline deliveries`.")


def _without_ingested(found: Trace, retracer: Retracer) -> list[Arrival]:
    """Events that came from another source, or were made here, and those whose ingested record is gone."""
    told = [item.accepted for item in found.received] + [item.blocked for item in found.received]
    arrivals = []
    for item in found.accepted:
        if item in told:
            continue
        event = item.event
        steps = _origin(found, item, retracer) or [Step(SOURCE_STAGE, True, "Accepted.")]
        arrivals.append(
            Arrival(
                "accepted",
                event.source,
                event.received_at_ms,
                event.type,
                event.name,
                event.body,
                item.partition,
                item.place,
                item.snapshot,
                steps,
            )
        )
    for stopped in found.blocked:
        if stopped not in told:
            before = _blocked_before(found, stopped)
            steps = _came_from(before) if before is not None else []
            steps.append(retracer.blocked(stopped.snapshot, stopped.event, forwarded=before is not None))
            if before is None:
                steps += _forwarded_to(found, stopped, retracer)
            arrivals.append(_blocked_arrival(stopped.event, steps))
    return arrivals


def _origin(found: Trace, item: Accepted, retracer: Retracer) -> list[Step]:
    """Why it is at this source, if ingest did not bring it there."""
    report = report_of(item.event)
    if report is not None:
        made = f"Made of a violation of event {report.event_message_id} of source {report.source_slug}"
        said = violation_text(made, report.violation_field, report.violation_description)
        return [Step(FORWARDED, True, f"{said}.".replace("..", "."))]
    before = _blocked_before(found, item)
    if before is None:
        return []
    logged = forwarded_event(before.event)
    passed = retracer.passed(item.snapshot, item.event.source, logged, item.event.body, forwarded=True)
    return _came_from(before) + passed


def _blocked_before(found: Trace, item: Accepted | Blocked) -> Blocked | None:
    """The same event as it was blocked at the source that it was forwarded from: that one comes first."""
    for blocked in found.blocked:
        if blocked is item:
            return None
        if _is_of(blocked, item):
            return blocked
    return None


def _came_from(before: Blocked) -> list[Step]:
    event = before.event
    text = f"Blocked at source {event.source} as {event.reason}, and forwarded. No tracking plan looks at it again."
    return [Step(FORWARDED, True, text)]


def _tell_replays(arrival: Arrival, leftovers: Sequence[Ending], replays: Sequence[ReplaySpec]) -> None:
    """Which replays hold the event: one that brought it at once leaves no note."""
    noted = {ending.destination for ending in leftovers}
    for spec in replays:
        if spec.key not in noted and _holds(spec, arrival):
            wanted = {
                "run": "was or will be",
                "pause": "was, or will be once it is resumed,",
                "cancel": "may have been",
            }
            text = f"It {wanted[spec.wanted]} sent to {spec.destination} by this replay; no failed attempt is noted."
            ending = Ending(spec.key, "replayed", text, f"See how far it is: trunkline replay show {spec.id}")
            arrival.endings.append(ending)


def _holds(spec: ReplaySpec, arrival: Arrival) -> bool:
    at_ms, place = arrival.received_at_ms, arrival.place
    return (
        arrival.source in spec.sources
        and at_ms < spec.created_at_ms
        and (spec.since_ms is None or spec.since_ms <= at_ms)
        and (spec.until_ms is None or at_ms < spec.until_ms)
        and (not spec.types or arrival.type in spec.types)
        and (not spec.names or arrival.name in spec.names)
        and (
            not spec.ranges
            or any(
                one.source == arrival.source and place is not None and one.first <= place < one.end
                for one in spec.ranges
            )
        )
    )
