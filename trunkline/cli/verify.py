"""``trunkline verify``: do the books balance?"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.clock import SystemClock
from trunkline.log.base import LogError
from trunkline.log.embedded import EmbeddedLog
from trunkline.log.records import RecordError
from trunkline.observe.books import Books, check_books
from trunkline.runtime.layout import DataDir
from trunkline.state.base import State
from trunkline.state.sqlite import SqliteStateStore

ATTEMPTS: Final = 3
_COLUMNS: Final = {
    "received": "received",
    "failed_on_ingest": "failed\non ingest",
    "filtered_at_source": "filtered\nat source",
    "filtered_at_destination": "filtered at\ndestination",
    "delivered": "delivered",
    "failed": "failed",
    "pending": "pending",
}
_REPLAY_COLUMNS: Final = {"selected": "selected"} | {
    name: _COLUMNS[name] for name in ("filtered_at_destination", "delivered", "failed", "pending")
}


def verify(
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check that every event ended in a counted outcome. Works beside a running server and after a crash.

    Exit status: 0 the books balance, 1 they do not, 2 they cannot be read.
    """
    data = DataDir(settings_for(data_dir=data_dir).data_dir)
    try:
        books = _check(data)
    except (LogError, RecordError) as error:
        if as_json:
            print(
                json.dumps(
                    {"balanced": False, "destinations": {}, "sources": {}, "replays": {}, "problems": [str(error)]}
                )
            )
        else:
            print(f"trunkline: the log cannot be read: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps(books.as_json(), indent=2))
    else:
        _print(books)
    raise typer.Exit(0 if books.balanced else 1)


def _check(data: DataDir) -> Books:
    """Anew when the log has been shortened between the two readings: what is lost for good stays lost."""
    log = EmbeddedLog(data.log, SystemClock())
    for _ in range(ATTEMPTS):
        books = check_books(_read_state(data), log, data.replays)
        if books.balanced or not books.overtaken:
            break
    return books


def _read_state(data: DataDir) -> State:
    """The state of the last commit, read before the log. Ingest may have run before any worker: then there is none."""
    if data.log.exists() and not data.state.exists():
        return State.empty()
    store = SqliteStateStore(data.state, read_only=True)
    try:
        return store.read()
    finally:
        store.close()


def _print(books: Books) -> None:
    console = Console()
    table = Table("destination", *_COLUMNS.values(), box=None, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for slug, line in books.destinations.items():
        table.add_row(slug, *(f"{getattr(line, column):,}" for column in _COLUMNS))
    if books.destinations:
        console.print(table)
    else:
        console.print("No destination has been enabled yet, so there is nothing to balance.")
    if books.replays:
        table = Table("replay", *_REPLAY_COLUMNS.values(), box=None, padding=(0, 1, 0, 0))
        for column in table.columns[1:]:
            column.justify = "right"
        for replay_id, replay in books.replays.items():
            table.add_row(replay_id, *(f"{getattr(replay, column):,}" for column in _REPLAY_COLUMNS))
        console.print(table)
    for problem in books.problems:
        console.print(f"[red]{problem}[/red]")
    console.print("The books balance." if books.balanced else "[red]The books do not balance.[/red]")


def register(app: typer.Typer) -> None:
    app.command()(verify)
