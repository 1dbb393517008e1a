"""Options that several subcommands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.settings import Settings, load_settings

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Directory that holds everything Trunkline keeps. Default: data.", show_default=False
    ),
]


def settings_for(**flags: Any) -> Settings:
    """Settings with these command-line flags; None means that the flag was not given. Raises SettingsError."""
    return load_settings(os.environ, {name: value for name, value in flags.items() if value is not None})
