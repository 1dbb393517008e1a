"""``trunkline lanes``: what the lanes do now."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, duration_text, paragraph, plain, table
from trunkline.cli.times import time_text
from trunkline.clock import SystemClock
from trunkline.observe.lanes import LANES_FILE, LanesError, LanesStatus, LaneStatus, decode_lanes
from trunkline.runtime.layout import DataDir
from trunkline.spec.delivery_codes import text_of


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
            paragraph(screen, f"{plain(lane.destination)}: {note}")


def notes_of(lane: LaneStatus) -> list[str]:
    """What is out of the ordinary, a sentence each."""
    notes = []
    if lane.status == "held":
        notes.append(f"Begins no attempt: {held_text(lane.held_by)}.")
    elif lane.status == "behind":
        notes.append("Has fallen behind the newest events and reads the log by itself.")
    if lane.circuit != "closed":
        why = f", last with {plain(lane.last_reason)} {text_of(lane.last_reason).title}" if lane.last_reason else ""
        notes.append(
            f"The circuit is {lane.circuit} since {duration_text(lane.open_for_s * 1000)}: nearly all attempts "
            f"failed{why}. One attempt probes it now and then; events wait."
        )
    if lane.paused_for_s > 0:
        notes.append(f"The rate limit makes it wait for {duration_text(lane.paused_for_s * 1000)} more.")
    if lane.mode == "bulk":
        notes.append("Sends bulk batches.")
    elif lane.mode_reason:
        notes.append(f"Forms no bulk batches: {plain(lane.mode_reason)}.")
    return notes


def held_text(held_by: list[str]) -> str:
    """Why a lane is held, in words."""
    known = {
        "disabled": "it is disabled",
        "state": "the state cannot be committed, see the worker's log",
        "draining": "the worker is stopping",
        "deleted": "it was deleted",
    }
    return ", ".join(known.get(reason, plain(reason)) for reason in held_by) or "the reason is not known"


def register(app: typer.Typer) -> None:
    app.command()(lanes)
