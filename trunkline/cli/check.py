"""``trunkline check``: is this workspace file good, and if not, what is to be mended where."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.secrets import KEY_BYTES, Secrets
from trunkline.workspace.loader import load


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check)


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The workspace's YAML file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """Check a workspace file: every problem with its line and how to mend it.

    References to the environment and to files are resolved, so run it where Trunkline would run.

    Exit status: 0 the file is good (there may be notes), 1 it has problems.
    """
    # The version of a snapshot depends on the data directory's key; here it is thrown away with the key.
    loaded = load(file, NATIVE_DESTINATIONS, Secrets(secrets.token_bytes(KEY_BYTES)))
    good = loaded.snapshot is not None
    if as_json:
        report = {"good": good, "problems": loaded.problems, "notes": loaded.notes}
        typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        for problem in loaded.problems:
            typer.echo(str(problem))
        for note in loaded.notes:
            typer.echo(f"note: {note}")
        if loaded.snapshot is not None:
            enabled = sum(item.enabled for item in loaded.snapshot.destinations.values())
            typer.echo(
                f"{file}: good. Sources: {len(loaded.snapshot.sources)}. "
                f"Destinations: {len(loaded.snapshot.destinations)}, {enabled} enabled."
            )
        else:
            typer.echo(f"{file}: problems: {len(loaded.problems)}.")
    raise typer.Exit(0 if good else 1)
