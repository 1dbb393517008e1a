"""``trunkline gaps``: when fewer events were delivered than were due, and what closes each gap."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer
from rich.console import Console

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph, plain
from trunkline.cli.stores import open_state, read_replays, read_workspace
from trunkline.cli.times import TIME_HELP, minute_text, parse_time, time_text
from trunkline.clock import SystemClock
from trunkline.observe.gaps import Gap, find_gaps
from trunkline.observe.wording import count_text
from trunkline.runtime.layout import DataDir
from trunkline.spec.delivery_codes import text_of
from trunkline.state.base import RECORD_KEPT_D

DEFAULT_SINCE: Final = "7d"
_REASONS_SHOWN: Final = 5


def gaps(
    data_dir: DataDirOption = None,
    destination: Annotated[str | None, typer.Option(help="Only this destination.")] = None,
    since: Annotated[
        str, typer.Option(help=f"Events received, or connections closed, since. {TIME_HELP}")
    ] = DEFAULT_SINCE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the windows in which events failed or a destination was disabled, each with the replay that closes it.

    Failed events are kept for 31 days. A replay sends the whole window again: what was delivered in it arrives twice.

    Exit status: 0 listed, 2 there is no record to read.
    """
    clock = SystemClock()
    settings = settings_for(data_dir=data_dir)
    data = DataDir(settings.data_dir)
    with open_state(data) as store:
        found = find_gaps(
            store,
            parse_time(since, clock),
            destination=destination,
            replays=read_replays(data.root / "replays"),
            snapshot=read_workspace(settings, clock),
            data_dir=str(data_dir) if data_dir is not None else "",
        )
    if as_json:
        print(json.dumps([gap.as_json() for gap in found], indent=2))
    else:
        print_gaps(console(), found)


def print_gaps(screen: Console, found: list[Gap]) -> None:
    """For people, 80 columns wide; only the commands may be longer, so that they can be copied."""
    if not found:
        screen.print("No gap: in this time every event that was due was delivered or is still pending.")
        paragraph(
            screen,
            f"Look further back with --since, {RECORD_KEPT_D}d at most. What is pending: trunkline verify, trunkline "
            "lanes.",
        )
        return
    destination = ""
    for gap in found:
        if gap.destination != destination:
            destination = gap.destination
            screen.print(plain(destination), style="bold")
        _print_gap(screen, gap)
    still_open = sum(not gap.replayed_by for gap in found)
    screen.print()
    screen.print(f"{count_text(len(found), 'gap')}, {still_open} of them not replayed.")


def _print_gap(screen: Console, gap: Gap) -> None:
    if gap.kind == "failed":
        until = minute_text(gap.until_ms or gap.since_ms)
        when = f"received {minute_text(gap.since_ms)} to {until}"
        what = f"{count_text(gap.events, 'event')} failed"
        if gap.lane != gap.destination:
            what += f" in {gap.lane}"
    else:
        until = time_text(gap.until_ms) if gap.until_ms is not None else "now"
        when = f"closed {time_text(gap.since_ms)} to {until}"
        what = f"{count_text(gap.events, 'event')} missed: disabled or not connected"
    paragraph(screen, f"{when}, source {plain(gap.source)}", indent=2)
    paragraph(screen, what, indent=4)
    reasons = sorted(gap.reasons.items(), key=lambda item: -item[1])
    for reason, count in reasons[:_REASONS_SHOWN]:
        text = text_of(reason)
        title = text.title if text.title == reason else f"{reason} {text.title}"
        paragraph(screen, f"{count:,} {plain(title)}: {text.mend}", indent=6, style="dim")
    if len(reasons) > _REASONS_SHOWN:
        paragraph(
            screen, f"and {len(reasons) - _REASONS_SHOWN} reasons more: trunkline gaps --json", indent=6, style="dim"
        )
    if gap.replayed_by:
        paragraph(screen, f"replayed: {', '.join(gap.replayed_by)}", indent=4, style="green")
        return
    if gap.partly_by:
        paragraph(screen, f"replayed in part: {', '.join(gap.partly_by)}", indent=4)
    if gap.command:
        screen.print(f"    {gap.command}", soft_wrap=True)
    else:
        paragraph(screen, "Create the destination again to replay it: the workspace does not hold it.", indent=4)


def register(app: typer.Typer) -> None:
    app.command()(gaps)
