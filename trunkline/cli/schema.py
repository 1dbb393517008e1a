"""``trunkline schema``: which events and properties each source has really sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, plain, table
from trunkline.cli.schema_store import open_schema, say_nothing_was_seen, say_what_was_skipped
from trunkline.cli.stores import read_workspace
from trunkline.cli.times import TIME_HELP, parse_time, time_text
from trunkline.clock import SystemClock
from trunkline.observe.schema import TRAIT_TYPES, TYPES, EventRow, csv_name, read_schema, schema_csv
from trunkline.observe.wording import count_text
from trunkline.schema.limits import OTHER

_PLANNED: Final = {True: "yes", False: "no", None: ""}


def schema(
    data_dir: DataDirOption = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    type: Annotated[
        str | None, typer.Option(help=f"Only events of this type: {', '.join(TYPES)}. identify and group show traits.")
    ] = None,
    event: Annotated[
        str | None, typer.Option(help="The properties of this event (with --type page or screen: of that name).")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help=f"Count what was received since; all by default, 31 days at most. {TIME_HELP}"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Write a table of one source and type (track by default). A directory: named as Segment does."
        ),
    ] = None,
) -> None:
    """Show which events each source has sent, and with --event or --type identify their properties.

    Counts of events are exact. Works beside a running server, some seconds late.

    Exit status: 0 shown, 2 there is nothing to read, or it cannot be done.
    """
    clock = SystemClock()
    settings = settings_for(data_dir=data_dir)
    if type is not None and type not in TYPES:
        raise typer.BadParameter(f"{type!r} is no type of event. Use one of: {', '.join(TYPES)}.", param_hint="--type")
    if type is None and (event is not None or csv is not None):
        type = "track"
    with_properties = event is not None or csv is not None or type in TRAIT_TYPES
    with open_schema(settings) as reader:
        snapshot = read_workspace(settings, clock)
        rows = read_schema(
            reader,
            snapshot,
            source=source,
            event_type=type,
            name=event,
            since_ms=parse_time(since, clock) if since is not None else None,
            with_properties=with_properties,
        )
        if csv is not None:
            assert type is not None
            slug = source or _only_source(rows)
            file = csv / csv_name(snapshot, slug, type, clock.now_ms()) if csv.is_dir() else csv
            _write(file, schema_csv(rows, type))
            return
        if as_json:
            skipped = reader.skipped()
            entry = {
                "events": [row.as_json(with_properties=with_properties) for row in rows],
                "skipped_events": skipped.events if skipped is not None else 0,
            }
            print(json.dumps(entry, indent=2))
            return
        screen = console()
        if not rows:
            all_there_is = "All there is: trunkline schema"
            say_nothing_was_seen(screen, settings, reader, "No such event was seen.", all_there_is, source=source)
        elif with_properties:
            for row in rows:
                _print_properties(screen, row)
        else:
            _print_events(screen, rows)
        say_what_was_skipped(screen, reader)


def _only_source(rows: Sequence[EventRow]) -> str:
    sources = sorted({row.seen.source for row in rows})
    if len(sources) > 1:
        raise typer.BadParameter(f"A table is of one source. Choose one: {', '.join(sources)}.", param_hint="--source")
    return sources[0] if sources else "none"


def _write(file: Path, text: str) -> None:
    if str(file) == "-":
        print(text, end="")
        return
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}.", param_hint="--csv") from None
    print(f"{file}: {count_text(text.count(chr(10)) - 1, 'row')}.")


def _print_events(screen: Console, rows: Sequence[EventRow]) -> None:
    for source in sorted({row.seen.source for row in rows}):
        screen.print(plain(source), style="bold")
        of_source = [row for row in rows if row.seen.source == source]
        has_plan = any(row.planned is not None for row in of_source)
        headings = ("type", "event", "last seen", "allowed", "blocked", *(("planned",) if has_plan else ()))
        listed = table(*headings, numbers=(3, 4))
        for row in of_source:
            seen = row.seen
            cells = [seen.type, plain(seen.name), time_text(seen.last_ms), f"{seen.allowed:,}", f"{seen.blocked:,}"]
            listed.add_row(*cells, *((_PLANNED[row.planned],) if has_plan else ()))
        screen.print(listed)
    screen.print()
    paragraph(
        screen,
        f"{count_text(len(rows), 'event')}. Properties of one: --event NAME; traits: --type identify. Why events were "
        "blocked: trunkline blocked.",
    )
    if any(row.seen.name == OTHER for row in rows):
        paragraph(screen, f"{OTHER} stands for all names beyond the 4,000 of a source and type.")


def _print_properties(screen: Console, row: EventRow) -> None:
    seen = row.seen
    screen.print(plain(f"{seen.source}: {seen.name or seen.type}"), style="bold")
    planned = {True: ", planned", False: ", unplanned", None: ""}[row.planned]
    paragraph(
        screen,
        f"{seen.type}{planned}; {seen.allowed:,} allowed, {seen.blocked:,} blocked; first {time_text(seen.first_ms)}, "
        f"last {time_text(seen.last_ms)}",
        indent=2,
    )
    what = "trait" if seen.type in TRAIT_TYPES else "property"
    if not row.properties:
        paragraph(
            screen, "It was never seen with any property." if what == "property" else "No trait was seen.", indent=2
        )
        return
    has_plan = any(one.planned is not None for one in row.properties)
    has_omitted = any(one.seen.omitted for one in row.properties)
    more = (*(("omitted",) if has_omitted else ()), *(("planned",) if has_plan else ()))
    listed = table(
        what, "types", "last seen", "allowed", "blocked", *more, numbers=(3, 4, 5) if has_omitted else (3, 4)
    )
    for one in row.properties:
        cells = [plain(one.seen.path), ", ".join(one.seen.types), time_text(one.seen.last_ms)]
        cells += [f"{one.seen.allowed:,}", f"{one.seen.blocked:,}"]
        cells += [f"{one.seen.omitted:,}"] if has_omitted else []
        listed.add_row(*cells, *((_PLANNED[one.planned],) if has_plan else ()))
    screen.print(listed)
    if seen.sampled:
        paragraph(
            screen,
            "Counts of properties are estimates: not every event was looked at, to save time (`schema_cpu_percent`).",
            indent=2,
        )


def register(app: typer.Typer) -> None:
    app.command()(schema)
