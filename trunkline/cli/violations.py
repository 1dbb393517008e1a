"""``trunkline violations``: what of the events breaks the rules of their tracking plan."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, plain
from trunkline.cli.schema_store import open_schema, say_nothing_was_seen, say_what_was_skipped
from trunkline.cli.times import TIME_HELP, parse_time, time_text
from trunkline.clock import SystemClock
from trunkline.observe.wording import count_text, violation_text
from trunkline.schema.reader import SeenViolation, ViolationSample

DEFAULT_SINCE: Final = "24h"


def violations(
    data_dir: DataDirOption = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    since: Annotated[str, typer.Option(help=f"Of events received since, 31 days at most. {TIME_HELP}")] = DEFAULT_SINCE,
    samples: Annotated[bool, typer.Option("--samples", help="Show the newest events of each as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List how events broke the rules of their tracking plan, the most frequent first.

    Counted by the hour for two days, by the UTC day before that.

    Exit status: 0 listed, 2 there is nothing to read.
    """
    clock = SystemClock()
    settings = settings_for(data_dir=data_dir)
    with open_schema(settings) as reader:
        found = reader.violations(source=source, since_ms=parse_time(since, clock), samples=samples)
        if as_json:
            print(json.dumps([_as_json(one, samples) for one in found], indent=2))
            return
        screen = console()
        if not found:
            say_nothing_was_seen(
                screen,
                settings,
                reader,
                "No violation.",
                "In this time every event kept to its tracking plan, or its source has none (trunkline plans list). "
                "Look further back with --since.",
                source=source,
            )
        source_before = name_before = ""
        for one in found:
            if one.source != source_before:
                source_before, name_before = one.source, ""
                screen.print(plain(one.source), style="bold")
            name = f"{one.name or one.event_type} ({one.event_type})" if one.name else one.event_type
            if name != name_before:
                name_before = name
                paragraph(screen, plain(name), indent=2)
            _print(screen, one)
        say_what_was_skipped(screen, reader)


def _print(screen: Console, one: SeenViolation) -> None:
    paragraph(screen, plain(violation_text(one.type, one.field, one.description)), indent=4)
    times = f"{one.count:,} {'time' if one.count == 1 else 'times'}"
    paragraph(screen, f"{times}, last {time_text(one.last_ms)}, first {time_text(one.first_ms)}", indent=6, style="dim")
    for sample in one.samples:
        blocked = ", blocked" if sample.blocked else ""
        cut = f", the first {len(sample.body):,} of {count_text(sample.size_bytes, 'byte')}" if _is_cut(sample) else ""
        paragraph(screen, plain(f"{sample.message_id}, {time_text(sample.received_at_ms)}{blocked}{cut}"), indent=6)
        paragraph(screen, plain(sample.body.decode("utf-8", "replace")), indent=8, style="dim")


def _is_cut(sample: ViolationSample) -> bool:
    return len(sample.body) < sample.size_bytes


def _as_json(one: SeenViolation, samples: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "source": one.source,
        "event_type": one.event_type,
        "name": one.name,
        "type": one.type,
        "field": one.field,
        "description": one.description,
        "count": one.count,
        "first_seen": time_text(one.first_ms),
        "last_seen": time_text(one.last_ms),
    }
    if samples:
        entry["samples"] = [_sample_as_json(sample) for sample in one.samples]
    return entry


def _sample_as_json(sample: ViolationSample) -> dict[str, Any]:
    entry = {
        "message_id": sample.message_id,
        "received_at": time_text(sample.received_at_ms),
        "blocked": sample.blocked,
        "size_bytes": sample.size_bytes,
    }
    try:
        return entry | {"event": json.loads(sample.body)}
    except ValueError:
        return entry | {"first_bytes": base64.b64encode(sample.body).decode()}


def register(app: typer.Typer) -> None:
    app.command()(violations)
