"""``trunkline lanes``: what the lanes do now."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, plain, table
from trunkline.cli.times import time_text
from trunkline.clock import SystemClock
from trunkline.observe.lanes import LANES_FILE, LanesError, LanesStatus, decode_lanes, notes_of
from trunkline.runtime.layout import DataDir


def lanes(
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show each destination's lane: whether it keeps up, its circuit, its concurrency, what it works on.

    The worker writes this every 2 seconds.

    Exit status: 0 shown, 1 the worker does not run, 2 no worker was ever started here.
    """
    data = DataDir(settings_for(data_dir=data_dir).data_dir)
    path = data.run / LANES_FILE
    try:
        status = decode_lanes(path.read_bytes())
    except (OSError, LanesError) as error:
        reason = str(error) if isinstance(error, LanesError) else "there is no such file: start `trunkline serve`"
        print(f"trunkline: {path}: {reason}", file=sys.stderr)
        raise typer.Exit(2) from error
    stale = status.is_stale(SystemClock().now_ms())
    if as_json:
        print(json.dumps(msgspec.to_builtins(status) | {"stale": stale}, indent=2))
    else:
        print_lanes(console(), status, stale=stale)
    raise typer.Exit(1 if stale else 0)


def print_lanes(screen: Console, status: LanesStatus, *, stale: bool) -> None:
    """For people, 80 columns wide."""
    if stale:
        paragraph(
            screen,
            f"The worker does not run: this is of {time_text(status.at_ms)}. Events are kept in the log, and sent when "
            "`trunkline serve` runs again.",
            style="red",
        )
    if not status.lanes:
        screen.print("No lane: no destination is enabled. `trunkline check FILE` says which destinations are off.")
        return
    made = table(
        "destination", "status", "circuit", "queued", "in\nflight", "retrying", "con-\ncurrency", numbers=(3, 4, 5, 6)
    )
    for lane in status.lanes:
        made.add_row(
            plain(lane.destination),
            lane.status,
            lane.circuit,
            f"{lane.queued:,}",
            f"{lane.in_flight:,}",
            f"{lane.retrying:,}",
            f"{lane.concurrency}/{lane.concurrency_max}",
        )
    screen.print(made)
    for lane in status.lanes:
        for note in notes_of(lane):
            paragraph(screen, plain(f"{lane.destination}: {note}"))


def register(app: typer.Typer) -> None:
    app.command()(lanes)
