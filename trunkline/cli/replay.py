"""``trunkline replay``: how it goes; pause, resume, cancel. Starting one: :mod:`trunkline.cli.replay_start`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec
import typer

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, table
from trunkline.cli.replay_progress import ENDED, ReplayProgress, read_progress
from trunkline.cli.replay_start import start
from trunkline.cli.saying import fail
from trunkline.cli.stores import open_state
from trunkline.cli.times import time_text
from trunkline.observe.wording import duration_text
from trunkline.replay.errors import ReplayError
from trunkline.replay.model import ReplaySpec, Wanted, read_spec, replay_ids, write_spec
from trunkline.runtime.layout import DataDir
from trunkline.state.base import State

MEASURE_S: Final = 1.0
"""How long a rate is measured."""

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `trunkline replay list` shows it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def list_replays(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List all replays, the oldest first.

    Exit status: 0 listed, 2 they cannot be read.
    """
    data = _data(data_dir)
    _show(data, replay_ids(data.replays), as_json, one=False)


def show(replay: IdArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show one replay: what it selected, how far it is.

    Exit status: 0 shown, 2 there is none, or it cannot be read.
    """
    data = _data(data_dir)
    _spec(data, replay)
    _show(data, [replay], as_json, one=True)


def pause(replay: IdArgument, data_dir: DataDirOption = None) -> None:
    """Send nothing more until `resume`. Requests under way end.

    Exit status: 0 done, 1 it has ended already, 2 there is none.
    """
    _want(_data(data_dir), replay, "pause", "is paused")


def resume(replay: IdArgument, data_dir: DataDirOption = None) -> None:
    """Let a paused replay go on.

    Exit status: 0 done, 1 it has ended already, 2 there is none.
    """
    _want(_data(data_dir), replay, "run", "goes on")


def cancel(replay: IdArgument, data_dir: DataDirOption = None) -> None:
    """End a replay for good. What was not sent is counted as failed, with the reason `replay_cancelled`.

    Exit status: 0 done, 1 it has ended already, 2 there is none.
    """
    _want(_data(data_dir), replay, "cancel", "is cancelled")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Send archived events to a destination once more.", no_args_is_help=True)
    group.command("start")(start)
    group.command("list")(list_replays)
    for command in (show, pause, resume, cancel):
        group.command()(command)
    app.add_typer(group, name="replay")


# -- the steps ---------------------------------------------------------------------------------------------------


def _data(data_dir: DataDirOption) -> DataDir:
    return DataDir(settings_for(data_dir=data_dir).data_dir)


def _spec(data: DataDir, replay_id: str) -> ReplaySpec:
    known = replay_ids(data.replays)
    if replay_id not in known:
        fail(f"{data.replays} holds no replay {replay_id!r}. See `trunkline replay list` for those that there are.")
    try:
        return read_spec(data.replays, replay_id)
    except ReplayError as error:
        fail(str(error))


def _state(data: DataDir) -> State:
    if not data.state.exists():
        return State.empty()
    with open_state(data) as store:
        return store.read()


def _want(data: DataDir, replay_id: str, wanted: Wanted, says: str) -> None:
    spec = _spec(data, replay_id)
    status = _progress(data, [spec])[0].status
    if status in ENDED or spec.wanted == "cancel":
        fail(f"replay {replay_id} is {status}. Start another with `trunkline replay start`.", 1)
    try:
        write_spec(data.replays, msgspec.structs.replace(spec, wanted=wanted))
    except OSError as error:
        fail(f"{data.replays}: {error.strerror}. Run this as the user that `trunkline serve` runs as.")
    print(f"Replay {replay_id} {says}. A running server follows within a second or two.")


def _progress(data: DataDir, specs: Sequence[ReplaySpec]) -> list[ReplayProgress]:
    state = _state(data)
    try:
        return [read_progress(state, data.replays, spec) for spec in specs]
    except ReplayError as error:
        fail(str(error))


def _show(data: DataDir, ids: Sequence[str], as_json: bool, *, one: bool) -> None:
    specs = [_spec(data, replay_id) for replay_id in ids]
    progress = _measured(lambda: _progress(data, specs))
    if as_json:
        reports = [line.as_json() for line in progress]
        print(json.dumps(reports[0] if one else reports, indent=2))
    elif one:
        _print_one(progress[0])
    else:
        _print_all(progress)


def _measured(read: Callable[[], list[ReplayProgress]]) -> list[ReplayProgress]:
    """With the rates of a second, if anything runs."""
    before = read()
    if not any(line.status == "running" for line in before):
        return before
    time.sleep(MEASURE_S)
    after = read()
    for old, new in zip(before, after, strict=True):
        if new.status == "running":
            new.events_per_s = max(0, old.books.pending - new.books.pending) / MEASURE_S
    return after


def _print_all(progress: Sequence[ReplayProgress]) -> None:
    screen = console()
    if not progress:
        screen.print("There are no replays. Start one with: trunkline replay start --to DESTINATION --since 24h")
        return
    made = table(
        "replay", "to", "status", "selected", "delivered", "failed", "filtered", "pending", numbers=range(3, 8)
    )
    for line in progress:
        books = line.books
        counts = (books.selected, books.delivered, books.failed, books.filtered_at_destination, books.pending)
        made.add_row(line.spec.id, line.spec.destination, line.status, *(f"{count:,}" for count in counts))
    screen.print(made)


def _print_one(line: ReplayProgress) -> None:
    spec, books = line.spec, line.books
    screen = console()
    screen.print(f"{spec.id}: {line.status}, to {spec.destination}")
    made = table("", "")
    made.add_row("started", time_text(spec.created_at_ms))
    made.add_row("sources", ", ".join(spec.sources))
    if spec.ranges:
        made.add_row("events", "what the destination missed")
    if spec.since_ms is not None:
        made.add_row("received since", time_text(spec.since_ms))
    if spec.until_ms is not None:
        made.add_row("received until", time_text(spec.until_ms))
    if spec.types:
        made.add_row("types", ", ".join(spec.types))
    if spec.names:
        made.add_row("names", ", ".join(spec.names))
    if spec.events_per_s is not None:
        made.add_row("at most", f"{spec.events_per_s:g} events a second")
    for name, count in (
        ("selected", books.selected),
        ("delivered", books.delivered),
        ("failed", books.failed),
        ("filtered", books.filtered_at_destination),
        ("pending", books.pending),
    ):
        made.add_row(name, f"{count:,}")
    if line.events_per_s is not None:
        made.add_row("now", f"{line.events_per_s:,.0f} events a second")
    if line.seconds_left is not None:
        made.add_row("left", duration_text(line.seconds_left * 1000))
    screen.print(made)
    for problem in line.problems:
        screen.print(problem, style="red")
