"""``trunkline filters``: what a destination filter would do, before it stands in the workspace."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, plain
from trunkline.cli.rehearsal_view import print_changed, print_cost, print_kinds, print_notes, print_sample
from trunkline.cli.rehearse import INTERRUPTED, report_of
from trunkline.cli.rehearsing import (
    DEFAULT_SINCE,
    LIMIT_HELP,
    CannotRehearse,
    Outcome,
    covered_text,
    make_world,
    run_rehearsal,
)
from trunkline.cli.saying import fail
from trunkline.cli.stores import active_snapshot
from trunkline.cli.times import TIME_HELP, parse_time
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.observe.wording import count_text
from trunkline.rehearsal.findings import DEFAULT_SAMPLES, Comparison
from trunkline.rehearsal.preview import PreviewError, checked_filter, preview_filter
from trunkline.rehearsal.run import Rehearsal, sources_to_read
from trunkline.rehearsal.traffic import Wanted
from trunkline.spec.discards import FILTERED_BY_RULES
from trunkline.spec.filters import ACTIONS, ALLOW_PROPERTIES, DROP_PROPERTIES, MAX_FILTERS, SAMPLE, Filter
from trunkline.workspace.filters_section import filter_keys
from trunkline.workspace.model import Destination, Snapshot

MAX_PREVIEW_BYTES: Final = 1 << 20


def try_(
    destination: Annotated[str, typer.Option(help="Slug of the destination. It may be disabled.")],
    condition: Annotated[str, typer.Option("--if", metavar="FQL", help="The filter's condition, or `all`.")],
    action: Annotated[str, typer.Option(help=f"What happens to such events: {', '.join(ACTIONS)}.")],
    data_dir: DataDirOption = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            help="With drop_properties and allow_properties: a parent and keys in it, `properties=email,phone`; may be "
            'repeated. Or JSON: {"properties": ["email"]}.'
        ),
    ] = None,
    percent: Annotated[float | None, typer.Option(help="With sample: the part that is sent, 0 to 1.")] = None,
    path: Annotated[
        str, typer.Option(help="With sample: events with the same value there share their fate. Default: at random.")
    ] = "",
    source: Annotated[
        list[str] | None, typer.Option(help="The filter is for this source only; may be repeated.")
    ] = None,
    since: Annotated[str, typer.Option(help=f"Events received since. {TIME_HELP}")] = DEFAULT_SINCE,
    samples: Annotated[int, typer.Option(help="Samples of each effect.", min=0, max=1000)] = DEFAULT_SAMPLES,
    limit: Annotated[int | None, typer.Option(metavar="EVENTS", help=LIMIT_HELP, min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Try a filter on recorded events: how many of them the destination would lose, get in part, or get as before.

    The filter is added to those that the destination has. Nothing is sent and nothing is saved.

    Exit status: 0 tried, 2 it cannot be tried, 3 interrupted.
    """
    clock = SystemClock()
    since_ms = parse_time(since, clock)
    item = _filter(condition, action, fields or (), percent, path, source or ())
    settings = settings_for(data_dir=data_dir)
    try:
        snapshot = active_snapshot(settings, clock)
        if snapshot is None:
            raise CannotRehearse(
                f"{settings.data_dir} holds no workspace. Name the directory that `trunkline serve` uses with "
                "--data-dir."
            )
        today = _destination(snapshot, destination, item)
        with_filter = dataclasses.replace(today, filters=(*today.filters, item))
        worlds = [make_world(_holding(snapshot, one), {destination}) for one in (today, with_filter)]
        rehearsal = Rehearsal(worlds[0], worlds[1], clock, samples)
        sources = sources_to_read((worlds[0].snapshot,), source or (), (destination,))
        outcome = run_rehearsal(settings, clock, rehearsal, Wanted(since_ms, sources, limit))
    except CannotRehearse as error:
        fail(str(error))
    found = rehearsal.findings.destinations.get(destination, Comparison())
    if as_json:
        print(json.dumps(_as_json(outcome, destination, item, found), indent=2))
    else:
        _print(console(), outcome, today, item, found)
    raise typer.Exit(INTERRUPTED if outcome.interrupted else 2 if outcome.broken else 0)


def preview(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A filter and a payload as JSON. Default, and `-`: standard input."),
    ] = None,
) -> None:
    """Show what a filter makes of one event, in the shapes of Segment's preview: `{"filter": {"if": FQL, "actions":
    [{"type": "DROP"}]}, "payload": {…}}` in, `{"inputPayload": {…}, "result": {…}}` out; `null` for an event that is
    dropped.

    Exit status: 0 shown, 2 what was given is no filter and payload.
    """
    try:
        if file is None or str(file) == "-":
            request = sys.stdin.buffer.read(MAX_PREVIEW_BYTES + 1)
        else:
            with file.open("rb") as opened:
                request = opened.read(MAX_PREVIEW_BYTES + 1)
    except OSError as error:
        fail(f"{file}: cannot be read: {error.strerror}")
    if len(request) > MAX_PREVIEW_BYTES:
        fail(f"more than {MAX_PREVIEW_BYTES >> 20} MiB: no event is so large.")
    try:
        answer = preview_filter(request, SystemRandom())
    except PreviewError as error:
        fail(str(error))
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(answer)) + b"\n")


def _filter(
    condition: str,
    action: str,
    fields: Sequence[str],
    percent: float | None,
    path: str,
    sources: Sequence[str],
) -> Filter:
    """Raises typer.BadParameter."""
    if action not in ACTIONS:
        raise typer.BadParameter(f"--action {action}: there is no such action. Use one of {', '.join(ACTIONS)}.")
    foreign: list[tuple[str, bool, tuple[str, ...]]] = [
        ("--percent", percent is not None, (SAMPLE,)),
        ("--path", bool(path), (SAMPLE,)),
        ("--fields", bool(fields), (DROP_PROPERTIES, ALLOW_PROPERTIES)),
    ]
    for option, given, actions in foreign:
        if given and action not in actions:
            raise typer.BadParameter(f"{option} says nothing with {action}; it belongs to {' and '.join(actions)}.")
    keys = {"type": action, "percent": percent, "path": path, "fields": _fields(fields)}
    try:
        item = checked_filter(condition, keys, "--action")
    except PreviewError as error:
        raise typer.BadParameter(str(error).replace("--action.", "--")) from error
    return dataclasses.replace(item, sources=tuple(dict.fromkeys(sources)))


def _fields(texts: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            try:
                found |= msgspec.json.decode(text, type=dict[str, list[str]])
            except msgspec.MsgspecError as error:
                raise typer.BadParameter(f'--fields: {error}. Write {{"properties": ["email"]}}.') from error
            continue
        parent, equals, keys = text.partition("=")
        if not equals or not keys:
            raise typer.BadParameter(f"--fields {text!r}: write a parent and keys in it, properties=email,phone.")
        found[parent] = [*found.get(parent, ()), *keys.split(",")]
    return found


def _destination(snapshot: Snapshot, slug: str, item: Filter) -> Destination:
    """As if it were enabled."""
    destination = snapshot.destinations.get(slug)
    if destination is None:
        known = ", ".join(sorted(snapshot.destinations)) or "none"
        raise CannotRehearse(f"the workspace has no destination {slug!r}. Its destinations: {known}.")
    if NATIVE_DESTINATIONS[destination.type].storage:
        raise CannotRehearse(f"{slug} is a storage: it gets every accepted event as it is, whatever its filters.")
    for source in item.sources:
        if source not in destination.sources:
            raise CannotRehearse(f"{slug} does not get {source!r}. Its sources: {', '.join(destination.sources)}.")
    for source in destination.sources:
        count = sum(not one.sources or source in one.sources for one in (*destination.filters, item))
        if count > MAX_FILTERS:
            raise CannotRehearse(f"{slug} has {MAX_FILTERS} filters for {source} already, which are the most.")
    return dataclasses.replace(destination, enabled=True)


def _holding(snapshot: Snapshot, destination: Destination) -> Snapshot:
    return dataclasses.replace(snapshot, destinations={**snapshot.destinations, destination.slug: destination})


def _dropped(found: Comparison) -> int:
    return sum(change.events for change in found.stopped.values())


def _as_json(outcome: Outcome, slug: str, item: Filter, found: Comparison) -> dict[str, Any]:
    return {
        "destination": slug,
        "filter": filter_keys(item),
        "events": found.events,
        "sent_today": found.passed_today,
        "dropped": _dropped(found),
        "changed": found.changed.events,
        "kept": found.kept,
        "rehearsal": report_of(outcome),
    }


def _print(screen: Console, outcome: Outcome, destination: Destination, item: Filter, found: Comparison) -> None:
    keys = json.dumps(filter_keys(item), ensure_ascii=False)
    beside = f", beside its {count_text(len(destination.filters), 'filter')}" if destination.filters else ""
    paragraph(screen, f"At {destination.slug}{beside}: {plain(keys)}")
    paragraph(screen, covered_text(outcome))
    print_notes(screen, outcome)
    if not outcome.coverage.events:
        return
    screen.print()
    sent = count_text(found.passed_today, "event")
    paragraph(screen, f"Of {sent} that {destination.slug} gets without it ({found.events:,} came to it):")
    dropped = _dropped(found)
    paragraph(screen, f"{dropped:,} dropped", indent=2, style="red" if dropped else "")
    for stop, change in found.stopped.items():
        if stop.reason != FILTERED_BY_RULES:
            paragraph(screen, f"{change.events:,} of them for {plain(stop.reason)}", indent=4)
        print_kinds(screen, change)
        for sample in change.samples:
            print_sample(screen, sample)
    if found.changed.events:
        print_changed(screen, found)
    paragraph(screen, f"{found.kept:,} sent as before", indent=2, style="green")
    screen.print()
    print_cost(screen, outcome)


_filters: Final = typer.Typer(help="Try destination filters before they are saved.", no_args_is_help=True)
_filters.command("try")(try_)
_filters.command("preview")(preview)


def register(app: typer.Typer) -> None:
    app.add_typer(_filters, name="filters")
