"""What sources have sent, beside what their tracking plans say: the rows of ``trunkline schema``, and as a table of
Segment's form (``spec/event_path.md`` §9)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from trunkline.observe.planned import PlanView
from trunkline.observe.wording import time_text
from trunkline.schema.reader import SchemaReader, SeenEvent, SeenProperty
from trunkline.workspace.model import Snapshot

TRAIT_TYPES: Final = ("identify", "group")
TYPES: Final = ("track", "identify", "group", "page", "screen", "alias")

_TRACK_COLUMNS: Final = ("Event Name", "Last Seen At (UTC)", "Property Name", "Allowed", "Blocked", "Total", "Planned")
_TRAIT_COLUMNS: Final = ("Trait Name", "Last Seen At (UTC)", "Allowed", "Blocked", "Total", "Planned")


@dataclass(frozen=True, slots=True)
class PropertyRow:
    """``planned`` None: no plan speaks of it."""

    seen: SeenProperty
    planned: bool | None

    def as_json(self) -> dict[str, Any]:
        seen = self.seen
        return {
            "path": seen.path,
            "types": list(seen.types),
            "first_seen": time_text(seen.first_ms),
            "last_seen": time_text(seen.last_ms),
            "allowed": seen.allowed,
            "blocked": seen.blocked,
            "omitted": seen.omitted,
            "planned": self.planned,
        }


@dataclass(frozen=True, slots=True)
class EventRow:
    """``planned`` None: no plan speaks of it. ``properties`` are empty unless they were asked for."""

    seen: SeenEvent
    planned: bool | None
    properties: list[PropertyRow] = field(default_factory=list)

    def as_json(self, *, with_properties: bool) -> dict[str, Any]:
        """One entry of what ``trunkline schema --json`` prints."""
        seen = self.seen
        entry = {
            "source": seen.source,
            "type": seen.type,
            "name": seen.name,
            "first_seen": time_text(seen.first_ms),
            "last_seen": time_text(seen.last_ms),
            "allowed": seen.allowed,
            "blocked": seen.blocked,
            "reasons": seen.reasons,
            "planned": self.planned,
            "estimated": seen.sampled,
        }
        if with_properties:
            entry["properties"] = [row.as_json() for row in self.properties]
        return entry


def read_schema(
    reader: SchemaReader,
    snapshot: Snapshot | None,
    *,
    source: str | None = None,
    event_type: str | None = None,
    name: str | None = None,
    since_ms: int | None = None,
    with_properties: bool = False,
) -> list[EventRow]:
    """By source, type and name. Raises SchemaError. ``snapshot`` None: what is planned is not known."""
    plans = snapshot.plan_by_source if snapshot is not None else {}
    views: dict[str, PlanView] = {}
    rows = []
    for seen in reader.events(source=source, event_type=event_type, name=name, since_ms=since_ms):
        view = views.get(seen.source)
        if view is None:
            view = views[seen.source] = PlanView(plans.get(seen.source))
        found = reader.properties(seen.source, seen.type, seen.name, since_ms=since_ms) if with_properties else []
        properties = [PropertyRow(one, view.property(seen.type, seen.name, one.path)) for one in found]
        rows.append(EventRow(seen, view.event(seen.type, seen.name), properties))
    return rows


def schema_csv(rows: Iterable[EventRow], event_type: str) -> str:
    """A row for each event and for each of its properties (or traits), with Segment's columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if event_type in TRAIT_TYPES:
        writer.writerow(_TRAIT_COLUMNS)
        for event in rows:
            writer.writerows((_cell(one.seen.path), *_values(one)) for one in event.properties)
        return text.getvalue()
    writer.writerow(_TRACK_COLUMNS)
    for event in rows:
        name = _cell(event.seen.name)
        last_seen, *counts = _values(event)
        writer.writerow((name, last_seen, "", *counts))
        for one in event.properties:
            last_seen, *counts = _values(one)
            writer.writerow((name, last_seen, _cell(one.seen.path), *counts))
    return text.getvalue()


def _values(row: EventRow | PropertyRow) -> Sequence[object]:
    seen = row.seen
    planned = "" if row.planned is None else "Planned" if row.planned else "Unplanned"
    last_seen = datetime.fromtimestamp(seen.last_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return last_seen, seen.allowed, seen.blocked, seen.allowed + seen.blocked, planned


def _cell(text: str) -> str:
    """Anybody who has a write key chooses names: none may be a formula to the program that opens the table."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def csv_name(snapshot: Snapshot | None, source: str, event_type: str, now_ms: int) -> str:
    """As Segment calls such files."""
    workspace = snapshot.slug if snapshot is not None else "workspace"
    moment = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%d--%H-%M-utc")
    return f"{workspace}-{source}-{event_type}--{moment}.csv"
