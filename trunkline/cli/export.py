"""``trunkline export``: the active workspace as YAML."""

from __future__ import annotations

from typing import Annotated

import typer

from trunkline.cli.options import DataDirOption, settings_for
from trunkline.clock import SystemClock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.secrets import Secrets, SecretsError
from trunkline.settings import SettingsError
from trunkline.workspace.errors import WorkspaceError
from trunkline.workspace.store import FILE_NAME, ConfigStore
from trunkline.workspace.yaml_out import to_yaml


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    data_dir: DataDirOption = None,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Write secrets out; the file can then be loaded anywhere.")
    ] = False,
) -> None:
    """Print the active workspace as a YAML file.

    Values that came from the environment or a file are written as the references they were, other secrets are
    masked; a masked value is refused when the file is loaded. Works beside a running server.

    Exit status: 0 printed, 2 there is none, or it cannot be read.
    """
    try:
        settings = settings_for(data_dir=data_dir)
        if not (settings.data_dir / FILE_NAME).exists():
            raise _Failed(
                f"{settings.data_dir} holds no workspace. Name the directory that `trunkline serve` uses "
                "with --data-dir."
            )
        secrets = Secrets.open(settings.data_dir, settings.master_key)
        with ConfigStore(settings.data_dir, secrets, SystemClock()) as store:
            snapshot = store.active()
        if snapshot is None:
            raise _Failed("No workspace was ever active here. Start `trunkline serve` once.")
    except (SettingsError, SecretsError, WorkspaceError, _Failed) as error:
        typer.echo(f"trunkline: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(to_yaml(snapshot, NATIVE_DESTINATIONS, show_secrets=show_secrets), nl=False)


class _Failed(Exception):
    """Nothing can be exported."""
