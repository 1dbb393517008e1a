"""Why did this event not arrive? The story of one messageId, from ingest to each destination.

What is known, and where from: the logs (what ingest took or refused, what the source stage made of it), the archive
when the log has forgotten the event, and the state: retry rows, noted attempts, lanes' marks, bulk batches, intervals.
An event that a lane has settled without any note of an attempt was delivered at its first attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from trunkline.archive.reader import ArchiveReader
from trunkline.log.base import EventLog
from trunkline.observe.endings import Ending, Facts, endings_of, told_by_attempts
from trunkline.observe.trace import Received, Refused, Trace, trace
from trunkline.observe.wording import duration_text
from trunkline.replay.model import ReplaySpec
from trunkline.spec.delivery_codes import text_of
from trunkline.spec.outcomes import DUPLICATE, OBJECT
from trunkline.spec.timestamps import parse_timestamp
from trunkline.state.base import StateStore

ArrivalStatus = Literal["refused", "waiting", "discarded", "accepted"]
_SKEW_TOLD_US: Final = 1_000_000
INGEST: Final = "ingest"
DEDUPE: Final = "dedupe"
SOURCE_STAGE: Final = "source stage"


@dataclass(frozen=True, slots=True)
class Step:
    """One stage that the event came to, and what it made of it: sentences. ``passed`` False: it ended there."""

    stage: str
    passed: bool
    text: str
    mend: str = ""


@dataclass(slots=True)
class Arrival:
    """One time that the event came. ``place`` is where it stands in the accepted log. ``body`` is the event as it was
    accepted, or what is left of a refused one."""

    status: ArrivalStatus
    source: str
    received_at_ms: int
    type: str
    name: str
    body: bytes
    partition: str = ""
    place: int | None = None
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
    archive_name: str = "",
    replays: Sequence[ReplaySpec] = (),
) -> Story:
    """Search and conclude. The logs are read before the state; ``store`` None: no worker has run here yet.

    Raises LogError, RecordError, ArchiveError, StateError.
    """
    found = trace(log, message_id)
    arrivals = [_refused(item) for item in found.refused] + [_received(item) for item in found.received]
    arrivals += _without_ingested(found)
    asked = ""
    if archive is not None and not any(arrival.status == "accepted" for arrival in arrivals):
        asked = archive_name
        archived = archive.find(message_id)
        if archived is not None:
            step = Step(SOURCE_STAGE, True, "Accepted; the log has forgotten it, the archive holds it.")
            arrivals.append(
                Arrival(
                    "accepted",
                    archived.source,
                    archived.received_at_ms,
                    archived.type,
                    archived.name,
                    archived.body,
                    archived.partition,
                    archived.place,
                    [step],
                )
            )
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
                )
        told = {ending.destination for arrival in arrivals for ending in arrival.endings}
        leftovers = [ending for ending in told_by_attempts(store, facts, message_id) if ending.destination not in told]
    for arrival in arrivals:
        if arrival.status == "accepted":
            _tell_replays(arrival, leftovers, replays)
    return Story(message_id, arrivals, leftovers, Looked(found.since_ms, found.searched_bytes, asked))


def _refused(item: Refused) -> Arrival:
    text = text_of(item.code)
    step = Step(INGEST, False, f"Refused as {item.code}: {text.meaning}", text.mend)
    return Arrival("refused", item.source, item.at_ms, item.type, "", item.excerpt, steps=[step])


def _received(item: Received) -> Arrival:
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
    elif item.place is not None:
        arrival.status = "accepted"
        arrival.partition, arrival.place = item.accepted_in, item.place
        steps.append(Step(DEDUPE, True, "Its messageId was new."))
    else:
        arrival.status = "discarded"
        steps.append(_discarded(item.reasons))
    return arrival


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


def _without_ingested(found: Trace) -> list[Arrival]:
    """Accepted events whose ingested record is gone."""
    told = {(item.accepted_in, item.place) for item in found.received}
    arrivals = []
    for item in found.accepted:
        if (item.partition, item.place) in told:
            continue
        event = item.event
        step = Step(SOURCE_STAGE, True, "Accepted.")
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
                [step],
            )
        )
    return arrivals


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
