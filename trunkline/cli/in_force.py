"""The workspace that is in force, for commands that are of no use without one."""

from __future__ import annotations

from pathlib import Path

import typer

from trunkline.cli.options import settings_for
from trunkline.cli.stores import active_snapshot
from trunkline.clock import SystemClock
from trunkline.secrets import SecretsError
from trunkline.settings import SettingsError
from trunkline.workspace.errors import WorkspaceError
from trunkline.workspace.model import Snapshot


def workspace_in_force(data_dir: Path | None) -> Snapshot:
    """Ends the command with status 2, and the reason, if there is none."""
    try:
        settings = settings_for(data_dir=data_dir)
        snapshot = active_snapshot(settings, SystemClock())
    except (SettingsError, SecretsError, WorkspaceError) as error:
        typer.echo(f"trunkline: {error}", err=True)
        raise typer.Exit(2) from None
    if snapshot is None:
        hint = "Name the directory that `trunkline serve` uses with --data-dir."
        typer.echo(f"trunkline: {settings.data_dir} holds no workspace. {hint}", err=True)
        raise typer.Exit(2)
    return snapshot
