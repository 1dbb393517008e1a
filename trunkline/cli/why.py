"""``trunkline why``: the story of one event, and where it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.console import Console

from trunkline.archive.blocked_reader import BlockedReader
from trunkline.archive.errors import ArchiveError
from trunkline.archive.open_store import open_store
from trunkline.archive.reader import ArchiveReader
from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, plain
from trunkline.cli.stores import open_state, open_workspaces, read_replays, read_workspace
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.log.base import LogError
from trunkline.log.embedded import EmbeddedLog
from trunkline.log.records import RecordError
from trunkline.observe.endings import Ending, Facts, Status
from trunkline.observe.lanes import LANES_FILE, LanesError, LanesStatus, decode_lanes
from trunkline.observe.retrace import Retracer, difference_lines
from trunkline.observe.why import Arrival, Looked, Story, explain
from trunkline.observe.wording import time_text, violation_text
from trunkline.pipeline.gate import TAKES_EVERYTHING, GatedType
from trunkline.rehearsal.difference import Difference
from trunkline.runtime.layout import DataDir
from trunkline.settings import Settings
from trunkline.state.base import ATTEMPTS_KEPT_D
from trunkline.workspace.model import Destination

_STYLES: Final[dict[Status, str]] = {"delivered": "green", "failed": "red"}


def why(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="The event's messageId.")],
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Tell what became of one event: each stage that it passed, each attempt and answer, or where it ended and how to
    mend it.

    Searches the logs, the archive and the state, beside a running server too; a gigabyte of log takes seconds.

    Exit status: 0 the event is known, 1 it is not, 2 something could not be read.
    """
    settings = settings_for(data_dir=data_dir)
    data = DataDir(settings.data_dir)
    if not data.log.is_dir():
        hint = "Name the directory that `trunkline serve` uses with --data-dir."
        print(f"trunkline: no event was ever taken into {data.root}. {hint}", file=sys.stderr)
        raise typer.Exit(2)
    try:
        story = _explain(message_id, settings, data, str(data_dir) if data_dir is not None else "")
    except (LogError, RecordError, ArchiveError) as error:
        print(f"trunkline: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if as_json:
        print(json.dumps(story_json(story), indent=2))
    else:
        print_story(console(), story)
    raise typer.Exit(0 if story.known else 1)


def _explain(message_id: str, settings: Settings, data: DataDir, shown_dir: str) -> Story:
    clock = SystemClock()
    archive, blocked, archive_name = None, None, ""
    if data.archive_index.exists():
        store = open_store(settings.archive_url, data.archive)
        archive, blocked = ArchiveReader(data.archive_index, store), BlockedReader(data.archive_index, store)
        archive_name = store.describe()
    facts = Facts(clock.now_ms(), read_workspace(settings, clock), _lanes(data), shown_dir)
    with contextlib.ExitStack() as stack:
        past = stack.enter_context(open_workspaces(settings, clock))
        # Ingest may have run before any worker: then there is no state yet.
        state = stack.enter_context(open_state(data)) if data.state.exists() else None
        return explain(
            message_id,
            EmbeddedLog(data.log, clock),
            state,
            facts,
            archive=archive,
            blocked_archive=blocked,
            archive_name=archive_name,
            replays=read_replays(data.root / "replays"),
            retracer=Retracer(past, _type_of, current=facts.snapshot),
        )


def _type_of(destination: Destination) -> GatedType:
    return NATIVE_DESTINATIONS.get(destination.type, TAKES_EVERYTHING)


def _lanes(data: DataDir) -> LanesStatus | None:
    try:
        return decode_lanes((data.run / LANES_FILE).read_bytes())
    except (OSError, LanesError):
        return None


def story_json(story: Story) -> dict[str, object]:
    """The shape that ``trunkline why --json`` prints."""
    return {
        "message_id": story.message_id,
        "known": story.known,
        "arrivals": [_arrival_json(arrival) for arrival in story.arrivals],
        "leftovers": [_ending_json(ending) for ending in story.leftovers],
        "looked": dataclasses.asdict(story.looked),
    }


def _arrival_json(arrival: Arrival) -> dict[str, object]:
    return {
        "status": arrival.status,
        "source": arrival.source,
        "received_at_ms": arrival.received_at_ms,
        "type": arrival.type,
        "name": arrival.name,
        "place": arrival.place,
        "body": arrival.body.decode("utf-8", "replace"),
        "stages": [dataclasses.asdict(step) | {"changes": _changes_json(step.changes)} for step in arrival.steps],
        "destinations": [_ending_json(ending) for ending in arrival.endings],
    }


def _ending_json(ending: Ending) -> dict[str, object]:
    return dataclasses.asdict(ending) | {"changes": _changes_json(ending.changes)}


def _changes_json(changes: Sequence[Difference]) -> list[dict[str, object]]:
    kept = {"added": ("kind", "path", "after"), "removed": ("kind", "path", "before")}
    return [
        {name: getattr(change, name) for name in kept.get(change.kind, ("kind", "path", "before", "after"))}
        for change in changes
    ]


def print_story(screen: Console, story: Story) -> None:
    """For people, 80 columns wide; only commands may be longer, so that they can be copied."""
    if not story.known:
        _print_unknown(screen, story)
        return
    for number, arrival in enumerate(story.arrivals):
        if number:
            screen.print()
        _print_arrival(screen, arrival)
    if story.leftovers:
        if story.arrivals:
            screen.print()
        else:
            paragraph(screen, "Neither log nor archive holds the event any more. Attempts at it are still known:")
        for ending in story.leftovers:
            _print_ending(screen, ending)


def _print_arrival(screen: Console, arrival: Arrival) -> None:
    what = " ".join(plain(text) for text in (arrival.type, f'"{arrival.name}"' if arrival.name else "") if text)
    when = f"received {time_text(arrival.received_at_ms)} from source {plain(arrival.source)}"
    paragraph(screen, f"{what or 'An event'}, {when}", style="bold")
    for step in arrival.steps:
        _print_line(screen, step.stage, step.text, "" if step.passed else "red")
        for violation in step.violations:
            text = violation_text(violation.type, violation.field, violation.description)
            paragraph(screen, f"- {plain(text)}", indent=4)
        _print_changes(screen, step.changes)
        if step.mend:
            paragraph(screen, f"Mend: {step.mend}", indent=4)
    if arrival.status == "accepted" and not arrival.endings:
        if arrival.type == "object":
            paragraph(screen, "Objects are for warehouses; no other destination gets them.", indent=2)
        else:
            paragraph(screen, "No destination is connected to this source. Connect one in the workspace.", indent=2)
    for ending in arrival.endings:
        _print_ending(screen, ending)


def _print_changes(screen: Console, changes: Sequence[Difference]) -> None:
    for line in difference_lines(changes):
        paragraph(screen, f"- {plain(line)}", indent=4)


def _print_line(screen: Console, head: str, text: str, style: str) -> None:
    paragraph(screen, f"{plain(head)}: {plain(text)}", indent=2, style=style)


def _print_ending(screen: Console, ending: Ending) -> None:
    _print_line(screen, ending.destination, ending.text, _STYLES.get(ending.status, ""))
    if ending.mend:
        paragraph(screen, f"Mend: {plain(ending.mend)}", indent=4)
    if ending.changes:
        paragraph(screen, "Its filters and transformations change the event:", indent=4)
        _print_changes(screen, ending.changes)
    for note in ending.notes:
        paragraph(screen, plain(note), indent=4)
    if ending.command:
        screen.print(f"    To send it: {plain(ending.command)}", soft_wrap=True)
    for attempt in ending.attempts:
        said = " ".join(text for text in (attempt.outcome, attempt.reason, attempt.detail) if text)
        paragraph(screen, f"{time_text(attempt.at_ms)} attempt {attempt.number}: {plain(said)}", indent=4, style="dim")
    if ending.sample is not None and ending.sample.response:
        paragraph(screen, f"answer: {plain(ending.sample.response)}", indent=4, style="dim")


def _print_unknown(screen: Console, story: Story) -> None:
    looked = story.looked
    paragraph(screen, f"No event with the messageId {plain(story.message_id)} is known.", style="red")
    screen.print("Looked in:")
    for line in _looked_lines(looked):
        paragraph(screen, f"- {line}", indent=2)
    paragraph(
        screen,
        "Events with an unknown write key leave no trace but in trunkline unknown-keys. Neither does a request that "
        "was refused as a whole (400, 429, 503): its sender was told. Of an event that ingest rejected the first KB is "
        "kept; a messageId behind it is not found.",
    )


def _looked_lines(looked: Looked) -> list[str]:
    since = "which is empty" if looked.log_since_ms is None else f"back to {time_text(looked.log_since_ms)}"
    archive = f"the archive, {looked.archive}" if looked.archive else "no archive: there is none here"
    return [
        f"the log, {since} ({looked.log_bytes / 1e6:,.1f} MB)",
        archive,
        f"noted attempts, back for {ATTEMPTS_KEPT_D} days, and events waiting for a retry",
    ]


def register(app: typer.Typer) -> None:
    app.command()(why)
