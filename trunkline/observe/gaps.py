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
from typing import Final, Literal

from trunkline.observe.wording import minute_text
from trunkline.replay.gaps import subtract
from trunkline.replay.model import PlaceRange, ReplaySpec, is_replay
from trunkline.spec.outcomes import ACCEPTED
from trunkline.state.base import Interval, LossKey, State, StateStore
from trunkline.workspace.model import Snapshot

MINUTE_MS: Final = 60_000
Kind = Literal["failed", "closed"]


@dataclass(slots=True)
class Gap:
    """``lane``: where the events were lost, the destination's slug or the key of a replay to it. ``until_ms`` None: it
    lasts. ``places`` of a closed connection: [first, end) in the accepted log, end None while it lasts.
    ``replayed_by`` are the replays that cover it, oldest first. ``command`` closes it; empty when nothing can, for
    there is no such destination any more.
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
        gap.replayed_by = [spec.id for spec in replays if _covers(spec, gap, by_key)]
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


def _covers(spec: ReplaySpec, gap: Gap, replays: Mapping[str, ReplaySpec]) -> bool:
    """Whether a replay brought, or will bring, every event of the gap."""
    if spec.destination != gap.destination or spec.wanted == "cancel" or spec.types or spec.names:
        return False
    if gap.source not in spec.sources:
        return False
    lost_by = replays.get(gap.lane)
    if lost_by is not None and (spec.created_at_ms, spec.id) <= (lost_by.created_at_ms, lost_by.id):
        return False
    in_time = (spec.since_ms is None or spec.since_ms <= gap.since_ms) and (
        (gap.until_ms is not None and spec.created_at_ms >= gap.until_ms)
        if spec.until_ms is None
        else (gap.until_ms is not None and gap.until_ms <= spec.until_ms)
    )
    if not spec.ranges:
        return in_time
    if gap.places is None or gap.places[1] is None or not in_time:
        return False
    return not subtract([PlaceRange(gap.source, gap.places[0], gap.places[1])], spec.ranges)


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
