"""``trunkline unknown-keys``: who sends with write keys that no source has?"""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.ingest.unknown_keys import read_unknown_keys
from trunkline.runtime.layout import DataDir


def unknown_keys(
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show the last requests whose write key is unknown or belongs to a source that is off, newest first.

    The Tracking API answers them with 200, as Segment does, so their senders notice nothing.

    Exit status: 0 shown, 2 nothing was ever served from this directory.
    """
    data = DataDir(settings_for(data_dir=data_dir).data_dir)
    if not data.run.is_dir():
        hint = "Name the directory that `trunkline serve` uses with --data-dir."
        print(f"trunkline: nothing was ever served from {data.root}. {hint}", file=sys.stderr)
        raise typer.Exit(2)
    entries = sorted(read_unknown_keys(data.run), key=lambda entry: -entry.last_ms)
    if as_json:
        print(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return
    if not entries:
        print("No request with an unknown write key has been seen.")
        return
    table = Table("last seen", "key ends in", "address", "SDK", "why", "requests", box=None)
    for entry in entries:
        seen = datetime.fromtimestamp(entry.last_ms / 1000, UTC).isoformat(timespec="seconds")
        table.add_row(seen, entry.key_end or "(none)", entry.address, entry.sdk, entry.reason, f"{entry.count:,}")
    Console().print(table)


def register(app: typer.Typer) -> None:
    app.command("unknown-keys")(unknown_keys)
