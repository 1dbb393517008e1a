"""``trunkline``: puts the subcommands together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import typer

from trunkline import __version__
from trunkline.secrets import SecretsError
from trunkline.settings import SettingsError
from trunkline.state.base import StateError
from trunkline.workspace.errors import WorkspaceError

COMMANDS: Final = (
    "serve",
    "demo",
    "send",
    "check",
    "verify",
    "why",
    "deliveries",
    "gaps",
    "lanes",
    "plans",
    "rehearse",
    "filters",
    "schema",
    "violations",
    "blocked",
    "replay",
    "export",
    "egress",
    "unknown-keys",
    "cdn",
)
"""In the order in which the help lists them; each is a module of this package."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trunkline {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Options of every subcommand."""


def program(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """The program with these commands. Others are not even imported: some need a second for that."""
    app = typer.Typer(
        name="trunkline",
        help="A self-hosted customer data platform that Segment's own SDKs run against unchanged.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name in names:
        import_module(f"trunkline.cli.{name.replace('-', '_')}").register(app)
    return app


def main() -> None:
    """The console script. Errors that an operator can mend are one line on standard error, exit status 2."""
    wanted = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if wanted is None and "--version" in sys.argv:
        wanted = "lanes"  # any that is imported quickly
    try:
        program([wanted] if wanted in COMMANDS else COMMANDS)()
    except (SettingsError, SecretsError, StateError, WorkspaceError) as error:
        print(f"trunkline: {error}", file=sys.stderr)
        sys.exit(2)
