"""Gaps: windows in which fewer events were delivered than were due, and the replay that closes each.

There are two kinds. Events that *failed* are known by the minute in which they were received; minutes that follow each
other are one window. While a connection was *closed* (the destination disabled, or the source taken from it), nothing
was due, yet it is missed once it is open again: the window is the time between two intervals, its events are those that
the source had accepted meanwhile. The time before a connection was first opened is no gap.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from trunkline.observe.wording import minute_text
from trunkline.replay.gaps import subtract
from trunkline.replay.model import PlaceRange, ReplaySpec, is_replay
from trunkline.spec.outcomes import ACCEPTED
from trunkline.state.base import Interval, LossKey, State, StateStore
from trunkline.workspace.model import Snapshot

MINUTE_MS: Final = 60_000
_FOR_EVER: Final = 1 << 62
Kind = Literal["failed", "closed"]


@dataclass(slots=True)
class Gap:
    """``lane``: where the events were lost, the destination's slug or the key of a replay to it. ``until_ms`` None: it
    lasts. ``places`` of a closed connection: [first, end) in the accepted log, end None while it lasts.
    ``replayed_by`` are the replays that cover it, oldest first, ``partly_by`` those that cover a part of it.
    ``command`` closes it; empty when nothing can, for there is no such destination any more.
    """

    kind: Kind
    destination: str
    lane: str
    source: str
    since_ms: int
    until_ms: int | None
    events: int
    reasons: dict[str, int] = field(default_factory=dict)
    places: tuple[int, int | None] | None = None
    replayed_by: list[str] = field(default_factory=list)
    partly_by: list[str] = field(default_factory=list)
    command: str = ""

    def as_json(self) -> dict[str, object]:
        """One entry of what ``trunkline gaps --json`` prints."""
        return {
            "kind": self.kind,
            "destination": self.destination,
            "lane": self.lane,
            "source": self.source,
            "since_ms": self.since_ms,
            "until_ms": self.until_ms,
            "events": self.events,
            "reasons": self.reasons,
            "replayed_by": self.replayed_by,
            "partly_by": self.partly_by,
            "command": self.command,
        }


def find_gaps(
    store: StateStore,
    since_ms: int,
    *,
    destination: str | None = None,
    replays: Sequence[ReplaySpec] = (),
    snapshot: Snapshot | None = None,
    data_dir: str = "",
) -> list[Gap]:
    """Gaps that reach into the time since ``since_ms``, by destination and time. Raises StateError.

    ``snapshot`` None: the workspace is not known, so gaps of what it no longer holds are listed too. ``data_dir`` goes
    into the commands unless it is empty.
    """
    by_key = {spec.key: spec for spec in replays}
    losses: dict[LossKey, int] = {}
    for lane in [None] if destination is None else [destination, *_replays_to(replays, destination)]:
        losses.update(store.losses(since_ms, destination=lane))
    gaps = [gap for gap in _failed(losses, by_key) if destination in (None, gap.destination)]
    gaps += [
        gap
        for gap in _closed(store.read(), snapshot)
        if destination in (None, gap.destination) and (gap.until_ms is None or gap.until_ms > since_ms)
    ]
    for gap in gaps:
        covers = {spec.id: _cover(spec, gap, by_key) for spec in replays}
        gap.replayed_by = [replay_id for replay_id, cover in covers.items() if cover is _Cover.ALL]
        gap.partly_by = [replay_id for replay_id, cover in covers.items() if cover is _Cover.PART]
        gap.command = _command(gap, snapshot, data_dir)
    return sorted(gaps, key=lambda gap: (gap.destination, gap.since_ms, gap.source, gap.lane))


def _replays_to(replays: Iterable[ReplaySpec], destination: str) -> list[str]:
    return [spec.key for spec in replays if spec.destination == destination]


# -- failed events -----------------------------------------------------------------------------------------------------


def _failed(losses: Mapping[LossKey, int], replays: Mapping[str, ReplaySpec]) -> Iterable[Gap]:
    """Minutes that follow each other, joined."""
    last: Gap | None = None
    for key in sorted(losses, key=lambda key: (key.destination, key.source, key.received_minute)):
        since_ms = key.received_minute * MINUTE_MS
        same_lane = last is not None and (last.lane, last.source) == (key.destination, key.source)
        if last is None or not same_lane or last.until_ms is None or last.until_ms < since_ms:
            if last is not None:
                yield last
            of_replay = replays.get(key.destination)
            to = of_replay.destination if of_replay is not None else key.destination
            last = Gap("failed", to, key.destination, key.source, since_ms, since_ms + MINUTE_MS, 0)
        last.until_ms = since_ms + MINUTE_MS
        last.events += losses[key]
        last.reasons[key.reason] = last.reasons.get(key.reason, 0) + losses[key]
    if last is not None:
        yield last


# -- closed connections ------------------------------------------------------------------------------------------------


def _closed(state: State, snapshot: Snapshot | None) -> Iterable[Gap]:
    by_connection: dict[tuple[str, str], list[Interval]] = {}
    for interval in state.intervals:
        by_connection.setdefault((interval.destination, interval.source), []).append(interval)
    for (destination, source), intervals in by_connection.items():
        if not _is_connected(snapshot, destination, source):
            continue
        intervals.sort(key=lambda interval: interval.id)
        for interval, following in zip(intervals, [*intervals[1:], None], strict=True):
            if interval.closed_at_ms is None or interval.close_place is None:
                continue
            before = (interval.close_books or {}).get(ACCEPTED, 0)
            after = following.open_books if following is not None else state.source_totals.get(source, {})
            missed = after.get(ACCEPTED, 0) - before
            if missed > 0:
                yield Gap(
                    "closed",
                    destination,
                    destination,
                    source,
                    interval.closed_at_ms,
                    following.opened_at_ms if following is not None else None,
                    missed,
                    places=(interval.close_place, following.open_place if following is not None else None),
                )


def _is_connected(snapshot: Snapshot | None, destination: str, source: str) -> bool:
    """Whether the workspace has the connection at all, be it disabled."""
    if snapshot is None:
        return True
    known = snapshot.destinations.get(destination)
    return known is not None and source in known.sources


# -- closing them ------------------------------------------------------------------------------------------------------


class _Cover(Enum):
    NONE = "none"
    PART = "part"
    ALL = "all"


def _cover(spec: ReplaySpec, gap: Gap, replays: Mapping[str, ReplaySpec]) -> _Cover:
    """How much of the gap a replay brought, or will bring."""
    if spec.destination != gap.destination or spec.wanted == "cancel" or gap.source not in spec.sources:
        return _Cover.NONE
    lost_by = replays.get(gap.lane)
    if lost_by is not None and (spec.created_at_ms, spec.id) <= (lost_by.created_at_ms, lost_by.id):
        return _Cover.NONE
    until_ms = spec.created_at_ms if spec.until_ms is None else spec.until_ms
    since_ms = 0 if spec.since_ms is None else spec.since_ms
    if since_ms >= (until_ms if gap.until_ms is None else gap.until_ms) or until_ms <= gap.since_ms:
        return _Cover.NONE
    whole = gap.until_ms is not None and since_ms <= gap.since_ms and gap.until_ms <= until_ms
    if gap.places is not None and spec.since_ms is not None:
        # Times bound when events were received, the connection when they were accepted, which may be much later.
        whole = False
    if spec.types or spec.names:
        whole = False
    if spec.ranges:
        if gap.places is None:
            return _Cover.PART
        first, end = gap.places
        missed = [PlaceRange(gap.source, first, _FOR_EVER if end is None else end)]
        left = subtract(missed, spec.ranges)
        if left == missed:
            return _Cover.NONE
        whole = whole and not left
    return _Cover.ALL if whole else _Cover.PART


def _command(gap: Gap, snapshot: Snapshot | None, data_dir: str) -> str:
    if is_replay(gap.destination) or (snapshot is not None and gap.destination not in snapshot.destinations):
        return ""
    words = ["trunkline", "replay", "start", "--to", gap.destination, "--source", gap.source]
    if gap.kind == "closed":
        words.append("--gap")
    else:
        assert gap.until_ms is not None
        words += ["--since", minute_text(gap.since_ms), "--until", minute_text(gap.until_ms)]
    if data_dir:
        words += ["--data-dir", data_dir]
    return shlex.join(words)
