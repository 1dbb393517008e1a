"""What a commit writes of a catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trunkline.schema.catalogue import Catalogue
from trunkline.schema.database import Changes, Cursor, Skip
from trunkline.schema.limits import DAY_MS
from trunkline.schema.tally import EventTally, ViolationTally


def changes_of(catalogue: Catalogue, cursors: Mapping[str, Cursor], skips: Sequence[Skip]) -> Changes:
    """Rows of everything that was touched."""
    changes = Changes(cursors, skips)
    for event in catalogue.touched():
        _add_event(changes, event)
    for violation in catalogue.touched_violations():
        _add_violation(changes, violation)
    return changes


def _add_event(changes: Changes, event: EventTally) -> None:
    changes.events.append((event.id, *event.key, event.first_ms, event.last_ms, event.sampled))
    by_reason: dict[str, int] = {}
    for (reason, hour_ms), count in event.counts.items():
        changes.event_counts.append((event.id, reason, hour_ms, count))
        by_reason[reason] = by_reason.get(reason, 0) + count
    for reason, count in by_reason.items():
        changes.outcomes.append((event.id, reason, event.lasts_ms[reason], count))
    for path, found in event.touched_properties.items():
        allowed = event.scaled(found.allowed, False)
        blocked = event.scaled(found.blocked, True) + found.stopped
        changes.properties.append(
            (
                found.id,
                event.id,
                path,
                found.types,
                found.first_ms,
                found.last_ms,
                allowed,
                blocked,
                found.omitted,
            )
        )
        day_ms = found.last_ms - found.last_ms % DAY_MS
        changes.property_days.append((found.id, day_ms, allowed, blocked, found.omitted))


def _add_violation(changes: Changes, violation: ViolationTally) -> None:
    changes.violations.append(
        (violation.id, *violation.key, violation.first_ms, violation.last_ms, sum(violation.counts.values()))
    )
    changes.violation_counts += [(violation.id, hour_ms, count) for hour_ms, count in violation.counts.items()]
    changes.samples += [
        (
            violation.id,
            sample.received_at_ms,
            sample.message_id,
            sample.blocked,
            sample.size_bytes,
            sample.body,
        )
        for sample in violation.samples
    ]
