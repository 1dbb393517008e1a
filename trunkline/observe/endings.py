"""Where one accepted event stands at one destination, told from the state."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from trunkline.observe.lanes import LanesStatus, notes_of
from trunkline.observe.retrace import LaneVerdict
from trunkline.observe.wording import count_text, duration_text, minute_text, time_text
from trunkline.rehearsal.difference import Difference
from trunkline.replay.model import is_replay
from trunkline.spec.delivery_codes import text_of
from trunkline.spec.outcomes import DELIVERED, DESTINATION_DELETED, FAILED, FILTERED_AT_DESTINATION
from trunkline.state.base import (
    ATTEMPTS_KEPT_D,
    ATTEMPTS_PER_DESTINATION,
    RECORD_KEPT_D,
    RETRY,
    Attempt,
    BulkRow,
    DeliveryRecord,
    Interval,
    LaneKey,
    RetryRow,
    Sample,
    State,
    StateStore,
    place_of,
)
from trunkline.workspace.model import Snapshot

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
UNDER_WAY: Final = "attempt under way"
"""The last error of a row whose attempt has not ended."""

Status = Literal["delivered", "failed", "filtered", "waiting", "not connected", "replayed", "unclear"]


@dataclass(slots=True)
class Ending:
    """``destination`` is a slug, or a replay's key. ``text`` says what became of the event, ``mend`` what to do;
    ``command`` sends it again."""

    destination: str
    status: Status
    text: str
    mend: str = ""
    command: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    sample: Sample | None = None
    notes: list[str] = field(default_factory=list)
    changes: tuple[Difference, ...] = ()
    """What filters and transformations of the destination changed in what it gets."""


@dataclass(slots=True)
class Facts:
    """What is known beside the event. ``snapshot`` None: the workspace is not known; ``lanes`` None: the worker does
    not run. ``data_dir`` goes into commands unless it is empty."""

    now_ms: int
    snapshot: Snapshot | None = None
    lanes: LanesStatus | None = None
    data_dir: str = ""
    state: State = field(default_factory=State.empty)
    _losses: dict[int, dict[tuple[str, str], int]] = field(default_factory=dict)

    def losses_at(self, store: DeliveryRecord, minute: int) -> Mapping[tuple[str, str], int]:
        """Failed events that were received in a minute, by destination and source; read once for all destinations."""
        found = self._losses.get(minute)
        if found is None:
            found = self._losses[minute] = {}
            for key, count in store.losses(minute * MINUTE_MS).items():
                if key.received_minute == minute:
                    found[key.destination, key.source] = found.get((key.destination, key.source), 0) + count
        return found

    def read_state(self, store: StateStore) -> None:
        """After the logs, and before rows and attempts: so an event that moves meanwhile is never lost sight of."""
        self.state = store.read()

    def replay_command(self, destination: str, source: str, *window: str) -> str:
        words = ["trunkline", "replay", "start", "--to", destination, "--source", source, *window]
        if self.data_dir:
            words += ["--data-dir", self.data_dir]
        return shlex.join(words)


Judge = Callable[[str], LaneVerdict | None]
"""What the stages of a destination, by slug, say to the event; None: it is not known."""


@dataclass(frozen=True, slots=True)
class _Event:
    message_id: str
    source: str
    received_at_ms: int
    partition: str
    place: int
    judge: Judge


def endings_of(
    store: DeliveryRecord,
    facts: Facts,
    message_id: str,
    *,
    source: str,
    received_at_ms: int,
    partition: str,
    place: int,
    judge: Judge = lambda slug: None,
) -> list[Ending]:
    """At every destination that has, or ever had, a connection to the source, by slug. Raises StateError."""
    event = _Event(message_id, source, received_at_ms, partition, place, judge)
    intervals: dict[str, list[Interval]] = {}
    for interval in facts.state.intervals:
        if interval.source == source:
            intervals.setdefault(interval.destination, []).append(interval)
    slugs = set(intervals)
    if facts.snapshot is not None:
        slugs |= {slug for slug, known in facts.snapshot.destinations.items() if source in known.sources}
    rows = [row for row in store.row_of(message_id) if (row.partition, row.place) == (partition, place)]
    endings = []
    for slug in sorted(slugs):
        holding = next((one for one in intervals.get(slug, ()) if one.holds(place)), None)
        if holding is not None:
            own = [row for row in rows if row.destination == slug]
            endings.append(_at_destination(store, facts, event, slug, holding, own))
        elif facts.snapshot is None or _connects(facts.snapshot, slug, source):
            endings.append(_not_connected(facts, event, slug, intervals.get(slug, [])))
    return endings


def told_by_attempts(store: DeliveryRecord, facts: Facts, message_id: str) -> list[Ending]:
    """At destinations and replays that still have a row or noted an attempt, whatever the place. Raises StateError."""
    rows: dict[str, list[RetryRow]] = {}
    for row in store.row_of(message_id):
        rows.setdefault(row.destination, []).append(row)
    attempts: dict[str, list[Attempt]] = {}
    for attempt in store.attempts_of(message_id):
        attempts.setdefault(attempt.destination, []).append(attempt)
    endings = []
    for slug in sorted({*rows, *attempts}):
        own = attempts.get(slug, [])
        if rows.get(slug):
            ending = _row_waits(facts, slug, rows[slug])
        elif own[-1].outcome == RETRY:
            ending = Ending(slug, "unclear", "Its last noted attempt failed and was to be repeated; nothing waits now.")
        else:
            ending = _ended(store, facts, None, own[-1])
        ending.attempts = own
        endings.append(ending)
    return endings


# -- one destination ---------------------------------------------------------------------------------------------------


def _at_destination(
    store: DeliveryRecord, facts: Facts, event: _Event, slug: str, interval: Interval, rows: Sequence[RetryRow]
) -> Ending:
    attempts = store.attempts_at(slug, event.partition, event.place)
    ending = _conclude(store, facts, event, slug, interval, rows, attempts)
    ending.attempts = attempts
    if ending.status not in ("filtered", "unclear"):
        verdict = event.judge(slug)
        if verdict is not None and not verdict.reason:
            ending.changes = verdict.changes
    return ending


def _conclude(
    store: DeliveryRecord,
    facts: Facts,
    event: _Event,
    slug: str,
    interval: Interval,
    rows: Sequence[RetryRow],
    attempts: Sequence[Attempt],
) -> Ending:
    last = attempts[-1] if attempts else None
    if last is not None and last.outcome != RETRY:
        return _ended(store, facts, event, last)
    if rows:
        return _row_waits(facts, slug, rows)
    bulk = _bulk_of(facts.state, event, slug)
    if bulk is not None:
        return _bulk_waits(facts, bulk)
    if not _is_settled(facts.state, event, slug):
        return _in_log(facts, event, slug)
    cancelled = facts.state.lane_books.get(LaneKey(slug, event.source, FAILED, DESTINATION_DELETED), 0)
    if last is not None:
        # It waited for a retry, and the row is gone without another attempt.
        if cancelled:
            return _failed(facts, event, slug, DESTINATION_DELETED)
        return Ending(
            slug, "waiting", "It is between two attempts at this moment.", "Ask again.", notes=_notes(facts, slug)
        )
    return _settled_silently(store, facts, event, slug, cancelled if interval.closed_at_ms is not None else 0)


def _settled_silently(store: DeliveryRecord, facts: Facts, event: _Event, slug: str, cancelled: int) -> Ending:
    """No attempt is noted. So it was filtered, or delivered at the first one, unless notes have been dropped
    meanwhile."""
    verdict = event.judge(slug)
    if verdict is not None and verdict.reason and _filters_so(store, facts, event, slug, verdict.reason):
        return _filtered(slug, verdict)
    lost = facts.losses_at(store, event.received_at_ms // MINUTE_MS).get((slug, event.source), 0)
    old = facts.now_ms - event.received_at_ms > ATTEMPTS_KEPT_D * DAY_MS
    if cancelled:
        text = (
            f"Delivered, or cancelled when the destination was deleted: {count_text(cancelled, 'event')} of this "
            "source were, and which is not kept."
        )
        return Ending(slug, "unclear", text)
    kept = (
        f"Attempts are kept for {ATTEMPTS_KEPT_D} days, {ATTEMPTS_PER_DESTINATION:,} a destination: no more is known."
    )
    if not lost:
        return Ending(slug, "delivered", f"Delivered. {kept}" if old else "Delivered at the first attempt.")
    if not old and _noted_since(store, facts, event, slug) <= ATTEMPTS_PER_DESTINATION:
        return Ending(slug, "delivered", "Delivered at the first attempt.")
    text = f"Delivered or failed: of the events received in that minute {lost:,} failed here. {kept}"
    return Ending(slug, "unclear", text, command=_replay_of(facts, event, slug))


def _filtered(slug: str, verdict: LaneVerdict) -> Ending:
    text = text_of(verdict.reason)
    detail = f" It was {verdict.detail}." if verdict.detail else ""
    said = f"iltered as {verdict.reason}: {text.meaning}{detail}"
    if verdict.doubt:
        return Ending(slug, "unclear", f"Delivered at the first attempt, or f{said} {verdict.doubt}", text.mend)
    return Ending(slug, "filtered", f"F{said}", text.mend)


def _filters_so(store: DeliveryRecord, facts: Facts, event: _Event, slug: str, reason: str) -> bool:
    """Whether the record agrees that events were filtered so since. A destination that was behind may have judged the
    event by a later workspace."""
    if facts.now_ms - event.received_at_ms > RECORD_KEPT_D * DAY_MS:
        return True
    rows = store.record(event.received_at_ms, facts.now_ms + MINUTE_MS, destination=slug, source=event.source)
    return any((row.key.outcome, row.key.reason) == (FILTERED_AT_DESTINATION, reason) for row in rows)


def _noted_since(store: DeliveryRecord, facts: Facts, event: _Event, slug: str) -> int:
    """How many attempts have been noted, at most, since the event was received: as long as they are no more than are
    kept, none of its own was dropped."""
    noted = 0
    for row in store.record(event.received_at_ms, facts.now_ms + MINUTE_MS, destination=slug):
        noted += row.counts.events
        if row.key.outcome == DELIVERED:
            noted -= row.counts.first
    return noted


def _ended(store: DeliveryRecord, facts: Facts, event: _Event | None, last: Attempt) -> Ending:
    slug = last.destination
    if last.outcome == DELIVERED:
        how = "at the first attempt" if last.number == 1 else f"at attempt {last.number}"
        in_bulk = " in a bulk batch" if last.last_place > last.place else ""
        return Ending(slug, "delivered", f"Delivered {how}{in_bulk}, {time_text(last.at_ms)}.")
    if last.outcome == FILTERED_AT_DESTINATION:
        text = text_of(last.reason)
        return Ending(slug, "filtered", f"Filtered as {last.reason}: {text.meaning}", text.mend)
    ending = _failed(facts, event, slug, last.reason, last)
    ending.sample = next((one for one in store.samples(slug, last.reason) if one.message_id == last.message_id), None)
    return ending


def _failed(facts: Facts, event: _Event | None, slug: str, reason: str, last: Attempt | None = None) -> Ending:
    text = text_of(reason)
    tried = f" after {count_text(last.number, 'attempt')}" if last is not None and last.number else ""
    name = reason if reason == text.title else f"{reason} {text.title}".strip()
    ending = Ending(slug, "failed", f"Failed{tried} with {name}: {text.meaning}", text.mend)
    if event is not None and not is_replay(slug):
        ending.command = _replay_of(facts, event, slug)
    return ending


def _replay_of(facts: Facts, event: _Event, slug: str) -> str:
    minute_ms = event.received_at_ms - event.received_at_ms % MINUTE_MS
    window = ("--since", minute_text(minute_ms), "--until", minute_text(minute_ms + MINUTE_MS))
    return facts.replay_command(slug, event.source, *window)


# -- what is still to come ---------------------------------------------------------------------------------------------


def _is_settled(state: State, event: _Event, slug: str) -> bool:
    lane = state.lanes.get((slug, event.partition))
    if lane is not None:
        return lane.is_settled(event.place)
    return event.place < place_of(state.accepted.get(event.partition, 0), 0)


def _in_log(facts: Facts, event: _Event, slug: str) -> Ending:
    if event.place >= place_of(facts.state.accepted.get(event.partition, 0), 0):
        text = "Accepted, and not handed to the destinations yet."
    else:
        text = "Waits in the log for its first attempt, or is under way in it."
    return Ending(slug, "waiting", text, notes=_notes(facts, slug))


def _row_waits(facts: Facts, slug: str, rows: Sequence[RetryRow]) -> Ending:
    row = rows[0]
    if row.last_error == UNDER_WAY:
        text = f"Attempt {row.attempts + 1} has been under way for more than a second."
    else:
        due = row.due_at_ms - facts.now_ms
        when = f"in {duration_text(due)}" if due > 0 else "now"
        reason = row.last_error.partition(" ")[0]
        known = text_of(reason)
        title = known.title if known.title == reason else f"{reason} {known.title}"
        text = (
            f"Waits for attempt {row.attempts + 1}, due {when} ({time_text(row.due_at_ms)}). The last one ended with "
            f"{title}: {known.meaning}"
        )
        return Ending(slug, "waiting", text, known.mend, notes=_notes(facts, slug))
    return Ending(slug, "waiting", text, notes=_notes(facts, slug))


def _bulk_of(state: State, event: _Event, slug: str) -> BulkRow | None:
    for row in state.bulk:
        if (row.destination, row.partition) == (slug, event.partition) and row.place <= event.place < row.end_place:
            return row if event.source in row.events else None
    return None


def _bulk_waits(facts: Facts, row: BulkRow) -> Ending:
    members = count_text(sum(row.events.values()), "event")
    if row.open:
        text = f"In a bulk batch of {members} so far, which is still being filled since {time_text(row.opened_at_ms)}."
        return Ending(row.destination, "waiting", text, notes=_notes(facts, row.destination))
    if not row.attempts:
        text = f"In a bulk batch of {members} that waits for its first attempt."
        return Ending(row.destination, "waiting", text, notes=_notes(facts, row.destination))
    known = text_of(row.last_error.partition(" ")[0])
    text = (
        f"In a bulk batch of {members} that waits for attempt {row.attempts + 1}, due {time_text(row.due_at_ms)}. The "
        f"last one ended with {row.last_error}: {known.meaning}"
    )
    return Ending(row.destination, "waiting", text, known.mend, notes=_notes(facts, row.destination))


def _notes(facts: Facts, slug: str) -> list[str]:
    """Why it waits, as the worker says."""
    if facts.lanes is None or facts.lanes.is_stale(facts.now_ms):
        return ["The worker does not run: start `trunkline serve`. Nothing expires meanwhile."]
    lane = facts.lanes.of(slug)
    return notes_of(lane) if lane is not None else []


# -- not due -----------------------------------------------------------------------------------------------------------


def _connects(snapshot: Snapshot, slug: str, source: str) -> bool:
    known = snapshot.destinations.get(slug)
    return known is not None and source in known.sources


def _not_connected(facts: Facts, event: _Event, slug: str, intervals: Iterable[Interval]) -> Ending:
    known = facts.snapshot.destinations.get(slug) if facts.snapshot is not None else None
    own = sorted(intervals, key=lambda interval: interval.open_place)
    before = [one for one in own if one.close_place is not None and one.close_place <= event.place]
    after = [one for one in own if one.open_place > event.place]
    command = facts.replay_command(slug, event.source, "--gap")
    if not own:
        if known is not None and not known.enabled:
            text = "Off: it was never enabled, and a destination receives nothing before."
            return Ending(slug, "not connected", text, "Set enabled: true in the workspace.")
        return Ending(slug, "not connected", "Its connection has not been opened yet.", "See that the worker runs.")
    if before and before[-1].closed_at_ms is not None:
        since = time_text(before[-1].closed_at_ms)
        until = f"until {time_text(after[0].opened_at_ms)}" if after else "and still is"
        text = f"Disabled or not connected when the event came: since {since}, {until}."
    else:
        text = (
            f"Not connected when the event came: it was enabled for the first time {time_text(after[0].opened_at_ms)}."
        )
        minute_ms = event.received_at_ms - event.received_at_ms % MINUTE_MS
        window = ("--since", minute_text(minute_ms), "--until", minute_text(minute_ms + MINUTE_MS))
        command = facts.replay_command(slug, event.source, *window)
    return Ending(slug, "not connected", text, command=command)
