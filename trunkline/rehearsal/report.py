"""What a rehearsal found, as JSON; and what it says nothing about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from trunkline.rehearsal.difference import Difference
from trunkline.rehearsal.findings import Change, Comparison, Connection, ConnectionFindings, EventKind, Sample, Stop
from trunkline.rehearsal.run import Rehearsal
from trunkline.rehearsal.traffic import Coverage
from trunkline.spec.filters import SAMPLE
from trunkline.spec.timestamps import format_timestamp
from trunkline.workspace.model import Snapshot

Json = dict[str, Any]
_Key = TypeVar("_Key")

MOST_KINDS: Final = 50
"""Kinds of events that are listed with a change, the most frequent first."""


def report(rehearsal: Rehearsal, coverage: Coverage, *, complete: bool, notes: Sequence[str] = ()) -> Json:
    """``complete``: all that was wanted was looked at; ``notes``: sentences for people."""
    findings, cost = rehearsal.findings, rehearsal.cost
    return {
        "complete": complete,
        "changes": findings.is_change,
        "traffic": {
            "events": coverage.events,
            "from_ingested": coverage.from_ingested,
            "blocked": coverage.blocked,
            "first_received_at": _time(coverage.first_ms),
            "last_received_at": _time(coverage.last_ms),
            "unreadable": coverage.unreadable,
            "troubles": coverage.troubles,
        },
        "connections": [_connection(*item) for item in findings.connections.items()],
        "sources": {
            slug: _comparison(found, "newly_blocked", "newly_let_through")
            for slug, found in sorted(findings.sources.items())
        },
        "destinations": {
            slug: _comparison(found, "newly_dropped", "newly_delivered")
            for slug, found in sorted(findings.destinations.items())
        },
        "cost": {"events": cost.events, "today_us": cost.today_us, "new_us": cost.new_us},
        "not_rehearsed": not_rehearsed(rehearsal.today.snapshot, rehearsal.new.snapshot, coverage),
        "notes": list(notes),
    }


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_timestamp(at_ms * 1000)


def _comparison(found: Comparison, stopped: str, released: str) -> Json:
    return {
        "events": found.events,
        "passed_today": found.passed_today,
        "passed_new": found.passed_new,
        stopped: [{**_stop(stop), **_change(change)} for stop, change in by_size(found.stopped)],
        released: [{**_stop(stop), **_change(change)} for stop, change in by_size(found.released)],
        "other_reason": [
            {"today": _stop(today), "new": _stop(new), **_change(change)}
            for (today, new), change in by_size(found.other_reason)
        ],
        "changed": {
            **_change(found.changed),
            "places": [
                {"kind": kind, "path": place, "events": count} for (kind, place), count in places_by_size(found)
            ],
        },
    }


def by_size(changes: Mapping[_Key, Change]) -> list[tuple[_Key, Change]]:
    """The largest first."""
    return sorted(changes.items(), key=lambda item: -item[1].events)


def places_by_size(found: Comparison) -> list[tuple[tuple[str, str], int]]:
    """The most frequent first."""
    return sorted(found.places.items(), key=lambda item: (-item[1], item[0][1], item[0][0]))


def kinds_by_size(change: Change) -> list[tuple[EventKind, int]]:
    """The most frequent first."""
    return sorted(change.kinds.items(), key=lambda item: (-item[1], item[0]))


def _stop(stop: Stop) -> Json:
    return {"stage": stop.stage, "reason": stop.reason}


def _change(change: Change) -> Json:
    return {
        "events": change.events,
        "kinds": [
            {"source": kind.source, "type": kind.type, "name": kind.name, "events": count}
            for kind, count in kinds_by_size(change)[:MOST_KINDS]
        ],
        "samples": [_sample(sample) for sample in change.samples],
    }


def _sample(sample: Sample) -> Json:
    return {
        "source": sample.source,
        "message_id": sample.message_id,
        "type": sample.type,
        "name": sample.name,
        "received_at": _time(sample.received_at_ms),
        "detail": sample.detail,
        "before": _body(sample.before),
        "after": _body(sample.after),
        "differences": [_difference(one) for one in sample.differences],
    }


def _body(body: bytes | None) -> Any:
    if body is None:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return body.decode("utf-8", "replace")


def _difference(one: Difference) -> Json:
    found: Json = {"kind": one.kind, "path": one.path}
    if one.kind != "added":
        found["before"] = one.before
    if one.kind != "removed":
        found["after"] = one.after
    return found


def _connection(connection: Connection, found: ConnectionFindings) -> Json:
    return {
        "destination": connection.destination,
        "source": connection.source,
        "appears": connection.appears,
        "why": connection.why,
        "delivered": found.passing.events,
        "dropped": [{"reason": stop.reason, "events": count} for stop, count in sorted(found.stopped.items())],
        "samples": [_sample(sample) for sample in found.passing.samples],
    }


def not_rehearsed(today: Snapshot, new: Snapshot, coverage: Coverage) -> list[str]:
    """Sentences: what the figures leave out."""
    said = ["Taking events in, dedupe, functions, batching, sending and what a destination makes of an event."]
    accepted = coverage.events - coverage.from_ingested
    if accepted:
        said.append(
            f"The source stages of {accepted:,} of {coverage.events:,} events: the ingested log does not reach back to "
            "them, so what the source stages made of them then is what both workspaces begin with."
        )
    if coverage.unreadable:
        said.append(f"{coverage.unreadable:,} archived events that cannot be read.")
    other = sorted(slug for slug, item in new.destinations.items() if _other_settings(today, slug, item.settings))
    if other:
        said.append(f"Other settings of {', '.join(other)}.")
    if any(has_random_sample(snapshot) for snapshot in (today, new)):
        said.append(
            "Which events a sample without a path keeps: that is random. Both workspaces draw the same numbers, so the "
            "size of a change is right, its events are examples."
        )
    return said


def _other_settings(today: Snapshot, slug: str, settings: Mapping[str, Any]) -> bool:
    before = today.destinations.get(slug)
    return before is not None and before.settings != settings


def has_random_sample(snapshot: Snapshot) -> bool:
    """Whether a filter of a destination leaves something to chance."""
    return any(
        item.enabled and item.action == SAMPLE and not item.path and 0 < (item.percent or 0) < 1
        for destination in snapshot.destinations.values()
        for item in destination.filters
    )
