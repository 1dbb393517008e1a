"""``trunkline blocked``: which events their sources kept back, and why."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Final

import typer

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, plain, table
from trunkline.cli.schema_store import open_schema, say_nothing_was_seen, say_what_was_skipped
from trunkline.cli.times import TIME_HELP, parse_time, time_text
from trunkline.clock import SystemClock
from trunkline.schema.reader import BlockedEvents
from trunkline.spec.delivery_codes import text_of

DEFAULT_SINCE: Final = "7d"


def blocked(
    data_dir: DataDirOption = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    since: Annotated[str, typer.Option(help=f"Events received since, 31 days at most. {TIME_HELP}")] = DEFAULT_SINCE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the events that sources kept from every destination: by a tracking plan, a transformation or the schema.

    Duplicates and events that ingest refused are not among them.

    Exit status: 0 listed, 2 there is nothing to read.
    """
    clock = SystemClock()
    settings = settings_for(data_dir=data_dir)
    with open_schema(settings) as reader:
        found = reader.blocked(source=source, since_ms=parse_time(since, clock))
        if as_json:
            print(json.dumps([_as_json(one) for one in found], indent=2))
            return
        screen = console()
        if not found:
            mend = "In this time every source let all its events pass. Look further back with --since."
            say_nothing_was_seen(screen, settings, reader, "No event was blocked.", mend, source=source)
        for slug in dict.fromkeys(one.source for one in found):
            screen.print(plain(slug), style="bold")
            listed = table("type", "event", "reason", "last seen", "events", numbers=(4,))
            for one in found:
                if one.source == slug:
                    cells = (one.type, plain(one.name), one.reason, time_text(one.last_ms), f"{one.count:,}")
                    listed.add_row(*cells)
            screen.print(listed)
        if found:
            screen.print()
        for reason in dict.fromkeys(one.reason for one in found):
            text = text_of(reason)
            paragraph(screen, plain(f"{reason}: {text.title}. {text.mend}"), style="dim")
        say_what_was_skipped(screen, reader)


def _as_json(one: BlockedEvents) -> dict[str, object]:
    entry = dataclasses.asdict(one)
    del entry["last_ms"]
    return entry | {"last_seen": time_text(one.last_ms)}


def register(app: typer.Typer) -> None:
    app.command()(blocked)
