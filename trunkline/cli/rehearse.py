"""``trunkline rehearse``: what another workspace would have made of recorded traffic."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.cli.printing import console, paragraph
from trunkline.cli.rehearsal_view import print_findings
from trunkline.cli.rehearsing import DEFAULT_SINCE, LIMIT_HELP, CannotRehearse, Outcome, make_world, run_rehearsal
from trunkline.cli.saying import fail
from trunkline.cli.stores import active_snapshot
from trunkline.cli.times import TIME_HELP, parse_time
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.rehearsal.findings import DEFAULT_SAMPLES
from trunkline.rehearsal.report import report
from trunkline.rehearsal.run import Rehearsal, sources_to_read
from trunkline.rehearsal.traffic import Wanted
from trunkline.secrets import KEY_BYTES, Secrets
from trunkline.workspace.loader import load
from trunkline.workspace.model import Snapshot

INTERRUPTED: Final = 3


def rehearse(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The new workspace's YAML file.")],
    data_dir: DataDirOption = None,
    since: Annotated[str, typer.Option(help=f"Events received since. {TIME_HELP}")] = DEFAULT_SINCE,
    source: Annotated[list[str] | None, typer.Option(help="Only events of this source; may be repeated.")] = None,
    destination: Annotated[list[str] | None, typer.Option(help="Only this destination; may be repeated.")] = None,
    samples: Annotated[int, typer.Option(help="Samples of each change.", min=0, max=1000)] = DEFAULT_SAMPLES,
    limit: Annotated[int | None, typer.Option(metavar="EVENTS", help=LIMIT_HELP, min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Run recorded events through today's workspace and a new one, and show what would change: events blocked, dropped
    or let through, other contents, connections, time.

    Nothing is sent and nothing is written. Works beside a running server, and without one. Ctrl-C ends it early with
    what was found so far.

    Exit status: 0 rehearsed, 1 the file has problems, 2 it cannot be rehearsed, 3 interrupted.
    """
    clock = SystemClock()
    since_ms = parse_time(since, clock)
    settings = settings_for(data_dir=data_dir)
    new = _load(config, as_json=as_json)
    try:
        today = active_snapshot(settings, clock)
        if today is None:
            raise CannotRehearse(
                f"{settings.data_dir} holds no workspace. Name the directory that `trunkline serve` uses with "
                "--data-dir."
            )
        _check_known("source", source or (), [*today.sources, *new.sources])
        _check_known("destination", destination or (), [*today.destinations, *new.destinations])
        only = frozenset(destination) if destination else None
        rehearsal = Rehearsal(make_world(today, only), make_world(new, only), clock, samples)
        sources = sources_to_read((today, new), source or (), destination or ())
        outcome = run_rehearsal(settings, clock, rehearsal, Wanted(since_ms, sources, limit))
    except CannotRehearse as error:
        fail(str(error))
    if as_json:
        print(json.dumps(report_of(outcome), indent=2))
    else:
        screen = console()
        paragraph(screen, f"The workspace in force against {config}:")
        print_findings(screen, outcome)
    raise typer.Exit(INTERRUPTED if outcome.interrupted else 2 if outcome.broken else 0)


def report_of(outcome: Outcome) -> dict[str, object]:
    """The shape that ``--json`` prints."""
    return report(outcome.rehearsal, outcome.coverage, complete=outcome.complete, notes=outcome.notes)


def _load(path: Path, *, as_json: bool) -> Snapshot:
    """As `trunkline check`, but without a word where all is well."""
    # The version of a snapshot depends on the data directory's key; nobody looks at it here.
    loaded = load(path, NATIVE_DESTINATIONS, Secrets(secrets.token_bytes(KEY_BYTES)))
    if loaded.snapshot is not None:
        return loaded.snapshot
    if as_json:
        problems = {"good": False, "problems": loaded.problems, "notes": loaded.notes}
        typer.echo(msgspec.json.format(msgspec.json.encode(problems)).decode())
    else:
        for problem in loaded.problems:
            typer.echo(str(problem))
        for note in loaded.notes:
            typer.echo(f"note: {note}")
        typer.echo(f"{path}: problems: {len(loaded.problems)}.")
    raise typer.Exit(1)


def _check_known(what: str, slugs: Sequence[str], known: Sequence[str]) -> None:
    for slug in slugs:
        if slug not in known:
            names = ", ".join(sorted(set(known))) or "none"
            raise CannotRehearse(f"neither workspace has a {what} {slug!r}. There are: {names}.")


def register(app: typer.Typer) -> None:
    app.command()(rehearse)
